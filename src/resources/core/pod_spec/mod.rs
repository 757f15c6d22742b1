//! PodSpec: of a Pod and of every template that holds one.
//!
//! [`validate`] is `ValidatePodSpec` of `pkg/apis/core/validation`, [`defaults`] sets what
//! `pkg/apis/core/v1/defaults.go` sets, [`warnings`] is `pkg/api/pod/warnings.go`. One file per
//! part of the spec; errors come in Kubernetes's order. Fields whose feature is off in v1.36 are
//! dropped by [`drop_disabled`].

pub mod affinity;
pub mod containers;
pub mod defaults;
pub mod environment;
pub mod handlers;
pub mod mounts;
pub mod network;
pub mod options;
pub mod placement;
pub mod pod_resources;
pub mod projected;
pub mod quality;
pub mod resource_requirements;
pub mod security;
pub mod signer;
pub mod volumes;
pub mod warnings;
pub mod windows;

pub use options::Options;

use crate::api::names;
use crate::api::{ErrorList, Fields, Path, Report};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What the parts of one spec refer to.
pub struct Scope<'a> {
    pub spec: &'a Value,
    /// Valid volumes by name.
    pub volumes: BTreeMap<&'a str, &'a Value>,
    pub claims: BTreeSet<&'a str>,
    pub grace_period: Option<i64>,
    pub options: &'a Options,
}

/// Which list of the spec a container is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerKind {
    Init,
    Regular,
    Ephemeral,
}

/// The three lists of containers in Kubernetes's order of visiting.
pub const CONTAINER_LISTS: &[(&str, ContainerKind)] = &[
    ("initContainers", ContainerKind::Init),
    ("containers", ContainerKind::Regular),
    ("ephemeralContainers", ContainerKind::Ephemeral),
];

/// All containers of a spec.
pub fn containers(spec: &Value) -> impl Iterator<Item = (ContainerKind, &Value)> {
    CONTAINER_LISTS.iter().flat_map(|(field, kind)| spec.list_at(field).iter().map(|container| (*kind, container)))
}

/// All containers of a spec with their paths.
pub fn visit<'a>(spec: &'a Value, path: &Path<'_>, mut visitor: impl FnMut(&'a Value, &Path<'_>)) {
    for (field, _) in CONTAINER_LISTS {
        let list = path.child(field);
        for (index, container) in spec.list_at(field).iter().enumerate() {
            visitor(container, &list.index(index));
        }
    }
}

