//! Discovery, plain and aggregated: what is served, read off the registry.
//!
//! Documents are made once per state of the registry and kept as bytes.

use super::aggregation::{self, Remotes};
use super::negotiate::{self, Allows, Format, Output};
use super::request::Query;
use super::respond::{self, Reply};
use crate::api::{GroupVersionKind, Status};
use crate::resources::registry::{Group, Version};
use crate::resources::{Row, Rows, Verb};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, VARY};
use http::{Response, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha512};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// Of the registry and of the extension servers.
type Generation = (u64, u64);

/// The documents of one state of the registry.
#[derive(Default)]
pub struct Cache {
    documents: Mutex<(Generation, HashMap<String, Document>)>,
}

#[derive(Clone)]
struct Document {
    body: Bytes,
    etag: HeaderValue,
}

impl Cache {
    fn get(&self, of: Served<'_>, name: &str, make: impl FnOnce() -> Value) -> Document {
        let generation = (of.rows.generation, of.remotes.generation);
        let mut documents = self.documents.lock();
        if documents.0 != generation {
            *documents = (generation, HashMap::new());
        }
        if let Some(document) = documents.1.get(name) {
            return document.clone();
        }
        let body: Bytes = serde_json::to_vec(&make()).expect("a document prints").into();
        let etag = format!("\"{:X}\"", HexOf(&Sha512::digest(&body)));
        let document = Document { body, etag: HeaderValue::from_str(&etag).expect("hex") };
        documents.1.insert(name.to_owned(), document.clone());
        document
    }
}

/// What there is to discover.
#[derive(Clone, Copy)]
struct Served<'a> {
    rows: &'a Rows,
    remotes: &'a Remotes,
}

/// Bytes as hex digits.
pub struct HexOf<'a>(pub &'a [u8]);

impl std::fmt::UpperHex for HexOf<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

/// `/api`, `/apis`, `/api/v1`, `/apis/<group>`, `/apis/<group>/<version>`. None: not one of these.
pub fn serve(
    cache: &Cache,
    rows: &Rows,
    remotes: &Remotes,
    headers: &HeaderMap,
    query: &Query,
    path: &str,
    address: Option<SocketAddr>,
) -> Option<Result<Reply, Status>> {
    let of = Served { rows, remotes };
    let path = path.trim_end_matches('/');
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match parts.as_slice() {
        ["api"] => Some(root(cache, of, headers, query, Root::Core(address))),
        ["apis"] => Some(root(cache, of, headers, query, Root::Groups)),
        ["api", version] => {
            let found = rows.group("").and_then(|group| group.version(version));
            Some(found.map_or_else(
                || Err(super::no_such_resource()),
                |version| {
                    negotiate::routed(headers)?;
                    plain(headers, query, cache.get(of, path, || resource_list("", version)))
                },
            ))
        }
        ["apis", group] => {
            let local = rows.group(group).filter(|group| !group.name.is_empty()).map(api_group);
            let mut groups: Vec<Value> = local.into_iter().collect();
            aggregation::add_groups(remotes, &mut groups, true);
            let found = groups.into_iter().find(|found| found["name"] == *group)?;
            Some(plain(
                headers,
                query,
                cache.get(of, path, || {
                    let mut document = json!({ "kind": "APIGroup", "apiVersion": "v1" });
                    merge(&mut document, found);
                    document
                }),
            ))
        }
        // Groups that nobody knows have no routes.
        ["apis", group, _] if rows.group(group).is_none() => None,
        ["apis", group, version] => {
            let found = rows.group(group).and_then(|group| group.version(version));
            Some(found.map_or_else(
                || Err(super::no_such_resource()),
                |found| {
                    if found.rows.iter().any(|row| !row.custom) {
                        negotiate::routed(headers)?;
                    }
                    plain(headers, query, cache.get(of, path, || resource_list(group, found)))
                },
            ))
        }
        _ => None,
    }
}

fn merge(into: &mut Value, from: Value) {
    if let (Some(into), Value::Object(from)) = (into.as_object_mut(), from) {
        into.extend(from);
    }
}

fn plain(headers: &HeaderMap, query: &Query, document: Document) -> Result<Reply, Status> {
    let output = negotiate::output(headers, query, Allows::Plain)?;
    Ok(formed(output, document.body))
}

