//! The API server in-process: a client of its tower service, over a store in memory.

use axum::body::Body;
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use orch::api::UserInfo;
use orch::apiserver::{Config, Server, authn, authz, services};
use orch::resources::Registry;
use orch::storage::SqliteStorage;
use serde_json::{Value, json};
use std::sync::Arc;
use tower::ServiceExt;

/// A server and who talks to it.
#[derive(Clone)]
pub struct Api {
    pub server: Server,
    pub user: UserInfo,
}

/// One reply, read to its end.
pub struct Answer {
    pub status: StatusCode,
    pub headers: http::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The object of a successful reply.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(self.status.is_success(), "{} {}", self.status, self.text);
        self.json()
    }

    #[track_caller]
    pub fn is(self, code: u16) {
        assert_eq!(self.status.as_u16(), code, "{}", self.text);
    }

    /// Code and message of a refusal.
    #[track_caller]
    pub fn refused(self) -> (u16, String) {
        assert!(!self.status.is_success(), "{} {}", self.status, self.text);
        let status = self.json();
        assert_eq!(status["code"], json!(self.status.as_u16()), "{status}");
        (self.status.as_u16(), status["message"].as_str().unwrap_or_default().to_owned())
    }
}

impl Api {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// One that is composed otherwise.
    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let storage = SqliteStorage::in_memory().await;
        let mut config = Config {
            webhooks: orch::apiserver::webhook::Client::direct(storage.clone()),
            storage,
            registry: Arc::new(Registry::built_in()),
            authenticators: Vec::new(),
            authorizers: vec![Arc::new(authz::PrivilegedGroup)],
            admission: Default::default(),
            handlers: Vec::new(),
            routes: Vec::new(),
            services: services::Ranges::default(),
            aggregation: orch::apiserver::aggregation::Options::default(),
            flow_control: orch::apiserver::flow_control::Options::default(),
            about: Default::default(),
            audit: None,
        };
        change(&mut config);
        Self { server: Server::new(config), user: UserInfo::new("admin", &["system:masters"]) }
    }

    pub fn request(&self, method: Method, path: &str) -> http::request::Builder {
        Request::builder().method(method).uri(path).extension(self.user.clone())
    }

    pub async fn send(&self, request: Request<Body>) -> http::Response<Body> {
        self.server.clone().oneshot(request).await.expect("infallible")
    }

    pub async fn answer(&self, request: Request<Body>) -> Answer {
        let (parts, body) = self.send(request).await.into_parts();
        let bytes = body.collect().await.expect("a whole body").to_bytes();
        Answer { status: parts.status, headers: parts.headers, text: String::from_utf8_lossy(&bytes).into_owned() }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.answer(self.request(Method::GET, path).body(Body::empty()).expect("a request")).await
    }

    pub async fn get_as(&self, path: &str, accept: &str) -> Answer {
        let request = self.request(Method::GET, path).header(header::ACCEPT, accept);
        self.answer(request.body(Body::empty()).expect("a request")).await
    }

    pub async fn write(&self, method: Method, path: &str, body: &Value) -> Answer {
        self.write_as(method, path, "application/json", body.to_string()).await
    }

    pub async fn write_as(&self, method: Method, path: &str, content_type: &str, body: String) -> Answer {
        let request = self.request(method, path).header(header::CONTENT_TYPE, content_type);
        self.answer(request.body(Body::from(body)).expect("a request")).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.write(Method::POST, path, &body).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.write(Method::PUT, path, body).await
    }

    pub async fn merge(&self, path: &str, patch: Value) -> Answer {
        self.write_as(Method::PATCH, path, "application/merge-patch+json", patch.to_string()).await
    }

    pub async fn delete(&self, path: &str, options: Option<Value>) -> Answer {
        match options {
            Some(options) => self.write(Method::DELETE, path, &options).await,
            None => self.answer(self.request(Method::DELETE, path).body(Body::empty()).expect("a request")).await,
        }
    }

    /// A ConfigMap in the namespace `a`.
    pub async fn config_map(&self, name: &str, labels: Value) -> Value {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": {"k": "v"}});
        self.post(CONFIG_MAPS, object).await.ok()
    }
}

pub const CONFIG_MAPS: &str = "/api/v1/namespaces/a/configmaps";

#[tokio::test]
async fn without_an_identity_there_is_nothing() {
    let api = Api::new().await;
    let request = Request::get("/api/v1/nodes").body(Body::empty()).expect("a request");
    assert_eq!(api.answer(request).await.refused(), (401, "Unauthorized".to_owned()));
    let nobody = Api { user: UserInfo::new("ann", &[]), ..api };
    let (code, message) = nobody.get("/api/v1/namespaces/a/pods").await.refused();
    assert_eq!(code, 403);
    assert_eq!(
        message,
        "pods is forbidden: User \"ann\" cannot list resource \"pods\" in API group \"\" in the namespace \"a\""
    );
    let anonymous = authn::anonymous();
    assert_eq!(anonymous.name, "system:anonymous");
}

#[tokio::test]
async fn paths_that_are_not_served() {
    let api = Api::new().await;
    for path in
        ["/api/v1/nope", "/apis/apps/v9", "/apis/apps/v9/deployments", "/api/v1/namespaces/a/configmaps/x/status"]
    {
        let (code, message) = api.get(path).await.refused();
        assert_eq!((code, message.as_str()), (404, "the server could not find the requested resource"), "{path}");
    }
    let answer = api.get("/nope").await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (404, "404 page not found\n"));
    for (method, path) in [
        (Method::PUT, CONFIG_MAPS),
        (Method::PATCH, CONFIG_MAPS),
        (Method::POST, "/api/v1/namespaces/a/configmaps/x"),
        (Method::DELETE, "/api/v1/namespaces"),
        (Method::POST, "/version"),
    ] {
        let (code, _) = api.write(method, path, &json!({})).await.refused();
        assert_eq!(code, 405, "{path}");
    }
}

