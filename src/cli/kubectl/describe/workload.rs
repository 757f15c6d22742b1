//! Workloads of running pods, and their pod template.

use super::containers::{self, PodValues};
use super::page::{Page, line, or_none, time};
use super::rows::Row::{self, Annotations, If, Labels, Pairs, Selector, Text, Time};
use super::rows::{NAME, NAMESPACE};
use super::{Lists, Related, Select, controlled_by, pod, storage, volumes};
use crate::api::{Fields, FieldsMut};
use crate::client::kinds;
use crate::resources::cells;
use serde_json::Value;

const HASH: &str = "pod-template-hash";

fn selected(object: &Value) -> Select {
    let selector = object.at("spec").at("selector");
    // A ReplicationController's is of labels alone.
    let plain = object.str_at("kind") == "ReplicationController";
    Select {
        namespace: object.at("metadata").str_at("namespace").to_owned(),
        labels: if plain { cells::labels(selector) } else { cells::selector(selector) },
        ..Select::default()
    }
}

pub(super) const DEPLOYMENT_RELATED: &[Related] =
    &[Related { name: "replicaSets", kind: kinds::REPLICA_SETS, select: selected }];

pub(super) const PODS: &[Related] = &[Related { name: "pods", kind: kinds::PODS, select: selected }];

pub(super) fn print_deployment(deployment: &Value, lists: &Lists, page: &mut Page) {
    let (metadata, spec, status) = (deployment.at("metadata"), deployment.at("spec"), deployment.at("status"));
    line!(page, 0, "Name:\t{}", metadata.str_at("name"));
    line!(page, 0, "Namespace:\t{}", metadata.str_at("namespace"));
    line!(page, 0, "CreationTimestamp:\t{}", time(metadata.str_at("creationTimestamp")));
    page.labels("Labels", metadata.at("labels"));
    page.annotations("Annotations", metadata.at("annotations"));
    line!(page, 0, "Selector:\t{}", cells::selector(spec.at("selector")));
    line!(
        page,
        0,
        "Replicas:\t{} desired | {} updated | {} total | {} available | {} unavailable",
        spec.int_at("replicas"),
        status.int_at("updatedReplicas"),
        status.int_at("replicas"),
        status.int_at("availableReplicas"),
        status.int_at("unavailableReplicas")
    );
    line!(page, 0, "StrategyType:\t{}", spec.at("strategy").str_at("type"));
    line!(page, 0, "MinReadySeconds:\t{}", spec.int_at("minReadySeconds"));
    if let Some(rolling) = spec.at("strategy").get_set("rollingUpdate") {
        let amount = |field: &str| crate::api::jsonpath::to_text(rolling.at(field));
        line!(
            page,
            0,
            "RollingUpdateStrategy:\t{} max unavailable, {} max surge",
            amount("maxUnavailable"),
            amount("maxSurge")
        );
    }
    template(spec.at("template"), page);
    conditions(status, page);
    let uid = metadata.str_at("uid");
    let owned = |set: &&Value| {
        let mut owners = set.at("metadata").list_at("ownerReferences").iter();
        owners.any(|owner| owner.bool_at("controller") && owner.str_at("uid") == uid)
    };
    let mut sets: Vec<&Value> = lists.items("replicaSets").iter().filter(owned).collect();
    sets.sort_by_key(|set| set.at("metadata").str_at("creationTimestamp"));
    let wanted = without_hash(spec.at("template"));
    let new = sets.iter().position(|set| without_hash(set.at("spec").at("template")) == wanted);
    let new = new.map(|at| sets.remove(at));
    line!(page, 0, "OldReplicaSets:\t{}", replica_sets(&sets));
    line!(page, 0, "NewReplicaSet:\t{}", replica_sets(new.as_slice()));
}

fn without_hash(template: &Value) -> Value {
    let mut template = template.clone();
    template.object_mut("metadata").object_mut("labels").clear(HASH);
    template
}

fn replica_sets(sets: &[&Value]) -> String {
    let texts: Vec<String> = sets
        .iter()
        .map(|set| {
            let (name, created) = (set.at("metadata").str_at("name"), set.at("status").int_at("replicas"));
            format!("{name} ({created}/{} replicas created)", set.at("spec").int_at("replicas"))
        })
        .collect();
    or_none(&texts.join(", ")).to_owned()
}

pub(super) fn print_replica_set(set: &Value, lists: &Lists, page: &mut Page) {
    page.rows(0, set, &[NAME, NAMESPACE, Selector("Selector", "/spec/selector"), Labels, Annotations]);
    if let Some(owner) = controlled_by(set) {
        line!(page, 0, "Controlled By:\t{owner}");
    }
    replicas(set, lists, page);
}

pub(super) fn print_replication_controller(controller: &Value, lists: &Lists, page: &mut Page) {
    page.rows(0, controller, &[NAME, NAMESPACE, Pairs("Selector", "/spec/selector"), Labels, Annotations]);
    replicas(controller, lists, page);
}

