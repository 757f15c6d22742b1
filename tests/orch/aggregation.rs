//! APIServices: another API server serves a group, as if this one did.

use crate::apiserver::{Answer, Api};
use crate::custom_resources::{definition, version};
use async_trait::async_trait;
use axum::body::Body;
use base64::Engine;
use http::Method;
use http_body_util::BodyExt;
use orch::api::{Fields, GroupResource, GroupVersionKind, UserInfo};
use orch::apiserver::authz::{Attributes, Authorizer, Decision};
use orch::apiserver::{Config, Limits, Server, aggregation, authn, webhook};
use orch::client::dialer::{Connection, Destination, Dialer};
use orch::cluster::pki::{FRONT_PROXY, Options, Pki};
use orch::resources::{Registry, Resource};
use orch::schema::{Schema, builtin_schema};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

const API_SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";
const PATIENCE: Duration = Duration::from_secs(20);

/// Lets everybody, and remembers whom.
#[derive(Default)]
struct Everybody(Mutex<Vec<UserInfo>>);

#[async_trait]
impl Authorizer for Everybody {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        self.0.lock().push(attributes.user.clone());
        Decision::Allow(String::new())
    }
}

/// Every Service is at this address.
struct To(SocketAddr);

#[async_trait]
impl Dialer for To {
    async fn dial(&self, destination: &Destination) -> std::io::Result<Connection> {
        assert_eq!(destination.address.to_string(), "10.42.0.9:8443");
        Ok(Box::new(TcpStream::connect(self.0).await?))
    }
}

fn pki(names: &[&str]) -> (Pki, TempDir) {
    let directory = TempDir::new().expect("a directory");
    let names = names.iter().map(|&name| name.to_owned()).collect();
    let options = Options { names, ..Options::new([10, 43, 0, 1].into(), "cluster.local") };
    (Pki::open_or_create(directory.path(), options).expect("certificates"), directory)
}

async fn server(
    registry: Registry,
    authenticators: Vec<Arc<dyn authn::Authenticator>>,
    authorizer: Arc<Everybody>,
    dialer: Option<To>,
    aggregation: aggregation::Options,
) -> Server {
    let change = |config: &mut Config| {
        if let Some(dialer) = dialer {
            config.webhooks = webhook::Client::new(config.storage.clone(), Arc::new(dialer));
        }
        config.registry = Arc::new(registry);
        config.authenticators = authenticators;
        config.authorizers = vec![authorizer];
        config.aggregation = aggregation;
    };
    Api::with(change).await.server
}

struct World {
    admin: Api,
    /// Whom the extension server was asked by.
    seen: Arc<Everybody>,
    bundle: String,
    shutdown: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
    _directories: [TempDir; 2],
}

/// An API server, and another with widgets behind a Service.
async fn start() -> World {
    let (own, own_directory) = pki(&[]);
    let (extension, extension_directory) = pki(&["widgets.default.svc"]);
    let clock: authn::Clock = Arc::new(SystemTime::now);
    let proxies = authn::x509::Verifier::new(own.request_header_ca_pem(), clock).expect("a CA");
    let proxies = authn::request_header::FrontProxy::new(proxies, vec![FRONT_PROXY.to_owned()]);
    let seen: Arc<Everybody> = Arc::default();
    let other = server(
        Registry::of(std::iter::empty()),
        vec![Arc::new(proxies)],
        seen.clone(),
        None,
        aggregation::Options::default(),
    )
    .await;
    // Widgets look like ConfigMaps.
    let shape = builtin_schema(&GroupVersionKind::new("", "v1", "ConfigMap")).expect("built in");
    let schema = Schema { gvk: GroupVersionKind::new("example.com", "v1", "Widget"), ..shape };
    let widgets = Resource::new("example.com", "v1", "Widget", "widgets");
    other.state().registry.register(&GroupResource::new("example.com", "widgets"), vec![(widgets, schema)]);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let shutdown = CancellationToken::new();
    let tls = extension.server_tls_config().expect("a configuration");
    let limits = Limits { drain: Duration::from_millis(10), ..Limits::default() };
    let serving = tokio::spawn(other.serve(listener, tls, limits, shutdown.clone()));
    let aggregation = aggregation::Options {
        front_proxy: Some(own.front_proxy_certificate().expect("a certificate")),
        authentication: BTreeMap::from([("requestheader-client-ca-file".to_owned(), "the CA".to_owned())]),
    };
    let server = server(Registry::built_in(), Vec::new(), Arc::default(), Some(To(address)), aggregation).await;
    let bundle = base64::engine::general_purpose::STANDARD.encode(extension.server_ca_pem());
    let admin = Api { server, user: UserInfo::new("admin", &["system:masters"]) };
    World { admin, seen, bundle, shutdown, serving, _directories: [own_directory, extension_directory] }
}

