//! Mutating and validating webhooks, called over TLS.

use crate::apiserver::{Answer, Api};
use crate::custom_resources::{api, definition, version};
use base64::Engine;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use orch::net::tls;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

type Answers = dyn Fn(&str, &Value) -> Value + Send + Sync;

/// A webhook server: what it was asked, and what it says by path.
pub struct Hooks {
    pub url: String,
    pub bundle: String,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
    /// The trace that each request said it belongs to.
    pub traces: Arc<Mutex<Vec<Option<String>>>>,
    _tasks: JoinSet<()>,
}

impl Hooks {
    /// `answer` gives the response for a path and a request; the uid is put in.
    pub async fn start(answer: impl Fn(&str, &Value) -> Value + Send + Sync + 'static) -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate =
            rcgen::CertificateParams::new(names).expect("parameters").self_signed(&key).expect("a certificate");
        let bundle = base64::engine::general_purpose::STANDARD.encode(certificate.pem());
        let key = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let config = rustls::ServerConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a configuration");
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("https://127.0.0.1:{}", listener.local_addr().expect("an address").port());
        let asked: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let answer: Arc<Answers> = Arc::new(answer);
        let mut tasks = JoinSet::new();
        let seen = asked.clone();
        let traces: Arc<Mutex<Vec<Option<String>>>> = Arc::default();
        let told = traces.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, answer, seen, told) = (acceptor.clone(), answer.clone(), seen.clone(), told.clone());
                connections.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                        let trace = request.headers().get("traceparent").and_then(|trace| trace.to_str().ok());
                        told.lock().push(trace.map(str::to_owned));
                        serve(request, answer.clone(), seen.clone())
                    });
                    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    // The API server closes when it has its answer.
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { url, bundle, asked, traces, _tasks: tasks }
    }

    pub fn client(&self, path: &str) -> Value {
        json!({ "url": format!("{}{path}", self.url), "caBundle": self.bundle })
    }

    pub fn asked(&self, path: &str) -> Vec<Value> {
        self.asked.lock().iter().filter(|(asked, _)| asked == path).map(|(_, review)| review.clone()).collect()
    }
}

async fn serve(
    request: http::Request<hyper::body::Incoming>,
    answer: Arc<Answers>,
    seen: Arc<Mutex<Vec<(String, Value)>>>,
) -> Result<http::Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let review: Value = serde_json::from_slice(&body).unwrap_or_default();
    seen.lock().push((path.clone(), review.clone()));
    if path == "/slow" {
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    let mut response = answer(&path, &review["request"]);
    if response["uid"].is_null() {
        response["uid"] = review["request"]["uid"].clone();
    }
    let reply = json!({ "apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response });
    Ok(http::Response::new(Full::new(Bytes::from(reply.to_string()))))
}

pub fn allowed() -> Value {
    json!({ "allowed": true })
}

pub fn denied(message: &str) -> Value {
    json!({ "allowed": false, "status": { "message": message } })
}

pub fn patched(patch: &Value) -> Value {
    let patch = base64::engine::general_purpose::STANDARD.encode(patch.to_string());
    json!({ "allowed": true, "patchType": "JSONPatch", "patch": patch })
}

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

pub fn rule(operations: &[&str], resources: &[&str]) -> Value {
    json!({ "operations": operations, "apiGroups": ["*"], "apiVersions": ["*"], "resources": resources })
}

pub fn webhook(name: &str, client: Value, rules: Value, rest: Value) -> Value {
    let mut webhook = json!({
        "name": format!("{name}.example.com"),
        "clientConfig": client,
        "rules": rules,
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 10,
    });
    for (field, value) in rest.as_object().into_iter().flatten() {
        webhook[field] = value.clone();
    }
    webhook
}

fn configuration(kind: &str, name: &str, webhooks: Value) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": format!("{kind}WebhookConfiguration"),
        "metadata": { "name": name },
        "webhooks": webhooks,
    })
}

pub async fn validating(api: &Api, name: &str, webhooks: Value) {
    api.post(&format!("{GROUP}/validatingwebhookconfigurations"), configuration("Validating", name, webhooks))
        .await
        .ok();
    tokio::task::yield_now().await;
}

