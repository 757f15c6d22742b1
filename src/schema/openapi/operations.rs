//! What can be asked of a row, of a group and of the server: the operations of a document.
//!
//! They are listed as they are asked, each with all that it takes; [`super::paths`] writes them.

use super::definitions::{META, kind_definition, served_definition};
use super::descriptions::Descriptions;
use super::{Served, ServedSubresource};
use crate::api::GroupVersionKind;
use crate::schema::table::{Flat, Shape, builtin};
use std::collections::HashMap;
use std::rc::Rc;

type MediaTypes = &'static [&'static str];

const ANY: MediaTypes = &["*/*"];
const TEXT: MediaTypes = &["text/plain", "application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const OBJECTS: MediaTypes = &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const STREAMS: MediaTypes = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];
const PATCHES: MediaTypes = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
/// Custom resources have no protobuf, and no declarations that strategic merge patches go by.
const CUSTOM: MediaTypes = &["application/json", "application/yaml"];
const CUSTOM_PATCHES: MediaTypes =
    &["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];

const OK: &[u16] = &[200];
const WRITTEN: &[u16] = &[200, 201];
const CREATED: &[u16] = &[200, 201, 202];
const DELETED: &[u16] = &[200, 202];

const PRETTY_TEXT: &str = "If 'true', then the output is pretty printed. Defaults to 'false' unless the user-agent indicates a browser or command-line HTTP tool (curl and wget).";
const NAMESPACE_TEXT: &str = "object name and auth scope, such as for teams and projects";

/// In the query or the path.
#[derive(Debug, PartialEq)]
pub struct Parameter {
    pub name: String,
    pub place: &'static str,
    pub kind: &'static str,
    pub description: String,
}

pub struct Body {
    pub definition: Option<String>,
    pub required: bool,
}

/// What is answered on success.
pub enum Reply {
    Text,
    /// None: an object of any shape.
    Object(Option<String>),
}

pub struct Operation {
    pub path: String,
    pub method: &'static str,
    pub id: String,
    pub tag: String,
    pub description: String,
    /// The action and the kind that it is about.
    pub about: Option<(&'static str, GroupVersionKind)>,
    pub consumes: MediaTypes,
    pub produces: MediaTypes,
    pub parameters: Vec<Rc<Parameter>>,
    pub body: Option<Body>,
    pub codes: &'static [u16],
    pub reply: Reply,
}

/// `apps_v1`, `core_v1`, `rbacAuthorization_v1`
fn tag(group: &str, version: &str) -> String {
    let name = group_tag(group);
    format!("{name}_{version}")
}

fn group_tag(group: &str) -> String {
    let name = group.strip_suffix(".k8s.io").unwrap_or(if group.is_empty() { "core" } else { group });
    let mut parts = name.split(['.', '-']);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(&upper(part));
    }
    out
}

fn upper(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_ascii_uppercase().to_string() + chars.as_str()).unwrap_or_default()
}

/// `apps_v1` to `AppsV1`
fn camel(tag: &str) -> String {
    tag.split('_').map(upper).collect()
}

/// `a Pod`, `an Event`; what is plural goes without.
fn with_article(kind: &str) -> String {
    if kind.ends_with('s') && !kind.ends_with("ss") {
        return kind.to_owned();
    }
    let vowel = kind.starts_with(['A', 'E', 'I', 'O', 'U', 'a', 'e', 'i', 'o', 'u']);
    format!("{} {kind}", if vowel { "an" } else { "a" })
}

fn of_path(name: &str, description: String) -> Rc<Parameter> {
    Rc::new(Parameter { name: name.to_owned(), place: "path", kind: "string", description })
}

/// Of the server itself, by the name of their document: `api`, `apis`, `version` and the like.
pub fn of_server(document: &str) -> Option<Operation> {
    let (path, id, tag, description, media, reply) = match document {
        "api" => ("/api/", "getCoreAPIVersions", "core", "get available API versions", OBJECTS, "APIVersions"),
        "apis" => ("/apis/", "getAPIVersions", "apis", "get available API versions", OBJECTS, "APIGroupList"),
        "version" => {
            let about = "get the version information for this server";
            ("/version/", "getCodeVersion", "version", about, &["application/json"] as MediaTypes, VERSION)
        }
        ".well-known/openid-configuration" => (
            "/.well-known/openid-configuration/",
            "getServiceAccountIssuerOpenIDConfiguration",
            "WellKnown",
            "get service account issuer OpenID configuration, also known as the 'OIDC discovery doc'",
            &["application/json"] as MediaTypes,
            "",
        ),
        "openid/v1/jwks" => (
            "/openid/v1/jwks/",
            "getServiceAccountIssuerOpenIDKeyset",
            "openid",
            "get service account issuer OpenID JSON Web Key Set (contains public token verification keys)",
            &["application/jwk-set+json"] as MediaTypes,
            "",
        ),
        _ => return None,
    };
    let reply = match reply {
        "" => Reply::Text,
        VERSION => Reply::Object(Some(VERSION.to_owned())),
        kind => Reply::Object(Some(format!("{META}.{kind}"))),
    };
    let consumes = if matches!(reply, Reply::Text) { &[] } else { media };
    Some(discovery(path.to_owned(), id.to_owned(), tag.to_owned(), description, consumes, media, reply))
}

/// The documents of [`of_server`].
pub const SERVER: &[&str] = &[".well-known/openid-configuration", "api", "apis", "openid/v1/jwks", "version"];

/// The definition of the reply of `/version`.
pub const VERSION: &str = "io.k8s.apimachinery.pkg.version.Info";

pub fn of_group(group: &str) -> Operation {
    let tag = group_tag(group);
    let id = format!("get{}APIGroup", camel(&tag));
    let reply = Reply::Object(Some(format!("{META}.APIGroup")));
    discovery(format!("/apis/{group}/"), id, tag, "get information of a group", OBJECTS, OBJECTS, reply)
}

fn base(group: &str, version: &str) -> String {
    if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") }
}

pub fn of_version(group: &str, version: &str) -> Operation {
    let tag = tag(group, version);
    let id = format!("get{}APIResources", camel(&tag));
    let reply = Reply::Object(Some(format!("{META}.APIResourceList")));
    let path = format!("{}/", base(group, version));
    discovery(path, id, tag, "get available resources", OBJECTS, OBJECTS, reply)
}

fn discovery(
    path: String,
    id: String,
    tag: String,
    description: &str,
    consumes: MediaTypes,
    produces: MediaTypes,
    reply: Reply,
) -> Operation {
    Operation {
        path,
        method: "get",
        id,
        tag,
        description: description.to_owned(),
        about: None,
        consumes,
        produces,
        parameters: Vec::new(),
        body: None,
        codes: OK,
        reply,
    }
}

/// Lists the operations on rows.
pub struct Catalog<'d> {
    descriptions: &'d Descriptions,
    pretty: Rc<Parameter>,
    namespace: Rc<Parameter>,
    options: HashMap<GroupVersionKind, Vec<Rc<Parameter>>>,
}