async fn until<T, F: Future<Output = Option<T>>>(what: &str, condition: impl Fn() -> F) -> T {
    let wait = async {
        loop {
            if let Some(found) = condition().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("waited for: {what}"))
}

impl World {
    async fn register(&self) {
        let spec = json!({
            "group": "example.com",
            "version": "v1",
            "groupPriorityMinimum": 1000,
            "versionPriority": 15,
            "service": { "namespace": "default", "name": "widgets" },
            "caBundle": self.bundle,
        });
        let service = json!({
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": { "name": "v1.example.com" },
            "spec": spec,
        });
        self.admin.post(API_SERVICES, service).await.ok();
    }

    async fn service(&self) {
        let service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": "widgets" },
            "spec": { "ports": [{ "name": "https", "port": 443 }] },
        });
        self.admin.post("/api/v1/namespaces/default/services", service).await.ok();
    }

    async fn slice(&self, addresses: &[&str]) {
        let endpoints: Vec<Value> = addresses.iter().map(|address| json!({ "addresses": [address] })).collect();
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": { "name": "widgets", "labels": { "kubernetes.io/service-name": "widgets" } },
            "addressType": "IPv4",
            "ports": [{ "name": "https", "port": 8443 }],
            "endpoints": endpoints,
        });
        let path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
        match self.admin.get(&format!("{path}/widgets")).await.status.as_u16() {
            404 => self.admin.post(path, slice).await.ok(),
            _ => self.admin.put(&format!("{path}/widgets"), &slice).await.ok(),
        };
    }

    /// Reason, then message, when the condition says so.
    async fn is(&self, status: &str, reason: &str) -> String {
        until(reason, || async {
            let service = self.admin.get(&format!("{API_SERVICES}/v1.example.com")).await.ok();
            let condition = &service["status"]["conditions"][0];
            let is = condition["reason"] == reason && condition["status"] == status;
            is.then(|| condition["message"].as_str().unwrap_or_default().to_owned())
        })
        .await
    }

    async fn available(&self) {
        self.register().await;
        self.service().await;
        self.slice(&["10.42.0.9"]).await;
        self.is("True", "Passed").await;
    }
}

#[tokio::test]
async fn conditions_say_what_is_missing() {
    let mut world = start().await;
    world.register().await;
    assert_eq!(world.is("False", "ServiceNotFound").await, "service/widgets in \"default\" is not present");
    let answer = world.admin.get(WIDGETS).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (503, "service unavailable\n"));
    world.service().await;
    let message = world.is("False", "EndpointsNotFound").await;
    assert_eq!(message, "cannot find endpointslices for service/widgets in \"default\"");
    world.slice(&[]).await;
    let message = world.is("False", "MissingEndpoints").await;
    assert_eq!(message, "endpointslices for service/widgets in \"default\" have no addresses with port name \"https\"");
    world.slice(&["10.42.0.9"]).await;
    assert_eq!(world.is("True", "Passed").await, "all checks passed");
    world.admin.get(WIDGETS).await.is(200);

    world.shutdown.cancel();
    (&mut world.serving).await.expect("ends");
    world.slice(&["10.42.0.9", "10.42.0.10"]).await;
    let message = world.is("False", "FailedDiscoveryCheck").await;
    let url = "https://widgets.default.svc:443/apis/example.com/v1";
    let head = format!("failing or missing response from {url}: Get \"{url}\": dial tcp 10.42.0.9:8443: ");
    assert!(message.starts_with(&head), "{message}");
    world.admin.get(WIDGETS).await.is(503);
    let columns = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let table = world.admin.get_as(&format!("{API_SERVICES}/v1.example.com"), columns).await.ok();
    let cells = &table["rows"][0]["cells"];
    assert_eq!((&cells[1], &cells[2]), (&json!("default/widgets"), &json!("False (FailedDiscoveryCheck)")));
}

