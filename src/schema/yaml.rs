//! YAML bodies become JSON first, as the API server does it: booleans and octal numbers of YAML 1.1, bounded aliases.

use super::scan::Scanner;
use crate::api::yaml::read;
use serde_json::Value;
use serde_saphyr::{DuplicateKeyPolicy, Error, from_slice_with_options};

/// The JSON of a YAML text, and what a strict reader finds wrong with the YAML.
pub(super) struct Converted {
    pub json: Vec<u8>,
    pub duplicates: Vec<String>,
}

/// YAML to a value of any shape.
pub fn parse(bytes: &[u8]) -> Result<Value, String> {
    convert(bytes).map(|(value, _)| value)
}

/// With the texts of a strict reader.
pub(super) fn parse_strict(bytes: &[u8]) -> Result<(Value, Vec<String>), String> {
    // JSON is YAML, and reads faster; what is wrong with it is told as YAML's readers do.
    match unique_json(bytes) {
        Some(value @ Value::Object(_)) => Ok((value, Vec::new())),
        _ => convert(bytes),
    }
}

/// JSON without a key that comes twice.
fn unique_json(bytes: &[u8]) -> Option<Value> {
    let mut scanner = Scanner::new(bytes);
    let mut unique = true;
    let token = scanner.token().ok()?;
    let value = scanner.value(token, &mut |_| unique = false).ok()?;
    scanner.end().ok()?;
    unique.then_some(value)
}

pub(super) fn to_json(bytes: &[u8]) -> Result<Converted, String> {
    let (value, duplicates) = convert(bytes)?;
    let json = serde_json::to_vec(&value).map_err(|error| format!("yaml: {error}"))?;
    Ok(Converted { json, duplicates })
}

fn convert(bytes: &[u8]) -> Result<(Value, Vec<String>), String> {
    let parsed = |duplicate_keys| {
        let mut value: Value = from_slice_with_options(bytes, read::reader(duplicate_keys))?;
        read::whole(&mut value);
        Ok(value)
    };
    match parsed(DuplicateKeyPolicy::Error) {
        Ok(value) => Ok((value, Vec::new())),
        Err(Error::DuplicateMappingKey { key, location }) => {
            let key = crate::api::field::go_quote(key.as_deref().unwrap_or_default());
            let text = format!("yaml: unmarshal errors:\n  line {}: key {key} already set in map", location.line());
            let value = parsed(DuplicateKeyPolicy::LastWins).map_err(|error| go_error(&error))?;
            Ok((value, vec![text]))
        }
        Err(error) => match first_document(bytes) {
            Some(first) => convert(first),
            None => Err(go_error(&error)),
        },
    }
}

/// Of several documents the first counts. None: there is one.
fn first_document(bytes: &[u8]) -> Option<&[u8]> {
    const NEXT: &[u8] = b"\n---";
    let ends = |at: usize| matches!(bytes.get(at + NEXT.len()), None | Some(b'\n' | b'\r' | b' '));
    let at = bytes.windows(NEXT.len()).enumerate().find(|(at, window)| *window == NEXT && ends(*at))?.0;
    let first = &bytes[..at];
    // What stands before the first marker may be no document.
    let says = |line: &[u8]| !line.trim_ascii().is_empty() && !line.starts_with(b"#") && !line.starts_with(b"---");
    first.split(|byte| *byte == b'\n').any(says).then_some(first)
}

/// An error in the words of Go's reader: it names a line behind the first.
fn go_error(error: &Error) -> String {
    let text = error.to_string();
    let (what, place) = text.rsplit_once(" at line ").unwrap_or((&text, ""));
    match place.split(',').next().and_then(|line| line.parse::<u32>().ok()) {
        Some(line) if line > 1 => format!("yaml: line {line}: {what}"),
        _ => format!("yaml: {what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn errors_name_a_line_and_the_first_document_counts() {
        let wrong = "mapping values are not allowed in this context";
        assert_eq!(parse(b"a: b: c"), Err(format!("yaml: {wrong}")));
        assert_eq!(parse(b"a:\n b: 1\n  c: 2\n"), Err(format!("yaml: line 3: {wrong}")));
        assert_eq!(parse(b"a: 1\n---\nb: 2\n"), Ok(json!({"a": 1})));
    }

    #[test]
    fn values_are_read_as_yaml_1_1() {
        let text = b"a: yes\nb: \"yes\"\nc: 0x10\nd: 1.5\ne: ~\nf: [1, two]\ng: 010\nh: |\n  x\n  y\n";
        let value = parse(text).expect("YAML");
        assert_eq!(value["a"], json!(true));
        assert_eq!(value["b"], json!("yes"));
        assert_eq!((&value["c"], &value["g"]), (&json!(16), &json!(8)));
        assert_eq!(value["d"], json!(1.5));
        assert_eq!(value["e"], json!(null));
        assert_eq!(value["f"], json!([1, "two"]));
        assert_eq!(value["h"], json!("x\ny\n"));
    }

    #[test]
    fn a_key_that_comes_again_is_told_and_the_last_counts() {
        let converted = to_json(b"a: 1\nb: 2\na: 3\n").expect("YAML");
        assert_eq!(converted.duplicates, ["yaml: unmarshal errors:\n  line 3: key \"a\" already set in map"]);
        assert_eq!(converted.json, br#"{"a":3,"b":2}"#);
    }

    #[test]
    fn json_is_read_as_strictly() {
        let (value, duplicates) = parse_strict(br#"{"a": {"b": 1, "c": [true, null, -1.5]}, "d": "x"}"#).expect("JSON");
        assert_eq!((value, duplicates.len()), (json!({"a": {"b": 1, "c": [true, null, -1.5]}, "d": "x"}), 0));
        let (value, duplicates) = parse_strict(br#"{"a": {"b": 1, "b": 2}}"#).expect("JSON");
        assert_eq!(value, json!({"a": {"b": 2}}));
        assert_eq!(duplicates, ["yaml: unmarshal errors:\n  line 1: key \"b\" already set in map"]);
    }

    #[test]
    fn aliases_are_bounded() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let below = vec![format!("*a{}", level - 1); 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{below}]\n"));
        }
        assert!(parse(text.as_bytes()).is_err());
    }
}
