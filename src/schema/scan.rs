//! Reads JSON text piece by piece, with the syntax and the error texts of Go's `encoding/json`.
//!
//! [`Scanner`] only says that the text is wrong; [`syntax_error`] then reads it again as Go's
//! scanner does and says how. Nesting is bounded by [`MAX_DEPTH`], below what readers of stored
//! objects accept.

use serde_json::{Map, Number, Value};
use std::borrow::Cow;

/// Deeper objects are refused. `serde_json` reads 128.
pub const MAX_DEPTH: u32 = 120;

/// The text is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syntax;

pub type Scan<T> = Result<T, Syntax>;

pub struct Scanner<'a> {
    bytes: &'a [u8],
    /// All of it, if it is UTF-8: strings need not be looked at one by one.
    text: Option<&'a str>,
    at: usize,
    depth: u32,
}

/// What a value starts with; decides all that follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    Null,
    Bool(bool),
    Number,
    String,
    Array,
    Object,
}

impl<'a> Scanner<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, text: std::str::from_utf8(bytes).ok(), at: 0, depth: 0 }
    }

    fn space(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\n' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    /// The next value's kind. Null and booleans are consumed, and the bracket of an array or object.
    pub fn token(&mut self) -> Scan<Token> {
        self.space();
        match self.bytes.get(self.at).ok_or(Syntax)? {
            b'"' => Ok(Token::String),
            b'{' => self.open(Token::Object),
            b'[' => self.open(Token::Array),
            b't' => self.literal(b"true", Token::Bool(true)),
            b'f' => self.literal(b"false", Token::Bool(false)),
            b'n' => self.literal(b"null", Token::Null),
            b'-' | b'0'..=b'9' => Ok(Token::Number),
            _ => Err(Syntax),
        }
    }

    fn open(&mut self, token: Token) -> Scan<Token> {
        self.at += 1;
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(Syntax) } else { Ok(token) }
    }

    fn literal(&mut self, text: &[u8], token: Token) -> Scan<Token> {
        if !self.bytes[self.at..].starts_with(text) {
            return Err(Syntax);
        }
        self.at += text.len();
        Ok(token)
    }

    /// After [`Token::Object`], before each member: its key, with the colon consumed.
    pub fn key(&mut self, first: bool) -> Scan<Option<Cow<'a, str>>> {
        self.space();
        match self.bytes.get(self.at).ok_or(Syntax)? {
            b'}' => {
                self.at += 1;
                self.depth -= 1;
                return Ok(None);
            }
            b',' if !first => {
                self.at += 1;
                self.space();
            }
            _ if first => {}
            _ => return Err(Syntax),
        }
        let key = self.string()?;
        self.space();
        if self.bytes.get(self.at) != Some(&b':') {
            return Err(Syntax);
        }
        self.at += 1;
        Ok(Some(key))
    }

    /// After [`Token::Array`], before each element: whether there is one.
    pub fn element(&mut self, first: bool) -> Scan<bool> {
        self.space();
        match self.bytes.get(self.at).ok_or(Syntax)? {
            b']' => {
                self.at += 1;
                self.depth -= 1;
                Ok(false)
            }
            b',' if !first => {
                self.at += 1;
                Ok(true)
            }
            _ if first => Ok(true),
            _ => Err(Syntax),
        }
    }

    /// At a `"`.
    pub fn string(&mut self) -> Scan<Cow<'a, str>> {
        if self.bytes.get(self.at) != Some(&b'"') {
            return Err(Syntax);
        }
        let start = self.at + 1;
        let at = plain_end(self.bytes, start);
        match self.bytes.get(at).ok_or(Syntax)? {
            b'"' => {}
            b'\\' => return self.escaped(start, at),
            _ => return Err(Syntax),
        }
        self.at = at + 1;
        Ok(match self.text {
            Some(text) => text[start..at].into(),
            None => String::from_utf8_lossy(&self.bytes[start..at]),
        })
    }

    fn escaped(&mut self, start: usize, mut at: usize) -> Scan<Cow<'a, str>> {
        let mut out = Vec::with_capacity(at - start + 32);
        out.extend_from_slice(&self.bytes[start..at]);
        let mut utf8 = [0; 4];
        loop {
            match *self.bytes.get(at).ok_or(Syntax)? {
                b'"' => break,
                b'\\' => {
                    let escape = *self.bytes.get(at + 1).ok_or(Syntax)?;
                    at += 2;
                    let byte = match escape {
                        b'"' | b'\\' | b'/' => escape,
                        b'b' => 8,
                        b'f' => 12,
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        b'u' => {
                            let mut code = self.hex(at)?;
                            at += 4;
                            if (0xd800..0xdc00).contains(&code) && self.bytes[at..].starts_with(b"\\u") {
                                let low = self.hex(at + 2)?;
                                if (0xdc00..0xe000).contains(&low) {
                                    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                                    at += 6;
                                }
                            }
                            let c = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                            out.extend_from_slice(c.encode_utf8(&mut utf8).as_bytes());
                            continue;
                        }
                        _ => return Err(Syntax),
                    };
                    out.push(byte);
                }
                0..0x20 => return Err(Syntax),
                byte => {
                    out.push(byte);
                    at += 1;
                }
            }
        }
        self.at = at + 1;
        Ok(match String::from_utf8(out) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        }
        .into())
    }

    fn hex(&self, at: usize) -> Scan<u32> {
        let digits = self.bytes.get(at..at + 4).ok_or(Syntax)?;
        digits.iter().try_fold(0, |code, &digit| Ok(code << 4 | (digit as char).to_digit(16).ok_or(Syntax)?))
    }

    /// At a number: its text.
    pub fn number(&mut self) -> Scan<&'a str> {
        let start = self.at;
        let digits = |scanner: &mut Self| {
            let from = scanner.at;
            while matches!(scanner.bytes.get(scanner.at), Some(b'0'..=b'9')) {
                scanner.at += 1;
            }
            if scanner.at == from { Err(Syntax) } else { Ok(()) }
        };
        if self.bytes.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        if self.bytes.get(self.at) == Some(&b'0') {
            self.at += 1;
        } else {
            digits(self)?;
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            digits(self)?;
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.bytes.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            digits(self)?;
        }
        std::str::from_utf8(&self.bytes[start..self.at]).map_err(|_| Syntax)
    }

    /// The text of the next value, whatever it is.
    pub fn raw(&mut self) -> Scan<&'a [u8]> {
        self.space();
        let start = self.at;
        let token = self.token()?;
        self.skip(token)?;
        Ok(&self.bytes[start..self.at])
    }

    /// The rest of a value that started with `token`.
    pub fn skip(&mut self, token: Token) -> Scan<()> {
        match token {
            Token::Null | Token::Bool(_) => {}
            Token::Number => {
                self.number()?;
            }
            Token::String => {
                self.string()?;
            }
            Token::Array => {
                let mut first = true;
                while self.element(first)? {
                    first = false;
                    let token = self.token()?;
                    self.skip(token)?;
                }
            }
            Token::Object => {
                let mut first = true;
                while self.key(first)?.is_some() {
                    first = false;
                    let token = self.token()?;
                    self.skip(token)?;
                }
            }
        }
        Ok(())
    }

    /// The rest of a value that started with `token`, of any shape. `duplicate` hears of keys that
    /// come again; the last value counts.
    pub fn value(&mut self, token: Token, duplicate: &mut dyn FnMut(&[Cow<str>])) -> Scan<Value> {
        self.any(token, &mut Vec::new(), duplicate)
    }

    fn any(&mut self, token: Token, path: &mut Vec<Step<'a>>, duplicate: &mut dyn FnMut(&[Cow<str>])) -> Scan<Value> {
        Ok(match token {
            Token::Null => Value::Null,
            Token::Bool(value) => Value::Bool(value),
            Token::Number => Value::Number(number(self.number()?)),
            Token::String => Value::String(self.string()?.into_owned()),
            Token::Array => {
                let mut list = Vec::new();
                while self.element(list.is_empty())? {
                    let token = self.token()?;
                    path.push(Step::Index(list.len()));
                    list.push(self.any(token, path, duplicate)?);
                    path.pop();
                }
                Value::Array(list)
            }
            Token::Object => {
                let mut map = Map::new();
                let mut first = true;
                while let Some(key) = self.key(first)? {
                    first = false;
                    let token = self.token()?;
                    path.push(Step::Key(key.clone()));
                    let value = self.any(token, path, duplicate)?;
                    if map.insert(key.into_owned(), value).is_some() {
                        duplicate(&path.iter().map(Step::shown).collect::<Vec<_>>());
                    }
                    path.pop();
                }
                Value::Object(map)
            }
        })
    }

    /// After the top-level value: nothing may follow.
    pub fn end(&mut self) -> Scan<()> {
        self.space();
        if self.at == self.bytes.len() { Ok(()) } else { Err(Syntax) }
    }
}

