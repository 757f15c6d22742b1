//! Values as Go's `fmt` prints them.

use crate::api::field::go_quote;
use serde_json::{Number, Value};

/// What an action prints.
pub fn shown(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "<no value>".to_owned(),
        Some(value) => plain(value),
    }
}

/// `%v`
pub fn plain(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) => of_number(number),
        Value::Bool(value) => value.to_string(),
        Value::Array(list) => format!("[{}]", list.iter().map(plain).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let fields: Vec<String> = map.iter().map(|(key, value)| format!("{key}:{}", plain(value))).collect();
            format!("map[{}]", fields.join(" "))
        }
    }
}

/// As `fmt.Sprint`: a space between two of which neither is a string.
pub fn joined(values: &[Value]) -> String {
    let mut out = String::new();
    for (at, value) in values.iter().enumerate() {
        if at > 0 && !value.is_string() && !values[at - 1].is_string() {
            out.push(' ');
        }
        out.push_str(&plain(value));
    }
    out
}

pub fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

fn of_number(number: &Number) -> String {
    match number.as_f64().filter(|_| number.is_f64()) {
        Some(float) => of_float(float),
        None => number.to_string(),
    }
}

/// `%g`, as short as it can be.
fn of_float(float: f64) -> String {
    let text = format!("{float:e}");
    let Some((digits, exponent)) = text.split_once('e') else { return text };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    // Go takes the exponent from 21 on where it is free to; `%v` of a float64 is.
    if (-4..21).contains(&exponent) {
        return format!("{float}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// What stands between `%` and the letter.
#[derive(Default)]
struct Form {
    left: bool,
    plus: bool,
    zero: bool,
    space: bool,
    sharp: bool,
    width: usize,
    precision: Option<usize>,
}

/// Wider is nothing that anybody reads.
const MAX_WIDTH: usize = 10_000;

pub fn printf(form: &str, values: &[Value]) -> String {
    let (mut out, mut rest, mut next) = (String::new(), form, values.iter());
    while let Some(percent) = rest.find('%') {
        out.push_str(&rest[..percent]);
        let (own, verb, length) = parsed(&rest[percent + 1..]);
        rest = &rest[percent + 1 + length..];
        out.push_str(&match verb {
            None => "%!(NOVERB)".to_owned(),
            Some('%') => "%".to_owned(),
            Some(verb) => match next.next() {
                None => format!("%!{verb}(MISSING)"),
                Some(value) => padded(&own, value, verb),
            },
        });
    }
    out.push_str(rest);
    let extra: Vec<String> = next.map(|value| format!("{}={}", go_type(value), plain(value))).collect();
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

fn parsed(text: &str) -> (Form, Option<char>, usize) {
    let (mut form, mut at) = (Form::default(), 0);
    let bytes = text.as_bytes();
    while let Some(flag) = bytes.get(at) {
        match flag {
            b'-' => form.left = true,
            b'+' => form.plus = true,
            b'0' => form.zero = true,
            b' ' => form.space = true,
            b'#' => form.sharp = true,
            _ => break,
        }
        at += 1;
    }
    let number = |at: &mut usize| {
        let start = *at;
        while bytes.get(*at).is_some_and(u8::is_ascii_digit) {
            *at += 1;
        }
        text[start..*at].parse().unwrap_or(0).min(MAX_WIDTH)
    };
    form.width = number(&mut at);
    if bytes.get(at) == Some(&b'.') {
        at += 1;
        form.precision = Some(number(&mut at));
    }
    let verb = text[at..].chars().next();
    (form, verb, at + verb.map_or(0, char::len_utf8))
}

fn padded(form: &Form, value: &Value, verb: char) -> String {
    let (text, is_number) = verbed(form, value, verb);
    let missing = form.width.saturating_sub(text.chars().count());
    match form {
        Form { left: true, .. } => text + &" ".repeat(missing),
        Form { zero: true, .. } if is_number => {
            let digits = text.find(|c: char| !matches!(c, '+' | '-' | ' ')).unwrap_or(0);
            format!("{}{}{}", &text[..digits], "0".repeat(missing), &text[digits..])
        }
        _ => " ".repeat(missing) + &text,
    }
}

/// Without its padding, and whether that may be zeros.
fn verbed(form: &Form, value: &Value, verb: char) -> (String, bool) {
    let cut = |text: &str| form.precision.map_or_else(|| text.to_owned(), |most| text.chars().take(most).collect());
    let signed = |text: String| match (text.starts_with('-'), form.plus, form.space) {
        (false, true, _) => format!("+{text}"),
        (false, _, true) => format!(" {text}"),
        _ => text,
    };
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let text = match (verb, value) {
        ('v', Value::Number(number)) => return (signed(of_number(number)), true),
        ('v' | 's', Value::String(text)) => cut(text),
        ('v', value) => plain(value),
        ('s', Value::Array(_) | Value::Object(_)) => plain(value),
        ('q', Value::String(text)) => go_quote(&cut(text)),
        ('t', Value::Bool(value)) => value.to_string(),
        ('x', Value::String(text)) => hex(text.as_bytes()),
        ('X', Value::String(text)) => hex(text.as_bytes()).to_uppercase(),
        ('d' | 'x' | 'X' | 'o' | 'b' | 'c' | 'U', Value::Number(number)) if !number.is_f64() => {
            let whole = number.as_i64().unwrap_or_default();
            let (sign, size) = (if whole < 0 { "-" } else { "" }, whole.unsigned_abs());
            let text = match verb {
                'd' => number.to_string(),
                'x' if form.sharp => format!("{sign}{size:#x}"),
                'x' => format!("{sign}{size:x}"),
                'X' => format!("{sign}{size:X}"),
                'o' => format!("{sign}{size:o}"),
                'b' => format!("{sign}{size:b}"),
                'U' => return (format!("U+{size:04X}"), false),
                _ => {
                    let c = u32::try_from(whole).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
                    return (c.to_string(), false);
                }
            };
            return (signed(text), true);
        }
        ('f' | 'F' | 'e' | 'g', Value::Number(number)) if number.is_f64() => {
            let float = number.as_f64().unwrap_or_default();
            let precision = form.precision.unwrap_or(6);
            let text = match verb {
                'f' | 'F' => format!("{float:.precision$}"),
                'e' => {
                    let text = format!("{float:.precision$e}");
                    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
                    let exponent: i32 = exponent.parse().unwrap_or_default();
                    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
                }
                _ => of_float(float),
            };
            return (signed(text), true);
        }
        (verb, Value::Null) => format!("%!{verb}(<nil>)"),
        (verb, value) => format!("%!{verb}({}={})", go_type(value), plain(value)),
    };
    (text, false)
}
