//! Links of proxied pages: what a page behind a proxy says of its own host must lead through the
//! proxy. [`Pages`] rewrites a page as it streams by; a tag that is too long to be one is left alone.
//! Source: `k8s.io/apimachinery/pkg/util/proxy`.

/// What a page is seen as.
#[derive(Clone, Debug)]
pub struct Links {
    /// The path of the proxy: `/api/v1/namespaces/a/pods/web/proxy`.
    pub prefix: String,
    /// How the page knows its own host.
    pub behind: String,
    /// The host that the client asked.
    pub asked: String,
}

/// Attributes that are URLs, by tag.
const URLS: &[(&str, &[&str])] = &[
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];

/// Tags whose content is text until their end.
const RAW: &[&str] =
    &["iframe", "noembed", "noframes", "noscript", "plaintext", "script", "style", "textarea", "title", "xmp"];

/// A tag is held until it is whole; a longer one is none.
const LONGEST_TAG: usize = 64 << 10;

impl Links {
    /// Where a URL leads to through the proxy. None: where it led before.
    pub fn rewrite(&self, url: &str) -> Option<String> {
        if url.bytes().any(|byte| byte.is_ascii_control()) || has_bad_escape(url) {
            return None;
        }
        let (scheme, rest) = scheme(url);
        let (host, rest) = match rest.strip_prefix("//") {
            Some(rest) => {
                let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
                (authority, rest)
            }
            None => ("", rest),
        };
        let (path, tail) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
        let name = host.rsplit_once('@').map_or(host, |(_, name)| name);
        let foreign = !name.is_empty() && name != self.behind && name != self.asked;
        if foreign || !path.starts_with('/') {
            return None;
        }
        let origin = match (name.is_empty() || name != self.asked, scheme) {
            (true, _) => String::new(),
            (false, "") => format!("//{host}"),
            (false, scheme) => format!("{scheme}:{}{host}", "//"),
        };
        let path = if path.starts_with(&self.prefix) { path.to_owned() } else { join(&self.prefix, path) };
        Some(format!("{origin}{path}{tail}"))
    }
}

fn has_bad_escape(url: &str) -> bool {
    let hex = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
    let bytes = url.as_bytes();
    bytes.iter().enumerate().any(|(at, byte)| *byte == b'%' && !(hex(bytes.get(at + 1)) && hex(bytes.get(at + 2))))
}

fn scheme(url: &str) -> (&str, &str) {
    match url.split_once(':') {
        Some((scheme, rest))
            if scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) =>
        {
            (scheme, rest)
        }
        _ => ("", url),
    }
}

/// One path below another, without `.`, `..` and empty parts; a slash at the end stays.
fn join(prefix: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in prefix.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let slash = if path.ends_with('/') && !parts.is_empty() { "/" } else { "" };
    format!("/{}{slash}", parts.join("/"))
}

/// A page on its way through.
pub struct Pages {
    links: Links,
    held: Vec<u8>,
    /// What ends the text that is passed on as it is; empty: markup.
    until: Vec<u8>,
}

impl Pages {
    pub fn new(links: Links) -> Self {
        // The values that it is put before are escaped as they are.
        let links = Links { prefix: escape(&links.prefix), ..links };
        Self { links, held: Vec::new(), until: Vec::new() }
    }

    /// What can be passed on by now.
    pub fn push(&mut self, chunk: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(chunk);
        let held = std::mem::take(&mut self.held);
        let mut out = Vec::with_capacity(held.len());
        let rest = self.scan(&held, &mut out);
        self.held = rest.to_vec();
        out
    }

    /// The rest.
    pub fn finish(self) -> Vec<u8> {
        self.held
    }