pub async fn mutating(api: &Api, name: &str, webhooks: Value) {
    api.post(&format!("{GROUP}/mutatingwebhookconfigurations"), configuration("Mutating", name, webhooks)).await.ok();
    tokio::task::yield_now().await;
}

pub fn config_map(name: &str, data: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": data })
}

/// A configuration takes hold a moment after it is stored.
pub async fn until<F: Future<Output = Option<T>>, T>(mut attempt: impl FnMut() -> F) -> T {
    for _ in 0..500 {
        if let Some(value) = attempt().await {
            return value;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it does not come");
}

async fn until_refused(api: &Api, path: &str, object: &Value) -> (u16, String) {
    let dry = format!("{path}?dryRun=All");
    until(|| async {
        let answer: Answer = api.post(&dry, object.clone()).await;
        (!answer.status.is_success()).then(|| answer.refused())
    })
    .await
}

#[tokio::test]
async fn a_webhook_denies_create_update_and_delete() {
    let api = api().await;
    let hooks = Hooks::start(|path, request| match path {
        "/deny" if request["object"]["data"]["bad"] == "yes" => {
            denied("the config map contains unwanted key and value")
        }
        "/deny-delete" => denied("it must not go"),
        "/mute" => json!({ "allowed": false }),
        _ => json!({ "allowed": true, "warnings": ["mind the gap"] }),
    })
    .await;
    api.post(CONFIG_MAPS, config_map("old", json!({ "a": "b" }))).await.ok();
    let rules = json!([rule(&["CREATE", "UPDATE"], &["configmaps"])]);
    let rules_delete = json!([rule(&["DELETE"], &["configmaps"])]);
    validating(
        &api,
        "deny",
        json!([
            webhook("deny", hooks.client("/deny"), rules, json!({})),
            webhook("deny-delete", hooks.client("/deny-delete"), rules_delete, json!({})),
            webhook("mute", hooks.client("/mute"), json!([rule(&["CREATE"], &["secrets"])]), json!({})),
        ]),
    )
    .await;
    let bad = config_map("bad", json!({ "bad": "yes" }));
    let message =
        "admission webhook \"deny.example.com\" denied the request: the config map contains unwanted key and value";
    assert_eq!(until_refused(&api, CONFIG_MAPS, &bad).await, (400, message.to_owned()));
    assert_eq!(api.post(CONFIG_MAPS, bad).await.refused(), (400, message.to_owned()));
    api.get(&format!("{CONFIG_MAPS}/bad")).await.is(404);

    let good = api.post(CONFIG_MAPS, config_map("good", json!({ "a": "b" }))).await;
    assert_eq!(good.headers["warning"], "299 - \"mind the gap\"");
    let mut object = good.ok();
    object["data"]["bad"] = json!("yes");
    assert_eq!(api.put(&format!("{CONFIG_MAPS}/good"), &object).await.refused().1, message);
    let patch = api.merge(&format!("{CONFIG_MAPS}/good"), json!({ "data": { "bad": "yes" } })).await;
    assert_eq!(patch.refused().1, message);
    let (_, gone) = api.delete(&format!("{CONFIG_MAPS}/good"), None).await.refused();
    assert_eq!(gone, "admission webhook \"deny-delete.example.com\" denied the request: it must not go");
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "s" } });
    let (code, text) = api.post("/api/v1/namespaces/default/secrets", secret).await.refused();
    assert_eq!((code, &*text), (400, "admission webhook \"mute.example.com\" denied the request without explanation"));

    // What it was told.
    let review = hooks.asked("/deny-delete").pop().expect("asked");
    assert_eq!((&review["kind"], &review["apiVersion"]), (&json!("AdmissionReview"), &json!("admission.k8s.io/v1")));
    let request = &review["request"];
    assert_eq!(request["operation"], "DELETE");
    assert_eq!(request["object"], Value::Null);
    assert_eq!(request["oldObject"]["metadata"]["name"], "good");
    assert_eq!(request["kind"], json!({ "group": "", "version": "v1", "kind": "ConfigMap" }));
    assert_eq!(request["resource"], json!({ "group": "", "version": "v1", "resource": "configmaps" }));
    assert_eq!((&request["name"], &request["namespace"]), (&json!("good"), &json!("default")));
    assert_eq!(
        request["userInfo"],
        json!({ "username": "admin", "groups": ["system:masters", "system:authenticated"] })
    );
    assert_eq!(request["dryRun"], false);
    assert_eq!(request["options"]["kind"], "DeleteOptions");
    let updates: Vec<_> =
        hooks.asked("/deny").into_iter().filter(|review| review["request"]["operation"] == "UPDATE").collect();
    assert_eq!(updates[0]["request"]["oldObject"]["data"], json!({ "a": "b" }));
    assert_eq!(updates[0]["request"]["options"]["kind"], "UpdateOptions");
    // A patch is an update to who looks at it.
    assert_eq!(updates[1]["request"]["options"]["kind"], "UpdateOptions");

    // Updated not to care, it does not.
    let path = format!("{GROUP}/validatingwebhookconfigurations/deny");
    let mut current = api.get(&path).await.ok();
    current["webhooks"][0]["rules"][0]["operations"] = json!(["DELETE"]);
    api.put(&path, &current).await.ok();
    let bad = config_map("bad", json!({ "bad": "yes" }));
    until(|| async { api.post(CONFIG_MAPS, bad.clone()).await.status.is_success().then_some(()) }).await;
    // And its own configuration can go, whatever it says.
    api.delete(&path, None).await.ok();
    until(|| async { api.delete(&format!("{CONFIG_MAPS}/bad"), None).await.status.is_success().then_some(()) }).await;
}

