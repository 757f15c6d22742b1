//! URLs as Go's `net/url` takes them apart, with its errors, which Kubernetes shows.

use super::field::go_quote;

/// The parts of a URL that somebody asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Url<'a> {
    pub scheme: &'a str,
    pub user: Option<&'a str>,
    pub host: &'a str,
    pub query: &'a str,
    pub fragment: &'a str,
}

/// Err: `parse "::1": missing protocol scheme`
pub fn parse(text: &str) -> Result<Url<'_>, String> {
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    parts(rest, fragment).map_err(|error| format!("parse {}: {error}", go_quote(rest)))
}

fn parts<'a>(text: &'a str, fragment: &'a str) -> Result<Url<'a>, String> {
    if text.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
        return Err("net/url: invalid control character in URL".to_owned());
    }
    let (scheme, rest) = scheme(text)?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut url = Url { scheme, user: None, host: "", query, fragment };
    if !rest.starts_with('/') {
        if scheme.is_empty() && rest.split('/').next().is_some_and(|segment| segment.contains(':')) {
            return Err("first path segment in URL cannot contain colon".to_owned());
        }
        // `scheme:opaque`
        return if scheme.is_empty() { escapes(rest).map(|()| url) } else { Ok(url) };
    }
    let mut path = rest;
    if let Some(after) = rest.strip_prefix("//").filter(|_| !scheme.is_empty() || !rest.starts_with("///")) {
        let end = after.find('/').unwrap_or(after.len());
        path = &after[end..];
        let authority = &after[..end];
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        check_host(host)?;
        if let Some(user) = user {
            let is_good = |c: char| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c);
            if !user.chars().all(is_good) {
                return Err("net/url: invalid userinfo".to_owned());
            }
            escapes(user)?;
        }
        (url.user, url.host) = (user, host);
    }
    escapes(path)?;
    Ok(url)
}

/// The scheme and what is behind its colon.
fn scheme(text: &str) -> Result<(&str, &str), String> {
    for (index, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if index > 0 => {}
            ':' if index == 0 => return Err("missing protocol scheme".to_owned()),
            ':' => return Ok((&text[..index], &text[index + 1..])),
            _ => return Ok(("", text)),
        }
    }
    Ok(("", text))
}

fn check_host(host: &str) -> Result<(), String> {
    let port = match host.rfind(']') {
        Some(end) if host.starts_with('[') => &host[end + 1..],
        None if host.starts_with('[') => return Err("missing ']' in host".to_owned()),
        _ => host.rfind(':').map_or("", |at| &host[at..]),
    };
    let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit()));
    if !is_port {
        return Err(format!("invalid port {} after host", go_quote(port)));
    }
    let is_good = |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || "-_.~!$&'()*+,;=:[]<>\"%".contains(c);
    if let Some(bad) = host.chars().find(|c| !is_good(*c)) {
        return Err(format!("invalid character {} in host name", go_quote(&bad.to_string())));
    }
    escapes(host)
}

fn escapes(text: &str) -> Result<(), String> {
    let bytes = text.as_bytes();
    for (index, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%') {
        let digits = bytes.get(index + 1..index + 3);
        if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            let shown = String::from_utf8_lossy(&bytes[index..bytes.len().min(index + 3)]).into_owned();
            return Err(format!("invalid URL escape {}", go_quote(&shown)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_errors_are_those_of_go() {
        let url = parse("https://u:p@host:1/p?q#f").unwrap();
        let expected = Url { scheme: "https", user: Some("u:p"), host: "host:1", query: "q", fragment: "f" };
        assert_eq!(url, expected);
        for (text, error) in [
            ("::1", "missing protocol scheme"),
            ("1:x", "first path segment in URL cannot contain colon"),
            ("https://a b/", "invalid character \" \" in host name"),
            ("https://[::1", "missing ']' in host"),
            ("https://h:x/", "invalid port \":x\" after host"),
            ("https://h/%z", "invalid URL escape \"%z\""),
        ] {
            assert_eq!(parse(text), Err(format!("parse {text:?}: {error}")));
        }
    }
}
