//! A Node: its conditions, what it has and what its pods ask for.

use super::page::{Page, line, or_none, time};
use super::{Lists, Related, Select};
use crate::api::jsonpath::to_text;
use crate::api::{Fields, Quantity};
use crate::client::{Kind, kinds};
use crate::resources::cells;
use serde_json::Value;
use std::collections::BTreeMap;

const ROLE: &str = "node-role.kubernetes.io/";
const OLD_ROLE: &str = "kubernetes.io/role";
const HUGE_PAGES: &str = "hugepages-";

pub(super) const RELATED: &[Related] = &[
    Related {
        name: "leases",
        kind: kinds::LEASES,
        select: |node| Select {
            namespace: "kube-node-lease".to_owned(),
            name: node.at("metadata").str_at("name").to_owned(),
            ..Select::default()
        },
    },
    Related {
        name: "slices",
        kind: Kind::cluster("resource.k8s.io", "v1", "ResourceSlice", "resourceslices"),
        select: |node| Select {
            fields: format!("spec.nodeName={}", node.at("metadata").str_at("name")),
            ..Select::default()
        },
    },
    Related {
        name: "pods",
        kind: kinds::PODS,
        select: |node| Select {
            fields: format!(
                "spec.nodeName={},status.phase!=Succeeded,status.phase!=Failed",
                node.at("metadata").str_at("name")
            ),
            ..Select::default()
        },
    },
];

pub(super) fn print(node: &Value, lists: &Lists, page: &mut Page) {
    let (metadata, spec, status) = (node.at("metadata"), node.at("spec"), node.at("status"));
    line!(page, 0, "Name:\t{}", metadata.str_at("name"));
    line!(page, 0, "Roles:\t{}", roles(metadata.at("labels")));
    page.labels("Labels", metadata.at("labels"));
    page.annotations("Annotations", metadata.at("annotations"));
    line!(page, 0, "CreationTimestamp:\t{}", time(metadata.str_at("creationTimestamp")));
    let mut taints: Vec<String> = spec.list_at("taints").iter().map(taint).collect();
    taints.sort();
    page.list("Taints", taints);
    line!(page, 0, "Unschedulable:\t{}", spec.bool_at("unschedulable"));
    lease(lists, page);
    conditions(status, page);
    line!(page, 0, "Addresses:");
    for address in status.list_at("addresses") {
        line!(page, 1, "{}:\t{}", address.str_at("type"), address.str_at("address"));
    }
    for (title, field) in [("Capacity", "capacity"), ("Allocatable", "allocatable")] {
        if !status.map_at(field).is_empty() {
            line!(page, 0, "{title}:");
            for (name, amount) in status.map_at(field) {
                line!(page, 1, "{name}:\t{}", to_text(amount));
            }
        }
    }
    slices(lists.items("slices"), page);
    line!(page, 0, "System Info:");
    for (title, field) in [
        ("Machine ID", "machineID"),
        ("System UUID", "systemUUID"),
        ("Boot ID", "bootID"),
        ("Kernel Version", "kernelVersion"),
        ("OS Image", "osImage"),
        ("Operating System", "operatingSystem"),
        ("Architecture", "architecture"),
        ("Container Runtime Version", "containerRuntimeVersion"),
        ("Kubelet Version", "kubeletVersion"),
    ] {
        line!(page, 1, "{title}:\t{}", status.at("nodeInfo").str_at(field));
    }
    if !spec.str_at("podCIDR").is_empty() {
        line!(page, 0, "PodCIDR:\t{}", spec.str_at("podCIDR"));
    }
    if !spec.list_at("podCIDRs").is_empty() {
        line!(page, 0, "PodCIDRs:\t{}", spec.strs_at("podCIDRs").collect::<Vec<_>>().join(","));
    }
    if !spec.str_at("providerID").is_empty() {
        line!(page, 0, "ProviderID:\t{}", spec.str_at("providerID"));
    }
    match lists.get("pods") {
        Some(pods) => usage(status, pods, page),
        None => line!(page, 0, "Pods:\tnot authorized"),
    }
}

