//! The kubelet against the real API server and a fake runtime: what a user sees of their pods.

use crate::fake_runtime::FakeRuntime;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Node, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use orch::api::UserInfo;
use orch::api::cri::CriError;
use orch::apiserver::{self, Server};
use orch::client::in_process;
use orch::kubelet::volumes::NoMounts;
use orch::kubelet::{Config, Kubelet};
use orch::resources::Registry;
use orch::storage::{SqliteStorage, Storage};
use serde_json::{Value, json};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const WAIT: Duration = Duration::from_secs(20);

/// An API server, a fake runtime and a kubelet that can be stopped and started.
struct TestNode {
    client: kube::Client,
    runtime: Arc<FakeRuntime>,
    directory: TempDir,
    kubelet: Option<(CancellationToken, JoinHandle<anyhow::Result<()>>)>,
}

impl TestNode {
    async fn start() -> Self {
        let filter = tracing_subscriber::EnvFilter::from_env("ORCH_LOG");
        // Only the first test of a process gets to set it.
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let storage: Arc<dyn Storage> = SqliteStorage::in_memory().await;
        let (authorizers, _) = apiserver::authz::standard(&storage);
        let server = Server::new(apiserver::Config {
            webhooks: apiserver::webhook::Client::direct(storage.clone()),
            storage,
            registry: Arc::new(Registry::built_in()),
            authenticators: Vec::new(),
            authorizers,
            admission: Default::default(),
            handlers: Vec::new(),
            routes: Vec::new(),
            services: apiserver::services::Ranges {
                cluster_ips: ("10.43.0.0".parse().expect("an address"), 16),
                node_ports: 30000..=32767,
            },
            aggregation: orch::apiserver::aggregation::Options::default(),
            flow_control: orch::apiserver::flow_control::Options::default(),
            about: Default::default(),
            audit: None,
        });
        let client = in_process(server, UserInfo::new("system:admin", &["system:masters"]));
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
        for name in ["default", "kube-node-lease"] {
            let namespace = serde_json::from_value(json!({"metadata": {"name": name}})).expect("a namespace");
            // The server may make them itself.
            let _ = namespaces.create(&PostParams::default(), &namespace).await;
        }
        let directory = tempfile::tempdir().expect("a directory");
        let mut node = Self { client, runtime: FakeRuntime::new(), directory, kubelet: None };
        node.start_kubelet();
        node
    }

    fn start_kubelet(&mut self) {
        self.start_kubelet_on(watch::channel(Ok(())).1);
    }

    fn start_kubelet_on(&mut self, network: watch::Receiver<Result<(), String>>) {
        let root = self.directory.path();
        let mut config = Config::new("n1", watch::channel(vec!["192.0.2.1".parse().expect("an address")]).1, network);
        config.root_directory = root.join("kubelet");
        config.pod_logs_directory = root.join("logs");
        config.container_logs_directory = root.join("containers");
        config.static_pod_directory = Some(root.join("manifests"));
        config.mounter = Arc::new(NoMounts);
        // The machine of the test may be short of anything.
        config.eviction_hard.clear();
        let shutdown = CancellationToken::new();
        let run =
            Kubelet::run(config, self.runtime.clone(), self.runtime.clone(), self.client.clone(), shutdown.clone());
        self.kubelet = Some((shutdown, tokio::spawn(run)));
    }

    async fn stop_kubelet(&mut self) {
        let (shutdown, task) = self.kubelet.take().expect("it runs");
        shutdown.cancel();
        task.await.expect("no panic").expect("no error");
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    /// Create a pod of this spec, bound to the node.
    async fn create(&self, name: &str, mut spec: Value) -> Pod {
        spec["nodeName"] = "n1".into();
        for container in spec["containers"].as_array_mut().into_iter().flatten() {
            container["image"].is_null().then(|| container["image"] = "busybox:1".into());
        }
        for container in spec["initContainers"].as_array_mut().into_iter().flatten() {
            container["image"].is_null().then(|| container["image"] = "busybox:1".into());
        }
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).expect("a pod");
        self.pods().create(&PostParams::default(), &pod).await.expect("created")
    }

