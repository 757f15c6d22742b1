//! Namespaces, nodes, Services, certificates: what keeps a cluster together.

use crate::cluster::{SERVER_NODE, Setup, TestCluster, condition, deployment, is_rolled_out, service};
use base64::Engine;
use orch::api::UserInfo;
use orch::client::{DeleteOptions, Kind, Objects, Propagation, in_process, kinds};
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test]
async fn a_second_reconcile_changes_nothing() {
    let mut cluster = TestCluster::with_node("n1").await;
    cluster.add_node("n2").await;
    cluster.create(&kinds::NAMESPACES, "", json!({ "metadata": { "name": "shop" } })).await;
    for namespace in ["default", "shop"] {
        cluster.create(&kinds::SERVICES, namespace, service("web")).await;
        cluster.create(&kinds::DEPLOYMENTS, namespace, deployment("web", 3)).await;
    }
    let mut headless = service("db");
    headless["spec"]["clusterIP"] = "None".into();
    cluster.create(&kinds::SERVICES, "default", headless).await;
    let mut unready = deployment("db", 1);
    unready["spec"]["template"]["metadata"]["labels"]["test/unready"] = "yes".into();
    cluster.create(&kinds::DEPLOYMENTS, "default", unready).await;
    cluster.until_object(&kinds::DEPLOYMENTS, "shop", "web", "is rolled out", is_rolled_out).await;
    assert_eq!(cluster.reconcile_again().await, Vec::<&str>::new());
}

#[tokio::test]
async fn a_namespace_goes_with_all_it_holds() {
    let cluster = TestCluster::with_node("n1").await;
    cluster.create(&kinds::NAMESPACES, "", json!({ "metadata": { "name": "shop" } })).await;
    cluster.until_object(&kinds::SERVICE_ACCOUNTS, "shop", "default", "is there", |_| true).await;
    let root = cluster.until_object(&kinds::CONFIG_MAPS, "shop", "kube-root-ca.crt", "is there", |_| true).await;
    assert_eq!(root["data"]["ca.crt"], "the root");
    cluster.create(&kinds::SERVICES, "shop", service("web")).await;
    cluster.create(&kinds::DEPLOYMENTS, "shop", deployment("web", 2)).await;
    cluster.until_object(&kinds::DEPLOYMENTS, "shop", "web", "is rolled out", is_rolled_out).await;
    cluster.delete(&kinds::NAMESPACES, "", "shop", DeleteOptions::default()).await;
    cluster.until_gone(&kinds::NAMESPACES, "", "shop").await;
    for kind in [kinds::PODS, kinds::DEPLOYMENTS, kinds::SERVICES, kinds::ENDPOINT_SLICES, kinds::CONFIG_MAPS] {
        assert_eq!(cluster.list(&kind, "shop", "").await, Vec::<Value>::new(), "{kind}");
    }
}

#[tokio::test]
async fn owners_in_a_circle_go_together() {
    let cluster = TestCluster::start().await;
    let names = ["one", "two", "three"];
    let mut uids = Vec::new();
    for name in names {
        let made = cluster.create(&kinds::CONFIG_MAPS, "default", json!({ "metadata": { "name": name } })).await;
        uids.push(made["metadata"]["uid"].as_str().expect("a UID").to_owned());
    }
    for (index, name) in names.iter().enumerate() {
        let owner = (index + 2) % 3;
        let reference = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "name": names[owner], "uid": uids[owner],
            "controller": true, "blockOwnerDeletion": true,
        });
        let patch = json!({ "metadata": { "ownerReferences": [reference] } });
        cluster.patch(&kinds::CONFIG_MAPS, "default", name, patch).await;
    }
    let options = DeleteOptions::of(&uids[0]).propagation(Propagation::Foreground);
    cluster.delete(&kinds::CONFIG_MAPS, "default", "one", options).await;
    for name in names {
        cluster.until_gone(&kinds::CONFIG_MAPS, "default", name).await;
    }
}

#[tokio::test]
async fn the_default_range_is_known_and_ready() {
    let cluster = TestCluster::start().await;
    let is_ready = |range: &Value| {
        let condition = &range["status"]["conditions"][0];
        condition["status"] == "True" && condition["message"] == "Kubernetes Service CIDR is ready"
    };
    let range = cluster.until_object(&kinds::SERVICE_CIDRS, "", "kubernetes", "is ready", is_ready).await;
    assert_eq!(range["spec"]["cidrs"], json!(["10.43.0.0/16"]));
    assert_eq!(range["metadata"]["finalizers"], json!(["networking.k8s.io/service-cidr-finalizer"]));
}