fn roles(labels: &Value) -> String {
    let mut roles: Vec<&str> = labels
        .entries()
        .iter()
        .filter_map(|(key, value)| match key.strip_prefix(ROLE) {
            Some(role) => Some(role).filter(|role| !role.is_empty()),
            None => value.as_str().filter(|value| key == OLD_ROLE && !value.is_empty()),
        })
        .collect();
    roles.sort_unstable();
    roles.dedup();
    or_none(&roles.join(",")).to_owned()
}

fn taint(taint: &Value) -> String {
    match taint.str_at("value") {
        "" => format!("{}:{}", taint.str_at("key"), taint.str_at("effect")),
        value => format!("{}={value}:{}", taint.str_at("key"), taint.str_at("effect")),
    }
}

fn lease(lists: &Lists, page: &mut Page) {
    let Some([lease]) = lists.get("leases") else {
        line!(page, 0, "Lease:\tFailed to get lease: {}", lists.refusal("leases"));
        return;
    };
    let spec = lease.at("spec");
    let set = |text: Option<String>| text.unwrap_or_else(|| "<unset>".to_owned());
    line!(page, 0, "Lease:");
    line!(page, 1, "HolderIdentity:\t{}", set(spec.optional_str("holderIdentity").map(str::to_owned)));
    line!(page, 1, "AcquireTime:\t{}", set(spec.optional_str("acquireTime").map(time)));
    line!(page, 1, "RenewTime:\t{}", set(spec.optional_str("renewTime").map(time)));
}

/// The node's own devices, a line for each pool.
fn slices(slices: &[Value], page: &mut Page) {
    const SHOWN: usize = 10;
    let mut pools: BTreeMap<String, (&Value, usize, usize)> = BTreeMap::new();
    for spec in slices.iter().map(|slice| slice.at("spec")) {
        let key = format!("{}/{}", spec.str_at("driver"), spec.at("pool").str_at("name"));
        let (_, count, devices) = pools.entry(key).or_insert((spec, 0, 0));
        *count += 1;
        *devices += spec.list_at("devices").len();
    }
    if pools.is_empty() {
        return;
    }
    line!(page, 0, "Node-Local ResourceSlices:");
    line!(page, 1, "Driver\tPool\tSlices\tDevices");
    line!(page, 1, "------\t----\t------\t-------");
    for (spec, count, devices) in pools.values().take(SHOWN) {
        line!(page, 1, "{}\t{}\t{count}\t{devices}", spec.str_at("driver"), spec.at("pool").str_at("name"));
    }
    if pools.len() > SHOWN {
        line!(page, 1, "...and {} more pools", pools.len() - SHOWN);
    }
}

fn conditions(status: &Value, page: &mut Page) {
    if status.list_at("conditions").is_empty() {
        return;
    }
    line!(page, 0, "Conditions:");
    line!(page, 1, "Type\tStatus\tLastHeartbeatTime\tLastTransitionTime\tReason\tMessage");
    line!(page, 1, "----\t------\t-----------------\t------------------\t------\t-------");
    for condition in status.list_at("conditions") {
        line!(
            page,
            1,
            "{} \t{} \t{} \t{} \t{} \t{}",
            condition.str_at("type"),
            condition.str_at("status"),
            time(condition.str_at("lastHeartbeatTime")),
            time(condition.str_at("lastTransitionTime")),
            condition.str_at("reason"),
            condition.str_at("message")
        );
    }
}

type Amounts = BTreeMap<String, Quantity>;