/// The row or subresource that operations are on.
struct Target<'r> {
    row: &'r Served,
    subresource: Option<&'r ServedSubresource>,
    base: String,
    /// Below the base, without the name.
    collection: String,
    tag: String,
    object: Option<String>,
}

impl<'r> Target<'r> {
    fn new(row: &'r Served, subresource: Option<&'r ServedSubresource>) -> Self {
        let (group, version) = (&row.gvk.group, &row.gvk.version);
        let plural = &row.plural;
        Self {
            row,
            subresource,
            base: base(group, version),
            collection: if row.namespaced { format!("namespaces/{{namespace}}/{plural}") } else { plural.clone() },
            tag: tag(group, version),
            object: served_definition(row, subresource.map_or(&row.gvk, |subresource| &subresource.gvk)),
        }
    }

    fn gvk(&self) -> &'r GroupVersionKind {
        self.subresource.map_or(&self.row.gvk, |subresource| &subresource.gvk)
    }

    fn verbs(&self) -> &'r [&'static str] {
        self.subresource.map_or(&self.row.verbs, |subresource| &subresource.verbs)
    }

    fn has(&self, verb: &str) -> bool {
        self.verbs().contains(&verb)
    }

    fn item(&self) -> String {
        let suffix = self.subresource.map(|subresource| format!("/{}", subresource.name)).unwrap_or_default();
        format!("{}/{{name}}{suffix}", self.collection)
    }

    /// `readAppsV1NamespacedDeploymentScale` of `read`.
    fn id(&self, verb: &str) -> String {
        let scope = if self.row.namespaced { "Namespaced" } else { "" };
        let suffix = self.subresource.map(|subresource| upper(&subresource.name)).unwrap_or_default();
        let (verb, more) = match verb {
            "deletecollection" => ("delete", "Collection"),
            verb => verb.split_at(verb.find(|c: char| c.is_ascii_uppercase()).unwrap_or(verb.len())),
        };
        format!("{verb}{}{more}{scope}{}{suffix}", camel(&self.tag), self.row.gvk.kind)
    }

    /// `scale of the specified Deployment`, with what stands before the kind.
    fn of(&self, subject: &str) -> String {
        match self.subresource {
            Some(subresource) => format!("{} of {subject}", subresource.name),
            None => subject.to_owned(),
        }
    }

    fn specified(&self) -> String {
        self.of(&format!("the specified {}", self.row.gvk.kind))
    }
}