fn replicas(set: &Value, lists: &Lists, page: &mut Page) {
    let (spec, status) = (set.at("spec"), set.at("status"));
    line!(page, 0, "Replicas:\t{} current / {} desired", status.int_at("replicas"), spec.int_at("replicas"));
    pods_status(set, lists, page);
    template(spec.at("template"), page);
    conditions(status, page);
}

pub(super) fn print_daemon_set(set: &Value, lists: &Lists, page: &mut Page) {
    let (spec, status) = (set.at("spec"), set.at("status"));
    const HEAD: &[Row] = &[
        NAME,
        NAMESPACE,
        Selector("Selector", "/spec/selector"),
        Pairs("Node-Selector", "/spec/template/spec/nodeSelector"),
        Labels,
        Annotations,
    ];
    page.rows(0, set, HEAD);
    for (title, field) in [
        ("Desired Number of Nodes Scheduled", "desiredNumberScheduled"),
        ("Current Number of Nodes Scheduled", "currentNumberScheduled"),
        ("Number of Nodes Scheduled with Up-to-date Pods", "updatedNumberScheduled"),
        ("Number of Nodes Scheduled with Available Pods", "numberAvailable"),
        ("Number of Nodes Misscheduled", "numberMisscheduled"),
    ] {
        line!(page, 0, "{title}: {}", status.int_at(field));
    }
    pods_status(set, lists, page);
    template(spec.at("template"), page);
}

pub(super) fn print_stateful_set(set: &Value, lists: &Lists, page: &mut Page) {
    let (spec, status) = (set.at("spec"), set.at("status"));
    const HEAD: &[Row] = &[
        NAME,
        NAMESPACE,
        Time("CreationTimestamp", "/metadata/creationTimestamp"),
        Selector("Selector", "/spec/selector"),
        Labels,
        Annotations,
    ];
    page.rows(0, set, HEAD);
    line!(page, 0, "Replicas:\t{} desired | {} total", spec.int_at("replicas"), status.int_at("replicas"));
    page.rows(0, set, &[Text("Update Strategy", "/spec/updateStrategy/type")]);
    let rolling = spec.at("updateStrategy").at("rollingUpdate");
    if rolling.has("partition") {
        page.rows(1, rolling, &[Text("Partition", "/partition"), If("MaxUnavailable", "/maxUnavailable")]);
    }
    pods_status(set, lists, page);
    template(spec.at("template"), page);
    storage::claim_templates(spec.list_at("volumeClaimTemplates"), page);
}

/// How many of the pods that an object owns are in which phase.
fn pods_status(owner: &Value, lists: &Lists, page: &mut Page) {
    let Some(pods) = lists.get("pods") else {
        line!(page, 0, "Pods Status:\terror in fetching pods: not allowed");
        return;
    };
    let uid = owner.at("metadata").str_at("uid");
    let own = |pod: &&Value| {
        let mut owners = pod.at("metadata").list_at("ownerReferences").iter();
        owners.any(|owner| owner.bool_at("controller") && owner.str_at("uid") == uid)
    };
    let count = |phase: &str| pods.iter().filter(own).filter(|pod| pod.at("status").str_at("phase") == phase).count();
    line!(
        page,
        0,
        "Pods Status:\t{} Running / {} Waiting / {} Succeeded / {} Failed",
        count("Running"),
        count("Pending"),
        count("Succeeded"),
        count("Failed")
    );
}

/// The template of the pods that a workload makes.
pub(super) fn template(template: &Value, page: &mut Page) {
    let (metadata, spec) = (template.at("metadata"), template.at("spec"));
    line!(page, 0, "Pod Template:");
    page.labels("  Labels", metadata.at("labels"));
    if !metadata.map_at("annotations").is_empty() {
        page.annotations("  Annotations", metadata.at("annotations"));
    }
    if !spec.str_at("serviceAccountName").is_empty() {
        line!(page, 1, "Service Account:\t{}", spec.str_at("serviceAccountName"));
    }
    let values = PodValues(None);
    if !spec.list_at("initContainers").is_empty() {
        containers::print("Init Containers", spec.list_at("initContainers"), &[], &values, "  ", page);
    }
    containers::print("Containers", spec.list_at("containers"), &[], &values, "  ", page);
    volumes::print(spec.list_at("volumes"), "  ", page);
    pod::spread("  ", spec, page);
    if !spec.str_at("priorityClassName").is_empty() {
        line!(page, 1, "Priority Class Name:\t{}", spec.str_at("priorityClassName"));
    }
    page.labels("  Node-Selectors", spec.at("nodeSelector"));
    pod::tolerations("  Tolerations", spec, page);
}

fn conditions(status: &Value, page: &mut Page) {
    if status.list_at("conditions").is_empty() {
        return;
    }
    line!(page, 0, "Conditions:");
    line!(page, 1, "Type\tStatus\tReason");
    line!(page, 1, "----\t------\t------");
    for condition in status.list_at("conditions") {
        let (kind, status, reason) = (condition.str_at("type"), condition.str_at("status"), condition.str_at("reason"));
        line!(page, 1, "{kind} \t{status}\t{reason}");
    }
}
