//! Functions of strings: the standard ones, the strings extension, and regular expressions.

use super::operators::texts;
use crate::cel::Failure;
use crate::cel::evaluate::Call;
use crate::cel::overloads::{Cost, Row};
use crate::cel::regular_expression;
use crate::cel::value::Value;

type Outcome<'a> = Result<Value<'a>, Failure>;

/// What one call may make.
const MAX_RESULT: usize = 10 << 20;

pub(super) const ROWS: &[Row] = &[
    (".contains", "contains_string", "string, string -> bool", contains, Cost::Contains),
    (".startsWith", "starts_with_string", "string, string -> bool", starts_with, Cost::Read),
    (".endsWith", "ends_with_string", "string, string -> bool", ends_with, Cost::Read),
    ("matches", "matches", "string, string -> bool", matches, Cost::Regex),
    (".matches", "matches_string", "string, string -> bool", matches, Cost::Regex),
    (".find", "string_find_string", "string, string -> string", find, Cost::Regex),
    (".findAll", "string_find_all_string", "string, string -> list(string)", find_all, Cost::Regex),
    (".findAll", "string_find_all_string_int", "string, string, int -> list(string)", find_all, Cost::Regex),
    (".charAt", "string_char_at_int", "string, int -> string", char_at, Cost::One),
    (".indexOf", "string_index_of_string", "string, string -> int", index_of, Cost::Traverse),
    (".indexOf", "string_index_of_string_int", "string, string, int -> int", index_of, Cost::Traverse),
    (".lastIndexOf", "string_last_index_of_string", "string, string -> int", last_index_of, Cost::Traverse),
    (".lastIndexOf", "string_last_index_of_string_int", "string, string, int -> int", last_index_of, Cost::Traverse),
    (".lowerAscii", "string_lower_ascii", "string -> string", lower, Cost::Read),
    (".upperAscii", "string_upper_ascii", "string -> string", upper, Cost::Read),
    (".replace", "string_replace_string_string", "string, string, string -> string", replace, Cost::ReadTwice),
    (".replace", "string_replace_string_string_int", "string, string, string, int -> string", replace, Cost::ReadTwice),
    (".split", "string_split_string", "string, string -> list(string)", split, Cost::ReadTwice),
    (".split", "string_split_string_int", "string, string, int -> list(string)", split, Cost::ReadTwice),
    (".substring", "string_substring_int", "string, int -> string", substring, Cost::Read),
    (".substring", "string_substring_int_int", "string, int, int -> string", substring, Cost::Read),
    (".trim", "string_trim", "string -> string", trim, Cost::Read),
    (".join", "list_join", "list(string) -> string", join, Cost::Join),
    (".join", "list_join_string", "list(string), string -> string", join, Cost::Join),
    ("strings.quote", "strings_quote", "string -> string", quote, Cost::Read),
    ("jsonpatch.escapeKey", "string_jsonpatch_escapeKey_string", "string -> string", escape_key, Cost::Read),
];

fn contains<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(Value::Bool(call.text(0)?.contains(call.text(1)?)))
}

fn starts_with<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(Value::Bool(call.text(0)?.starts_with(call.text(1)?)))
}

fn ends_with<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(Value::Bool(call.text(0)?.ends_with(call.text(1)?)))
}

fn matches<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let expression = regular_expression(call.text(1)?).map_err(Failure::new)?;
    Ok(Value::Bool(expression.is_match(call.text(0)?)))
}

fn find<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let expression =
        regular_expression(call.text(1)?).map_err(|error| Failure::new(format!("Illegal regex: {error}")))?;
    Ok(expression.find(call.text(0)?).map_or("", |found| found.as_str()).into())
}

fn find_all<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let expression =
        regular_expression(call.text(1)?).map_err(|error| Failure::new(format!("Illegal regex: {error}")))?;
    let limit = if call.arguments.len() > 2 { call.int(2)? } else { -1 };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    Ok(texts(expression.find_iter(call.text(0)?).take(limit).map(|found| found.as_str().to_owned())))
}

fn out_of_range(index: i64) -> Failure {
    Failure::new(format!("index out of range: {index}"))
}

fn char_at<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let (text, index) = (call.text(0)?, call.int(1)?);
    let at = usize::try_from(index).map_err(|_| out_of_range(index))?;
    match text.chars().nth(at) {
        Some(character) => Ok(character.to_string().into()),
        None if at == text.chars().count() => Ok("".into()),
        None => Err(out_of_range(index)),
    }
}

/// Where characters of a text begin, and its end.
fn places(text: &str) -> Vec<usize> {
    text.char_indices().map(|(place, _)| place).chain([text.len()]).collect()
}

