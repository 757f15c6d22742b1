//! Requests and limits: names, quantities, and what they owe each other.

use super::Options;
use crate::api::names;
use crate::api::{ErrorList, Fields, Path, Quantity, Report};
use serde_json::Value;
use std::collections::BTreeSet;

const HUGE_PAGES: &str = "hugepages-";
const CONTAINER_RESOURCES: &[&str] = &["cpu", "memory", "ephemeral-storage"];
const INTEGER_RESOURCES: &[&str] = &[
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
const STANDARD_RESOURCES: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "storage",
    "requests.storage",
];
/// Resources that a whole pod can ask for.
const POD_RESOURCES: &[&str] = &["cpu", "memory"];

pub fn is_huge_pages(name: &str) -> bool {
    name.starts_with(HUGE_PAGES)
}

/// Without a domain or in Kubernetes's own.
pub fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// `example.com/gpu`: of a device plugin.
pub fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Whether requests may be below limits.
pub fn may_overcommit(name: &str) -> bool {
    is_native(name) && !is_huge_pages(name)
}

pub fn is_pod_level(name: &str) -> bool {
    POD_RESOURCES.contains(&name) || is_huge_pages(name)
}

/// A name of the resource model: standard or fully qualified.
pub fn resource_name(name: &str, path: &Path<'_>, errors: &mut ErrorList) -> bool {
    let messages = names::qualified_name(name);
    if !messages.is_empty() {
        errors.check(path, name, messages);
        return false;
    }
    let quota_pages = is_huge_pages(name) || name.starts_with("requests.hugepages-");
    let standard = STANDARD_RESOURCES.contains(&name) || INTEGER_RESOURCES.contains(&name) || quota_pages;
    if !name.contains('/') && !standard {
        errors.invalid(path, name, "must be a standard resource type or fully qualified");
        return false;
    }
    true
}

