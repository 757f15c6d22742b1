//! `--sort-by` of `kubectl get`: what values of a path are sorted by, and what cannot be sorted.

use super::failure::{Failure, Outcome};
use crate::api::Quantity;
use crate::api::field::go_quote;
use crate::api::jsonpath::Expression;
use serde_json::Value;

pub(super) struct Sort {
    path: Expression,
    /// In braces.
    text: String,
}

/// A total order: of values of one type it is kubectl's. Only texts can be of two sorts, quantities and others.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Absent,
    Integer(i64),
    /// See [`ordered`].
    Float(i64),
    Quantity(Quantity),
    Text(String),
}

impl Sort {
    pub(super) fn of(text: &str) -> Outcome<Self> {
        let path = Expression::parse_relaxed(text).map_err(Failure::local)?;
        let bare = text.trim().trim_start_matches('{').trim_end_matches('}').trim_start_matches('.');
        Ok(Self { path, text: format!("{{.{bare}}}") })
    }

    /// `holder`: as kubectl's message calls the type of what is sorted.
    pub(super) fn apply(&self, items: &mut [Value], object: fn(&Value) -> &Value, holder: &str) -> Outcome<()> {
        let value = |item: &Value| self.path.select(object(item)).into_iter().next();
        let values: Vec<Value> = items.iter().filter_map(value).collect();
        if values.is_empty() && !items.is_empty() {
            let path = go_quote(&self.text);
            return Err(Failure::local(format!("couldn't find any field with path {path} in the list of objects")));
        }
        if let Some(why) = unsortable(&values) {
            let path = &self.text;
            return Err(Failure::local(format!(
                "Field {path} in {holder} is an unsortable type: interface, err: {why}"
            )));
        }
        items.sort_by_cached_key(|item| key(value(item)));
        Ok(())
    }
}

/// Why two of the values cannot be compared, in kubectl's words, which are Go's.
fn unsortable(values: &[Value]) -> Option<String> {
    values.windows(2).find_map(|pair| {
        let (one, other) = (go_type(&pair[0]), go_type(&pair[1]));
        match other {
            "bool" | "map[string]interface {}" | "[]interface {}" => Some(format!("unsortable type: {other}")),
            _ => (one != other).then(|| "unsortable interface: interface".to_owned()),
        }
    })
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_i64() => "int64",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

fn key(value: Option<Value>) -> Key {
    match value {
        Some(Value::Number(number)) => match number.as_i64() {
            Some(integer) => Key::Integer(integer),
            None => Key::Float(ordered(number.as_f64().unwrap_or_default())),
        },
        Some(Value::String(text)) => match Quantity::parse(&text) {
            Ok(quantity) => Key::Quantity(quantity),
            Err(_) => Key::Text(text),
        },
        None => Key::Absent,
        // The only one that is there: another of its type would have been refused.
        Some(_) => Key::Text(String::new()),
    }
}

/// A number that is ordered as the float is.
fn ordered(float: f64) -> i64 {
    let bits = float.to_bits().cast_signed();
    if bits < 0 { bits ^ i64::MAX } else { bits }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sorted(values: impl IntoIterator<Item = Value>) -> Result<Vec<Value>, String> {
        let mut items: Vec<Value> =
            values.into_iter().map(|value| if value == "absent" { json!({}) } else { json!({ "a": value }) }).collect();
        let sort = Sort::of(".a").expect("a path");
        sort.apply(&mut items, |item| item, "*unstructured.Unstructured").map_err(|failure| failure.message())?;
        Ok(items.into_iter().map(|mut item| item.get_mut("a").map_or_else(|| json!("absent"), Value::take)).collect())
    }

    fn check(expected: Value) {
        let expected = expected.as_array().expect("a list").clone();
        assert_eq!(sorted(expected.iter().rev().cloned()), Ok(expected));
    }

    #[test]
    fn values_of_one_type_are_sorted_by_what_they_mean() {
        check(json!(["web-09a", "web-10", "web-9"]));
        check(json!(["2000k", "100Mi", "1Gi"]));
        check(json!(["2026-01-01T00:00:00Z", "2026-01-01T00:00:10Z", "2026-01-02T00:00:00Z"]));
        check(json!(["absent", -3, 9, 10]));
        check(json!([-1.5, -0.5, 0.25, 9.5, 1e300]));
        check(json!(["absent", true]));
    }

    /// Sorting by what is no order ends the program.
    #[test]
    fn quantities_among_other_texts_have_one_order() {
        let words = ["100Mi", "1a", "2000k", "web", "9", "10", "9x", "1Gi", "", "500m"];
        let values: Vec<Value> = (0..60)
            .map(|at| match at % 6 {
                0 => json!("absent"),
                _ => json!(words[at * 7 % words.len()]),
            })
            .collect();
        let expected = sorted(values.clone()).expect("an order");
        assert_eq!(expected[..10], vec![json!("absent"); 10]);
        for turn in 1..values.len() {
            let mut turned = values.clone();
            turned.rotate_left(turn);
            assert_eq!(sorted(turned).as_ref(), Ok(&expected));
        }
    }

    #[test]
    fn what_cannot_be_sorted_is_told() {
        let refused = |values: Value| sorted(values.as_array().expect("a list").clone()).expect_err("no order");
        let text = "Field {.a} in *unstructured.Unstructured is an unsortable type: interface, err: ";
        for (values, why) in [
            (json!([true, false]), "unsortable type: bool"),
            (json!([{}, "absent", {}]), "unsortable type: map[string]interface {}"),
            (json!([[], "absent", []]), "unsortable type: []interface {}"),
            (json!([1, "1"]), "unsortable interface: interface"),
            (json!([1, 1.5]), "unsortable interface: interface"),
        ] {
            assert_eq!(refused(values), format!("{text}{why}"));
        }
        let text = "couldn't find any field with path \"{.a}\" in the list of objects";
        assert_eq!(refused(json!(["absent", "absent"])), text);
        assert_eq!(sorted([]), Ok(Vec::new()));
    }
}