    fn scan<'a>(&mut self, mut rest: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        loop {
            if !self.until.is_empty() {
                let Some(at) = find(rest, &self.until) else {
                    // The end may have begun.
                    let safe = rest.len().saturating_sub(self.until.len() - 1);
                    out.extend_from_slice(&rest[..safe]);
                    return &rest[safe..];
                };
                let end = at + self.until.len();
                out.extend_from_slice(&rest[..end]);
                rest = &rest[end..];
                self.until.clear();
            }
            let Some(at) = rest.iter().position(|byte| *byte == b'<') else {
                out.extend_from_slice(rest);
                return &[];
            };
            out.extend_from_slice(&rest[..at]);
            rest = &rest[at..];
            if b"<!--".starts_with(&rest[..rest.len().min(4)]) {
                if rest.len() < 4 {
                    return rest;
                }
                out.extend_from_slice(&rest[..4]);
                rest = &rest[4..];
                self.until = b"-->".to_vec();
                continue;
            }
            if !rest[1].is_ascii_alphabetic() {
                out.push(b'<');
                rest = &rest[1..];
                continue;
            }
            match tag_end(rest) {
                Some(end) => {
                    self.tag(&rest[..end], out);
                    rest = &rest[end..];
                }
                None if rest.len() < LONGEST_TAG => return rest,
                None => {
                    out.push(b'<');
                    rest = &rest[1..];
                }
            }
        }
    }

    /// A whole start tag.
    fn tag(&mut self, tag: &[u8], out: &mut Vec<u8>) {
        let length = tag[1..].iter().position(|byte| ends_name(*byte)).unwrap_or(tag.len() - 1);
        let name = String::from_utf8_lossy(&tag[1..=length]).to_ascii_lowercase();
        if RAW.contains(&name.as_str()) && !tag.ends_with(b"/>") {
            self.until = format!("</{name}").into_bytes();
        }
        let urls = URLS.iter().find(|(tag, _)| *tag == name).map_or(&[][..], |(_, urls)| urls);
        let mut copied = 0;
        for attribute in attributes(tag, 1 + length) {
            let name = String::from_utf8_lossy(&tag[attribute.name.clone()]).to_ascii_lowercase();
            let Ok(value) = std::str::from_utf8(&tag[attribute.value.clone()]) else { continue };
            if !urls.contains(&name.as_str()) {
                continue;
            }
            let Some(target) = self.links.rewrite(value) else { continue };
            out.extend_from_slice(&tag[copied..attribute.value.start]);
            if attribute.quoted {
                out.extend_from_slice(target.as_bytes());
            } else {
                out.extend_from_slice(format!("\"{}\"", target.replace('"', "&#34;")).as_bytes());
            }
            copied = attribute.value.end;
        }
        out.extend_from_slice(&tag[copied..]);
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '\'' => escaped.push_str("&#39;"),
            '"' => escaped.push_str("&#34;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            other => escaped.push(other),
        }
    }
    escaped
}

fn ends_name(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b'/' | b'>')
}

/// Without regard to case.
fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    text.windows(needle.len()).position(|window| window.eq_ignore_ascii_case(needle))
}

/// Behind the `>` of a tag; one in quotes is none.
fn tag_end(tag: &[u8]) -> Option<usize> {
    let mut quote = None;
    let mut value = false;
    for (at, &byte) in tag.iter().enumerate() {
        match quote {
            Some(open) if byte == open => quote = None,
            Some(_) => {}
            None if byte == b'>' => return Some(at + 1),
            None if value && matches!(byte, b'"' | b'\'') => {
                quote = Some(byte);
                value = false;
            }
            None if !byte.is_ascii_whitespace() => value = byte == b'=',
            None => {}
        }
    }
    None
}

struct Attribute {
    name: std::ops::Range<usize>,
    value: std::ops::Range<usize>,
    quoted: bool,
}

