//! Field paths and validation errors, with Kubernetes's own texts.
//!
//! `spec.containers[0].name: Required value`, as `k8s.io/apimachinery/pkg/util/validation/field`
//! prints it. A validator returns an [`ErrorList`]; [`crate::api::Status::invalid`] turns it into
//! the 422 reply.

use serde_json::Value;
use std::fmt;

/// A path to a field: `spec.ports[0].name`, `metadata.labels[app]`.
///
/// A link to the path above it, on the stack: going down costs nothing, and the text is made only
/// for an error. A path that outlives its parents' scope is bound step by step, or deeper with
/// `child("a.b")`.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Root,
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

impl Default for Path<'_> {
    fn default() -> Self {
        Self::root()
    }
}

impl<'a> Path<'a> {
    pub const fn root() -> Self {
        Self { parent: None, step: Step::Root }
    }

    pub const fn new(name: &'a str) -> Self {
        Self { parent: None, step: Step::Field(name) }
    }

    /// One field deeper: `spec` -> `spec.replicas`.
    pub const fn child(&'a self, name: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Field(name) }
    }

    /// An element of a list: `containers[3]`.
    pub const fn index(&'a self, index: usize) -> Self {
        Self { parent: Some(self), step: Step::Index(index) }
    }

    /// An entry of a map: `labels[app]`.
    pub const fn key(&'a self, key: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Key(key) }
    }

    fn write(&self, out: &mut String) {
        if let Some(parent) = self.parent {
            parent.write(out);
        }
        match self.step {
            Step::Root => {}
            // As Go prints a path to a field without a name.
            Step::Field("") if self.parent.is_none() => out.push_str("[]"),
            Step::Field(name) => {
                if !out.is_empty() {
                    out.push('.');
                }
                out.push_str(name);
            }
            Step::Index(index) => out.push_str(&format!("[{index}]")),
            Step::Key(key) => {
                out.push('[');
                out.push_str(key);
                out.push(']');
            }
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(64);
        self.write(&mut text);
        f.write_str(if text.is_empty() { "<nil>" } else { &text })
    }
}

/// What is wrong with a field; decides the reason of the cause and the head of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorType {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    TooFew,
    TooShort,
    Internal,
    TypeInvalid,
}

impl ErrorType {
    /// `causes[].reason` in a Status.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TooFew => "FieldValueTooFew",
            Self::TooShort => "FieldValueTooShort",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn head(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::TooFew => "Too few",
            Self::TooShort => "Too short",
            Self::Internal => "Internal error",
        }
    }

    fn shows_value(self) -> bool {
        !matches!(self, Self::Required | Self::Forbidden | Self::TooLong | Self::TooShort | Self::Internal)
    }
}

/// One validation error.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    pub kind: ErrorType,
    pub field: String,
    /// The offending value; [`Value::Null`] prints as `null`.
    pub value: Value,
    /// Printed in place of the value: values that Kubernetes prints by their internal names. Empty:
    /// no value is printed.
    pub shown: Option<String>,
    pub detail: String,
}

/// All errors of one validation, in Kubernetes's order.
pub type ErrorList = Vec<FieldError>;

