//! Versions of a custom resource that a webhook turns into one another: over real TLS, in memory.

use crate::apiserver::{Answer, Api};
use crate::custom_resources::{definition, spec, version, widget};
use async_trait::async_trait;
use axum::body::Body;
use base64::Engine;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use orch::api::{Fields, FieldsMut};
use orch::apiserver::webhook;
use orch::client::dialer::{Connection, Destination, Dialer};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const V1: &str = "/apis/example.com/v1/namespaces/default/widgets";
const V2: &str = "/apis/example.com/v2/namespaces/default/widgets";

type Answerer = dyn Fn(&Value) -> Value + Send + Sync;

/// A webhook at the end of every connection.
struct Webhook {
    tls: TlsAcceptor,
    answer: Arc<Mutex<Arc<Answerer>>>,
    dialed: Mutex<Vec<Destination>>,
    calls: Arc<Mutex<Vec<Value>>>,
}

#[async_trait]
impl Dialer for Webhook {
    async fn dial(&self, destination: &Destination) -> std::io::Result<Connection> {
        self.dialed.lock().push(destination.clone());
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (tls, answer, calls) = (self.tls.clone(), self.answer.lock().clone(), self.calls.clone());
        tokio::spawn(async move {
            // A client that does not trust this certificate goes away.
            let Ok(stream) = tls.accept(far).await else { return };
            let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                let (answer, calls) = (answer.clone(), calls.clone());
                async move {
                    let bytes = request.into_body().collect().await.expect("a body").to_bytes();
                    let review: Value = serde_json::from_slice(&bytes).expect("a review");
                    calls.lock().push(review.clone());
                    let reply = answer(&review).to_string();
                    Ok::<_, Infallible>(Response::new(Full::new(bytes::Bytes::from(reply))))
                }
            });
            let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // Ends when the client has its answer.
            let _ = served.await;
        });
        Ok(Box::new(near))
    }
}

struct World {
    api: Api,
    webhook: Arc<Webhook>,
    /// Base64 of its certificate, which signs itself.
    bundle: String,
}

/// `spec.host` and `spec.port` of v1 are `spec.address` of v2.
fn convert(object: &Value, wanted: &str) -> Value {
    let mut object = object.clone();
    object["apiVersion"] = wanted.into();
    let spec = object["spec"].clone();
    object["spec"] = if wanted.ends_with("/v2") {
        json!({ "address": format!("{}:{}", spec.str_at("host"), spec.str_at("port")) })
    } else {
        let (host, port) = spec.str_at("address").split_once(':').unwrap_or_default();
        json!({ "host": host, "port": port })
    };
    object
}

fn answer(review: &Value, edit: impl Fn(&mut Vec<Value>)) -> Value {
    let request = review.at("request");
    let wanted = request.str_at("desiredAPIVersion");
    let mut objects: Vec<Value> = request.list_at("objects").iter().map(|object| convert(object, wanted)).collect();
    edit(&mut objects);
    json!({
        "kind": "ConversionReview",
        "apiVersion": review.str_at("apiVersion"),
        "response": { "uid": request.str_at("uid"), "convertedObjects": objects, "result": { "status": "Success" } },
    })
}

async fn world() -> World {
    let names = vec!["webhook.tools.svc".to_owned(), "webhook.example".to_owned(), "127.0.0.1".to_owned()];
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut parameters = rcgen::CertificateParams::new(names).expect("names");
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = parameters.self_signed(&key).expect("a certificate");
    let tls = rustls::ServerConfig::builder_with_provider(orch::net::tls::provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
        )
        .expect("a configuration");
    let webhook = Arc::new(Webhook {
        tls: TlsAcceptor::from(Arc::new(tls)),
        answer: Arc::new(Mutex::new(Arc::new(|review: &Value| answer(review, |_| {})))),
        dialed: Mutex::default(),
        calls: Arc::default(),
    });
    let dialer = webhook.clone();
    let api = Api::with(|config| config.webhooks = webhook::Client::new(config.storage.clone(), dialer)).await;
    World { api, webhook, bundle: base64::engine::general_purpose::STANDARD.encode(certificate.pem()) }
}

impl World {
    fn answers(&self, answer: impl Fn(&Value) -> Value + Send + Sync + 'static) {
        *self.webhook.answer.lock() = Arc::new(answer);
    }

    /// A definition with two versions, converted by a webhook.
    async fn define(&self, client: Value, reviews: Value) {
        let text = json!({ "type": "string" });
        let first = version("v1", spec(json!({ "host": text, "port": text })));
        let second = version("v2", spec(json!({ "address": text })));
        let mut made = definition("widgets", "Widget", json!([first, second]));
        let mut client = client;
        client.set("caBundle", self.bundle.as_str());
        made["spec"]["conversion"] = json!({
            "strategy": "Webhook",
            "webhook": { "clientConfig": client, "conversionReviewVersions": reviews },
        });
        self.api.post(DEFINITIONS, made).await.ok();
    }