/// It is what it was until it has been looked at again.
#[tokio::test]
async fn a_change_of_an_api_service_is_no_outage() {
    let world = start().await;
    world.available().await;
    let path = format!("{API_SERVICES}/v1.example.com");
    for priority in 16..36 {
        let mut service = world.admin.get(&path).await.ok();
        service["spec"]["versionPriority"] = priority.into();
        world.admin.put(&path, &service).await.ok();
        for _ in 0..5 {
            world.admin.get(WIDGETS).await.is(200);
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn requests_are_passed_on_with_the_user() {
    let world = start().await;
    world.available().await;
    let extra = BTreeMap::from([("example.com/scope".to_owned(), vec!["a".to_owned()])]);
    let ann = Api { user: UserInfo { extra, ..UserInfo::new("ann", &["team"]) }, ..world.admin.clone() };
    let request = ann.request(Method::GET, &format!("{WIDGETS}?watch=true")).header("x-remote-user", "root");
    let mut watch = ann.send(request.body(Body::empty()).expect("a request")).await;
    assert_eq!(watch.status(), 200);
    let widget = json!({ "apiVersion": "example.com/v1", "kind": "Widget", "metadata": { "name": "w" } });
    let made = ann.post(WIDGETS, widget).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let frame = watch.body_mut().frame().await.expect("an event").expect("no error").into_data().expect("data");
    let event: Value = serde_json::from_slice(&frame).expect("JSON");
    assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&json!("ADDED"), &json!("w")));
    ann.get(&format!("{WIDGETS}/none")).await.is(404);

    let seen = world.seen.0.lock().clone();
    let by_ann = seen.iter().find(|user| user.name == "ann").expect("ann came");
    assert!(by_ann.groups.contains(&"team".to_owned()), "{by_ann:?}");
    assert_eq!(by_ann.extra["example.com/scope"], ["a"]);
    assert!(seen.iter().all(|user| user.name != "root"), "{seen:?}");
    assert!(seen.iter().any(|user| user.name == "system:kube-aggregator"), "{seen:?}");
}

#[tokio::test]
async fn what_is_served_elsewhere_is_discovered_here() {
    let world = start().await;
    let admin = &world.admin;
    let names = |groups: &Value| -> Vec<String> {
        let groups = groups["groups"].as_array().expect("groups").iter();
        groups.map(|group| group["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert!(!names(&admin.get("/apis").await.ok()).contains(&"example.com".to_owned()));
    world.available().await;
    assert!(names(&admin.get("/apis").await.ok()).contains(&"example.com".to_owned()));
    let group = admin.get("/apis/example.com").await.ok();
    assert_eq!((&group["kind"], &group["preferredVersion"]["version"]), (&json!("APIGroup"), &json!("v1")));
    let list = admin.get("/apis/example.com/v1").await.ok();
    assert_eq!(list["resources"][0]["name"], "widgets");
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let all = admin.get_as("/apis", accept).await.ok();
    let items = all["items"].as_array().expect("items");
    let found = items.iter().find(|item| item["metadata"]["name"] == "example.com").expect("the group");
    let version = &found["versions"][0];
    assert_eq!((&version["version"], &version["freshness"]), (&json!("v1"), &json!("Current")));
    let resource = &version["resources"][0];
    assert_eq!((&resource["resource"], &resource["scope"]), (&json!("widgets"), &json!("Namespaced")));
    assert_eq!(resource["responseKind"], json!({ "group": "example.com", "version": "v1", "kind": "Widget" }));
    let index = admin.get("/openapi/v3").await.json();
    let link = index["paths"]["apis/example.com/v1"]["serverRelativeURL"].as_str().expect("a link").to_owned();
    assert_eq!(admin.get(&link).await.ok()["openapi"], "3.0.0");

    admin.delete(&format!("{API_SERVICES}/v1.example.com"), None).await.ok();
    until("the group is gone", || async { (admin.get("/apis/example.com").await.status == 404).then_some(()) }).await;
}

#[tokio::test]
async fn openapi_v2_of_another_server_is_merged_and_withdrawn() {
    let world = start().await;
    let admin = &world.admin;
    let path = "/apis/example.com/v1/namespaces/{namespace}/widgets";
    let tag = async || admin.get("/openapi/v2").await.headers["etag"].clone();
    let before = tag().await;
    assert!(!admin.get("/openapi/v2").await.ok()["paths"].has(path));
    world.available().await;
    let merged = admin.get("/openapi/v2").await.ok();
    assert!(merged["paths"].has(path));
    // The other server's own discovery is not of its group version, and what both have is not doubled.
    assert!(merged["paths"]["/apis/"].at("get").list_at("tags").iter().all(|tag| tag == "apis"));
    let definitions = merged["definitions"].as_object().expect("definitions");
    assert!(definitions.contains_key("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"));
    let renamed: Vec<&String> = definitions.keys().filter(|name| name.ends_with("_v2")).collect();
    assert_eq!(renamed, [] as [&String; 0]);
    assert_ne!(tag().await, before);
    let accept = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let protobuf = admin.request(Method::GET, "/openapi/v2").header("accept", accept);
    let protobuf = admin.send(protobuf.body(Body::empty()).expect("a request")).await;
    let protobuf = protobuf.into_body().collect().await.expect("a body").to_bytes();
    assert!(protobuf.windows(path.len()).any(|window| window == path.as_bytes()));

    admin.delete(&format!("{API_SERVICES}/v1.example.com"), None).await.ok();
    until("the paths are gone", || async { (!admin.get("/openapi/v2").await.ok()["paths"].has(path)).then_some(()) })
        .await;
    assert_eq!(tag().await, before);
}

#[tokio::test]
async fn custom_resources_have_local_services_and_trust_is_published() {
    let world = start().await;
    let admin = &world.admin;
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let definition = definition("gadgets", "Gadget", json!([version("v1", json!({ "type": "object" }))]));
    let name = definition["metadata"]["name"].as_str().expect("a name").to_owned();
    let group = definition["spec"]["group"].as_str().expect("a group").to_owned();
    admin.post(definitions, definition).await.ok();
    let path = format!("{API_SERVICES}/v1.{group}");
    let found = async |code: u16| -> Answer {
        until(&format!("{path}: {code}"), || async {
            let answer = admin.get(&path).await;
            (answer.status == code).then_some(answer)
        })
        .await
    };
    let service = found(200).await.json();
    assert_eq!(service["metadata"]["labels"], json!({ "kube-aggregator.kubernetes.io/automanaged": "true" }));
    assert_eq!(service["status"]["conditions"][0]["reason"], "Local");
    admin.delete(&format!("{definitions}/{name}"), None).await.ok();
    found(404).await;

    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "kube-system" } });
    admin.post("/api/v1/namespaces", namespace).await.ok();
    world.register().await;
    let map = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
    for _ in 0..2 {
        let found = until("the ConfigMap", || async {
            let answer = admin.get(map).await;
            (answer.status == 200).then(|| answer.json())
        })
        .await;
        assert_eq!(found["data"]["requestheader-client-ca-file"], "the CA");
        admin.delete(map, None).await.ok();
    }
}
