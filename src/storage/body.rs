//! The bytes of an object: its JSON without resourceVersion, and where that goes.

use super::Revision;
use bytes::Bytes;
use serde_json::Value;
use std::sync::OnceLock;

/// What selectors and preconditions need of an object, without a parse.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    pub uid: Box<str>,
    /// Sorted by key.
    pub labels: Box<[(Box<str>, Box<str>)]>,
    /// The selectable fields of the resource (`status.phase`), without metadata.name and
    /// metadata.namespace, which are in the key. Sorted by path.
    pub fields: Box<[(Box<str>, Box<str>)]>,
}

/// Immutable, cheap to clone.
#[derive(Clone, Debug)]
pub struct Body {
    bytes: Bytes,
    /// Right after `"metadata":{`.
    splice: u32,
    /// Hash of the type-table entry that made it: equal to the request's, its bytes are the reply.
    pub schema: u64,
    index: std::sync::Arc<OnceLock<Index>>,
}

impl Body {
    /// From a whole object; `metadata.resourceVersion` must not be in it and `metadata` must not be
    /// empty. `index` where the caller has it at hand; else it is made when first asked for.
    pub fn from_value(object: &Value, schema: u64, index: Option<Index>) -> Self {
        // Exactly as long as it is: a body lives for long.
        let bytes = serde_json::to_vec(object).expect("a JSON value prints").into_boxed_slice();
        let mut body = Self::from_stored(bytes.into(), schema).expect("an object has metadata");
        if let Some(index) = index {
            body.index = std::sync::Arc::new(OnceLock::from(index));
        }
        body
    }

    /// From the database. None: the bytes have no top-level `metadata` object.
    pub fn from_stored(bytes: Bytes, schema: u64) -> Option<Self> {
        let splice = u32::try_from(metadata_offset(&bytes)?).ok()?;
        Some(Self { bytes, splice, schema, index: std::sync::Arc::default() })
    }

    /// The bytes as they are stored.
    pub fn stored(&self) -> &Bytes {
        &self.bytes
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The object with its resourceVersion, appended to `out`.
    pub fn write(&self, revision: Revision, out: &mut Vec<u8>) {
        use std::io::Write;
        let (head, tail) = self.bytes.split_at(self.splice as usize);
        out.reserve(self.bytes.len() + 44);
        out.extend_from_slice(head);
        let comma = if tail.first() == Some(&b'}') { "" } else { "," };
        write!(out, "\"resourceVersion\":\"{}\"{comma}", revision.0).expect("a Vec takes it");
        out.extend_from_slice(tail);
    }

    pub fn render(&self, revision: Revision) -> Bytes {
        let mut out = Vec::new();
        self.write(revision, &mut out);
        out.into()
    }

    /// Parsed, without resourceVersion.
    pub fn parse(&self) -> Value {
        serde_json::from_slice(&self.bytes).expect("the store holds JSON")
    }

    /// Parsed, with resourceVersion.
    pub fn parse_at(&self, revision: Revision) -> Value {
        let mut object = self.parse();
        object["metadata"]["resourceVersion"] = Value::String(revision.0.to_string());
        object
    }

    /// The index entry; `make` runs once for all holders of this body.
    pub fn index(&self, make: impl FnOnce(&Value) -> Index) -> &Index {
        self.index.get_or_init(|| make(&self.parse()))
    }
}

/// Where the members of the top-level `"metadata":{` begin.
fn metadata_offset(bytes: &[u8]) -> Option<usize> {
    const MARK: &[u8] = b"\"metadata\":{";
    let (mut depth, mut at, mut string) = (0_u32, 0, false);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if string => at += 1,
            b'"' => {
                if !string && depth == 1 && bytes[at..].starts_with(MARK) {
                    return Some(at + MARK.len());
                }
                string = !string;
            }
            b'{' | b'[' if !string => depth += 1,
            b'}' | b']' if !string => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    None
}
