//! Label and field selectors: parsed with Kubernetes's own errors, matched without a parse of the
//! object.
//!
//! [`LabelSelector::parse`] is `labels.Parse`, [`FieldSelector::parse`] is `fields.ParseSelector`;
//! both match against a lookup function, so that index entries and parsed objects serve alike.

use super::field::{FieldError, Path};
use super::names;
use std::collections::BTreeSet;

/// What a label requirement asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    In,
    NotIn,
    Equals,
    DoubleEquals,
    NotEquals,
    GreaterThan,
    LessThan,
    Exists,
    DoesNotExist,
}

/// One term of a label selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    /// Sorted, without duplicates.
    pub values: Vec<String>,
}

/// All terms must hold; without terms everything matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    pub requirements: Vec<Requirement>,
}

impl LabelSelector {
    /// `app=web,tier in (a,b),!canary`; the error is the text that Kubernetes gives.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut requirements = Parser::new(text).parse()?;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements })
    }

    /// Of a `metav1.LabelSelector`. None: it is absent, and selects nothing; an empty one selects all.
    pub fn from_value(selector: &serde_json::Value) -> Option<Self> {
        let selector = selector.as_object()?;
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let mut requirements: Vec<Requirement> = selector
            .get("matchLabels")
            .and_then(serde_json::Value::as_object)
            .into_iter()
            .flatten()
            .map(|(key, value)| Requirement { key: key.clone(), operator: Operator::In, values: vec![text(value)] })
            .collect();
        let expressions = selector.get("matchExpressions").and_then(serde_json::Value::as_array);
        for expression in expressions.into_iter().flatten() {
            let operator = match expression["operator"].as_str()? {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                _ => return None,
            };
            let mut values: Vec<String> = expression["values"].as_array().into_iter().flatten().map(text).collect();
            values.sort_unstable();
            requirements.push(Requirement { key: text(&expression["key"]), operator, values });
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Some(Self { requirements })
    }

    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// `label` gives the value of a label key.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|requirement| requirement.matches(label(&requirement.key)))
    }

    /// Against labels sorted by key, as an index entry holds them.
    pub fn matches_sorted(&self, labels: &[(Box<str>, Box<str>)]) -> bool {
        self.requirements.is_empty() || self.matches(|key| lookup(labels, key))
    }
}

/// The value of a key in sorted pairs.
pub fn lookup<'a>(pairs: &'a [(Box<str>, Box<str>)], key: &str) -> Option<&'a str> {
    pairs.binary_search_by(|(candidate, _)| (**candidate).cmp(key)).ok().map(|at| &*pairs[at].1)
}

impl Requirement {
    /// Checked as `labels.NewRequirement` does.
    fn new(key: String, operator: Operator, values: BTreeSet<String>) -> Result<Self, String> {
        let values: Vec<String> = values.into_iter().collect();
        let at = Path::new("values");
        let list = || serde_json::Value::from(values.clone());
        let mut errors = Vec::new();
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                errors.push(FieldError::invalid(&at, list(), "for 'in', 'notin' operators, values set can't be empty"));
            }
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals if values.len() != 1 => {
                errors.push(FieldError::invalid(&at, list(), "exact-match compatibility requires one single value"));
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                let detail = "values set must be empty for exists and does not exist";
                errors.push(FieldError::invalid(&at, list(), detail));
            }
            Operator::GreaterThan | Operator::LessThan => {
                if values.len() != 1 {
                    let detail = "for 'Gt', 'Lt' operators, exactly one value is required";
                    errors.push(FieldError::invalid(&at, list(), detail));
                }
                for (index, value) in values.iter().enumerate() {
                    if value.parse::<i64>().is_err() {
                        let detail = "for 'Gt', 'Lt' operators, the value must be an integer";
                        errors.push(FieldError::invalid(&at.index(index), value.as_str(), detail));
                    }
                }
            }
            _ => {}
        }
        for (index, value) in values.iter().enumerate() {
            let messages = names::label_value(value);
            if !messages.is_empty() {
                errors.push(FieldError::invalid(&at.index(index).key(&key), value.as_str(), messages.join("; ")));
            }
        }
        match errors.as_slice() {
            [] => Ok(Self { key, operator, values }),
            [one] => Err(one.to_string()),
            many => Err(format!("[{}]", many.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))),
        }
    }

    fn matches(&self, value: Option<&str>) -> bool {
        let listed = |value: &str| self.values.iter().any(|candidate| candidate == value);
        let compare = |value: &str| Some(value.parse::<i64>().ok()?.cmp(&self.values.first()?.parse().ok()?));
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => value.is_some_and(listed),
            Operator::NotIn | Operator::NotEquals => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => value.and_then(compare).is_some_and(std::cmp::Ordering::is_gt),
            Operator::LessThan => value.and_then(compare).is_some_and(std::cmp::Ordering::is_lt),
        }
    }
}

