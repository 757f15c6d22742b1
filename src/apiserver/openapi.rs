//! `/openapi/v3`, `/openapi/v3/<group version>` and `/openapi/v2`: written by the schema room from
//! the type table and the registry, made once per state of the registry.

use super::codec;
use super::discovery::HexOf;
use super::respond::{self, Reply};
use super::state::State;
use crate::api::Status;
use crate::resources::Rows;
use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, LOCATION, VARY};
use http::{Response, StatusCode};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha512};
use std::collections::HashMap;

#[derive(Default)]
pub struct Cache {
    documents: Mutex<(u64, HashMap<String, Document>)>,
}

#[derive(Clone)]
struct Document {
    body: Bytes,
    /// SHA-512 in upper-case hex.
    hash: String,
}

impl Cache {
    fn get(&self, rows: &Rows, name: &str, make: impl FnOnce() -> Option<Vec<u8>>) -> Option<Document> {
        {
            let mut documents = self.documents.lock();
            if documents.0 != rows.generation {
                *documents = (rows.generation, HashMap::new());
            }
            if let Some(document) = documents.1.get(name) {
                return Some(document.clone());
            }
        }
        // Outside the lock: it takes a while.
        let body: Bytes = make()?.into();
        let document = Document { hash: format!("{:X}", HexOf(&Sha512::digest(&body))), body };
        let mut documents = self.documents.lock();
        if documents.0 == rows.generation {
            documents.1.insert(name.to_owned(), document.clone());
        }
        Some(document)
    }
}

/// `api/v1`, `apis/apps/v1`
fn names(rows: &Rows) -> Vec<String> {
    let mut names = Vec::new();
    for group in &rows.groups {
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

fn group_version(rows: &Rows, cache: &Cache, name: &str) -> Option<Document> {
    let (group, version) = match name.split('/').collect::<Vec<_>>().as_slice() {
        ["api", version] => ("", *version),
        ["apis", group, version] => (*group, *version),
        _ => return None,
    };
    let rows_of = rows.group(group)?.version(version)?;
    cache.get(rows, name, || codec::openapi_v3(group, version, &rows_of.rows))
}

/// None: not a path of OpenAPI.
pub fn serve(state: &State, headers: &HeaderMap, hash: Option<&str>, path: &str) -> Option<Result<Reply, Status>> {
    let rows = state.registry.rows();
    let cache = &state.openapi;
    match path.trim_end_matches('/') {
        "/openapi/v3" => {
            let mut paths = Map::new();
            for name in names(&rows) {
                if let Some(document) = group_version(&rows, cache, &name) {
                    let url = format!("/openapi/v3/{name}?hash={}", document.hash);
                    paths.insert(name, json!({ "serverRelativeURL": url }));
                }
            }
            let body = serde_json::to_vec(&json!({ "paths": Value::Object(paths) })).expect("an index prints");
            Some(Ok(respond::bytes(StatusCode::OK, respond::TEXT, body)))
        }
        "/openapi/v2" => {
            let protobuf = accepts_protobuf(headers);
            let name = if protobuf { "v2 protobuf" } else { "v2" };
            let document = cache.get(&rows, name, || {
                let all: Vec<_> = rows.iter().cloned().collect();
                if protobuf { codec::openapi_v2_protobuf(&all) } else { codec::openapi_v2(&all) }
            });
            let content_type = if protobuf {
                HeaderValue::from_static("application/com.github.proto-openapi.spec.v2.v1.0+protobuf")
            } else {
                respond::JSON
            };
            Some(
                document.map(|document| reply(headers, document, content_type, false)).ok_or_else(|| {
                    Status::not_acceptable("only the following media types are accepted: application/json")
                }),
            )
        }
        path => {
            let name = path.strip_prefix("/openapi/v3/")?;
            let document = group_version(&rows, cache, name)?;
            if hash.is_some_and(|hash| hash != document.hash) {
                // An old link: to the document as it is now.
                let mut reply = Response::new(axum::body::Body::empty());
                *reply.status_mut() = StatusCode::MOVED_PERMANENTLY;
                let url = format!("/openapi/v3/{name}?hash={}", document.hash);
                reply.headers_mut().insert(LOCATION, HeaderValue::from_str(&url).expect("a path"));
                return Some(Ok(reply));
            }
            Some(Ok(reply(headers, document, respond::JSON, hash.is_some())))
        }
    }
}

fn accepts_protobuf(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let first = accept.split(',').next().unwrap_or_default();
    first.contains("proto-openapi.spec.v2")
}

fn reply(headers: &HeaderMap, document: Document, content_type: HeaderValue, immutable: bool) -> Reply {
    let etag = HeaderValue::from_str(&format!("\"{}\"", document.hash)).expect("hex");
    let mut reply = if headers.get(IF_NONE_MATCH) == Some(&etag) {
        let mut reply = Response::new(axum::body::Body::empty());
        *reply.status_mut() = StatusCode::NOT_MODIFIED;
        reply
    } else {
        respond::bytes(StatusCode::OK, content_type, document.body)
    };
    let caching = if immutable { "public, immutable, max-age=31536000" } else { "no-cache, private" };
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    reply.headers_mut().insert(ETAG, etag);
    reply.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    reply
}
