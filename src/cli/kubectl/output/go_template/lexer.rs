//! The words of an action.

use super::{Result, position};
use serde_json::{Value, json};

#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    Dot,
    Field(String),
    Variable(String),
    /// A function, `if`, `nil` …
    Word(String),
    Constant(Value),
    Pipe,
    Open,
    Close,
    Comma,
    Assign,
    Declare,
}

#[derive(Clone, Debug)]
pub struct Lexeme {
    pub token: Token,
    /// In the template.
    pub at: usize,
    pub end: usize,
    /// Nothing stands between it and the one before.
    pub joined: bool,
}

/// A piece of a template.
pub enum Piece {
    Text(String),
    Action(Vec<Lexeme>, usize),
}

/// Texts and actions, trimmed where `{{-` and `-}}` ask for it.
pub fn pieces(text: &str) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    let (mut at, mut trim) = (0, false);
    loop {
        let open = text[at..].find("{{").map(|found| at + found);
        let mut between = &text[at..open.unwrap_or(text.len())];
        if trim {
            between = between.trim_start_matches(SPACES);
        }
        let Some(open) = open else {
            pieces.push(Piece::Text(between.to_owned()));
            return Ok(pieces);
        };
        let mut start = open + 2;
        if text[start..].starts_with('-') && text[start + 1..].starts_with(SPACES) {
            between = between.trim_end_matches(SPACES);
            start += 1;
        }
        pieces.push(Piece::Text(between.to_owned()));
        let inner = text[start..].trim_start_matches(SPACES);
        if inner.starts_with("/*") {
            let begin = text.len() - inner.len();
            let close = inner.find("*/").ok_or_else(|| at_line(text, begin, "unclosed comment"))?;
            let rest = &inner[close + 2..];
            trim = rest.starts_with(" -}}");
            let end = if trim { " -}}" } else { "}}" };
            let rest =
                rest.strip_prefix(end).ok_or_else(|| at_line(text, begin, "comment ends before closing delimiter"))?;
            at = text.len() - rest.len();
            continue;
        }
        let (lexemes, end, trims) = action(text, start)?;
        pieces.push(Piece::Action(lexemes, open));
        (at, trim) = (end, trims);
    }
}

const SPACES: [char; 4] = [' ', '\t', '\r', '\n'];

fn at_line(text: &str, at: usize, what: &str) -> String {
    format!("template: output:{}: {what}", position(text, at).0)
}

/// The words up to the braces, where those end, and whether what follows is trimmed.
fn action(text: &str, start: usize) -> Result<(Vec<Lexeme>, usize, bool)> {
    let mut lexemes: Vec<Lexeme> = Vec::new();
    let mut at = start;
    loop {
        let rest = &text[at..];
        let spaces = rest.len() - rest.trim_start_matches(SPACES).len();
        if spaces > 0 && rest[spaces..].starts_with("-}}") {
            return Ok((lexemes, at + spaces + 3, true));
        }
        at += spaces;
        let rest = &text[at..];
        if rest.starts_with("}}") {
            return Ok((lexemes, at + 2, false));
        }
        let (token, length) = word(rest).map_err(|what| at_line(text, at, &what))?;
        let joined = lexemes.last().is_some_and(|last| last.end == at);
        lexemes.push(Lexeme { token, at, end: at + length, joined });
        at += length;
    }
}

