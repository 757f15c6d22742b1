//! OpenAPI documents of what is served, written from the type table when they are asked for.
//!
//! [`v3`] writes the document of a group version, of a group or of [`SERVER`], [`v2`] and [`v2_protobuf`] that of everything.
//! Documents are written piece by piece and nothing of them stays; [`hash`] tells whether one
//! changed without writing it.

mod definitions;
mod descriptions;
mod gnostic;
mod gnostic_v3;
mod merge;
mod operations;
mod paths;

use super::table::Schema;
use crate::api::{GroupVersionKind, version};
use definitions::Definitions;
use descriptions::Descriptions;
pub use merge::Foreign;
use merge::Merge;
pub use operations::SERVER;
use operations::{Catalog, Operation};
use paths::Shared;
use serde_json::{Value, json};
use std::fmt::Write;
use std::sync::Arc;

/// One served resource, as a document tells of it.
#[derive(Clone, Debug)]
pub struct Served {
    pub gvk: GroupVersionKind,
    pub plural: String,
    pub namespaced: bool,
    /// `create`, `list`, …
    pub verbs: Vec<&'static str>,
    pub subresources: Vec<ServedSubresource>,
    /// None: an object of any shape.
    pub schema: Option<Schema>,
    pub list_kind: String,
    /// The paths of its field selectors, of a custom resource.
    pub selectable: Vec<String>,
    /// A deletion is answered with the object.
    pub returns_deleted: bool,
}

impl Served {
    pub(super) fn is_custom(&self) -> bool {
        self.schema.as_ref().is_some_and(|schema| schema.structural.is_some())
    }
}

#[derive(Clone, Debug)]
pub struct ServedSubresource {
    pub name: String,
    /// What it takes and gives.
    pub gvk: GroupVersionKind,
    pub verbs: Vec<&'static str>,
}

impl ServedSubresource {
    /// What is said over it is not an object: `pods/exec`.
    fn connects(&self) -> bool {
        self.gvk.kind.ends_with("Options") && self.name != "log"
    }
}

/// Which specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edition {
    V2,
    V3,
}

impl Edition {
    fn reference(self, definition: &str) -> String {
        match self {
            Self::V2 => format!("#/definitions/{definition}"),
            Self::V3 => format!("#/components/schemas/{definition}"),
        }
    }
}

const TITLE: &str = "Kubernetes";

/// Changes when the document of that name and these rows would: 32 hex digits.
pub fn hash(name: &str, rows: &[Served]) -> String {
    // Another build may tell more of the same rows.
    let mut text = format!("{name} {} {}", version::KUBERNETES, env!("ORCH_BUILT_AT"));
    for row in rows {
        let schema = row.schema.as_ref().map_or(0, |schema| schema.hash);
        let _ = write!(text, "|{} {} {} {:?} {schema:x}", row.gvk, row.plural, row.namespaced, row.verbs);
        if row.is_custom() {
            let _ = write!(text, " {} {:?}", row.list_kind, row.selectable);
        }
        for subresource in &row.subresources {
            let _ = write!(text, "/{} {} {:?}", subresource.name, subresource.gvk, subresource.verbs);
        }
    }
    digest(&text)
}

/// The hash of a document that something is merged into: `tags` differ with that.
pub fn hash_with(hash: &str, tags: &str) -> String {
    digest(&format!("{hash}|{tags}"))
}

fn digest(text: &str) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(text.as_bytes()).iter().take(16).map(|byte| format!("{byte:02X}")).collect()
}

/// Members of an object, one by one.
struct Members<'o> {
    out: &'o mut Vec<u8>,
    first: bool,
}

impl<'o> Members<'o> {
    fn open(out: &'o mut Vec<u8>, name: &str) -> Self {
        out.extend_from_slice(format!("\"{name}\":{{").as_bytes());
        Self { out, first: true }
    }

