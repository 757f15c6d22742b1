//! What extension servers serve, in the documents of discovery and OpenAPI.

use super::{Remote, Remotes};
use crate::api::{Fields, gvk};
use crate::schema::openapi::Foreign;
use serde_json::{Map, Value, json};
use std::sync::Arc;

fn plain_version(remote: &Remote) -> Value {
    json!({ "groupVersion": format!("{}/{}", remote.group, remote.version), "version": remote.version })
}

fn add_plain(groups: &mut Vec<Value>, remote: &Remote) {
    let version = plain_version(remote);
    match groups.iter_mut().find(|group| group.str_at("name") == remote.group) {
        Some(group) => {
            if let Some(versions) = group["versions"].as_array_mut()
                && !versions.contains(&version)
            {
                versions.push(version);
            }
        }
        None => groups.push(json!({ "name": remote.group, "versions": [version], "preferredVersion": version })),
    }
}

fn add_aggregated(groups: &mut Vec<Value>, remote: &Remote) {
    let version = json!({
        "version": remote.version,
        "freshness": if remote.available { "Current" } else { "Stale" },
        "resources": remote.resources.as_ref().map(|list| aggregated(remote, list)).unwrap_or_default(),
    });
    match groups.iter_mut().find(|group| group.at("metadata").str_at("name") == remote.group) {
        Some(group) => {
            if let Some(versions) = group["versions"].as_array_mut() {
                versions.retain(|known| known["version"] != remote.version);
                versions.push(version);
            }
        }
        None => groups.push(json!({
            "metadata": { "name": remote.group },
            "versions": [version],
        })),
    }
}

/// The groups of `/apis`, plain or aggregated, with those of extension servers.
pub fn add_groups(remotes: &Remotes, groups: &mut Vec<Value>, plain: bool) {
    for remote in &remotes.all {
        if plain { add_plain(groups, remote) } else { add_aggregated(groups, remote) }
    }
}

/// The links of `/openapi/v3`.
pub fn add_documents(remotes: &Remotes, paths: &mut Map<String, Value>) {
    for remote in &remotes.all {
        let name = format!("apis/{}/{}", remote.group, remote.version);
        let Some(query) = remote.openapi.as_ref().filter(|_| remote.available) else { continue };
        let mark = if query.is_empty() { "" } else { "?" };
        paths.insert(name.clone(), json!({ "serverRelativeURL": format!("/openapi/v3/{name}{mark}{query}") }));
    }
}

/// What they add to `/openapi/v2`, as it is merged, and a text that differs with it.
pub fn foreign(remotes: &Remotes) -> (Vec<Arc<Foreign>>, String) {
    let mut all: Vec<&Remote> = remotes.all.iter().map(|remote| &**remote).collect();
    let group_priority = |remote: &Remote| {
        let of_group = remotes.all.iter().filter(|other| other.group == remote.group);
        of_group.map(|other| other.group_priority).max()
    };
    all.sort_by_key(|remote| (std::cmp::Reverse(group_priority(remote)), &remote.name));
    let swaggers = || all.iter().filter_map(|remote| Some((&remote.name, remote.swagger.as_ref()?)));
    let tags: String = swaggers().map(|(name, swagger)| format!("{name}={},", swagger.tag)).collect();
    (swaggers().map(|(_, swagger)| swagger.document.clone()).collect(), tags)
}

/// An `APIResourceList` as aggregated discovery has it.
fn aggregated(remote: &Remote, list: &Value) -> Vec<Value> {
    let kind = |resource: &Value| {
        let or = |field: &str, default: &str| match resource.str_at(field) {
            "" => default.to_owned(),
            text => text.to_owned(),
        };
        json!({
            "group": or("group", &remote.group),
            "version": or("version", &remote.version),
            "kind": resource.str_at("kind"),
        })
    };
    let mut resources: Vec<Value> = Vec::new();
    for resource in list.list_at("resources") {
        let Some((parent, subresource)) = resource.str_at("name").split_once('/') else {
            let mut found = json!({
                "resource": resource.str_at("name"),
                "responseKind": kind(resource),
                "scope": if resource.bool_at("namespaced") { "Namespaced" } else { "Cluster" },
                "singularResource": resource.str_at("singularName"),
                "verbs": resource.list_at("verbs"),
            });
            for field in ["shortNames", "categories"] {
                if resource.has(field) {
                    found[field] = resource.at(field).clone();
                }
            }
            resources.push(found);
            continue;
        };
        let subresource = json!({
            "subresource": subresource,
            "responseKind": kind(resource),
            "verbs": resource.list_at("verbs"),
        });
        let found = resources.iter_mut().find(|found| found.str_at("resource") == parent);
        let Some(found) = found.and_then(Value::as_object_mut) else { continue };
        if let Some(list) = found.entry("subresources").or_insert_with(|| json!([])).as_array_mut() {
            list.push(subresource);
        }
    }
    resources
}

/// The link to a group version in an index of `/openapi/v3`: what it says behind `?`.
pub(super) fn openapi_query(index: &Value, group: &str, version: &str) -> Option<String> {
    let link = index.at("paths").at(&gvk_path(group, version)).str_at("serverRelativeURL");
    (!link.is_empty()).then(|| link.split_once('?').map(|(_, query)| query.to_owned()).unwrap_or_default())
}

fn gvk_path(group: &str, version: &str) -> String {
    format!("apis/{}", gvk::join_api_version(group, version))
}
