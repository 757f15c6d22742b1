//! API Priority and Fairness: which schema a request has, who waits, who is refused, what is kept.

use crate::apiserver::{Answer, Api};
use crate::cluster::control_plane;
use async_trait::async_trait;
use axum::body::Body;
use http::{HeaderMap, Method, Request};
use orch::api::{Status, UserInfo};
use orch::apiserver::authz::{Attributes, Authorizer, Decision};
use orch::apiserver::{Config, Reply, flow_control, routes::Route};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

const SCHEMAS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas";
const LEVELS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations";
const PATIENCE: Duration = Duration::from_secs(20);

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map(|value| value.to_str().expect("text")).unwrap_or_default()
}

/// UIDs of the schema and the level that a reply names.
fn marks(answer: &Answer) -> (String, String) {
    let of = |name: &str| header(&answer.headers, name).to_owned();
    (of("X-Kubernetes-PF-FlowSchema-UID"), of("X-Kubernetes-PF-PriorityLevel-UID"))
}

async fn uid(admin: &Api, collection: &str, name: &str) -> String {
    let object = admin.get(&format!("{collection}/{name}")).await.ok();
    object["metadata"]["uid"].as_str().expect("a UID").to_owned()
}

async fn until<T, F: Future<Output = Option<T>>>(what: &str, condition: impl Fn() -> F) -> T {
    let wait = async {
        loop {
            if let Some(found) = condition().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("waited for: {what}"))
}

#[tokio::test]
async fn replies_name_the_schema_and_the_level() {
    let admin = Api { server: control_plane().await, user: UserInfo::new("admin", &["system:masters"]) };
    let check = async |user: UserInfo, path: &str, schema: &str, level: &str| {
        let api = Api { user, ..admin.clone() };
        let wanted = (uid(&admin, SCHEMAS, schema).await, uid(&admin, LEVELS, level).await);
        let what = format!("{} {path} is of {schema} and {level}", api.user.name);
        until(&what, || async { (marks(&api.get(path).await) == wanted).then_some(()) }).await;
    };
    check(admin.user.clone(), "/api/v1/namespaces", "exempt", "exempt").await;
    // Also where the answer is no.
    check(UserInfo::new("ann", &[]), "/api/v1/namespaces", "global-default", "global-default").await;
    check(UserInfo::new("ann", &[]), "/healthz", "probes", "exempt").await;
    check(UserInfo::new("system:node:a", &["system:nodes"]), "/api/v1/nodes/a", "system-node-high", "node-high").await;
    check(UserInfo::new("system:node:a", &["system:nodes"]), "/api/v1/pods", "system-nodes", "system").await;
    let account = UserInfo::new("system:serviceaccount:kube-system:x", &["system:serviceaccounts"]);
    check(account, "/api/v1/pods", "kube-system-service-accounts", "workload-high").await;
    let account = UserInfo::new("system:serviceaccount:default:x", &["system:serviceaccounts"]);
    check(account, "/api/v1/pods", "service-accounts", "workload-low").await;
}

fn schema(name: &str, level: &str, user: &str) -> Value {
    json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "FlowSchema",
        "metadata": { "name": name },
        "spec": {
            "priorityLevelConfiguration": { "name": level },
            "matchingPrecedence": 50,
            "distinguisherMethod": { "type": "ByUser" },
            "rules": [{
                "subjects": [{ "kind": "User", "user": { "name": user } }],
                "nonResourceRules": [{ "verbs": ["*"], "nonResourceURLs": ["*"] }],
            }],
        },
    })
}

fn level(name: &str, response: Value) -> Value {
    json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "PriorityLevelConfiguration",
        "metadata": { "name": name },
        "spec": {
            "type": "Limited",
            "limited": { "nominalConcurrencyShares": 5, "borrowingLimitPercent": 0, "limitResponse": response },
        },
    })
}

#[tokio::test]
async fn conditions_follow_and_defaults_are_kept() {
    let admin = Api { server: control_plane().await, user: UserInfo::new("admin", &["system:masters"]) };
    let condition = async |name: &str, wanted: &str| {
        let path = format!("{SCHEMAS}/{name}");
        until(&format!("{name} is {wanted}"), || async {
            let schema = admin.get(&path).await.ok();
            let condition = schema["status"]["conditions"][0].clone();
            (condition["reason"] == wanted).then_some(condition)
        })
        .await
    };
    let found = condition("catch-all", "Found").await;
    assert_eq!((&found["type"], &found["status"]), (&json!("Dangling"), &json!("False")));
    admin.post(SCHEMAS, schema("mine", "tiny", "ann")).await.ok();
    let dangling = condition("mine", "NotFound").await;
    assert_eq!(
        dangling["message"],
        "This FlowSchema references the PriorityLevelConfiguration object named \"tiny\" but there is no such object"
    );
    admin.post(LEVELS, level("tiny", json!({ "type": "Reject" }))).await.ok();
    condition("mine", "Found").await;

    let before = uid(&admin, SCHEMAS, "catch-all").await;
    admin.delete(&format!("{SCHEMAS}/catch-all"), None).await.ok();
    until("catch-all is made again", || async {
        let answer = admin.get(&format!("{SCHEMAS}/catch-all")).await;
        (answer.status == 200 && answer.json()["metadata"]["uid"] != *before).then_some(())
    })
    .await;
}

struct Everybody;

#[async_trait]
impl Authorizer for Everybody {
    async fn authorize(&self, _attributes: &Attributes<'_>) -> Decision {
        Decision::Allow(String::new())
    }
}