#[tokio::test]
async fn mutations_follow_one_another_and_are_defaulted_and_pruned() {
    let api = api().await;
    let hooks = Hooks::start(|path, request| {
        let data = &request["object"]["data"];
        match path {
            "/one" if data["start"] == "yes" => patched(&json!([{ "op": "add", "path": "/data/stage-1", "value": "yes" }])),
            "/two" if data["stage-1"] == "yes" => patched(&json!([{ "op": "add", "path": "/data/stage-2", "value": "yes" }])),
            "/init" => patched(&json!([{ "op": "add", "path": "/spec/initContainers", "value": [{ "name": "added", "image": "x", "resources": {} }] }])),
            "/custom" => patched(&json!([{ "op": "add", "path": "/data/known", "value": "1" }, { "op": "add", "path": "/data/unknown", "value": "2" }])),
            _ => allowed(),
        }
    })
    .await;
    let maps = json!([rule(&["CREATE"], &["configmaps"])]);
    mutating(
        &api,
        "mutate",
        json!([
            webhook("one", hooks.client("/one"), maps.clone(), json!({})),
            webhook("two", hooks.client("/two"), maps, json!({})),
            webhook("init", hooks.client("/init"), json!([rule(&["CREATE"], &["pods"])]), json!({})),
            webhook("custom", hooks.client("/custom"), json!([rule(&["CREATE"], &["widgets"])]), json!({})),
        ]),
    )
    .await;
    let object = config_map("m", json!({ "start": "yes" }));
    let made = until(|| async {
        let made = api.post(&format!("{CONFIG_MAPS}?dryRun=All"), object.clone()).await.ok();
        (made["data"].as_object()?.len() > 1).then_some(made)
    })
    .await;
    assert_eq!(made["data"], json!({ "start": "yes", "stage-1": "yes", "stage-2": "yes" }));

    api.post("/api/v1/namespaces/default/serviceaccounts", json!({ "metadata": { "name": "default" } })).await;
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" }, "spec": { "containers": [{ "name": "c", "image": "y" }] } });
    let pod = api.post("/api/v1/namespaces/default/pods", pod).await.ok();
    let added = &pod["spec"]["initContainers"][0];
    assert_eq!((&added["name"], &added["terminationMessagePolicy"]), (&json!("added"), &json!("File")));

    let schema = json!({ "type": "object", "properties": { "data": { "type": "object", "properties": { "known": { "type": "string" } } } } });
    api.post(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        definition("widgets", "Widget", json!([version("v1", schema)])),
    )
    .await
    .ok();
    let widget = json!({ "apiVersion": "example.com/v1", "kind": "Widget", "metadata": { "name": "w" }, "data": {} });
    let widget = api.post("/apis/example.com/v1/namespaces/default/widgets", widget).await.ok();
    assert_eq!(widget["data"], json!({ "known": "1" }));
}

