//! kubectl's JSONPath: templates of texts and `{expressions}`, with `{range}` and filters.
//!
//! [`Template::parse`] once, [`Template::print`] per object; [`Expression`] gives the values
//! themselves. What is absent gives nothing. Source: kubectl's reference, "JSONPath Support".

use serde_json::Value;
use std::iter::Peekable;
use std::str::Chars;

/// How deep filters and unions may nest.
const DEPTH: usize = 16;

/// Values that a step may lead to.
const MOST: usize = 1 << 20;

/// A text with expressions in braces.
#[derive(Clone, Debug, PartialEq)]
pub struct Template(Vec<Segment>);

#[derive(Clone, Debug, PartialEq)]
enum Segment {
    Text(String),
    Values(Expression),
    Range(Expression, Vec<Segment>),
}

/// One path: from a value to those it selects.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Wildcard,
    /// The value and everything below it.
    Descend,
    Slice {
        start: Option<i64>,
        end: Option<i64>,
        step: i64,
    },
    Index(i64),
    Union(Vec<Expression>),
    Filter(Expression, Option<(Operator, Expression)>),
    Constant(Value),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

const OPERATORS: &[(&str, Operator)] = &[
    ("==", Operator::Equal),
    ("!=", Operator::NotEqual),
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("<", Operator::Less),
    (">", Operator::Greater),
];

impl Template {
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut open: Vec<(Expression, Vec<Segment>)> = Vec::new();
        let mut segments = Vec::new();
        let mut rest = text;
        while let Some(brace) = rest.find('{') {
            if brace > 0 {
                segments.push(Segment::Text(rest[..brace].to_owned()));
            }
            let action = inside_braces(&rest[brace + 1..])?;
            rest = &rest[brace + 1 + action.len() + 1..];
            let action = action.trim();
            if action == "end" {
                let (over, before) = open.pop().ok_or("not in range, nothing to end")?;
                let body = std::mem::replace(&mut segments, before);
                segments.push(Segment::Range(over, body));
            } else if let Some(over) = action.strip_prefix("range ") {
                if open.len() == DEPTH {
                    return Err("ranges are nested too deep".to_owned());
                }
                open.push((Expression::parse(over)?, std::mem::take(&mut segments)));
            } else if action.starts_with(['"', '\'']) {
                let mut parser = Parser::new(action);
                segments.push(Segment::Text(parser.quoted()?));
                if parser.peek().is_some() {
                    return Err(format!("unexpected text behind the quotes: {action}"));
                }
            } else {
                segments.push(Segment::Values(Expression::parse(action)?));
            }
        }
        if !rest.is_empty() {
            segments.push(Segment::Text(rest.to_owned()));
        }
        if !open.is_empty() {
            return Err("unterminated range: {end} is missing".to_owned());
        }
        Ok(Self(segments))
    }

    pub fn print(&self, value: &Value) -> String {
        let mut out = String::new();
        let mut print = |values: Vec<&Value>| {
            let texts: Vec<String> = values.into_iter().map(to_text).collect();
            out.push_str(&texts.join(" "));
        };
        each_part(&self.0, value, &mut print);
        out
    }

    /// A list per text and expression, of what it selects.
    pub fn parts(&self, value: &Value) -> Vec<Value> {
        let mut parts = Vec::new();
        each_part(&self.0, value, &mut |values| {
            parts.push(values.into_iter().cloned().collect());
        });
        parts
    }
}

fn each_part(segments: &[Segment], current: &Value, take: &mut dyn FnMut(Vec<&Value>)) {
    for segment in segments {
        match segment {
            Segment::Text(text) => take(vec![&text.as_str().into()]),
            Segment::Values(expression) => take(expression.walk(current)),
            Segment::Range(over, body) => {
                for item in over.walk(current) {
                    each_part(body, item, take);
                }
            }
        }
    }
}

/// A value as a template prints it.
pub fn to_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        value => value.to_string(),
    }
}

/// The text up to the closing brace, which may stand in quotes before that.
fn inside_braces(text: &str) -> Result<&str, String> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c == '}' => return Ok(&text[..at]),
            None => {}
        }
    }
    Err("unclosed action".to_owned())
}

