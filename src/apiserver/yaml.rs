//! Objects as YAML, in the style that Kubernetes prints: keys sorted, lists not indented, strings
//! plain where they cannot be misread.

use crate::api::field::go_quote;
use serde_json::Value;

pub fn print(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(fields) if !fields.is_empty() => mapping(value, 0, &mut out),
        Value::Array(items) if !items.is_empty() => sequence(value, 0, &mut out),
        value => {
            scalar(value, 0, &mut out);
            out.push('\n');
        }
    }
    out
}

fn indent(depth: usize, out: &mut String) {
    out.extend(std::iter::repeat_n("  ", depth));
}

fn mapping(value: &Value, depth: usize, out: &mut String) {
    for (index, (key, value)) in value.as_object().into_iter().flatten().enumerate() {
        // The first key of an item of a list stands behind its dash.
        if index > 0 || out.is_empty() || out.ends_with('\n') {
            indent(depth, out);
        }
        out.push_str(&text(key));
        out.push(':');
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                out.push('\n');
                mapping(value, depth + 1, out);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                sequence(value, depth, out);
            }
            value => {
                out.push(' ');
                scalar(value, depth + 1, out);
                out.push('\n');
            }
        }
    }
}

fn sequence(value: &Value, depth: usize, out: &mut String) {
    for value in value.as_array().into_iter().flatten() {
        if out.is_empty() || out.ends_with('\n') {
            indent(depth, out);
        }
        out.push_str("- ");
        match value {
            Value::Object(fields) if !fields.is_empty() => mapping(value, depth + 1, out),
            Value::Array(items) if !items.is_empty() => sequence(value, depth + 1, out),
            value => {
                scalar(value, depth + 1, out);
                out.push('\n');
            }
        }
    }
}

fn scalar(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::String(string) if string.contains('\n') && is_printable(string) => literal(string, depth, out),
        Value::String(string) => out.push_str(&text(string)),
        Value::Object(_) => out.push_str("{}"),
        Value::Array(_) => out.push_str("[]"),
        value => out.push_str(&value.to_string()),
    }
}

/// A block of lines as they are.
fn literal(string: &str, depth: usize, out: &mut String) {
    out.push('|');
    if string.starts_with([' ', '\n']) {
        out.push('2');
    }
    if !string.ends_with('\n') {
        out.push('-');
    } else if string.ends_with("\n\n") || string == "\n" {
        out.push('+');
    }
    for line in string.strip_suffix('\n').unwrap_or(string).split('\n') {
        out.push('\n');
        if !line.is_empty() {
            indent(depth, out);
            out.push_str(line);
        }
    }
}

fn is_printable(string: &str) -> bool {
    string.chars().all(|c| c == '\n' || c == '\t' || !c.is_control())
}

/// A string on one line: plain, in single or in double quotes.
fn text(string: &str) -> String {
    if !is_printable(string) || string.contains('\n') || is_other(string) {
        return go_quote(string);
    }
    if is_plain(string) { string.to_owned() } else { format!("'{}'", string.replace('\'', "''")) }
}

/// Whether a reader would take it for something else than a string: YAML 1.1's words, numbers and
/// times.
fn is_other(string: &str) -> bool {
    const WORDS: &[&str] = &["", "~", "null", "y", "n", "yes", "no", "on", "off", "true", "false", "<<"];
    let lower = string.to_ascii_lowercase();
    if WORDS.contains(&lower.as_str()) {
        return true;
    }
    let unsigned = lower.strip_prefix(['+', '-']).unwrap_or(&lower);
    if matches!(unsigned, ".inf" | ".nan") {
        return true;
    }
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return false;
    }
    let digits = unsigned.replace('_', "");
    let radix = |prefix: &str, radix: u32| {
        digits.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_digit(radix)))
    };
    if radix("0x", 16) || radix("0b", 2) || radix("0o", 8) {
        return true;
    }
    let base60 = digits.contains(':')
        && digits.split(':').all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit() || c == '.'));
    let number = digits.parse::<f64>().is_ok() && digits.chars().all(|c| c.is_ascii_digit() || "+-.e".contains(c));
    base60 || number || is_time(&lower)
}

/// `2026-11-20`, `2026-11-20T21:55:47Z`
fn is_time(string: &str) -> bool {
    let bytes = string.as_bytes();
    let digits =
        |range: std::ops::Range<usize>| bytes.get(range).is_some_and(|part| part.iter().all(u8::is_ascii_digit));
    digits(0..4)
        && bytes.get(4) == Some(&b'-')
        && (string.parse::<jiff::civil::Date>().is_ok()
            || string.to_ascii_uppercase().parse::<jiff::Timestamp>().is_ok()
            || string.to_ascii_uppercase().parse::<jiff::civil::DateTime>().is_ok())
}

fn is_plain(string: &str) -> bool {
    let mut chars = string.chars();
    let Some(first) = chars.next() else { return false };
    let second = chars.next();
    if "#,[]{}&*!|>'\"%@` ".contains(first) {
        return false;
    }
    if "-?:".contains(first) && second.is_none_or(|c| c == ' ') {
        return false;
    }
    if string.starts_with("---") || string.starts_with("...") {
        return false;
    }
    !(string.ends_with([' ', ':']) || string.contains(": ") || string.contains(" #") || string.contains('\t'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    #[test]
    fn prints_as_kubernetes_does() {
        let value = json!({
            "kind": "ConfigMap", "empty": {}, "none": [], "null": null, "number": 3, "list": [["a"], {"b": 1, "c": [2]}],
            "metadata": {"creationTimestamp": "2026-11-20T21:55:39Z", "labels": {"app.kubernetes.io/name": "yes", "v": "1.5"}},
            "data": {"a": "x: y", "b": "- x", "c": "-x", "d": "it's", "e": "line\nline\n", "f": "no end\nhere", "g": "", "h": "a:b", "i": "10:30"}
        });
        expect![[r#"
            data:
              a: 'x: y'
              b: '- x'
              c: -x
              d: it's
              e: |
                line
                line
              f: |-
                no end
                here
              g: ""
              h: a:b
              i: "10:30"
            empty: {}
            kind: ConfigMap
            list:
            - - a
            - b: 1
              c:
              - 2
            metadata:
              creationTimestamp: "2026-11-20T21:55:39Z"
              labels:
                app.kubernetes.io/name: "yes"
                v: "1.5"
            none: []
            "null": null
            number: 3
        "#]]
        .assert_eq(&print(&value));
        let back: Value = serde_saphyr::from_str(&print(&value)).expect("YAML");
        assert_eq!(back, value);
    }
}