#[tokio::test]
async fn a_webhook_is_called_again_when_others_changed_the_object() {
    let api = api().await;
    let hooks = Hooks::start(|path, request| match path {
        "/late" if request["object"]["data"]["late"].is_null() => {
            patched(&json!([{ "op": "add", "path": "/data/late", "value": "yes" }]))
        }
        _ => allowed(),
    })
    .await;
    let rules = json!([rule(&["CREATE"], &["configmaps"])]);
    mutating(
        &api,
        "again",
        json!([
            webhook("needed", hooks.client("/needed"), rules.clone(), json!({ "reinvocationPolicy": "IfNeeded" })),
            webhook("never", hooks.client("/never"), rules.clone(), json!({})),
            webhook("late", hooks.client("/late"), rules, json!({})),
        ]),
    )
    .await;
    let object = config_map("again", json!({ "a": "b" }));
    until(|| async {
        let made = api.post(&format!("{CONFIG_MAPS}?dryRun=All"), object.clone()).await.ok();
        (made["data"]["late"] == "yes").then_some(())
    })
    .await;
    let seen: Vec<_> =
        hooks.asked("/needed").iter().map(|review| review["request"]["object"]["data"].clone()).collect();
    assert_eq!(seen, [json!({ "a": "b" }), json!({ "a": "b", "late": "yes" })]);
    assert_eq!((hooks.asked("/never").len(), hooks.asked("/late").len()), (1, 1));
}

#[tokio::test]
async fn the_timeout_and_the_failure_policy_decide() {
    let api = api().await;
    let hooks = Hooks::start(|path, _| match path {
        "/wrong-uid" => json!({ "uid": "other", "allowed": true }),
        "/patch" => patched(&json!([])),
        _ => allowed(),
    })
    .await;
    let rules = |resource: &str| json!([rule(&["CREATE"], &[resource])]);
    let short = json!({ "timeoutSeconds": 1 });
    let ignored = json!({ "timeoutSeconds": 1, "failurePolicy": "Ignore" });
    let unreachable = json!({ "service": { "namespace": "default", "name": "nobody", "path": "/x" } });
    validating(
        &api,
        "slow",
        json!([
            webhook("slow", hooks.client("/slow"), rules("configmaps"), short),
            webhook("ignored", hooks.client("/slow"), rules("secrets"), ignored),
            webhook("uid", hooks.client("/wrong-uid"), rules("endpoints"), json!({})),
            webhook("patch", hooks.client("/patch"), rules("services"), json!({})),
            webhook("gone", unreachable, rules("limitranges"), json!({})),
        ]),
    )
    .await;
    let (code, message) = until_refused(&api, CONFIG_MAPS, &config_map("late", json!({}))).await;
    let url = format!("{}/slow?timeout=1s", hooks.url);
    let wanted = format!(
        "Internal error occurred: failed calling webhook \"slow.example.com\": failed to call webhook: Post \"{url}\": context deadline exceeded"
    );
    assert_eq!((code, message), (500, wanted));
    api.post("/api/v1/namespaces/default/secrets", json!({ "metadata": { "name": "s" } })).await.ok();
    assert_eq!(
        hooks.asked("/slow").iter().filter(|review| review["request"]["resource"]["resource"] == "secrets").count(),
        1
    );
    for (path, object, reason) in [
        (
            "endpoints",
            json!({ "metadata": { "name": "e" } }),
            "received invalid webhook response: expected response.uid=",
        ),
        (
            "services",
            json!({ "metadata": { "name": "s" }, "spec": { "ports": [{ "port": 80 }] } }),
            "received invalid webhook response: validating webhook may not return response.patch",
        ),
        (
            "limitranges",
            json!({ "metadata": { "name": "l" } }),
            "failed to call webhook: Post \"https://nobody.default.svc:443/x?timeout=10s\": service \"nobody\" not found",
        ),
    ] {
        let (code, message) = api.post(&format!("/api/v1/namespaces/default/{path}"), object).await.refused();
        assert!(code == 500 && message.contains(reason), "{code} {message}");
    }
    // Nobody vouches for the certificate.
    let untrusted = json!({ "url": format!("{}/any", hooks.url) });
    validating(&api, "untrusted", json!([webhook("untrusted", untrusted, rules("serviceaccounts"), json!({}))])).await;
    let account = json!({ "metadata": { "name": "a" } });
    let (_, message) = until_refused(&api, "/api/v1/namespaces/default/serviceaccounts", &account).await;
    assert!(message.contains("x509: certificate signed by unknown authority"), "{message}");
}

