//! Absolute URLs and paths, as Go's `net/url` reads them.

use super::no_such_overload;
use super::operators::texts;
use crate::cel::Failure;
use crate::cel::evaluate::Call;
use crate::cel::overloads::{Cost, Row};
use crate::cel::value::{Key, Map, Value};
use percent_encoding::percent_decode_str;
use std::collections::BTreeMap;
use std::sync::Arc;

type Outcome<'a> = Result<Value<'a>, Failure>;

#[derive(Debug, PartialEq, Eq)]
pub struct Url {
    scheme: String,
    user: Option<String>,
    host: String,
    path: String,
    query: String,
    fragment: String,
}

pub(super) const ROWS: &[Row] = &[
    ("url", "string_to_url", "string -> URL", parse, Cost::Read),
    ("isURL", "is_url_string", "string -> bool", is_url, Cost::Read),
    (".getScheme", "url_get_scheme", "URL -> string", |call| part(call, |url| url.scheme.clone()), Cost::One),
    (".getHost", "url_get_host", "URL -> string", |call| part(call, |url| url.host.clone()), Cost::One),
    (".getHostname", "url_get_hostname", "URL -> string", |call| part(call, |url| url.split_host().0), Cost::One),
    (".getPort", "url_get_port", "URL -> string", |call| part(call, |url| url.split_host().1), Cost::One),
    (".getEscapedPath", "url_get_escaped_path", "URL -> string", |call| part(call, Url::escaped_path), Cost::One),
    (".getQuery", "url_get_query", "URL -> map(string, list(string))", query, Cost::One),
];

impl Url {
    /// Absolute: with a scheme, or a path from the root.
    pub(in crate::cel) fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("parse {text:?}: {what}");
        if text.chars().any(|c| c.is_ascii_control()) {
            return Err(wrong("net/url: invalid control character in URL"));
        }
        if text.is_empty() {
            return Err(wrong("empty url"));
        }
        let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (scheme, rest) = scheme(rest).map_err(wrong)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if !rest.starts_with('/') {
            if scheme.is_empty() {
                return Err(wrong("invalid URI for request"));
            }
            // Opaque: `mailto:a@b`.
            let url = Self { user: None, host: String::new(), path: String::new(), ..Self::empty() };
            return Ok(Self { scheme, query: query.to_owned(), fragment: fragment.to_owned(), ..url });
        }
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) if !scheme.is_empty() => match rest.find('/') {
                Some(slash) => rest.split_at(slash),
                None => (rest, ""),
            },
            _ => ("", rest),
        };
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user.to_owned()), host),
            None => (None, authority),
        };
        check_host(host).map_err(|what| wrong(&what))?;
        check_escapes(path).map_err(|what| wrong(&what))?;
        Ok(Self {
            scheme,
            user,
            host: host.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            fragment: fragment.to_owned(),
        })
    }

    fn empty() -> Self {
        let none = String::new;
        Self { scheme: none(), user: None, host: none(), path: none(), query: none(), fragment: none() }
    }

    /// Host and port, without brackets.
    fn split_host(&self) -> (String, String) {
        if let Some(rest) = self.host.strip_prefix('[') {
            let (host, port) = rest.split_once(']').unwrap_or((rest, ""));
            return (host.to_owned(), port.trim_start_matches(':').to_owned());
        }
        let (host, port) = self.host.rsplit_once(':').unwrap_or((&self.host, ""));
        (host.to_owned(), port.to_owned())
    }

    fn escaped_path(&self) -> String {
        use std::fmt::Write;
        let mut escaped = String::with_capacity(self.path.len());
        for byte in self.path.bytes() {
            let plain = byte.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:@/%[]".contains(&byte);
            if plain {
                escaped.push(char::from(byte));
            } else {
                let _ = write!(escaped, "%{byte:02X}");
            }
        }
        escaped
    }
}

fn scheme(text: &str) -> Result<(String, &str), &'static str> {
    for (index, character) in text.char_indices() {
        match character {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if index > 0 => {}
            ':' if index == 0 => return Err("missing protocol scheme"),
            ':' => return Ok((text[..index].to_ascii_lowercase(), &text[index + 1..])),
            _ => break,
        }
    }
    Ok((String::new(), text))
}

fn check_host(host: &str) -> Result<(), String> {
    let port = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or("missing ']' in host")?.1,
        None => host.rfind(':').map_or("", |colon| &host[colon..]),
    };
    let digits = port.strip_prefix(':').unwrap_or(port);
    if (!port.is_empty() && !port.starts_with(':')) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("invalid port {port:?} after host"));
    }
    if let Some(bad) = host.chars().find(|c| " \"<>\\^`{|}".contains(*c)) {
        return Err(format!("invalid character {:?} in host name", bad.to_string()));
    }
    check_escapes(host)
}

fn check_escapes(text: &str) -> Result<(), String> {
    let mut rest = text;
    while let Some(place) = rest.find('%') {
        let escape = &rest.as_bytes()[place..];
        if escape.len() < 3 || !escape[1].is_ascii_hexdigit() || !escape[2].is_ascii_hexdigit() {
            let shown: String = rest[place..].chars().take(3).collect();
            return Err(format!("invalid URL escape {shown:?}"));
        }
        rest = &rest[place + 3..];
    }
    Ok(())
}

fn parse<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let url = Url::parse(call.text(0)?);
    url.map(|url| Value::Url(Arc::new(url)))
        .map_err(|error| Failure::new(format!("URL parse error during conversion from string: {error}")))
}

fn is_url<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(Value::Bool(Url::parse(call.text(0)?).is_ok()))
}

fn given<'c, 'a>(call: &'c Call<'a, '_>) -> Result<&'c Url, Failure> {
    match &call.arguments[0] {
        Value::Url(url) => Ok(url),
        _ => Err(no_such_overload()),
    }
}

fn part<'a>(call: &Call<'a, '_>, part: fn(&Url) -> String) -> Outcome<'a> {
    Ok(part(given(call)?).into())
}

fn query<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    let mut values: BTreeMap<Key, Vec<String>> = BTreeMap::new();
    for pair in given(call)?.query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decode = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        values.entry(Key::String(decode(name).into())).or_default().push(decode(value));
    }
    let entries = values.into_iter().map(|(name, values)| (name, texts(values.into_iter()))).collect();
    Ok(Value::Map(Map::Made(Arc::new(entries))))
}
