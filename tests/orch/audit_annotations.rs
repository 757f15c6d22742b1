//! What admission and long requests leave in audit events, and what is counted of them.

use crate::admission_policies::{constraints, validating as policy};
use crate::admission_webhooks::{
    Hooks, allowed, config_map, denied, mutating, patched, rule, until, validating, webhook,
};
use crate::apiserver::Api;
use crate::apiserver_audit::Recorded;
use async_trait::async_trait;
use futures::StreamExt;
use http::Request;
use http::request::Parts;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use orch::api::{Status, UserInfo};
use orch::apiserver::admission::Configuration;
use orch::apiserver::audit::{Audit, Log, Mode, Policy, Webhook, log, webhook};
use orch::apiserver::authn::Authenticator;
use orch::apiserver::webhook::Target;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use tower::ServiceExt;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const WRITES: &str = "omitStages: [RequestReceived]\nrules: [{level: Request, verbs: [create]}]";

impl Recorded {
    /// The annotations of the create of a name.
    fn annotations(&self, name: &str) -> Value {
        let events = self.events();
        let event = events.iter().find(|event| event["objectRef"]["name"] == name);
        event.unwrap_or_else(|| panic!("{name}: {events:#?}"))["annotations"].clone()
    }
}

/// The lines of a series that were counted.
async fn series(api: &Api, name: &str, labels: &[&str]) -> Vec<String> {
    let text = api.get("/metrics").await.text;
    let lines = text.lines().filter(|line| line.split('{').next() == Some(name));
    lines.filter(|line| labels.iter().all(|label| line.contains(label))).map(str::to_owned).collect()
}

#[tokio::test]
async fn policies_leave_annotations() {
    let it = Recorded::control_plane(WRITES, Configuration::default()).await;
    let spec = json!({
        "matchConstraints": constraints("", "configmaps"),
        "validations": [
            { "expression": "true" },
            { "expression": "object.data.k != 'bad'", "message": "k is \"bad\"" },
        ],
        "auditAnnotations": [
            { "key": "size", "valueExpression": "'of ' + string(size(object.data))" },
            { "key": "none", "valueExpression": "null" },
        ],
    });
    policy(&it.api, "looked-at", spec, json!({ "validationActions": ["Audit", "Warn"] })).await;
    let mut made = 0;
    let name = until(|| {
        made += 1;
        let (name, api) = (format!("m{made}"), &it.api);
        async move {
            let answer = api.post(CONFIG_MAPS, config_map(&name, json!({ "k": "bad" }))).await;
            answer.headers.contains_key("warning").then_some(name)
        }
    })
    .await;
    let annotations = it.annotations(&name);
    assert_eq!(annotations["looked-at/size"], "of 1");
    assert_eq!(annotations.get("looked-at/none"), None);
    assert_eq!(
        annotations["validation.policy.admission.k8s.io/validation_failure"],
        "[{\"message\":\"k is \\\"bad\\\"\",\"policy\":\"looked-at\",\"binding\":\"looked-at\",\"expressionIndex\":1,\
         \"validationActions\":[\"Audit\",\"Warn\"]}]"
    );
    for action in ["audit", "warn"] {
        let labels =
            ["policy=\"looked-at\"", &format!("enforcement_action=\"{action}\""), "error_type=\"invalid_error\""];
        let found = series(&it.api, "apiserver_validating_admission_policy_check_total", &labels).await;
        assert!(found.len() == 1 && found[0].ends_with(" 1"), "{action}: {found:?}");
    }
}

