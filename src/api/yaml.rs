//! Objects as YAML, in the style that Kubernetes prints: keys sorted, lists not indented, strings
//! plain where they cannot be misread, long ones folded.
//!
//! Which style a string takes is that of Go's `yaml.v2`, so that the output of kubectl and of the
//! API server can be compared line by line.

pub mod read;

use serde_json::{Map, Value};

/// A line is folded at the next space behind this column.
const BEST_WIDTH: usize = 80;
/// A longer key is written as an explicit one: `? key`.
const LONGEST_KEY: usize = 128;

/// One document, with a newline at its end.
pub fn print(value: &Value) -> String {
    let mut emitter = Emitter { out: String::new(), column: 0 };
    match value {
        Value::Object(fields) if !fields.is_empty() => emitter.mapping(fields, 0),
        Value::Array(items) if !items.is_empty() => emitter.sequence(items, 0),
        value => {
            emitter.scalar(value, 2);
            emitter.newline();
        }
    }
    emitter.out
}

struct Emitter {
    out: String,
    /// Characters in the current line.
    column: usize,
}

impl Emitter {
    fn put(&mut self, text: &str) {
        self.out.push_str(text);
        self.column += text.chars().count();
    }

    fn put_char(&mut self, c: char) {
        self.out.push(c);
        self.column += 1;
    }

    fn newline(&mut self) {
        self.out.push('\n');
        self.column = 0;
    }

    /// To this column; the first key of a list's item stands behind its dash already.
    fn indent(&mut self, indent: usize) {
        while self.column < indent {
            self.put_char(' ');
        }
    }

    fn mapping(&mut self, fields: &Map<String, Value>, indent: usize) {
        for (key, value) in fields {
            self.indent(indent);
            if key.chars().count() > LONGEST_KEY {
                self.put("? ");
                self.string(key, indent + 2, true);
                self.newline();
                self.indent(indent);
            } else {
                self.string(key, indent + 2, true);
            }
            self.put_char(':');
            match value {
                Value::Object(fields) if !fields.is_empty() => {
                    self.newline();
                    self.mapping(fields, indent + 2);
                }
                Value::Array(items) if !items.is_empty() => {
                    self.newline();
                    self.sequence(items, indent);
                }
                value => {
                    self.put_char(' ');
                    self.scalar(value, indent + 2);
                    self.newline();
                }
            }
        }
    }

    fn sequence(&mut self, items: &[Value], indent: usize) {
        for value in items {
            self.indent(indent);
            self.put("- ");
            match value {
                Value::Object(fields) if !fields.is_empty() => self.mapping(fields, indent + 2),
                Value::Array(items) if !items.is_empty() => self.sequence(items, indent + 2),
                value => {
                    self.scalar(value, indent + 2);
                    self.newline();
                }
            }
        }
    }

    fn scalar(&mut self, value: &Value, indent: usize) {
        match value {
            Value::String(text) => self.string(text, indent, false),
            Value::Object(_) => self.put("{}"),
            Value::Array(_) => self.put("[]"),
            value => self.put(&value.to_string()),
        }
    }

    /// `indent`: of the lines that follow the first.
    fn string(&mut self, text: &str, indent: usize, key: bool) {
        let allowed = Allowed::of(text);
        let wanted = if text.contains('\n') {
            Style::Literal
        } else if is_other(text) {
            Style::Double
        } else {
            Style::Plain
        };
        match wanted {
            Style::Literal if allowed.block && !key => self.literal(text, indent),
            Style::Plain if allowed.plain => self.folded(text, indent, key, |c, out| out.push(c)),
            Style::Plain if allowed.single => {
                self.put_char('\'');
                self.folded(text, indent, key, |c, out| {
                    out.push(c);
                    if c == '\'' {
                        out.push(c);
                    }
                });
                self.put_char('\'');
            }
            _ => self.double(text, indent, key),
        }
    }

    /// A long text goes on in the next line behind a lone space, which the line's end stands for.
    fn folded(&mut self, text: &str, indent: usize, key: bool, write: impl Fn(char, &mut String)) {
        let mut before_space = false;
        let mut chars = text.chars().enumerate().peekable();
        let mut buffer = String::new();
        while let Some((at, c)) = chars.next() {
            let lone = chars.peek().is_some_and(|(_, next)| *next != ' ') && at > 0;
            if c == ' ' && !key && !before_space && lone && self.column > BEST_WIDTH {
                self.newline();
                self.indent(indent);
            } else {
                buffer.clear();
                write(c, &mut buffer);
                self.put(&buffer);
            }
            before_space = c == ' ';
        }
    }