/// Answers when it is let.
struct Slow(Arc<Semaphore>);

#[async_trait]
impl Route for Slow {
    async fn serve(&self, _user: &UserInfo, _request: Request<Body>) -> Result<Reply, Status> {
        self.0.acquire().await.expect("open").forget();
        Ok(Reply::new(Body::from("slow")))
    }
}

/// A server of two seats: one is of `tiny`, one of everybody else.
async fn two_seats(response: Value) -> (Api, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let slow = gate.clone();
    let change = |config: &mut Config| {
        config.authorizers = vec![Arc::new(Everybody)];
        config.routes = vec![("/slow", Arc::new(Slow(slow)))];
        config.flow_control = flow_control::Options { max_requests: 1, max_mutating: 1 };
    };
    let admin = Api::with(change).await;
    admin.post(LEVELS, level("tiny", response)).await.ok();
    admin.post(SCHEMAS, schema("tiny", "tiny", "ann")).await.ok();
    let (wanted, ann) = (uid(&admin, SCHEMAS, "tiny").await, as_ann(&admin));
    until("the schema holds", || async { (marks(&ann.get("/version").await).0 == wanted).then_some(()) }).await;
    (admin, gate)
}

fn as_ann(admin: &Api) -> Api {
    Api { user: UserInfo::new("ann", &[]), ..admin.clone() }
}

fn spawn(api: &Api, path: &'static str) -> tokio::task::JoinHandle<Answer> {
    let api = api.clone();
    tokio::spawn(async move { api.get(path).await })
}

async fn series(admin: &Api, wanted: &str) {
    until(wanted, || async { admin.get("/metrics").await.text.lines().any(|line| line == wanted).then_some(()) }).await;
}

#[tokio::test]
async fn who_finds_no_seat_waits_and_then_is_refused() {
    let queuing = json!({ "queues": 1, "handSize": 1, "queueLengthLimit": 1 });
    let (admin, gate) = two_seats(json!({ "type": "Queue", "queuing": queuing })).await;
    let ann = as_ann(&admin);
    let runs = spawn(&ann, "/slow");
    series(&admin, "apiserver_flowcontrol_current_executing_seats{priority_level=\"tiny\",flow_schema=\"tiny\"} 1")
        .await;
    let waits = spawn(&ann, "/slow");
    let labels = "{priority_level=\"tiny\",flow_schema=\"tiny\"}";
    series(&admin, &format!("apiserver_flowcontrol_current_inqueue_requests{labels} 1")).await;
    let dumped = admin.get("/debug/api_priority_and_fairness/dump_priority_levels").await.text;
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
    let tiny = dumped.lines().find(|line| line.starts_with("tiny,")).map(words);
    assert!(tiny.as_deref().is_some_and(|tiny| tiny.starts_with("tiny, 1, false, false, 1, 1, ")), "{dumped}");
    let dumped = admin.get("/debug/api_priority_and_fairness/dump_queues").await.text;
    let tiny: Vec<String> = dumped.lines().filter(|line| line.starts_with("tiny,")).map(words).collect();
    assert_eq!(tiny.iter().filter(|queue| queue.split(' ').nth(2) == Some("1,")).count(), 1, "{dumped}");
    admin.get("/debug/api_priority_and_fairness/dump_none").await.is(404);
    let refused = ann.get("/version").await;
    assert_eq!((refused.status.as_u16(), refused.text.as_str()), (429, "Too many requests, please try again later.\n"));
    assert_eq!(header(&refused.headers, "retry-after"), "1");
    assert_eq!(header(&refused.headers, "content-type"), "text/plain; charset=utf-8");
    assert_eq!(marks(&refused).1, uid(&admin, LEVELS, "tiny").await);
    // Others have seats of their own, and the exempt need none.
    let bob = Api { user: UserInfo::new("bob", &[]), ..admin.clone() };
    bob.get("/version").await.ok();
    gate.add_permits(1);
    assert_eq!(runs.await.expect("no panic").text, "slow");
    gate.add_permits(1);
    assert_eq!(waits.await.expect("no panic").text, "slow");
    ann.get("/version").await.ok();
    let labels = "{priority_level=\"tiny\",flow_schema=\"tiny\",reason=\"queue-full\"}";
    series(&admin, &format!("apiserver_flowcontrol_rejected_requests_total{labels} 1")).await;
    series(&admin, "apiserver_flowcontrol_current_executing_seats{priority_level=\"tiny\",flow_schema=\"tiny\"} 0")
        .await;
    series(&admin, "apiserver_flowcontrol_nominal_limit_seats{priority_level=\"tiny\"} 1").await;
}

#[tokio::test]
async fn a_level_without_queues_refuses_and_a_watch_holds_no_seat() {
    let (admin, gate) = two_seats(json!({ "type": "Reject" })).await;
    let ann = as_ann(&admin);
    let runs = spawn(&ann, "/slow");
    series(&admin, "apiserver_flowcontrol_current_executing_seats{priority_level=\"tiny\",flow_schema=\"tiny\"} 1")
        .await;
    ann.get("/version").await.is(429);
    gate.add_permits(1);
    runs.await.expect("no panic").is(200);
    // The catch-all level has one seat: watches do not keep it.
    let bob = Api { user: UserInfo::new("bob", &[]), ..admin.clone() };
    let mut watches = Vec::new();
    for _ in 0..3 {
        let request = bob.request(Method::GET, "/api/v1/namespaces?watch=true").body(Body::empty()).expect("a request");
        let reply = bob.send(request).await;
        assert_eq!(reply.status(), 200);
        watches.push(reply);
    }
}
