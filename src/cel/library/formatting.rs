//! `"%s is %d".format([name, size])`, as the strings extension has it in version 2: numbers with
//! points are written for American English.

use super::convert::{double, seconds};
use crate::api::field::go_quote;
use crate::cel::Failure;
use crate::cel::declaration::Type;
use crate::cel::evaluate::Call;
use crate::cel::overloads::{Cost, Row};
use crate::cel::value::{List, Map, Value};
use std::fmt::Write;

type Outcome<'a> = Result<Value<'a>, Failure>;

/// How deep lists in lists are written.
const MAX_DEPTH: usize = 32;
const MAX_RESULT: usize = 10 << 20;
/// Digits behind the point where a clause names none.
const PRECISION: usize = 6;

pub(super) const ROWS: &[Row] =
    &[(".format", "string_format", "string, list(dyn) -> string", format_text, Cost::Format)];

/// What a `%` asks for.
#[derive(Clone, Copy, Debug)]
pub(in crate::cel) enum Clause {
    Text,
    Decimal,
    Fixed(usize),
    /// The number is a width.
    Scientific(usize),
    Binary,
    Hex(bool),
    Octal,
}

impl Clause {
    /// Whether it writes values of such a type.
    pub(in crate::cel) fn takes(&self, of: &Type) -> bool {
        use Type::{
            Bool, Bytes, Double, Duration, Int, List, Map, Null, String as Text, Timestamp, Type as OfType, Uint,
        };
        match self {
            Self::Text => matches!(
                of,
                List(_) | Map(_) | Int | Uint | Double | Bool | Text | Timestamp | Bytes | Duration | OfType(_) | Null
            ),
            Self::Decimal | Self::Octal => matches!(of, Int | Uint),
            Self::Fixed(_) | Self::Scientific(_) => matches!(of, Double | Text),
            Self::Binary => matches!(of, Int | Uint | Bool),
            Self::Hex(_) => matches!(of, Int | Uint | Text | Bytes),
        }
    }

    /// What it says of another type.
    pub(in crate::cel) fn refusal(&self, given: &str) -> String {
        let can = match self {
            Self::Text => {
                "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps"
            }
            Self::Decimal => "decimal clause can only be used on integers",
            Self::Fixed(_) => "fixed-point clause can only be used on doubles",
            Self::Scientific(_) => "scientific clause can only be used on doubles",
            Self::Binary => "only integers and bools can be formatted as binary",
            Self::Hex(_) => "only integers, byte buffers, and strings can be formatted as hex",
            Self::Octal => "octal clause can only be used on integers",
        };
        format!("{can}, was given {given}")
    }
}

/// Each clause of a format with its place among the arguments. Err: what is wrong, and where, if not
/// with the format itself.
pub(in crate::cel) fn clauses<P>(
    format: &str,
    arguments: usize,
    mut each: impl FnMut(usize, Clause) -> Result<(), (Option<P>, String)>,
) -> Result<(), (Option<P>, String)> {
    parts(format, |part| match part {
        Part::Text(_) => Ok(()),
        Part::Clause(index, _) if index >= arguments => Err((None, format!("index {index} out of range"))),
        Part::Clause(index, clause) => match clause {
            Ok(clause) => each(index, clause),
            Err(error) => Err((None, error)),
        },
    })
}

enum Part<'f> {
    Text(&'f str),
    Clause(usize, Result<Clause, String>),
}

fn parts<'f, E>(format: &'f str, mut each: impl FnMut(Part<'f>) -> Result<(), E>) -> Result<(), E> {
    let mut rest = format;
    let mut index = 0;
    while let Some(place) = rest.find('%') {
        let (text, clause) = rest.split_at(place);
        each(Part::Text(text))?;
        if let Some(behind) = clause.strip_prefix("%%") {
            each(Part::Text("%"))?;
            rest = behind;
            continue;
        }
        match clause_at(&clause[1..]) {
            Ok((clause, behind)) => {
                each(Part::Clause(index, Ok(clause)))?;
                rest = behind;
            }
            Err(error) => return each(Part::Clause(index, Err(error))),
        }
        index += 1;
    }
    each(Part::Text(rest))
}

