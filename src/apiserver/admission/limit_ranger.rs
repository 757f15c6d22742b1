//! LimitRanger: pods without requests and limits get the namespace's, and nothing is outside of its
//! bounds.

use super::{Attributes, Operation, Plugin, Sources, is_core};
use crate::api::{Fields, GroupResource, GroupVersionResource, Quantity, Status};
use crate::resources::quota::{Amounts, amounts, container_amounts};
use crate::storage::{Prefix, Storage};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::Arc;

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

pub struct LimitRanger {
    storage: Arc<dyn Storage>,
}

impl LimitRanger {
    pub fn new(sources: &Sources) -> Self {
        Self { storage: sources.storage.clone() }
    }

    /// The limits of the namespace. One that goes is not held to them.
    fn limits(&self, attributes: &Attributes<'_>) -> Vec<Value> {
        let going = attributes.old_object.is_some_and(|old| old.at("metadata").get_set("deletionTimestamp").is_some());
        if going || attributes.namespace.is_empty() {
            return Vec::new();
        }
        let prefix = Prefix::namespace(&GroupResource::new("", "limitranges"), attributes.namespace);
        self.storage.snapshot().range(&prefix, None).map(|entry| entry.body.parse()).collect()
    }
}

#[async_trait]
impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn handles(&self, operation: Operation, resource: &GroupVersionResource, subresource: &str) -> bool {
        match (operation, subresource) {
            (Operation::Create, "") => is_core(resource, "pods") || is_core(resource, "persistentvolumeclaims"),
            (Operation::Update, "") => is_core(resource, "persistentvolumeclaims"),
            (Operation::Update, "resize") => is_core(resource, "pods"),
            _ => false,
        }
    }

    async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        if !attributes.is_core("pods") {
            return Ok(());
        }
        for range in self.limits(attributes) {
            if let Some(pod) = attributes.object.as_deref_mut() {
                fill(&range, pod);
            }
        }
        Ok(())
    }

    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let pods = attributes.is_core("pods");
        for range in self.limits(attributes) {
            let Some(object) = attributes.object.as_deref() else { return Ok(()) };
            let mut wrong = Vec::new();
            for limit in range.at("spec").list_at("limits") {
                if pods { pod(limit, object, &mut wrong) } else { claim(limit, object, &mut wrong) }
            }
            let reason = match wrong.as_slice() {
                [] => continue,
                [one] => one.clone(),
                many => format!("[{}]", many.join(", ")),
            };
            return Err(attributes.forbidden(&reason));
        }
        Ok(())
    }
}