impl Expression {
    /// A path without braces: `.spec.containers[*].name`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser::new(text);
        let expression = parser.path(0)?;
        match parser.peek() {
            None => Ok(expression),
            Some(c) => Err(format!("unrecognized character in action: {c:?} in {text:?}")),
        }
    }

    /// With or without braces and the first dot, as columns and sort keys may be written.
    pub fn parse_relaxed(text: &str) -> Result<Self, String> {
        let bare = text.trim();
        let bare = match bare.strip_prefix('{') {
            Some(inner) => inner
                .strip_suffix('}')
                .ok_or_else(|| format!("unexpected path string, expected a 'name1.name2' or '.name1.name2' or '{{name1.name2}}' or '{{.name1.name2}}', got {text:?}"))?,
            None => bare,
        };
        let dotted = bare.starts_with(['.', '[', '$', '@']);
        Self::parse(&if dotted { bare.to_owned() } else { format!(".{bare}") })
    }

    /// The values that the path selects in `value`.
    pub fn select(&self, value: &Value) -> Vec<Value> {
        self.walk(value).into_iter().cloned().collect()
    }

    /// A path that selects more than [`MOST`] on its way selects nothing: each `..` and `*` multiplies.
    fn walk<'v>(&'v self, current: &'v Value) -> Vec<&'v Value> {
        let mut values = vec![current];
        for step in &self.0 {
            let mut next = Vec::new();
            for value in values {
                step.take(value, &mut next);
                if next.len() > MOST {
                    return Vec::new();
                }
            }
            values = next;
        }
        values
    }
}

impl Step {
    fn take<'v>(&'v self, value: &'v Value, out: &mut Vec<&'v Value>) {
        match self {
            Self::Constant(constant) => out.push(constant),
            Self::Field(name) => out.extend(value.get(name).filter(|field| !field.is_null())),
            Self::Wildcard => children(value, out),
            Self::Descend => descend(value, out),
            Self::Index(index) => {
                let Value::Array(items) = value else { return };
                let at = if *index < 0 { index + items.len() as i64 } else { *index };
                out.extend(usize::try_from(at).ok().and_then(|at| items.get(at)));
            }
            Self::Slice { start, end, step } => {
                let Value::Array(items) = value else { return };
                let length = items.len() as i64;
                let place = |bound: i64| (if bound < 0 { bound + length } else { bound }).clamp(0, length) as usize;
                let (start, end) = (place(start.unwrap_or(0)), place(end.unwrap_or(length)));
                let stride = usize::try_from(*step).unwrap_or(1).max(1);
                out.extend(items.get(start..end.max(start)).unwrap_or_default().iter().step_by(stride));
            }
            Self::Union(members) => members.iter().for_each(|member| out.extend(member.walk(value))),
            Self::Filter(left, comparison) => {
                let mut items = Vec::new();
                children(value, &mut items);
                out.extend(items.into_iter().filter(|item| {
                    let left = left.walk(item);
                    match comparison {
                        None => !left.is_empty(),
                        Some((operator, right)) => match (left.first(), right.walk(item).first()) {
                            (Some(left), Some(right)) => operator.holds(left, right),
                            _ => false,
                        },
                    }
                }));
            }
        }
    }
}

fn children<'v>(value: &'v Value, out: &mut Vec<&'v Value>) {
    match value {
        Value::Array(items) => out.extend(items),
        Value::Object(fields) => out.extend(fields.values()),
        _ => {}
    }
}

fn descend<'v>(value: &'v Value, out: &mut Vec<&'v Value>) {
    out.push(value);
    match value {
        Value::Array(items) => items.iter().for_each(|item| descend(item, out)),
        Value::Object(fields) => fields.values().for_each(|field| descend(field, out)),
        _ => {}
    }
}