/// The clause behind a `%`, and what follows it.
fn clause_at(text: &str) -> Result<(Clause, &str), String> {
    if text.is_empty() {
        return Err("unexpected end of string".to_owned());
    }
    let wrong = |what: String| format!("could not parse formatting clause: {what}");
    let (precision, rest) = match text.strip_prefix('.') {
        None => (None, text),
        Some(rest) => {
            let end = rest.bytes().position(|byte| !byte.is_ascii_digit());
            let end = end.ok_or_else(|| {
                wrong("error while parsing precision: could not find end of precision specifier".to_owned())
            })?;
            let number: Result<i64, _> = rest[..end].parse();
            let number = number.map_err(|_| {
                let reason = if end == 0 { "invalid syntax" } else { "value out of range" };
                wrong(format!(
                    "error while parsing precision: error while converting precision to integer: strconv.Atoi: parsing {}: {reason}",
                    go_quote(&rest[..end])
                ))
            })?;
            (Some(usize::try_from(number).unwrap_or(0).min(MAX_RESULT)), &rest[end..])
        }
    };
    let precision = precision.unwrap_or(PRECISION);
    // A byte is taken for a character.
    let byte = char::from(rest.as_bytes()[0]);
    let clause = match byte {
        's' => Clause::Text,
        'd' => Clause::Decimal,
        'f' => Clause::Fixed(precision),
        'e' => Clause::Scientific(precision),
        'b' => Clause::Binary,
        'x' => Clause::Hex(false),
        'X' => Clause::Hex(true),
        'o' => Clause::Octal,
        other => return Err(wrong(format!("unrecognized formatting clause \"{other}\""))),
    };
    Ok((clause, &rest[1..]))
}

fn format_text<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let arguments = call.list(1)?;
    let mut out = String::new();
    parts(call.text(0)?, |part| {
        if out.len() > MAX_RESULT {
            return Err(too_large());
        }
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Clause(index, clause) => {
                let value = arguments.get(index).ok_or_else(|| Failure::new(format!("index {index} out of range")))?;
                one(&mut out, clause.map_err(Failure::new)?, &value)
                    .map_err(|error| Failure::new(format!("error during formatting: {error}")))?;
            }
        }
        Ok(())
    })?;
    Ok(out.into())
}

fn too_large() -> Failure {
    Failure::new(format!("a string of over {MAX_RESULT} bytes"))
}

fn one(out: &mut String, clause: Clause, value: &Value) -> Result<(), String> {
    match (clause, value) {
        (Clause::Text, value) => return text(out, value, 0),
        (Clause::Decimal, Value::Int(number)) => write_to(out, format_args!("{number}")),
        (Clause::Decimal, Value::Uint(number)) => write_to(out, format_args!("{number}")),
        (Clause::Fixed(precision), value) if let Some(number) = number(value) => fixed(out, number, precision),
        (Clause::Scientific(width), value) if let Some(number) = number(value) => scientific(out, number, width),
        (Clause::Binary, Value::Int(number)) if *number < 0 => {
            write_to(out, format_args!("-{:b}", number.unsigned_abs()));
        }
        (Clause::Binary, Value::Int(number)) => write_to(out, format_args!("{number:b}")),
        (Clause::Binary, Value::Uint(number)) => write_to(out, format_args!("{number:b}")),
        (Clause::Binary, Value::Bool(bool)) => out.push(if *bool { '1' } else { '0' }),
        (Clause::Octal, Value::Int(number)) if *number < 0 => {
            write_to(out, format_args!("-{:o}", number.unsigned_abs()));
        }
        (Clause::Octal, Value::Int(number)) => write_to(out, format_args!("{number:o}")),
        (Clause::Octal, Value::Uint(number)) => write_to(out, format_args!("{number:o}")),
        (Clause::Hex(upper), value) => {
            let hex = match value {
                Value::Int(number) if *number < 0 => format!("-{:x}", number.unsigned_abs()),
                Value::Int(number) => format!("{number:x}"),
                Value::Uint(number) => format!("{number:x}"),
                Value::String(text) => text.as_str().bytes().fold(String::new(), hex),
                Value::Bytes(bytes) => bytes.iter().copied().fold(String::new(), hex),
                other => return Err(clause.refusal(other.type_name())),
            };
            out.push_str(&if upper { hex.to_uppercase() } else { hex });
        }
        (clause, value) => return Err(clause.refusal(value.type_name())),
    }
    Ok(())
}

/// What has a point: a double, or the text of one that has no digits.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Double(number) => Some(*number),
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

/// Of what has no digits.
fn special(number: f64) -> Option<&'static str> {
    match number {
        number if number.is_nan() => Some("NaN"),
        f64::INFINITY => Some("∞"),
        f64::NEG_INFINITY => Some("-∞"),
        _ => None,
    }
}

/// With a comma before each three digits.
fn fixed(out: &mut String, number: f64, precision: usize) {
    if let Some(text) = special(number) {
        out.push_str(text);
        return;
    }
    let digits = format!("{:.precision$}", if number == 0.0 { 0.0 } else { number });
    let (sign, digits) = digits.strip_prefix('-').map_or(("", &*digits), |digits| ("-", digits));
    let (whole, fraction) = digits.split_once('.').map_or((digits, None), |(whole, fraction)| (whole, Some(fraction)));
    out.push_str(sign);
    for (index, digit) in whole.char_indices() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(fraction) = fraction {
        out.push('.');
        out.push_str(fraction);
    }
}