fn word(rest: &str) -> Result<(Token, usize)> {
    let Some(first) = rest.chars().next() else { return Err("unclosed action".to_owned()) };
    let name = |text: &str| {
        let end = text.find(|c: char| !(c == '_' || c.is_alphanumeric())).unwrap_or(text.len());
        text[..end].to_owned()
    };
    Ok(match first {
        '|' => (Token::Pipe, 1),
        '(' => (Token::Open, 1),
        ')' => (Token::Close, 1),
        ',' => (Token::Comma, 1),
        '=' => (Token::Assign, 1),
        ':' if rest.starts_with(":=") => (Token::Declare, 2),
        ':' => return Err("expected :=".to_owned()),
        '"' => quoted(rest)?,
        '`' => {
            let end = rest[1..].find('`').ok_or("unterminated raw quoted string")?;
            (Token::Constant(rest[1..=end].into()), end + 2)
        }
        '\'' => {
            let (token, length) = character(rest)?;
            (Token::Constant(json!(token)), length)
        }
        '$' => {
            let name = name(&rest[1..]);
            let length = 1 + name.len();
            (Token::Variable(name), length)
        }
        '.' if !rest[1..].starts_with(|c: char| c.is_ascii_digit()) => match name(&rest[1..]) {
            name if name.is_empty() => (Token::Dot, 1),
            name => {
                let length = 1 + name.len();
                (Token::Field(name), length)
            }
        },
        '.' | '+' | '-' | '0'..='9' => number(rest)?,
        c if c == '_' || c.is_alphabetic() => {
            let name = name(rest);
            let length = name.len();
            (Token::Word(name), length)
        }
        c => return Err(format!("unexpected {} in action", crate::api::field::go_quote(&c.to_string()))),
    })
}

fn number(rest: &str) -> Result<(Token, usize)> {
    let mut end = 0;
    for (at, c) in rest.char_indices() {
        let sign = matches!(c, '+' | '-') && (at == 0 || rest[..at].ends_with(['e', 'E']));
        if !(sign || c == '.' || c == '_' || c.is_ascii_alphanumeric()) {
            break;
        }
        end = at + 1;
    }
    let text = &rest[..end];
    let bare = text.replace('_', "");
    let (negative, digits) = match bare.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, bare.strip_prefix('+').unwrap_or(&bare)),
    };
    let whole = [("0x", 16), ("0o", 8), ("0b", 2)]
        .iter()
        .find_map(|(prefix, radix)| Some(i64::from_str_radix(digits.to_lowercase().strip_prefix(prefix)?, *radix).ok()))
        .unwrap_or_else(|| digits.parse().ok());
    let value = match whole {
        Some(whole) => json!(if negative { -whole } else { whole }),
        None => {
            let float: f64 = bare.parse().map_err(|_| format!("bad number syntax: {text:?}"))?;
            json!(float)
        }
    };
    Ok((Token::Constant(value), end))
}

fn quoted(rest: &str) -> Result<(Token, usize)> {
    let mut out = String::new();
    let mut at = 1;
    loop {
        let c = rest[at..].chars().next().filter(|c| *c != '\n').ok_or("unterminated quoted string")?;
        match c {
            '"' => return Ok((Token::Constant(out.into()), at + 1)),
            '\\' => {
                let (c, length) = escaped(&rest[at..])?;
                out.push(c);
                at += length;
            }
            c => {
                out.push(c);
                at += c.len_utf8();
            }
        }
    }
}

/// `'a'`: its number.
fn character(rest: &str) -> Result<(u32, usize)> {
    let unterminated = "unterminated character constant";
    let c = rest[1..].chars().next().ok_or(unterminated)?;
    let (c, length) = if c == '\\' { escaped(&rest[1..])? } else { (c, c.len_utf8()) };
    if !rest[1 + length..].starts_with('\'') {
        return Err(unterminated.to_owned());
    }
    Ok((u32::from(c), length + 2))
}

/// What a backslash and what stands behind it mean, and how long both are.
fn escaped(rest: &str) -> Result<(char, usize)> {
    let bad = || "invalid syntax".to_owned();
    let kind = rest[1..].chars().next().ok_or_else(bad)?;
    let digits = |count: usize| {
        let text = rest.get(2..2 + count).ok_or_else(bad)?;
        let number = u32::from_str_radix(text, 16).map_err(|_| bad())?;
        Ok::<_, String>((char::from_u32(number).ok_or_else(bad)?, 2 + count))
    };
    Ok(match kind {
        'n' => ('\n', 2),
        't' => ('\t', 2),
        'r' => ('\r', 2),
        '\\' | '"' | '\'' => (kind, 2),
        'x' => digits(2)?,
        'u' => digits(4)?,
        'U' => digits(8)?,
        _ => return Err(bad()),
    })
}