impl<'d> Catalog<'d> {
    pub fn new(descriptions: &'d Descriptions) -> Self {
        let pretty = Parameter {
            name: "pretty".to_owned(),
            place: "query",
            kind: "string",
            description: PRETTY_TEXT.to_owned(),
        };
        let namespace = of_path("namespace", NAMESPACE_TEXT.to_owned());
        Self { descriptions, pretty: Rc::new(pretty), namespace, options: HashMap::new() }
    }

    /// The query parameters of a request: the plain fields of its options.
    fn options(&mut self, gvk: &GroupVersionKind) -> Vec<Rc<Parameter>> {
        if let Some(known) = self.options.get(gvk) {
            return known.clone();
        }
        let table = builtin();
        let definition = kind_definition(gvk).unwrap_or_default();
        let of = |flat: &Flat| {
            let name = table.name(flat.field.name);
            let of_element = match table.shape(flat.field.kind) {
                Shape::List { element, .. } => table.shape(element),
                shape => shape,
            };
            let kind = match of_element {
                Shape::Bool => "boolean",
                Shape::Int32 | Shape::Int64 => "integer",
                Shape::String => "string",
                _ => return None,
            };
            let description = self.descriptions.of_field(&definition, name);
            // A read of one object takes a version as a list does.
            let description = match description.is_empty() {
                true => self.descriptions.of_field(&format!("{META}.ListOptions"), name),
                false => description,
            };
            let own = !matches!(name, "apiVersion" | "kind");
            own.then(|| Rc::new(Parameter { name: name.to_owned(), place: "query", kind, description }))
        };
        let id = table.lookup(gvk).and_then(|root| table.as_struct(root));
        let all: Vec<_> = id.map(|id| table.fields(id).iter().filter_map(of).collect()).unwrap_or_default();
        self.options.insert(gvk.clone(), all.clone());
        all
    }

    fn meta_options(&mut self, kind: &str) -> Vec<Rc<Parameter>> {
        self.options(&GroupVersionKind::new("", "v1", kind))
    }