/// A step of the way to a value.
enum Step<'a> {
    Key(Cow<'a, str>),
    Index(usize),
}

impl Step<'_> {
    fn shown(&self) -> Cow<'_, str> {
        match self {
            Self::Key(key) => key.as_ref().into(),
            Self::Index(index) => format!("[{index}]").into(),
        }
    }
}

/// Where the first byte is, from `at` on, that is no plain part of a string: a quote, a backslash, a control
/// character, or the end.
fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let equal = |word: u64, byte: u8| zero(word ^ (ONES * u64::from(byte)));
    let is_less = |word: u64, byte: u8| word.wrapping_sub(ONES * u64::from(byte)) & !word & HIGH;
    while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        // The lowest byte is the first; what it borrows from those above it comes after it.
        let word = u64::from_le_bytes(*word);
        let found = equal(word, b'"') | equal(word, b'\\') | is_less(word, 0x20);
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let is_plain = |byte: &u8| !matches!(byte, b'"' | b'\\' | 0..0x20);
    at + bytes.get(at..).unwrap_or_default().iter().take_while(|byte| is_plain(byte)).count()
}

/// Whole numbers stay whole; others are floating point.
pub fn number(text: &str) -> Number {
    if let Ok(value) = text.parse::<i64>() {
        return value.into();
    }
    if let Ok(value) = text.parse::<u64>() {
        return value.into();
    }
    let float = text.parse::<f64>().unwrap_or_default();
    Number::from_f64(float).unwrap_or_else(|| Number::from_f64(f64::MAX.copysign(float)).expect("finite"))
}