#[tokio::test]
async fn webhooks_leave_annotations() {
    let it = Recorded::control_plane(WRITES, Configuration::default()).await;
    let hooks = Hooks::start(|path, request| match path {
        "/add" => patched(&json!([{ "op": "add", "path": "/data/added", "value": "1" }])),
        "/note" if request["object"]["data"]["bad"] == "yes" => denied("no"),
        "/note" => json!({ "allowed": true, "auditAnnotations": { "seen": "yes", "not a name": "no" } }),
        _ => allowed(),
    })
    .await;
    let rules = json!([rule(&["CREATE"], &["configmaps"])]);
    mutating(
        &it.api,
        "adding",
        json!([
            webhook("idle", hooks.client("/idle"), rules.clone(), json!({})),
            webhook("add", hooks.client("/add"), rules.clone(), json!({})),
        ]),
    )
    .await;
    let nobody = json!({ "url": "https://127.0.0.1:1/" });
    validating(
        &it.api,
        "noting",
        json!([
            webhook("note", hooks.client("/note"), rules.clone(), json!({})),
            webhook("gone", nobody, rules, json!({ "failurePolicy": "Ignore", "timeoutSeconds": 1 })),
        ]),
    )
    .await;
    // Both take hold a moment after they are stored.
    until(|| async {
        (!it.api
            .post(&format!("{CONFIG_MAPS}?dryRun=All"), config_map("x", json!({"bad": "yes"})))
            .await
            .status
            .is_success())
        .then_some(())
    })
    .await;
    until(|| async {
        let made = it.api.post(&format!("{CONFIG_MAPS}?dryRun=All"), config_map("x", json!({ "a": "b" }))).await.ok();
        made["data"]["added"].is_string().then_some(())
    })
    .await;
    it.events();
    it.api.post(CONFIG_MAPS, config_map("m", json!({ "a": "b" }))).await.ok();
    let annotations = it.annotations("m");
    for (key, value) in [
        (
            "mutation.webhook.admission.k8s.io/round_0_index_0",
            "{\"configuration\":\"adding\",\"webhook\":\"idle.example.com\",\"mutated\":false}",
        ),
        (
            "mutation.webhook.admission.k8s.io/round_0_index_1",
            "{\"configuration\":\"adding\",\"webhook\":\"add.example.com\",\"mutated\":true}",
        ),
        (
            "patch.webhook.admission.k8s.io/round_0_index_1",
            "{\"configuration\":\"adding\",\"webhook\":\"add.example.com\",\"patch\":[{\"op\":\"add\",\"path\":\"/data/added\",\
             \"value\":\"1\"}],\"patchType\":\"JSONPatch\"}",
        ),
        ("note.example.com/seen", "yes"),
        ("failed-open.validating.webhook.admission.k8s.io/round_0_index_1", "gone.example.com"),
    ] {
        assert_eq!(annotations[key], value, "{key}: {annotations:#}");
    }
    assert!(!annotations.to_string().contains("not a name"), "{annotations}");

    let note = ["name=\"note.example.com\"", "type=\"validating\"", "operation=\"CREATE\""];
    let rejected = series(&it.api, "apiserver_admission_webhook_rejection_count", &note).await;
    assert!(rejected.len() == 1 && rejected[0].contains("error_type=\"no_error\""), "{rejected:?}");
    let requests = series(&it.api, "apiserver_admission_webhook_request_total", &note).await;
    assert!(
        requests.iter().any(|line| line.contains("code=\"200\"") && line.contains("rejected=\"false\"")),
        "{requests:?}"
    );
    let open = series(&it.api, "apiserver_admission_webhook_fail_open_count", &["name=\"gone.example.com\""]).await;
    assert_eq!(open.len(), 1, "{open:?}");
    for name in [
        "apiserver_admission_webhook_admission_duration_seconds_count",
        "apiserver_admission_controller_admission_duration_seconds_count",
        "apiserver_admission_step_admission_duration_seconds_count",
    ] {
        assert!(!series(&it.api, name, &["operation=\"CREATE\"", "rejected=\"false\""]).await.is_empty(), "{name}");
    }
}

#[tokio::test]
async fn pod_security_leaves_annotations() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("admission.yaml");
    let text = "apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: PodSecurity
  configuration:
    apiVersion: pod-security.admission.config.k8s.io/v1
    kind: PodSecurityConfiguration
    defaults: {warn: baseline}
    exemptions: {namespaces: [free], usernames: [root], runtimeClasses: [vm]}
