//! `/openapi/v3`, `/openapi/v3/<name>` and `/openapi/v2`: written by the schema room from
//! the type table and the registry.

use super::respond::{self, Reply};
use super::state::State;
use super::{aggregation, codec, negotiate};
use crate::api::Status;
use crate::resources::registry::Group;
use crate::resources::{Row, Rows};
use crate::schema;
use crate::schema::openapi::Served;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, ETAG, EXPIRES, HeaderMap, HeaderValue, IF_NONE_MATCH, LOCATION,
    VARY,
};
use http::{Response, StatusCode};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

/// The hash of each document, for one state of the registry. Documents themselves are written when
/// they are asked for: they are large and rare.
#[derive(Default)]
pub struct Cache {
    hashes: Mutex<(u64, HashMap<String, String>)>,
}

/// A document and its hash, upper-case hex; written only when it is sent.
struct Document {
    hash: String,
    served: Vec<Served>,
}

impl Cache {
    fn get(&self, rows: &Rows, name: &str, of: &[Arc<Row>]) -> Document {
        let served = codec::served(of);
        let mut hashes = self.hashes.lock();
        if hashes.0 != rows.generation {
            *hashes = (rows.generation, HashMap::new());
        }
        let hash = hashes.1.entry(name.to_owned()).or_insert_with(|| schema::openapi::hash(name, &served)).clone();
        Document { hash, served }
    }
}

/// Whether it is told of by itself: of custom resources only their versions are.
fn has_document(group: &Group) -> bool {
    let is_custom = |row: &Arc<Row>| row.schema.as_ref().is_some_and(|schema| schema.structural.is_some());
    !group.name.is_empty() && !group.versions.iter().flat_map(|version| &version.rows).all(is_custom)
}

/// `api`, `api/v1`, `apis/apps`, `apis/apps/v1`, `version`
fn names(rows: &Rows) -> Vec<String> {
    let mut names: Vec<String> = schema::openapi::SERVER.iter().map(|&name| name.to_owned()).collect();
    for group in &rows.groups {
        if has_document(group) {
            names.push(format!("apis/{}", group.name));
        }
        for version in &group.versions {
            names.push(if group.name.is_empty() {
                format!("api/{}", version.name)
            } else {
                format!("apis/{}/{}", group.name, version.name)
            });
        }
    }
    names
}

/// None: there is no such document.
fn document(rows: &Rows, cache: &Cache, name: &str) -> Option<Document> {
    let (group, version) = match name.split('/').collect::<Vec<_>>().as_slice() {
        ["api", version] => ("", *version),
        ["apis", group, version] => (*group, *version),
        ["apis", group] if !rows.group(group).is_some_and(has_document) => return None,
        ["apis", _] => return Some(cache.get(rows, name, &[])),
        _ => return schema::openapi::SERVER.contains(&name).then(|| cache.get(rows, name, &[])),
    };
    let rows_of = rows.group(group)?.version(version)?;
    Some(cache.get(rows, name, &rows_of.rows))
}

