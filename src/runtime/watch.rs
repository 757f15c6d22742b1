//! The frames of a watch: one JSON object per line.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use kube::client::Body;
use serde::Deserialize;
use serde_json::value::RawValue;

/// No object is larger than a tenth of this; a longer line is not a watch.
const MAX_LINE: usize = 32 << 20;

/// Splits a response body into lines.
pub struct Lines<B = Body> {
    body: B,
    buffer: BytesMut,
    /// Up to here no line end was found.
    scanned: usize,
}

impl<B: http_body::Body<Data = Bytes, Error: std::fmt::Display> + Unpin> Lines<B> {
    pub fn new(body: B) -> Self {
        Self { body, buffer: BytesMut::new(), scanned: 0 }
    }

    /// None: the stream ended. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Bytes>, WatchError> {
        loop {
            if let Some(offset) = memchr::memchr(b'\n', &self.buffer[self.scanned..]) {
                let line = self.buffer.split_to(self.scanned + offset + 1).freeze();
                self.scanned = 0;
                return Ok(Some(line));
            }
            self.scanned = self.buffer.len();
            if self.buffer.len() > MAX_LINE {
                return Err(WatchError::TooLong);
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(WatchError::Body(error.to_string())),
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    // Mostly it is one line, and need not be put together.
                    if self.buffer.is_empty() && memchr::memchr(b'\n', &data).is_some_and(|end| end + 1 == data.len()) {
                        return Ok(Some(data));
                    }
                    self.buffer.extend_from_slice(&data);
                }
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error("a watch event is longer than {MAX_LINE} bytes")]
    TooLong,
    #[error("the watch broke: {0}")]
    Body(String),
    #[error("a watch event does not parse: {0}")]
    Parse(#[from] serde_json::Error),
    /// From the server: 410 means that the revision is too old.
    #[error("{}", .0.message)]
    Status(Box<kube::core::Status>),
    #[error("unknown watch event type {0}")]
    Unknown(String),
}

impl WatchError {
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Status(status) if status.code == 410)
    }
}

/// A parsed event.
pub enum Event<O> {
    Applied(O),
    Deleted(O),
    /// Everything up to this revision was seen.
    Bookmark(String),
}

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct Versioned {
    metadata: VersionedMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VersionedMeta {
    resource_version: String,
}

impl<O: serde::de::DeserializeOwned> Event<O> {
    pub fn parse(line: &[u8]) -> Result<Self, WatchError> {
        if let Some((kind, object)) = split(line)
            && let Ok(event) = Self::of(kind, object)
        {
            return Ok(event);
        }
        let frame: Frame = serde_json::from_slice(line)?;
        Self::of(frame.kind, frame.object.get().as_bytes())
    }

    fn of(kind: &str, object: &[u8]) -> Result<Self, WatchError> {
        match kind {
            "ADDED" | "MODIFIED" => Ok(Self::Applied(serde_json::from_slice(object)?)),
            "DELETED" => Ok(Self::Deleted(serde_json::from_slice(object)?)),
            "BOOKMARK" => Ok(Self::Bookmark(serde_json::from_slice::<Versioned>(object)?.metadata.resource_version)),
            "ERROR" => Err(WatchError::Status(serde_json::from_slice(object)?)),
            other => Err(WatchError::Unknown(other.to_owned())),
        }
    }
}

/// The two members of a frame as API servers write them, so that the object is read once. None: it is
/// written in another way.
fn split(line: &[u8]) -> Option<(&str, &[u8])> {
    let rest = line.strip_prefix(br#"{"type":""#)?;
    let (kind, rest) = rest.split_at(memchr::memchr(b'"', rest)?);
    let object = rest.strip_prefix(br#"","object":"#)?.trim_ascii_end().strip_suffix(b"}")?;
    Some((std::str::from_utf8(kind).ok()?, object))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;

    #[tokio::test]
    async fn lines_are_put_together_from_pieces() {
        let pieces = ["{\"a\"", ":1}\n{\"b\":2}\n{\"c", "\":3}\n", "", "{\"d\":4}\n", "{\"e\":5}\n{\"f\":6}\n", "half"];
        let stream = futures::stream::iter(pieces).map(|piece| {
            Ok::<_, std::convert::Infallible>(http_body::Frame::data(Bytes::from_static(piece.as_bytes())))
        });
        let mut lines = Lines::new(http_body_util::StreamBody::new(stream));
        let mut got = Vec::new();
        while let Some(line) = lines.next().await.expect("reads") {
            got.push(String::from_utf8(line.to_vec()).expect("text"));
        }
        let lines = [("a", 1), ("b", 2), ("c", 3), ("d", 4), ("e", 5), ("f", 6)];
        assert_eq!(got, lines.map(|(name, number)| format!("{{\"{name}\":{number}}}\n")));
    }

    #[test]
    fn events() {
        let parse = |line: &str| Event::<serde_json::Value>::parse(line.as_bytes());
        for applied in [
            r#"{"type":"ADDED","object":{"x":1}}"#,
            r#"{"type":"MODIFIED","object":{"x":1}}"#,
            r#"{"object": {"x": 1}, "type": "ADDED"}"#,
            r#"{"type":"ADDED","object":{"x":1},"more":{"y":2}}"#,
        ] {
            let event = parse(&format!("{applied}\n"));
            assert!(matches!(event, Ok(Event::Applied(object)) if object == serde_json::json!({"x": 1})), "{applied}");
        }
        for broken in [r#"{"type":"ADDED","object":{"x":1}"#, r#"{"type":"ADDED","object":}"#, r#"{"type":"A"#] {
            assert!(matches!(parse(broken), Err(WatchError::Parse(_))), "{broken}");
        }
        assert!(matches!(parse(r#"{"type":"OTHER","object":{}}"#), Err(WatchError::Unknown(kind)) if kind == "OTHER"));
        assert!(matches!(
            parse(r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"7"}}}"#),
            Ok(Event::Bookmark(revision)) if revision == "7"
        ));
        let error = parse(r#"{"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old"}}"#);
        assert!(error.is_err_and(|error| error.is_gone() && error.to_string() == "too old"));
    }
}