/// Validates a spec. `pod_metadata`: of the pod itself; None in a template.
pub fn validate(
    spec: &Value,
    pod_metadata: Option<&Value>,
    path: &Path<'_>,
    options: &Options,
    errors: &mut ErrorList,
) {
    let grace_period = spec.optional_int("terminationGracePeriodSeconds");
    if grace_period.is_none() {
        errors.required(&path.child("terminationGracePeriodSeconds"), "");
    }
    let volumes = volumes::validate(spec, pod_metadata, &path.child("volumes"), options, errors);
    let claims =
        spec.list_at("resourceClaims").iter().map(|claim| claim.str_at("name")).filter(|name| !name.is_empty());
    let scope = Scope { spec, volumes, claims: claims.collect(), grace_period, options };
    pod_resources::claims(spec, pod_metadata, &path.child("resourceClaims"), errors);
    containers::regular(&scope, &path.child("containers"), errors);
    containers::init(&scope, &path.child("initContainers"), errors);
    containers::ephemeral(&scope, &path.child("ephemeralContainers"), errors);
    pod_resources::validate(&scope, &path.child("resources"), errors);
    network::host_ports_match(spec, &path.child("containers"), options, errors);
    one_of_required(spec, "restartPolicy", &["Always", "OnFailure", "Never"], path, errors);
    one_of_required(spec, "dnsPolicy", &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"], path, errors);
    crate::resources::labels::labels(spec.at("nodeSelector"), &path.child("nodeSelector"), errors);
    security::pod(spec, &path.child("securityContext"), options, errors);
    affinity::validate(spec.at("affinity"), &path.child("affinity"), options, errors);
    network::dns_config(spec, &path.child("dnsConfig"), errors);
    readiness_gates(spec, &path.child("readinessGates"), errors);
    scheduling_gates(spec, &path.child("schedulingGates"), errors);
    placement::topology_spread(spec, &path.child("topologySpreadConstraints"), options, errors);
    windows::host_process(spec, path, errors);
    security::host_users(spec, path, options, errors);
    network::hostname_override(spec, path, errors);
    name(spec, "serviceAccountName", path, names::dns_subdomain, errors);
    name(spec, "nodeName", path, names::dns_subdomain, errors);
    if let Some(deadline) = spec.optional_int("activeDeadlineSeconds") {
        let messages = names::in_range(deadline, 1, i64::from(i32::MAX));
        errors.check_number(&path.child("activeDeadlineSeconds"), deadline, messages);
    }
    name(spec, "hostname", path, names::dns_label, errors);
    name(spec, "subdomain", path, names::dns_label, errors);
    placement::tolerations(spec.list_at("tolerations"), &path.child("tolerations"), errors);
    network::host_aliases(spec, &path.child("hostAliases"), errors);
    name(spec, "priorityClassName", path, names::dns_subdomain, errors);
    if let Some(class) = spec.optional_str("runtimeClassName") {
        errors.check(&path.child("runtimeClassName"), class, names::dns_subdomain(class));
    }
    if spec.has("preemptionPolicy") {
        one_of_required(spec, "preemptionPolicy", &["PreemptLowerPriority", "Never"], path, errors);
    }
    if let Some(overhead) = spec.get_set("overhead") {
        let requirements = serde_json::json!({ "limits": overhead });
        resource_requirements::container(&requirements, &BTreeSet::new(), &path.child("overhead"), options, errors);
    }
    windows::operating_system(spec, path, errors);
    environment::file_volumes(spec, path, errors);
}

/// A string that must be there and be one of a few, in the order they are listed.
pub fn one_of_required(object: &Value, field: &str, values: &[&str], path: &Path<'_>, errors: &mut ErrorList) {
    match object.str_at(field) {
        "" => errors.required(&path.child(field), ""),
        value => errors.one_of(&path.child(field), value, values),
    }
}

/// A name that may be empty.
fn name(spec: &Value, field: &str, path: &Path<'_>, check: fn(&str) -> names::Messages, errors: &mut ErrorList) {
    let value = spec.str_at(field);
    if !value.is_empty() {
        errors.check(&path.child(field), value, check(value));
    }
}

fn readiness_gates(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    for (index, gate) in spec.list_at("readinessGates").iter().enumerate() {
        let condition = gate.str_at("conditionType");
        errors.check(&path.index(index).child("conditionType"), condition, names::qualified_name(condition));
    }
}

fn scheduling_gates(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (index, gate) in spec.list_at("schedulingGates").iter().enumerate() {
        let name = gate.str_at("name");
        errors.check(&path.index(index), name, names::qualified_name(name));
        if !seen.insert(name) {
            errors.duplicate(&path.index(index), name);
        }
    }
}

/// Removes fields whose feature is off in v1.36, unless the old object has them.
pub fn drop_disabled(spec: &mut Value, old: Option<&Value>) {
    use crate::api::FieldsMut;
    const OFF_PROJECTIONS: &[&str] = &["clusterTrustBundle", "podCertificate"];
    let projects = |spec: &Value, field: &str| {
        let sources = spec.list_at("volumes").iter().flat_map(|volume| volume.at("projected").list_at("sources"));
        sources.clone().any(|source| source.has(field))
    };
    for field in OFF_PROJECTIONS {
        if !projects(spec, field) || old.is_some_and(|old| projects(old, field)) {
            continue;
        }
        for volume in spec.items_mut("volumes") {
            if let Some(projected) = volume.get_mut("projected") {
                projected.items_mut("sources").for_each(|source| source.clear(field));
            }
        }
    }
    let signals = |spec: &Value| containers(spec).any(|(_, container)| container.at("lifecycle").has("stopSignal"));
    if signals(spec) && !old.is_some_and(signals) {
        for (field, _) in CONTAINER_LISTS {
            for container in spec.items_mut(field) {
                let lifecycle = container.set_mut("lifecycle");
                if let Some(lifecycle) = lifecycle {
                    lifecycle.clear("stopSignal");
                    if lifecycle.entries().is_empty() {
                        container.clear("lifecycle");
                    }
                }
            }
        }
    }
    if !old.is_some_and(|old| old.has("schedulingGroup")) {
        spec.clear("schedulingGroup");
    }
}