    /// A block of lines as they are.
    fn literal(&mut self, text: &str, indent: usize) {
        self.put_char('|');
        if text.starts_with([' ', '\n']) {
            self.put_char('2');
        }
        if !text.ends_with('\n') {
            self.put_char('-');
        } else if text.ends_with("\n\n") || text == "\n" {
            self.put_char('+');
        }
        for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
            self.newline();
            if !line.is_empty() {
                self.indent(indent);
                self.put(line);
            }
        }
    }

    fn double(&mut self, text: &str, indent: usize, key: bool) {
        self.put_char('"');
        let mut before_space = false;
        let mut chars = text.chars().enumerate().peekable();
        while let Some((at, c)) = chars.next() {
            match c {
                ' ' if !key && !before_space && at > 0 && chars.peek().is_some() && self.column > BEST_WIDTH => {
                    self.newline();
                    self.indent(indent);
                    if chars.peek().is_some_and(|(_, next)| *next == ' ') {
                        self.put_char('\\');
                    }
                }
                '"' | '\\' => {
                    self.put_char('\\');
                    self.put_char(c);
                }
                c if is_printable(c) => self.put_char(c),
                c => self.put(&escape(c)),
            }
            before_space = c == ' ';
        }
        self.put_char('"');
    }
}

enum Style {
    Plain,
    Literal,
    Double,
}

/// The styles that can hold a text without changing it.
struct Allowed {
    plain: bool,
    single: bool,
    block: bool,
}

impl Allowed {
    fn of(text: &str) -> Self {
        let mut allowed = Self { plain: true, single: true, block: true };
        let blank = |c: Option<char>| c.is_none_or(|c| matches!(c, ' ' | '\t' | '\n' | '\r'));
        if text.is_empty() {
            return Self { block: false, ..allowed };
        }
        if text.starts_with("---") || text.starts_with("...") {
            allowed.plain = false;
        }
        let mut previous: Option<char> = None;
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let indicator = match (c, previous) {
                ('#', Some(before)) => blank(Some(before)),
                (':', _) => blank(chars.peek().copied()),
                ('?' | '-', None) => blank(chars.peek().copied()),
                (_, None) => "#,[]{}&*!|>'\"%@`".contains(c),
                _ => false,
            };
            if indicator || c == '\n' {
                allowed.plain = false;
            }
            if !is_printable(c) && c != '\n' || (c == '\n' && previous == Some(' ')) {
                return Self { plain: false, single: false, block: false };
            }
            if c == ' ' && previous == Some('\n') {
                allowed.plain = false;
                allowed.single = false;
            }
            previous = Some(c);
        }
        if text.starts_with([' ', '\n']) || text.ends_with([' ', '\n']) {
            allowed.plain = false;
        }
        if text.ends_with(' ') {
            allowed.block = false;
        }
        allowed
    }
}

/// A tab is not, to Go's printer.
fn is_printable(c: char) -> bool {
    matches!(c, ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}')
        && !matches!(c, '\u{2028}' | '\u{2029}')
        || c as u32 > 0xffff
}

fn escape(c: char) -> String {
    let short = match c {
        '\0' => '0',
        '\u{7}' => 'a',
        '\u{8}' => 'b',
        '\t' => 't',
        '\n' => 'n',
        '\u{b}' => 'v',
        '\u{c}' => 'f',
        '\r' => 'r',
        '\u{1b}' => 'e',
        '\u{85}' => 'N',
        '\u{a0}' => '_',
        '\u{2028}' => 'L',
        '\u{2029}' => 'P',
        c if (c as u32) <= 0xff => return format!("\\x{:02X}", c as u32),
        c if (c as u32) <= 0xffff => return format!("\\u{:04X}", c as u32),
        c => return format!("\\U{:08X}", c as u32),
    };
    format!("\\{short}")
}

/// Whether a reader would take it for something else than a string: YAML 1.1's words, numbers and
/// times.
fn is_other(text: &str) -> bool {
    const WORDS: &[&str] = &["", "~", "null", "y", "n", "yes", "no", "on", "off", "true", "false"];
    const NUMBERS: &[&str] = &[".nan", ".inf", "+.inf", "-.inf"];
    let lower = text.to_ascii_lowercase();
    if text == "<<" || WORDS.iter().any(|word| is_word(text, word)) || NUMBERS.contains(&lower.as_str()) {
        return true;
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) {
        return false;
    }
    let digits = lower.replace('_', "");
    if text.starts_with('.') {
        return is_float(&lower);
    }
    is_integer(&digits) || is_float(&digits) || is_base_60(&lower) || is_time(text)
}

/// `true`, `True` or `TRUE`; not `tRue`.
fn is_word(text: &str, word: &str) -> bool {
    let tail = text.get(1..).unwrap_or_default();
    let capital = text.starts_with(|c: char| c.is_ascii_uppercase());
    let even = tail == tail.to_ascii_lowercase() || tail == tail.to_ascii_uppercase();
    text == word || text.eq_ignore_ascii_case(word) && capital && even
}

