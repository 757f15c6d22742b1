//! The bytes of an object: its JSON without resourceVersion, and where that goes.

use super::{Key, Revision};
use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value, json};
use std::sync::{Arc, OnceLock};

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

/// Immutable, cheap to clone. The bytes begin with `apiVersion`, `kind` and `metadata`, in that
/// order: so an item of a list, and the metadata alone, are slices.
#[derive(Clone, Debug)]
pub struct Body {
    bytes: Bytes,
    /// Behind `apiVersion` and `kind`, at `"metadata":{`.
    item: u32,
    /// Right after `"metadata":{`.
    splice: u32,
    /// Right after the `}` of metadata.
    metadata_end: u32,
    /// Hash of the type-table entry that made it: equal to the request's, its bytes are the reply.
    pub schema: u64,
    index: Arc<OnceLock<Index>>,
    /// None: it is on disk as it is here.
    sealed: Option<Arc<Sealed>>,
}

/// An object whose bytes on disk are encrypted.
#[derive(Debug)]
struct Sealed {
    at_rest: Bytes,
    /// Why nothing opens it.
    unreadable: Option<String>,
}

const METADATA: &[u8] = b"\"metadata\":{";

impl Body {
    /// From a whole object; `metadata.resourceVersion` must not be in it and `metadata` must not be
    /// empty. `index` where the caller has it at hand; else it is made when first asked for.
    pub fn from_value(object: &Value, schema: u64, index: Option<Index>) -> Self {
        let fields = object.as_object().expect("an object");
        let mut bytes = Vec::with_capacity(1024);
        let member = |bytes: &mut Vec<u8>, name: &str, value: &Value| {
            bytes.push(if bytes.is_empty() { b'{' } else { b',' });
            serde_json::to_writer(&mut *bytes, name).expect("a Vec takes it");
            bytes.push(b':');
            serde_json::to_writer(&mut *bytes, value).expect("a Vec takes it");
        };
        for name in ["apiVersion", "kind"] {
            if let Some(value) = fields.get(name) {
                member(&mut bytes, name, value);
            }
        }
        let item = bytes.len() + 1;
        member(&mut bytes, "metadata", fields.get("metadata").expect("an object has metadata"));
        let metadata_end = bytes.len();
        for (name, value) in fields {
            if !matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                member(&mut bytes, name, value);
            }
        }
        bytes.push(b'}');
        let offset = |at: usize| u32::try_from(at).expect("an object is smaller than 4 GB");
        Self {
            // Exactly as long as it is: a body lives for long.
            bytes: bytes.into_boxed_slice().into(),
            item: offset(item),
            splice: offset(item + METADATA.len()),
            metadata_end: offset(metadata_end),
            schema,
            index: Arc::new(index.map_or_else(OnceLock::new, OnceLock::from)),
            sealed: None,
        }
    }

    /// From the database. None: the bytes have no top-level `metadata` object.
    pub fn from_stored(bytes: Bytes, schema: u64) -> Option<Self> {
        let splice = metadata_offset(&bytes)?;
        let end = splice + end_of_object(&bytes[splice..])?;
        Some(Self {
            item: u32::try_from(splice - METADATA.len()).ok()?,
            splice: u32::try_from(splice).ok()?,
            metadata_end: u32::try_from(end).ok()?,
            bytes,
            schema,
            index: Arc::default(),
            sealed: None,
        })
    }

    /// What stands for an object that cannot be decrypted: its name, and nothing else.
    pub(super) fn without_content(key: &Key, at_rest: Bytes, reason: String, schema: u64) -> Self {
        let mut object = json!({ "metadata": { "name": key.name() } });
        if !key.namespace().is_empty() {
            object["metadata"]["namespace"] = key.namespace().into();
        }
        let sealed = Arc::new(Sealed { at_rest, unreadable: Some(reason) });
        Self { sealed: Some(sealed), ..Self::from_value(&object, schema, None) }
    }

    /// The same object, with what is on disk of it; None: the same bytes.
    pub(super) fn with_at_rest(self, at_rest: Option<Bytes>) -> Self {
        Self { sealed: at_rest.map(|at_rest| Arc::new(Sealed { at_rest, unreadable: None })), ..self }
    }

    /// The bytes on disk.
    pub fn at_rest(&self) -> &Bytes {
        self.sealed.as_ref().map_or(&self.bytes, |sealed| &sealed.at_rest)
    }

    /// Why the object cannot be decrypted: then everything else here knows only its name.
    pub fn unreadable(&self) -> Option<&str> {
        self.sealed.as_ref()?.unreadable.as_deref()
    }

    /// The object's JSON without its resourceVersion.
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
        out.reserve(self.bytes.len() + 44);
        out.extend_from_slice(&self.bytes[..self.splice as usize]);
        self.write_tail(revision, self.bytes.len(), out);
    }

    /// As an item of a list: without apiVersion and kind.
    pub fn write_item(&self, revision: Revision, out: &mut Vec<u8>) {
        out.reserve(self.bytes.len() + 44);
        out.push(b'{');
        out.extend_from_slice(&self.bytes[self.item as usize..self.splice as usize]);
        self.write_tail(revision, self.bytes.len(), out);
    }

    /// The `metadata` object alone.
    pub fn write_metadata(&self, revision: Revision, out: &mut Vec<u8>) {
        out.push(b'{');
        self.write_tail(revision, self.metadata_end as usize, out);
    }

    fn write_tail(&self, revision: Revision, end: usize, out: &mut Vec<u8>) {
        use std::io::Write;
        let tail = &self.bytes[self.splice as usize..end];
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

    /// Parsed, without resourceVersion and without managedFields, which are the half of many objects.
    pub fn parse_shown(&self) -> Value {
        let mut reader = serde_json::Deserializer::from_slice(&self.bytes);
        Shown { metadata: false }.deserialize(&mut reader).expect("the store holds JSON")
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

/// Reads an object, or its metadata, without managedFields.
struct Shown {
    metadata: bool,
}

impl<'de> DeserializeSeed<'de> for Shown {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Shown {
    type Value = Value;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = match name.as_str() {
                "metadata" if !self.metadata => members.next_value_seed(Shown { metadata: true })?,
                "managedFields" if self.metadata => {
                    members.next_value::<IgnoredAny>()?;
                    continue;
                }
                _ => members.next_value()?,
            };
            map.insert(name, value);
        }
        Ok(map.into())
    }
}

/// Where the members of the top-level `"metadata":{` begin.
fn metadata_offset(bytes: &[u8]) -> Option<usize> {
    let (mut depth, mut at, mut string) = (0_u32, 0, false);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if string => at += 1,
            b'"' => {
                if !string && depth == 1 && bytes[at..].starts_with(METADATA) {
                    return Some(at + METADATA.len());
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

/// The length of an object's text whose `{` was already read, its `}` included.
fn end_of_object(bytes: &[u8]) -> Option<usize> {
    let (mut depth, mut at, mut string) = (1_u32, 0, false);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if string => at += 1,
            b'"' => string = !string,
            b'{' | b'[' if !string => depth += 1,
            b'}' | b']' if !string => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn slices_of_an_object() {
        let object = json!({
            "apiVersion": "v1", "kind": "Thing", "data": {"metadata": {"a": "}"}},
            "metadata": {"name": "x", "labels": {"q\"}": "{"}}, "spec": {"n": 1}
        });
        let made = Body::from_value(&object, 7, None);
        let read = Body::from_stored(made.stored().clone(), 7).expect("has metadata");
        for body in [&made, &read] {
            let mut whole = object.clone();
            whole["metadata"]["resourceVersion"] = json!("42");
            let parse = |out: Vec<u8>| serde_json::from_slice::<Value>(&out).expect("JSON");
            assert_eq!(parse(body.render(Revision(42)).to_vec()), whole);
            let mut out = Vec::new();
            body.write_metadata(Revision(42), &mut out);
            assert_eq!(parse(out), whole["metadata"]);
            let mut out = Vec::new();
            body.write_item(Revision(42), &mut out);
            let item = whole.as_object_mut().expect("an object");
            item.remove("apiVersion");
            item.remove("kind");
            assert_eq!(parse(out), whole);
            assert_eq!(body.parse(), object);
            assert_eq!(body.parse_shown(), object);
        }
    }

    #[test]
    fn an_object_is_shown_without_its_managers() {
        let entries = json!([{"manager": "m", "fieldsV1": {"f:data": {}}}]);
        let inner = json!({"metadata": {"managedFields": entries}});
        let object = json!({"apiVersion": "v1", "kind": "Thing", "data": inner, "metadata": {"name": "x"}});
        let mut whole = object.clone();
        whole["metadata"]["managedFields"] = entries;
        assert_eq!(Body::from_value(&whole, 7, None).parse_shown(), object);
    }
}
