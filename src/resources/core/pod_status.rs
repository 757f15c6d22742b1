//! The status of a pod, as the kubelet writes it.

use super::pod_spec::Options;
use super::pod_update;
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report};
use crate::api::{ip, names};
use crate::resources::{Context, Strategy};
use serde_json::Value;
use std::collections::BTreeSet;

const STATUS: Path<'static> = Path::new("status");
const STATUS_LISTS: &[(&str, &str)] = &[
    ("containerStatuses", "containers"),
    ("initContainerStatuses", "initContainers"),
    ("ephemeralContainerStatuses", "ephemeralContainers"),
];

/// The strategy of `pods/status`.
pub struct PodStatus;

impl Strategy for PodStatus {
    fn reset_fields(&self) -> Option<&'static [&'static str]> {
        Some(&["spec", "metadata.deletionTimestamp", "metadata.ownerReferences"])
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("spec", old);
        let metadata = object.object_mut("metadata");
        metadata.copy("ownerReferences", old.at("metadata"));
        let before = old.at("status");
        let status = object.object_mut("status");
        if status.str_at("qosClass").is_empty() {
            status.copy("qosClass", before);
        }
        if status.int_at("observedGeneration") == 0 {
            status.copy("observedGeneration", before);
        }
        let mut seen: Vec<String> = Vec::new();
        for condition in status.items_mut("conditions") {
            let kind = condition.str_at("type").to_owned();
            let earlier = seen.iter().filter(|name| **name == kind).count();
            let known = before.list_at("conditions").iter().filter(|old| old.str_at("type") == kind).nth(earlier);
            if let Some(known) = known.filter(|_| condition.int_at("observedGeneration") == 0) {
                condition.copy("observedGeneration", known);
            }
            seen.push(kind);
        }
        drop_disabled(status, before);
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let options = Options::update(true, old.at("spec"), old.at("metadata").at("annotations"));
        pod_update::annotations(object, old, &options, &mut errors);
        let (status, before) = (object.at("status"), old.at("status"));
        let spec = object.at("spec");
        conditions(status, &mut errors);
        nominated_node(object, old, &mut errors);
        let generation = status.int_at("observedGeneration");
        if generation < 0 {
            errors.invalid(&STATUS.child("observedGeneration"), generation, "must be a non-negative integer");
        }
        if status.str_at("qosClass") != before.str_at("qosClass") {
            errors.invalid(&STATUS.child("qosClass"), status.str_at("qosClass"), "field is immutable");
        }
        let all_restart = any_rule(old.at("spec"), "RestartAllContainers");
        for (list, containers) in STATUS_LISTS {
            if *list == "ephemeralContainerStatuses" || !all_restart {
                transitions(status, before, old.at("spec"), list, containers, &mut errors);
            }
        }
        claim_statuses(status, spec, &mut errors);
        extended_claim(status, spec, &mut errors);
        addresses(status, before, "podIPs", &mut errors);
        host_addresses(status, before, &mut errors);
        for (list, _) in STATUS_LISTS {
            users(status, spec, list, &mut errors);
        }
        for (list, containers) in STATUS_LISTS {
            allocated(status, spec, list, containers, &mut errors);
        }
        errors
    }

    fn warnings(&self, object: &Value, _: Option<&Value>) -> Vec<String> {
        let status = object.at("status");
        ["podIPs", "hostIPs"]
            .iter()
            .flat_map(|field| {
                let list = status.list_at(field).iter().enumerate();
                list.filter_map(move |(index, address)| {
                    ip::ip_warning(&format!("status.{field}[{index}].ip"), address.str_at("ip"))
                })
            })
            .collect()
    }
}

/// Fields whose features are off stay only where they were.
fn drop_disabled(status: &mut Value, before: &Value) {
    const CLAIMS: &str = "nodeAllocatableResourceClaimStatuses";
    if !before.has(CLAIMS) {
        status.clear(CLAIMS);
    }
    let mounts = |container: &Value| container.list_at("volumeMounts").iter().any(|mount| mount.has("volumeStatus"));
    for (list, _) in STATUS_LISTS {
        if before.list_at(list).iter().any(mounts) {
            continue;
        }
        for container in status.items_mut(list) {
            container.items_mut("volumeMounts").for_each(|mount| mount.clear("volumeStatus"));
        }
    }
}