    /// Everything that can be asked of a row.
    pub fn row(&mut self, row: &Served) -> Vec<Operation> {
        let mut out = Vec::new();
        if row.is_custom() {
            self.custom(&Target::new(row, None), &mut out);
            return out;
        }
        let target = Target::new(row, None);
        self.collection(&target, &mut out);
        self.object(&target, &mut out);
        for subresource in &row.subresources {
            let target = Target::new(row, Some(subresource));
            if subresource.connects() {
                self.connect(&target, &mut out);
            } else {
                self.object(&target, &mut out);
            }
        }
        out
    }

    /// An operation on an object or, without its name, on many.
    fn operation(
        &self,
        target: &Target<'_>,
        action: &'static str,
        method: &'static str,
        path: &str,
        description: String,
        id: String,
    ) -> Operation {
        let mut parameters = vec![Rc::clone(&self.pretty)];
        if path.contains("{namespace}") {
            parameters.push(Rc::clone(&self.namespace));
        }
        if path.contains("{name}") {
            parameters.push(of_path("name", format!("name of the {}", target.gvk().kind)));
        }
        Operation {
            path: format!("{}/{path}", target.base),
            method,
            id,
            tag: target.tag.clone(),
            description,
            about: Some((action, target.gvk().clone())),
            consumes: ANY,
            produces: OBJECTS,
            parameters,
            body: None,
            codes: OK,
            reply: Reply::Object(target.object.clone()),
        }
    }

    fn collection(&mut self, target: &Target<'_>, out: &mut Vec<Operation>) {
        let (row, kind) = (target.row, &target.row.gvk.kind);
        let list_options = self.meta_options("ListOptions");
        let list_kind = GroupVersionKind::new(&row.gvk.group, &row.gvk.version, &row.list_kind);
        let list_kind = served_definition(row, &list_kind);
        let watched = Some(format!("{META}.WatchEvent"));
        let mut all = vec![(target.collection.clone(), target.id("list"), target.id("watch") + "List")];
        if row.namespaced {
            let name = format!("{}{kind}", camel(&target.tag));
            let of_all = |verb: &str, list: &str| format!("{verb}{name}{list}ForAllNamespaces");
            all.push((row.plural.clone(), of_all("list", ""), of_all("watch", "List")));
        }
        for (path, list_id, watch_id) in all {
            if target.has("list") {
                let verb = if target.has("watch") { "list or watch" } else { "list" };
                let description = format!("{verb} objects of kind {kind}");
                let mut list = self.operation(target, "list", "get", &path, description, list_id);
                list.parameters.extend(list_options.iter().cloned());
                list.produces = STREAMS;
                list.reply = Reply::Object(list_kind.clone());
                out.push(list);
            }
            if target.has("list") && target.has("watch") {
                let description = format!(
                    "watch individual changes to a list of {kind}. deprecated: use the 'watch' parameter with a list operation instead."
                );
                let path = format!("watch/{path}");
                let mut watch = self.operation(target, "watchlist", "get", &path, description, watch_id);
                watch.parameters.extend(list_options.iter().cloned());
                watch.produces = STREAMS;
                watch.reply = Reply::Object(watched.clone());
                out.push(watch);
            }
        }
        if target.has("create") {
            self.create(target, &target.collection, out);
        }
        if target.has("deletecollection") {
            let description = format!("delete collection of {kind}");
            let id = target.id("deletecollection");
            let mut delete = self.operation(target, "deletecollection", "delete", &target.collection, description, id);
            delete.parameters.extend(self.meta_options("DeleteOptions"));
            let own = |parameter: &&Rc<Parameter>| !matches!(&*parameter.name, "watch" | "allowWatchBookmarks");
            delete.parameters.extend(list_options.iter().filter(own).cloned());
            delete.body = delete_options();
            delete.reply = Reply::Object(Some(format!("{META}.Status")));
            out.push(delete);
        }
        if target.has("watch") {
            let description = format!(
                "watch changes to an object of kind {kind}. deprecated: use the 'watch' parameter with a list operation instead, filtered to a single item with the 'fieldSelector' parameter."
            );
            let path = format!("watch/{}", target.item());
            let mut watch = self.operation(target, "watch", "get", &path, description, target.id("watch"));
            watch.parameters.extend(list_options.iter().cloned());
            watch.produces = STREAMS;
            watch.reply = Reply::Object(watched);
            out.push(watch);
        }
    }

