//! Whether a webhook or a policy is about a write: rules, selectors, and equivalent resources.

use super::{Attributes, Operation};
use crate::api::selector::LabelSelector;
use crate::api::{Fields, GroupResource, GroupVersionKind, GroupVersionResource, Status};
use crate::apiserver::follow::{Projection, parse_json};
use crate::resources::{Registry, Row};
use crate::storage::{Key, Storage};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rules, and what else a write must be.
pub(super) struct Criteria {
    rules: Vec<Rule>,
    exclude: Vec<Rule>,
    namespaces: LabelSelector,
    objects: LabelSelector,
    equivalent: bool,
}

struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<(String, String)>,
    scope: String,
    names: Vec<String>,
}

/// As which resource it is told of a write: the one of the request, or one that is the same.
#[derive(Clone)]
pub(super) struct Invocation {
    pub resource: GroupVersionResource,
    pub kind: GroupVersionKind,
    /// Set: objects are to be brought into the form of this row first.
    pub row: Option<Arc<Row>>,
}

impl Operation {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

impl Rule {
    fn new(rule: &Value) -> Self {
        let texts = |field: &str| rule.strs_at(field).map(str::to_owned).collect();
        let resources = rule.strs_at("resources").map(|resource| {
            let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            (resource.to_owned(), subresource.to_owned())
        });
        Self {
            operations: texts("operations"),
            groups: texts("apiGroups"),
            versions: texts("apiVersions"),
            resources: resources.collect(),
            scope: rule.str_at("scope").to_owned(),
            names: texts("resourceNames"),
        }
    }

    fn matches(&self, attributes: &Attributes, resource: &GroupVersionResource) -> bool {
        let any = |list: &[String], own: &str| list.iter().any(|one| one == "*" || one == own);
        // A Namespace is in itself, and of the cluster all the same.
        let cluster = attributes.namespace.is_empty() || attributes.is_core("namespaces");
        let scope = match self.scope.as_str() {
            "Namespaced" => !cluster,
            "Cluster" => cluster,
            _ => true,
        };
        scope
            && any(&self.operations, attributes.operation.as_str())
            && any(&self.groups, &resource.group)
            && any(&self.versions, &resource.version)
            && self.about(&resource.resource, attributes.subresource)
            && (self.names.is_empty() || self.names.iter().any(|name| name == attributes.name))
    }

    fn about(&self, resource: &str, subresource: &str) -> bool {
        self.resources.iter().any(|(own, own_subresource)| {
            (own == "*" || own == resource) && (own_subresource == "*" || own_subresource == subresource)
        })
    }
}

impl Criteria {
    /// Of a webhook (`rules`), or of a policy's `matchConstraints` or a binding's `matchResources`
    /// (`resourceRules`).
    pub fn new(holder: &Value, rules: &str) -> Self {
        let list = |field: &str| holder.list_at(field).iter().map(Rule::new).collect();
        let selector = |field: &str| LabelSelector::from_value(holder.at(field)).unwrap_or_default();
        Self {
            rules: list(rules),
            exclude: list("excludeResourceRules"),
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
            equivalent: holder.str_at("matchPolicy") != "Exact",
        }
    }

    /// A first look, before anything is prepared: whether a rule may be about such a write.
    pub fn may_match(&self, operation: Operation, subresource: &str) -> bool {
        self.rules.is_empty()
            || self.rules.iter().any(|rule| {
                rule.operations.iter().any(|one| one == "*" || one == operation.as_str())
                    && rule.resources.iter().any(|(_, own)| own == "*" || own == subresource)
            })
    }

    /// None: it is not about this write. `all`: without rules it is about everything.
    pub fn matches(&self, attributes: &Attributes, world: &World, all: bool) -> Result<Option<Invocation>, Status> {
        let in_namespace = world.namespace_matches(&self.namespaces, attributes);
        if matches!(in_namespace, Ok(false)) || !object_matches(&self.objects, attributes) {
            return Ok(None);
        }
        let excluded = world.invocation(&self.exclude, self.equivalent, attributes);
        if excluded.is_some() {
            return Ok(None);
        }
        let found = if self.rules.is_empty() && all {
            Some(as_requested(attributes))
        } else {
            world.invocation(&self.rules, self.equivalent, attributes)
        };
        match found {
            Some(found) => in_namespace.map(|_| Some(found)),
            None => Ok(None),
        }
    }
}

fn as_requested(attributes: &Attributes) -> Invocation {
    Invocation { resource: attributes.resource.clone(), kind: attributes.kind.clone(), row: None }
}

#[derive(Default, Deserialize)]
struct Labelled {
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// What matching looks at beside the write.
pub(super) struct World {
    pub storage: Arc<dyn Storage>,
    pub registry: Arc<Registry>,
    namespaces: Projection<Labelled>,
}

impl World {
    pub fn new(storage: Arc<dyn Storage>, registry: Arc<Registry>) -> Self {
        Self { storage, registry, namespaces: Projection::new(parse_json) }
    }