    /// Wait until the pod is as it should be.
    async fn until(&self, name: &str, what: &str, condition: impl Fn(&Pod) -> bool) -> Pod {
        let pods = self.pods();
        wait(what, || async {
            let pod = pods.get_opt(name).await.expect("the API answers");
            match pod {
                Some(pod) if condition(&pod) => Ok(pod),
                other => Err(other.and_then(|pod| pod.status)),
            }
        })
        .await
    }

    async fn until_phase(&self, name: &str, phase: &str) -> Pod {
        self.until(name, phase, |pod| phase_of(pod) == phase).await
    }

    async fn until_ready(&self, name: &str) -> Pod {
        self.until(name, "ready", |pod| condition(pod, "Ready") == "True").await
    }

    async fn until_gone(&self, name: &str) {
        let pods = self.pods();
        wait("gone", || async {
            match pods.get_opt(name).await.expect("the API answers") {
                None => Ok(()),
                Some(pod) => Err(pod.status),
            }
        })
        .await;
    }

    /// Reasons and messages of the events about a pod.
    async fn events(&self, name: &str) -> Vec<String> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), "default");
        let list = events.list(&ListParams::default()).await.expect("listed");
        let about = list.items.into_iter().filter(|event| event.involved_object.name.as_deref() == Some(name));
        about
            .map(|event| format!("{}: {}", event.reason.unwrap_or_default(), event.message.unwrap_or_default()))
            .collect()
    }

    async fn until_event(&self, name: &str, text: &str) {
        wait(text, || async {
            let events = self.events(name).await;
            if events.iter().any(|event| event.contains(text)) { Ok(()) } else { Err(events) }
        })
        .await;
    }

    /// What the runtime was asked about containers of a pod.
    fn calls(&self, of: &str) -> Vec<String> {
        self.runtime.calls().into_iter().filter(|call| call.contains(of)).collect()
    }
}

