//! Decisions on small clusters: each plugin where it refuses, and where it prefers.

use super::cache::{Cache, Snapshot};
use super::cycle::{Cycle, Misfit, Surroundings, schedule};
use super::plugins::PLUGINS;
use super::preemption;
use crate::runtime::Projection;
use crate::runtime::views::{Node, Pod, PodDisruptionBudget};
use serde_json::{Value, json};
use std::sync::Arc;

fn node(name: &str, change: impl FnOnce(&mut Value)) -> Arc<Node> {
    let mut node = json!({
        "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } },
        "spec": {},
        "status": { "allocatable": { "cpu": "2", "memory": "4Gi", "pods": "10" } },
    });
    change(&mut node);
    Arc::new(Node::project(serde_json::from_value(node).expect("a node")))
}

fn pod(name: &str, change: impl FnOnce(&mut Value)) -> Arc<Pod> {
    let mut pod = json!({
        "metadata": { "name": name, "namespace": "default", "uid": name, "labels": { "app": "web" } },
        "spec": { "containers": [{ "name": "a", "image": "x" }] },
    });
    change(&mut pod);
    Arc::new(Pod::project(serde_json::from_value(pod).expect("a pod")))
}

fn asks(cpu: &str) -> impl FnOnce(&mut Value) + use<'_> {
    move |pod| pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = cpu.into()
}

fn snapshot(nodes: &[Arc<Node>], pods: &[(&str, Arc<Pod>)]) -> Snapshot {
    let mut cache = Cache::default();
    nodes.iter().for_each(|node| cache.set_node(node));
    pods.iter().for_each(|(node, pod)| cache.place(pod, &Arc::from(*node), false));
    cache.snapshot()
}

fn decide(snapshot: &Snapshot, pod: &Pod) -> Result<String, Misfit> {
    let surroundings = Surroundings::default();
    schedule(&Cycle { pod, snapshot, surroundings: &surroundings }, 0).map(|node| node.to_string())
}

fn refusal(snapshot: &Snapshot, pod: &Pod) -> String {
    decide(snapshot, pod).expect_err("no node fits").to_string()
}

#[test]
fn no_nodes() {
    assert_eq!(refusal(&Snapshot::default(), &pod("a", |_| {})), "no nodes available to schedule pods");
}

#[test]
fn refusals_are_counted_and_sorted() {
    let nodes = [
        node("n1", |node| node["spec"]["unschedulable"] = true.into()),
        node("n2", |node| node["spec"]["taints"] = json!([{ "key": "k", "effect": "NoSchedule" }])),
        node("n3", |_| {}),
        node("n4", |_| {}),
    ];
    let snapshot = snapshot(&nodes, &[]);
    assert_eq!(
        refusal(&snapshot, &pod("a", asks("3"))),
        "0/4 nodes are available: 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable, 2 Insufficient cpu."
    );
}

#[test]
fn requests_count_against_what_runs() {
    let running = pod("b", asks("1500m"));
    let snapshot = snapshot(&[node("n1", |_| {})], &[("n1", running)]);
    assert_eq!(decide(&snapshot, &pod("a", asks("500m"))), Ok("n1".into()));
    assert_eq!(refusal(&snapshot, &pod("a", asks("501m"))), "0/1 nodes are available: 1 Insufficient cpu.");
    let full = node("n1", |node| node["status"]["allocatable"]["pods"] = "1".into());
    let full = super::tests::snapshot(&[full], &[("n1", pod("b", |_| {}))]);
    assert_eq!(refusal(&full, &pod("a", |_| {})), "0/1 nodes are available: 1 Too many pods.");
}

#[test]
fn selectors_and_affinity() {
    let nodes = [node("n1", |_| {}), node("n2", |node| node["metadata"]["labels"]["disk"] = "ssd".into())];
    let snapshot = snapshot(&nodes, &[]);
    let selected = pod("a", |pod| pod["spec"]["nodeSelector"] = json!({ "disk": "ssd" }));
    assert_eq!(decide(&snapshot, &selected), Ok("n2".into()));
    let nowhere = pod("a", |pod| pod["spec"]["nodeSelector"] = json!({ "disk": "tape" }));
    assert_eq!(
        refusal(&snapshot, &nowhere),
        "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector."
    );
    let preferred = pod("a", |pod| {
        pod["spec"]["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"] = json!([
            { "weight": 50, "preference": { "matchExpressions": [{ "key": "disk", "operator": "In", "values": ["ssd"] }] } }
        ]);
    });
    assert_eq!(decide(&snapshot, &preferred), Ok("n2".into()));
    let by_name = pod("a", |pod| {
        pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = json!({
            "nodeSelectorTerms": [{ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["n1"] }] }] });
    });
    assert_eq!(decide(&snapshot, &by_name), Ok("n1".into()));
}