/// The claim that stands for resources which containers ask for by a plain name.
fn extended_claim(status: &Value, spec: &Value, errors: &mut ErrorList) {
    let Some(claim) = status.get_set("extendedResourceClaimStatus") else { return };
    let path = STATUS.child("extendedResourceClaimStatus");
    let list = path.child("requestMappings");
    let mappings = claim.list_at("requestMappings");
    if mappings.is_empty() {
        errors.required(&list, "at least one request mapping is required");
    }
    let mut seen = BTreeSet::new();
    for (index, mapping) in mappings.iter().enumerate() {
        let path_here = list.index(index);
        let names = ["containerName", "resourceName", "requestName"].map(|field| mapping.str_at(field));
        let [container, resource, request] = names;
        let all = spec.list_at("initContainers").iter().chain(spec.list_at("containers"));
        match all.filter(|one| one.str_at("name") == container).last() {
            None => {
                let detail = "must match the name of an entry in spec.initContainers.name or spec.containers.name";
                errors.invalid(&path_here.child("containerName"), container, detail);
            }
            Some(one) if !one.at("resources").at("requests").has(resource) => {
                let detail = "must match the extended resource name of an entry in spec.initContainers.resources.requests or spec.containers.resources.requests";
                errors.invalid(&path_here.child("resourceName"), resource, detail);
            }
            Some(_) => {}
        }
        errors.check(&path.child("requestName"), request, names::dns_label(request));
        if !seen.insert(names) {
            for (field, name) in ["containerName", "resourceName", "requestName"].iter().zip(names) {
                errors.duplicate(&path_here.child(field), name);
            }
        }
    }
    match claim.str_at("resourceClaimName") {
        "" => errors.required(&path.child("resourceClaimName"), ""),
        name => errors.check(&path.child("resourceClaimName"), name, names::dns_subdomain(name)),
    }
}

fn conditions(status: &Value, errors: &mut ErrorList) {
    let list = STATUS.child("conditions");
    for (index, condition) in status.list_at("conditions").iter().enumerate() {
        let path = list.index(index);
        let generation = condition.int_at("observedGeneration");
        if generation < 0 {
            errors.invalid(&path.child("observedGeneration"), generation, "must be a non-negative integer");
        }
        let kind = condition.str_at("type");
        if !["PodScheduled", "Ready", "Initialized"].contains(&kind) {
            errors.check(&path.child("Type"), kind, names::qualified_name(kind));
        }
    }
}

fn nominated_node(object: &Value, old: &Value, errors: &mut ErrorList) {
    let path = STATUS.child("nominatedNodeName");
    let name = object.at("status").str_at("nominatedNodeName");
    if name.is_empty() || name == old.at("status").str_at("nominatedNodeName") {
        return;
    }
    errors.check(&path, name, names::dns_subdomain(name));
    if !old.at("spec").str_at("nodeName").is_empty() {
        errors.forbidden(&path, "may not be set on pods that are already bound to a node");
    }
}

fn any_rule(spec: &Value, action: &str) -> bool {
    let mut all = spec.list_at("containers").iter().chain(spec.list_at("initContainers"));
    all.any(|container| container.list_at("restartPolicyRules").iter().any(|rule| rule.str_at("action") == action))
}

/// Whether a container that ended with this code is started again.
pub fn restarts(container: &Value, spec: &Value, exit_code: i64) -> bool {
    let matching = container.list_at("restartPolicyRules").iter().find(|rule| {
        let codes = rule.at("exitCodes");
        let listed = codes.list_at("values").iter().any(|value| value.as_i64() == Some(exit_code));
        match codes.str_at("operator") {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        }
    });
    if let Some(rule) = matching {
        return rule.str_at("action") == "Restart";
    }
    let policy = container.optional_str("restartPolicy").unwrap_or_else(|| spec.str_at("restartPolicy"));
    match policy {
        "Always" => true,
        "OnFailure" => exit_code != 0,
        _ => false,
    }
}

/// What ended stays ended, unless it may start again.
fn transitions(status: &Value, old: &Value, spec: &Value, list: &str, containers: &str, errors: &mut ErrorList) {
    let path = STATUS.child(list);
    for (index, before) in old.list_at(list).iter().enumerate() {
        let Some(end) = before.at("state").get_set("terminated") else { continue };
        let name = before.str_at("name");
        let alive = |new: &&Value| new.str_at("name") == name && !new.at("state").has("terminated");
        if !status.list_at(list).iter().any(|new| alive(&new)) {
            continue;
        }
        let container = spec.list_at(containers).iter().find(|container| container.str_at("name") == name);
        let allowed = containers != "ephemeralContainers"
            && container.is_some_and(|container| restarts(container, spec, end.int_at("exitCode")));
        if !allowed {
            errors.forbidden(&path.index(index).child("state"), "may not be transitioned to non-terminated state");
        }
    }
}

fn claim_statuses(status: &Value, spec: &Value, errors: &mut ErrorList) {
    let list = STATUS.child("resourceClaimStatuses");
    let mut seen = BTreeSet::new();
    for (index, claim) in status.list_at("resourceClaimStatuses").iter().enumerate() {
        let path = list.index(index);
        let name = claim.str_at("name");
        if !spec.list_at("resourceClaims").iter().any(|claim| claim.str_at("name") == name) {
            let detail = "must match the name of an entry in `spec.resourceClaims`";
            errors.invalid(&path.child("name"), name, detail);
        }
        if !seen.insert(name) {
            errors.duplicate(&path.child("name"), name);
        }
        if let Some(name) = claim.optional_str("resourceClaimName") {
            errors.check(&path.child("resourceClaimName"), name, names::dns_subdomain(name));
        }
    }
}

