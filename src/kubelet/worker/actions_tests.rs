//! Spec and runtime state to actions, case by case.

use super::*;
use crate::api::cri::{PodSandboxConfig, PodSandboxStatus};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};

#[derive(Default)]
struct Probes {
    dead: Vec<&'static str>,
    startup: HashMap<&'static str, bool>,
}

impl Verdicts for Probes {
    fn liveness(&self, id: &str) -> Option<bool> {
        self.dead.contains(&id).then_some(false)
    }

    fn startup(&self, id: &str) -> Option<bool> {
        self.startup.get(id).copied()
    }

    fn needs_restart(&self, _id: &str) -> bool {
        false
    }
}

fn sandbox(attempt: u32, ready: bool) -> PodSandboxStatus {
    PodSandboxStatus {
        id: format!("s{attempt}"),
        config: PodSandboxConfig { attempt, ..PodSandboxConfig::default() },
        ready,
        created_at: i64::from(attempt) + 1,
        ips: vec!["10.42.0.2".parse().expect("an address")],
    }
}

/// `name state[exit code]`, in sandbox s0; the id is the name.
fn container(text: &str) -> ContainerStatus {
    let mut words = text.split(' ');
    let name = words.next().unwrap_or_default();
    let (state, exit_code) = match words.next().unwrap_or_default() {
        "running" => (ContainerState::Running, 0),
        "created" => (ContainerState::Created, 0),
        "unknown" => (ContainerState::Unknown, 0),
        code => (ContainerState::Exited, code.parse().expect("an exit code")),
    };
    ContainerStatus {
        id: name.to_owned(),
        sandbox_id: words.next().unwrap_or("s0").to_owned(),
        name: name.to_owned(),
        attempt: 0,
        state,
        created_at: 1,
        started_at: 1,
        finished_at: 0,
        exit_code,
        signal: None,
        reason: String::new(),
        message: String::new(),
        image: String::new(),
        image_id: String::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        log_path: "0.log".into(),
        resources: None,
        user: None,
    }
}

fn view(sandboxes: &[PodSandboxStatus], containers: &[&str]) -> PodView {
    let mut view =
        PodView { sandboxes: sandboxes.to_vec(), containers: containers.iter().map(|text| container(text)).collect() };
    view.sort();
    view
}

/// Spec, and what the runtime has in one sandbox that is ready, to the actions in short.
fn check_with(spec: Value, view: &PodView, probes: &Probes) -> String {
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).expect("a pod");
    let actions = compute(&pod, view, probes);
    let mut out = Vec::new();
    if actions.kill_pod {
        out.push("kill pod".to_owned());
    }
    if actions.create_sandbox {
        out.push(format!("sandbox {}", actions.attempt));
    }
    out.extend(actions.kill.iter().map(|kill| format!("kill {}: {}", kill.name, kill.message)));
    out.extend(actions.start_ephemeral.iter().map(|index| format!("ephemeral {index}")));
    out.extend(actions.start_init.iter().map(|index| format!("init {index}")));
    out.extend(actions.start.iter().map(|index| format!("start {index}")));
    out.join(", ")
}

fn check(spec: Value, containers: &[&str]) -> String {
    check_with(spec, &view(&[sandbox(0, true)], containers), &Probes::default())
}

fn simple(policy: &str) -> Value {
    json!({"restartPolicy": policy, "containers": [{"name": "a"}, {"name": "b"}]})
}

#[test]
fn a_new_pod() {
    let spec = simple("Always");
    assert_eq!(check_with(spec.clone(), &PodView::default(), &Probes::default()), "sandbox 0, start 0, start 1");
    assert_eq!(check(spec.clone(), &[]), "start 0, start 1");
    assert_eq!(check(spec.clone(), &["a running"]), "start 1");
    assert_eq!(check(spec, &["a running", "b running"]), "");
}

#[test]
fn restart_policies() {
    assert_eq!(check(simple("Always"), &["a 0", "b running"]), "start 0");
    assert_eq!(check(simple("OnFailure"), &["a 0", "b running"]), "");
    assert_eq!(check(simple("OnFailure"), &["a 1", "b running"]), "start 0");
    assert_eq!(check(simple("Never"), &["a 1", "b running"]), "");
    assert_eq!(check(simple("Never"), &["a 1", "b 0"]), "kill pod");
    assert_eq!(check(simple("OnFailure"), &["a 0", "b 0"]), "kill pod");
    assert_eq!(check(simple("Never"), &["a created", "b 0"]), "start 0");
    let deleted = "start 0, start 1";
    assert_eq!(check(simple("Always"), &["a 0", "b 0"]), deleted);
}

#[test]
fn a_lost_sandbox() {
    let lost = |policy: &str, containers: &[&str]| {
        check_with(simple(policy), &view(&[sandbox(0, false)], containers), &Probes::default())
    };
    assert_eq!(lost("Always", &["a 137", "b 137"]), "kill pod, sandbox 1, start 0, start 1");
    assert_eq!(lost("Always", &["a running", "b running"]), "kill pod, sandbox 1, start 0, start 1");
    assert_eq!(lost("Never", &["a 137", "b 137"]), "", "what ran once does not run again");
    assert_eq!(lost("OnFailure", &["a 0", "b 1"]), "kill pod, sandbox 1, start 1");
    assert_eq!(lost("OnFailure", &["a 0", "b 0"]), "");
    let mut homeless = sandbox(0, true);
    homeless.ips.clear();
    let view = view(&[homeless], &[]);
    assert_eq!(check_with(simple("Always"), &view, &Probes::default()), "kill pod, sandbox 1, start 0, start 1");
}