/// Those with a value, from `at` on.
fn attributes(tag: &[u8], mut at: usize) -> Vec<Attribute> {
    let skip = |mut at: usize, skipped: fn(u8) -> bool| {
        while at < tag.len() && skipped(tag[at]) {
            at += 1;
        }
        at
    };
    let space = |byte: u8| byte.is_ascii_whitespace();
    let mut found = Vec::new();
    while at < tag.len() {
        at = skip(at, |byte| byte.is_ascii_whitespace() || byte == b'/');
        let name = at..skip(at, |byte| !ends_name(byte) && byte != b'=');
        at = skip(name.end, space);
        if tag.get(at) != Some(&b'=') {
            // A `>`, or an attribute without a value; what is neither is stepped over.
            at = at.max(name.start + 1);
            continue;
        }
        at = skip(at + 1, space);
        let quote = tag.get(at).copied().filter(|byte| matches!(byte, b'"' | b'\''));
        let value = match quote {
            Some(quote) => {
                let end = tag[at + 1..].iter().position(|byte| *byte == quote).map_or(tag.len(), |end| at + 1 + end);
                at + 1..end
            }
            None => at..skip(at, |byte| !byte.is_ascii_whitespace() && byte != b'>'),
        };
        at = value.end + usize::from(quote.is_some());
        found.push(Attribute { name, value, quoted: quote.is_some() });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> Links {
        Links { prefix: "/p/proxy".into(), behind: "10.42.0.9:80".into(), asked: "api:6443".into() }
    }

    #[test]
    fn urls_of_the_page_itself_lead_through_the_proxy() {
        let check = |url: &str, expected: Option<&str>| assert_eq!(links().rewrite(url).as_deref(), expected, "{url}");
        check("/rewriteme", Some("/p/proxy/rewriteme"));
        check("/a/../b/?x=/1#y", Some("/p/proxy/b/?x=/1#y"));
        check("/", Some("/p/proxy/"));
        check("http://10.42.0.9:80/a", Some("/p/proxy/a"));
        check("//10.42.0.9:80/a", Some("/p/proxy/a"));
        check("https://api:6443/a", Some("https://api:6443/p/proxy/a"));
        check("https://api:6443/p/proxy/a", Some("https://api:6443/p/proxy/a"));
        check("/p/proxy/a", Some("/p/proxy/a"));
        for other in ["a/b", "", "#top", "?q", "http://example.com/a", "mailto:a@b", "/a%zz", "/a\nb"] {
            check(other, None);
        }
    }

    #[test]
    fn pages_are_rewritten_in_any_pieces() {
        let page = "<!DOCTYPE html><html><!-- <a href=\"/no\"> --><head><script src='/s.js'>if (a<b) '<a href=\"/no\">'\
                    </SCRIPT><title><a href=\"/no\"></title></head><body>1 < 2 <A class=x HREF = \"/yes?a=1&amp;b=2\">x</a>\
                    <img src=/i.png alt='>'><img src=\"data:image/png;base64,/x\"><a name=\"/no\" href=rel>y</a><form action=\"\"><br/></body>";
        let expected = page
            .replace("'/s.js'", "'/p/proxy/s.js'")
            .replace("\"/yes?", "\"/p/proxy/yes?")
            .replace("src=/i.png", "src=\"/p/proxy/i.png\"");
        for size in [1, 2, 7, 64, page.len()] {
            let mut pages = Pages::new(links());
            let mut out = Vec::new();
            for chunk in page.as_bytes().chunks(size) {
                out.extend(pages.push(chunk));
            }
            out.extend(pages.finish());
            assert_eq!(String::from_utf8_lossy(&out), expected, "in pieces of {size}");
        }
    }

    #[test]
    fn the_prefix_cannot_leave_its_quotes() {
        let mut pages = Pages::new(Links { prefix: "/p'\"><x/proxy".into(), ..links() });
        let out = pages.push(b"<a href='/a'><a href=/b>");
        assert_eq!(
            String::from_utf8_lossy(&out),
            "<a href='/p&#39;&#34;&gt;&lt;x/proxy/a'><a href=\"/p&#39;&#34;&gt;&lt;x/proxy/b\">"
        );
    }

    #[test]
    fn what_never_ends_is_passed_on() {
        let mut pages = Pages::new(links());
        let endless = [b"<a ".as_slice(), &[b'x'; LONGEST_TAG]].concat();
        assert_eq!(pages.push(&endless), endless);
        let mut pages = Pages::new(links());
        assert!(pages.push(b"<a href=\"/x").is_empty());
        assert_eq!(pages.finish(), b"<a href=\"/x");
    }
}