/// A whole text of any shape.
pub fn parse(bytes: &[u8]) -> Result<Value, String> {
    let mut scanner = Scanner::new(bytes);
    let mut read = || {
        let token = scanner.token()?;
        let value = scanner.value(token, &mut |_| {})?;
        scanner.end().map(|()| value)
    };
    read().map_err(|Syntax| syntax_error(bytes).unwrap_or_else(|| "invalid JSON".to_owned()))
}

/// Which text the scanner waits for, as Go's scanner names it.
#[derive(Clone, Copy, PartialEq)]
enum Expect {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    Colon,
    Comma,
}

/// What Go says of a text that is not JSON; None: it is.
pub fn syntax_error(bytes: &[u8]) -> Option<String> {
    const END: &str = "unexpected end of JSON input";
    let wrong = |at: usize, context: &str| match bytes.get(at) {
        Some(&byte) => Some(format!("invalid character {} {context}", quote(byte))),
        None => Some(END.to_owned()),
    };
    let mut stack: Vec<u8> = Vec::new();
    let mut expect = Expect::Value;
    let mut at = 0;
    let mut done = false;
    loop {
        while matches!(bytes.get(at), Some(b' ' | b'\n' | b'\t' | b'\r')) {
            at += 1;
        }
        let Some(&byte) = bytes.get(at) else {
            return if done { None } else { Some(END.to_owned()) };
        };
        if done {
            return wrong(at, "after top-level value");
        }
        let mut ended = false;
        match expect {
            Expect::Colon if byte == b':' => expect = Expect::Value,
            Expect::Colon => return wrong(at, "after object key"),
            Expect::Key | Expect::KeyOrEnd if byte == b'"' => match string_end(bytes, at + 1) {
                Ok(end) => {
                    at = end;
                    expect = Expect::Colon;
                }
                Err((at, context)) => return wrong(at, context),
            },
            Expect::KeyOrEnd if byte == b'}' => ended = true,
            Expect::Key | Expect::KeyOrEnd => return wrong(at, "looking for beginning of object key string"),
            Expect::Comma => match (stack.last(), byte) {
                (Some(b'{'), b',') => expect = Expect::Key,
                (Some(b'['), b',') => expect = Expect::Value,
                (Some(b'{'), b'}') | (Some(b'['), b']') => ended = true,
                (Some(b'{'), _) => return wrong(at, "after object key:value pair"),
                _ => return wrong(at, "after array element"),
            },
            Expect::ValueOrEnd if byte == b']' => ended = true,
            Expect::Value | Expect::ValueOrEnd => {
                expect = Expect::Comma;
                match byte {
                    b'{' | b'[' => {
                        if stack.len() as u32 >= MAX_DEPTH {
                            return wrong(at, "exceeded max depth");
                        }
                        stack.push(byte);
                        expect = if byte == b'{' { Expect::KeyOrEnd } else { Expect::ValueOrEnd };
                    }
                    _ => match scalar_end(bytes, at) {
                        Ok(end) => {
                            at = end;
                            done = stack.is_empty();
                        }
                        Err((at, context)) => return wrong(at, &context),
                    },
                }
            }
        }
        if ended {
            stack.pop();
            expect = Expect::Comma;
            done = stack.is_empty();
        }
        at += 1;
    }
}

