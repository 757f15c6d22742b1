//! Traces: whose are followed, who is told of them, and what a collector gets.

use crate::admission_webhooks::{Hooks, allowed, rule, until, validating, webhook};
use crate::apiserver::Api;
use crate::custom_resources::api;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use orch::api::UserInfo;
use orch::apiserver::traces::{Configuration, Tracer};
use serde_json::json;
use std::convert::Infallible;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const RBAC: &str = "rbac.authorization.k8s.io";
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A collector that speaks gRPC in clear text: the messages it gets.
async fn collector() -> (String, mpsc::UnboundedReceiver<Bytes>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = listener.local_addr().expect("an address").to_string();
    let (sender, received) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let sender = sender.clone();
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let sender = sender.clone();
                async move {
                    assert_eq!(request.uri().path(), "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
                    let told = |name: &str| request.headers()[name].to_str().expect("text").to_owned();
                    assert_eq!((told("content-type").as_str(), told("te").as_str()), ("application/grpc", "trailers"));
                    let frame = request.into_body().collect().await.expect("a body").to_bytes();
                    let length = u32::from_be_bytes(frame[1..5].try_into().expect("four bytes"));
                    assert_eq!((frame[0], length as usize), (0, frame.len() - 5));
                    // The test may have seen enough.
                    let _ = sender.send(frame.slice(5..));
                    let mut reply = Response::new(Full::new(Bytes::from_static(&[0; 5])));
                    reply.headers_mut().insert("grpc-status", "0".parse().expect("a header"));
                    Ok::<_, Infallible>(reply)
                }
            });
            tokio::spawn(async move {
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                // The API server closes it when it ends.
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (endpoint, received)
}

fn request(user: &UserInfo, trace: Option<&str>) -> http::request::Builder {
    let request = Request::builder().method(Method::POST).uri(CONFIG_MAPS).extension(user.clone());
    let request = request.header("content-type", "application/json");
    match trace {
        Some(trace) => request.header("traceparent", trace).header("tracestate", "vendor=1"),
        None => request,
    }
}

async fn create(api: &Api, user: &UserInfo, name: &str, trace: Option<&str>) {
    let object = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name } });
    api.answer(request(user, trace).body(object.to_string().into()).expect("a request")).await.is(201);
}

fn masters() -> UserInfo {
    UserInfo::new("admin", &["system:masters"])
}

fn stranger() -> UserInfo {
    UserInfo::new("ann", &[])
}

async fn with_hook() -> (Api, Hooks) {
    let hooks = Hooks::start(|_, _| allowed()).await;
    let api = api().await;
    let subjects: Vec<_> = ["ann", "m"].map(|name| json!({ "kind": "User", "name": name, "apiGroup": RBAC })).into();
    let binding = json!({
        "apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRoleBinding", "metadata": { "name": "everybody" },
        "roleRef": { "apiGroup": RBAC, "kind": "ClusterRole", "name": "cluster-admin" }, "subjects": subjects,
    });
    api.post(&format!("/apis/{RBAC}/v1/clusterrolebindings"), binding).await.ok();
    let rules = json!([rule(&["CREATE"], &["configmaps"])]);
    validating(&api, "v", json!([webhook("v", hooks.client("/"), rules, json!({}))])).await;
    until(|| async {
        let object = json!({ "metadata": { "name": "probe" } });
        let request = request(&stranger(), None).uri(format!("{CONFIG_MAPS}?dryRun=All"));
        let answer = api.answer(request.body(object.to_string().into()).expect("a request")).await;
        (answer.status == 201 && !hooks.traces.lock().is_empty()).then_some(())
    })
    .await;
    (api, hooks)
}

fn last(hooks: &Hooks) -> Option<String> {
    hooks.traces.lock().last().cloned().expect("it was asked")
}

#[tokio::test]
async fn only_the_trace_of_a_trusted_caller_is_passed_on() {
    let (api, hooks) = with_hook().await;
    create(&api, &masters(), "a", Some(PARENT)).await;
    assert_eq!(last(&hooks).as_deref(), Some(PARENT), "nothing is recorded here: the caller's own span is the parent");
    create(&api, &UserInfo::new("m", &["system:monitoring"]), "b", Some(PARENT)).await;
    assert_eq!(last(&hooks).as_deref(), Some(PARENT));
    create(&api, &stranger(), "c", Some(PARENT)).await;
    assert_eq!(last(&hooks), None);
    create(&api, &masters(), "d", Some("00-nonsense")).await;
    assert_eq!(last(&hooks), None);
}

#[tokio::test]
async fn spans_go_to_the_collector() {
    let (api, hooks) = with_hook().await;
    let (endpoint, mut received) = collector().await;
    let configuration = Configuration { endpoint, sampling_rate_per_million: 0 };
    api.server.trace(Tracer::start(configuration, "this one".to_owned()));
    // Of those who do not say, none is recorded; of who says so, each is.
    create(&api, &masters(), "a", None).await;
    create(&api, &masters(), "b", Some(PARENT)).await;
    let told = last(&hooks).expect("it is passed on");
    assert!(told.starts_with(&format!("00-{TRACE}-")) && told.ends_with("-01") && told != PARENT, "{told}");
    create(&api, &stranger(), "c", Some(PARENT)).await;
    let message =
        tokio::time::timeout(Duration::from_secs(20), received.recv()).await.expect("in time").expect("a message");
    let has = |part: &[u8]| message.windows(part.len()).filter(|found| *found == part).count();
    let bytes = |hex: &str| -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
    };
    // The request, and the call of the webhook in it.
    assert_eq!(has(b"POST /api/v1/namespaces/{:namespace}/configmaps"), 1);
    assert_eq!(has(b"HTTP POST"), 1);
    assert_eq!(has(&bytes(TRACE)), 2);
    assert_eq!(has(&bytes("00f067aa0ba902b7")), 1, "the parent of the request's");
    assert_eq!(has(&bytes(&told[36..52])), 1, "the webhook was told the span of its call");
    assert_eq!((has(b"apiserver"), has(b"this one"), has(b"vendor=1")), (1, 1, 2));
}

#[tokio::test]
async fn every_request_is_recorded_at_the_full_rate() {
    let (api, hooks) = with_hook().await;
    let (endpoint, mut received) = collector().await;
    api.server.trace(Tracer::start(Configuration { endpoint, sampling_rate_per_million: 1_000_000 }, "x".to_owned()));
    create(&api, &stranger(), "c", Some(PARENT)).await;
    let told = last(&hooks).expect("it is passed on");
    assert!(!told.contains(TRACE), "a stranger's trace is not gone on with: {told}");
    let message =
        tokio::time::timeout(Duration::from_secs(20), received.recv()).await.expect("in time").expect("a message");
    // Where it was going on: in the link to it.
    assert_eq!(message.windows(8).filter(|part| *part == b"vendor=1").count(), 1);
    assert_eq!(message.windows(20).filter(|part| part.starts_with(b"HTTP POST")).count(), 1);
}