async fn wait<T, E: Debug, F: Future<Output = Result<T, E>>>(what: &str, look: impl Fn() -> F) -> T {
    let began = Instant::now();
    loop {
        match look().await {
            Ok(value) => return value,
            Err(last) => assert!(began.elapsed() < WAIT, "never {what}: {last:?}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn phase_of(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("")
}

fn condition<'a>(pod: &'a Pod, kind: &str) -> &'a str {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().find(|condition| condition.type_ == kind).map_or("", |condition| &condition.status)
}

fn waiting_reason(pod: &Pod) -> &str {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let mut waiting = statuses.filter_map(|status| status.state.as_ref()?.waiting.as_ref()?.reason.as_deref());
    waiting.next().unwrap_or("")
}

fn waiting_message(pod: &Pod) -> &str {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let mut waiting = statuses.filter_map(|status| status.state.as_ref()?.waiting.as_ref()?.message.as_deref());
    waiting.next().unwrap_or("")
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.map(|status| status.restart_count).sum()
}

fn one(command: &[&str]) -> Value {
    json!({"containers": [{"name": "c", "command": command}]})
}

#[tokio::test]
async fn a_node_registers_and_a_pod_runs() {
    let node = TestNode::start().await;
    let began = Instant::now();
    node.create("web", one(&["serve"])).await;
    let pod = node.until_ready("web").await;
    eprintln!("ready after {:?}", began.elapsed());
    let status = pod.status.expect("a status");
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert_eq!(status.host_ip.as_deref(), Some("192.0.2.1"));
    assert!(status.pod_ip.is_some_and(|ip| ip.starts_with("10.42.0.")));
    assert_eq!(status.qos_class.as_deref(), Some("BestEffort"));
    let container = &status.container_statuses.expect("one")[0];
    assert!(container.container_id.as_deref().is_some_and(|id| id.starts_with("orch://")));
    assert!(container.ready && container.started == Some(true));
    node.until_event("web", "Started: Container started").await;
    let events = node.events("web").await;
    for want in [
        "Pulled: Container image \"busybox:1\" already present on machine and can be accessed by the pod",
        "Created: Container created",
    ] {
        assert!(events.iter().any(|event| event == want), "{want} in {events:?}");
    }

    let nodes: Api<Node> = Api::all(node.client.clone());
    let object = nodes.get("n1").await.expect("it registered");
    let labels = object.metadata.labels.expect("labels");
    assert_eq!(labels["kubernetes.io/hostname"], "n1");
    assert_eq!(labels["kubernetes.io/os"], "linux");
    let status = object.status.expect("a status");
    let ready = status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready").expect("a condition");
    assert_eq!(ready.status, "True");
    assert!(status.capacity.is_some_and(|capacity| capacity.contains_key("memory")));
    assert!(status.node_info.is_some_and(|info| info.container_runtime_version.starts_with("orch://")));
    let leases: Api<k8s_openapi::api::coordination::v1::Lease> =
        Api::namespaced(node.client.clone(), "kube-node-lease");
    wait("a lease", || async { leases.get("n1").await }).await;
}

#[tokio::test]
async fn a_pod_that_ends() {
    let node = TestNode::start().await;
    let mut spec = one(&["true"]);
    spec["restartPolicy"] = "Never".into();
    node.create("done", spec).await;
    let pod = node.until_phase("done", "Succeeded").await;
    assert_eq!(condition(&pod, "Ready"), "False");
    let mut spec = one(&["exit", "3"]);
    spec["restartPolicy"] = "Never".into();
    node.create("bad", spec).await;
    let pod = node.until_phase("bad", "Failed").await;
    let status = pod.status.expect("a status").container_statuses.expect("one").remove(0);
    let ended = status.state.expect("a state").terminated.expect("it ended");
    assert_eq!((ended.exit_code, ended.reason.as_deref()), (3, Some("Error")));
}

#[tokio::test]
async fn a_pod_that_crashes_backs_off() {
    let node = TestNode::start().await;
    let created = node.create("crash", one(&["false"])).await;
    let pod = node.until("crash", "backing off", |pod| waiting_reason(pod) == "CrashLoopBackOff").await;
    assert_eq!(restarts(&pod), 1, "the first restart is at once");
    let uid = created.metadata.uid.expect("a uid");
    let want = format!("back-off 10s restarting failed container=c pod=crash_default({uid})");
    assert_eq!(waiting_message(&pod), want);
    node.until_event("crash", "BackOff: Back-off restarting failed container c in pod crash_default").await;
}

#[tokio::test]
async fn a_container_that_ran_out_of_memory_starts_again() {
    let node = TestNode::start().await;
    node.create("web", one(&["serve"])).await;
    node.until_ready("web").await;
    node.runtime.end("c", 137, "OOMKilled");
    let pod = node.until("web", "restarted", |pod| restarts(pod) == 1 && condition(pod, "Ready") == "True").await;
    let status = &pod.status.expect("a status").container_statuses.expect("one")[0];
    let last = status.last_state.as_ref().and_then(|last| last.terminated.as_ref()).expect("it ended before");
    assert_eq!((last.exit_code, last.reason.as_deref()), (137, Some("OOMKilled")));
}

#[tokio::test]
async fn deletion_is_graceful() {
    let node = TestNode::start().await;
    let mut spec = one(&["serve"]);
    spec["containers"][0]["lifecycle"] = json!({"preStop": {"exec": {"command": ["bye"]}}});
    spec["terminationGracePeriodSeconds"] = 7.into();
    node.create("web", spec).await;
    node.until_ready("web").await;
    node.pods().delete("web", &DeleteParams::default()).await.expect("deleted");
    node.until_gone("web").await;
    let calls = node.runtime.calls();
    let place = |text: &str| {
        calls.iter().position(|call| call.starts_with(text)).unwrap_or_else(|| panic!("{text} in {calls:?}"))
    };
    assert!(place("exec c bye") < place("stop c"), "{calls:?}");
    wait("removed", || async { if node.runtime.sandboxes().is_empty() { Ok(()) } else { Err(node.runtime.calls()) } })
        .await;
    node.until_event("web", "Killing: Stopping container c").await;
    wait("its logs are gone", || async {
        let left = std::fs::read_dir(node.directory.path().join("logs")).map_or(0, Iterator::count);
        if left == 0 { Ok(()) } else { Err(left) }
    })
    .await;
}

#[tokio::test]
async fn a_shorter_grace_period_takes_effect_at_once() {
    let node = TestNode::start().await;
    let mut spec = one(&["serve"]);
    spec["containers"][0]["env"] = json!([{"name": "IGNORE_TERM", "value": "1"}]);
    spec["terminationGracePeriodSeconds"] = 3600.into();
    node.create("stubborn", spec).await;
    node.until_ready("stubborn").await;
    node.pods().delete("stubborn", &DeleteParams::default()).await.expect("deleted");
    wait("a stop", || async { if node.calls("stop c 3").is_empty() { Err(()) } else { Ok(()) } }).await;
    node.pods().delete("stubborn", &DeleteParams::default().grace_period(1)).await.expect("deleted");
    node.until_gone("stubborn").await;
}

#[tokio::test]
async fn init_containers_and_sidecars_in_their_order() {
    let node = TestNode::start().await;
    let spec = json!({
        "restartPolicy": "Never",
        "initContainers": [
            {"name": "first", "command": ["true"]},
            {"name": "side", "command": ["serve"], "restartPolicy": "Always"},
            {"name": "second", "command": ["true"]}],
        "containers": [{"name": "main", "command": ["sleep", "1"]}]});
    node.create("ordered", spec).await;
    node.until_phase("ordered", "Succeeded").await;
    let starts = node.calls("start ordered");
    let names: Vec<&str> = starts.iter().filter_map(|call| call.split('/').nth(1)).collect();
    assert_eq!(names, ["first", "side", "second", "main"]);
    assert_eq!(node.calls("stop side").len(), 1, "the sidecar is ended after the work is done");
}

#[tokio::test]
async fn a_missing_config_map_holds_the_pod_until_it_is_there() {
    let node = TestNode::start().await;
    let mut spec = one(&["serve"]);
    spec["volumes"] = json!([{"name": "settings", "configMap": {"name": "settings"}}]);
    spec["containers"][0]["volumeMounts"] = json!([{"name": "settings", "mountPath": "/etc/app"}]);
    node.create("web", spec).await;
    let want = "FailedMount: MountVolume.SetUp failed for volume \"settings\" : configmap \"settings\" not found";
    node.until_event("web", want).await;
    let maps: Api<ConfigMap> = Api::namespaced(node.client.clone(), "default");
    let map = json!({"metadata": {"name": "settings"}, "data": {"level": "info"}});
    maps.create(&PostParams::default(), &serde_json::from_value(map).expect("a map")).await.expect("created");
    node.until_ready("web").await;
    let path = node.runtime.configs("c")[0].mounts[0].host_path.join("level");
    assert_eq!(std::fs::read_to_string(&path).expect("the file"), "info");
    let change = Patch::Merge(json!({"data": {"level": "debug"}}));
    maps.patch("settings", &PatchParams::default(), &change).await.expect("patched");
    wait("the new value", || async {
        let text = std::fs::read_to_string(&path).expect("the file");
        if text == "debug" { Ok(()) } else { Err(text) }
    })
    .await;
}

#[tokio::test]
async fn a_missing_secret_in_the_environment_is_told() {
    let node = TestNode::start().await;
    let mut spec = one(&["serve"]);
    spec["containers"][0]["env"] =
        json!([{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}}]);
    node.create("web", spec).await;
    let pod = node.until("web", "waiting", |pod| waiting_reason(pod) == "CreateContainerConfigError").await;
    assert_eq!(waiting_message(&pod), "secret \"login\" not found");
    let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(node.client.clone(), "default");
    let secret = json!({"metadata": {"name": "login"}, "stringData": {"password": "hunter"}});
    secrets.create(&PostParams::default(), &serde_json::from_value(secret).expect("a secret")).await.expect("created");
    node.until_ready("web").await;
    let env = &node.runtime.configs("c")[0].env;
    assert!(env.contains(&("PASSWORD".to_owned(), "hunter".to_owned())), "{env:?}");
}