/// What a pod asks for: its containers together, or its largest init container where that is more.
fn pod_amounts(pod: &Value, field: &str) -> Amounts {
    let spec = pod.at("spec");
    let of = |container: &Value| -> Amounts {
        let amounts = container.at("resources").map_at(field);
        amounts.iter().map(|(name, amount)| (name.clone(), Quantity::of(amount))).collect()
    };
    let add = |into: &mut Amounts, more: &Amounts| {
        for (name, amount) in more {
            into.entry(name.clone()).and_modify(|sum| sum.add(amount)).or_insert_with(|| amount.clone());
        }
    };
    let mut total = Amounts::new();
    for container in spec.list_at("containers") {
        add(&mut total, &of(container));
    }
    // Init containers that restart go on beside those that follow.
    let (mut beside, mut largest) = (Amounts::new(), Amounts::new());
    for container in spec.list_at("initContainers") {
        let mut own = of(container);
        if container.str_at("restartPolicy") == "Always" {
            add(&mut beside, &own);
            add(&mut total, &own);
            own = beside.clone();
        } else {
            add(&mut own, &beside);
        }
        for (name, amount) in own {
            let entry = largest.entry(name).or_insert_with(|| amount.clone());
            if amount > *entry {
                *entry = amount;
            }
        }
    }
    for (name, amount) in largest {
        let entry = total.entry(name).or_insert_with(|| amount.clone());
        if amount > *entry {
            *entry = amount;
        }
    }
    let overhead: Amounts =
        spec.map_at("overhead").iter().map(|(name, amount)| (name.clone(), Quantity::of(amount))).collect();
    if field == "requests" || !total.is_empty() {
        add(&mut total, &overhead);
    }
    total
}

/// `250m (12%)`
fn share(amounts: &Amounts, allocatable: &Value, name: &str) -> String {
    let zero = Quantity::from_milli(0);
    let amount = amounts.get(name).unwrap_or(&zero);
    let there = Quantity::of(allocatable.at(name));
    let percent = if there.is_zero() {
        0
    } else if name == "cpu" {
        (amount.milli_value() as f64 / there.milli_value() as f64 * 100.0) as i64
    } else {
        (amount.value() as f64 / there.value() as f64 * 100.0) as i64
    };
    format!("{amount} ({percent}%)")
}

fn usage(status: &Value, pods: &[Value], page: &mut Page) {
    let field = if status.map_at("allocatable").is_empty() { "capacity" } else { "allocatable" };
    let allocatable = status.at(field);
    let now = &cells::Clock::now();
    line!(page, 0, "Non-terminated Pods:\t({} in total)", pods.len());
    line!(page, 1, "Namespace\tName\t\tCPU Requests\tCPU Limits\tMemory Requests\tMemory Limits\tAge");
    line!(page, 1, "---------\t----\t\t------------\t----------\t---------------\t-------------\t---");
    let mut sums = [Amounts::new(), Amounts::new()];
    for pod in pods {
        let amounts = [pod_amounts(pod, "requests"), pod_amounts(pod, "limits")];
        for (sum, own) in sums.iter_mut().zip(&amounts) {
            for (name, amount) in own {
                sum.entry(name.clone()).and_modify(|sum| sum.add(amount)).or_insert_with(|| amount.clone());
            }
        }
        let [requests, limits] = &amounts;
        let metadata = pod.at("metadata");
        line!(
            page,
            1,
            "{}\t{}\t\t{}\t{}\t{}\t{}\t{}",
            metadata.str_at("namespace"),
            metadata.str_at("name"),
            share(requests, allocatable, "cpu"),
            share(limits, allocatable, "cpu"),
            share(requests, allocatable, "memory"),
            share(limits, allocatable, "memory"),
            cells::since(metadata.str_at("creationTimestamp"), now)
        );
    }
    let [requests, limits] = &sums;
    line!(page, 0, "Allocated resources:");
    line!(page, 0, "  (Total limits may be over 100 percent, i.e., overcommitted.)");
    line!(page, 1, "Resource\tRequests\tLimits");
    line!(page, 1, "--------\t--------\t------");
    let named = ["cpu", "memory", "ephemeral-storage"];
    let huge = allocatable.entries().keys().map(String::as_str).filter(|name| name.starts_with(HUGE_PAGES));
    for name in named.into_iter().chain(huge) {
        line!(page, 1, "{name}\t{}\t{}", share(requests, allocatable, name), share(limits, allocatable, name));
    }
    let zero = Quantity::from_milli(0);
    for name in allocatable.entries().keys().map(String::as_str) {
        if !named.contains(&name) && !name.starts_with(HUGE_PAGES) && name != "pods" {
            let amount = |amounts: &Amounts| amounts.get(name).unwrap_or(&zero).to_string();
            line!(page, 1, "{name}\t{}\t{}", amount(requests), amount(limits));
        }
    }
}