#[tokio::test]
async fn another_range_gives_addresses_and_stays_while_they_are_used() {
    let cluster = TestCluster::start().await;
    let kind = &kinds::SERVICE_CIDRS;
    let service =
        json!({ "metadata": { "name": "web" }, "spec": { "clusterIP": "10.77.0.5", "ports": [{ "port": 1 }] } });
    let refused = cluster.admin.create(&kinds::SERVICES, "default", service.clone()).await.expect_err("no such range");
    assert!(refused.to_string().contains("the provided network does not match the current range"), "{refused}");
    let range = json!({ "metadata": { "name": "more" }, "spec": { "cidrs": ["10.77.0.0/24"] } });
    cluster.create(kind, "", range).await;
    let says = |status: &'static str, reason: &'static str| {
        move |live: &Value| {
            let condition = &live["status"]["conditions"][0];
            condition["status"] == status && condition["reason"] == reason
        }
    };
    cluster.until_object(kind, "", "more", "is ready", says("True", "")).await;
    cluster.create(&kinds::SERVICES, "default", service.clone()).await;
    let address = cluster.find(&kinds::IP_ADDRESSES, "", "10.77.0.5").await.expect("an IPAddress");
    assert_eq!(address["spec"]["parentRef"]["name"], "web");
    cluster.delete(kind, "", "more", DeleteOptions::default()).await;
    cluster.until_object(kind, "", "more", "waits", says("False", "Terminating")).await;
    // One on its way out gives no more.
    let mut second = service;
    second["metadata"]["name"] = "second".into();
    second["spec"]["clusterIP"] = "10.77.0.6".into();
    cluster.admin.create(&kinds::SERVICES, "default", second).await.expect_err("on its way out");
    cluster.delete(&kinds::SERVICES, "default", "web", DeleteOptions::default()).await;
    cluster.until_gone(kind, "", "more").await;
}

fn replication_controller(name: &str, replicas: i32) -> Value {
    let mut object = deployment(name, replicas);
    object["spec"]["selector"] = json!({ "app": name });
    object
}

#[tokio::test]
async fn a_replication_controller_keeps_its_pods() {
    let cluster = TestCluster::with_node("n1").await;
    let orphan = replication_controller("web", 1)["spec"]["template"]["spec"].clone();
    let orphan = json!({ "metadata": { "name": "orphan", "labels": { "app": "web" } }, "spec": orphan });
    cluster.create(&kinds::PODS, "default", orphan).await;
    let kind = &kinds::REPLICATION_CONTROLLERS;
    let made = cluster.create(kind, "default", replication_controller("web", 3)).await;
    let has = |count: i64| {
        move |live: &Value| {
            live["status"]["readyReplicas"] == count
                && live["status"]["observedGeneration"] == live["metadata"]["generation"]
        }
    };
    let ready = cluster.until_object(kind, "default", "web", "has three", has(3)).await;
    assert_eq!(ready["status"].get("terminatingReplicas"), None);
    let pods = cluster.list(&kinds::PODS, "default", "app=web").await;
    assert_eq!(pods.len(), 3);
    for pod in &pods {
        let owner = &pod["metadata"]["ownerReferences"][0];
        assert_eq!((&owner["kind"], &owner["uid"]), (&json!("ReplicationController"), &made["metadata"]["uid"]));
    }
    assert!(pods.iter().any(|pod| pod["metadata"]["name"] == "orphan"), "it was adopted");
    cluster.patch(&kinds::PODS, "default", "orphan", json!({ "metadata": { "labels": { "app": "other" } } })).await;
    cluster
        .until_object(&kinds::PODS, "default", "orphan", "is released", |pod| {
            pod["metadata"].get("ownerReferences").is_none()
        })
        .await;
    cluster.patch(kind, "default", "web", json!({ "spec": { "replicas": 1 } })).await;
    cluster.until_object(kind, "default", "web", "has one", has(1)).await;
    let text = cluster.event("default", "web", "SuccessfulDelete").await;
    assert!(text.starts_with("Deleted pod: web-") || text == "Deleted pod: orphan", "{text}");
    assert_eq!(cluster.reconcile_again().await, Vec::<&str>::new());
    // Its pods go with it, and stay when it is said so.
    cluster.create(kind, "default", replication_controller("kept", 2)).await;
    cluster.until_object(kind, "default", "kept", "has two", has(2)).await;
    for (name, propagation) in [("web", Propagation::Background), ("kept", Propagation::Orphan)] {
        cluster.delete(kind, "default", name, DeleteOptions::default().propagation(propagation)).await;
        cluster.until_gone(kind, "default", name).await;
    }
    cluster
        .until("its pods are gone", || async {
            cluster.list(&kinds::PODS, "default", "app=web").await.is_empty().then_some(())
        })
        .await;
    assert_eq!(cluster.list(&kinds::PODS, "default", "app=kept").await.len(), 2);
}

#[tokio::test]
async fn a_replication_controller_tells_of_a_quota() {
    let cluster = TestCluster::start().await;
    let kind = &kinds::REPLICATION_CONTROLLERS;
    let quota = json!({ "metadata": { "name": "two" }, "spec": { "hard": { "pods": "2" } } });
    cluster.create(&kinds::RESOURCE_QUOTAS, "default", quota).await;
    cluster
        .until_object(&kinds::RESOURCE_QUOTAS, "default", "two", "is counted", |quota| {
            quota["status"]["hard"]["pods"] == "2"
        })
        .await;
    cluster.create(kind, "default", replication_controller("web", 3)).await;
    let failed = |live: &Value| live["status"]["conditions"][0]["type"] == "ReplicaFailure";
    let failed = cluster.until_object(kind, "default", "web", "tells", failed).await;
    let condition = &failed["status"]["conditions"][0];
    assert_eq!((&condition["status"], &condition["reason"]), (&json!("True"), &json!("FailedCreate")));
    assert!(condition["message"].as_str().expect("text").contains("exceeded quota: two"), "{condition}");
    cluster.patch(kind, "default", "web", json!({ "spec": { "replicas": 2 } })).await;
    cluster.until_object(kind, "default", "web", "is content", |live| live["status"].get("conditions").is_none()).await;
}

