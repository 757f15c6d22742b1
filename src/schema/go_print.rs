//! Values as Go's `%v` prints them, which Kubernetes's patch errors do.

use serde_json::Value;

/// As Go's `%#v` prints it: `[]interface {}{"a", 1}`
pub(crate) fn go_syntax(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::String(text) => crate::api::field::go_quote(text),
        Value::Array(list) => {
            format!("[]interface {{}}{{{}}}", list.iter().map(go_syntax).collect::<Vec<_>>().join(", "))
        }
        Value::Object(map) => {
            let fields: Vec<String> = map
                .iter()
                .map(|(key, value)| format!("{}:{}", crate::api::field::go_quote(key), go_syntax(value)))
                .collect();
            format!("map[string]interface {{}}{{{}}}", fields.join(", "))
        }
        Value::Number(number) => go_number(number),
        value => value.to_string(),
    }
}

/// `map[spec:map[replicas:x]]`
pub(crate) fn go_print(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) => format!("[{}]", list.iter().map(go_print).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let fields: Vec<String> = map.iter().map(|(key, value)| format!("{key}:{}", go_print(value))).collect();
            format!("map[{}]", fields.join(" "))
        }
        Value::Number(number) => go_number(number),
        value => value.to_string(),
    }
}

/// As short as it can be, with an exponent beyond a million.
fn go_number(number: &serde_json::Number) -> String {
    let Some(float) = number.as_f64().filter(|_| number.is_f64()) else { return number.to_string() };
    if float == 0.0 || (1e-4..1e6).contains(&float.abs()) {
        return float.to_string();
    }
    let text = format!("{float:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_have_an_exponent_where_go_gives_them_one() {
        let numbers = json!([1.0, 1.5, 100000.0, 1000000.0, 123456789.0, 0.00001, 12345678901234567890.0, 7000000]);
        assert_eq!(go_print(&numbers), "[1 1.5 100000 1e+06 1.23456789e+08 1e-05 1.2345678901234567e+19 7000000]");
    }
}