/// Requests and limits that the containers do not name, and a note of it.
fn fill(range: &Value, pod: &mut Value) {
    let (mut requests, mut limits) = (Amounts::new(), Amounts::new());
    for limit in range.at("spec").list_at("limits").iter().filter(|limit| limit.str_at("type") == "Container") {
        requests.extend(amounts(limit.at("defaultRequest")));
        limits.extend(amounts(limit.at("default")));
    }
    let mut notes = Vec::new();
    for (list, what) in [("containers", "container"), ("initContainers", "init container")] {
        let Some(containers) = pod["spec"].get_mut(list).and_then(Value::as_array_mut) else { continue };
        for container in containers {
            let limited = set(container, "limits", &limits);
            let requested = set(container, "requests", &requests);
            let name = container.str_at("name");
            for (names, field) in [(requested, "request"), (limited, "limit")] {
                if !names.is_empty() {
                    notes.push(format!("{} {field} for {what} {name}", names.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty() {
        let annotations = &mut pod["metadata"]["annotations"];
        if annotations.is_null() {
            *annotations = json!({});
        }
        annotations[ANNOTATION] = json!(format!("LimitRanger plugin set: {}", notes.join("; ")));
    }
}

/// The names that were set.
fn set(container: &mut Value, field: &str, defaults: &Amounts) -> Vec<String> {
    let mut names = Vec::new();
    for (name, amount) in defaults {
        let list = &mut container["resources"][field];
        if list.is_null() {
            *list = json!({});
        }
        if list.get(name).is_none() {
            list[name] = json!(amount.to_string());
            names.push(name.clone());
        }
    }
    names
}

/// What something asks for.
struct Asked {
    requests: Amounts,
    limits: Amounts,
}

fn pod(limit: &Value, pod: &Value, wrong: &mut Vec<String>) {
    let kind = limit.str_at("type");
    let all: Vec<Asked> = match kind {
        "Container" => {
            let spec = pod.at("spec");
            let containers = spec.list_at("containers").iter().chain(spec.list_at("initContainers"));
            let asked = containers.map(|container| container.at("resources")).map(|resources| Asked {
                requests: amounts(resources.at("requests")),
                limits: amounts(resources.at("limits")),
            });
            asked.collect()
        }
        "Pod" => vec![Asked { requests: container_amounts(pod, "requests"), limits: container_amounts(pod, "limits") }],
        _ => return,
    };
    for asked in &all {
        for (name, enforced) in amounts(limit.at("min")) {
            wrong.extend(minimum(kind, &name, &enforced, asked));
        }
        for (name, enforced) in amounts(limit.at("max")) {
            wrong.extend(maximum(kind, &name, &enforced, asked));
        }
        for (name, enforced) in amounts(limit.at("maxLimitRequestRatio")) {
            wrong.extend(ratio(kind, &name, &enforced, asked));
        }
    }
}

fn claim(limit: &Value, claim: &Value, wrong: &mut Vec<String>) {
    let kind = limit.str_at("type");
    if kind != "PersistentVolumeClaim" {
        return;
    }
    let requests = amounts(claim.at("spec").at("resources").at("requests"));
    let asked = Asked { requests, limits: Amounts::new() };
    for (name, enforced) in amounts(limit.at("min")) {
        wrong.extend(minimum(kind, &name, &enforced, &asked));
    }
    for (name, enforced) in amounts(limit.at("max")) {
        let bound = format!("maximum {name} usage per {kind} is {enforced}");
        match asked.requests.get(&name) {
            None => wrong.push(format!("{bound}.  No request is specified")),
            Some(request) if *request > enforced => wrong.push(format!("{bound}, but request is {request}")),
            Some(_) => {}
        }
    }
}

fn minimum(kind: &str, name: &str, enforced: &Quantity, asked: &Asked) -> Option<String> {
    let bound = format!("minimum {name} usage per {kind} is {enforced}");
    match (asked.requests.get(name), asked.limits.get(name)) {
        (None, _) => Some(format!("{bound}.  No request is specified")),
        (Some(request), _) if request < enforced => Some(format!("{bound}, but request is {request}")),
        (_, Some(limit)) if limit < enforced => Some(format!("{bound}, but limit is {limit}")),
        _ => None,
    }
}

fn maximum(kind: &str, name: &str, enforced: &Quantity, asked: &Asked) -> Option<String> {
    let bound = format!("maximum {name} usage per {kind} is {enforced}");
    match (asked.limits.get(name), asked.requests.get(name)) {
        (None, _) => Some(format!("{bound}.  No limit is specified")),
        (Some(limit), _) if limit > enforced => Some(format!("{bound}, but limit is {limit}")),
        (_, Some(request)) if request > enforced => Some(format!("{bound}, but request is {request}")),
        _ => None,
    }
}

fn ratio(kind: &str, name: &str, enforced: &Quantity, asked: &Asked) -> Option<String> {
    let bound = format!("{name} max limit to request ratio per {kind} is {enforced}");
    let set = |list: &Amounts| list.get(name).filter(|amount| !amount.is_zero()).map(Quantity::approximate);
    let Some(request) = set(&asked.requests) else {
        return Some(format!("{bound}, but no request is specified or request is 0"));
    };
    let Some(limit) = set(&asked.limits) else {
        return Some(format!("{bound}, but no limit is specified or limit is 0"));
    };
    let observed = limit / request;
    (observed > enforced.approximate()).then(|| format!("{bound}, but provided ratio is {observed:.6}"))
}