#[tokio::test]
async fn a_deleted_root_ca_or_service_account_comes_back() {
    let cluster = TestCluster::start().await;
    for (kind, name) in [(kinds::SERVICE_ACCOUNTS, "default"), (kinds::CONFIG_MAPS, "kube-root-ca.crt")] {
        let first = cluster.until_object(&kind, "default", name, "is there", |_| true).await;
        cluster.delete(&kind, "default", name, DeleteOptions::default()).await;
        let uid = &first["metadata"]["uid"];
        cluster.until_object(&kind, "default", name, "is made anew", |live| live["metadata"]["uid"] != *uid).await;
    }
    // What is wrong in it is put right; what else is in it stays.
    let name = "kube-root-ca.crt";
    let object = json!({ "metadata": { "name": name, "labels": { "a": "b" } }, "data": { "ca.crt": "", "more": "x" } });
    cluster.admin.update(&kinds::CONFIG_MAPS, "default", name, "", &object).await.expect("updated");
    let right = cluster
        .until_object(&kinds::CONFIG_MAPS, "default", name, "is right", |live| live["data"]["ca.crt"] == "the root")
        .await;
    assert_eq!(
        (&right["data"], &right["metadata"]["labels"]),
        (&json!({ "ca.crt": "the root" }), &json!({ "a": "b" }))
    );
}

#[tokio::test]
async fn endpoints_follow_readiness() {
    let cluster = TestCluster::with_node("n1").await;
    cluster.create(&kinds::SERVICES, "default", service("web")).await;
    cluster.create(&kinds::DEPLOYMENTS, "default", deployment("web", 2)).await;
    let ready = |endpoints: &Value, ready: usize, not_ready: usize| {
        let count = |field: &str| endpoints["subsets"][0][field].as_array().map_or(0, Vec::len);
        count("addresses") == ready && count("notReadyAddresses") == not_ready
    };
    let endpoints =
        cluster.until_object(&kinds::ENDPOINTS, "default", "web", "has two", |live| ready(live, 2, 0)).await;
    assert_eq!(endpoints["subsets"][0]["ports"], json!([{ "name": "http", "port": 8080, "protocol": "TCP" }]));
    let pod = endpoints["subsets"][0]["addresses"][0]["targetRef"]["name"].as_str().expect("a pod").to_owned();
    let unready = json!({ "conditions": [{ "type": "Ready", "status": "False" }] });
    cluster.patch_status(&kinds::PODS, "default", &pod, unready).await;
    cluster.until_object(&kinds::ENDPOINTS, "default", "web", "has one", |live| ready(live, 1, 1)).await;
    cluster
        .until("the slice says so", || async {
            let slices = cluster.list(&kinds::ENDPOINT_SLICES, "default", "kubernetes.io/service-name=web").await;
            let [slice] = slices.as_slice() else { return None };
            let endpoints = slice["endpoints"].as_array()?;
            let unready: Vec<&Value> =
                endpoints.iter().filter(|endpoint| endpoint["conditions"]["ready"] == false).collect();
            (endpoints.len() == 2 && unready.len() == 1 && unready[0]["targetRef"]["name"] == pod.as_str())
                .then_some(())
        })
        .await;
    cluster.delete(&kinds::SERVICES, "default", "web", DeleteOptions::default()).await;
    cluster.until_gone(&kinds::ENDPOINTS, "default", "web").await;
    cluster
        .until("the slices go with their Service", || async {
            let slices = cluster.list(&kinds::ENDPOINT_SLICES, "default", "kubernetes.io/service-name=web").await;
            slices.is_empty().then_some(())
        })
        .await;
}

