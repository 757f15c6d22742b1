//! Plans of DaemonSets over made-up nodes and pods.

use super::placement::{Placement, placement, pod, pod_on};
use super::plan::{ByNode, Changes, by_node, manage, roll, status};
use crate::runtime::Projection;
use crate::runtime::views::{DaemonSet, Node, Pod};
use expect_test::{Expect, expect};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const HASH: &str = "new";

fn set(strategy: Value, pod: Value) -> DaemonSet {
    let object = json!({
        "metadata": { "name": "agent", "namespace": "default", "uid": "set", "generation": 2,
                      "annotations": { "deprecated.daemonset.template.generation": "3" } },
        "spec": { "selector": { "matchLabels": { "app": "agent" } }, "updateStrategy": strategy,
                  "template": { "metadata": { "labels": { "app": "agent" } }, "spec": pod } },
    });
    DaemonSet::project(serde_json::from_value(object).expect("a set"))
}

fn rolling(unavailable: Value, surge: Value) -> Value {
    json!({ "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": unavailable, "maxSurge": surge } })
}

fn node(name: &str, labels: Value, taints: Value) -> Arc<Node> {
    let node = json!({ "metadata": { "name": name, "labels": labels }, "spec": { "taints": taints } });
    Arc::new(Node::project(serde_json::from_value(node).expect("a node")))
}

fn nodes(names: &[&str]) -> Vec<Arc<Node>> {
    names.iter().map(|name| node(name, json!({}), json!([]))).collect()
}

/// `new1 n1 Running ready`: name, node (or `?n1`: meant for it), phase, and words.
fn pods(lines: &[&str]) -> ByNode {
    let pods = lines.iter().map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let hash = if words[0].starts_with("new") { HASH } else { "old" };
        let ready = if words.contains(&"ready") { "True" } else { "False" };
        let mut pod = json!({
            "metadata": { "name": words[0], "namespace": "default", "uid": words[0],
                          "creationTimestamp": "2026-01-01T00:00:00Z", "labels": { "controller-revision-hash": hash } },
            "status": { "phase": words[2], "conditions": [
                { "type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:10Z" }] },
        });
        match words[1].strip_prefix('?') {
            Some(node) => pod = pod_on(pod, node),
            None => pod["spec"]["nodeName"] = words[1].into(),
        }
        if words.contains(&"deleting") {
            pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        Arc::new(Pod::project(serde_json::from_value(pod).expect("a pod")))
    });
    by_node(pods.collect())
}

fn now() -> Timestamp {
    "2026-01-01T00:01:00Z".parse().expect("a time")
}

fn check(changes: &Changes, expected: Expect) {
    let deleted: Vec<&str> = changes.delete.iter().map(|pod| &*pod.meta.name).collect();
    let ended: Vec<&str> = changes.ended.iter().map(|(pod, _)| &*pod.meta.name).collect();
    let text = format!(
        "create {} delete {} ended {} again {:?}",
        changes.create.join(","),
        deleted.join(","),
        ended.join(","),
        changes.again
    );
    expected.assert_eq(&text);
}

fn manage_with(strategy: Value, nodes: &[Arc<Node>], pods: &ByNode) -> Changes {
    manage(&set(strategy, json!({})), nodes, pods, HASH, now(), |node| match node {
        "n9" => Err(Duration::from_secs(4)),
        _ => Ok(()),
    })
}

#[test]
fn a_pod_on_each_node() {
    let one = rolling(1.into(), 0.into());
    let live = pods(&[
        "old1 n1 Running ready",
        "old2 n2 Running",
        "old3 n2 Running ready",
        "old4 n3 Failed",
        "old5 n4 Succeeded",
        "old6 n5 Running deleting",
        "old7 n9 Failed",
        "old8 gone Running ready",
        "old9 ?gone Pending",
        "old10 ?n6 Pending",
        "old11 n7 Failed deleting",
    ]);
    let nodes = nodes(&["n1", "n2", "n3", "n4", "n5", "n6", "n7", "n8", "n9"]);
    check(
        &manage_with(one, &nodes, &live),
        expect!["create n7,n8 delete old3,old4,old5,old9 ended old4,old5 again Some(4s)"],
    );
}

