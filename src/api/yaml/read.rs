//! Reading YAML as Go's `yaml.v2` and Kubernetes's tools do: `0644` is octal, a whole number is an integer however
//! it is written, and an error is one line.

use serde::de::{Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{DuplicateKeyPolicy, Error, Options, UserMessageFormatter, options};
use std::collections::BTreeMap;
use std::fmt;

/// Beyond this a float does not tell neighbouring integers apart.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// One document of a known shape.
pub fn typed<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_saphyr::from_str_with_options(text, reader(DuplicateKeyPolicy::Error)).map_err(|error| told(&error))
}

/// Every document of a stream.
pub fn documents(text: &str) -> Result<Vec<Value>, String> {
    let read = serde_saphyr::from_multiple_with_options(text, reader(DuplicateKeyPolicy::Error));
    let mut documents: Vec<Value> = read.map_err(|error| told(&error))?;
    documents.iter_mut().for_each(whole);
    Ok(documents)
}

/// A map of scalars and lists of scalars, each as it is written: `0644` and `1e3` stay what they are.
pub fn literals(text: &str) -> Result<BTreeMap<String, Vec<String>>, String> {
    let read: Value = typed(text)?;
    let shape = match read {
        Value::Object(shape) => shape,
        Value::Null => return Ok(BTreeMap::new()),
        _ => return Err("it must be a map of flag names to values".to_owned()),
    };
    let is_scalar = |value: &Value| !value.is_array() && !value.is_object();
    let fits = |value: &Value| is_scalar(value) || value.as_array().is_some_and(|items| items.iter().all(is_scalar));
    if let Some((key, _)) = shape.iter().find(|(_, value)| !fits(value)) {
        return Err(format!("{key}: give a text, number, bool or list"));
    }
    serde_saphyr::with_deserializer_from_str_with_options(text, reader(DuplicateKeyPolicy::Error), |deserializer| {
        deserializer.deserialize_map(Literals(&shape))
    })
    .map_err(|error| told(&error))
}

/// Knows which keys have lists: a reader that is not told what to expect makes numbers.
struct Literals<'a>(&'a Map<String, Value>);

impl<'de> Visitor<'de> for Literals<'_> {
    type Value = BTreeMap<String, Vec<String>>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut literals = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            let is_list = self.0.get(&key).is_some_and(Value::is_array);
            literals.insert(key, map.next_value_seed(Literal { is_list })?);
        }
        Ok(literals)
    }
}

struct Literal {
    is_list: bool,
}

impl<'de> DeserializeSeed<'de> for Literal {
    type Value = Vec<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<String>, D::Error> {
        Ok(if self.is_list {
            Vec::<Option<String>>::deserialize(deserializer)?.into_iter().flatten().collect()
        } else {
            Option::<String>::deserialize(deserializer)?.into_iter().collect()
        })
    }
}

/// How every reader here reads.
pub fn reader(duplicate_keys: DuplicateKeyPolicy) -> Options {
    options! { duplicate_keys: duplicate_keys, legacy_octal_numbers: true, with_snippet: false }
}

/// For people: without the lines of the text around it.
pub fn told(error: &Error) -> String {
    match error {
        Error::DuplicateMappingKey { key: Some(key), location } => {
            format!("{key} is there twice, again at line {}, column {}", location.line(), location.column())
        }
        error => error.render_with_formatter(&UserMessageFormatter),
    }
}

/// `1e3` and `5.0` are integers in the JSON that Go makes of YAML.
pub fn whole(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            let float = number.as_f64().unwrap_or_default();
            if float.fract() == 0.0 && float.abs() <= EXACT {
                *number = Number::from(float as i64);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(whole),
        Value::Object(fields) => fields.values_mut().for_each(whole),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_those_of_go() {
        for (text, value) in [
            ("0644", json!(420)),
            ("-010", json!(-8)),
            ("+010", json!(8)),
            ("08", json!(8)),
            ("00", json!(0)),
            ("0o17", json!(15)),
            ("0x1F", json!(31)),
            ("1_000", json!(1000)),
            ("1e3", json!(1000)),
            ("5.", json!(5)),
            ("1.0", json!(1)),
            ("1.5", json!(1.5)),
            ("'010'", json!("010")),
            ("1.2.3", json!("1.2.3")),
            ("12:30", json!("12:30")),
            ("2001-01-01", json!("2001-01-01")),
            ("yes", json!(true)),
            ("", json!(null)),
        ] {
            let read = documents(&format!("a: [{{b: {text}}}]\n")).expect(text);
            assert_eq!(read, [json!({ "a": [{ "b": value }] })], "{text}");
        }
    }

    #[test]
    fn literals_stay_as_they_are_written() {
        let text = "mode: 0644\ntoken: 00123\nlist: [1e3, 'a b', yes]\nflag: true\nnone:\nquoted: \"0644\"\n";
        let read: Vec<(String, Vec<String>)> = literals(text).expect("a map").into_iter().collect();
        let expected: [(&str, &[&str]); 6] = [
            ("flag", &["true"]),
            ("list", &["1e3", "a b", "yes"]),
            ("mode", &["0644"]),
            ("none", &[]),
            ("quoted", &["0644"]),
            ("token", &["00123"]),
        ];
        let expected = expected.map(|(key, all)| (key.to_owned(), all.iter().map(|one| (*one).to_owned()).collect()));
        assert_eq!(read, expected);
        assert!(literals("# nothing\n").expect("nothing").is_empty());
        assert_eq!(literals("- a\n").expect_err("a list"), "it must be a map of flag names to values");
        for text in ["a: {b: c}\n", "a: [[b]]\n"] {
            assert_eq!(literals(text).expect_err(text), "a: give a text, number, bool or list");
        }
    }

    #[test]
    fn an_error_is_one_line_that_says_where() {
        for (text, parts) in [
            ("a: 1\nb: 2\na: 3\n", &["a is there twice", "line 3"][..]),
            ("a: [\n", &["line"]),
            ("a: 1\n\tb: 2\n", &["tab", "line"]),
        ] {
            let error = documents(text).expect_err(text);
            assert!(!error.contains('\n') && parts.iter().all(|part| error.contains(part)), "{text:?}: {error}");
            assert_eq!(typed::<Value>(text).expect_err(text), error);
        }
    }
}