#[tokio::test]
async fn endpoints_kept_by_hand_are_mirrored() {
    let cluster = TestCluster::start().await;
    let service = json!({ "metadata": { "name": "db" }, "spec": { "ports": [{ "port": 5432 }] } });
    cluster.create(&kinds::SERVICES, "default", service).await;
    let endpoints = json!({
        "metadata": { "name": "db", "labels": { "tier": "back" } },
        "subsets": [{ "addresses": [{ "ip": "192.0.2.9" }], "ports": [{ "port": 5432 }] }],
    });
    let made = cluster.create(&kinds::ENDPOINTS, "default", endpoints).await;
    let slices = async || cluster.list(&kinds::ENDPOINT_SLICES, "default", "kubernetes.io/service-name=db").await;
    let until = async |address: &str| {
        cluster
            .until("one slice says the same", || async {
                let [slice] = slices().await.try_into().ok()?;
                (slice["endpoints"][0]["addresses"][0] == address).then_some(slice)
            })
            .await
    };
    let slice = until("192.0.2.9").await;
    let labels = &slice["metadata"]["labels"];
    assert_eq!(labels["endpointslice.kubernetes.io/managed-by"], "endpointslicemirroring-controller.k8s.io");
    assert_eq!(labels["tier"], "back");
    assert_eq!(slice["ports"], json!([{ "name": "", "port": 5432, "protocol": "TCP" }]));
    assert_eq!(slice["endpoints"][0]["conditions"], json!({ "ready": true }));
    assert_eq!(slice["metadata"]["ownerReferences"][0]["uid"], made["metadata"]["uid"]);
    let moved = json!({ "subsets": [{ "addresses": [{ "ip": "192.0.2.10" }], "ports": [{ "port": 5432 }] }] });
    cluster.patch(&kinds::ENDPOINTS, "default", "db", moved.clone()).await;
    let again = until("192.0.2.10").await;
    assert_eq!(again["metadata"]["uid"], slice["metadata"]["uid"]);
    assert_eq!(cluster.reconcile_again().await, Vec::<&str>::new());
    let many: Vec<Value> =
        (0..=1000).map(|at| json!({ "ip": format!("10.9.{}.{}", at / 250, at % 250 + 1) })).collect();
    let many = json!({ "subsets": [{ "addresses": many, "ports": [{ "port": 5432 }] }] });
    cluster.patch(&kinds::ENDPOINTS, "default", "db", many).await;
    let text =
        "A max of 1000 addresses can be mirrored to EndpointSlices per Endpoints subset. 1 addresses were skipped";
    assert_eq!(cluster.event("default", "db", "TooManyAddressesToMirror").await, text);
    cluster.patch(&kinds::ENDPOINTS, "default", "db", moved).await;
    until("192.0.2.10").await;
    // Who says that it is not to be mirrored, or selects pods, has no mirror.
    let skip = |value: Value| json!({ "metadata": { "labels": { "endpointslice.kubernetes.io/skip-mirror": value } } });
    let gone = || async { slices().await.is_empty().then_some(()) };
    cluster.patch(&kinds::ENDPOINTS, "default", "db", skip("true".into())).await;
    cluster.until("the mirror is gone", gone).await;
    cluster.patch(&kinds::ENDPOINTS, "default", "db", skip(Value::Null)).await;
    until("192.0.2.10").await;
    cluster.delete(&kinds::ENDPOINTS, "default", "db", DeleteOptions::default()).await;
    cluster.until("the mirror is gone", gone).await;
}

#[tokio::test]
async fn the_kubernetes_service_follows_the_machine() {
    let cluster = TestCluster::start().await;
    let address = |live: &Value, expected: &str| live["subsets"][0]["addresses"][0]["ip"] == expected;
    cluster.until_object(&kinds::ENDPOINTS, "default", "kubernetes", "", |live| address(live, "192.0.2.1")).await;
    let service = cluster.find(&kinds::SERVICES, "default", "kubernetes").await.expect("is there");
    assert_eq!(service["spec"]["clusterIP"], "10.43.0.1");
    cluster.advertise.send(vec![[192, 0, 2, 200].into()]).expect("somebody listens");
    cluster.until_object(&kinds::ENDPOINTS, "default", "kubernetes", "", |live| address(live, "192.0.2.200")).await;
    cluster
        .until_object(&kinds::ENDPOINT_SLICES, "default", "kubernetes", "has the new address", |slice| {
            slice["endpoints"][0]["addresses"] == json!(["192.0.2.200"])
        })
        .await;
}

#[tokio::test]
async fn nodes_get_pod_ranges_of_their_own() {
    let mut cluster = TestCluster::with_node("n1").await;
    cluster.add_node("n2").await;
    let mut ranges = Vec::new();
    for name in ["n1", "n2"] {
        let node = cluster
            .until_object(&kinds::NODES, "", name, "has a range", |node| node["spec"]["podCIDR"].is_string())
            .await;
        ranges.push(node["spec"]["podCIDR"].as_str().expect("a range").to_owned());
    }
    ranges.sort();
    assert_eq!(ranges, ["10.42.0.0/24", "10.42.1.0/24"]);
}

#[tokio::test]
async fn a_node_waits_for_a_range_of_pods() {
    let mut cluster = TestCluster::start_with(Setup { pod_range: "10.42.0.0/24", ..Setup::default() }).await;
    let has_range = |node: &Value| node["spec"]["podCIDR"] == "10.42.0.0/24";
    cluster.add_node("n1").await;
    cluster.until_object(&kinds::NODES, "", "n1", "has the range", has_range).await;
    cluster.add_node("n2").await;
    let text = "Node n2 status is now: CIDRNotAvailable";
    assert_eq!(cluster.event("default", "n2", "CIDRNotAvailable").await, text);
    cluster.delete(&kinds::NODES, "", "n1", DeleteOptions::default()).await;
    cluster.until_object(&kinds::NODES, "", "n2", "has the range", has_range).await;
}