#[tokio::test]
async fn selectors_conditions_and_dry_run_decide_whether_it_is_called() {
    let api = api().await;
    let hooks = Hooks::start(|_, _| denied("no")).await;
    let rules = || json!([rule(&["CREATE"], &["configmaps"])]);
    validating(
        &api,
        "selected",
        json!([
            webhook("condition", hooks.client("/condition"), rules(), json!({ "matchConditions": [
                { "name": "skip", "expression": "object.metadata.name != 'skip-me'" },
                { "name": "who", "expression": "request.userInfo.username == 'admin' && authorizer.group('').resource('pods').check('get').allowed()" },
            ], "objectSelector": { "matchExpressions": [{ "key": "calm", "operator": "DoesNotExist" }] } })),
            webhook("object", hooks.client("/object"), rules(), json!({ "objectSelector": { "matchLabels": { "calm": "no" } } })),
            webhook("namespace", hooks.client("/namespace"), json!([rule(&["CREATE"], &["secrets"])]), json!({ "namespaceSelector": { "matchLabels": { "strict": "yes" } } })),
            webhook("effects", hooks.client("/effects"), json!([rule(&["CREATE"], &["endpoints"])]), json!({ "sideEffects": "NoneOnDryRun" })),
            webhook("broken", hooks.client("/broken"), json!([rule(&["CREATE"], &["limitranges"])]), json!({ "matchConditions": [{ "name": "x", "expression": "object.nothing == 1" }] })),
            webhook("scope", hooks.client("/scope"), json!([{ "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["*"], "scope": "Cluster" }]), json!({})),
        ]),
    )
    .await;
    let (_, message) = until_refused(&api, CONFIG_MAPS, &config_map("any", json!({}))).await;
    assert_eq!(message, "admission webhook \"condition.example.com\" denied the request: no");
    api.post(CONFIG_MAPS, config_map("skip-me", json!({}))).await.ok();
    let mut labelled = config_map("labelled", json!({}));
    labelled["metadata"]["labels"] = json!({ "calm": "no" });
    let (_, message) = api.post(CONFIG_MAPS, labelled).await.refused();
    assert_eq!(message, "admission webhook \"object.example.com\" denied the request: no");

    let namespace = |name: &str, labels: Value| json!({ "metadata": { "name": name, "labels": labels } });
    let (_, message) = api.post("/api/v1/namespaces", namespace("strict", json!({}))).await.refused();
    assert_eq!(message, "admission webhook \"scope.example.com\" denied the request: no");
    api.post("/api/v1/namespaces/default/secrets", json!({ "metadata": { "name": "s" } })).await.ok();
    api.merge("/api/v1/namespaces/default", json!({ "metadata": { "labels": { "strict": "yes" } } })).await.ok();
    let (_, message) =
        api.post("/api/v1/namespaces/default/secrets", json!({ "metadata": { "name": "t" } })).await.refused();
    assert_eq!(message, "admission webhook \"namespace.example.com\" denied the request: no");

    let (code, message) =
        api.post("/api/v1/namespaces/default/limitranges", json!({ "metadata": { "name": "l" } })).await.refused();
    assert_eq!(code, 403);
    assert!(message.contains("expression 'object.nothing == 1' resulted in error: no such key: nothing"), "{message}");
    assert!(hooks.asked("/broken").is_empty());

    let wrong = configuration(
        "Validating",
        "wrong",
        json!([webhook(
            "wrong",
            hooks.client("/x"),
            rules(),
            json!({
                "matchConditions": [{ "name": "a", "expression": "... [}" }, { "name": "b", "expression": "object.metadata.name" }],
            })
        )]),
    );
    let (code, message) = api.post(&format!("{GROUP}/validatingwebhookconfigurations"), wrong).await.refused();
    assert_eq!(code, 422);
    assert!(message.contains("webhooks[0].matchConditions[0].expression: Invalid value: \"... [}\": compilation failed: ERROR: <input>:1:2: Syntax error"), "{message}");
    assert!(message.contains("webhooks[0].matchConditions[1].expression: Invalid value: \"object.metadata.name\": must evaluate to bool but got dyn"), "{message}");
}

#[tokio::test]
async fn equivalent_resources_are_told_as_they_were_asked_for() {
    let api = api().await;
    let hooks = Hooks::start(|path, request| match path {
        "/mutate" => {
            assert_eq!(request["object"]["apiVersion"], "example.com/v2");
            patched(&json!([{ "op": "add", "path": "/spec", "value": { "size": 7 } }]))
        }
        _ => allowed(),
    })
    .await;
    let schema = || json!({ "type": "object", "properties": { "spec": { "type": "object", "properties": { "size": { "type": "integer" } } } } });
    let versions = json!([version("v1", schema()), version("v2", schema())]);
    api.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition("widgets", "Widget", versions))
        .await
        .ok();
    let rules =
        json!([{ "operations": ["*"], "apiGroups": ["example.com"], "apiVersions": ["v2"], "resources": ["widgets"] }]);
    mutating(
        &api,
        "equivalent",
        json!([
            webhook("mutate", hooks.client("/mutate"), rules.clone(), json!({})),
            webhook("exact", hooks.client("/exact"), rules, json!({ "matchPolicy": "Exact" })),
        ]),
    )
    .await;
    let widget = json!({ "apiVersion": "example.com/v1", "kind": "Widget", "metadata": { "name": "w" } });
    let path = "/apis/example.com/v1/namespaces/default/widgets";
    let made = until(|| async {
        let made = api.post(&format!("{path}?dryRun=All"), widget.clone()).await.ok();
        made["spec"].is_object().then_some(made)
    })
    .await;
    assert_eq!((&made["apiVersion"], &made["spec"]["size"]), (&json!("example.com/v1"), &json!(7)));
    let request = hooks.asked("/mutate").pop().expect("asked")["request"].clone();
    assert_eq!(request["resource"]["version"], "v2");
    assert_eq!(request["requestResource"]["version"], "v1");
    assert!(hooks.asked("/exact").is_empty());
}

/// As a real server tells them.
#[tokio::test]
async fn what_is_asked_of_scales_collections_versions_and_namespaces() {
    let api = api().await;
    let hooks = Hooks::start(|path, request| match path {
        "/scale" if request["operation"] == "UPDATE" => {
            patched(&json!([{ "op": "replace", "path": "/spec/replicas", "value": 4 }]))
        }
        "/text" => json!({ "allowed": "yes" }),
        "/warn" => json!({ "allowed": true, "warnings": ["two\nlines", "one line", "tab\t"] }),
        _ => allowed(),
    })
    .await;
    let rule = |groups: &[&str], versions: &[&str], resources: &[&str], scope: &str| json!([{ "operations": ["*"], "apiGroups": groups, "apiVersions": versions, "resources": resources, "scope": scope }]);
    let exact = json!({ "matchPolicy": "Exact" });
    let all = ["*"].as_slice();
    mutating(
        &api,
        "scale",
        json!([webhook("scale", hooks.client("/scale"), rule(&["apps"], all, &["deployments/scale"], "*"), json!({}))]),
    )
    .await;
    validating(
        &api,
        "others",
        json!([
            webhook("maps", hooks.client("/maps"), rule(&[""], all, &["configmaps"], "*"), json!({})),
            webhook("pods", hooks.client("/pods"), rule(&[""], all, &["pods"], "*"), json!({})),
            webhook("spaces", hooks.client("/spaces"), rule(&[""], all, &["namespaces"], "Cluster"), json!({})),
            webhook("hpa", hooks.client("/hpa"), rule(&["autoscaling"], &["v1"], &["*"], "*"), exact),
            webhook("text", hooks.client("/text"), rule(&[""], all, &["secrets"], "*"), json!({})),
            webhook("warn", hooks.client("/warn"), rule(&[""], all, &["services"], "*"), json!({})),
        ]),
    )
    .await;
    let last = |path: &str| hooks.asked(path).pop().map(|review| review["request"].clone());
    until(|| async {
        api.post(&format!("{CONFIG_MAPS}?dryRun=All&fieldValidation=Warn"), config_map("c", json!({}))).await.ok();
        last("/maps")
    })
    .await;
    assert_eq!(last("/maps").expect("asked")["options"]["fieldValidation"], "Warn");
    api.post(CONFIG_MAPS, config_map("c", json!({}))).await.ok();
    api.delete(&format!("{CONFIG_MAPS}?fieldSelector=metadata.name=c"), None).await.ok();
    let request = last("/maps").expect("asked");
    assert_eq!((&request["operation"], request.get("name")), (&json!("DELETE"), None));
    assert_eq!(request["oldObject"]["metadata"]["name"], "c");

    // A Scale, whatever it is the scale of.
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let pod =
        json!({ "metadata": { "labels": { "a": "b" } }, "spec": { "containers": [{ "name": "x", "image": "y" }] } });
    let spec = json!({ "replicas": 1, "selector": { "matchLabels": { "a": "b" } }, "template": pod });
    let deployment =
        json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d" }, "spec": spec });
    api.post(deployments, deployment).await.ok();
    let scaled = api.merge(&format!("{deployments}/d/scale"), json!({ "spec": { "replicas": 3 } })).await.ok();
    assert_eq!(scaled["spec"]["replicas"], 4);
    let request = last("/scale").expect("asked");
    assert_eq!(request["kind"], json!({ "group": "autoscaling", "version": "v1", "kind": "Scale" }));
    assert_eq!((&request["object"]["kind"], &request["object"]["spec"]), (&json!("Scale"), &json!({ "replicas": 3 })));
    assert_eq!(request["oldObject"]["spec"], json!({ "replicas": 1 }));
    assert_eq!(request["options"]["kind"], "UpdateOptions");

    // What is stored as another version is told in the one of the request.
    let scalers = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
    let target = json!({ "kind": "Deployment", "name": "d", "apiVersion": "apps/v1" });
    let spec = json!({ "maxReplicas": 3, "targetCPUUtilizationPercentage": 50, "scaleTargetRef": target });
    let scaler = json!({ "apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": { "name": "h" }, "spec": spec });
    api.post(scalers, scaler).await.ok();
    api.merge(&format!("{scalers}/h"), json!({ "spec": { "minReplicas": 2 } })).await.ok();
    let request = last("/hpa").expect("asked");
    for object in ["object", "oldObject"] {
        assert_eq!(request[object]["apiVersion"], "autoscaling/v1", "{object}");
        assert_eq!(request[object]["spec"]["targetCPUUtilizationPercentage"], 50, "{object}");
    }

    // Namespaces are of the cluster, and in themselves.
    let space = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "n" } });
    api.post("/api/v1/namespaces", space).await.ok();
    assert_eq!(last("/spaces").expect("asked")["namespace"], "n");
    api.merge("/api/v1/namespaces/n", json!({ "metadata": { "labels": { "a": "b" } } })).await.ok();
    assert_eq!(last("/spaces").expect("asked")["operation"], "UPDATE");

    // An eviction is no deletion to them.
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" }, "spec": { "containers": [{ "name": "x", "image": "y" }] } });
    api.post(
        "/api/v1/namespaces/default/serviceaccounts",
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "default" } }),
    )
    .await;
    api.post(pods, pod).await.ok();
    let eviction = json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": "p" } });
    api.post(&format!("{pods}/p/eviction"), eviction).await.ok();
    assert!(hooks.asked("/pods").iter().all(|review| review["request"]["operation"] != "DELETE"));

    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "s" } });
    let (code, text) = api.post("/api/v1/namespaces/default/secrets", secret).await.refused();
    assert_eq!(
        (code, &*text),
        (
            500,
            "Internal error occurred: failed calling webhook \"text.example.com\": failed to call webhook: json: cannot unmarshal string into Go struct field AdmissionResponse.response.allowed of type bool"
        )
    );
    let service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "s" }, "spec": { "ports": [{ "port": 80 }] } });
    let answer = api.post("/api/v1/namespaces/default/services", service).await;
    let warnings: Vec<_> = answer.headers.get_all("warning").iter().collect();
    assert_eq!(warnings, ["299 - \"one line\""]);
}