";
    std::fs::write(&path, text).expect("a file");
    let it = Recorded::control_plane(WRITES, Configuration::read(&path).expect("a configuration")).await;
    let class = json!({ "metadata": { "name": "vm" }, "handler": "vm" });
    it.api.post("/apis/node.k8s.io/v1/runtimeclasses", class).await.ok();
    let labels = |list: &[(&str, &str)]| -> Value {
        list.iter()
            .map(|(mode, level)| (format!("pod-security.kubernetes.io/{mode}"), json!(level)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let make = async |namespace: &str, labels: Value| {
        let made =
            it.api.post("/api/v1/namespaces", json!({ "metadata": { "name": namespace, "labels": labels } })).await;
        let warning = made.headers.get("warning").map(|text| text.to_str().expect("text").to_owned());
        made.ok();
        let account = json!({ "metadata": { "name": "default" } });
        it.api.post(&format!("/api/v1/namespaces/{namespace}/serviceaccounts"), account).await.ok();
        warning
    };
    let strict = labels(&[("enforce", "baseline"), ("audit", "restricted"), ("warn", "privileged")]);
    assert_eq!(make("strict", strict.clone()).await, None);
    assert_eq!(make("plain", json!({})).await, None);
    assert_eq!(
        make("free", strict).await.as_deref(),
        Some(
            "299 - \"namespace \\\"free\\\" is exempt from Pod Security, and the policy (enforce=baseline:latest, \
             audit=restricted:latest) will be ignored\""
        )
    );
    let pod = |name: &str, more: Value| {
        let mut spec = json!({ "containers": [{ "name": "c", "image": "i" }] });
        spec.as_object_mut().expect("fields").extend(more.as_object().expect("fields").clone());
        json!({ "metadata": { "name": name }, "spec": spec })
    };
    let host = json!({ "hostNetwork": true });
    let post =
        async |namespace: &str, pod: Value| it.api.post(&format!("/api/v1/namespaces/{namespace}/pods"), pod).await;

    post("strict", pod("good", json!({}))).await.ok();
    let annotations = it.annotations("good");
    assert_eq!(annotations["pod-security.kubernetes.io/enforce-policy"], "baseline:latest");
    let violations = annotations["pod-security.kubernetes.io/audit-violations"].as_str().unwrap_or_default();
    assert!(violations.starts_with("would violate PodSecurity \"restricted:latest\": "), "{annotations}");
    post("strict", pod("bad", host.clone())).await.is(403);
    assert_eq!(it.annotations("bad")["pod-security.kubernetes.io/enforce-policy"], "baseline:latest");

    // The default warns where a namespace says nothing.
    let warned = post("plain", pod("warned", host.clone())).await;
    assert_eq!(
        warned.headers["warning"].to_str().expect("text"),
        "299 - \"would violate PodSecurity \\\"baseline:latest\\\": host namespaces (hostNetwork=true)\""
    );
    assert_eq!(it.annotations("warned")["pod-security.kubernetes.io/enforce-policy"], "privileged:latest");

    for (namespace, name, more, reason) in [
        ("free", "in-free", host.clone(), "namespace"),
        ("strict", "in-vm", json!({ "hostNetwork": true, "runtimeClassName": "vm" }), "runtimeClass"),
    ] {
        post(namespace, pod(name, more)).await.ok();
        let annotations = it.annotations(name);
        assert_eq!(annotations["pod-security.kubernetes.io/exempt"], reason);
        assert_eq!(annotations.get("pod-security.kubernetes.io/enforce-policy"), None);
    }
    let root = Api { user: UserInfo::new("root", &["system:masters"]), ..it.api.clone() };
    root.post("/api/v1/namespaces/strict/pods", pod("of-root", host)).await.ok();
    assert_eq!(it.annotations("of-root")["pod-security.kubernetes.io/exempt"], "user");
}

struct Everybody;

#[async_trait]
impl Authenticator for Everybody {
    async fn authenticate(&self, _: &Parts) -> Result<Option<UserInfo>, Status> {
        Ok(Some(UserInfo::new("admin", &["system:masters"])))
    }
}

#[tokio::test]
async fn an_upgraded_connection_is_complete_at_its_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = Log::open(log::Options { path: Recorded::path(&directory), ..Default::default() }).expect("a log");
    let policy = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]";
    let audit = Audit::new(Policy::parse(policy).expect("a policy"), Some(log), None);
    let api = Api::with(|config| {
        config.authenticators = vec![Arc::new(Everybody)];
        config.audit = Some(audit);
    });
    let it = Recorded { api: api.await, directory };
    let (client, server) = tokio::io::duplex(1 << 16);
    let service = it.api.server.clone();
    tokio::spawn(async move {
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            service.clone().oneshot(request.map(axum::body::Body::new))
        });
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), service);
        connection.with_upgrades().await.expect("a connection");
    });
    let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(client)).await.expect("a connection");
    tokio::spawn(driver.with_upgrades());
    let request = Request::get("/api/v1/configmaps?watch=true")
        .header("host", "x")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(axum::body::Body::empty())
        .expect("a request");
    let mut response = sender.send_request(request).await.expect("an answer");
    assert_eq!(response.status(), 101);
    let upgraded = hyper::upgrade::on(&mut response).await.expect("an upgrade");
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await;
    it.api.config_map("x", json!({})).await;
    socket.next().await.expect("an event").expect("a frame");
    let stages = |events: &[Value]| -> Vec<Value> {
        events.iter().filter(|event| event["verb"] == "watch").map(|event| event["stage"].clone()).collect()
    };
    assert_eq!(stages(&it.events()), ["ResponseStarted"]);
    socket.close(None).await.expect("closed");
    drop(socket);
    let ended = until(|| async {
        let events = it.events();
        (!events.is_empty()).then_some(events)
    })
    .await;
    assert_eq!(stages(&ended), ["ResponseComplete"]);
    assert_eq!(ended[0]["responseStatus"]["code"], 101);
}