#[tokio::test]
async fn probes_decide_over_ready_and_restarts() {
    let node = TestNode::start().await;
    let healthy = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let answer = healthy.clone();
    node.runtime.on_exec(move |_, command| match command[0].as_str() {
        "live" if !answer.load(std::sync::atomic::Ordering::Relaxed) => (1, "sick".to_owned()),
        _ => (0, String::new()),
    });
    let mut spec = one(&["serve"]);
    let probe = |command: &str| json!({"exec": {"command": [command]}, "periodSeconds": 1, "failureThreshold": 1});
    spec["containers"][0]["readinessProbe"] = probe("ready");
    spec["containers"][0]["startupProbe"] = probe("started");
    spec["containers"][0]["livenessProbe"] = probe("live");
    spec["terminationGracePeriodSeconds"] = 1.into();
    node.create("web", spec).await;
    node.until_ready("web").await;
    let calls = node.calls("exec c");
    assert_eq!(calls[0], "exec c started", "the others wait for the startup probe");
    healthy.store(false, std::sync::atomic::Ordering::Relaxed);
    node.until_event("web", "Unhealthy: Liveness probe failed: sick").await;
    node.until_event("web", "Killing: Container c failed liveness probe, will be restarted").await;
    healthy.store(true, std::sync::atomic::Ordering::Relaxed);
    let pod = node.until("web", "restarted", |pod| restarts(pod) >= 1 && condition(pod, "Ready") == "True").await;
    let status = &pod.status.expect("a status").container_statuses.expect("one")[0];
    let last = status.last_state.as_ref().and_then(|last| last.terminated.as_ref()).expect("it ended before");
    assert_eq!(last.exit_code, 143);
}