/// The last byte of a string that starts before `at`.
fn string_end(bytes: &[u8], mut at: usize) -> Result<usize, (usize, &'static str)> {
    loop {
        match bytes.get(at) {
            Some(b'"') => return Ok(at),
            Some(b'\\') => {
                at += 1;
                match bytes.get(at) {
                    Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {}
                    Some(b'u') => {
                        for _ in 0..4 {
                            at += 1;
                            if !bytes.get(at).is_some_and(u8::is_ascii_hexdigit) {
                                return Err((at, "in \\u hexadecimal character escape"));
                            }
                        }
                    }
                    _ => return Err((at, "in string escape code")),
                }
            }
            None | Some(0..0x20) => return Err((at, "in string literal")),
            _ => {}
        }
        at += 1;
    }
}

/// The last byte of a string, number or literal.
fn scalar_end(bytes: &[u8], start: usize) -> Result<usize, (usize, String)> {
    let owned = |(at, context): (usize, &str)| (at, context.to_owned());
    match bytes[start] {
        b'"' => return string_end(bytes, start + 1).map_err(owned),
        b't' | b'f' | b'n' => {
            let literal: &[u8] = match bytes[start] {
                b't' => b"true",
                b'f' => b"false",
                _ => b"null",
            };
            for (offset, &expected) in literal.iter().enumerate() {
                if bytes.get(start + offset) != Some(&expected) {
                    let name = String::from_utf8_lossy(literal);
                    return Err((start + offset, format!("in literal {name} (expecting '{}')", expected as char)));
                }
            }
            return Ok(start + literal.len() - 1);
        }
        b'-' | b'0'..=b'9' => {}
        _ => return Err((start, "looking for beginning of value".to_owned())),
    }
    let mut at = start;
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let digits = |mut at: usize| {
        while digit(at) {
            at += 1;
        }
        at
    };
    if bytes[at] == b'-' {
        at += 1;
        if !digit(at) {
            return Err(owned((at, "in numeric literal")));
        }
    }
    at = if bytes[at] == b'0' { at + 1 } else { digits(at) };
    if bytes.get(at) == Some(&b'.') {
        at += 1;
        if !digit(at) {
            return Err(owned((at, "after decimal point in numeric literal")));
        }
        at = digits(at);
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        at += 1;
        if matches!(bytes.get(at), Some(b'+' | b'-')) {
            at += 1;
        }
        if !digit(at) {
            return Err(owned((at, "in exponent of numeric literal")));
        }
        at = digits(at);
    }
    Ok(at - 1)
}