    fn put(&mut self, name: &str, value: &Value) {
        if !std::mem::replace(&mut self.first, false) {
            self.out.push(b',');
        }
        self.out.extend_from_slice(Value::from(name).to_string().as_bytes());
        self.out.push(b':');
        self.out.extend_from_slice(value.to_string().as_bytes());
    }

    fn close(self) {
        self.out.push(b'}');
    }
}

/// The operations that a document tells of: that of a group version tells of its rows.
fn of_document(name: &str, rows: &[Served], descriptions: &Descriptions) -> Vec<Operation> {
    let (group, version) = match name.split('/').collect::<Vec<_>>().as_slice() {
        ["api", version] => ("", *version),
        ["apis", group, version] => (*group, *version),
        ["apis", group] => return vec![operations::of_group(group)],
        _ => return operations::of_server(name).into_iter().collect(),
    };
    let mut catalog = Catalog::new(descriptions);
    let mut all = Vec::new();
    if !is_custom(rows) {
        all.push(operations::of_version(group, version));
    }
    all.extend(rows.iter().flat_map(|row| catalog.row(row)));
    all
}

/// A document that tells of nothing but custom resources.
fn is_custom(rows: &[Served]) -> bool {
    !rows.is_empty() && rows.iter().all(Served::is_custom)
}

/// An OpenAPI v3 document: `api/v1` and `apis/apps/v1` of the rows of the group version; `apis/apps` and
/// those of [`SERVER`] without rows.
pub fn v3(name: &str, rows: &[Served]) -> Vec<u8> {
    let descriptions = Descriptions::read();
    let operations = of_document(name, rows, &descriptions);
    let definitions = Definitions::new(Edition::V3, &descriptions, rows, &operations);
    let mut out = Vec::with_capacity(256 * 1024);
    let info = match is_custom(rows) {
        true => json!({"title": "Kubernetes CRD Swagger", "version": "v0.1.0"}),
        false => json!({"title": TITLE, "version": minor_version()}),
    };
    out.extend_from_slice(format!("{{\"openapi\":\"3.0.0\",\"info\":{info},").as_bytes());
    let mut members = Members::open(&mut out, "paths");
    paths::write(Edition::V3, operations, &mut Shared::new(), &mut |path, item| members.put(path, &item));
    members.close();
    out.extend_from_slice(b",\"components\":{");
    let mut members = Members::open(&mut out, "schemas");
    definitions.each(&mut |name, schema| members.put(name, &schema));
    let any = !members.first;
    members.close();
    if !any {
        out.truncate(out.len() - "\"schemas\":{}".len());
    }
    if !is_custom(rows) {
        let security = json!({"BearerToken": {"type": "apiKey", "description": "Bearer Token authentication",
            "name": "authorization", "in": "header"}});
        let comma = if any { "," } else { "" };
        out.extend_from_slice(format!("{comma}\"securitySchemes\":{security}").as_bytes());
    }
    out.extend_from_slice(b"}}");
    out
}

/// As [`v3`], in protobuf.
pub fn v3_protobuf(name: &str, rows: &[Served]) -> Vec<u8> {
    gnostic_v3::document(&serde_json::from_slice(&v3(name, rows)).expect("a document is JSON"))
}

/// `1.36`
fn minor_version() -> String {
    format!("{}.{}", version::MAJOR, version::MINOR)
}

fn v2_head() -> Value {
    json!({"swagger": "2.0", "info": {"title": TITLE, "version": minor_version()}})
}

fn v2_security() -> Value {
    json!({"BearerToken": {"description": "Bearer Token authentication", "type": "apiKey", "name": "authorization", "in": "header"}})
}

/// Everything that the document of version 2 tells of.
struct Whole<'r> {
    rows: &'r [Served],
    descriptions: Descriptions,
}

impl<'r> Whole<'r> {
    fn new(rows: &'r [Served]) -> Self {
        Self { rows, descriptions: Descriptions::read() }
    }