#[tokio::test]
async fn images_that_cannot_be_had() {
    let node = TestNode::start().await;
    node.runtime.break_image("gone:1", CriError::ImagePull("manifest unknown".to_owned()));
    let mut spec = one(&["serve"]);
    spec["containers"][0]["image"] = "gone:1".into();
    node.create("web", spec).await;
    let pod = node.until("web", "ErrImagePull", |pod| waiting_reason(pod) == "ErrImagePull").await;
    assert_eq!(waiting_message(&pod), "manifest unknown");
    let pod = node.until("web", "waiting", |pod| waiting_reason(pod) == "ImagePullBackOff").await;
    assert_eq!(waiting_message(&pod), "Back-off pulling image \"gone:1\": ErrImagePull: manifest unknown");
    node.until_event("web", "Failed: Failed to pull image \"gone:1\": manifest unknown").await;
    node.until_event("web", "BackOff: Back-off pulling image \"gone:1\"").await;
    node.runtime.mend_image("gone:1");
    node.until_ready("web").await;

    node.runtime.forget_image("absent:1");
    let mut spec = one(&["serve"]);
    spec["containers"][0]["image"] = "absent:1".into();
    spec["containers"][0]["imagePullPolicy"] = "Never".into();
    node.create("never", spec).await;
    node.until("never", "ErrImageNeverPull", |pod| waiting_reason(pod) == "ErrImageNeverPull").await;
}

#[tokio::test]
async fn a_start_that_fails_is_told_and_tried_again() {
    let node = TestNode::start().await;
    let message = "exec: \"nope\": executable file not found in $PATH".to_owned();
    node.runtime.break_start("c", CriError::StartFailed { exit_code: 127, message: message.clone() });
    node.create("web", one(&["nope"])).await;
    let pod = node.until("web", "waiting", |pod| waiting_reason(pod) == "CrashLoopBackOff").await;
    assert_eq!(restarts(&pod), 1);
    node.until_event("web", &format!("Failed: Error: {message}")).await;
}

