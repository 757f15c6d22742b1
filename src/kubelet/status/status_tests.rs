//! Runtime state to pod status, case by case.

use super::*;
use crate::api::cri::{self, ContainerState, PodSandboxConfig, PodSandboxStatus};
use serde_json::{Value, json};

struct Case {
    pod: Value,
    containers: Vec<cri::ContainerStatus>,
    old: Value,
    waiting: BTreeMap<String, Waiting>,
    ready: HashMap<String, bool>,
    started: HashMap<String, bool>,
    messages: HashMap<String, String>,
    starting: HashSet<String>,
    held: HashSet<String>,
    verdict: Option<Verdict>,
    stage: Stage,
    sandbox: bool,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            pod: json!({"containers": [{"name": "a", "image": "busybox"}]}),
            containers: Vec::new(),
            old: json!({}),
            waiting: BTreeMap::new(),
            ready: HashMap::new(),
            started: HashMap::new(),
            messages: HashMap::new(),
            starting: HashSet::new(),
            held: HashSet::new(),
            verdict: None,
            stage: Stage::Running,
            sandbox: true,
        }
    }
}

fn container(name: &str, state: ContainerState, exit_code: i32) -> cri::ContainerStatus {
    cri::ContainerStatus {
        id: format!("id-{name}"),
        sandbox_id: "s".into(),
        name: name.into(),
        attempt: 0,
        state,
        created_at: 1,
        started_at: 2_000_000_000,
        finished_at: 3_000_000_000,
        exit_code,
        signal: None,
        reason: String::new(),
        message: String::new(),
        image: "busybox:latest".into(),
        image_id: "sha256:1".into(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        log_path: "0.log".into(),
        resources: None,
        user: None,
    }
}

fn run(case: &Case) -> PodStatus {
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "generation": 3},
        "spec": case.pod, "status": case.old}))
    .expect("a pod");
    let sandboxes = if case.sandbox {
        vec![PodSandboxStatus {
            id: "s".into(),
            config: PodSandboxConfig::default(),
            ready: case.stage == Stage::Running,
            created_at: 1,
            ips: vec!["10.42.0.7".parse().expect("an address")],
        }]
    } else {
        Vec::new()
    };
    let mut view = PodView { sandboxes, containers: case.containers.clone() };
    view.sort();
    compute(&Input {
        pod: &pod,
        view: &view,
        old: pod.status.as_ref().expect("given"),
        waiting: &case.waiting,
        starting: &case.starting,
        held: &case.held,
        started: &case.started,
        ready: &case.ready,
        messages: &case.messages,
        verdict: case.verdict.as_ref(),
        stage: case.stage,
        host_ips: &["192.0.2.1".to_owned()],
        now: Timestamp::from_second(100).expect("a time"),
    })
}

