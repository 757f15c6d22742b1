//! The audit log: which requests are recorded, at which stages, and with what.

use crate::apiserver::{Api, CONFIG_MAPS};
use crate::cluster::{Composed, control_plane_with};
use axum::body::Body;
use http::{Method, header};
use http_body_util::BodyExt;
use orch::api::UserInfo;
use orch::apiserver::admission;
use orch::apiserver::audit::{Audit, Log, Policy, log};
use serde_json::{Value, json};
use std::path::PathBuf;
use tempfile::TempDir;

pub struct Recorded {
    pub api: Api,
    pub directory: TempDir,
}

impl Recorded {
    pub async fn new(rules: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let audit = Self::audit(&directory, rules);
        let api = Api::with(|config| config.audit = Some(audit)).await;
        Self { api, directory }
    }

    /// A whole control plane.
    pub async fn control_plane(rules: &str, admission: admission::Configuration) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let audit = Self::audit(&directory, rules);
        let change = Box::new(|config: &mut orch::apiserver::Config| config.audit = Some(audit));
        let server = control_plane_with(Composed { admission, change, ..Composed::default() }).await;
        let user = UserInfo::new("admin", &["system:masters"]);
        let it = Self { api: Api { server, user }, directory };
        it.events();
        it
    }

    fn audit(directory: &TempDir, rules: &str) -> Audit {
        let log = Log::open(log::Options { path: Self::path(directory), ..Default::default() }).expect("a log");
        let policy = Policy::parse(&format!("apiVersion: audit.k8s.io/v1\nkind: Policy\n{rules}")).expect("a policy");
        Audit::new(policy, Some(log), None)
    }

    pub fn path(directory: &TempDir) -> PathBuf {
        directory.path().join("audit.log")
    }

    /// What was recorded since the last look.
    pub fn events(&self) -> Vec<Value> {
        let path = Self::path(&self.directory);
        let text = std::fs::read_to_string(&path).expect("the log");
        // The log appends: what is cut off is not written again.
        std::fs::OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(0)).expect("cut");
        text.lines().map(|line| serde_json::from_str(line).expect("an event")).collect()
    }
}

fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "v"}})
}

#[tokio::test]
async fn a_write_is_recorded_whole() {
    let it = Recorded::new("rules: [{level: RequestResponse}]").await;
    let request = it.api.request(Method::POST, &format!("{CONFIG_MAPS}?fieldManager=me"));
    let request = request
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, "test/1")
        .header("Audit-ID", "given-by-the-client")
        .header("X-Forwarded-For", "192.0.2.7, nonsense");
    let answer = it.api.answer(request.body(Body::from(config_map("x").to_string())).expect("a request")).await;
    assert_eq!(answer.headers["audit-id"], "given-by-the-client");
    let events = it.events();
    assert_eq!(events.len(), 2, "{events:#?}");
    assert_eq!((&events[0]["stage"], &events[1]["stage"]), (&json!("RequestReceived"), &json!("ResponseComplete")));
    assert_eq!(events[0].get("responseStatus"), None);
    let event = &events[1];
    assert_eq!((&event["kind"], &event["apiVersion"]), (&json!("Event"), &json!("audit.k8s.io/v1")));
    assert_eq!(event["auditID"], "given-by-the-client");
    assert_eq!(event["level"], "RequestResponse");
    assert_eq!(event["requestURI"], format!("{CONFIG_MAPS}?fieldManager=me"));
    assert_eq!(event["verb"], "create");
    assert_eq!(event["user"], json!({"username": "admin", "groups": ["system:masters", "system:authenticated"]}));
    assert_eq!(event["sourceIPs"], json!(["192.0.2.7"]));
    assert_eq!(event["userAgent"], "test/1");
    assert_eq!(
        event["objectRef"],
        json!({"resource": "configmaps", "namespace": "a", "name": "x", "apiVersion": "v1"})
    );
    assert_eq!(event["responseStatus"], json!({"metadata": {}, "code": 201}));
    assert_eq!(event["requestObject"], config_map("x"));
    assert_eq!(event["responseObject"], answer.ok());
    assert_eq!(
        event["annotations"],
        json!({"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": ""})
    );
    for stamp in ["requestReceivedTimestamp", "stageTimestamp"] {
        assert_eq!(event[stamp].as_str().map(str::len), Some("2026-11-21T07:31:44.000000Z".len()), "{event}");
    }
}

