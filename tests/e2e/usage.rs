//! What nodes and pods use: `kubectl top` without an extension server.

use crate::cluster::Machine;
use crate::need_machine;
use serde_json::{Value, json};
use std::fs;

const BUSY: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: busy, labels: {app: busy}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: spins, image: "busybox:1.35", command: [sh, -c, "while :; do :; done"], resources: {limits: {cpu: 300m}}}
  - {name: rests, image: "busybox:1.35", command: [sleep, "1000"]}
"#;

/// Thousandths of a core.
fn millicores(text: &str) -> u64 {
    text.strip_suffix('m').unwrap_or_else(|| panic!("{text:?}")).parse().expect("a number")
}

#[test]
fn top_shows_what_is_used_now() {
    need_machine!();
    let mut machine = Machine::new();
    machine.add_images(&["busybox"]);
    machine.start(&[]);
    machine.wait_ready();
    fs::write(machine.path("busy.yaml"), BUSY).expect("a file");
    machine.kubectl(&["apply", "-f", &machine.path("busy.yaml").display().to_string()]);
    machine.kubectl(&["wait", "--for=condition=Ready", "--timeout=90s", "pod/busy"]);

    let service = machine.get("/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io");
    assert_eq!(service["status"]["conditions"][0]["status"], "True", "{service}");
    let top = |arguments: &[&str]| machine.kubectl(&[&["top"], arguments, &["--no-headers"]].concat());
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    // A container that was started just now is not measured yet.
    machine.wait("the pod is measured", || machine.try_kubectl(&["top", "pod", "busy"]).status.success());
    let by_container = top(&["pod", "busy", "--containers", "--sort-by=cpu"]);
    let lines: Vec<Vec<String>> = by_container.lines().map(words).collect();
    assert_eq!((lines[0][1].as_str(), lines[1][1].as_str()), ("spins", "rests"), "{by_container}");
    let (spins, rests) = (millicores(&lines[0][2]), millicores(&lines[1][2]));
    assert!((50..=400).contains(&spins) && rests < 20, "{by_container}");
    let node = words(&top(&["node"]));
    assert_eq!((node[0].as_str(), node.len()), (machine.node, 5), "{node:?}");
    assert!(millicores(&node[1]) >= 50, "{node:?}");
    assert_eq!(words(&top(&["pods", "-l", "app=busy", "-A"]))[..2], ["default", "busy"]);
    assert!(!machine.try_kubectl(&["top", "pod", "nobody"]).status.success());

    let list: Value = machine.get("/apis/metrics.k8s.io/v1beta1/namespaces/default/pods");
    assert_eq!(
        (&list["kind"], &list["items"][0]["metadata"]["labels"]),
        (&json!("PodMetricsList"), &json!({ "app": "busy" }))
    );
    // Who may see the pods of a namespace may see what they use.
    machine.kubectl(&["create", "rolebinding", "viewer", "--clusterrole=view", "--user=viewer"]);
    machine.wait("the right is given", || machine.try_kubectl(&["top", "pod", "busy", "--as=viewer"]).status.success());

    // What the components of the process do is told with the rest.
    let metrics = machine.kubectl(&["get", "--raw", "/metrics"]);
    for line in [
        "workqueue_adds_total{name=\"deployment-controller\"}",
        "workqueue_depth{name=\"deployment-controller\"}",
        "workqueue_work_duration_seconds_count{name=\"deployment-controller\"}",
        "rest_client_requests_total{code=\"200\"",
        "apiserver_storage_size_bytes{",
        "authentication_attempts{result=\"success\"}",
    ] {
        assert!(metrics.lines().any(|found| found.starts_with(line)), "{line} is not in:\n{metrics}");
    }
}
