//! ResourceQuota: how much a namespace may have of what.

use super::pod_spec::{defaults, resource_requirements};

use crate::api::{ErrorList, Fields, FieldsMut, Path, Quantity, Report};
use crate::resources::{Column, Context, Resource, Strategy, Subresource, cells};
use serde_json::{Value, json};
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["quota".into()],
        status: true,
        subresources: vec![Subresource::status()],
        columns: Column::strings(&["Request", "Limit", "Age"]),
        strategy: Arc::new(ResourceQuota),
        ..Resource::new("", "v1", "ResourceQuota", "resourcequotas")
    }
}

struct ResourceQuota;

const SPEC: Path<'static> = Path::new("spec");
const STATUS: Path<'static> = Path::new("status");
/// Of pods: the scopes can tell them apart.
const COMPUTE: &[&str] = &[
    "cpu",
    "memory",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];
const STANDARD: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
];
/// Counted in whole numbers.
const INTEGER: &[&str] = &[
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];
const SCOPES: &[&str] = &[
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];
const OPPOSITES: &[(&str, &str)] = &[("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")];
const EXISTS_ONLY: &str = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";

impl Strategy for ResourceQuota {
    fn default(&self, object: &mut Value) {
        defaults::resource_list(object.object_mut("spec"), "hard");
        for list in ["hard", "used"] {
            defaults::resource_list(object.object_mut("status"), list);
        }
    }

    fn prepare_create(&self, object: &mut Value, _: &Context) {
        object.set("status", json!({}));
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("status", old);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = object.at("spec");
        amounts(spec.at("hard"), &SPEC.child("hard"), &mut errors);
        scopes(spec, &mut errors);
        scope_selector(spec, &mut errors);
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(object);
        let scopes = |object: &Value| {
            let mut scopes: Vec<String> = object.at("spec").strs_at("scopes").map(str::to_owned).collect();
            scopes.sort_unstable();
            scopes
        };
        if scopes(object) != scopes(old) {
            errors.invalid(&SPEC.child("scopes"), object.at("spec").at("scopes").clone(), "field is immutable");
        }
        errors
    }

    fn status(&self) -> Option<&dyn Strategy> {
        Some(&Status)
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        let status = object.at("status");
        let shown = |limits: bool| {
            let names = status.map_at("hard").keys().filter(|name| name.starts_with("limits") == limits);
            let texts = names.map(|name| {
                let amount = |list: &str| Quantity::of(status.at(list).at(name));
                format!("{name}: {}/{}", amount("used"), amount("hard"))
            });
            texts.collect::<Vec<_>>().join(", ")
        };
        Some(vec![cells::name(object), shown(false).into(), shown(true).into(), cells::age(object, now)])
    }
}

struct Status;

impl Strategy for Status {
    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("spec", old);
    }

    fn validate_update(&self, object: &Value, _: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        if object.at("metadata").str_at("resourceVersion").is_empty() {
            errors.required(&Path::new("resourceVersion"), "");
        }
        for list in ["hard", "used"] {
            amounts(object.at("status").at(list), &STATUS.child(list), &mut errors);
        }
        errors
    }
}

/// Whether a name is one of those that quota knows by itself.
fn is_standard(name: &str) -> bool {
    STANDARD.contains(&name) || resource_requirements::is_huge_pages(name) || name.starts_with("requests.hugepages-")
}

fn amounts(list: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    for (name, amount) in list.entries() {
        let path = path.key(name);
        resource_requirements::resource_name(name, &path, errors);
        if !name.contains('/') && !is_standard(name) {
            errors.invalid(&path, name.as_str(), "must be a standard resource for quota");
        }
        let amount = Quantity::of(amount);
        if amount.is_negative() {
            errors.invalid(&path, amount.to_string(), "must be greater than or equal to 0");
        }
        let counted = INTEGER.contains(&name.as_str()) || resource_requirements::is_extended(name);
        if counted && amount.milli_value() % 1000 != 0 {
            errors.invalid(&path, amount.to_string(), "must be an integer");
        }
    }
}

/// Whether the scope can tell apart what the resource counts.
fn fits(scope: &str, resource: &str) -> bool {
    match scope {
        "Terminating" | "NotTerminating" | "NotBestEffort" | "PriorityClass" | "CrossNamespacePodAffinity" => {
            resource == "pods" || COMPUTE.contains(&resource)
        }
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
        _ => true,
    }
}

fn scopes(spec: &Value, errors: &mut ErrorList) {
    let scopes: Vec<&str> = spec.strs_at("scopes").collect();
    let path = SPEC.child("scopes");
    let mut wrong = |detail: &str| errors.invalid(&path, spec.at("scopes").clone(), detail);
    for scope in &scopes {
        if !SCOPES.contains(scope) {
            wrong("unsupported scope");
        }
        for name in spec.map_at("hard").keys() {
            if is_standard(name) && !fits(scope, name) {
                wrong("unsupported scope applied to resource");
            }
        }
    }
    for (one, other) in OPPOSITES {
        if scopes.contains(one) && scopes.contains(other) {
            wrong("conflicting scopes");
        }
    }
}

fn scope_selector(spec: &Value, errors: &mut ErrorList) {
    let Some(selector) = spec.get_set("scopeSelector") else { return };
    let path = SPEC.child("scopeSelector");
    let path = path.child("matchExpressions");
    for requirement in selector.list_at("matchExpressions") {
        let (scope, operator) = (requirement.str_at("scopeName"), requirement.str_at("operator"));
        if !SCOPES.contains(&scope) {
            errors.invalid(&path.child("scopeName"), scope, "unsupported scope");
        }
        for name in spec.map_at("hard").keys() {
            if is_standard(name) && !fits(scope, name) {
                errors.invalid(&path, selector.clone(), "unsupported scope applied to resource");
            }
        }
        let valued = ["PriorityClass", "VolumeAttributesClass"].contains(&scope) || !SCOPES.contains(&scope);
        if !valued && operator != "Exists" {
            errors.invalid(&path.child("operator"), operator, EXISTS_ONLY);
        }
        let count = requirement.list_at("values").len();
        match operator {
            "In" | "NotIn" if count == 0 => {
                let detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.required(&path.child("values"), detail);
            }
            "Exists" | "DoesNotExist" if count > 0 => {
                let detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.invalid(&path.child("values"), requirement.at("values").clone(), detail);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => errors.invalid(&path.child("operator"), operator, "not a valid selector operator"),
        }
    }
    let named = |name: &str| selector.list_at("matchExpressions").iter().any(|entry| entry.str_at("scopeName") == name);
    for (one, other) in OPPOSITES {
        if named(one) && named(other) {
            errors.invalid(&path, spec.at("scopes").clone(), "conflicting scopes");
        }
    }
}