/// None: not a path of OpenAPI.
pub fn serve(state: &State, headers: &HeaderMap, hash: Option<&str>, path: &str) -> Option<Result<Reply, Status>> {
    let rows = state.registry.rows();
    let cache = &state.openapi;
    match path.trim_end_matches('/') {
        "/openapi/v3" => {
            let mut paths = Map::new();
            for name in names(&rows) {
                if let Some(document) = document(&rows, cache, &name) {
                    let url = format!("/openapi/v3/{name}?hash={}", document.hash);
                    paths.insert(name, json!({ "serverRelativeURL": url }));
                }
            }
            aggregation::add_documents(&state.aggregator.remotes(), &mut paths);
            let body = serde_json::to_vec(&json!({ "paths": Value::Object(paths) })).expect("an index prints");
            Some(Ok(respond::bytes(StatusCode::OK, respond::TEXT, body)))
        }
        "/openapi/v2" => {
            let Some(form) = negotiate::choose(headers, FORMS) else { return Some(Ok(not_acceptable())) };
            let protobuf = form > 0;
            let all: Vec<_> = rows.iter().cloned().collect();
            let mut document = cache.get(&rows, "v2", &all);
            let (foreign, tags) = aggregation::foreign(&state.aggregator.remotes());
            if !foreign.is_empty() {
                document.hash = schema::openapi::hash_with(&document.hash, &tags);
            }
            let content_type = if protobuf {
                HeaderValue::from_static("application/com.github.proto-openapi.spec.v2.v1.0+protobuf")
            } else {
                respond::JSON
            };
            let write = if protobuf { schema::openapi::v2_protobuf } else { schema::openapi::v2 };
            let write = || write(&document.served, &foreign);
            Some(Ok(compressed(headers, |headers, small| {
                let write = || if small { gzip(&write()) } else { write() };
                reply(headers, &document.hash, content_type, false, write)
            })))
        }
        path => {
            let name = path.strip_prefix("/openapi/v3/")?;
            let document = document(&rows, cache, name)?;
            let Some(form) = negotiate::choose(headers, FORMS_OF_V3) else { return Some(Ok(not_acceptable())) };
            let protobuf = form > 0;
            let content_type = if protobuf {
                HeaderValue::from_static("application/com.github.proto-openapi.spec.v3.v1.0+protobuf")
            } else {
                respond::JSON
            };
            if hash.is_some_and(|hash| hash != document.hash) {
                // An old link: to the document as it is now.
                let mut reply = reply(headers, &document.hash, content_type, false, Vec::new);
                *reply.status_mut() = StatusCode::MOVED_PERMANENTLY;
                let url = format!("/openapi/v3/{name}?hash={}", document.hash);
                reply.headers_mut().insert(LOCATION, HeaderValue::from_str(&url).expect("a path"));
                return Some(Ok(reply));
            }
            let write = if protobuf { schema::openapi::v3_protobuf } else { schema::openapi::v3 };
            let write = || write(name, &document.served);
            Some(Ok(reply(headers, &document.hash, content_type, hash.is_some(), write)))
        }
    }
}

const FORMS_OF_V3: &[(&str, &str)] = &[
    ("application", "json"),
    ("application", "com.github.proto-openapi.spec.v3@v1.0+protobuf"),
    ("application", "com.github.proto-openapi.spec.v3.v1.0+protobuf"),
];

/// Of version 2.
const FORMS: &[(&str, &str)] = &[
    ("application", "json"),
    ("application", "com.github.proto-openapi.spec.v2@v1.0+protobuf"),
    ("application", "com.github.proto-openapi.spec.v2.v1.0+protobuf"),
];

fn not_acceptable() -> Reply {
    let mut reply = Response::new(axum::body::Body::empty());
    *reply.status_mut() = StatusCode::NOT_ACCEPTABLE;
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    reply.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    reply
}

/// The whole document is large: who can read it compressed gets it so.
fn compressed(headers: &HeaderMap, write: impl FnOnce(&HeaderMap, bool) -> Reply) -> Reply {
    let codings = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let gzip = codings.split(',').any(|coding| coding.split(';').next().is_some_and(|name| name.trim() == "gzip"));
    let mut reply = write(headers, gzip);
    if gzip && reply.status() == StatusCode::OK {
        reply.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    reply.headers_mut().append(VARY, HeaderValue::from_static("Accept-Encoding"));
    reply
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).and_then(|()| encoder.finish()).expect("a Vec takes it")
}

fn reply(
    headers: &HeaderMap,
    hash: &str,
    content_type: HeaderValue,
    immutable: bool,
    write: impl FnOnce() -> Vec<u8>,
) -> Reply {
    let etag = HeaderValue::from_str(&format!("\"{hash}\"")).expect("hex");
    let mut reply = if headers.get(IF_NONE_MATCH) == Some(&etag) {
        let mut reply = Response::new(axum::body::Body::empty());
        *reply.status_mut() = StatusCode::NOT_MODIFIED;
        reply
    } else {
        respond::bytes(StatusCode::OK, content_type, write())
    };
    let caching = if immutable { "public, immutable" } else { "no-cache, private" };
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    if immutable {
        reply.headers_mut().insert(EXPIRES, in_a_year());
    }
    reply.headers_mut().insert(ETAG, etag);
    reply.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    reply
}

/// `Mon, 22 Nov 2027 02:17:27 UTC`
fn in_a_year() -> HeaderValue {
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    let then = now.saturating_add(jiff::Span::new().years(1));
    HeaderValue::from_str(&then.strftime("%a, %d %b %Y %H:%M:%S UTC").to_string()).expect("ASCII")
}
