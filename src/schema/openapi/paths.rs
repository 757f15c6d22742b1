//! The paths of a group version and the operations on them.

use super::definitions::{kind_definition, options, served_definition};
use super::{Edition, Served, ServedSubresource};
use crate::api::{Fields, FieldsMut, GroupVersionKind};
use serde_json::{Map, Value, json};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const MEDIA_TYPES: &[&str] = &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const STREAM_TYPES: &[&str] = &["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];
const PATCH_TYPES: &[&str] = &[
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// Query parameters: name, type, description.
type Parameter = (&'static str, &'static str, &'static str);

const PRETTY: Parameter = ("pretty", "string", "If 'true', then the output is pretty printed.");
const DRY_RUN: Parameter = ("dryRun", "string", "When present, indicates that modifications should not be persisted.");
const FIELD_MANAGER: Parameter =
    ("fieldManager", "string", "The name associated with the actor that makes these changes.");
const FIELD_VALIDATION: Parameter =
    ("fieldValidation", "string", "What to do about unknown and duplicate fields: Ignore, Warn or Strict.");
const FORCE: Parameter = ("force", "boolean", "Take fields from other managers; only for apply patches.");
const DELETE: &[Parameter] = &[
    DRY_RUN,
    ("gracePeriodSeconds", "integer", "The duration in seconds before the object should be deleted."),
    ("orphanDependents", "boolean", "Deprecated: use propagationPolicy."),
    (
        "propagationPolicy",
        "string",
        "Whether and how garbage collection is performed: Orphan, Background or Foreground.",
    ),
];
const LIST: &[Parameter] = &[
    ("allowWatchBookmarks", "boolean", "Request watch events of type BOOKMARK."),
    ("continue", "string", "Where a list goes on, from the reply before."),
    ("fieldSelector", "string", "Restrict the returned objects by their fields."),
    ("labelSelector", "string", "Restrict the returned objects by their labels."),
    ("limit", "integer", "The maximum number of objects in a reply."),
    ("resourceVersion", "string", "A constraint on what resource versions a request may be served from."),
    ("resourceVersionMatch", "string", "How resourceVersion is applied to lists."),
    ("sendInitialEvents", "boolean", "Begin a watch with the objects there are."),
    ("timeoutSeconds", "integer", "Timeout of the call."),
    ("watch", "boolean", "Watch for changes instead of listing."),
];

/// Every path of a group version, with its item.
pub fn of_group_version(
    edition: Edition,
    group: &str,
    version: &str,
    rows: &[Served],
    put: &mut dyn FnMut(&str, Value),
) {
    let base = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
    let tag = tag(group, version);
    let writer = Writer { edition, tag: &tag, patches: PATCH_TYPES, bodies: &["*/*"] };
    let resources = GroupVersionKind::new("", "v1", "APIResourceList");
    let mut get = writer.operation("get", "get available resources", &format!("get{}APIResources", camel(&tag)), None);
    writer.replies(&mut get, &[200], kind_definition(&resources).as_deref(), MEDIA_TYPES);
    put(&format!("{base}/"), json!({"get": get}));
    for row in rows {
        // Strategic merge patches go by declarations that custom resources do not have.
        let own = match row.is_custom() {
            true => Writer { patches: &PATCH_TYPES[..3], bodies: &MEDIA_TYPES[..2], ..writer },
            false => Writer { ..writer },
        };
        own.row(&base, row, put);
    }
}

/// `apps_v1`, `core_v1`, `rbacAuthorization_v1`
fn tag(group: &str, version: &str) -> String {
    let name = group.strip_suffix(".k8s.io").unwrap_or(if group.is_empty() { "core" } else { group });
    let mut parts = name.split('.');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(&upper(part));
    }
    format!("{out}_{version}")
}

fn upper(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_ascii_uppercase().to_string() + chars.as_str()).unwrap_or_default()
}

/// `apps_v1` to `AppsV1`
fn camel(tag: &str) -> String {
    tag.split('_').map(upper).collect()
}

struct Writer<'a> {
    edition: Edition,
    tag: &'a str,
    /// Media types of patches.
    patches: &'static [&'static str],
    /// Media types of objects that are sent.
    bodies: &'static [&'static str],
}