#[test]
fn tolerations() {
    let tainted =
        node("n1", |node| node["spec"]["taints"] = json!([{ "key": "k", "value": "v", "effect": "NoSchedule" }]));
    let snapshot = snapshot(&[tainted], &[]);
    let tolerant = |toleration: Value| pod("a", move |pod| pod["spec"]["tolerations"] = json!([toleration]));
    assert!(decide(&snapshot, &tolerant(json!({ "operator": "Exists" }))).is_ok());
    assert!(decide(&snapshot, &tolerant(json!({ "key": "k", "value": "v" }))).is_ok());
    assert!(decide(&snapshot, &tolerant(json!({ "key": "k", "value": "w" }))).is_err());
    assert!(decide(&snapshot, &tolerant(json!({ "key": "k", "value": "v", "effect": "NoExecute" }))).is_err());
}

#[test]
fn a_taint_that_only_prefers_is_avoided() {
    let nodes = [
        node("n1", |node| node["spec"]["taints"] = json!([{ "key": "k", "effect": "PreferNoSchedule" }])),
        node("n2", |_| {}),
    ];
    assert_eq!(decide(&snapshot(&nodes, &[]), &pod("a", |_| {})), Ok("n2".into()));
}

#[test]
fn host_ports_conflict() {
    let port = |host_ip: &'static str| {
        pod(host_ip, move |pod| {
            pod["spec"]["containers"][0]["ports"] =
                json!([{ "containerPort": 80, "hostPort": 80, "hostIP": host_ip, "protocol": "TCP" }]);
        })
    };
    let snapshot = snapshot(&[node("n1", |_| {})], &[("n1", port("192.0.2.1"))]);
    assert!(decide(&snapshot, &port("192.0.2.2")).is_ok());
    assert_eq!(
        refusal(&snapshot, &port("0.0.0.0")),
        "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."
    );
}

#[test]
fn the_emptier_node_is_better() {
    let nodes = [node("n1", |_| {}), node("n2", |_| {})];
    let snapshot = snapshot(&nodes, &[("n1", pod("b", asks("1")))]);
    assert_eq!(decide(&snapshot, &pod("a", asks("100m"))), Ok("n2".into()));
}

#[test]
fn an_image_that_is_there_is_better() {
    let with_image = |node: &mut Value| {
        node["status"]["images"] = json!([{ "names": ["registry.example/x:latest"], "sizeBytes": 900_000_000 }]);
    };
    let snapshot = snapshot(&[node("n1", |_| {}), node("n2", with_image)], &[]);
    let wants = pod("a", |pod| pod["spec"]["containers"][0]["image"] = "registry.example/x".into());
    assert_eq!(decide(&snapshot, &wants), Ok("n2".into()));
}

#[test]
fn pods_of_one_service_are_spread() {
    let nodes = [node("n1", |_| {}), node("n2", |_| {})];
    let snapshot = snapshot(&nodes, &[("n1", pod("b", |_| {}))]);
    let mut surroundings = Surroundings::default();
    surroundings.workload.labels.insert("app".into(), "web".into());
    let pod = pod("a", |_| {});
    let cycle = Cycle { pod: &pod, snapshot: &snapshot, surroundings: &surroundings };
    assert_eq!(schedule(&cycle, 0).as_deref(), Ok("n2"));
}