fn character_index(text: &str, place: usize) -> i64 {
    i64::try_from(text[..place].chars().count()).unwrap_or(i64::MAX)
}

fn index_of<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let (text, wanted) = (call.text(0)?, call.text(1)?);
    let offset = if call.arguments.len() > 2 { call.int(2)? } else { 0 };
    if wanted.is_empty() {
        return Ok(Value::Int(offset));
    }
    let Ok(offset) = usize::try_from(offset) else { return Err(out_of_range(offset)) };
    // Behind the end nothing is found.
    let start = text.char_indices().nth(offset).map(|(place, _)| place);
    let found = start.and_then(|start| Some(character_index(text, start + text[start..].find(wanted)?)));
    Ok(Value::Int(found.unwrap_or(-1)))
}

fn last_index_of<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let (text, wanted) = (call.text(0)?, call.text(1)?);
    let offset = if call.arguments.len() > 2 { Some(call.int(2)?) } else { None };
    if wanted.is_empty() {
        return Ok(Value::Int(offset.unwrap_or_else(|| character_index(text, text.len()))));
    }
    let end = match offset {
        None => text.len(),
        Some(offset) => {
            let Ok(offset) = usize::try_from(offset) else { return Err(out_of_range(offset)) };
            // What is found begins here at the latest.
            match text.char_indices().nth(offset) {
                Some((last, _)) => text.len().min(last + wanted.len()),
                None => return Ok(Value::Int(-1)),
            }
        }
    };
    let mut end = end;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Ok(Value::Int(text[..end].rfind(wanted).map_or(-1, |found| character_index(text, found))))
}

fn lower<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(call.text(0)?.to_ascii_lowercase().into())
}

fn upper<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(call.text(0)?.to_ascii_uppercase().into())
}

fn replace<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let (text, old, new) = (call.text(0)?, call.text(1)?, call.text(2)?);
    let limit = if call.arguments.len() > 3 { call.int(3)? } else { -1 };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let times = text.len().checked_div(old.len()).unwrap_or(text.len() + 1).min(limit);
    bounded(text.len().saturating_add(times.saturating_mul(new.len())))?;
    Ok(text.replacen(old, new, limit).into())
}

fn bounded(length: usize) -> Result<(), Failure> {
    if length > MAX_RESULT {
        return Err(Failure::new(format!("a string of {length} bytes exceeds the limit of {MAX_RESULT}")));
    }
    Ok(())
}

fn split<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let (text, separator) = (call.text(0)?, call.text(1)?);
    let limit = if call.arguments.len() > 2 { call.int(2)? } else { -1 };
    if limit == 0 {
        return Ok(Vec::new().into());
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if separator.is_empty() {
        let places = places(text);
        let mut parts = Vec::new();
        for (index, pair) in places.windows(2).enumerate() {
            if index + 1 == limit {
                parts.push(text[pair[0]..].to_owned());
                break;
            }
            parts.push(text[pair[0]..pair[1]].to_owned());
        }
        return Ok(texts(parts.into_iter()));
    }
    Ok(texts(text.splitn(limit, separator).map(str::to_owned)))
}

fn substring<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let (text, start) = (call.text(0)?, call.int(1)?);
    let places = places(text);
    let last = i64::try_from(places.len() - 1).unwrap_or(i64::MAX);
    let end = if call.arguments.len() > 2 { call.int(2)? } else { last };
    if call.arguments.len() > 2 && start > end {
        return Err(Failure::new(format!("invalid substring range. start: {start}, end: {end}")));
    }
    let place = |index: i64| {
        usize::try_from(index).ok().and_then(|index| places.get(index).copied()).ok_or_else(|| out_of_range(index))
    };
    Ok(text[place(start)?..place(end)?].into())
}

fn trim<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(call.text(0)?.trim().into())
}

fn join<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let separator = if call.arguments.len() > 1 { call.text(1)? } else { "" };
    let mut joined = String::new();
    for (index, item) in call.list(0)?.iter().enumerate() {
        let Some(text) = item.as_str() else {
            return Err(Failure::new(format!("join: invalid input: {}", super::convert::display(&item))));
        };
        if index > 0 {
            joined.push_str(separator);
        }
        joined.push_str(text);
        bounded(joined.len())?;
    }
    Ok(joined.into())
}

fn quote<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let mut quoted = String::from('"');
    for character in call.text(0)?.chars() {
        match character {
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    Ok(quoted.into())
}

fn escape_key<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(call.text(0)?.replace('~', "~0").replace('/', "~1").into())
}