#[tokio::test]
async fn slices_that_cannot_be_written_are_told_of() {
    let cluster = TestCluster::start().await;
    let count = "count/endpointslices.discovery.k8s.io";
    cluster.create(&kinds::NAMESPACES, "", json!({ "metadata": { "name": "shop" } })).await;
    let quota = json!({ "metadata": { "name": "none" }, "spec": { "hard": { count: "0" } } });
    cluster.create(&kinds::RESOURCE_QUOTAS, "shop", quota).await;
    cluster
        .until_object(&kinds::RESOURCE_QUOTAS, "shop", "none", "is counted", |live| {
            live["status"]["hard"][count] == "0"
        })
        .await;
    cluster.create(&kinds::SERVICES, "shop", service("web")).await;
    let text = cluster.event("shop", "web", "FailedToUpdateEndpointSlices").await;
    let start = "Error updating Endpoint Slices for Service shop/web: ";
    assert!(text.starts_with(start) && text.contains("exceeded quota: none"), "{text}");
    let events = cluster.list(&kinds::EVENTS, "shop", "").await;
    let event = events.iter().find(|event| event["message"] == text.as_str()).expect("as it was found");
    assert_eq!(event["source"]["component"], "endpoint-slice-controller");
    cluster.delete(&kinds::RESOURCE_QUOTAS, "shop", "none", DeleteOptions::default()).await;
    cluster
        .until("there is a slice", || async {
            let slices = cluster.list(&kinds::ENDPOINT_SLICES, "shop", "kubernetes.io/service-name=web").await;
            (slices.len() == 1).then_some(())
        })
        .await;
}

#[tokio::test]
async fn the_server_s_own_node_has_a_role() {
    const ROLE: &str = "node-role.kubernetes.io/control-plane";
    let mut cluster = TestCluster::start().await;
    cluster.add_node("other").await;
    cluster.add_node(SERVER_NODE).await;
    let has = |value: &'static str| move |node: &Value| node["metadata"]["labels"][ROLE] == value;
    let node = cluster.until_object(&kinds::NODES, "", SERVER_NODE, "has the role", has("true")).await;
    let mut taints = node["spec"]["taints"].as_array().into_iter().flatten();
    assert!(taints.all(|taint| taint["key"] != ROLE), "pods run there: {node}");
    let text = "Node server event: Registered Node server in Controller";
    assert_eq!(cluster.event("default", SERVER_NODE, "RegisteredNode").await, text);
    // The role of another spelling is left as it is; one that was taken away comes back.
    let set = |value: Value| json!({ "metadata": { "labels": { ROLE: value } } });
    cluster.patch(&kinds::NODES, "", SERVER_NODE, set("".into())).await;
    assert_eq!(cluster.reconcile_again().await, Vec::<&str>::new());
    let node = cluster.find(&kinds::NODES, "", SERVER_NODE).await.expect("it is there");
    assert!(has("")(&node), "{node}");
    cluster.patch(&kinds::NODES, "", SERVER_NODE, set(Value::Null)).await;
    cluster.until_object(&kinds::NODES, "", SERVER_NODE, "has the role again", has("true")).await;
    let other = cluster.find(&kinds::NODES, "", "other").await.expect("it is there");
    assert!(other["metadata"]["labels"].get(ROLE).is_none(), "{other}");
    cluster.delete(&kinds::NODES, "", "other", DeleteOptions::default()).await;
    let text = "Node other event: Removing Node other from Controller";
    assert_eq!(cluster.event("default", "other", "RemovingNode").await, text);
}