#[test]
fn a_hard_spread_constraint_holds() {
    let nodes = [node("n1", |_| {}), node("n2", |_| {})];
    let spread = |pod: &mut Value| {
        pod["spec"]["topologySpreadConstraints"] = json!([{ "maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "DoNotSchedule", "labelSelector": { "matchLabels": { "app": "web" } } }]);
    };
    let running = [("n1", pod("b", |_| {}))];
    assert_eq!(decide(&snapshot(&nodes, &running), &pod("a", spread)), Ok("n2".into()));
    let only = [node("n1", |_| {}), node("n2", |node| node["spec"]["unschedulable"] = true.into())];
    assert_eq!(
        refusal(&snapshot(&only, &running), &pod("a", spread)),
        "0/2 nodes are available: 1 node(s) didn't match pod topology spread constraints, 1 node(s) were unschedulable."
    );
}

#[test]
fn affinity_and_anti_affinity_between_pods() {
    let nodes = [node("n1", |_| {}), node("n2", |_| {})];
    let term =
        json!([{ "topologyKey": "kubernetes.io/hostname", "labelSelector": { "matchLabels": { "app": "web" } } }]);
    let near = term.clone();
    let near = pod("near", move |pod| {
        pod["metadata"]["labels"] = json!({ "app": "other" });
        pod["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = near;
    });
    let away = pod("away", move |pod| {
        pod["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = term;
    });
    let running = snapshot(&nodes, &[("n1", pod("b", |_| {}))]);
    assert_eq!(decide(&running, &near), Ok("n1".into()));
    assert_eq!(decide(&running, &away), Ok("n2".into()));
    let empty = snapshot(&nodes, &[]);
    assert_eq!(refusal(&empty, &near), "0/2 nodes are available: 2 node(s) didn't match pod affinity rules.");
    // A pod that runs wants to be alone.
    let alone = snapshot(&nodes[..1], &[("n1", away.clone())]);
    assert_eq!(
        refusal(&alone, &pod("c", |_| {})),
        "0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules.",
    );
}

#[test]
fn preemption_takes_the_least_important() {
    let with = |priority: i32, cpu: &'static str| {
        move |pod: &mut Value| {
            pod["spec"]["priority"] = priority.into();
            asks(cpu)(pod);
        }
    };
    let nodes = [node("n1", |_| {}), node("n2", |_| {})];
    let running =
        [("n1", pod("low", with(1, "1"))), ("n1", pod("lower", with(0, "1"))), ("n2", pod("middle", with(5, "2")))];
    let snapshot = snapshot(&nodes, &running);
    let high = pod("high", with(10, "1"));
    let misfit = decide(&snapshot, &high).expect_err("both are full");
    let candidate = preemption::find(&high, &snapshot, &Surroundings::default(), &misfit, &[]).expect("a place");
    assert_eq!(&*candidate.node, "n1");
    let victims: Vec<&str> = candidate.victims.iter().map(|pod| &*pod.meta.name).collect();
    assert_eq!(victims, ["lower"]);
    let equal = pod("equal", with(0, "1"));
    let misfit = decide(&snapshot, &equal).expect_err("both are full");
    assert_eq!(
        preemption::find(&equal, &snapshot, &Surroundings::default(), &misfit, &[])
            .expect_err("nobody is less important"),
        "0/2 nodes are available: 2 No preemption victims found for incoming pod."
    );
}

#[test]
fn preemption_keeps_budgets_where_it_can() {
    let with = |priority: i32, label: &'static str| {
        move |pod: &mut Value| {
            pod["metadata"]["labels"] = json!({ "app": label });
            pod["spec"]["priority"] = priority.into();
            asks("1")(pod);
        }
    };
    let budget = |selector: Value, status: Value| {
        let budget = json!({ "metadata": { "name": "b", "namespace": "default" }, "spec": { "selector": selector },
                             "status": status });
        Arc::new(serde_json::from_value::<PodDisruptionBudget>(budget).expect("a budget"))
    };
    let check = |nodes: &[&str], budgets: &[Arc<PodDisruptionBudget>]| {
        let nodes: Vec<_> = nodes.iter().map(|name| node(name, |_| {})).collect();
        let running = [
            ("n1", pod("low", with(0, "kept"))),
            ("n1", pod("lower", with(0, "kept"))),
            ("n2", pod("middle", with(5, "free"))),
            ("n2", pod("other", with(5, "kept"))),
        ];
        let snapshot = snapshot(&nodes, &running[..2 * nodes.len()]);
        let high = pod("high", with(10, "high"));
        let misfit = decide(&snapshot, &high).expect_err("it is full");
        let found = preemption::find(&high, &snapshot, &Surroundings::default(), &misfit, budgets).expect("a place");
        let victims: Vec<&str> = found.victims.iter().map(|pod| &*pod.meta.name).collect();
        victims.join(" ")
    };
    let kept = json!({ "matchLabels": { "app": "kept" } });
    let none = json!({ "disruptionsAllowed": 0 });
    assert!(["low", "lower"].contains(&&*check(&["n1", "n2"], &[])), "the least important");
    assert_eq!(check(&["n1", "n2"], &[budget(kept.clone(), none.clone())]), "middle", "whom no budget protects");
    let one = json!({ "disruptionsAllowed": 1 });
    assert!(["low", "lower"].contains(&&*check(&["n1", "n2"], &[budget(kept.clone(), one)])), "one may go");
    assert!(["low", "lower"].contains(&&*check(&["n1"], &[budget(kept.clone(), none.clone())])), "there is no other");
    assert!(["low", "lower"].contains(&&*check(&["n1", "n2"], &[budget(json!({}), none)])), "it protects nobody");
    let allowed = json!({ "disruptionsAllowed": 0, "disruptedPods": { "lower": "2026-01-01T00:00:00Z" } });
    assert_eq!(check(&["n1", "n2"], &[budget(kept, allowed)]), "lower", "it was let go before");
}

#[test]
fn an_assumed_pod_counts_at_once() {
    let mut cache = Cache::default();
    // The pod is seen before its node.
    cache.place(&pod("b", asks("2")), &"n1".into(), true);
    cache.set_node(&node("n1", |_| {}));
    assert!(cache.is_assumed("b"));
    assert!(decide(&cache.snapshot(), &pod("a", asks("1"))).is_err());
    assert!(cache.remove_pod("b"));
    assert!(decide(&cache.snapshot(), &pod("a", asks("1"))).is_ok());
}

#[test]
fn plugins_have_names_of_their_own() {
    let mut names: Vec<&str> = PLUGINS.iter().map(|row| row.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), PLUGINS.len());
    assert!(PLUGINS.iter().all(|row| row.weight > 0 || !row.events.is_empty()));
}