fn check_key(key: &str) -> Result<(), String> {
    let messages = names::qualified_name(key);
    if messages.is_empty() {
        return Ok(());
    }
    Err(FieldError::invalid(&Path::root(), key, messages.join("; ")).to_string())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Error,
    End,
    Close,
    Comma,
    Not,
    DoubleEquals,
    Equals,
    Greater,
    Identifier,
    In,
    Less,
    NotEquals,
    NotIn,
    Open,
}

const SYMBOLS: &[(&str, Token)] = &[
    (")", Token::Close),
    (",", Token::Comma),
    ("!", Token::Not),
    ("==", Token::DoubleEquals),
    ("=", Token::Equals),
    (">", Token::Greater),
    ("<", Token::Less),
    ("!=", Token::NotEquals),
    ("(", Token::Open),
];

fn is_symbol(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

/// The tokens of a label selector, with their texts.
fn lex(text: &str) -> Vec<(Token, String)> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let Some(first) = rest.chars().next().filter(|&c| c != '\0') else {
            tokens.push((Token::End, String::new()));
            return tokens;
        };
        if is_symbol(first) {
            let run = rest.find(|c| !is_symbol(c)).unwrap_or(rest.len());
            // The longest prefix of the run that is a symbol, growing as long as each step is one.
            let mut found = None;
            for end in 1..=run {
                match SYMBOLS.iter().find(|(symbol, _)| *symbol == &rest[..end]) {
                    Some((symbol, token)) => found = Some((*token, *symbol)),
                    None if found.is_some() => break,
                    None => {}
                }
            }
            match found {
                Some((token, symbol)) => {
                    tokens.push((token, symbol.to_owned()));
                    rest = &rest[symbol.len()..];
                }
                None => {
                    tokens.push((Token::Error, format!("error expected: keyword found '{}'", &rest[..run])));
                    rest = &rest[run..];
                }
            }
        } else {
            let end = rest.find(|c| is_symbol(c) || matches!(c, ' ' | '\t' | '\r' | '\n' | '\0')).unwrap_or(rest.len());
            let token = match &rest[..end] {
                "in" => Token::In,
                "notin" => Token::NotIn,
                _ => Token::Identifier,
            };
            tokens.push((token, rest[..end].to_owned()));
            rest = &rest[end..];
        }
    }
}

struct Parser {
    tokens: Vec<(Token, String)>,
    at: usize,
}

impl Parser {
    fn new(text: &str) -> Self {
        Self { tokens: lex(text), at: 0 }
    }

    /// The next token where values or keys stand: `in` and `notin` are identifiers there.
    fn peek(&self) -> (Token, &str) {
        let (token, text) = self.raw();
        if matches!(token, Token::In | Token::NotIn) { (Token::Identifier, text) } else { (token, text) }
    }

    fn raw(&self) -> (Token, &str) {
        let (token, text) = &self.tokens[self.at.min(self.tokens.len() - 1)];
        (*token, text)
    }

    fn next(&mut self) -> (Token, String) {
        let (token, text) = self.peek();
        let next = (token, text.to_owned());
        self.at += 1;
        next
    }