/// A name that a container may ask for.
pub fn container_resource_name(name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    resource_name(name, path, errors);
    if !name.contains('/') {
        if !CONTAINER_RESOURCES.contains(&name) && !is_huge_pages(name) {
            errors.invalid(path, name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.invalid(path, name, "doesn't follow extended resource name standard");
    }
}

fn pod_resource_name(name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if resource_name(name, path, errors) && !is_pod_level(name) {
        errors.not_supported(path, name, &["cpu", HUGE_PAGES, "memory"]);
    }
}

/// Not negative, and whole where the resource is counted.
pub fn quantity(name: &str, quantity: &Quantity, path: &Path<'_>, errors: &mut ErrorList) {
    if quantity.is_negative() {
        errors.invalid(path, quantity.to_string(), "must be greater than or equal to 0");
    }
    if (INTEGER_RESOURCES.contains(&name) || is_extended(name)) && quantity.milli_value() % 1000 != 0 {
        errors.invalid(path, quantity.to_string(), "must be an integer");
    }
}

/// Of a container.
pub fn container(
    requirements: &Value,
    claims: &BTreeSet<&str>,
    path: &Path<'_>,
    options: &Options,
    errors: &mut ErrorList,
) {
    validate(requirements, container_resource_name, claims, path, options, errors);
}

/// Of a whole pod.
pub fn pod(requirements: &Value, claims: &BTreeSet<&str>, path: &Path<'_>, options: &Options, errors: &mut ErrorList) {
    validate(requirements, pod_resource_name, claims, path, options, errors);
}

fn validate(
    requirements: &Value,
    check_name: fn(&str, &Path<'_>, &mut ErrorList),
    claims: &BTreeSet<&str>,
    path: &Path<'_>,
    options: &Options,
    errors: &mut ErrorList,
) {
    let (at_limits, at_requests) = (path.child("limits"), path.child("requests"));
    let limits = requirements.map_at("limits");
    let (mut compute, mut huge_pages) = (false, false);
    let mut each = |name: &str, amount: &Quantity, path: &Path<'_>, errors: &mut ErrorList| {
        compute |= name == "cpu" || name == "memory";
        huge_pages |= is_huge_pages(name);
        check_name(name, path, errors);
        quantity(name, amount, path, errors);
    };
    let pages = |name: &str, amount: &Quantity, path: &Path<'_>, errors: &mut ErrorList| {
        if is_huge_pages(name) && !options.keep_huge_pages && !is_divisible(name, amount) {
            let detail = format!("{amount} is not positive integer multiple of {name}");
            errors.invalid(path, amount.to_string(), detail);
        }
    };
    for (name, limit) in limits {
        let limit = Quantity::of(limit);
        let path = at_limits.key(name);
        each(name, &limit, &path, errors);
        pages(name, &limit, &path, errors);
    }
    for (name, request) in requirements.map_at("requests") {
        let request = Quantity::of(request);
        let path = at_requests.key(name);
        each(name, &request, &path, errors);
        match limits.get(name).map(Quantity::of) {
            Some(limit) if request != limit && !may_overcommit(name) => {
                errors.invalid(&at_requests, request.to_string(), format!("must be equal to {name} limit of {limit}"));
            }
            Some(limit) if request > limit => {
                let detail = format!("must be less than or equal to {name} limit of {limit}");
                errors.invalid(&at_requests, request.to_string(), detail);
            }
            None if !may_overcommit(name) => {
                errors.required(&at_limits, "Limit must be set for non overcommitable resources");
            }
            _ => {}
        }
        pages(name, &request, &path, errors);
    }
    if huge_pages && !compute {
        errors.forbidden(path, "HugePages require cpu or memory");
    }
    claim_names(requirements, claims, &path.child("claims"), errors);
}

fn claim_names(requirements: &Value, known: &BTreeSet<&str>, path: &Path<'_>, errors: &mut ErrorList) {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for (index, claim) in requirements.list_at("claims").iter().enumerate() {
        let path = path.index(index);
        let (name, request) = (claim.str_at("name"), claim.str_at("request"));
        if name.is_empty() {
            errors.required(&path, "");
            continue;
        }
        if seen.contains(name) {
            errors.duplicate(&path, name);
        } else {
            let mut key = name.to_owned();
            if !request.is_empty() {
                errors.check(&path.child("request"), request, names::dns_label(request));
                key = format!("{name}/{request}");
            }
            if seen.contains(&key) {
                errors.duplicate(&path, key.as_str());
            } else if request.is_empty() {
                for _ in seen.iter().filter(|key| key.split_once('/').is_some_and(|(claim, _)| claim == name)) {
                    errors.duplicate(&path, name);
                }
            }
            seen.insert(key);
        }
        if !known.contains(name) {
            let mut detail = "must be one of the names in pod.spec.resourceClaims".to_owned();
            if known.is_empty() {
                detail.push_str(" which is empty");
            } else {
                detail.push_str(": ");
                detail.push_str(&known.iter().copied().collect::<Vec<_>>().join(", "));
            }
            let mut error = crate::api::FieldError::not_found(&path, name);
            error.detail = detail;
            errors.push(error);
        }
    }
}

fn is_divisible(name: &str, amount: &Quantity) -> bool {
    let Some(Ok(size)) = name.strip_prefix(HUGE_PAGES).map(Quantity::parse) else { return false };
    size > Quantity::ZERO && size.milli_value() % 1000 == 0 && amount.value() % size.value() == 0
}

/// The spec asks somewhere for a part of a huge page.
pub fn has_indivisible_huge_pages(spec: &Value) -> bool {
    super::containers(spec).any(|(_, container)| {
        ["limits", "requests"].iter().any(|list| {
            container
                .at("resources")
                .map_at(list)
                .iter()
                .any(|(name, amount)| is_huge_pages(name) && !is_divisible(name, &Quantity::of(amount)))
        })
    })
}