#[tokio::test]
async fn a_lost_node_loses_its_pods_and_comes_back() {
    let setup = Setup { grace_period: Duration::from_millis(1500), ..Setup::default() };
    let mut cluster = TestCluster::start_with(setup).await;
    // On a busy machine a heartbeat may be late: then a node is lost for a moment, and comes back by itself.
    let heartbeat = Duration::from_millis(300);
    cluster.add_node("n1").await.beat(&mut cluster, heartbeat);
    let mut lost = cluster.add_node("n2").await;
    lost.beat(&mut cluster, heartbeat);
    cluster.create(&kinds::SERVICES, "default", service("web")).await;
    let mut web = deployment("web", 2);
    web["spec"]["template"]["spec"]["tolerations"] = json!([
        { "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1 },
        { "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1 },
    ]);
    web["spec"]["template"]["spec"]["topologySpreadConstraints"] = json!([{ "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": { "matchLabels": { "app": "web" } } }]);
    cluster.create(&kinds::DEPLOYMENTS, "default", web).await;
    cluster.until_object(&kinds::DEPLOYMENTS, "default", "web", "is rolled out", is_rolled_out).await;
    lost.stop();
    let node = cluster
        .until_object(&kinds::NODES, "", "n2", "is lost", |node| condition(node, "Ready")["status"] == "Unknown")
        .await;
    assert_eq!(condition(&node, "Ready")["reason"], "NodeStatusUnknown");
    assert_eq!(condition(&node, "Ready")["message"], "Kubelet stopped posting node status.");
    cluster
        .until_object(&kinds::NODES, "", "n2", "is tainted", |node| {
            let taints = node["spec"]["taints"].as_array().into_iter().flatten();
            taints.filter(|taint| taint["key"] == "node.kubernetes.io/unreachable").count() == 2
        })
        .await;
    let text = "Node n2 status is now: NodeNotReady";
    assert_eq!(cluster.event("default", "n2", "NodeNotReady").await, text);
    // Its pods are marked for deletion, and replaced where there is a kubelet.
    let pods = cluster.list(&kinds::PODS, "default", "app=web").await;
    let there = pods.iter().find(|pod| pod["spec"]["nodeName"] == "n2").expect("one was spread to it");
    let there = there["metadata"]["name"].as_str().expect("a name");
    assert_eq!(cluster.event("default", there, "NodeNotReady").await, "Node is not ready");
    let text = format!("Marking for deletion Pod default/{there}");
    assert_eq!(cluster.event("default", there, "TaintManagerEviction").await, text);
    cluster
        .until("two pods run on the healthy node", || async {
            let pods = cluster.list(&kinds::PODS, "default", "app=web").await;
            let runs = |pod: &&Value| pod["spec"]["nodeName"] == "n1" && pod["status"]["phase"] == "Running";
            (pods.iter().filter(runs).count() == 2).then_some(())
        })
        .await;
    cluster
        .until_object(&kinds::ENDPOINTS, "default", "web", "leads to the healthy node only", |endpoints| {
            let addresses = endpoints["subsets"][0]["addresses"].as_array();
            addresses.is_some_and(|all| all.len() == 2 && all.iter().all(|address| address["nodeName"] == "n1"))
        })
        .await;
    lost.come_back(&mut cluster, heartbeat);
    cluster
        .until_object(&kinds::NODES, "", "n2", "is well again", |node| {
            condition(node, "Ready")["status"] == "True" && node["spec"]["taints"].as_array().is_none_or(Vec::is_empty)
        })
        .await;
    cluster
        .until("its old pods are gone", || async {
            (cluster.list(&kinds::PODS, "default", "app=web").await.len() == 2).then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_deleted_pod_waits_for_its_kubelet() {
    let mut cluster = TestCluster::start().await;
    let node = cluster.add_node("n1").await;
    let mut pod = json!({ "metadata": { "name": "a" }, "spec": { "containers": [{ "name": "a", "image": "x" }] } });
    pod["spec"]["nodeName"] = "n1".into();
    cluster.create(&kinds::PODS, "default", pod).await;
    cluster.until_object(&kinds::PODS, "default", "a", "runs", |pod| pod["status"]["phase"] == "Running").await;
    node.stop();
    cluster.delete(&kinds::PODS, "default", "a", DeleteOptions::default().grace_period(30)).await;
    let pod = cluster.find(&kinds::PODS, "default", "a").await.expect("waits for its kubelet");
    assert!(pod["metadata"]["deletionTimestamp"].is_string());
}

#[tokio::test]
async fn a_node_gets_its_client_certificate() {
    let cluster = TestCluster::start().await;
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "system:node:n1");
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:nodes");
    let key = rcgen::KeyPair::generate().expect("a key");
    let pem = params.serialize_request(&key).expect("signs").pem().expect("prints");
    let request = |name: &str| {
        json!({ "metadata": { "name": name }, "spec": {
            "request": base64::engine::general_purpose::STANDARD.encode(&pem),
            "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
            "usages": ["digital signature", "client auth"],
        } })
    };
    let kind = kinds::CERTIFICATE_SIGNING_REQUESTS;
    // A node may renew its own.
    let rights = json!({
        "metadata": { "name": "nodes-renew" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                     "name": "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient" },
        "subjects": [{ "kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "system:nodes" }],
    });
    let bindings =
        orch::client::Kind::cluster("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings");
    cluster.create(&bindings, "", rights).await;
    let node = UserInfo::new("system:node:n1", &["system:nodes"]);
    let node = Objects::new(in_process(cluster.server.clone(), node), "kubelet");
    node.create(&kind, "", request("own")).await.expect("a node may ask");
    let signed =
        cluster.until_object(&kind, "", "own", "is signed", |live| live["status"]["certificate"].is_string()).await;
    assert_eq!(condition(&signed, "Approved")["reason"], "AutoApproved");
    let certificate = signed["status"]["certificate"].as_str().expect("base64");
    let certificate = base64::engine::general_purpose::STANDARD.decode(certificate).expect("base64");
    let (_, certificate) = x509_parser::pem::parse_x509_pem(&certificate).expect("PEM");
    let certificate = certificate.parse_x509().expect("a certificate");
    assert_eq!(certificate.subject().to_string(), "CN=system:node:n1, O=system:nodes");
    // Another node may not ask for it, and somebody else's wish for the same waits for a person.
    let other = UserInfo::new("system:node:n2", &["system:nodes"]);
    let other = Objects::new(in_process(cluster.server.clone(), other), "kubelet");
    let refused = other.create(&kind, "", request("foreign")).await.expect_err("another node");
    assert!(format!("{refused:?}").contains("can only create a node CSR with CN=system:node:n2"), "{refused:?}");
    let rights = json!({
        "metadata": { "name": "asks" },
        "rules": [{ "apiGroups": ["certificates.k8s.io"], "resources": ["certificatesigningrequests"], "verbs": ["create"] }],
    });
    let roles = orch::client::Kind::cluster("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles");
    cluster.create(&roles, "", rights).await;
    let rights = json!({
        "metadata": { "name": "asks" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "asks" },
        "subjects": [{ "kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "ann" }],
    });
    cluster.create(&bindings, "", rights).await;
    cluster.settle().await;
    let other = Objects::new(in_process(cluster.server.clone(), UserInfo::new("ann", &[])), "kubectl");
    other.create(&kind, "", request("foreign")).await.expect("who has the right may ask");
    cluster.settle().await;
    let waiting = cluster.find(&kind, "", "foreign").await.expect("is there");
    assert_eq!(condition(&waiting, "Approved"), &Value::Null);
}

#[tokio::test]
async fn an_idle_cluster_asks_for_nothing() {
    let cluster = TestCluster::with_node("n1").await;
    cluster.create(&kinds::SERVICES, "default", service("web")).await;
    cluster.create(&kinds::DEPLOYMENTS, "default", deployment("web", 2)).await;
    cluster.until_object(&kinds::DEPLOYMENTS, "default", "web", "is rolled out", is_rolled_out).await;
    cluster.settle().await;
    let before = cluster.requests();
    assert!(before > 100, "requests are counted");
    // There is no condition for nothing: a while has to pass.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(cluster.requests(), before);
}

#[tokio::test]
async fn a_claim_in_use_waits_with_its_deletion() {
    let cluster = TestCluster::start().await;
    let spec = json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } });
    for name in ["free", "used"] {
        let claim = json!({ "metadata": { "name": name }, "spec": spec });
        cluster.create(&kinds::PERSISTENT_VOLUME_CLAIMS, "default", claim).await;
    }
    let pod = json!({
        "metadata": { "name": "user" },
        "spec": {
            "nodeName": "n1",
            "automountServiceAccountToken": false,
            "containers": [{ "name": "c", "image": "i" }],
            "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": "used" } }],
        },
    });
    cluster.until_object(&kinds::SERVICE_ACCOUNTS, "default", "default", "is there", |_| true).await;
    cluster.create(&kinds::PODS, "default", pod).await;
    for name in ["used", "free"] {
        cluster.delete(&kinds::PERSISTENT_VOLUME_CLAIMS, "default", name, DeleteOptions::default()).await;
    }
    cluster.until_gone(&kinds::PERSISTENT_VOLUME_CLAIMS, "default", "free").await;
    cluster.settle().await;
    let used = cluster.find(&kinds::PERSISTENT_VOLUME_CLAIMS, "default", "used").await.expect("it waits");
    assert_eq!(used["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    cluster.patch_status(&kinds::PODS, "default", "user", json!({ "phase": "Succeeded" })).await;
    cluster.until_gone(&kinds::PERSISTENT_VOLUME_CLAIMS, "default", "used").await;
}

#[tokio::test]
async fn a_volume_is_protected_while_it_is_bound() {
    let cluster = TestCluster::start().await;
    let volume = json!({
        "metadata": { "name": "v" },
        "spec": { "capacity": { "storage": "1Gi" }, "accessModes": ["ReadWriteOnce"], "hostPath": { "path": "/v" } },
    });
    cluster.create(&kinds::PERSISTENT_VOLUMES, "", volume).await;
    cluster.patch_status(&kinds::PERSISTENT_VOLUMES, "", "v", json!({ "phase": "Bound" })).await;
    cluster.delete(&kinds::PERSISTENT_VOLUMES, "", "v", DeleteOptions::default()).await;
    cluster.settle().await;
    assert!(cluster.find(&kinds::PERSISTENT_VOLUMES, "", "v").await.is_some(), "it is bound");
    cluster.patch_status(&kinds::PERSISTENT_VOLUMES, "", "v", json!({ "phase": "Released" })).await;
    cluster.until_gone(&kinds::PERSISTENT_VOLUMES, "", "v").await;
}

#[tokio::test]
async fn a_class_of_attributes_is_protected_while_a_volume_or_a_claim_names_it() {
    let cluster = TestCluster::start().await;
    let class = |name: &str| json!({ "metadata": { "name": name }, "driverName": "d", "parameters": { "a": "b" } });
    cluster.create(&kinds::VOLUME_ATTRIBUTES_CLASSES, "", class("unused")).await;
    cluster.create(&kinds::VOLUME_ATTRIBUTES_CLASSES, "", class("used")).await;
    let made = cluster.find(&kinds::VOLUME_ATTRIBUTES_CLASSES, "", "used").await.expect("it was made");
    assert_eq!(made["metadata"]["finalizers"], json!(["kubernetes.io/vac-protection"]));
    let volume = json!({
        "metadata": { "name": "v" },
        "spec": { "capacity": { "storage": "1Gi" }, "accessModes": ["ReadWriteOnce"], "volumeAttributesClassName": "used",
            "csi": { "driver": "d", "volumeHandle": "h" } },
    });
    cluster.create(&kinds::PERSISTENT_VOLUMES, "", volume).await;
    let claim = json!({
        "metadata": { "name": "c" },
        "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } },
            "volumeAttributesClassName": "used" },
    });
    cluster.create(&kinds::PERSISTENT_VOLUME_CLAIMS, "default", claim).await;
    for name in ["unused", "used"] {
        cluster.delete(&kinds::VOLUME_ATTRIBUTES_CLASSES, "", name, DeleteOptions::default()).await;
    }
    cluster.until_gone(&kinds::VOLUME_ATTRIBUTES_CLASSES, "", "unused").await;
    cluster.delete(&kinds::PERSISTENT_VOLUMES, "", "v", DeleteOptions::default()).await;
    cluster.until_gone(&kinds::PERSISTENT_VOLUMES, "", "v").await;
    cluster.settle().await;
    assert!(cluster.find(&kinds::VOLUME_ATTRIBUTES_CLASSES, "", "used").await.is_some(), "a claim names it");
    cluster.delete(&kinds::PERSISTENT_VOLUME_CLAIMS, "default", "c", DeleteOptions::default()).await;
    cluster.until_gone(&kinds::VOLUME_ATTRIBUTES_CLASSES, "", "used").await;
}

#[tokio::test]
async fn default_objects_are_those_of_the_api_server() {
    let cluster = TestCluster::start().await;
    for (kind, name, manager) in [
        (&kinds::NAMESPACES, "kube-public", "kube-apiserver"),
        (&FLOW_SCHEMAS, "probes", "api-priority-and-fairness-config-producer-v1"),
    ] {
        let object = cluster.find(kind, "", name).await.expect(name);
        let managers = object["metadata"]["managedFields"].as_array().expect("managers").clone();
        assert!(managers.iter().any(|entry| entry["manager"] == manager), "{name}: {managers:?}");
        assert!(managers.iter().all(|entry| entry["manager"] != "unknown"), "{name}: {managers:?}");
    }
}

const FLOW_SCHEMAS: orch::client::Kind =
    orch::client::Kind::cluster("flowcontrol.apiserver.k8s.io", "v1", "FlowSchema", "flowschemas");

#[tokio::test]
async fn bootstrap_tokens_go_when_they_expire() {
    let cluster = TestCluster::start().await;
    let token = |id: &str, kind: &str, expires: Option<jiff::Timestamp>| {
        let mut data = json!({ "token-id": id, "token-secret": "0123456789abcdef" });
        if let Some(expires) = expires {
            data["expiration"] = orch::api::time::seconds(expires).into();
        }
        json!({ "metadata": { "name": format!("bootstrap-token-{id}") }, "type": kind, "stringData": data })
    };
    let now = jiff::Timestamp::now();
    let soon = now + jiff::SignedDuration::from_secs(1);
    let later = now + jiff::SignedDuration::from_hours(1);
    const TYPE: &str = "bootstrap.kubernetes.io/token";
    for object in [
        token("forevr", TYPE, None),
        token("latert", TYPE, Some(later)),
        token("others", "Opaque", Some(soon)),
        token("soonxx", TYPE, Some(soon)),
    ] {
        cluster.create(&kinds::SECRETS, "kube-system", object).await;
    }
    cluster.until_gone(&kinds::SECRETS, "kube-system", "bootstrap-token-soonxx").await;
    for name in ["forevr", "latert", "others"] {
        let name = format!("bootstrap-token-{name}");
        assert!(cluster.find(&kinds::SECRETS, "kube-system", &name).await.is_some(), "{name}");
    }
}

#[tokio::test]
async fn policies_are_held_to_the_types_of_what_they_match() {
    let cluster = TestCluster::start().await;
    let properties = json!({ "spec": { "type": "object", "properties": { "size": { "type": "integer" } } } });
    let definition = crate::custom_resources::widgets(json!({ "type": "object", "properties": properties }));
    let definitions =
        Kind::cluster("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions");
    cluster.create(&definitions, "", definition).await;
    let rule = |group: &str, resource: &str| json!({ "operations": ["CREATE"], "apiGroups": [group], "apiVersions": ["v1"], "resources": [resource] });
    let policy = |name: &str, expressions: &[&str]| {
        let validations: Vec<Value> = expressions.iter().map(|text| json!({ "expression": text })).collect();
        let rules = [rule("apps", "deployments"), rule("example.com", "widgets"), rule("example.com", "nothing")];
        json!({
            "metadata": { "name": name },
            "spec": { "matchConstraints": { "resourceRules": rules }, "validations": validations },
        })
    };
    let policies = &kinds::VALIDATING_ADMISSION_POLICIES;
    cluster.create(policies, "", policy("good", &["object.metadata.name != ''"])).await;
    cluster.create(policies, "", policy("bad", &["object.spec.replicas > 1", "object.spec.size > 1", "true"])).await;
    let checked = |policy: &Value| policy["status"]["typeChecking"].is_object();
    let good = cluster.until_object(policies, "", "good", "is checked", checked).await;
    assert_eq!(good["status"], json!({ "observedGeneration": 1, "typeChecking": {} }));
    let bad = cluster.until_object(policies, "", "bad", "is checked", checked).await;
    let warnings = bad["status"]["typeChecking"]["expressionWarnings"].as_array().expect("warnings").clone();
    let told: Vec<(&str, &str)> = warnings
        .iter()
        .map(|one| (one["fieldRef"].as_str().unwrap_or_default(), one["warning"].as_str().unwrap_or_default()))
        .collect();
    assert_eq!(told.len(), 2, "{warnings:#?}");
    assert_eq!(told[0].0, "spec.validations[0].expression");
    assert!(
        told[0].1.starts_with("example.com/v1, Kind=Widget: ERROR: <input>:1:12: undefined field 'replicas'\n"),
        "{told:?}"
    );
    assert_eq!(told[1].0, "spec.validations[1].expression");
    assert!(
        told[1].1.starts_with("apps/v1, Kind=Deployment: ERROR: <input>:1:12: undefined field 'size'\n"),
        "{told:?}"
    );

    // A policy that is mended is checked again.
    cluster.patch(policies, "", "bad", json!({ "spec": { "validations": [{ "expression": "true" }] } })).await;
    cluster
        .until_object(policies, "", "bad", "is checked again", |policy| {
            policy["status"] == json!({ "observedGeneration": 2, "typeChecking": {} })
        })
        .await;
}