#[tokio::test]
async fn a_sandbox_that_fails_is_tried_again() {
    let node = TestNode::start().await;
    node.runtime.fail_sandboxes(1);
    node.create("web", one(&["serve"])).await;
    node.until_event("web", "FailedCreatePodSandBox: Failed to create pod sandbox: no address is free").await;
    node.until_ready("web").await;
}

#[tokio::test]
async fn pods_survive_the_kubelet() {
    let mut node = TestNode::start().await;
    node.create("stays", one(&["serve"])).await;
    node.create("goes", one(&["serve"])).await;
    node.until_ready("stays").await;
    node.until_ready("goes").await;
    let starts = node.calls("start").len();
    node.stop_kubelet().await;
    node.pods().delete("goes", &DeleteParams::default().grace_period(0)).await.expect("deleted");
    node.start_kubelet();
    wait("the other is ended", || async {
        let left: Vec<String> = node.runtime.sandboxes().into_iter().map(|sandbox| sandbox.config.name).collect();
        if left == ["stays"] { Ok(()) } else { Err(left) }
    })
    .await;
    let pod = node.until_ready("stays").await;
    assert_eq!(restarts(&pod), 0);
    assert_eq!(node.calls("start").len(), starts, "nothing was started anew");
}

#[tokio::test]
async fn a_node_that_was_given_up_reports_at_once() {
    let node = TestNode::start().await;
    let nodes: Api<Node> = Api::all(node.client.clone());
    let ready = || async {
        let found = nodes.get_opt("n1").await.expect("the API answers");
        let conditions = found.and_then(|node| node.status).and_then(|status| status.conditions).unwrap_or_default();
        conditions.into_iter().find(|condition| condition.type_ == "Ready").map(|condition| condition.status)
    };
    let until_ready = || async {
        wait("the node is ready", || async {
            let status = ready().await;
            if status.as_deref() == Some("True") { Ok(()) } else { Err(status) }
        })
        .await;
    };
    until_ready().await;
    // As the node lifecycle controller does when nothing is heard of a node.
    let patch = json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown",
        "reason": "NodeStatusUnknown", "message": "Kubelet stopped posting node status."}]}});
    let written = nodes.patch_status("n1", &PatchParams::default(), &Patch::Strategic(patch)).await.expect("written");
    let conditions = written.status.and_then(|status| status.conditions).unwrap_or_default();
    assert!(conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "Unknown"));
    until_ready().await;
}

#[tokio::test]
async fn what_the_node_controller_wrote_of_a_running_pod_is_put_right() {
    let node = TestNode::start().await;
    node.create("web", one(&["serve"])).await;
    let before = node.until_ready("web").await;
    let lost = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    node.pods().patch_status("web", &PatchParams::default(), &Patch::Strategic(lost)).await.expect("written");
    let after = node.until("web", "ready again", |pod| {
        condition(pod, "Ready") == "True" && pod.metadata.resource_version != before.metadata.resource_version
    });
    after.await;
    // And left alone where nothing is wrong.
    let note = json!({"metadata": {"annotations": {"note": "seen"}}});
    let noted = node.pods().patch("web", &PatchParams::default(), &Patch::Merge(note)).await.expect("written");
    node.create("other", one(&["serve"])).await;
    node.until_ready("other").await;
    let pod = node.pods().get("web").await.expect("it is there");
    assert_eq!(pod.metadata.resource_version, noted.metadata.resource_version);
}