    fn operations(&self) -> Vec<Operation> {
        let mut all: Vec<Operation> = SERVER.iter().filter_map(|name| operations::of_server(name)).collect();
        let mut versions: Vec<(&str, &str)> = Vec::new();
        for row in self.rows.iter().filter(|row| !row.is_custom()) {
            let (group, version) = (&*row.gvk.group, &*row.gvk.version);
            if !group.is_empty() && !versions.iter().any(|(known, _)| *known == group) {
                all.push(operations::of_group(group));
            }
            if !versions.contains(&(group, version)) {
                versions.push((group, version));
                all.push(operations::of_version(group, version));
            }
        }
        let mut catalog = Catalog::new(&self.descriptions);
        all.extend(self.rows.iter().flat_map(|row| catalog.row(row)));
        all
    }

    /// Its paths, written, with the parameters that they refer to; and its definitions.
    fn parts(&self, put: &mut dyn FnMut(&str, Value)) -> (Shared, Definitions<'_>) {
        let operations = self.operations();
        let definitions = Definitions::new(Edition::V2, &self.descriptions, self.rows, &operations);
        let mut shared = Shared::new();
        paths::write(Edition::V2, operations, &mut shared, put);
        (shared, definitions)
    }

    /// What documents of other servers change.
    fn merge(&self, foreign: &[Arc<Foreign>]) -> Merge {
        let mut merge = Merge::default();
        if !foreign.is_empty() {
            let (shared, definitions) = self.parts(&mut |path, _| merge.own_path(path));
            shared.into_iter().for_each(|(name, parameter)| merge.own_parameter(name, parameter));
            definitions.each(&mut |name, schema| {
                let concerned = foreign.iter().any(|foreign| foreign.concerns(name));
                merge.own_definition(name, concerned.then_some(schema));
            });
            foreign.iter().for_each(|foreign| merge.add(foreign));
        }
        merge
    }
}

/// The OpenAPI v2 document of all rows, and of other servers.
pub fn v2(rows: &[Served], foreign: &[Arc<Foreign>]) -> Vec<u8> {
    let whole = Whole::new(rows);
    let mut merge = whole.merge(foreign);
    let mut out = Vec::with_capacity(1024 * 1024);
    let head = v2_head().to_string();
    out.extend_from_slice(&head.as_bytes()[..head.len() - 1]);
    out.push(b',');
    let mut members = Members::open(&mut out, "paths");
    let (mut parameters, definitions) = whole.parts(&mut |path, item| members.put(path, &item));
    merge.new_paths.iter().for_each(|(path, item)| members.put(path, item));
    members.close();
    out.push(b',');
    let mut members = Members::open(&mut out, "definitions");
    definitions.each(&mut |name, schema| members.put(name, &merge.definitions.remove(name).unwrap_or(schema)));
    merge.definitions.iter().for_each(|(name, schema)| members.put(name, schema));
    members.close();
    out.push(b',');
    parameters.append(&mut merge.parameters);
    let mut members = Members::open(&mut out, "parameters");
    parameters.iter().for_each(|(name, parameter)| members.put(name, parameter));
    members.close();
    let security = v2_security();
    out.extend_from_slice(
        format!(",\"securityDefinitions\":{security},\"security\":[{{\"BearerToken\":[]}}]}}").as_bytes(),
    );
    out
}