impl Operator {
    fn holds(self, left: &Value, right: &Value) -> bool {
        use std::cmp::Ordering;
        let order = match (left, right) {
            (Value::Number(left), Value::Number(right)) => left.as_f64().partial_cmp(&right.as_f64()),
            (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
            (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
            (left, right) => (left == right).then_some(Ordering::Equal),
        };
        match self {
            Self::Equal => order == Some(Ordering::Equal),
            Self::NotEqual => order != Some(Ordering::Equal),
            Self::Less => order == Some(Ordering::Less),
            Self::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            Self::Greater => order == Some(Ordering::Greater),
            Self::GreaterOrEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        }
    }
}

struct Parser<'a> {
    chars: Peekable<Chars<'a>>,
}

/// What ends a field's name.
const DELIMITERS: &str = " \t\r\n.[],$@(){}=!<>\"'*";

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Self { chars: text.trim().chars().peekable() }
    }

    fn peek(&mut self) -> Option<char> {
        self.chars.peek().copied()
    }

    fn eat(&mut self, wanted: char) -> bool {
        self.chars.next_if_eq(&wanted).is_some()
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        if self.eat(wanted) { Ok(()) } else { Err(format!("{wanted:?} is missing")) }
    }

    fn spaces(&mut self) {
        while self.chars.next_if(|c| c.is_whitespace()).is_some() {}
    }

    fn path(&mut self, depth: usize) -> Result<Expression, String> {
        if depth > DEPTH {
            return Err("the path is nested too deep".to_owned());
        }
        let mut steps = Vec::new();
        loop {
            match self.peek() {
                // The value itself, both: to Kubernetes `$` is not the root.
                Some('@' | '$') => {
                    self.chars.next();
                }
                Some('.') => {
                    self.chars.next();
                    if self.eat('.') {
                        if matches!(steps.last(), Some(Step::Descend)) {
                            return Err("invalid multiple recursive descent".to_owned());
                        }
                        steps.push(Step::Descend);
                        if self.peek() == Some('[') {
                            continue;
                        }
                    }
                    if self.eat('*') {
                        steps.push(Step::Wildcard);
                    } else {
                        let name = self.name();
                        // A lone dot is the value itself.
                        if !name.is_empty() {
                            steps.push(Step::Field(name));
                        }
                    }
                }
                Some('[') => {
                    self.chars.next();
                    steps.push(self.brackets(depth)?);
                }
                Some('"' | '\'') => steps.push(Step::Constant(Value::String(self.quoted()?))),
                Some(c) if steps.is_empty() && (c.is_ascii_alphanumeric() || c == '-') => {
                    steps.push(Step::Constant(self.constant()?));
                }
                _ => return Ok(Expression(steps)),
            }
        }
    }

    /// A field's name; `\.` is a dot of the name.
    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.peek() {
            if c == '\\' {
                self.chars.next();
                name.extend(self.chars.next());
            } else if DELIMITERS.contains(c) {
                break;
            } else {
                name.push(c);
                self.chars.next();
            }
        }
        name
    }

    fn constant(&mut self) -> Result<Value, String> {
        let mut text = String::new();
        while let Some(c) = self.chars.next_if(|c| c.is_ascii_alphanumeric() || "-+.".contains(*c)) {
            text.push(c);
        }
        match serde_json::from_str(&text) {
            Ok(value @ (Value::Number(_) | Value::Bool(_))) => Ok(value),
            _ => Err(format!("unrecognized identifier {text}")),
        }
    }

    fn quoted(&mut self) -> Result<String, String> {
        let Some(quote) = self.chars.next() else { return Err("a quoted text is missing".to_owned()) };
        let mut text = String::new();
        loop {
            match self.chars.next() {
                None => return Err("unterminated quoted string".to_owned()),
                Some(c) if c == quote => return Ok(text),
                Some('\\') => match self.chars.next() {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some('r') => text.push('\r'),
                    Some(c) => text.push(c),
                    None => return Err("unterminated quoted string".to_owned()),
                },
                Some(c) => text.push(c),
            }
        }
    }

    /// Behind `[`: an index, a slice, a wildcard, a filter, names, or a union of these.
    fn brackets(&mut self, depth: usize) -> Result<Step, String> {
        self.spaces();
        if self.eat('?') {
            return self.filter(depth);
        }
        let mut members = Vec::new();
        loop {
            self.spaces();
            members.push(self.member()?);
            self.spaces();
            if self.eat(',') {
                continue;
            }
            self.expect(']')?;
            break;
        }
        Ok(match members.len() {
            1 => members.remove(0),
            _ => Step::Union(members.into_iter().map(|member| Expression(vec![member])).collect()),
        })
    }

    fn member(&mut self) -> Result<Step, String> {
        match self.peek() {
            Some('*') => {
                self.chars.next();
                Ok(Step::Wildcard)
            }
            Some('"' | '\'') => Ok(Step::Field(self.quoted()?)),
            _ => {
                let mut bounds = vec![self.integer()?];
                while bounds.len() < 3 && self.eat(':') {
                    bounds.push(self.integer()?);
                }
                match bounds.as_slice() {
                    [Some(index)] => Ok(Step::Index(*index)),
                    [start, end] => Ok(Step::Slice { start: *start, end: *end, step: 1 }),
                    [start, end, step] => match step.unwrap_or(1) {
                        step if step > 0 => Ok(Step::Slice { start: *start, end: *end, step }),
                        _ => Err("the step of a slice must be positive".to_owned()),
                    },
                    _ => Err("invalid array index".to_owned()),
                }
            }
        }
    }

    fn integer(&mut self) -> Result<Option<i64>, String> {
        let mut text = String::new();
        while let Some(c) = self.chars.next_if(|c| c.is_ascii_digit() || *c == '-') {
            text.push(c);
        }
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|_| format!("invalid array index {text}"))
    }

    fn filter(&mut self, depth: usize) -> Result<Step, String> {
        self.expect('(')?;
        self.spaces();
        let left = self.path(depth + 1)?;
        self.spaces();
        let mut symbol = String::new();
        while let Some(c) = self.chars.next_if(|c| "=!<>".contains(*c)) {
            symbol.push(c);
        }
        let comparison = if symbol.is_empty() {
            None
        } else {
            let operator = OPERATORS.iter().find(|(text, _)| *text == symbol);
            let (_, operator) = operator.ok_or_else(|| format!("unrecognized filter operator {symbol}"))?;
            self.spaces();
            Some((*operator, self.path(depth + 1)?))
        };
        self.spaces();
        self.expect(')').map_err(|_| "unterminated filter".to_owned())?;
        self.spaces();
        self.expect(']').map_err(|_| "unclosed array".to_owned())?;
        Ok(Step::Filter(left, comparison))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn print(template: &str) -> Result<String, String> {
        let object = json!({
            "kind": "List",
            "items": [
                {"metadata": {"name": "a", "labels": {"app.kubernetes.io/name": "x"}}, "n": 1, "ok": true,
                 "list": [{"t": "A", "s": "True"}, {"t": "B", "s": "False"}]},
                {"metadata": {"name": "b"}, "n": 5, "ok": false, "list": []},
            ],
        });
        Template::parse(template).map(|template| template.print(&object))
    }

    #[test]
    fn templates_of_the_reference() {
        for (template, text) in [
            ("{.kind}", "List"),
            ("kind is {.kind}\n", "kind is List\n"),
            ("{['kind']}", "List"),
            ("{..name}", "a b"),
            ("{.items[*].metadata.name}", "a b"),
            ("{.items[0]['metadata.name', 'n']}", "1"),
            ("{.items[*]['metadata', 'n'].name}", "a b"),
            ("{.items[-1:].metadata.name}", "b"),
            ("{.items[-1].metadata.name}", "b"),
            ("{.items[0:2:2].n}", "1"),
            ("{.items[?(@.n>2)].metadata.name}", "b"),
            ("{.items[?(@.ok==true)].metadata.name}", "a"),
            ("{.items[?(@.metadata.labels)].metadata.name}", "a"),
            ("{.items[0].list[?(@.t==\"B\")].s}", "False"),
            ("{range .items[*]}{.metadata.name}:{.n}{\"\\n\"}{end}", "a:1\nb:5\n"),
            ("{range .items[*]}{range .list[*]}{.t}{end};{end}", "AB;;"),
            (r"{.items[0].metadata.labels.app\.kubernetes\.io/name}", "x"),
            ("{.items[0].metadata.labels}", r#"{"app.kubernetes.io/name":"x"}"#),
            ("{$.kind}{'-'}{@.kind}", "List-List"),
            ("{.none}", ""),
            ("{.items[9].n}", ""),
        ] {
            assert_eq!(print(template).as_deref(), Ok(text), "{template}");
        }
    }

    #[test]
    fn wrong_templates_are_refused() {
        for template in
            ["{", "{.a", "{range .items[*]}", "{end}", "{.a[}", "{.a[?(@.b=x)]}", "{.a[?(@.b}", "{bogus}", "{\"x}"]
        {
            assert!(print(template).is_err(), "{template}");
        }
        let deep = format!("{{{}}}", ".a[?(@".repeat(40));
        assert!(print(&deep).is_err());
    }

    /// Found by fuzzing: descents upon descents took all memory.
    #[test]
    fn what_multiplies_ends() {
        assert!(Expression::parse("....").is_err() && Template::parse("{.....a}").is_err());
        let mut object = json!(1);
        for _ in 0..60 {
            object = json!({ "a": object, "b": [1, 2] });
        }
        assert!(Expression::parse("..*..*..*..*..*").expect("a path").select(&object).is_empty());
        assert!(Expression::parse("..$..$..$..$..$").is_err());
        assert_eq!(Expression::parse("..b[0]").expect("a path").select(&object).len(), 60);
    }

    #[test]
    fn columns_may_leave_braces_and_dot_out() {
        let object = json!({"a": {"b": 1}});
        for text in ["a.b", ".a.b", "{a.b}", "{.a.b}"] {
            assert_eq!(Expression::parse_relaxed(text).expect("a path").select(&object), [json!(1)], "{text}");
        }
        assert!(Expression::parse_relaxed("{a.b").is_err());
    }
}