    async fn at_url(&self) {
        self.define(json!({ "url": "https://127.0.0.1:9443/convert" }), json!(["v1"])).await;
    }

    async fn failure(&self) -> (u16, String) {
        self.api.get(&format!("{V2}/w")).await.refused()
    }
}

fn address(answer: Answer) -> Value {
    answer.ok()["spec"]["address"].clone()
}

#[tokio::test]
async fn objects_are_of_the_version_that_is_asked_for() {
    let world = world().await;
    world.at_url().await;
    let api = &world.api;
    api.post(V1, widget("w", json!({ "host": "a", "port": "1" }))).await.ok();
    assert_eq!(world.webhook.calls.lock().len(), 0, "v1 is stored as it is");
    let read = api.get(&format!("{V2}/w")).await.ok();
    assert_eq!((&read["apiVersion"], &read["spec"]), (&json!("example.com/v2"), &json!({ "address": "a:1" })));
    let mut second = widget("x", json!({ "address": "b:2" }));
    second["apiVersion"] = "example.com/v2".into();
    let made = api.post(V2, second).await.ok();
    assert_eq!((&made["apiVersion"], &made["spec"]), (&json!("example.com/v2"), &json!({ "address": "b:2" })));
    assert_eq!(api.get(&format!("{V1}/x")).await.ok()["spec"], json!({ "host": "b", "port": "2" }));
    // A list is one call.
    let calls = world.webhook.calls.lock().len();
    let list = api.get(V2).await.ok();
    let addresses: Vec<_> = list.list_at("items").iter().map(|item| item.at("spec").str_at("address")).collect();
    assert_eq!(addresses, ["a:1", "b:2"]);
    assert_eq!(world.webhook.calls.lock().len(), calls + 1);
    // A patch sees the version that it is for.
    assert_eq!(address(api.merge(&format!("{V2}/w"), json!({ "spec": { "address": "c:3" } })).await), "c:3");
    let stored = api.get(&format!("{V1}/w")).await.ok();
    assert_eq!((&stored["spec"], &stored["metadata"]["generation"]), (&json!({ "host": "c", "port": "3" }), &json!(2)));
    // So does a watch.
    let request = api.request(Method::GET, &format!("{V2}?watch=1")).body(Body::empty()).expect("a request");
    let mut watch = api.send(request).await.into_body();
    api.merge(&format!("{V1}/w"), json!({ "spec": { "port": "4" } })).await.ok();
    let mut text = String::new();
    while !text.contains("MODIFIED") {
        let frame = watch.frame().await.expect("the watch goes on").expect("a frame");
        text.push_str(&String::from_utf8_lossy(&frame.into_data().unwrap_or_default()));
    }
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("an event")).collect();
    let told: Vec<_> =
        events.iter().map(|event| (event.str_at("type"), event.at("object").at("spec").str_at("address"))).collect();
    assert_eq!(told, [("ADDED", "c:3"), ("ADDED", "b:2"), ("MODIFIED", "c:4")]);
}

#[tokio::test]
async fn a_webhook_may_change_labels_and_nothing_else_of_metadata() {
    let world = world().await;
    world.at_url().await;
    world.api.post(V1, widget("w", json!({ "host": "a", "port": "1" }))).await.ok();
    world.answers(|review| {
        answer(review, |objects| {
            objects[0]["metadata"]["labels"] = json!({ "by": "webhook" });
            objects[0]["metadata"]["finalizers"] = json!(["example.com/x"]);
        })
    });
    let metadata = world.api.get(&format!("{V2}/w")).await.ok()["metadata"].clone();
    assert_eq!((&metadata["labels"], metadata.get("finalizers")), (&json!({ "by": "webhook" }), None));
    for (edit, wanted) in [
        (json!({ "name": "other" }), "returned invalid object: must have the same name: w != other"),
        (json!({ "uid": "other" }), "returned invalid object: must have the same UID: "),
        (
            json!({ "labels": { "a": 1 } }),
            "returned invalid metadata: metadata.labels[a] must be a string, but is int64 in converted object",
        ),
        (json!({ "labels": { "a b": "c" } }), "returned invalid metadata: metadata.labels: Invalid value: \"a b\": "),
    ] {
        world.answers(move |review| {
            answer(review, |objects| {
                for (name, value) in edit.entries() {
                    objects[0]["metadata"][name] = value.clone();
                }
            })
        });
        let (code, message) = world.failure().await;
        let wanted = format!("conversion webhook for example.com/v1, Kind=Widget {wanted}");
        assert!(code == 500 && message.starts_with(&wanted), "{message}\n{wanted}");
    }
}