#[test]
fn what_a_node_is_to_a_set() {
    let check = |pod: Value, labels: Value, taints: Value, run: bool, keep: bool| {
        let shown = format!("{pod} on {labels} {taints}");
        let placement = placement(&set(json!({}), pod), &node("n1", labels, taints));
        assert_eq!(placement, Placement { run, keep }, "{shown}");
    };
    let taint = |key: &str, effect: &str| json!([{ "key": key, "effect": effect }]);
    check(json!({}), json!({}), json!([]), true, true);
    check(json!({ "nodeName": "n2" }), json!({}), json!([]), false, false);
    check(json!({ "nodeSelector": { "disk": "ssd" } }), json!({}), json!([]), false, false);
    check(json!({ "nodeSelector": { "disk": "ssd" } }), json!({ "disk": "ssd" }), json!([]), true, true);
    check(json!({}), json!({}), taint("dedicated", "NoSchedule"), false, true);
    check(json!({}), json!({}), taint("dedicated", "NoExecute"), false, false);
    check(json!({}), json!({}), taint("dedicated", "PreferNoSchedule"), true, true);
    let tolerant = json!({ "tolerations": [{ "key": "dedicated", "operator": "Exists" }] });
    check(tolerant, json!({}), taint("dedicated", "NoExecute"), true, true);
    check(json!({}), json!({}), taint("node.kubernetes.io/unschedulable", "NoSchedule"), true, true);
    check(json!({}), json!({}), taint("node.kubernetes.io/not-ready", "NoExecute"), true, true);
    let unreachable = taint("node.kubernetes.io/network-unavailable", "NoSchedule");
    check(json!({}), json!({}), unreachable.clone(), false, true);
    check(json!({ "hostNetwork": true }), json!({}), unreachable, true, true);
    let affinity = |key: &str, value: &str| {
        let field = json!({ "key": key, "operator": "In", "values": [value] });
        json!({ "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{ "matchFields": [field] }] } } } })
    };
    check(affinity("metadata.name", "n1"), json!({}), json!([]), true, true);
    check(affinity("metadata.name", "n2"), json!({}), json!([]), false, false);
}

#[test]
fn a_pod_is_for_its_node() {
    let limited = json!({ "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute",
                          "tolerationSeconds": 5 });
    let term = json!({ "matchExpressions": [{ "key": "disk", "operator": "Exists" }] });
    let spec = json!({ "tolerations": [limited], "affinity": { "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [term] } } } });
    let set = set(json!({}), spec);
    let pod = pod_on(pod(&set, HASH), "n1");
    let labels = json!({ "app": "agent", "controller-revision-hash": HASH, "pod-template-generation": "3" });
    assert_eq!(pod["metadata"]["labels"], labels);
    assert_eq!(pod["metadata"]["generateName"], "agent-");
    let required = &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    let field = json!({ "key": "metadata.name", "operator": "In", "values": ["n1"] });
    assert_eq!(*required, json!({ "nodeSelectorTerms": [{ "matchFields": [field] }] }));
    let tolerations = pod["spec"]["tolerations"].as_array().expect("a list");
    assert_eq!(tolerations.len(), 6);
    let first = json!({ "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute" });
    assert_eq!(tolerations[0], first);
}

#[test]
fn an_update_keeps_within_its_bounds() {
    let step = |strategy: Value, lines: &[&str], expected: Expect| {
        let set = set(strategy, json!({}));
        check(&roll(&set, &nodes(&["n1", "n2", "n3", "n4"]), &pods(lines), HASH, now()), expected);
    };
    let old = ["old1 n1 Running ready", "old2 n2 Running ready", "old3 n3 Running ready", "old4 n4 Running ready"];
    step(rolling(1.into(), 0.into()), &old, expect!["create  delete old1 ended  again None"]);
    step(rolling("50%".into(), 0.into()), &old, expect!["create  delete old1,old2 ended  again None"]);
    // A node without a pod, or with a new one that is not ready, uses the bound up.
    step(rolling(1.into(), 0.into()), &old[..3], expect!["create  delete  ended  again None"]);
    let busy = ["new1 n1 Running", "old2 n2 Running ready", "old3 n3 Running", "old4 n4 Running ready"];
    step(rolling(1.into(), 0.into()), &busy, expect!["create  delete old3 ended  again None"]);
    step(rolling(0.into(), 1.into()), &old, expect!["create n1 delete  ended  again None"]);
    let surging = ["new1 n1 Running", "old1 n1 Running ready", "old2 n2 Running ready", "old3 n3 Running"];
    step(rolling(0.into(), 1.into()), &surging, expect!["create n3 delete  ended  again None"]);
    let surged = ["new1 n1 Running ready", "old1 n1 Running ready", "old2 n2 Running ready"];
    step(rolling(0.into(), 1.into()), &surged, expect!["create n2 delete old1 ended  again None"]);
}

#[test]
fn a_surge_leaves_two_at_most() {
    let surge = rolling(0.into(), 1.into());
    let live = pods(&[
        "new1 n1 Running",
        "old1 n1 Running ready",
        "new2 n2 Running",
        "old2 n2 Running",
        "new3 n3 Running ready",
        "old3 n3 Running ready",
        "new4 n4 Running",
        "new5 n4 Running",
        "old6 n5 Running deleting",
    ]);
    let nodes = nodes(&["n1", "n2", "n3", "n4", "n5"]);
    check(&manage_with(surge, &nodes, &live), expect!["create n5 delete old2,old3,new5 ended  again None"]);
}

#[test]
fn the_status_counts_nodes() {
    let set = set(json!({}), json!({}));
    let mut nodes = nodes(&["n1", "n2", "n3"]);
    nodes.push(node("n4", json!({}), json!([{ "key": "dedicated", "effect": "NoSchedule" }])));
    let live = pods(&["new1 n1 Running ready", "old2 n2 Running", "old4 n4 Running ready"]);
    let status = status(&set, &nodes, &live, HASH, now(), true);
    let counts = [
        status.desired_number_scheduled,
        status.current_number_scheduled,
        status.number_misscheduled,
        status.number_ready,
        status.updated_number_scheduled,
        status.number_available,
        status.number_unavailable,
    ];
    assert_eq!(counts, [3, 2, 1, 1, 1, 1, 2]);
    assert_eq!(status.observed_generation, 2);
}
