//! What a pod asks for as a whole: sums over its containers, pod-level resources, claims.

use super::Scope;
use super::containers::is_sidecar;
use super::resource_requirements::{self, is_huge_pages};
use crate::api::names;
use crate::api::{ErrorList, Fields, Path, Quantity, Report};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const MIRROR: &str = "kubernetes.io/config.mirror";

/// Amounts by resource.
pub type Resources = BTreeMap<String, Quantity>;

/// Reads a list of resources.
pub fn read(list: &Value) -> Resources {
    list.entries().iter().map(|(name, amount)| (name.clone(), Quantity::of(amount))).collect()
}

pub fn add(sum: &mut Resources, other: &Resources) {
    for (name, amount) in other {
        sum.entry(name.clone()).and_modify(|sum| sum.add(amount)).or_insert_with(|| amount.clone());
    }
}

fn raise(sum: &mut Resources, other: &Resources) {
    for (name, amount) in other {
        match sum.get_mut(name) {
            Some(known) if *known >= *amount => {}
            _ => {
                sum.insert(name.clone(), amount.clone());
            }
        }
    }
}

/// What the containers of a pod need at one time: the regular ones and the sidecars together, or
/// one init container and the sidecars started before it. `list`: `requests` or `limits`.
pub fn aggregate(spec: &Value, list: &str) -> Resources {
    let of = |container: &Value| read(container.at("resources").at(list));
    let mut sum = Resources::new();
    for container in spec.list_at("containers") {
        add(&mut sum, &of(container));
    }
    let (mut sidecars, mut most) = (Resources::new(), Resources::new());
    for container in spec.list_at("initContainers") {
        let mut own = of(container);
        if is_sidecar(container) {
            add(&mut sum, &own);
            add(&mut sidecars, &own);
            raise(&mut most, &sidecars);
        } else {
            add(&mut own, &sidecars);
            raise(&mut most, &own);
        }
    }
    raise(&mut sum, &most);
    sum
}

/// `spec.resources`.
pub fn validate(scope: &Scope, path: &Path<'_>, errors: &mut ErrorList) {
    let spec = scope.spec;
    let Some(resources) = spec.get_set("resources") else { return };
    if spec.at("os").str_at("name") == "windows" {
        return errors.forbidden(path, "may not be set for a windows pod");
    }
    if resources.has("claims") {
        errors.forbidden(&path.child("claims"), "claims may not be set for Resources at pod-level");
    }
    resource_requirements::pod(resources, &scope.claims, path, scope.options, errors);
    let at_requests = path.child("requests");
    let requests = read(resources.at("requests"));
    for (name, sum) in aggregate(spec, "requests") {
        if let Some(request) = requests.get(&name).filter(|request| sum > **request) {
            let detail = format!("must be greater than or equal to aggregate container requests of {sum}");
            errors.invalid(&at_requests.key(&name), request.to_string(), detail);
        }
    }
    let at_limits = path.child("limits");
    let limits = read(resources.at("limits"));
    for (name, sum) in aggregate(spec, "limits").into_iter().filter(|(name, _)| is_huge_pages(name)) {
        if let Some(limit) = limits.get(&name).filter(|limit| sum > **limit) {
            let detail = format!("must be greater than or equal to aggregate container limits of {sum}");
            errors.invalid(&at_limits.key(&name), limit.to_string(), detail);
        }
    }
    let list = path.child("containers");
    for (index, container) in spec.list_at("containers").iter().enumerate() {
        let path = list.index(index);
        for (name, limit) in read(container.at("resources").at("limits")) {
            if let Some(most) = limits.get(&name).filter(|most| limit > **most) {
                let detail = format!("must be less than or equal to pod limits of {most}");
                errors.invalid(&path.key(&name).child("limits"), limit.to_string(), detail);
            }
        }
    }
}

/// `spec.resourceClaims`.
pub fn claims(spec: &Value, pod_metadata: Option<&Value>, path: &Path<'_>, errors: &mut ErrorList) {
    let mirror = pod_metadata.is_some_and(|metadata| metadata.at("annotations").has(MIRROR));
    let mut seen = BTreeSet::new();
    for (index, claim) in spec.list_at("resourceClaims").iter().enumerate() {
        if mirror {
            errors.forbidden(&Path::new(""), "static pods do not support resource claims");
            continue;
        }
        let path = path.index(index);
        let name = claim.str_at("name");
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else if !seen.insert(name) {
            errors.duplicate(&path.child("name"), name);
        } else {
            errors.check(&path.child("name"), name, names::dns_label(name));
        }
        let sources = ["resourceClaimName", "resourceClaimTemplateName"];
        match sources.iter().filter(|field| claim.has(field)).count() {
            0 => {
                let detail = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                errors.invalid(&path, claim.clone(), detail);
            }
            2 => {
                let detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
                errors.invalid(&path, claim.clone(), detail);
            }
            _ => {}
        }
        for field in sources {
            if let Some(name) = claim.optional_str(field) {
                errors.check(&path.child(field), name, names::dns_subdomain(name));
            }
        }
    }
}