/// Valid, and at most one of each family.
fn addresses(status: &Value, old: &Value, field: &str, errors: &mut ErrorList) {
    let path = STATUS.child(field);
    let list: Vec<&str> = status.list_at(field).iter().map(|address| address.str_at("ip")).collect();
    for (index, address) in list.iter().enumerate() {
        let known = old.list_at(field).iter().any(|old| old.str_at("ip") == *address);
        if !known {
            errors.check(&path.index(index), address, ip::legacy_ip(address));
        }
    }
    if list.len() > 1 {
        let parsed: Vec<_> = list.iter().filter_map(|address| ip::parse_sloppy(address)).collect();
        let families = parsed.iter().any(|address| address.is_ipv4()) && parsed.iter().any(|address| address.is_ipv6());
        if !families || list.len() > 2 {
            let detail = "may specify no more than one IP for each IP family";
            errors.invalid(&path, status.at(field).clone(), detail);
        }
    }
}

fn host_addresses(status: &Value, old: &Value, errors: &mut ErrorList) {
    let Some(first) = status.list_at("hostIPs").first() else { return };
    if first.str_at("ip") != status.str_at("hostIP") {
        let path = STATUS.child("hostIPs");
        errors.invalid(&path.index(0).child("ip"), first.str_at("ip"), "must be equal to `hostIP`");
    }
    addresses(status, old, "hostIPs", errors);
}

fn users(status: &Value, spec: &Value, list: &str, errors: &mut ErrorList) {
    let windows = spec.at("os").str_at("name") == "windows";
    let at_list = STATUS.child(list);
    for (index, container) in status.list_at(list).iter().enumerate() {
        let Some(user) = container.at("user").get_set("linux") else { continue };
        let path = at_list.index(index);
        let path = path.child("user.linux");
        if windows {
            errors.forbidden(&path, "cannot be set for a windows pod");
            continue;
        }
        for field in ["uid", "gid"] {
            errors.check_number(&path.child(field), user.int_at(field), names::user_id(user.int_at(field)));
        }
        let groups = path.child("supplementalGroups");
        for (index, group) in user.list_at("supplementalGroups").iter().enumerate() {
            let group = group.as_i64().unwrap_or_default();
            errors.check_number(&groups.index(index), group, names::user_id(group));
        }
    }
}

/// Devices that a container has, and their health.
fn allocated(status: &Value, spec: &Value, list: &str, containers: &str, errors: &mut ErrorList) {
    let at_list = STATUS.child(list);
    for (index, container) in status.list_at(list).iter().enumerate() {
        let path = at_list.index(index);
        let path = path.child("allocatedResourcesStatus");
        let resources = container.list_at("allocatedResourcesStatus");
        if containers == "ephemeralContainers" {
            if !resources.is_empty() {
                errors.forbidden(&path, "must not be specified in container status");
            }
            continue;
        }
        let name = container.str_at("name");
        let wanted = spec.list_at(containers).iter().find(|container| container.str_at("name") == name);
        for (index, resource) in resources.iter().enumerate() {
            let path = path.index(index);
            if let Some(wanted) = wanted {
                allocated_name(resource.str_at("name"), wanted.at("resources"), &path, errors);
            }
            allocated_devices(resource, &path, errors);
        }
    }
}

fn allocated_name(name: &str, wanted: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let (found, detail) = match name.strip_prefix("claim:") {
        Some(claimed) => {
            let matches = |claim: &Value| match claim.str_at("request") {
                "" => claim.str_at("name") == claimed,
                request => format!("{}/{request}", claim.str_at("name")) == claimed,
            };
            let detail = "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or 'claim:<claimName>' if request is empty";
            (wanted.list_at("claims").iter().any(matches), detail)
        }
        None => (wanted.map_at("requests").contains_key(name), "must match one of the container's resource requests"),
    };
    if !found {
        errors.invalid(&path.child("name"), name, detail);
    }
}

fn allocated_devices(resource: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    const MESSAGE_LIMIT: usize = 1024;
    let list = path.child("resources");
    let mut seen = BTreeSet::new();
    for (index, device) in resource.list_at("resources").iter().enumerate() {
        let path = list.index(index);
        errors.one_of(&path.child("health"), device.str_at("health"), &["Healthy", "Unhealthy", "Unknown"]);
        match device.optional_str("message") {
            Some("") => errors.required(&path.child("message"), "must be non-empty if specified"),
            Some(text) if text.len() > MESSAGE_LIMIT => errors.too_long(&path.child("message"), MESSAGE_LIMIT as i64),
            _ => {}
        }
        if !seen.insert(device.str_at("resourceID")) {
            errors.duplicate(&path.child("resourceID"), device.str_at("resourceID"));
        }
    }
}