/// The same as `openapi.v2.Document` of gnostic.
pub fn v2_protobuf(rows: &[Served], foreign: &[Arc<Foreign>]) -> Vec<u8> {
    let whole = Whole::new(rows);
    let mut merge = whole.merge(foreign);
    let mut document = gnostic::Document::new(&v2_head());
    let (mut parameters, definitions) = whole.parts(&mut |path, item| document.path(path, &item));
    merge.new_paths.iter().for_each(|(path, item)| document.path(path, item));
    document.end_paths();
    definitions.each(&mut |name, schema| document.definition(name, &merge.definitions.remove(name).unwrap_or(schema)));
    merge.definitions.iter().for_each(|(name, schema)| document.definition(name, schema));
    parameters.append(&mut merge.parameters);
    parameters.iter().for_each(|(name, parameter)| document.parameter(name, parameter));
    document.finish(&v2_security())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(api_version: &str, kind: &str, plural: &str) -> Served {
        let gvk = GroupVersionKind::from_api_version(api_version, kind);
        Served {
            schema: crate::schema::builtin_schema(&gvk),
            list_kind: format!("{kind}List"),
            selectable: Vec::new(),
            returns_deleted: false,
            gvk: gvk.clone(),
            plural: plural.to_owned(),
            namespaced: true,
            verbs: vec!["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
            subresources: vec![ServedSubresource {
                name: "status".to_owned(),
                gvk,
                verbs: vec!["get", "patch", "update"],
            }],
        }
    }

    fn document() -> Value {
        let bytes = v3("apis/apps/v1", &[served("apps/v1", "Deployment", "deployments")]);
        serde_json::from_slice(&bytes).expect("JSON")
    }

    #[test]
    fn every_reference_has_its_definition() {
        fn references(value: &Value, out: &mut Vec<String>) {
            match value {
                Value::Object(map) => {
                    if let Some(Value::String(reference)) = map.get("$ref") {
                        out.push(reference.clone());
                    }
                    map.values().for_each(|value| references(value, out));
                }
                Value::Array(list) => list.iter().for_each(|value| references(value, out)),
                _ => {}
            }
        }
        let rows = [served("apps/v1", "Deployment", "deployments"), served("v1", "Pod", "pods")];
        for document in [document(), serde_json::from_slice(&v2(&rows, &[])).expect("JSON")] {
            let mut all = Vec::new();
            references(&document, &mut all);
            assert!(all.len() > 100);
            for reference in all {
                let pointer = reference.trim_start_matches('#');
                assert!(document.pointer(pointer).is_some(), "{reference}");
            }
        }
    }

    #[test]
    fn a_schema_has_what_clients_read() {
        let document = document();
        let schemas = &document["components"]["schemas"];
        let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
        assert_eq!(deployment["x-kubernetes-group-version-kind"][0]["kind"], "Deployment");
        assert!(deployment["description"].as_str().is_some_and(|text| text.contains("declarative updates")));
        let pod = &schemas["io.k8s.api.core.v1.PodSpec"];
        let containers = &pod["properties"]["containers"];
        assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
        assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
        assert!(containers["description"].as_str().is_some_and(|text| !text.is_empty()));
        assert_eq!(pod["required"], json!(["containers"]));
    }

    #[test]
    fn a_patch_takes_field_validation() {
        let document = document();
        let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
        assert_eq!(patch["operationId"], "patchAppsV1NamespacedDeployment");
        assert_eq!(
            patch["x-kubernetes-group-version-kind"],
            json!({"group": "apps", "kind": "Deployment", "version": "v1"})
        );
        let names: Vec<_> = patch["parameters"].as_array().into_iter().flatten().map(|p| p["name"].clone()).collect();
        assert!(names.contains(&json!("fieldValidation")), "{names:?}");
        assert!(names.contains(&json!("dryRun")), "{names:?}");
    }

    #[test]
    fn a_hash_follows_the_rows() {
        let one = [served("apps/v1", "Deployment", "deployments")];
        let mut other = one.clone();
        other[0].verbs.pop();
        assert_eq!(hash("v2", &one), hash("v2", &one));
        assert_ne!(hash("v2", &one), hash("v2", &other));
        assert_ne!(hash("api", &[]), hash("apis", &[]));
    }

    #[test]
    fn protobuf_holds_the_names_and_texts() {
        let bytes = v2_protobuf(&[served("apps/v1", "Deployment", "deployments")], &[]);
        for part in [
            "io.k8s.api.apps.v1.Deployment",
            "x-kubernetes-group-version-kind",
            "patchAppsV1NamespacedDeployment",
            "dryRun",
        ] {
            assert!(bytes.windows(part.len()).any(|window| window == part.as_bytes()), "{part}");
        }
    }
}