/// With a power of ten in raised digits.
fn scientific(out: &mut String, number: f64, width: usize) {
    let mut text = String::new();
    match special(number) {
        Some(special) => text.push_str(special),
        None => {
            let digits = format!("{:.PRECISION$e}", if number == 0.0 { 0.0 } else { number });
            let (digits, exponent) = digits.split_once('e').unwrap_or((&digits, "0"));
            let exponent: i32 = exponent.parse().unwrap_or_default();
            write_to(&mut text, format_args!("{digits}×10"));
            if exponent < 0 {
                text.push('⁻');
            }
            for digit in format!("{:02}", exponent.abs()).bytes() {
                text.extend("⁰¹²³⁴⁵⁶⁷⁸⁹".chars().nth(usize::from(digit - b'0')));
            }
        }
    }
    out.extend(std::iter::repeat_n(' ', width.saturating_sub(text.chars().count())));
    out.push_str(&text);
}

fn hex(mut out: String, byte: u8) -> String {
    write_to(&mut out, format_args!("{byte:02x}"));
    out
}

/// Into a string nothing fails.
fn write_to(out: &mut String, arguments: std::fmt::Arguments) {
    let _ = out.write_fmt(arguments);
}

fn text(out: &mut String, value: &Value, depth: usize) -> Result<(), String> {
    if depth > MAX_DEPTH || out.len() > MAX_RESULT {
        return Err("the value is too large to format".to_owned());
    }
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(bool) => write_to(out, format_args!("{bool}")),
        Value::Int(number) => write_to(out, format_args!("{number}")),
        Value::Uint(number) => write_to(out, format_args!("{number}")),
        Value::Double(number) => out.push_str(&double(*number)),
        Value::String(text) => out.push_str(text.as_str()),
        Value::Bytes(bytes) => out.push_str(std::str::from_utf8(bytes).map_err(|_| {
            "could not convert argument \"invalid UTF-8 in bytes, cannot convert to string\" to string".to_owned()
        })?),
        Value::Duration(nanoseconds) => write_to(out, format_args!("{}s", seconds(*nanoseconds))),
        Value::Timestamp(time) => write_to(out, format_args!("{time}")),
        Value::Type(name) => out.push_str(name),
        Value::List(list) => items(out, list, depth)?,
        Value::Map(map) => entries(out, map, depth)?,
        other => return Err(Clause::Text.refusal(other.type_name())),
    }
    Ok(())
}

/// Within a list or a map, where texts are quoted.
fn nested(out: &mut String, value: &Value, depth: usize) -> Result<(), String> {
    match value {
        Value::Double(number) if number.is_finite() => write_to(out, format_args!("{number:.PRECISION$}")),
        Value::Double(number) => write_to(out, format_args!("\"{}\"", double(*number))),
        Value::String(text) => out.push_str(&go_quote(text.as_str())),
        Value::Bytes(_) => {
            let mut plain = String::new();
            text(&mut plain, value, depth)?;
            write_to(out, format_args!("b{}", go_quote(&plain)));
        }
        Value::Duration(nanoseconds) => write_to(out, format_args!("duration(\"{}s\")", seconds(*nanoseconds))),
        Value::Timestamp(time) => write_to(out, format_args!("timestamp(\"{time}\")")),
        Value::Null
        | Value::Bool(_)
        | Value::Int(_)
        | Value::Uint(_)
        | Value::Type(_)
        | Value::List(_)
        | Value::Map(_) => text(out, value, depth)?,
        other => return Err(format!("no formatting function for {}", other.type_name())),
    }
    Ok(())
}

fn items(out: &mut String, list: &List, depth: usize) -> Result<(), String> {
    out.push('[');
    for (index, item) in list.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        nested(out, &item, depth + 1)?;
    }
    out.push(']');
    Ok(())
}

fn entries(out: &mut String, map: &Map, depth: usize) -> Result<(), String> {
    let mut pairs = Vec::new();
    for key in map.keys() {
        let (mut name, mut value) = (String::new(), String::new());
        nested(&mut name, &key, depth + 1)?;
        if let Some(found) = key.to_key().and_then(|key| map.get(&key)) {
            nested(&mut value, &found, depth + 1)?;
        }
        pairs.push((name, value));
    }
    pairs.sort();
    let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}:{value}")).collect();
    write_to(out, format_args!("{{{}}}", pairs.join(", ")));
    Ok(())
}