#[tokio::test]
async fn a_pod_waits_for_the_network_of_a_node_that_was_ready() {
    let mut node = TestNode::start().await;
    node.create("web", one(&["serve"])).await;
    node.until_ready("web").await;
    let nodes: Api<Node> = Api::all(node.client.clone());
    wait("the node is ready", || async {
        let found = nodes.get("n1").await.expect("the API answers");
        let conditions = found.status.and_then(|status| status.conditions).unwrap_or_default();
        let is_ready = conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True");
        if is_ready { Ok(()) } else { Err(conditions) }
    })
    .await;
    // The machine goes down and comes up again: the pod is dead, the API still says that the node is ready.
    node.stop_kubelet().await;
    node.runtime.kill_sandbox("web");
    let (network, receiver) = watch::channel(Err("there is none yet".to_owned()));
    node.start_kubelet_on(receiver);
    node.until_event("web", "NetworkNotReady: network is not ready: there is none yet").await;
    network.send_replace(Ok(())).expect_err("there was none");
    let pod = node.until("web", "restarted", |pod| restarts(pod) == 1 && condition(pod, "Ready") == "True").await;
    assert_eq!(phase_of(&pod), "Running");
}

#[tokio::test]
async fn a_pod_whose_sandbox_is_lost_starts_over() {
    let node = TestNode::start().await;
    node.create("web", one(&["serve"])).await;
    node.until_ready("web").await;
    node.runtime.kill_sandbox("web");
    let pod = node.until("web", "restarted", |pod| restarts(pod) == 1 && condition(pod, "Ready") == "True").await;
    assert_eq!(phase_of(&pod), "Running");
    node.until_event("web", "SandboxChanged: Pod sandbox changed, it will be killed and re-created.").await;
}

#[tokio::test]
async fn a_pod_that_does_not_fit_is_refused() {
    let node = TestNode::start().await;
    let mut spec = one(&["serve"]);
    spec["containers"][0]["resources"] = json!({"requests": {"cpu": "5000"}});
    node.create("big", spec).await;
    let pod = node.until_phase("big", "Failed").await;
    let status = pod.status.expect("a status");
    assert_eq!(status.reason.as_deref(), Some("OutOfcpu"));
    assert!(status.message.is_some_and(|message| {
        message.starts_with("Pod was rejected: Node didn't have enough resource: cpu, requested: 5000000, used: 0")
    }));
    assert!(node.calls("run big").is_empty());
    node.pods().delete("big", &DeleteParams::default()).await.expect("deleted");
    node.until_gone("big").await;
}

#[tokio::test]
async fn extended_resources_are_the_nodes_where_its_object_has_them() {
    let node = TestNode::start().await;
    let nodes: Api<Node> = Api::all(node.client.clone());
    wait("the node", || nodes.get("n1")).await;
    let asking = |name: &str, count: &str| {
        let mut spec = one(&["serve"]);
        spec["containers"][0]["resources"] = json!({"requests": {name: count}, "limits": {name: count}});
        spec
    };
    // A resource of the cluster, which the scheduler or an extender of it counts.
    node.create("licensed", asking("example.com/licence", "1")).await;
    node.until_ready("licensed").await;
    let status = json!({"status": {"capacity": {"example.com/gpu": "2"}, "allocatable": {"example.com/gpu": "2"}}});
    nodes.patch_status("n1", &PatchParams::default(), &Patch::Merge(&status)).await.expect("patched");
    node.create("fits", asking("example.com/gpu", "2")).await;
    node.until_ready("fits").await;
    node.create("late", asking("example.com/gpu", "1")).await;
    let pod = node.until_phase("late", "Failed").await;
    assert_eq!(pod.status.expect("a status").reason.as_deref(), Some("OutOfexample.com/gpu"));
}

