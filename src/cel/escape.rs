//! Names of properties that are no names in CEL: `a-b` is `a__dash__b` in expressions.

/// Words that CEL keeps for itself; a property of such a name is escaped.
const KEYWORDS: &[&str] = &[
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
];

const SEQUENCES: &[(&str, &str)] =
    &[("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__")];

/// Kept for languages that embed CEL; nothing is escaped for them.
const RESERVED: &[&str] = &["var", "void", "while"];

/// Whether no variable can have this name.
pub fn is_reserved(name: &str) -> bool {
    KEYWORDS.contains(&name) || RESERVED.contains(&name)
}

/// The name in expressions. None: expressions cannot name it.
pub fn escape(name: &str) -> Option<String> {
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if KEYWORDS.contains(&name) {
        return Some(format!("__{name}__"));
    }
    let mut escaped = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        if let Some((plain, sequence)) = SEQUENCES.iter().find(|(plain, _)| rest.starts_with(plain)) {
            escaped.push_str(sequence);
            rest = &rest[plain.len()..];
        } else if first.is_ascii_alphanumeric() || first == '_' {
            escaped.push(first);
            rest = &rest[1..];
        } else {
            return None;
        }
    }
    Some(escaped)
}

/// The name of the property. None: no property is escaped so.
pub fn unescape(name: &str) -> Option<String> {
    let mut plain = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(start) = rest.find("__") {
        let inner = &rest[start + 2..];
        let end = inner.find("__").filter(|end| *end > 0 && !inner[..*end].contains('_'));
        let Some(end) = end else {
            plain.push_str(&rest[..start + 1]);
            rest = &rest[start + 1..];
            continue;
        };
        plain.push_str(&rest[..start]);
        let word = &inner[..end];
        let sequence = &rest[start..start + 4 + end];
        match SEQUENCES.iter().find(|(_, known)| *known == sequence) {
            Some((character, _)) => plain.push_str(character),
            None if KEYWORDS.contains(&word) && sequence.len() == name.len() => plain.push_str(word),
            None => return None,
        }
        rest = &inner[end + 2..];
    }
    plain.push_str(rest);
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::{escape, unescape};

    #[test]
    fn names_come_back() {
        for (plain, escaped) in [
            ("a", "a"),
            ("a-b", "a__dash__b"),
            ("a.b/c", "a__dot__b__slash__c"),
            ("a__b", "a__underscores__b"),
            ("namespace", "__namespace__"),
            ("_x", "_x"),
        ] {
            assert_eq!(escape(plain).as_deref(), Some(escaped), "{plain}");
            assert_eq!(unescape(escaped).as_deref(), Some(plain), "{escaped}");
        }
        assert_eq!(escape("1a"), None);
        assert_eq!(escape("a b"), None);
        assert_eq!(unescape("a__bad__b"), None);
    }
}