/// Writing a list of rules: each adds one error.
pub trait Report {
    fn required(&mut self, path: &Path<'_>, detail: impl Into<String>);
    fn invalid(&mut self, path: &Path<'_>, value: impl Into<Value>, detail: impl Into<String>);
    fn duplicate(&mut self, path: &Path<'_>, value: impl Into<Value>);
    fn not_found(&mut self, path: &Path<'_>, value: impl Into<Value>);
    fn forbidden(&mut self, path: &Path<'_>, detail: impl Into<String>);
    fn not_supported(&mut self, path: &Path<'_>, value: impl Into<Value>, supported: &[&str]);
    fn too_long(&mut self, path: &Path<'_>, limit: i64);
    fn too_many(&mut self, path: &Path<'_>, actual: usize, limit: i64);

    /// The value is invalid, once per message.
    fn check<M: Into<String>>(&mut self, path: &Path<'_>, value: &str, messages: Vec<M>) {
        for message in messages {
            self.invalid(path, value, message);
        }
    }

    /// As [`Report::check`], for numbers.
    fn check_number<M: Into<String>>(&mut self, path: &Path<'_>, value: i64, messages: Vec<M>) {
        for message in messages {
            self.invalid(path, value, message);
        }
    }

    /// The value is one of a few.
    fn one_of(&mut self, path: &Path<'_>, value: &str, supported: &[&str]) {
        if !supported.contains(&value) {
            self.not_supported(path, value, supported);
        }
    }

    /// The field stays as it was.
    fn immutable(&mut self, path: &Path<'_>, value: &Value, old: &Value) {
        if !super::value::equal(value, old) {
            self.invalid(path, value.clone(), "field is immutable");
        }
    }

    /// As [`Report::immutable`], of a text that is never null in Kubernetes: a missing one is empty.
    fn immutable_text(&mut self, path: &Path<'_>, value: &Value, old: &Value) {
        if !super::value::same(value, old) {
            self.invalid(path, value.as_str().unwrap_or_default(), "field is immutable");
        }
    }

    fn not_negative(&mut self, path: &Path<'_>, value: i64) {
        if value < 0 {
            self.invalid(path, value, "must be greater than or equal to 0");
        }
    }

    fn positive(&mut self, path: &Path<'_>, value: i64) {
        if value <= 0 {
            self.invalid(path, value, "must be greater than zero");
        }
    }
}

impl Report for ErrorList {
    fn required(&mut self, path: &Path<'_>, detail: impl Into<String>) {
        self.push(FieldError::required(path, detail));
    }

    fn invalid(&mut self, path: &Path<'_>, value: impl Into<Value>, detail: impl Into<String>) {
        self.push(FieldError::invalid(path, value, detail));
    }

    fn duplicate(&mut self, path: &Path<'_>, value: impl Into<Value>) {
        self.push(FieldError::duplicate(path, value));
    }

    fn not_found(&mut self, path: &Path<'_>, value: impl Into<Value>) {
        self.push(FieldError::not_found(path, value));
    }

    fn forbidden(&mut self, path: &Path<'_>, detail: impl Into<String>) {
        self.push(FieldError::forbidden(path, detail));
    }

    fn not_supported(&mut self, path: &Path<'_>, value: impl Into<Value>, supported: &[&str]) {
        self.push(FieldError::not_supported(path, value, supported));
    }

    fn too_long(&mut self, path: &Path<'_>, limit: i64) {
        self.push(FieldError::too_long(path, limit));
    }

    fn too_many(&mut self, path: &Path<'_>, actual: usize, limit: i64) {
        self.push(FieldError::too_many(path, actual, limit));
    }
}

impl FieldError {
    fn new(kind: ErrorType, path: &Path<'_>, value: Value, detail: impl Into<String>) -> Self {
        Self { kind, field: path.to_string(), value, shown: None, detail: detail.into() }
    }

    pub fn required(path: &Path<'_>, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Required, path, Value::String(String::new()), detail)
    }

    pub fn invalid(path: &Path<'_>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Invalid, path, value.into(), detail)
    }

    /// An invalid value that is not shown.
    pub fn invalid_omitted(path: &Path<'_>, detail: impl Into<String>) -> Self {
        Self { shown: Some(String::new()), ..Self::new(ErrorType::Invalid, path, Value::Null, detail) }
    }

    pub fn type_invalid(path: &Path<'_>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::TypeInvalid, path, value.into(), detail)
    }

    pub fn duplicate(path: &Path<'_>, value: impl Into<Value>) -> Self {
        Self::new(ErrorType::Duplicate, path, value.into(), "")
    }

    /// A duplicate whose value prints as the given JSON.
    pub fn duplicate_shown(path: &Path<'_>, shown: String) -> Self {
        Self { shown: Some(shown), ..Self::new(ErrorType::Duplicate, path, Value::Null, "") }
    }

    pub fn not_found(path: &Path<'_>, value: impl Into<Value>) -> Self {
        Self::new(ErrorType::NotFound, path, value.into(), "")
    }

    pub fn forbidden(path: &Path<'_>, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Forbidden, path, Value::String(String::new()), detail)
    }

    /// `Unsupported value: "x": supported values: "A", "B"`; give the supported values sorted, as
    /// Kubernetes's sets print them.
    pub fn not_supported(path: &Path<'_>, value: impl Into<Value>, supported: &[&str]) -> Self {
        let list = supported.iter().map(|value| go_quote(value)).collect::<Vec<_>>().join(", ");
        let detail = if list.is_empty() { String::new() } else { format!("supported values: {list}") };
        Self::new(ErrorType::NotSupported, path, value.into(), detail)
    }

    /// `limit` in bytes; a negative limit is not named.
    pub fn too_long(path: &Path<'_>, limit: i64) -> Self {
        let detail = match limit {
            ..=-1 => "value is too long".to_owned(),
            1 => "may not be more than 1 byte".to_owned(),
            _ => format!("may not be more than {limit} bytes"),
        };
        Self::new(ErrorType::TooLong, path, Value::Null, detail)
    }

    pub fn too_many(path: &Path<'_>, actual: usize, limit: i64) -> Self {
        let detail = match limit {
            ..=-1 => "has too many items".to_owned(),
            1 => "must have at most 1 item".to_owned(),
            _ => format!("must have at most {limit} items"),
        };
        Self::new(ErrorType::TooMany, path, Value::from(actual), detail)
    }

    pub fn internal(path: &Path<'_>, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Internal, path, Value::Null, detail)
    }

    /// The steps of its path: `spec`, `ports`, `0`.
    pub fn steps(&self) -> impl Iterator<Item = &str> {
        let steps = self.field.split(['.', '[']).filter(|step| !step.is_empty());
        steps.map(|step| step.strip_suffix(']').unwrap_or(step))
    }

    /// The message without the field: the `message` of a cause.
    pub fn body(&self) -> String {
        let mut text = self.kind.head().to_owned();
        if self.kind.shows_value() && self.shown.as_deref() != Some("") {
            text.push_str(": ");
            match (&self.shown, &self.value) {
                (Some(shown), _) => text.push_str(shown),
                (None, Value::String(value)) => text.push_str(&go_quote(value)),
                (None, value) => text.push_str(&value.to_string()),
            }
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

/// Go's `%q` of a list of strings: `["a" "b"]`.
pub fn go_list<'a>(items: impl Iterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = items.map(go_quote).collect();
    format!("[{}]", quoted.join(" "))
}

/// Go's `%q`.
pub fn go_quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if c.is_ascii() || is_printed(c) => out.push(c),
            c if (c as u32) < 0x1_0000 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push_str(&format!("\\U{:08x}", c as u32)),
        }
    }
    out.push('"');
    out
}

/// Whether Go writes it as it is: no space of another width, no sign without a form. What joins the
/// character before it is printed, so there is one before it here.
fn is_printed(c: char) -> bool {
    let mut behind_another = [0; 5];
    behind_another[0] = b'x';
    let length = 1 + c.encode_utf8(&mut behind_another[1..]).len();
    std::str::from_utf8(&behind_another[..length]).is_ok_and(|text| text.escape_debug().nth(1) == Some(c))
}