fn formed(output: Output, document: Bytes) -> Reply {
    if output.format != Format::Protobuf {
        return respond::meta_bytes(StatusCode::OK, output, document);
    }
    let value: Value = serde_json::from_slice(&document).expect("our own JSON");
    respond::api_machinery(StatusCode::OK, output, &value)
}

/// Where discovery begins.
enum Root {
    /// `/api`, and where this server is reached.
    Core(Option<SocketAddr>),
    /// `/apis`
    Groups,
}

fn root(cache: &Cache, of: Served<'_>, headers: &HeaderMap, query: &Query, root: Root) -> Result<Reply, Status> {
    let Some(output) = negotiate::aggregated(headers, query) else {
        return match root {
            Root::Core(address) => {
                negotiate::routed(headers)?;
                let name = format!("/api at {address:?}");
                plain(headers, query, cache.get(of, &name, || versions(address)))
            }
            Root::Groups => plain(headers, query, cache.get(of, "/apis", || group_list(of))),
        };
    };
    let legacy = matches!(root, Root::Core(_));
    let version = if output.beta { "v2beta1" } else { "v2" };
    let document = cache.get(of, &format!("{version} {legacy}"), || aggregated(of, version, legacy));
    let mut reply = if headers.get(IF_NONE_MATCH) == Some(&document.etag) {
        let mut reply = Response::new(axum::body::Body::empty());
        *reply.status_mut() = StatusCode::NOT_MODIFIED;
        reply
    } else {
        let mut reply = formed(output, document.body);
        let headers = reply.headers_mut();
        let form = headers.get(CONTENT_TYPE).and_then(|form| form.to_str().ok()).unwrap_or_default();
        let form = format!("{form};g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
        headers.insert(CONTENT_TYPE, HeaderValue::from_str(&form).expect("ASCII"));
        reply
    };
    reply.headers_mut().insert(ETAG, document.etag);
    reply.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    Ok(reply)
}

fn versions(address: Option<SocketAddr>) -> Value {
    let address = address.map(|address| json!({ "clientCIDR": "0.0.0.0/0", "serverAddress": address.to_string() }));
    let addresses: Vec<Value> = address.into_iter().collect();
    json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses })
}

fn api_group(group: &Group) -> Value {
    let version = |version: &Version| json!({ "groupVersion": format!("{}/{}", group.name, version.name), "version": version.name });
    json!({
        "name": group.name,
        "versions": group.versions.iter().map(version).collect::<Vec<_>>(),
        "preferredVersion": group.versions.first().map(version),
    })
}

fn group_list(of: Served<'_>) -> Value {
    let mut groups: Vec<Value> = of.rows.groups.iter().filter(|group| !group.name.is_empty()).map(api_group).collect();
    aggregation::add_groups(of.remotes, &mut groups, true);
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

pub(super) fn verb_name(verb: Verb) -> &'static str {
    match verb {
        Verb::Create => "create",
        Verb::Delete => "delete",
        Verb::DeleteCollection => "deletecollection",
        Verb::Get => "get",
        Verb::List => "list",
        Verb::Patch => "patch",
        Verb::Update => "update",
        Verb::Watch => "watch",
    }
}

/// What a row takes; of a kind that goes away, objects are to be looked at and deleted.
fn verbs_of(row: &Row) -> Vec<&'static str> {
    let mut verbs = row.verbs.to_vec();
    if row.strategy.refuses_create().is_some() {
        verbs.retain(|verb| !matches!(verb, Verb::Create | Verb::Patch | Verb::Update));
    }
    verb_names(&verbs)
}

fn verb_names(verbs: &[Verb]) -> Vec<&'static str> {
    verbs.iter().map(|verb| verb_name(*verb)).collect()
}

/// Which objects a row's storage has: clients compare it between versions.
fn storage_version_hash(row: &Row) -> String {
    use base64::Engine;
    let version = row.stored_as.as_ref().map_or(&*row.version, |gvr| &gvr.version);
    let kind = format!("{}/{version}/{}", row.stored.group, row.kind);
    base64::engine::general_purpose::STANDARD.encode(&Sha256::digest(kind)[..8])
}

fn is_stored(row: &Row) -> bool {
    row.verbs.contains(&Verb::Get) && row.verbs.contains(&Verb::Create)
}