    fn parse(&mut self) -> Result<Vec<Requirement>, String> {
        let mut requirements = Vec::new();
        loop {
            match self.peek() {
                (Token::Identifier | Token::Not, _) => {
                    let requirement =
                        self.requirement().map_err(|error| format!("unable to parse requirement: {error}"))?;
                    requirements.push(requirement);
                    match self.next() {
                        (Token::End, _) => return Ok(requirements),
                        (Token::Comma, _) => {
                            let (token, text) = self.peek();
                            if !matches!(token, Token::Identifier | Token::Not) {
                                return Err(format!("found '{text}', expected: identifier after ','"));
                            }
                        }
                        (_, text) => return Err(format!("found '{text}', expected: ',' or 'end of string'")),
                    }
                }
                (Token::End, _) => return Ok(requirements),
                (_, text) => return Err(format!("found '{text}', expected: !, identifier, or 'end of string'")),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let (mut token, mut key) = self.next();
        let negated = token == Token::Not;
        if negated {
            (token, key) = self.next();
        }
        if token != Token::Identifier {
            return Err(format!("found '{key}', expected: identifier"));
        }
        check_key(&key)?;
        if matches!(self.peek().0, Token::End | Token::Comma) || negated {
            let operator = if negated { Operator::DoesNotExist } else { Operator::Exists };
            return Requirement::new(key, operator, BTreeSet::new());
        }
        let (token, text) = self.raw();
        let operator = match token {
            Token::In => Operator::In,
            Token::NotIn => Operator::NotIn,
            Token::Equals => Operator::Equals,
            Token::DoubleEquals => Operator::DoubleEquals,
            Token::NotEquals => Operator::NotEquals,
            Token::Greater => Operator::GreaterThan,
            Token::Less => Operator::LessThan,
            _ => return Err(format!("found '{text}', expected: in, notin, =, ==, !=, gt, lt")),
        };
        self.at += 1;
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => self.exact_value()?,
        };
        Requirement::new(key, operator, values)
    }

    fn exact_value(&mut self) -> Result<BTreeSet<String>, String> {
        if matches!(self.peek().0, Token::End | Token::Comma) {
            return Ok(BTreeSet::from([String::new()]));
        }
        match self.next() {
            (Token::Identifier, value) => Ok(BTreeSet::from([value])),
            (_, text) => Err(format!("found '{text}', expected: identifier")),
        }
    }

    fn values(&mut self) -> Result<BTreeSet<String>, String> {
        let (token, text) = self.next();
        if token != Token::Open {
            return Err(format!("found '{text}' expected: '('"));
        }
        match self.peek() {
            (Token::Identifier | Token::Comma, first) => {
                let first = first.to_owned();
                let values = self.identifiers()?;
                if self.next().0 != Token::Close {
                    return Err(format!("found '{first}', expected: ')'"));
                }
                Ok(values)
            }
            (Token::Close, _) => {
                self.at += 1;
                Ok(BTreeSet::from([String::new()]))
            }
            (_, text) => Err(format!("found '{text}', expected: ',', ')' or identifier")),
        }
    }

    fn identifiers(&mut self) -> Result<BTreeSet<String>, String> {
        let mut values = BTreeSet::new();
        loop {
            match self.next() {
                (Token::Identifier, value) => {
                    values.insert(value);
                    match self.peek() {
                        (Token::Comma, _) => {}
                        (Token::Close, _) => return Ok(values),
                        (_, text) => return Err(format!("found '{text}', expected: ',' or ')'")),
                    }
                }
                (Token::Comma, _) => {
                    if values.is_empty() {
                        values.insert(String::new());
                    }
                    match self.peek().0 {
                        Token::Close => {
                            values.insert(String::new());
                            return Ok(values);
                        }
                        Token::Comma => {
                            self.at += 1;
                            values.insert(String::new());
                        }
                        _ => {}
                    }
                }
                (_, text) => return Err(format!("found '{text}', expected: ',', or identifier")),
            }
        }
    }
}

/// One term of a field selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTerm {
    pub path: String,
    /// `!=` instead of `=`.
    pub negated: bool,
    pub value: String,
}

/// All terms must hold; without terms everything matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    pub terms: Vec<FieldTerm>,
}

impl FieldSelector {
    /// `metadata.name=a,status.phase!=Running`; `\` escapes `,`, `=` and itself in a value.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = split_terms(text);
        parts.sort_unstable();
        let mut terms = Vec::with_capacity(parts.len());
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            let Some((path, negated, value)) = split_term(part) else {
                return Err(format!("invalid selector: '{text}'; can't understand '{part}'"));
            };
            terms.push(FieldTerm { path: path.to_owned(), negated, value: unescape(value)? });
        }
        Ok(Self { terms })
    }

    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// `field` gives the value at a path; a field that is not there reads as empty.
    pub fn matches<'a>(&self, field: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.terms.iter().all(|term| (field(&term.path).unwrap_or_default() == term.value) != term.negated)
    }

    /// The value that a path must have, where the selector says so.
    pub fn exact(&self, path: &str) -> Option<&str> {
        self.terms.iter().find(|term| term.path == path && !term.negated).map(|term| term.value.as_str())
    }
}

