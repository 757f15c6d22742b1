//! The place of a piece of work in a trace: W3C's `traceparent` and `tracestate`.

use http::{HeaderMap, HeaderName, HeaderValue};
use std::fmt::Write;

pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

const SAMPLED: u8 = 1;
/// A longer one may be dropped.
const STATE_LIMIT: usize = 512;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    pub trace: [u8; 16],
    pub span: [u8; 8],
    pub flags: u8,
    /// What vendors added; passed on as it came.
    pub state: Option<HeaderValue>,
}

/// Digits in lower case, as many as fill the bytes; not all zero.
fn id<const N: usize>(text: &str) -> Option<[u8; N]> {
    let bytes = hex::<N>(text)?;
    bytes.iter().any(|byte| *byte != 0).then_some(bytes)
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut out = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (pair, byte) in text.as_bytes().chunks_exact(2).zip(&mut out) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

impl Context {
    /// None: there is none, or it is none that counts.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get(TRACEPARENT)?.to_str().ok()?;
        let mut parts = text.split('-');
        let version = hex::<1>(parts.next()?)?[0];
        let (trace, span) = (id(parts.next()?)?, id(parts.next()?)?);
        let flags = hex::<1>(parts.next()?)?[0];
        // Later versions may say more behind it.
        if version == 0xff || version == 0 && parts.next().is_some() {
            return None;
        }
        let state = headers.get(TRACESTATE).filter(|state| state.len() <= STATE_LIMIT).cloned();
        Some(Self { trace, span, flags: flags & SAMPLED, state })
    }

    /// The begin of a trace.
    pub fn root(samples: impl FnOnce(&[u8; 16]) -> bool) -> Self {
        let trace: [u8; 16] = rand::random();
        let flags = if samples(&trace) { SAMPLED } else { 0 };
        Self { trace, span: rand::random(), flags, state: None }
    }

    pub fn child(&self) -> Self {
        Self { span: rand::random(), ..self.clone() }
    }

    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    pub fn put(&self, headers: &mut HeaderMap) {
        let mut text = String::with_capacity(55);
        let mut hex =
            |bytes: &[u8]| bytes.iter().for_each(|byte| write!(text, "{byte:02x}").expect("a String takes it"));
        hex(&[0]);
        hex(&self.trace);
        hex(&self.span);
        hex(&[self.flags]);
        for at in [2, 35, 52] {
            text.insert(at, '-');
        }
        headers.insert(TRACEPARENT, HeaderValue::try_from(text).expect("digits"));
        match &self.state {
            Some(state) => headers.insert(TRACESTATE, state.clone()),
            None => headers.remove(TRACESTATE),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<Context> {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_str(text).expect("a header"));
        Context::of(&headers)
    }

    #[test]
    fn headers_are_those_of_w3c() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = of(text).expect("a context");
        assert!(context.is_sampled() && context.trace[0] == 0x4b && context.span[7] == 0xb7);
        let mut headers = HeaderMap::new();
        headers.insert(TRACESTATE, HeaderValue::from_static("old=1"));
        context.put(&mut headers);
        assert_eq!((headers[TRACEPARENT].to_str().expect("digits"), headers.get(TRACESTATE)), (text, None));
        // A later version may have more behind it, and only the flag that is known is kept.
        let later = of("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-fe-more").expect("a context");
        assert!(!later.is_sampled());
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
