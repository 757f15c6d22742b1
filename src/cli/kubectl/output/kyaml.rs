//! `-o kyaml`: YAML in JSON's brackets, with strings always quoted and keys where they must be.

use serde_json::Value;

pub fn print(value: &Value) -> String {
    let mut out = "---\n".to_owned();
    put(value, 0, &mut out);
    out.push('\n');
    out
}

fn indent(depth: usize, out: &mut String) {
    out.push_str(&"  ".repeat(depth));
}

fn put(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            out.push_str("{\n");
            for (key, value) in fields {
                indent(depth + 1, out);
                if needs_quotes(key) {
                    string(key, depth + 1, out)
                } else {
                    out.push_str(key)
                }
                out.push_str(": ");
                put(value, depth + 1, out);
                out.push_str(",\n");
            }
            indent(depth, out);
            out.push('}');
        }
        Value::Object(_) => out.push_str("{}"),
        Value::Array(items) if items.is_empty() => out.push_str("[]"),
        // Brackets of items that have brackets themselves stand together.
        Value::Array(items) if items.iter().all(|item| item.is_object() || item.is_array()) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { ", " });
                put(item, depth, out);
            }
            out.push(']');
        }
        Value::Array(items) => {
            out.push_str("[\n");
            for item in items {
                indent(depth + 1, out);
                put(item, depth + 1, out);
                out.push_str(",\n");
            }
            indent(depth, out);
            out.push(']');
        }
        Value::String(text) => string(text, depth, out),
        value => out.push_str(&value.to_string()),
    }
}

/// Of several lines, each stands on its own; what is blank at its begin is escaped.
fn string(text: &str, depth: usize, out: &mut String) {
    let several = text.contains('\n');
    out.push('"');
    if several {
        out.push_str("\\\n");
    }
    let mut fresh = several;
    for c in text.chars() {
        if fresh {
            // One more than the quote, and a blank that belongs to the text is told from those before it.
            indent(depth + 1, out);
            out.push_str(if c == ' ' || c == '\t' { "\\" } else { " " });
        }
        fresh = false;
        match c {
            '\n' => {
                out.push_str("\\n\\\n");
                fresh = true;
            }
            '\t' => out.push('\t'),
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '\u{1b}' => out.push_str("\\e"),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    if several {
        if !fresh {
            out.push_str("\\\n");
        }
        indent(depth + 1, out);
    }
    out.push('"');
}

/// A key that another reader may take for something else.
fn needs_quotes(key: &str) -> bool {
    const WORDS: &[&str] = &["null", "true", "y", "yes", "on", "false", "n", "no", "off", "t", "f"];
    let plain = |c: char| c.is_alphanumeric() || c == '_';
    let ends = key.starts_with(plain) && key.ends_with(plain);
    let number = key.starts_with(|c: char| c.is_ascii_digit());
    let special = matches!(key.trim_start_matches(['+', '-', '.']).to_lowercase().as_str(), "inf" | "nan" | "infinity");
    !ends
        || number
        || special
        || !key.chars().all(|c| plain(c) || matches!(c, '-' | '.' | '/'))
        || WORDS.contains(&key.to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    #[test]
    fn prints_brackets_and_quotes() {
        let object = json!({
            "a": [{ "b": 1 }, { "c": null }], "n": "x\ny", "empty": {}, "list": ["a", true], "k8s.io/x": "\"",
        });
        expect![[r#"
            ---
            {
              a: [{
                b: 1,
              }, {
                c: null,
              }],
              empty: {},
              k8s.io/x: "\"",
              list: [
                "a",
                true,
              ],
              "n": "\
                 x\n\
                 y\
                ",
            }
        "#]]
        .assert_eq(&print(&object));
    }
}