#[tokio::test]
async fn a_life_of_one_object() {
    let api = Api::new().await;
    let made = api.config_map("x", json!({"app": "a"})).await;
    assert_eq!(made["metadata"]["namespace"], "a");
    assert_eq!(made["metadata"].get("generation"), None);
    let path = "/api/v1/namespaces/a/configmaps/x";
    assert_eq!(api.get(path).await.ok(), made);

    // The same again writes nothing.
    assert_eq!(api.put(path, &made).await.ok()["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    let mut changed = made.clone();
    changed["data"]["k"] = json!("w");
    let changed = api.put(path, &changed).await.ok();
    assert_ne!(changed["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    assert_eq!(changed["metadata"]["uid"], made["metadata"]["uid"]);

    let (code, message) = api.put(path, &made).await.refused();
    assert_eq!(code, 409);
    assert!(message.ends_with("please apply your changes to the latest version and try again"), "{message}");
    let mut unconditional = made.clone();
    unconditional["metadata"]["resourceVersion"] = json!("");
    api.put(path, &unconditional).await.ok();
    let mut other = made.clone();
    other["metadata"]["uid"] = json!("00000000-0000-0000-0000-000000000000");
    other["metadata"]["resourceVersion"] = json!("");
    let (code, message) = api.put(path, &other).await.refused();
    assert_eq!(code, 409);
    assert!(message.contains("Key: /registry/configmaps/a/x"), "{message}");

    let merged = api.merge(path, json!({"metadata": {"labels": {"b": "c"}}})).await.ok();
    assert_eq!(merged["metadata"]["labels"], json!({"app": "a", "b": "c"}));
    let gone = api.delete(path, None).await.ok();
    assert_eq!(gone["status"], "Success");
    assert_eq!(gone["details"]["uid"], made["metadata"]["uid"]);
    assert_eq!(api.get(path).await.refused(), (404, "configmaps \"x\" not found".to_owned()));
}

#[tokio::test]
async fn names_are_generated_and_dry_runs_leave_nothing() {
    let api = Api::new().await;
    let object = json!({"metadata": {"generateName": "gen-"}});
    let made = api.post(CONFIG_MAPS, object.clone()).await.ok();
    let name = made["metadata"]["name"].as_str().expect("a name");
    assert!(name.starts_with("gen-") && name.len() == 9, "{name}");
    api.post(&format!("{CONFIG_MAPS}?dryRun=All"), object).await.ok();
    assert_eq!(api.get(CONFIG_MAPS).await.ok()["items"].as_array().map(Vec::len), Some(1));
    let (code, message) = api.post(&format!("{CONFIG_MAPS}?dryRun=Some"), json!({})).await.refused();
    assert_eq!(code, 422);
    assert!(message.ends_with("dryRun: Unsupported value: [\"Some\"]: supported values: \"All\""), "{message}");
    let (code, message) = api.post(CONFIG_MAPS, json!({"metadata": {"name": "q", "namespace": "b"}})).await.refused();
    assert_eq!(code, 400);
    assert_eq!(message, "the namespace of the provided object does not match the namespace sent on the request");
}

#[tokio::test]
async fn concurrent_patches_are_all_kept() {
    let api = Api::new().await;
    api.config_map("x", json!({})).await;
    let patches = (0..20).map(|index| {
        let api = api.clone();
        async move {
            let mut data = serde_json::Map::new();
            data.insert(format!("k{index}"), json!("v"));
            api.merge("/api/v1/namespaces/a/configmaps/x", json!({ "data": data })).await.ok();
        }
    });
    futures::future::join_all(patches).await;
    let object = api.get("/api/v1/namespaces/a/configmaps/x").await.ok();
    assert_eq!(object["data"].as_object().map(serde_json::Map::len), Some(21));
}

#[tokio::test]
async fn bodies_are_bounded() {
    let api = Api::new().await;
    let huge = json!({"metadata": {"name": "x"}, "data": {"k": "v".repeat(4 << 20)}});
    assert_eq!(api.post(CONFIG_MAPS, huge).await.refused().0, 413);
    let deep = "[".repeat(100_000);
    assert_eq!(api.write_as(Method::POST, CONFIG_MAPS, "application/json", deep).await.refused().0, 400);
    let answer = api.write_as(Method::POST, CONFIG_MAPS, "text/plain", "x".to_owned()).await;
    assert_eq!(answer.refused().0, 415);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_end_is_given_up() {
    use futures::StreamExt;
    let api = Api::new().await;
    let begin = futures::stream::once(async { Ok::<_, std::io::Error>("{\"apiVersion\": ".to_owned()) });
    let body = Body::from_stream(begin.chain(futures::stream::pending()));
    let request = api.request(Method::POST, CONFIG_MAPS).header(header::CONTENT_TYPE, "application/json");
    let since = tokio::time::Instant::now();
    let (code, message) = api.answer(request.body(body).expect("a request")).await.refused();
    assert_eq!((code, message.as_str()), (504, "Timeout: request did not complete within the allotted timeout"));
    assert!(since.elapsed().as_secs() < 65, "{:?}", since.elapsed());
}