#[tokio::test]
async fn another_image_is_no_outage() {
    let node = TestNode::start().await;
    node.create("web", one(&["serve"])).await;
    let pod = node.until_ready("web").await;
    let parameters = WatchParams::default().fields("metadata.name=web");
    let version = pod.metadata.resource_version.expect("a version");
    let mut changes = node.pods().watch(&parameters, &version).await.expect("watched").boxed();
    let image = json!({"spec": {"containers": [{"name": "c", "image": "busybox:2"}]}});
    node.pods().patch("web", &PatchParams::default(), &Patch::Strategic(&image)).await.expect("patched");
    loop {
        let change = tokio::time::timeout(WAIT, changes.next()).await.expect("a change").expect("a watch");
        let WatchEvent::Modified(pod) = change.expect("a change") else { panic!("changed in place") };
        assert_eq!(condition(&pod, "Ready"), "True", "{:?}", pod.status);
        if restarts(&pod) == 1 {
            return;
        }
    }
}

#[tokio::test]
async fn a_deadline_ends_a_pod() {
    let node = TestNode::start().await;
    let mut spec = one(&["serve"]);
    spec["activeDeadlineSeconds"] = 1.into();
    node.create("late", spec).await;
    let pod = node.until_phase("late", "Failed").await;
    assert_eq!(pod.status.expect("a status").reason.as_deref(), Some("DeadlineExceeded"));
}

#[tokio::test]
async fn static_pods_have_an_image_in_the_api() {
    let node = TestNode::start().await;
    let path = node.directory.path().join("manifests/web.yaml");
    wait("the directory", || async { std::fs::metadata(path.parent().expect("a parent")) }).await;
    let manifest = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n  - {name: c, image: busybox, command: [serve]}\n";
    std::fs::write(&path, manifest).expect("written");
    let pod = node.until_ready("web-n1").await;
    assert!(
        pod.metadata.annotations.is_some_and(|annotations| annotations.contains_key("kubernetes.io/config.mirror"))
    );
    std::fs::remove_file(&path).expect("removed");
    node.until_gone("web-n1").await;
    wait("ended", || async { if node.runtime.sandboxes().is_empty() { Ok(()) } else { Err(node.runtime.calls()) } })
        .await;
}

#[tokio::test]
async fn a_resize_may_give_what_there_was_none_of() {
    let node = TestNode::start().await;
    let mut spec = one(&["serve"]);
    spec["containers"][0]["resources"] = json!({"requests": {"cpu": "10m"}});
    node.create("web", spec).await;
    node.until_ready("web").await;
    let given = json!({"requests": {"cpu": "5m", "memory": "10Mi"}, "limits": {"cpu": "20m", "memory": "20Mi"}});
    let patch = Patch::Strategic(json!({"spec": {"containers": [{"name": "c", "resources": given}]}}));
    let pod = node.pods().patch_resize("web", &PatchParams::default(), &patch).await.expect("resized");
    let resources = pod.spec.expect("a spec").containers[0].resources.clone().expect("resources");
    assert_eq!(serde_json::to_value(resources).expect("JSON"), given);
    let storage = json!({"requests": {"ephemeral-storage": "1Mi"}});
    let patch = Patch::Strategic(json!({"spec": {"containers": [{"name": "c", "resources": storage}]}}));
    let refused = node.pods().patch_resize("web", &PatchParams::default(), &patch).await.expect_err("no such resize");
    assert!(refused.to_string().contains("only cpu and memory resources are mutable"), "{refused}");
}

#[tokio::test]
async fn limits_change_without_a_restart() {
    let node = TestNode::start().await;
    let mut spec = one(&["serve"]);
    spec["containers"][0]["resources"] = json!({"requests": {"memory": "10Mi"}, "limits": {"memory": "20Mi"}});
    node.create("web", spec).await;
    node.until_ready("web").await;
    let patch = Patch::Strategic(json!({"spec": {"containers": [
        {"name": "c", "resources": {"requests": {"memory": "10Mi"}, "limits": {"memory": "40Mi"}}}]}}));
    if let Err(error) = node.pods().patch_resize("web", &PatchParams::default(), &patch).await {
        panic!("the resize subresource: {error}");
    }
    wait("resized", || async { if node.calls("resize c").is_empty() { Err(node.runtime.calls()) } else { Ok(()) } })
        .await;
    assert_eq!(node.calls("start").len(), 1);
}