fn is_integer(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (digits, radix) = match unsigned.get(..2) {
        Some("0x") => (&unsigned[2..], 16),
        Some("0b") => (&unsigned[2..], 2),
        Some("0o") => (&unsigned[2..], 8),
        _ => (unsigned, 10),
    };
    !digits.starts_with(['+', '-'])
        && u128::from_str_radix(digits, radix).is_ok_and(|value| value <= u128::from(u64::MAX))
}

fn is_float(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.chars().all(|c| c.is_ascii_digit() || "+-.e".contains(c))
        && unsigned.parse::<f64>().is_ok()
}

/// `10:30`, as YAML 1.1 reads times of day.
fn is_base_60(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let whole = unsigned.split_once('.').map_or(unsigned, |(whole, _)| whole);
    let mut parts = whole.split(':');
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit() || c == b'_');
    parts.next().is_some_and(digits)
        && whole.contains(':')
        && parts.all(|part| digits(part) && part.parse::<u8>().is_ok_and(|part| part < 60) && part.len() < 3)
}

/// `2026-11-20`, `2026-11-20T21:55:47Z`
fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    let year = bytes.get(..4).is_some_and(|part| part.iter().all(u8::is_ascii_digit)) && bytes.get(4) == Some(&b'-');
    year && (text.parse::<jiff::civil::Date>().is_ok() && text.len() <= 10
        || text.to_ascii_uppercase().parse::<jiff::Timestamp>().is_ok()
        || text.contains(' ') && text.parse::<jiff::civil::DateTime>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    #[test]
    fn prints_as_kubernetes_does() {
        let value = json!({
            "kind": "ConfigMap", "empty": {}, "none": [], "null": null, "number": 3, "list": [["a"], {"b": 1, "c": [2]}],
            "metadata": {"creationTimestamp": "2026-11-20T21:55:39Z", "labels": {"app.kubernetes.io/name": "yes", "v": "1.5"}},
            "data": {"a": "x: y", "b": "- x", "c": "-x", "d": "it's", "e": "line\nline\n", "f": "no end\nhere", "g": "",
                "h": "a:b", "i": "10:30", "j": "tab\there", "k": "space \nbreak", "l": " first\n", "m": "'q' it's", "n": "\u{7}",
                "o": "0x1f", "p": "0x", "q": "1e3", "s": "TRUE", "t": "12:90", "u": "a #b", "v": "a#b"}
        });
        expect![[r#"
            data:
              a: 'x: y'
              b: '- x'
              c: -x
              d: it's
              e: |
                line
                line
              f: |-
                no end
                here
              g: ""
              h: a:b
              i: "10:30"
              j: "tab\there"
              k: "space \nbreak"
              l: |2
                 first
              m: '''q'' it''s'
              "n": "\a"
              o: "0x1f"
              p: 0x
              q: "1e3"
              s: "TRUE"
              t: 12:90
              u: 'a #b'
              v: a#b
            empty: {}
            kind: ConfigMap
            list:
            - - a
            - b: 1
              c:
              - 2
            metadata:
              creationTimestamp: "2026-11-20T21:55:39Z"
              labels:
                app.kubernetes.io/name: "yes"
                v: "1.5"
            none: []
            "null": null
            number: 3
        "#]]
        .assert_eq(&print(&value));
        let back: Value = serde_saphyr::from_str(&print(&value)).expect("YAML");
        assert_eq!(back, value);
    }

    #[test]
    fn long_texts_are_folded_and_read_back() {
        let words = "Failed to pull image: ".to_owned() + &"rpc error code ".repeat(8) + "end";
        let value =
            json!({"items": [{"message": words, "plain": "word ".repeat(30) + "end", "tab": "a\tb ".repeat(30)}]});
        expect![[r#"
            items:
            - message: 'Failed to pull image: rpc error code rpc error code rpc error code rpc
                error code rpc error code rpc error code rpc error code rpc error code end'
              plain: word word word word word word word word word word word word word word word
                word word word word word word word word word word word word word word word end
              tab: "a\tb a\tb a\tb a\tb a\tb a\tb a\tb a\tb a\tb a\tb a\tb a\tb a\tb a\tb a\tb
                a\tb a\tb a\tb a\tb a\tb a\tb a\tb a\tb a\tb a\tb a\tb a\tb a\tb a\tb a\tb "
        "#]]
        .assert_eq(&print(&value));
        let back: Value = serde_saphyr::from_str(&print(&value)).expect("YAML");
        assert_eq!(back, value);
    }
}