    /// The namespace of the write, as expressions see it; null: there is none.
    pub fn namespace_object(&self, attributes: &Attributes) -> Value {
        if attributes.namespace.is_empty() {
            return Value::Null;
        }
        let key = Key::new(&GroupResource::new("", "namespaces"), "", attributes.namespace);
        self.storage.get(&key).map_or(Value::Null, |entry| entry.body.parse())
    }

    fn namespace_matches(&self, selector: &LabelSelector, attributes: &Attributes) -> Result<bool, Status> {
        let is_namespace = attributes.is_core("namespaces");
        if selector.is_empty() || (attributes.namespace.is_empty() && !is_namespace) {
            return Ok(true);
        }
        let written = matches!(attributes.operation, Operation::Create | Operation::Update);
        if is_namespace && attributes.subresource.is_empty() && written {
            return Ok(attributes.object.as_deref().is_some_and(|object| labels_match(selector, object)));
        }
        let name = if is_namespace { attributes.name } else { attributes.namespace };
        let resource = GroupResource::new("", "namespaces");
        match self.namespaces.get(&*self.storage, &Key::new(&resource, "", name)) {
            Some(namespace) => Ok(selector.matches(|key| namespace.metadata.labels.get(key).map(String::as_str))),
            None => Err(Status::not_found(&resource, name)),
        }
    }

    /// The first rule that is about the write, as it was made or as an equivalent resource.
    fn invocation(&self, rules: &[Rule], equivalent: bool, attributes: &Attributes) -> Option<Invocation> {
        if rules.iter().any(|rule| rule.matches(attributes, attributes.resource)) {
            return Some(as_requested(attributes));
        }
        if !equivalent || rules.is_empty() {
            return None;
        }
        let rows = self.registry.rows();
        let own = rows.row(&attributes.resource.group, &attributes.resource.version, &attributes.resource.resource)?;
        let others: Vec<&Arc<Row>> =
            rows.iter().filter(|row| row.stored == own.stored && row.gvr != *attributes.resource).collect();
        rules.iter().find_map(|rule| {
            let row = others.iter().find(|row| rule.matches(attributes, &row.gvr))?;
            // A subresource's own kind does not change with the version of its parent.
            let of_object = attributes.kind.kind == own.gvk.kind && attributes.kind.group == own.gvk.group;
            let kind = if of_object { row.gvk.clone() } else { attributes.kind.clone() };
            let row = of_object.then(|| Arc::clone(row));
            Some(Invocation { resource: rows_gvr(&others, rule, attributes)?, kind, row })
        })
    }

    /// An object of the request as another row has it.
    pub async fn convert(&self, object: &Value, from: &GroupVersionResource, to: &Row) -> Result<Value, Status> {
        let Some(row) = self.registry.row(&from.group, &from.version, &from.resource) else {
            return Ok(object.clone());
        };
        crate::apiserver::codec::convert(&row, to, object).await
    }
}

fn rows_gvr(rows: &[&Arc<Row>], rule: &Rule, attributes: &Attributes) -> Option<GroupVersionResource> {
    rows.iter().find(|row| rule.matches(attributes, &row.gvr)).map(|row| row.gvr.clone())
}

fn labels_match(selector: &LabelSelector, object: &Value) -> bool {
    let labels = object.get("metadata").and_then(|metadata| metadata.get("labels"));
    selector.matches(|key| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str))
}

/// The object or the one before it has the labels.
fn object_matches(selector: &LabelSelector, attributes: &Attributes) -> bool {
    if selector.is_empty() {
        return true;
    }
    let labelled = |object: &Value| object.get("metadata").is_some() && labels_match(selector, object);
    attributes.object.as_deref().is_some_and(labelled) || attributes.old_object.is_some_and(labelled)
}

/// Configurations of admission are never subject to it: nobody can lock himself out.
pub(super) fn is_exempt(resource: &GroupVersionResource) -> bool {
    resource.group == "admissionregistration.k8s.io"
}