    fn create(&mut self, target: &Target<'_>, path: &str, out: &mut Vec<Operation>) {
        let description = format!("create {}", target.of(&with_article(&target.row.gvk.kind)));
        let mut post = self.operation(target, "post", "post", path, description, target.id("create"));
        post.parameters.extend(self.meta_options("CreateOptions"));
        post.body = Some(Body { definition: target.object.clone(), required: true });
        post.codes = CREATED;
        out.push(post);
    }

    /// The operations on one object or on a subresource of it.
    fn object(&mut self, target: &Target<'_>, out: &mut Vec<Operation>) {
        let path = target.item();
        if target.has("get") {
            let description = format!("read {}", target.specified());
            let mut get = self.operation(target, "get", "get", &path, description, target.id("read"));
            if target.subresource.is_some_and(|subresource| subresource.name == "log") {
                let own = self.options(&GroupVersionKind::new("", "v1", "PodLogOptions"));
                get.parameters.extend(own);
                get.produces = TEXT;
                get.reply = Reply::Text;
            }
            out.push(get);
        }
        if target.has("create") && target.subresource.is_some() {
            self.create(target, &path, out);
        }
        if target.has("update") {
            let description = format!("replace {}", target.specified());
            let mut put = self.operation(target, "put", "put", &path, description, target.id("replace"));
            put.parameters.extend(self.meta_options("UpdateOptions"));
            put.body = Some(Body { definition: target.object.clone(), required: true });
            put.codes = WRITTEN;
            out.push(put);
        }
        if target.has("patch") {
            let description = format!("partially update {}", target.specified());
            let mut patch = self.operation(target, "patch", "patch", &path, description, target.id("patch"));
            patch.parameters.extend(self.meta_options("PatchOptions"));
            patch.consumes = PATCHES;
            patch.body = Some(Body { definition: Some(format!("{META}.Patch")), required: true });
            patch.codes = WRITTEN;
            out.push(patch);
        }
        if target.has("delete") {
            let description = format!("delete {}", target.of(&with_article(&target.row.gvk.kind)));
            let mut delete = self.operation(target, "delete", "delete", &path, description, target.id("delete"));
            delete.parameters.extend(self.meta_options("DeleteOptions"));
            delete.body = delete_options();
            delete.codes = DELETED;
            // A namespace is answered too, but is not told of.
            if !target.row.returns_deleted || target.row.gvk.kind == "Namespace" {
                delete.reply = Reply::Object(Some(format!("{META}.Status")));
            }
            out.push(delete);
        }
    }

    /// The operations of a connection: what goes over it has no schema.
    fn connect(&mut self, target: &Target<'_>, out: &mut Vec<Operation>) {
        const METHODS: &[(&str, &[&str])] = &[
            ("get", &["get", "head", "options"]),
            ("create", &["post"]),
            ("update", &["put"]),
            ("patch", &["patch"]),
            ("delete", &["delete"]),
        ];
        let gvk = target.gvk();
        let is_proxy = gvk.kind.ends_with("ProxyOptions");
        let name = target.subresource.map(|subresource| &*subresource.name).unwrap_or_default();
        let options = self.options(gvk);
        let methods = METHODS.iter().filter(|(verb, _)| target.has(verb)).flat_map(|(_, methods)| *methods);
        for &method in methods.filter(|method| is_proxy || matches!(**method, "get" | "post")) {
            for below in [false, true] {
                if below && !is_proxy {
                    continue;
                }
                let loud = method.to_ascii_uppercase();
                let description = format!("connect {loud} requests to {name} of {}", target.row.gvk.kind);
                let id = target.id(&format!("connect{}", upper(method)));
                let path = target.item();
                let mut connect = match below {
                    false => self.operation(target, "connect", method, &path, description, id),
                    true => {
                        let path = format!("{path}/{{path}}");
                        self.operation(target, "connect", method, &path, description, id + "WithPath")
                    }
                };
                connect.parameters.retain(|parameter| parameter.name != "pretty");
                connect.parameters.extend(options.iter().cloned());
                if below {
                    connect.parameters.push(of_path("path", "path to the resource".to_owned()));
                }
                connect.produces = ANY;
                connect.reply = Reply::Text;
                out.push(connect);
            }
        }
    }