fn resource_list(group: &str, version: &Version) -> Value {
    let mut resources = Vec::new();
    let mut rows: Vec<&Arc<Row>> = version.rows.iter().collect();
    rows.sort_by(|a, b| a.plural.cmp(&b.plural));
    for row in rows {
        let mut resource = json!({
            "name": row.plural,
            "singularName": row.singular,
            "namespaced": row.namespaced,
            "kind": row.kind,
            "verbs": verbs_of(row),
        });
        if !row.short_names.is_empty() {
            resource["shortNames"] = json!(row.short_names);
        }
        if !row.categories.is_empty() {
            resource["categories"] = json!(row.categories);
        }
        if is_stored(row) {
            resource["storageVersionHash"] = json!(storage_version_hash(row));
        }
        resources.push(resource);
        let mut subresources: Vec<_> = row.subresources.iter().collect();
        subresources.sort_by(|a, b| a.name.cmp(&b.name));
        for subresource in subresources {
            let kind = subresource.kind.as_ref();
            let mut entry = json!({
                "name": format!("{}/{}", row.plural, subresource.name),
                "singularName": "",
                "namespaced": row.namespaced,
                "kind": kind.map_or(&*row.kind, |kind| &kind.kind),
                "verbs": verb_names(subresource.verbs),
            });
            if let Some(kind) = kind.filter(|kind| kind.group != row.group || kind.version != row.version) {
                entry["group"] = json!(kind.group);
                entry["version"] = json!(kind.version);
            }
            resources.push(entry);
        }
    }
    let group_version = crate::api::gvk::join_api_version(group, &version.name);
    let mut list = json!({ "kind": "APIResourceList", "groupVersion": group_version, "resources": resources });
    if !group.is_empty() {
        list["apiVersion"] = json!("v1");
    }
    list
}

/// What the row, or a subresource of it, answers with. The kinds that are built in leave out a group and
/// version that are the resource's own.
fn response_kind(row: &Row, kind: &GroupVersionKind) -> Value {
    let own = !row.custom && kind.group == row.group && kind.version == row.version;
    let (group, version) = if own { ("", "") } else { (&*kind.group, &*kind.version) };
    json!({ "group": group, "version": version, "kind": kind.kind })
}

fn aggregated(of: Served<'_>, api_version: &str, legacy: bool) -> Value {
    let groups = of.rows.groups.iter().filter(|group| group.name.is_empty() == legacy);
    let mut items: Vec<Value> = groups
        .map(|group| {
            let metadata = if group.name.is_empty() { json!({}) } else { json!({ "name": group.name }) };
            let versions: Vec<Value> = group.versions.iter().map(aggregated_version).collect();
            json!({ "metadata": metadata, "versions": versions })
        })
        .collect();
    if !legacy {
        aggregation::add_groups(of.remotes, &mut items, false);
    }
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{api_version}"),
        "metadata": {},
        "items": items,
    })
}

fn aggregated_version(version: &Version) -> Value {
    let mut rows: Vec<&Arc<Row>> = version.rows.iter().collect();
    rows.sort_by(|a, b| a.plural.cmp(&b.plural));
    let resources: Vec<Value> = rows
        .into_iter()
        .map(|row| {
            let mut resource = json!({
                "resource": row.plural,
                "responseKind": response_kind(row, &row.gvk),
                "scope": if row.namespaced { "Namespaced" } else { "Cluster" },
                "singularResource": row.singular,
                "verbs": verbs_of(row),
            });
            if !row.short_names.is_empty() {
                resource["shortNames"] = json!(row.short_names);
            }
            if !row.categories.is_empty() {
                resource["categories"] = json!(row.categories);
            }
            if !row.subresources.is_empty() {
                let mut subresources: Vec<_> = row.subresources.iter().collect();
                // Of custom resources: status, then scale.
                subresources.sort_by(|a, b| if row.custom { b.name.cmp(&a.name) } else { a.name.cmp(&b.name) });
                let list: Vec<Value> = subresources
                    .into_iter()
                    .map(|subresource| {
                        let kind = subresource.kind.as_ref().unwrap_or(&row.gvk);
                        json!({
                            "subresource": subresource.name,
                            "responseKind": response_kind(row, kind),
                            "verbs": verb_names(subresource.verbs),
                        })
                    })
                    .collect();
                resource["subresources"] = json!(list);
            }
            resource
        })
        .collect();
    json!({ "version": version.name, "freshness": "Current", "resources": resources })
}