#[tokio::test]
async fn levels_bound_what_is_recorded() {
    let it = Recorded::new(
        "omitStages: [RequestReceived]
rules:
- {level: Metadata, resources: [{resources: [secrets]}]}
- {level: Request, verbs: [create, patch]}
- {level: RequestResponse, verbs: [list], omitManagedFields: true}
- {level: None, verbs: [get]}
- {level: Metadata}",
    )
    .await;
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "hidden"}});
    it.api.post("/api/v1/namespaces/a/secrets", secret).await.ok();
    it.api.post(CONFIG_MAPS, config_map("x")).await.ok();
    it.api.merge(&format!("{CONFIG_MAPS}/x"), json!({"data": {"k": "w"}})).await.ok();
    it.api.get(&format!("{CONFIG_MAPS}/x")).await.ok();
    it.api.get(CONFIG_MAPS).await.ok();
    it.api.delete(&format!("{CONFIG_MAPS}/x"), None).await.ok();
    let events = it.events();
    let verbs: Vec<&str> = events.iter().filter_map(|event| event["verb"].as_str()).collect();
    assert_eq!(verbs, ["create", "create", "patch", "list", "delete"]);
    let of_secret = &events[0];
    assert_eq!(of_secret["objectRef"]["name"], "s");
    assert!(!of_secret.to_string().contains("hidden") && of_secret.get("requestObject").is_none(), "{of_secret}");
    assert_eq!(events[1]["requestObject"], config_map("x"));
    assert_eq!(events[1].get("responseObject"), None);
    assert_eq!(events[2]["requestObject"], json!({"data": {"k": "w"}}));
    let listed = &events[3]["responseObject"];
    assert_eq!(listed["items"][0]["data"]["k"], "w");
    assert!(!listed.to_string().contains("managedFields"), "{listed}");
    let deleted = &events[4]["responseStatus"];
    assert_eq!((&deleted["status"], &deleted["code"]), (&json!("Success"), &json!(200)));
    assert_eq!(events[4].get("responseObject"), None);
}

#[tokio::test]
async fn refusals_say_why() {
    let it = Recorded::new("omitStages: [RequestReceived]\nrules: [{level: Metadata}]").await;
    let nobody = Api { user: UserInfo::new("ann", &[]), ..it.api.clone() };
    nobody.get(CONFIG_MAPS).await.is(403);
    it.api.get(&format!("{CONFIG_MAPS}/none")).await.is(404);
    let request = http::Request::get("/api/v1/nodes").body(Body::empty()).expect("a request");
    it.api.answer(request).await.is(401);
    let events = it.events();
    let codes: Vec<&Value> = events.iter().map(|event| &event["responseStatus"]["code"]).collect();
    assert_eq!(codes, [403, 404, 401]);
    assert_eq!(events[0]["annotations"]["authorization.k8s.io/decision"], "forbid");
    assert_eq!(events[1]["responseStatus"]["reason"], "NotFound");
    assert_eq!(events[1]["responseStatus"]["details"]["name"], "none");
    // Nobody was authenticated: there is but the answer to tell of.
    assert_eq!((&events[2]["user"], &events[2]["stage"]), (&json!({}), &json!("ResponseStarted")));
    assert_eq!(events[2]["responseStatus"]["reason"], "Unauthorized");
}

#[tokio::test]
async fn who_is_impersonated_is_told_beside_who_does_it() {
    let it = Recorded::new("omitStages: [RequestReceived]\nrules: [{level: Metadata}]").await;
    let request = it.api.request(Method::GET, CONFIG_MAPS).header("Impersonate-User", "bob");
    it.api.answer(request.body(Body::empty()).expect("a request")).await.is(403);
    let events = it.events();
    assert_eq!(events[0]["user"]["username"], "admin");
    assert_eq!(events[0]["impersonatedUser"]["username"], "bob");
    assert_eq!(events[0]["authenticationMetadata"], json!({"impersonationConstraint": "impersonate:user-info"}));
}