    /// Custom resources are told of in fewer words: every operation is of the kind itself.
    fn custom(&mut self, target: &Target<'_>, out: &mut Vec<Operation>) {
        let row = target.row;
        let kind = &row.gvk.kind;
        let list_kind = GroupVersionKind::new(&row.gvk.group, &row.gvk.version, &row.list_kind);
        let list_kind = served_definition(row, &list_kind);
        let list_options = self.meta_options("ListOptions");
        let description = format!("list objects of kind {kind}");
        let mut paths = vec![(target.collection.clone(), target.id("list"))];
        if row.namespaced {
            paths.push((row.plural.clone(), format!("list{}{kind}ForAllNamespaces", camel(&target.tag))));
        }
        for (path, id) in paths {
            let mut list = self.operation(target, "list", "get", &path, description.clone(), id);
            list.parameters.extend(list_options.iter().cloned());
            list.reply = Reply::Object(list_kind.clone());
            out.push(list);
        }
        self.create(target, &target.collection, out);
        let id = target.id("deletecollection");
        let description = format!("delete collection of {kind}");
        let mut delete = self.operation(target, "deletecollection", "delete", &target.collection, description, id);
        delete.parameters.extend(list_options);
        delete.reply = Reply::Object(Some(format!("{META}.Status")));
        out.push(delete);
        self.object(target, out);
        for subresource in &row.subresources {
            let target = Target::new(row, Some(subresource));
            let first = out.len();
            self.object(&target, out);
            for operation in &mut out[first..] {
                operation.about = operation.about.take().map(|(action, _)| (action, row.gvk.clone()));
                for parameter in operation.parameters.iter_mut().filter(|parameter| parameter.name == "name") {
                    *parameter = of_path("name", format!("name of the {kind}"));
                }
            }
        }
        let read = self.meta_options("GetOptions");
        for operation in out {
            operation.produces = CUSTOM;
            match operation.about.as_ref().map(|(action, _)| *action) {
                Some("get") => operation.parameters.extend(read.iter().cloned()),
                Some("delete") => operation.reply = Reply::Object(Some(format!("{META}.Status"))),
                Some("patch") => operation.codes = OK,
                _ => {}
            }
            operation.consumes = if operation.method == "patch" { CUSTOM_PATCHES } else { CUSTOM };
        }
    }
}

fn delete_options() -> Option<Body> {
    Some(Body { definition: Some(format!("{META}.DeleteOptions")), required: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_identifiers() {
        assert_eq!(tag("", "v1"), "core_v1");
        assert_eq!(tag("rbac.authorization.k8s.io", "v1"), "rbacAuthorization_v1");
        assert_eq!(tag("my-group.example.com", "v1beta1"), "myGroupExampleCom_v1beta1");
        assert_eq!(camel(&tag("internal.apiserver.k8s.io", "v1alpha1")), "InternalApiserverV1alpha1");
    }

    #[test]
    fn kinds_have_their_article() {
        assert_eq!(
            ["Pod", "Event", "Endpoints", "IngressClass"].map(with_article),
            ["a Pod", "an Event", "Endpoints", "an IngressClass"]
        );
    }
}