/// At unescaped commas.
fn split_terms(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

/// Path, negated, value: at the first operator.
fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    let at = term.find(['=', '!']).filter(|&at| term[at..].starts_with('=') || term[at..].starts_with("!="));
    let at = match at {
        Some(at) => at,
        // A lone `!` before the operator belongs to the path.
        None => term
            .char_indices()
            .map(|(at, _)| at)
            .find(|&at| term[at..].starts_with('=') || term[at..].starts_with("!="))?,
    };
    let rest = &term[at..];
    let (operator, negated) = if rest.starts_with("!=") {
        (2, true)
    } else if rest.starts_with("==") {
        (2, false)
    } else {
        (1, false)
    };
    Some((&term[..at], negated, &rest[operator..]))
}

fn unescape(value: &str) -> Result<String, String> {
    if !value.contains(['\\', ',', '=']) {
        return Ok(value.to_owned());
    }
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                Some(c) => return Err(format!("invalid field selector: invalid escape sequence: \\{c}")),
                None => return Err("invalid field selector: invalid escape sequence: \\".to_owned()),
            },
            ',' | '=' => return Err(format!("invalid field selector: unescaped character in value: {}", u32::from(c))),
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn labels<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<&'a str> {
        move |key| pairs.iter().find(|(candidate, _)| *candidate == key).map(|(_, value)| *value)
    }

    fn matches(selector: &str, pairs: &[(&str, &str)]) -> bool {
        LabelSelector::parse(selector).unwrap_or_else(|error| panic!("{selector}: {error}")).matches(labels(pairs))
    }

    #[test]
    fn label_selectors_match_as_in_kubernetes() {
        let web = [("app", "web"), ("tier", "front"), ("weight", "7")];
        for selector in
            ["", "app", "app=web", "app==web", "app in (web,db)", "app!=db", "!gone", "gone!=x", "gone notin (a,b)"]
        {
            assert!(matches(selector, &web), "{selector}");
        }
        for selector in ["gone", "app=db", "app!=web", "!app", "app notin (web)", "gone in (a)", "weight>7", "gone<9"] {
            assert!(!matches(selector, &web), "{selector}");
        }
        assert!(matches("weight>6,weight<8, app = web , in", &[("weight", "7"), ("app", "web"), ("in", "")]));
        assert!(matches("a=", &[("a", "")]));
        assert!(matches("a in (,x)", &[("a", "")]));
    }

    fn label_error(selector: &str, expect: Expect) {
        expect.assert_eq(&LabelSelector::parse(selector).expect_err(selector));
    }

    #[test]
    fn label_errors_are_those_of_kubernetes() {
        label_error("a===b", expect!["unable to parse requirement: found '=', expected: identifier"]);
        label_error("a,,b", expect!["found ',', expected: identifier after ','"]);
        label_error("a b", expect!["unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"]);
        label_error("a in b", expect!["unable to parse requirement: found 'b' expected: '('"]);
        label_error("a in (b", expect!["unable to parse requirement: found '', expected: ',' or ')'"]);
        label_error("(", expect!["found '(', expected: !, identifier, or 'end of string'"]);
        label_error(
            "a>x",
            expect![
                "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer"
            ],
        );
        label_error(
            "-x",
            expect![
                "unable to parse requirement: <nil>: Invalid value: \"-x\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
            ],
        );
    }

    #[test]
    fn field_selectors() {
        let selector = FieldSelector::parse(r"status.phase!=Running,metadata.name=a\,b\=c,spec.nodeName==").unwrap();
        assert_eq!(selector.exact("metadata.name"), Some("a,b=c"));
        assert_eq!(selector.exact("status.phase"), None);
        let fields = [("metadata.name", "a,b=c"), ("status.phase", "Pending")];
        assert!(selector.matches(labels(&fields)));
        assert!(!selector.matches(labels(&[("metadata.name", "a,b=c"), ("status.phase", "Running")])));
        let error = |text: &str| FieldSelector::parse(text).expect_err(text);
        expect!["invalid selector: 'a,b=c'; can't understand 'a'"].assert_eq(&error("a,b=c"));
        expect!["invalid field selector: unescaped character in value: 61"].assert_eq(&error("a=b=c"));
        expect!["invalid field selector: invalid escape sequence: \\x"].assert_eq(&error("a=\\x"));
    }
}