#[tokio::test]
async fn what_a_webhook_does_wrong_is_told() {
    let world = world().await;
    world.at_url().await;
    world.api.post(V1, widget("w", json!({ "host": "a", "port": "1" }))).await.ok();
    let reply = |edit: fn(&mut Value)| {
        move |review: &Value| {
            let mut reply = answer(review, |_| {});
            edit(&mut reply);
            reply
        }
    };
    let cases: [(fn(&mut Value), &str); 7] = [
        (|reply| reply["response"]["result"] = json!({ "status": "Failure", "message": "no" }), "failed: no"),
        (|reply| reply["response"]["result"] = json!({}), "failed: response.result.status was '', not 'Success'"),
        (|reply| reply["response"]["uid"] = "x".into(), "failed: expected response.uid="),
        (|reply| reply.clear("response"), "failed: no response provided"),
        (
            |reply| reply["apiVersion"] = "x.io/v1".into(),
            "failed: expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got x.io/v1, Kind=ConversionReview",
        ),
        (|reply| reply["response"]["convertedObjects"] = json!([]), "returned 0 objects, expected 1"),
        (
            |reply| reply["response"]["convertedObjects"][0]["apiVersion"] = "example.com/v1".into(),
            "returned invalid object at index 0: invalid groupVersion (expected example.com/v2, received example.com/v1)",
        ),
    ];
    for (edit, wanted) in cases {
        world.answers(reply(edit));
        let (code, message) = world.failure().await;
        let wanted = format!("conversion webhook for example.com/v1, Kind=Widget {wanted}");
        assert!(code == 500 && message.starts_with(&wanted), "{message}\n{wanted}");
    }
    // The old version is there all the while.
    world.api.get(&format!("{V1}/w")).await.ok();
}

#[tokio::test]
async fn services_are_found_and_certificates_are_checked() {
    let world = world().await;
    let api = &world.api;
    let service = json!({ "service": { "namespace": "tools", "name": "webhook", "path": "/convert", "port": 9443 } });
    world.define(service, json!(["v1beta1"])).await;
    api.post(V1, widget("w", json!({ "host": "a", "port": "1" }))).await.ok();
    let (_, message) = world.failure().await;
    let url = "Post \"https://webhook.tools.svc:9443/convert?timeout=30s\"";
    assert_eq!(
        message,
        format!("conversion webhook for example.com/v1, Kind=Widget failed: {url}: service \"webhook\" not found")
    );
    let made = json!({ "metadata": { "name": "webhook" }, "spec": { "ports": [{ "name": "tls", "port": 9443, "targetPort": 443 }], "selector": { "a": "b" } } });
    api.post("/api/v1/namespaces/tools/services", made).await.ok();
    let slice = json!({ "metadata": { "name": "webhook-x", "labels": { "kubernetes.io/service-name": "webhook" } },
        "addressType": "IPv4", "ports": [{ "name": "tls", "port": 8443 }], "endpoints": [{ "addresses": ["10.42.0.9"], "nodeName": "n1" }] });
    api.post("/apis/discovery.k8s.io/v1/namespaces/tools/endpointslices", slice).await.ok();
    assert_eq!(address(api.get(&format!("{V2}/w")).await), "a:1");
    assert_eq!(world.webhook.calls.lock()[0]["apiVersion"], "apiextensions.k8s.io/v1beta1");
    let dialed = world.webhook.dialed.lock()[0].clone();
    assert_eq!(
        dialed,
        Destination { node: Some("n1".to_owned()), address: "10.42.0.9:8443".parse().expect("an address") }
    );
    // A name that the certificate does not have, and a certificate that nobody trusts.
    let client = |client: Value| json!({ "spec": { "conversion": { "webhook": { "clientConfig": client } } } });
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let other = json!({ "url": "https://127.0.0.2/convert", "service": null });
    api.merge(&path, client(other)).await.ok();
    let (_, message) = world.failure().await;
    assert!(message.contains("x509: certificate is not valid for this name"), "{message}");
    let nobody = json!({ "url": "https://127.0.0.1/convert", "caBundle": null });
    api.merge(&path, client(nobody)).await.ok();
    let (_, message) = world.failure().await;
    assert!(
        message.contains("tls: failed to verify certificate: x509: certificate signed by unknown authority"),
        "{message}"
    );
    // A bundle that changes counts at once.
    api.merge(&path, client(json!({ "caBundle": world.bundle }))).await.ok();
    assert_eq!(address(api.get(&format!("{V2}/w")).await), "a:1");
}