/// `phase | container states | conditions that are not plainly true`.
fn check(case: &Case) -> String {
    let status = run(case);
    let state = |status: &k8s_openapi::api::core::v1::ContainerStatus| {
        let state = status.state.clone().unwrap_or_default();
        let text = if state.running.is_some() {
            "running".to_owned()
        } else if let Some(ended) = state.terminated {
            format!("ended {} {}", ended.exit_code, ended.reason.unwrap_or_default())
        } else {
            state.waiting.and_then(|waiting| waiting.reason).unwrap_or_default()
        };
        let last = status.last_state.as_ref().and_then(|last| last.terminated.as_ref());
        let last = last.map(|last| format!(" after {}", last.exit_code)).unwrap_or_default();
        let ready = if status.ready { " ready" } else { "" };
        format!("{} {text}{last} x{}{ready}", status.name, status.restart_count)
    };
    let lists = [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    let containers: Vec<String> = lists.into_iter().flatten().flatten().map(state).collect();
    let conditions: Vec<String> = status
        .conditions
        .iter()
        .flatten()
        .filter(|condition| condition.status != "True" || condition.reason.is_some())
        .map(|condition| {
            let reason = condition.reason.as_deref().map(|reason| format!(" {reason}")).unwrap_or_default();
            let message = condition.message.as_deref().map(|message| format!(": {message}")).unwrap_or_default();
            format!("{}={}{reason}{message}", condition.type_, condition.status)
        })
        .collect();
    let phase = status.phase.unwrap_or_default();
    format!("{phase} | {} | {}", containers.join(", "), conditions.join("; "))
}

#[test]
fn from_creating_to_ready() {
    let nothing = Case { sandbox: false, ..Case::default() };
    assert_eq!(
        check(&nothing),
        "Pending | a ContainerCreating x0 | PodReadyToStartContainers=False; \
         Ready=False ContainersNotReady: containers with unready status: [a]; \
         ContainersReady=False ContainersNotReady: containers with unready status: [a]"
    );
    let mut running = Case { containers: vec![container("a", ContainerState::Running, 0)], ..Case::default() };
    assert_eq!(check(&running), "Running | a running x0 ready | ");
    running.starting.insert("id-a".into());
    assert!(check(&running).starts_with("Pending | a ContainerCreating x0 |"), "its postStart hook still runs");
}

#[test]
fn probes_and_gates() {
    let mut case = Case { containers: vec![container("a", ContainerState::Running, 0)], ..Case::default() };
    case.ready.insert("id-a".into(), false);
    assert!(check(&case).starts_with("Running | a running x0 | Ready=False ContainersNotReady"), "{}", check(&case));
    case.ready.insert("id-a".into(), true);
    case.started.insert("id-a".into(), false);
    assert!(check(&case).starts_with("Running | a running x0 | Ready=False"));
    case.started.insert("id-a".into(), true);
    case.pod["readinessGates"] = json!([{"conditionType": "example.com/gate"}]);
    assert_eq!(
        check(&case),
        "Running | a running x0 ready | Ready=False ReadinessGatesNotReady: \
         corresponding condition of pod readiness gate \"example.com/gate\" does not exist."
    );
    case.old = json!({"conditions": [{"type": "example.com/gate", "status": "True"}]});
    assert_eq!(check(&case), "Running | a running x0 ready | ");
}

#[test]
fn restarts_and_waits() {
    let mut first = container("a", ContainerState::Exited, 1);
    let mut case = Case { containers: vec![first.clone()], ..Case::default() };
    assert!(check(&case).starts_with("Running | a ended 1 Error x0 |"), "{}", check(&case));
    let waiting = Waiting { reason: "CrashLoopBackOff".into(), message: "back-off 10s".into() };
    case.waiting.insert("a".into(), waiting);
    assert!(check(&case).starts_with("Running | a CrashLoopBackOff after 1 x0 |"), "{}", check(&case));
    first.id = "old".into();
    let mut second = container("a", ContainerState::Running, 0);
    (second.created_at, second.attempt) = (5, 1);
    case.containers = vec![first, second];
    assert_eq!(check(&case), "Running | a running after 1 x1 ready | ");
}

#[test]
fn ends() {
    let pod = json!({"restartPolicy": "Never", "containers": [{"name": "a"}, {"name": "b"}]});
    let ended = |a: i32, b: i32| Case {
        pod: pod.clone(),
        containers: vec![container("a", ContainerState::Exited, a), container("b", ContainerState::Exited, b)],
        ..Case::default()
    };
    assert!(check(&ended(0, 0)).starts_with("Pending |"), "the sandbox still runs");
    let mut case = ended(0, 0);
    case.stage = Stage::Terminated;
    assert_eq!(
        check(&case),
        "Succeeded | a ended 0 Completed x0, b ended 0 Completed x0 | PodReadyToStartContainers=False; \
         Initialized=True PodCompleted; Ready=False PodCompleted; ContainersReady=False PodCompleted"
    );
    let mut case = ended(0, 3);
    case.stage = Stage::Terminated;
    assert!(check(&case).starts_with("Failed | a ended 0 Completed x0, b ended 3 Error x0 |"));
    let half = Case {
        pod,
        containers: vec![container("a", ContainerState::Exited, 1), container("b", ContainerState::Running, 0)],
        ..Case::default()
    };
    assert!(check(&half).starts_with("Running | a ended 1 Error x0, b running x0 ready |"), "{}", check(&half));
}

#[test]
fn a_pod_deleted_before_it_ran() {
    let case = Case { stage: Stage::Terminated, sandbox: false, ..Case::default() };
    assert!(check(&case).starts_with("Failed | a ended 137 ContainerStatusUnknown x0 |"), "{}", check(&case));
}

#[test]
fn init_containers() {
    let pod = json!({"initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}],
        "containers": [{"name": "a"}]});
    let with = |containers: Vec<cri::ContainerStatus>| Case { pod: pod.clone(), containers, ..Case::default() };
    assert!(
        check(&with(vec![])).starts_with(
            "Pending | i PodInitializing x0, s PodInitializing x0, a PodInitializing x0 | \
             Initialized=False ContainersNotInitialized: containers with incomplete status: [i s]"
        ),
        "{}",
        check(&with(vec![]))
    );
    let done = container("i", ContainerState::Exited, 0);
    let sidecar = container("s", ContainerState::Running, 0);
    let main = container("a", ContainerState::Running, 0);
    assert_eq!(
        check(&with(vec![done, sidecar, main])),
        "Running | i ended 0 Completed x0 ready, s running x0 ready, a running x0 ready | "
    );
    let failed = Case {
        pod: json!({"restartPolicy": "Never", "initContainers": [{"name": "i"}], "containers": [{"name": "a"}]}),
        containers: vec![container("i", ContainerState::Exited, 2)],
        stage: Stage::Terminated,
        ..Case::default()
    };
    assert!(check(&failed).starts_with("Failed | i ended 2 Error x0,"), "{}", check(&failed));
}

#[test]
fn a_container_that_the_runtime_lost() {
    let old = json!({"phase": "Running", "containerStatuses": [{"name": "a", "image": "", "imageID": "", "ready": true,
        "restartCount": 2, "state": {"running": {}}}]});
    let case = Case { old, ..Case::default() };
    assert!(check(&case).starts_with("Running | a ContainerCreating after 137 x3 |"), "{}", check(&case));
}

#[test]
fn verdicts() {
    let evicted = Verdict { reason: "Evicted".into(), message: "low".into(), disruption: true, rejected: false };
    let mut case = Case {
        containers: vec![container("a", ContainerState::Running, 0)],
        verdict: Some(evicted),
        old: json!({"phase": "Running"}),
        ..Case::default()
    };
    let status = run(&case);
    assert_eq!((status.phase.as_deref(), status.reason), (Some("Running"), None), "it still runs");
    case.containers = vec![container("a", ContainerState::Exited, 137)];
    case.stage = Stage::Terminated;
    let status = run(&case);
    assert_eq!((status.phase.as_deref(), status.reason.as_deref()), (Some("Failed"), Some("Evicted")));
    assert!(condition(&status, "DisruptionTarget").is_some());
    let refused = Verdict { reason: "OutOfcpu".into(), message: "no".into(), disruption: false, rejected: true };
    let case = Case { verdict: Some(refused), sandbox: false, ..Case::default() };
    let status = run(&case);
    assert_eq!((status.phase.as_deref(), status.container_statuses), (Some("Failed"), None));
}

#[test]
fn messages_addresses_and_ids() {
    let mut case = Case {
        pod: json!({"restartPolicy": "Never", "containers": [{"name": "a"}]}),
        containers: vec![container("a", ContainerState::Exited, 1)],
        ..Case::default()
    };
    case.messages.insert("id-a".into(), "last words".into());
    let status = run(&case);
    assert_eq!(status.pod_ip.as_deref(), Some("10.42.0.7"));
    assert_eq!(status.host_ip.as_deref(), Some("192.0.2.1"));
    assert_eq!(status.observed_generation, Some(3));
    assert_eq!(status.qos_class.as_deref(), Some("BestEffort"));
    let container = &status.container_statuses.expect("one")[0];
    assert_eq!(container.container_id.as_deref(), Some("orch://id-a"));
    let ended = container.state.as_ref().and_then(|state| state.terminated.as_ref()).expect("it ended");
    assert_eq!(ended.message.as_deref(), Some("last words"));
    assert_eq!(ended.started_at.as_ref().map(|time| time.0.as_second()), Some(2));
}

#[test]
fn the_same_input_gives_the_same_status() {
    let mut case = Case { containers: vec![container("a", ContainerState::Running, 0)], ..Case::default() };
    let first = run(&case);
    case.old = serde_json::to_value(&first).expect("a status");
    assert_eq!(patch::patch("u", &first, &run(&case)), None);
}
