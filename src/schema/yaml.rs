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
        Some(mut value @ Value::Object(_)) => {
            read::whole(&mut value);
            Ok((value, Vec::new()))
        }
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
    if let Some(error) = begins_with_tab(bytes).or_else(|| begins_with_end(bytes)) {
        return Err(error);
    }
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
            let value = parsed(DuplicateKeyPolicy::LastWins).map_err(|error| go_error(bytes, &error))?;
            Ok((value, vec![text]))
        }
        Err(error) => match first_document(bytes) {
            Some(first) => convert(first),
            None => Err(go_error(bytes, &error)),
        },
    }
}

/// Of several documents the first counts. None: there is one.
fn first_document(bytes: &[u8]) -> Option<&[u8]> {
    const MARK: usize = b"---".len();
    let marks = |at: &usize| {
        let line = &bytes[at + 1..];
        let ends = matches!(line.get(MARK), None | Some(b'\n' | b'\r' | b' '));
        ends && (line.starts_with(b"---") || line.starts_with(b"..."))
    };
    // What stands before the first marker may be no document.
    let says = |line: &[u8]| !line.trim_ascii().is_empty() && !line.starts_with(b"#");
    let ends = |at: &usize| bytes[..*at].split(|byte| *byte == b'\n').any(says);
    let lines = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
    lines.filter(marks).find(ends).map(|at| &bytes[..at])
}

/// The end of a document is none.
fn begins_with_end(bytes: &[u8]) -> Option<String> {
    let says = |line: &&[u8]| !line.trim_ascii().is_empty() && !line.starts_with(b"#");
    let first = bytes.split(|byte| *byte == b'\n').find(says)?;
    (first.trim_ascii_end() == b"...").then(|| "yaml: did not find expected node content".to_owned())
}

/// What Go's reader says where ours speaks otherwise: the beginning of our text, Go's, and how Go counts lines.
const WORDS: &[(&str, &str, Place)] = &[
    ("tabs disallowed within this context", "found character that cannot start any token", Place::Line),
    ("unclosed bracket '{'", "did not find expected ',' or '}'", Place::Before(At::End)),
    ("unclosed bracket '['", "did not find expected ',' or ']'", Place::Before(At::End)),
    ("invalid indentation in multiline quoted scalar", "found unexpected end of stream", Place::End),
    ("misplaced bracket", "did not find expected node content", Place::Before(At::Error)),
    (
        "unexpected EOF while parsing an implicit flow mapping",
        "did not find expected node content",
        Place::Before(At::Error),
    ),
    ("invalid trailing content after", "did not find expected key", Place::Before(At::Error)),
    ("unexpected character: `\\u{", "control characters are not allowed", Place::Nowhere),
    ("unexpected character: ", "found character that cannot start any token", Place::Line),
];

#[derive(Clone, Copy)]
enum Place {
    Nowhere,
    /// The line of the error.
    Line,
    /// The line behind the last.
    End,
    /// Parsers count from zero, scanners from one.
    Before(At),
}

#[derive(Clone, Copy)]
enum At {
    Error,
    End,
}

/// An error in the words of Go's reader: it names a line behind the first.
fn go_error(bytes: &[u8], error: &Error) -> String {
    let text = error.to_string();
    let (what, place) = text.rsplit_once(" at line ").unwrap_or((&text, ""));
    let line = place.split(',').next().and_then(|line| line.parse::<usize>().ok()).unwrap_or(1);
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
    let end = 1 + lines + usize::from(bytes.last().is_some_and(|byte| *byte != b'\n'));
    let told = |line: usize, least: usize, what: &str| match line >= least {
        true => format!("yaml: line {line}: {what}"),
        false => format!("yaml: {what}"),
    };
    if what == "alias references unknown anchor"
        && let Some(name) = unknown_anchor(bytes)
    {
        return format!("yaml: unknown anchor '{name}' referenced");
    }
    if what == "while scanning a plain scalar, found a tab" {
        let indented = |line: &[u8]| {
            let indent = line.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            line[..indent].contains(&b'\t') && indent < line.len()
        };
        let line = bytes.split(|byte| *byte == b'\n').position(indented).map_or(line, |index| index + 1);
        return told(line, 2, "found a tab character that violates indentation");
    }
    if what == "expected string scalar"
        && let Some(inner) = template(bytes)
    {
        let inner = crate::api::field::go_quote(inner);
        return format!("yaml: invalid map key: map[interface {{}}]interface {{}}{{{inner}:interface {{}}(nil)}}");
    }
    if let Some(number) = what.strip_prefix("non-finite float `").and_then(|what| what.split('`').next())
        && number.trim_start_matches(['+', '-']).starts_with('.')
    {
        let value = match (number.to_ascii_lowercase().contains("nan"), number.starts_with('-')) {
            (true, _) => "NaN",
            (false, true) => "-Inf",
            (false, false) => "+Inf",
        };
        return format!("json: unsupported value: {value}");
    }
    if what.starts_with("cannot deserialize null into string") {
        let words = match is_in_flow(bytes, line) {
            true => "did not find expected node content",
            false => "did not find expected key",
        };
        return told(line - 1, 1, words);
    }
    if let Some((_, words, place)) = WORDS.iter().find(|(ours, ..)| what.starts_with(ours)) {
        return match place {
            Place::Nowhere => format!("yaml: {words}"),
            Place::Line => told(line, 2, words),
            Place::End => told(end, 2, words),
            Place::Before(At::Error) => told(line - 1, 1, words),
            Place::Before(At::End) => told(end - 1, 1, words),
        };
    }
    match what.split_once(", ") {
        // A parser's context; a scanner's stands before what scanners say.
        Some((context, what)) if context.starts_with("while parsing a ") && !context.contains("quoted") => {
            told(line - 1, 1, what)
        }
        Some((context, what)) if context.starts_with("while ") => told(line, 2, what),
        _ => told(line, 2, what),
    }
}