/// A kubeconfig of the server that takes events.
fn config_of(hooks: &Hooks, directory: &tempfile::TempDir) -> std::path::PathBuf {
    let path = directory.path().join("webhook.yaml");
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "c", "cluster": { "server": format!("{}/events", hooks.url), "certificate-authority-data": hooks.bundle } }],
        "contexts": [{ "name": "x", "context": { "cluster": "c", "user": "" } }],
        "current-context": "x",
    });
    std::fs::write(&path, config.to_string()).expect("a file");
    path
}

/// A request goes on when its events are where they belong.
#[tokio::test]
async fn requests_wait_for_a_webhook_that_blocks() {
    let hooks = Hooks::start(|_, _| allowed()).await;
    let directory = tempfile::tempdir().expect("a directory");
    let path = config_of(&hooks, &directory);
    let options = webhook::Options { mode: Mode::Blocking, ..Default::default() };
    let policy = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata, verbs: [create]}]";
    let policy = Policy::parse(policy).expect("a policy");
    let api = Api::with(|config| {
        let target = Target::of_kubeconfig(&path).expect("a target");
        let sending = Webhook::start(config.webhooks.clone(), target, &options);
        config.audit = Some(Audit::new(policy, None, Some(sending)));
    })
    .await;
    api.config_map("a", json!({})).await;
    let batches = hooks.asked("/events");
    let stages: Vec<&str> = batches.iter().filter_map(|batch| batch["items"][0]["stage"].as_str()).collect();
    assert_eq!(stages, ["RequestReceived", "ResponseComplete"]);
}

/// What must be recorded and cannot be is not done.
#[tokio::test]
async fn a_strict_log_refuses_what_it_cannot_record() {
    let api = async |mode: Mode| {
        let options = log::Options { path: "/dev/full".into(), mode, ..Default::default() };
        let policy = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata, verbs: [create]}]";
        let policy = Policy::parse(policy).expect("a policy");
        let audit = Audit::new(policy, Some(Log::open(options).expect("a log")), None);
        Api::with(|config| config.audit = Some(audit)).await
    };
    let object = json!({ "metadata": { "name": "x" } });
    let lax = api(Mode::Blocking).await;
    lax.post(CONFIG_MAPS, object.clone()).await.is(201);
    let strict = api(Mode::BlockingStrict).await;
    let refused = strict.post(CONFIG_MAPS, object).await;
    let text = format!("Internal Server Error: \"{CONFIG_MAPS}\": failed to store audit event\n");
    assert_eq!((refused.status.as_u16(), refused.text), (500, text));
    strict.get(&format!("{CONFIG_MAPS}/x")).await.is(404);
    let metrics = strict.get("/metrics").await.text;
    for wanted in ["apiserver_audit_requests_rejected_total 1", "apiserver_audit_error_total{plugin=\"log\"} 1"] {
        assert!(metrics.lines().any(|line| line == wanted), "{wanted}");
    }
}

#[tokio::test]
async fn events_go_to_a_server_in_batches() {
    let hooks = Hooks::start(|_, _| allowed()).await;
    let directory = tempfile::tempdir().expect("a directory");
    let path = config_of(&hooks, &directory);
    let options =
        webhook::Options { max_size: 3, max_wait: std::time::Duration::from_millis(200), ..Default::default() };
    let policy = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]";
    let policy = Policy::parse(policy).expect("a policy");
    let api = Api::with(|config| {
        let target = Target::of_kubeconfig(&path).expect("a target");
        let sending = Webhook::start(config.webhooks.clone(), target, &options);
        config.audit = Some(Audit::new(policy, None, Some(sending)));
    })
    .await;
    for name in ["a", "b", "c", "d"] {
        api.config_map(name, json!({})).await;
    }
    let batches = until(|| async {
        let batches = hooks.asked("/events");
        let count: usize = batches.iter().map(|batch| batch["items"].as_array().map_or(0, Vec::len)).sum();
        (count == 4).then_some(batches)
    })
    .await;
    assert_eq!((&batches[0]["kind"], &batches[0]["apiVersion"]), (&json!("EventList"), &json!("audit.k8s.io/v1")));
    let names: Vec<Vec<&str>> = batches
        .iter()
        .map(|batch| {
            let items = batch["items"].as_array().into_iter().flatten();
            items.map(|event| event["objectRef"]["name"].as_str().unwrap_or_default()).collect()
        })
        .collect();
    assert_eq!(names, [vec!["a", "b", "c"], vec!["d"]]);
    assert_eq!(batches[1]["items"][0]["stage"], "ResponseComplete");
}