fn with_init(policy: &str) -> Value {
    json!({"restartPolicy": policy, "initContainers": [{"name": "i"}, {"name": "j"}], "containers": [{"name": "a"}]})
}

#[test]
fn init_containers_run_one_after_the_other() {
    let spec = with_init("Always");
    assert_eq!(check_with(spec.clone(), &PodView::default(), &Probes::default()), "sandbox 0, init 0");
    assert_eq!(check(spec.clone(), &[]), "init 0");
    assert_eq!(check(spec.clone(), &["i running"]), "");
    assert_eq!(check(spec.clone(), &["i 0"]), "init 1");
    assert_eq!(check(spec.clone(), &["i 1"]), "init 0");
    assert_eq!(check(spec.clone(), &["i 0", "j 0"]), "start 0");
    assert_eq!(check(spec.clone(), &["j 0"]), "start 0", "the last one shows that all were done");
    assert_eq!(check(spec.clone(), &["i 0", "j 0", "a running"]), "");
    assert_eq!(check(spec.clone(), &["a running"]), "", "their records may be gone");
    assert_eq!(check(spec, &["i 0", "j 0", "a 1"]), "start 0");
    assert_eq!(check(with_init("Never"), &["i 1"]), "kill pod");
    let mut old = view(&[sandbox(1, true), sandbox(0, false)], &["i 0", "j 0", "a 137"]);
    old.sort();
    assert_eq!(check_with(with_init("Always"), &old, &Probes::default()), "init 0", "a new sandbox starts over");
}

fn with_sidecar(probe: bool) -> Value {
    let mut sidecar = json!({"name": "s", "restartPolicy": "Always"});
    if probe {
        sidecar["startupProbe"] = json!({"exec": {"command": ["x"]}});
    }
    json!({"restartPolicy": "OnFailure", "initContainers": [sidecar, {"name": "i"}], "containers": [{"name": "a"}]})
}

#[test]
fn sidecars() {
    let spec = with_sidecar(false);
    assert_eq!(check(spec.clone(), &["s running"]), "init 1");
    assert_eq!(check(spec.clone(), &["s running", "i 0"]), "start 0");
    assert_eq!(check(spec.clone(), &["s 1", "i 0", "a running"]), "init 0", "it is started again while the pod runs");
    assert_eq!(check(spec.clone(), &["s running", "i 0", "a 0"]), "kill pod", "it does not keep the pod alive");
    assert_eq!(check(spec, &["s 0", "i 0", "a 0"]), "kill pod");
    let with = |startup: Option<bool>, containers: &[&str]| {
        let probes = Probes { startup: startup.map(|passed| ("s", passed)).into_iter().collect(), ..Probes::default() };
        check_with(with_sidecar(true), &view(&[sandbox(0, true)], containers), &probes)
    };
    assert_eq!(with(None, &["s running"]), "", "the next one waits for its startup probe");
    assert_eq!(with(Some(true), &["s running"]), "init 1");
    assert_eq!(with(Some(false), &["s running"]), "kill s: Init container s failed startup probe, init 0");
}

#[test]
fn probes_that_failed() {
    let probes = Probes { dead: vec!["a"], ..Probes::default() };
    let view = view(&[sandbox(0, true)], &["a running", "b running"]);
    assert_eq!(
        check_with(simple("Always"), &view, &probes),
        "kill a: Container a failed liveness probe, will be restarted, start 0"
    );
    assert_eq!(check_with(simple("Never"), &view, &probes), "kill a: Container a failed liveness probe");
    let probes = Probes { startup: HashMap::from([("b", false)]), ..Probes::default() };
    assert_eq!(
        check_with(simple("Always"), &view, &probes),
        "kill b: Container b failed startup probe, will be restarted, start 1"
    );
}

#[test]
fn another_image_replaces_the_container() {
    let mut view = view(&[sandbox(0, true)], &["a running", "b running"]);
    for container in &mut view.containers {
        container.annotations.insert(ANNOTATION_HASH.to_owned(), container_hash(&container.name, "old"));
    }
    let spec =
        json!({"restartPolicy": "Never", "containers": [{"name": "a", "image": "old"}, {"name": "b", "image": "new"}]});
    assert_eq!(
        check_with(spec, &view, &Probes::default()),
        "kill b: Container b definition changed, will be restarted, start 1"
    );
}

#[test]
fn ephemeral_containers_start_once() {
    let spec = json!({"containers": [{"name": "a"}], "ephemeralContainers": [{"name": "debug"}]});
    assert_eq!(check(spec.clone(), &["a running"]), "ephemeral 0");
    assert_eq!(check(spec.clone(), &["a running", "debug running"]), "");
    assert_eq!(check(spec, &["a running", "debug 1"]), "");
}

#[test]
fn nothing_starts_in_a_pod_that_is_deleted() {
    let pod: Pod = serde_json::from_value(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"},
        "spec": simple("Always")}))
    .expect("a pod");
    let actions = compute(&pod, &view(&[sandbox(0, true)], &["a running", "b 1"]), &Probes::default());
    assert!(actions.is_empty(), "{actions:?}");
}