fn quote(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        0..0x20 | 0x7f if !matches!(byte, 7..=13) => format!("'\\x{byte:02x}'"),
        _ => {
            let quoted = crate::api::field::go_quote(&char::from(byte).to_string());
            format!("'{}'", &quoted[1..quoted.len() - 1])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::json;

    fn check(texts: &[&str], expect: Expect) {
        let lines: Vec<String> = texts
            .iter()
            .map(|text| {
                let error = syntax_error(text.as_bytes());
                assert_eq!(error.is_some(), parse(text.as_bytes()).is_err(), "both readers agree on {text:?}");
                format!("{text}  =>  {}\n", error.as_deref().unwrap_or("ok"))
            })
            .collect();
        expect.assert_eq(&lines.concat());
    }

    #[test]
    fn strings_end_where_they_end() {
        for length in 0..20 {
            for end in 0..=u8::MAX {
                let mut text = vec![b'x'; length];
                // Neighbours of what ends a string, which a borrow must not make one.
                text.extend([end, b'#', b'!', 0x80, b']', b'[', 0x20, 0xff, end]);
                let plain = |byte: &u8| *byte != b'"' && *byte != b'\\' && *byte >= 0x20;
                let wanted = text.iter().position(|byte| !plain(byte)).unwrap_or(text.len());
                assert_eq!(plain_end(&text, 0), wanted, "{length} and {end}");
                assert_eq!(plain_end(&text, text.len() + 1), text.len() + 1);
            }
        }
    }

    #[test]
    fn texts_that_are_not_utf8_are_mended_as_go_does() {
        for (text, value) in [
            (b"[\"a\xffb\",\"\xc3\xa9\"]".as_slice(), json!(["a\u{fffd}b", "\u{e9}"])),
            (b"[\"\xc3\xa9\\n\"]", json!(["\u{e9}\n"])),
        ] {
            assert_eq!(parse(text), Ok(value));
        }
    }

    #[test]
    fn errors_are_gos() {
        check(
            &[
                "{",
                "",
                "{\"a\":1,}",
                "[1,]",
                "{\"a\" 1}",
                "{\"a\":1 \"b\":2}",
                "[1 2]",
                "{} x",
                "nul",
                "-x",
                "1.x",
                "1e+",
                "\"\\q\"",
                "\"\\u12g4\"",
                "\"a\nb\"",
                "{'a':1}",
                "01",
                "{\"a\":[1,2,{\"b\":null}],\"c\":-1.5e3}",
                " 7 ",
            ],
            expect![[r#"
                {  =>  unexpected end of JSON input
                  =>  unexpected end of JSON input
                {"a":1,}  =>  invalid character '}' looking for beginning of object key string
                [1,]  =>  invalid character ']' looking for beginning of value
                {"a" 1}  =>  invalid character '1' after object key
                {"a":1 "b":2}  =>  invalid character '"' after object key:value pair
                [1 2]  =>  invalid character '2' after array element
                {} x  =>  invalid character 'x' after top-level value
                nul  =>  unexpected end of JSON input
                -x  =>  invalid character 'x' in numeric literal
                1.x  =>  invalid character 'x' after decimal point in numeric literal
                1e+  =>  unexpected end of JSON input
                "\q"  =>  invalid character 'q' in string escape code
                "\u12g4"  =>  invalid character 'g' in \u hexadecimal character escape
                "a
                b"  =>  invalid character '\n' in string literal
                {'a':1}  =>  invalid character '\'' looking for beginning of object key string
                01  =>  invalid character '1' after top-level value
                {"a":[1,2,{"b":null}],"c":-1.5e3}  =>  ok
                 7   =>  ok
            "#]],
        );
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = "[".repeat(MAX_DEPTH as usize + 1);
        assert_eq!(syntax_error(deep.as_bytes()).as_deref(), Some("invalid character '[' exceeded max depth"));
        let deep = format!("{}{}", "[".repeat(MAX_DEPTH as usize), "]".repeat(MAX_DEPTH as usize));
        assert!(parse(deep.as_bytes()).is_ok());
    }

    #[test]
    fn strings_are_unescaped_as_go_does() {
        let text = r#"["a\u00e9\n", "\ud83d\ude00", "\ud83d", "\/"]"#;
        assert_eq!(parse(text.as_bytes()).expect("JSON"), serde_json::json!(["aé\n", "😀", "\u{fffd}", "/"]));
        assert_eq!(parse(b"\"\xff\"").expect("Go takes it"), serde_json::json!("\u{fffd}"));
    }

    #[test]
    fn keys_that_come_again_are_told() {
        let mut seen = Vec::new();
        let mut scanner = Scanner::new(br#"{"a":{"b":1,"b":2},"l":[{"x":1,"x":1}]}"#);
        let token = scanner.token().expect("an object");
        scanner.value(token, &mut |path| seen.push(path.join("/"))).expect("JSON");
        assert_eq!(seen, ["a/b", "l/[0]/x"]);
    }
}