/// `a Pod`, `an Event`; what is plural goes without.
fn with_article(kind: &str) -> String {
    if kind.ends_with('s') && !kind.ends_with("ss") {
        return kind.to_owned();
    }
    let article = if kind.starts_with(['A', 'E', 'I', 'O', 'U']) { "an" } else { "a" };
    format!("{article} {kind}")
}

impl Writer<'_> {
    fn row(&self, base: &str, row: &Served, put: &mut dyn FnMut(&str, Value)) {
        let has = |verb: &str| row.verbs.contains(&verb);
        let (plural, kind) = (&row.plural, &row.gvk.kind);
        let (collection, scope) = if row.namespaced {
            (format!("{base}/namespaces/{{namespace}}/{plural}"), "Namespaced")
        } else {
            (format!("{base}/{plural}"), "")
        };
        let name = camel(self.tag);
        let object = served_definition(row, &row.gvk);
        let object = object.as_deref();
        let list_kind = GroupVersionKind::new(&row.gvk.group, &row.gvk.version, &row.list_kind);
        let list = served_definition(row, &list_kind);
        let mut item = Map::new();
        if has("list") {
            item.insert("get".to_owned(), self.list(row, &format!("list{name}{scope}{kind}"), list.as_deref()));
        }
        if has("create") {
            let id = format!("create{name}{scope}{kind}");
            let mut post = self.operation("post", &format!("create {}", with_article(kind)), &id, Some(&row.gvk));
            self.query(&mut post, &[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION]);
            self.body(&mut post, object, self.bodies);
            self.replies(&mut post, &[200, 201, 202], object, MEDIA_TYPES);
            item.insert("post".to_owned(), post);
        }
        if has("deletecollection") {
            let id = format!("delete{name}Collection{scope}{kind}");
            let mut delete =
                self.operation("deletecollection", &format!("delete collection of {kind}"), &id, Some(&row.gvk));
            self.query(&mut delete, &[&DELETE[..1], &LIST[1..8], &DELETE[1..]].concat());
            self.options_body(&mut delete);
            self.replies(&mut delete, &[200], Some(&format!("{META}.Status")), MEDIA_TYPES);
            item.insert("delete".to_owned(), delete);
        }
        self.item(&collection, row.namespaced, None, item, put);

        let named = format!("{collection}/{{name}}");
        let deleted = object.filter(|_| row.returns_deleted);
        let item = self.object(&format!("{name}{scope}{kind}"), "", &row.gvk, deleted, object, &row.verbs, kind);
        self.item(&named, row.namespaced, Some(kind), item, put);
        for subresource in &row.subresources {
            let path = format!("{named}/{}", subresource.name);
            if subresource.connects() {
                let item = self.connect(&format!("{scope}{kind}"), kind, subresource);
                self.item(&path, row.namespaced, Some(&subresource.gvk.kind), item, put);
                continue;
            }
            let suffix: String = subresource.name.split('/').map(upper).collect();
            let object = served_definition(row, &subresource.gvk);
            let title = format!("{} of the specified {kind}", subresource.name);
            let item = self.object(
                &format!("{name}{scope}{kind}"),
                &suffix,
                &subresource.gvk,
                None,
                object.as_deref(),
                &subresource.verbs,
                &title,
            );
            self.item(&path, row.namespaced, Some(&subresource.gvk.kind), item, put);
        }
        if row.namespaced && has("list") {
            let id = format!("list{name}{kind}ForAllNamespaces");
            // What the only operation takes stands with the path.
            let mut get = self.list(row, &id, list.as_deref());
            let mut parameters = get["parameters"].take();
            get.clear("parameters");
            if let Some(parameters) = parameters.as_array_mut() {
                parameters.push(self.parameter("query", PRETTY));
                parameters.sort_by_key(|parameter| parameter.str_at("name").to_owned());
            }
            put(&format!("{base}/{plural}"), json!({"get": get, "parameters": parameters}));
        }
    }

    /// The operations of a connection: what goes over it has no schema.
    fn connect(&self, name: &str, kind: &str, subresource: &ServedSubresource) -> Map<String, Value> {
        const METHODS: &[(&str, &[&str])] = &[
            ("get", &["get", "head", "options"]),
            ("create", &["post"]),
            ("update", &["put"]),
            ("patch", &["patch"]),
            ("delete", &["delete"]),
        ];
        let is_proxy = subresource.gvk.kind.ends_with("ProxyOptions");
        let methods = METHODS.iter().filter(|(verb, _)| subresource.verbs.contains(verb));
        let suffix: String = subresource.name.split('/').map(upper).collect();
        let mut item = Map::new();
        for method in
            methods.flat_map(|(_, methods)| *methods).filter(|method| is_proxy || matches!(**method, "get" | "post"))
        {
            let description =
                format!("connect {} requests to {} of {kind}", method.to_ascii_uppercase(), subresource.name);
            let id = format!("connect{}{}{name}{suffix}", camel(self.tag), upper(method));
            let mut operation = self.operation("connect", &description, &id, Some(&subresource.gvk));
            let text = json!({"type": "string"});
            let told = match self.edition {
                Edition::V2 => json!({"description": "OK", "schema": text}),
                Edition::V3 => json!({"description": "OK", "content": {"*/*": {"schema": text}}}),
            };
            operation["responses"] = json!({"200": told, "401": {"description": "Unauthorized"}});
            if self.edition == Edition::V2 {
                operation["produces"] = json!(["*/*"]);
            }
            item.insert((*method).to_owned(), operation);
        }
        let options = options(&subresource.gvk);
        let options = options.iter().map(|(name, kind)| self.parameter("query", (name, kind, "")));
        item.insert("parameters".to_owned(), options.collect());
        item
    }

    /// The operations on one object or on a subresource of it.
    #[allow(clippy::too_many_arguments)]
    fn object(
        &self,
        name: &str,
        suffix: &str,
        gvk: &GroupVersionKind,
        deleted: Option<&str>,
        object: Option<&str>,
        verbs: &[&'static str],
        title: &str,
    ) -> Map<String, Value> {
        let has = |verb: &str| verbs.contains(&verb);
        let specified = if suffix.is_empty() { format!("the specified {}", gvk.kind) } else { title.to_owned() };
        let write = [DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION];
        let mut item = Map::new();
        if has("get") {
            let mut get =
                self.operation("get", &format!("read {specified}"), &format!("read{name}{suffix}"), Some(gvk));
            self.replies(&mut get, &[200], object, MEDIA_TYPES);
            item.insert("get".to_owned(), get);
        }
        if has("create") && !suffix.is_empty() {
            let mut post =
                self.operation("post", &format!("create {specified}"), &format!("create{name}{suffix}"), Some(gvk));
            self.query(&mut post, &write);
            self.body(&mut post, object, self.bodies);
            self.replies(&mut post, &[200, 201, 202], object, MEDIA_TYPES);
            item.insert("post".to_owned(), post);
        }
        if has("update") {
            let mut put =
                self.operation("put", &format!("replace {specified}"), &format!("replace{name}{suffix}"), Some(gvk));
            self.query(&mut put, &write);
            self.body(&mut put, object, self.bodies);
            self.replies(&mut put, &[200, 201], object, MEDIA_TYPES);
            item.insert("put".to_owned(), put);
        }
        if has("patch") {
            let description = format!("partially update {specified}");
            let mut patch = self.operation("patch", &description, &format!("patch{name}{suffix}"), Some(gvk));
            self.query(&mut patch, &[write[0], write[1], write[2], FORCE]);
            self.body(&mut patch, Some(&format!("{META}.Patch")), self.patches);
            self.replies(&mut patch, &[200, 201], object, MEDIA_TYPES);
            item.insert("patch".to_owned(), patch);
        }
        if has("delete") {
            let description = format!("delete {}", with_article(&gvk.kind));
            let mut delete = self.operation("delete", &description, &format!("delete{name}{suffix}"), Some(gvk));
            self.query(&mut delete, DELETE);
            self.options_body(&mut delete);
            let reply = deleted.map_or_else(|| format!("{META}.Status"), str::to_owned);
            self.replies(&mut delete, &[200, 202], Some(&reply), MEDIA_TYPES);
            item.insert("delete".to_owned(), delete);
        }
        item
    }

    fn list(&self, row: &Served, id: &str, list: Option<&str>) -> Value {
        let description = format!("list or watch objects of kind {}", row.gvk.kind);
        let mut get = self.operation("list", &description, id, Some(&row.gvk));
        self.query(&mut get, LIST);
        self.replies(&mut get, &[200], list, &[MEDIA_TYPES, STREAM_TYPES].concat());
        get
    }

    fn operation(&self, action: &str, description: &str, id: &str, gvk: Option<&GroupVersionKind>) -> Value {
        let mut operation = json!({"tags": [self.tag], "description": description, "operationId": id});
        if let Some(gvk) = gvk {
            operation["x-kubernetes-action"] = action.into();
            operation["x-kubernetes-group-version-kind"] =
                json!({"group": gvk.group, "kind": gvk.kind, "version": gvk.version});
        }
        if self.edition == Edition::V2 {
            operation["schemes"] = json!(["https"]);
            operation["consumes"] = json!(["*/*"]);
        }
        operation
    }

    fn parameter(&self, place: &str, (name, kind, description): Parameter) -> Value {
        let mut parameter = json!({"name": name, "in": place});
        if !description.is_empty() {
            parameter["description"] = description.into();
        }
        match self.edition {
            Edition::V3 => parameter["schema"] = json!({"type": kind, "uniqueItems": true}),
            Edition::V2 => {
                parameter["type"] = kind.into();
                parameter["uniqueItems"] = true.into();
            }
        }
        if place == "path" {
            parameter["required"] = true.into();
        }
        parameter
    }

    fn query(&self, operation: &mut Value, parameters: &[Parameter]) {
        let list: Vec<Value> = parameters.iter().map(|&parameter| self.parameter("query", parameter)).collect();
        match operation["parameters"].as_array_mut() {
            Some(parameters) => parameters.extend(list),
            None => operation["parameters"] = Value::Array(list),
        }
    }

    fn schema(&self, definition: Option<&str>) -> Value {
        definition.map_or_else(|| json!({"type": "object"}), |name| json!({"$ref": self.edition.reference(name)}))
    }

    fn body(&self, operation: &mut Value, definition: Option<&str>, types: &[&str]) {
        let schema = self.schema(definition);
        match self.edition {
            Edition::V3 => {
                let content: Map<String, Value> =
                    types.iter().map(|&media| (media.to_owned(), json!({"schema": schema}))).collect();
                operation["requestBody"] = json!({"content": content, "required": true});
            }
            Edition::V2 => {
                if types != ["*/*"] {
                    operation["consumes"] = json!(types);
                }
                let body = json!({"name": "body", "in": "body", "required": true, "schema": schema});
                match operation["parameters"].as_array_mut() {
                    Some(parameters) => parameters.insert(0, body),
                    None => operation["parameters"] = json!([body]),
                }
            }
        }
    }

    /// The body of a deletion, which may be left out.
    fn options_body(&self, operation: &mut Value) {
        self.body(operation, Some(&format!("{META}.DeleteOptions")), self.bodies);
        if let Some(body) = operation.get_mut("requestBody") {
            body.clear("required");
        }
    }

    fn replies(&self, operation: &mut Value, codes: &[u16], definition: Option<&str>, types: &[&str]) {
        let schema = self.schema(definition);
        let mut responses = Map::new();
        for code in codes {
            let description = match code {
                200 => "OK",
                201 => "Created",
                _ => "Accepted",
            };
            let response = match self.edition {
                Edition::V2 => json!({"description": description, "schema": schema}),
                Edition::V3 => {
                    let content: Map<String, Value> =
                        types.iter().map(|&media| (media.to_owned(), json!({"schema": schema}))).collect();
                    json!({"description": description, "content": content})
                }
            };
            responses.insert(code.to_string(), response);
        }
        responses.insert("401".to_owned(), json!({"description": "Unauthorized"}));
        operation["responses"] = Value::Object(responses);
        if self.edition == Edition::V2 {
            operation["produces"] = json!(types);
        }
    }

    fn item(
        &self,
        path: &str,
        namespaced: bool,
        named: Option<&str>,
        mut item: Map<String, Value>,
        put: &mut dyn FnMut(&str, Value),
    ) {
        if item.is_empty() {
            return;
        }
        let mut parameters = Vec::new();
        if let Some(kind) = named {
            let mut parameter = self.parameter("path", ("name", "string", ""));
            parameter["description"] = format!("name of the {kind}").into();
            parameters.push(parameter);
        }
        if namespaced {
            let description = "object name and auth scope, such as for teams and projects";
            parameters.push(self.parameter("path", ("namespace", "string", description)));
        }
        match item.remove("parameters") {
            Some(Value::Array(own)) => parameters.extend(own),
            _ => parameters.push(self.parameter("query", PRETTY)),
        }
        item.insert("parameters".to_owned(), Value::Array(parameters));
        put(path, Value::Object(item));
    }
}