/// Whether a map between braces stands on a line.
fn is_in_flow(bytes: &[u8], line: usize) -> bool {
    let line = bytes.split(|byte| *byte == b'\n').nth(line.saturating_sub(1));
    line.is_some_and(|line| line.contains(&b'{'))
}

/// The first alias of an anchor that no text has.
fn unknown_anchor(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let words = || text.split(|c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']' | '{' | '}'));
    let known: Vec<&str> = words().filter_map(|word| word.strip_prefix('&')).collect();
    words().filter_map(|word| word.strip_prefix('*')).find(|name| !name.is_empty() && !known.contains(name))
}

/// What stands in the first `{{ … }}`: a template that nobody filled in.
fn template(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    Some(text.split_once("{{")?.1.split_once("}}")?.0.trim())
}

/// A document does not begin with a tab.
fn begins_with_tab(bytes: &[u8]) -> Option<String> {
    let says = |line: &&[u8]| !line.trim_ascii().is_empty() && !line.trim_ascii_start().starts_with(b"#");
    let (index, first) = bytes.split(|byte| *byte == b'\n').enumerate().find(|(_, line)| says(line))?;
    let indent = first.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let place = if index > 0 { format!("line {}: ", index + 1) } else { String::new() };
    first[..indent].contains(&b'\t').then(|| format!("yaml: {place}found character that cannot start any token"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_document_counts() {
        for (text, value) in [
            ("a: b\n...\nc: d\n", json!({"a": "b"})),
            ("a: b\n...\n", json!({"a": "b"})),
            ("# c\n---\na: b\n---\nc: d\n", json!({"a": "b"})),
            ("---\na: b\n--- \nc: d\n", json!({"a": "b"})),
            ("---\n---\na: b\n", Value::Null),
            ("a: |\n  x\n  ...\n", json!({"a": "x\n...\n"})),
        ] {
            assert_eq!(parse(text.as_bytes()), Ok(value), "{text:?}");
        }
        for (text, told) in [("a: .inf", "+Inf"), ("a: -.INF", "-Inf"), ("a: .NaN", "NaN")] {
            assert_eq!(parse(text.as_bytes()), Err(format!("json: unsupported value: {told}")), "{text:?}");
        }
    }

    /// Wrong texts and what Go's reader says of them.
    #[test]
    fn errors_in_the_words_of_go() {
        let token = "found character that cannot start any token";
        for (text, told) in [
            ("a:\n\tb: 1\n", format!("line 2: {token}")),
            ("\ta: 1\n", token.to_owned()),
            ("a: @x\n", token.to_owned()),
            ("a: %x\n", token.to_owned()),
            ("a: 1\n\tb: 2\n", "line 2: found a tab character that violates indentation".to_owned()),
            ("{\"a\"", "line 1: did not find expected ',' or '}'".to_owned()),
            ("{\n\"a\"\n", "line 2: did not find expected ',' or '}'".to_owned()),
            ("a: [1,,2]\n", "did not find expected node content".to_owned()),
            ("a: 1\nb: {c: d,,e: f}\n", "line 1: did not find expected node content".to_owned()),
            ("a: 1\nb: {: c}\n", "line 1: did not find expected node content".to_owned()),
            ("a:\n  : b\n", "line 1: did not find expected key".to_owned()),
            ("...\n", "did not find expected node content".to_owned()),
            ("a:\n - [1\n", "line 2: did not find expected ',' or ']'".to_owned()),
            ("a: {b: 1\nc: 2\n", "line 1: did not find expected ',' or '}'".to_owned()),
            ("a: 1\nb: \"x\ny: 2\n", "line 4: found unexpected end of stream".to_owned()),
            ("a: b\nc: *d\n", "unknown anchor 'd' referenced".to_owned()),
            ("a: 1\n- b\n", "line 1: did not find expected key".to_owned()),
            ("- a\nb: c\n", "line 1: did not find expected '-' indicator".to_owned()),
            ("a: |x\n", "did not find expected comment or line break".to_owned()),
            ("a: &\n", "did not find expected alphabetic or numeric character".to_owned()),
            ("a: \"\\q\"\n", "found unknown escape character".to_owned()),
            ("a: ]\n", "did not find expected node content".to_owned()),
            ("a: \"b\" c\n", "did not find expected key".to_owned()),
            ("a: \x01\n", "control characters are not allowed".to_owned()),
            (
                "a: {{ .Values.x }}\n",
                "invalid map key: map[interface {}]interface {}{\".Values.x\":interface {}(nil)}".to_owned(),
            ),
        ] {
            assert_eq!(parse(text.as_bytes()), Err(format!("yaml: {told}")), "{text}");
        }
    }

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
