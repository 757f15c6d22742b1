//! One object of every kind with every field set, as JSON and as protobuf: each encoding is read,
//! and written again byte for byte. The archive holds `<group>.<version>.<Kind>.json` and `.pb`.

use orch::api::GroupVersionKind;
use orch::schema::{self, MediaType, Schema, protobuf};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Read;

struct Sample {
    gvk: GroupVersionKind,
    json: Vec<u8>,
    protobuf: Vec<u8>,
}

fn samples() -> Vec<Sample> {
    let archive = zstd::decode_all(&include_bytes!("../data/roundtrip.tar.zst")[..]).expect("the archive is zstd");
    let mut files: BTreeMap<String, BTreeMap<String, Vec<u8>>> = BTreeMap::new();
    for entry in tar::Archive::new(&archive[..]).entries().expect("the archive is tar") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").display().to_string();
        let (name, extension) = path.rsplit_once('.').expect("an extension");
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("readable");
        files.entry(name.to_owned()).or_default().insert(extension.to_owned(), bytes);
    }
    files
        .into_iter()
        .map(|(name, mut files)| {
            let mut parts = name.rsplitn(3, '.');
            let mut part = || parts.next().expect("group.version.Kind");
            let (kind, version, group) = (part(), part(), part());
            let group = if group == "core" { "" } else { group };
            Sample {
                gvk: GroupVersionKind::new(group, version, kind),
                json: files.remove("json").expect("JSON"),
                protobuf: files.remove("pb").expect("protobuf"),
            }
        })
        .collect()
}

fn schema_of(gvk: &GroupVersionKind) -> Schema {
    schema::builtin_schema(gvk).unwrap_or_else(|| panic!("{gvk} is in the table"))
}

/// `WatchEvent` is the one message without a type of its own.
fn is_typed(sample: &Sample) -> bool {
    sample.gvk.kind != "WatchEvent"
}

fn report(what: &str, failed: Vec<String>) {
    assert!(failed.is_empty(), "{what}: {} kinds differ:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn json_comes_back_as_it_was() {
    let samples = samples();
    assert!(samples.len() > 180, "the archive is whole");
    let mut failed = Vec::new();
    for sample in samples.iter().filter(|sample| is_typed(sample)) {
        let expected: Value = serde_json::from_slice(&sample.json).expect("JSON");
        match schema::decode(&schema_of(&sample.gvk), &sample.json) {
            Ok(decoded) if !decoded.strict.is_empty() => failed.push(format!("{}: {:?}", sample.gvk, decoded.strict)),
            Ok(decoded) if decoded.object != expected => {
                failed.push(format!("{}: {}", sample.gvk, first_difference("", &expected, &decoded.object)));
            }
            Ok(_) => {}
            Err(error) => failed.push(format!("{}: {error}", sample.gvk)),
        }
    }
    report("JSON to JSON", failed);
}

#[test]
fn json_becomes_the_same_protobuf() {
    let mut failed = Vec::new();
    for sample in samples().iter().filter(|sample| is_typed(sample)) {
        let schema = schema_of(&sample.gvk);
        let object = schema::decode(&schema, &sample.json).expect("JSON").object;
        let bytes = protobuf::encode(&schema, &object).unwrap_or_default();
        if bytes != sample.protobuf {
            let at = bytes.iter().zip(&sample.protobuf).position(|(a, b)| a != b);
            let at = at.unwrap_or(bytes.len().min(sample.protobuf.len()));
            let around = |bytes: &[u8]| {
                String::from_utf8_lossy(&bytes[at.saturating_sub(40).min(bytes.len())..(at + 30).min(bytes.len())])
                    .escape_debug()
                    .to_string()
            };
            failed.push(format!(
                "{} at byte {at} of {}: want {} got {}",
                sample.gvk,
                sample.protobuf.len(),
                around(&sample.protobuf),
                around(&bytes)
            ));
        }
    }
    report("JSON to protobuf", failed);
}

#[test]
fn protobuf_becomes_the_same_json() {
    let mut failed = Vec::new();
    for sample in samples().iter().filter(|sample| is_typed(sample)) {
        let schema = schema_of(&sample.gvk);
        let expected = schema::decode(&schema, &sample.json).expect("JSON").object;
        match schema::decode_body(&schema, &sample.protobuf, MediaType::Protobuf, Default::default()) {
            Ok(body) if body.object == expected => {}
            Ok(body) => failed.push(format!("{}: {}", sample.gvk, first_difference("", &expected, &body.object))),
            Err(error) => failed.push(format!("{}: {error}", sample.gvk)),
        }
    }
    report("protobuf to JSON", failed);
}

/// Bytes flipped and cut in many places are refused or read, and never panic.
#[test]
fn damaged_messages_are_harmless() {
    let samples = samples();
    let sample = samples.iter().find(|sample| sample.gvk.kind == "Pod").expect("a pod");
    let schema = schema_of(&sample.gvk);
    for at in (4..sample.protobuf.len()).step_by(41) {
        let mut bytes = sample.protobuf.clone();
        bytes[at] ^= 0xff;
        let _ = schema::decode_body(&schema, &bytes, MediaType::Protobuf, Default::default());
        let _ = schema::decode_body(&schema, &bytes[..at], MediaType::Protobuf, Default::default());
    }
}

#[test]
fn watch_events_are_framed() {
    let samples = samples();
    let sample = samples.iter().find(|sample| sample.gvk.kind == "WatchEvent").expect("an event");
    let event: Value = serde_json::from_slice(&sample.json).expect("JSON");
    let frame = protobuf::encode_event("typeValue", &[event["object"].to_string().as_bytes()]);
    let (_, _, message) = protobuf::open(&sample.protobuf).expect("an envelope");
    assert_eq!(frame[..4], (message.len() as u32).to_be_bytes());
    assert_eq!(&frame[4..], message);
}

fn first_difference(path: &str, want: &Value, got: &Value) -> String {
    match (want, got) {
        (Value::Object(a), Value::Object(b)) => {
            for (key, value) in a {
                match b.get(key) {
                    None => return format!("{path}.{key}: missing, want {value}"),
                    Some(other) if other != value => return first_difference(&format!("{path}.{key}"), value, other),
                    Some(_) => {}
                }
            }
            let extra: Vec<_> = b.keys().filter(|key| !a.contains_key(*key)).collect();
            format!("{path}: unexpected {extra:?}")
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let at = a.iter().zip(b).position(|(a, b)| a != b).unwrap_or_default();
            first_difference(&format!("{path}[{at}]"), &a[at], &b[at])
        }
        _ => format!("{path}: want {want} got {got}"),
    }
}
