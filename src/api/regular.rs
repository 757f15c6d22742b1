//! Regular expressions as Go has them, by the `regex` crate: both are RE2's family, and run in time
//! linear in the text.
//!
//! What differs is rewritten: `\d`, `\w`, `\s` and `\b` are about ASCII, `\Q…\E` is plain text, and in
//! a class `[`, `&&`, `--` and `~~` mean themselves.

use regex::{Regex, RegexBuilder};

/// The memory that one compiled expression may take.
const SIZE_LIMIT: usize = 1 << 20;
/// Characters of an expression.
const MAX_LENGTH: usize = 10_000;

/// What is wrong, in the crate's words and in Go's.
const REASONS: &[(&str, &str)] = &[
    ("unclosed group", "missing closing )"),
    ("unopened group", "unexpected )"),
    ("unclosed character class", "missing closing ]"),
    ("incomplete escape sequence, reached end of pattern prematurely", "trailing backslash at end of expression"),
];

/// Compile it. Err: Go's words for what is wrong, where they are known.
pub fn regular_expression(expression: &str) -> Result<Regex, String> {
    if expression.len() > MAX_LENGTH {
        return Err(format!("error parsing regexp: expression too large: {} bytes", expression.len()));
    }
    let mut builder = RegexBuilder::new(&translate(expression));
    builder.size_limit(SIZE_LIMIT).dfa_size_limit(SIZE_LIMIT).nest_limit(200);
    builder.build().map_err(|error| {
        let reason = match &error {
            regex::Error::CompiledTooBig(_) => "expression too large".to_owned(),
            error => {
                let text = error.to_string();
                let own = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
                if own == "repetition operator missing expression" {
                    let operator = at_caret(&text);
                    return format!("error parsing regexp: missing argument to repetition operator: `{operator}`");
                }
                let go = REASONS.iter().find(|(known, _)| *known == own).map(|(_, go)| *go);
                go.unwrap_or(own).to_owned()
            }
        };
        format!("error parsing regexp: {reason}: `{expression}`")
    })
}

/// The character that an error points at.
fn at_caret(error: &str) -> String {
    let lines: Vec<&str> = error.lines().collect();
    let caret = lines.iter().position(|line| line.trim() == "^").unwrap_or_default();
    let column = lines.get(caret).and_then(|line| line.find('^')).unwrap_or_default();
    let shown = caret.checked_sub(1).and_then(|line| lines.get(line)).copied().unwrap_or_default();
    shown.chars().nth(column).map(String::from).unwrap_or_default()
}

fn translate(expression: &str) -> String {
    let mut out = String::with_capacity(expression.len() + 16);
    let mut rest = expression;
    let mut class = false;
    while let Some(character) = rest.chars().next() {
        let tail = &rest[character.len_utf8()..];
        if character == '\\' {
            let Some(escaped) = tail.chars().next() else {
                out.push('\\');
                break;
            };
            rest = &tail[escaped.len_utf8()..];
            match escaped {
                'd' => out.push_str("[0-9]"),
                'D' => out.push_str("[^0-9]"),
                'w' => out.push_str("[0-9A-Za-z_]"),
                'W' => out.push_str("[^0-9A-Za-z_]"),
                's' => out.push_str("[\\t\\n\\f\\r ]"),
                'S' => out.push_str("[^\\t\\n\\f\\r ]"),
                'b' if !class => out.push_str("(?-u:\\b)"),
                'B' if !class => out.push_str("(?-u:\\B)"),
                'Q' if !class => {
                    let (literal, after) = rest.split_once("\\E").unwrap_or((rest, ""));
                    out.push_str(&regex::escape(literal));
                    rest = after;
                }
                other => {
                    out.push('\\');
                    out.push(other);
                }
            }
            continue;
        }
        rest = tail;
        if !class {
            out.push(character);
            if character == '[' {
                class = true;
                // A bracket that comes first is one of the class.
                if let Some(after) = rest.strip_prefix('^') {
                    out.push('^');
                    rest = after;
                }
                if let Some(after) = rest.strip_prefix(']') {
                    out.push_str("\\]");
                    rest = after;
                }
            }
            continue;
        }
        match character {
            ']' => {
                class = false;
                out.push(']');
            }
            '[' if rest.starts_with(':') => match rest.split_once(":]") {
                Some((name, after)) => {
                    out.push('[');
                    out.push_str(name);
                    out.push_str(":]");
                    rest = after;
                }
                None => out.push_str("\\["),
            },
            '[' => out.push_str("\\["),
            '&' | '~' if rest.starts_with(character) => {
                out.push('\\');
                out.push(character);
            }
            '-' if rest.starts_with('-') => out.push_str("\\-"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::regular_expression;

    #[test]
    fn expressions_mean_what_they_mean_in_go() {
        for (expression, text, matches) in [
            (r"^\d+$", "12", true),
            (r"^\d+$", "١٢", false),
            (r"^[\w.]+$", "a_b.c", true),
            (r"^[[]$", "[", true),
            (r"^[]a]+$", "]a", true),
            (r"^[a&&b]+$", "&", true),
            (r"^[[:alpha:]]+$", "abc", true),
            (r"^\Qa.b\E$", "a.b", true),
            (r"^\Qa.b\E$", "axb", false),
            (r"\bfoo\b", "a foo b", true),
        ] {
            assert_eq!(
                regular_expression(expression).expect(expression).is_match(text),
                matches,
                "{expression} {text}"
            );
        }
        for wrong in ["(", "a{1,2000}{1,2000}", "(?=a)", "\\1"] {
            assert!(regular_expression(wrong).is_err(), "{wrong}");
        }
    }
}