#[tokio::test]
async fn a_watch_has_a_start_and_an_end() {
    let it = Recorded::new("rules: [{level: RequestResponse}]").await;
    let path = format!("{CONFIG_MAPS}?watch=1");
    let request = it.api.request(Method::GET, &path).body(Body::empty()).expect("a request");
    let reply = it.api.send(request).await;
    let stages = |events: &[Value]| -> Vec<String> {
        events.iter().map(|event| event["stage"].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(stages(&it.events()), ["RequestReceived", "ResponseStarted"]);
    let mut body = reply.into_body();
    it.api.config_map("x", json!({})).await;
    let frame = body.frame().await.expect("an event").expect("no error");
    assert!(frame.data_ref().is_some_and(|data| data.starts_with(b"{\"type\":\"ADDED\"")), "{frame:?}");
    it.events();
    drop(body);
    let ended = it.events();
    assert_eq!(stages(&ended), ["ResponseComplete"]);
    assert_eq!((&ended[0]["verb"], &ended[0]["responseStatus"]["code"]), (&json!("watch"), &json!(200)));
}

#[tokio::test]
async fn every_reply_names_its_request() {
    let api = Api::new().await;
    let (one, other) = (api.get("/version").await, api.get("/api/v1/none").await);
    let id = |answer: &crate::apiserver::Answer| answer.headers["audit-id"].to_str().expect("text").to_owned();
    assert_eq!(id(&one).len(), 36);
    assert_ne!(id(&one), id(&other));
}

#[tokio::test]
async fn what_is_recorded_of_a_write_is_what_was_decoded_of_it() {
    let it = Recorded::new("omitStages: [RequestReceived]\nrules: [{level: Request}]").await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    it.api.post("/api/v1/namespaces/a/pods", pod.clone()).await;
    let nobody = Api { user: UserInfo::new("ann", &[]), ..it.api.clone() };
    nobody.post(CONFIG_MAPS, config_map("denied")).await.is(403);
    it.api
        .post(CONFIG_MAPS, json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "other"}}))
        .await
        .is(400);
    it.api
        .post(&format!("{CONFIG_MAPS}?fieldValidation=Strict"), json!({"metadata": {"name": "strict"}, "x": 1}))
        .await
        .is(400);
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: applied}\n".to_owned();
    let apply = format!("{CONFIG_MAPS}/applied?fieldManager=m");
    it.api.write_as(Method::PATCH, &apply, "application/apply-patch+yaml", text).await.is(201);
    let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"});
    it.api.delete(&format!("{CONFIG_MAPS}/applied"), Some(options)).await.is(200);
    let events = it.events();
    let object = &events[0]["requestObject"];
    assert_eq!(object["spec"]["restartPolicy"], "Always", "{object}");
    assert_eq!(object["spec"]["containers"][0]["terminationMessagePath"], "/dev/termination-log");
    for event in &events[1..4] {
        assert_eq!((event.get("requestObject"), event["objectRef"].get("name")), (None, None), "{event}");
    }
    let applied = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}});
    assert_eq!(events[4]["requestObject"], applied);
    assert_eq!(
        events[5]["requestObject"],
        json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/__internal", "propagationPolicy": "Background"})
    );
}

#[tokio::test]
async fn answers_are_told_of_as_kubernetes_does() {
    let it = Recorded::new("rules: [{level: RequestResponse, omitManagedFields: true}]").await;
    let ended = || {
        let events = it.events();
        let stages: Vec<String> =
            events.iter().filter_map(|event| event["stage"].as_str()).map(str::to_owned).collect();
        (stages, events.into_iter().next_back().expect("an event"))
    };
    // What is long running has a start, also where it fails.
    it.api.get("/api/v1/namespaces/a/pods/none/log").await.is(404);
    let (stages, event) = ended();
    assert_eq!(stages, ["RequestReceived", "ResponseStarted", "ResponseComplete"]);
    assert_eq!(event["responseStatus"]["reason"], "NotFound");
    it.api.config_map("x", json!({})).await;
    ended();
    let table = it.api.get_as(CONFIG_MAPS, "application/json;as=Table;v=v1;g=meta.k8s.io").await.ok();
    assert!(table["rows"][0]["object"]["metadata"]["managedFields"].is_array(), "{table}");
    let (_, event) = ended();
    assert_eq!(event["responseObject"]["rows"][0]["object"]["metadata"]["name"], "x");
    assert!(!event.to_string().contains("managedFields"), "{event}");
    it.api.get_as(&format!("{CONFIG_MAPS}/x"), "text/foo").await.is(406);
    let (_, event) = ended();
    assert_eq!((&event["responseStatus"], event.get("responseObject")), (&json!({"metadata": {}, "code": 406}), None));
    it.api.get("/api/v1/namespaces/a/endpoints").await.ok();
    assert_eq!(ended().1["annotations"]["k8s.io/deprecated"], "true");
    let statuses = it.api.get("/api/v1/componentstatuses").await;
    assert_eq!(statuses.headers["warning"], "299 - \"v1 ComponentStatus is deprecated in v1.19+\"");
    ended();
    // Pages are no objects; discovery and refusals are.
    it.api.get("/version").await.ok();
    assert_eq!(ended().1.get("responseObject"), None);
    it.api.get("/api").await.ok();
    assert_eq!(ended().1["responseObject"]["kind"], "APIVersions");
    let nobody = Api { user: UserInfo::new("ann", &[]), ..it.api.clone() };
    let refused = nobody.get("/metrics").await;
    assert_eq!(refused.headers["x-content-type-options"], "nosniff");
    assert_eq!(ended().1["responseObject"]["reason"], "Forbidden");
    let request = it.api.request(Method::GET, "/version").header(header::USER_AGENT, "z".repeat(1025));
    it.api.answer(request.body(Body::empty()).expect("a request")).await.is(200);
    assert_eq!(ended().1["userAgent"], format!("{}...TRUNCATED", "z".repeat(1024)));
}
