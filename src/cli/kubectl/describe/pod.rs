//! A Pod.

use super::containers::{self, PodValues};
use super::page::{Page, line, or_none, time};
use super::{Lists, controlled_by, volumes};
use crate::api::Fields;
use crate::resources::cells::{Clock, since};
use serde_json::Value;

pub(super) fn print(pod: &Value, _: &Lists, page: &mut Page) {
    let (metadata, spec, status) = (pod.at("metadata"), pod.at("spec"), pod.at("status"));
    line!(page, 0, "Name:\t{}", metadata.str_at("name"));
    line!(page, 0, "Namespace:\t{}", metadata.str_at("namespace"));
    if let Some(priority) = spec.optional_int("priority") {
        line!(page, 0, "Priority:\t{priority}");
    }
    for (title, field) in [
        ("Priority Class Name", "priorityClassName"),
        ("Runtime Class Name", "runtimeClassName"),
        ("Service Account", "serviceAccountName"),
    ] {
        if !spec.str_at(field).is_empty() {
            line!(page, 0, "{title}:\t{}", spec.str_at(field));
        }
    }
    match spec.str_at("nodeName") {
        "" => line!(page, 0, "Node:\t<none>"),
        node => line!(page, 0, "Node:\t{node}/{}", status.str_at("hostIP")),
    }
    if status.has("startTime") {
        line!(page, 0, "Start Time:\t{}", time(status.str_at("startTime")));
    }
    page.labels("Labels", metadata.at("labels"));
    page.annotations("Annotations", metadata.at("annotations"));
    let phase = status.str_at("phase");
    if metadata.has("deletionTimestamp") && !matches!(phase, "Failed" | "Succeeded") {
        let lasts = since(metadata.str_at("deletionTimestamp"), &Clock::now());
        line!(page, 0, "Status:\tTerminating (lasts {lasts})");
        line!(page, 0, "Termination Grace Period:\t{}s", metadata.int_at("deletionGracePeriodSeconds"));
    } else {
        line!(page, 0, "Status:\t{phase}");
    }
    for (title, field) in [("Reason", "reason"), ("Message", "message")] {
        if !status.str_at(field).is_empty() {
            line!(page, 0, "{title}:\t{}", status.str_at(field));
        }
    }
    containers::seccomp(spec.at("securityContext"), 0, page);
    line!(page, 0, "IP:\t{}", status.str_at("podIP"));
    match status.list_at("podIPs") {
        [] => line!(page, 0, "IPs:\t<none>"),
        addresses => {
            line!(page, 0, "IPs:");
            for address in addresses {
                line!(page, 1, "IP:\t{}", address.str_at("ip"));
            }
        }
    }
    if let Some(owner) = controlled_by(pod) {
        line!(page, 0, "Controlled By:\t{owner}");
    }
    if !status.str_at("nominatedNodeName").is_empty() {
        line!(page, 0, "NominatedNodeName:\t{}", status.str_at("nominatedNodeName"));
    }
    let values = PodValues(Some(pod));
    for (title, list, statuses, always) in [
        ("Init Containers", "initContainers", "initContainerStatuses", false),
        ("Containers", "containers", "containerStatuses", true),
        ("Ephemeral Containers", "ephemeralContainers", "ephemeralContainerStatuses", false),
    ] {
        if always || !spec.list_at(list).is_empty() {
            containers::print(title, spec.list_at(list), status.list_at(statuses), &values, "", page);
        }
    }
    readiness_gates(spec, status, page);
    if !status.list_at("conditions").is_empty() {
        line!(page, 0, "Conditions:");
        line!(page, 1, "Type\tStatus");
        for condition in status.list_at("conditions") {
            line!(page, 1, "{} \t{} ", condition.str_at("type"), condition.str_at("status"));
        }
    }
    volumes::print(spec.list_at("volumes"), "", page);
    line!(page, 0, "QoS Class:\t{}", or_none(status.str_at("qosClass")));
    page.labels("Node-Selectors", spec.at("nodeSelector"));
    tolerations("Tolerations", spec, page);
    spread("", spec, page);
}

fn readiness_gates(spec: &Value, status: &Value, page: &mut Page) {
    if spec.list_at("readinessGates").is_empty() {
        return;
    }
    line!(page, 0, "Readiness Gates:");
    line!(page, 1, "Type\tStatus");
    for gate in spec.list_at("readinessGates") {
        let kind = gate.str_at("conditionType");
        let mut conditions = status.list_at("conditions").iter();
        let found = conditions.find(|condition| condition.str_at("type") == kind);
        line!(page, 1, "{kind} \t{} ", found.map_or("<none>", |condition| condition.str_at("status")));
    }
}

pub(super) fn tolerations(title: &str, spec: &Value, page: &mut Page) {
    let mut all: Vec<&Value> = spec.list_at("tolerations").iter().collect();
    all.sort_by_key(|toleration| toleration.str_at("key"));
    let texts = all.into_iter().map(|toleration| {
        let (key, value) = (toleration.str_at("key"), toleration.str_at("value"));
        let effect = toleration.str_at("effect");
        let mut text = key.to_owned();
        if !value.is_empty() {
            text.push_str(&format!("={value}"));
        }
        if !effect.is_empty() {
            text.push_str(&format!(":{effect}"));
        }
        if toleration.str_at("operator") == "Exists" && value.is_empty() {
            text.push_str(if key.is_empty() && effect.is_empty() { "op=Exists" } else { " op=Exists" });
        }
        if let Some(seconds) = toleration.optional_int("tolerationSeconds") {
            text.push_str(&format!(" for {seconds}s"));
        }
        text
    });
    page.list(title, texts.collect());
}

pub(super) fn spread(space: &str, spec: &Value, page: &mut Page) {
    let constraints = spec.list_at("topologySpreadConstraints");
    if constraints.is_empty() {
        return;
    }
    let mut sorted: Vec<&Value> = constraints.iter().collect();
    sorted.sort_by_key(|constraint| constraint.str_at("topologyKey"));
    let texts = sorted.into_iter().map(|constraint| {
        let mut text = format!(
            "{}:{} when max skew {} is exceeded",
            constraint.str_at("topologyKey"),
            constraint.str_at("whenUnsatisfiable"),
            constraint.int_at("maxSkew")
        );
        if constraint.has("labelSelector") {
            let selector = crate::resources::cells::selector(constraint.at("labelSelector"));
            text.push_str(&format!(" for selector {selector}"));
        }
        text
    });
    page.list(&format!("{space}Topology Spread Constraints"), texts.collect());
}
