//! Whether an extension server is there: the `Available` condition of its APIService.

use super::{Target, connect};
use crate::api::{Fields, GroupResource, UserInfo};
use crate::apiserver::state::State;
use crate::schema::openapi::Foreign;
use crate::storage::{Key, Prefix, Storage};
use bytes::Bytes;
use http::header::{ACCEPT, ETAG, HOST, IF_NONE_MATCH};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// A server that does not answer by then is not there.
const CHECK_TIME: Duration = Duration::from_secs(5);

/// Larger documents are not read.
const DOCUMENT_LIMIT: usize = 8 << 20;

/// Status, reason, message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Available {
    pub status: &'static str,
    pub reason: &'static str,
    pub message: String,
}

impl Available {
    fn no(reason: &'static str, message: String) -> Self {
        Self { status: "False", reason, message }
    }

    pub fn yes() -> Self {
        Self { status: "True", reason: "Passed", message: "all checks passed".to_owned() }
    }

    pub fn local() -> Self {
        Self { status: "True", reason: "Local", message: "Local APIServices are always available".to_owned() }
    }
}

/// Whether the Service listens and has endpoints.
fn reachable(storage: &dyn Storage, target: &Target) -> Result<(), Available> {
    let (name, namespace, port) = (&target.service, &target.namespace, target.port);
    let what = format!("service/{name} in {}", crate::api::field::go_quote(namespace));
    let Some(service) = storage.get(&Key::new(&GroupResource::new("", "services"), namespace, name)) else {
        return Err(Available::no("ServiceNotFound", format!("{what} is not present")));
    };
    let service = service.body.parse();
    let spec = service.at("spec");
    if !matches!(spec.str_at("type"), "" | "ClusterIP") {
        return Ok(());
    }
    let Some(listening) = spec.list_at("ports").iter().find(|one| one.int_at("port") == i64::from(port)) else {
        return Err(Available::no("ServicePortError", format!("{what} is not listening on port {port}")));
    };
    let port_name = listening.str_at("name");
    let prefix = Prefix::namespace(&GroupResource::new("discovery.k8s.io", "endpointslices"), namespace);
    let snapshot = storage.snapshot();
    let slices = snapshot.range(&prefix, None).map(|entry| entry.body.parse());
    let of_service = |slice: &Value| slice.at("metadata").at("labels").str_at("kubernetes.io/service-name") == name;
    let slices: Vec<Value> = slices.filter(of_service).collect();
    if slices.is_empty() {
        return Err(Available::no("EndpointsNotFound", format!("cannot find endpointslices for {what}")));
    }
    let serves = |slice: &Value| {
        let ready = |endpoint: &Value| endpoint.at("conditions").optional_bool("ready").unwrap_or(true);
        slice.list_at("endpoints").iter().any(|endpoint| ready(endpoint) && !endpoint.list_at("addresses").is_empty())
            && slice.list_at("ports").iter().any(|port| port.str_at("name") == port_name)
    };
    if !slices.iter().any(serves) {
        let port_name = crate::api::field::go_quote(port_name);
        let message = format!("endpointslices for {what} have no addresses with port name {port_name}");
        return Err(Available::no("MissingEndpoints", message));
    }
    Ok(())
}

/// What an extension server tells of itself.
#[derive(Default)]
pub struct Told {
    pub resources: Value,
    /// The index of its documents; null: it has none.
    pub openapi: Value,
    pub swagger: Option<Swagger>,
}

/// What its OpenAPI v2 document says of the group version.
#[derive(Clone)]
pub struct Swagger {
    /// Of the whole document: the server's `ETag`, else a hash.
    pub tag: String,
    pub document: Arc<Foreign>,
}

/// Looks whether the server answers for its group version. `before`: what it told last.
pub async fn check(
    state: &State,
    target: &Target,
    group: &str,
    version: &str,
    before: &Told,
) -> Result<Told, Available> {
    reachable(&*state.storage, target)?;
    let path = format!("/apis/{group}/{version}");
    let url = format!("https://{}:{}{path}", target.host(), target.port);
    let failed = |error: String| {
        let message = format!("failing or missing response from {url}: {error}");
        Available::no("FailedDiscoveryCheck", message)
    };
    let user = UserInfo::new("system:kube-aggregator", &[crate::api::user::SYSTEM_MASTERS]);
    let answer = match tokio::time::timeout(CHECK_TIME, get(state, target, &path, &user, None)).await {
        Ok(answer) => answer.map_err(|error| failed(format!("Get \"{url}\": {error}")))?,
        Err(_) => return Err(failed(format!("Get \"{url}\": context deadline exceeded"))),
    };
    if !answer.status.is_success() {
        return Err(failed(format!("bad status from {url}: {}", answer.status.as_u16())));
    }
    let resources = serde_json::from_slice(&answer.body).unwrap_or_default();
    // Not every server has documents: it is available all the same.
    let user = UserInfo::new("system:aggregator", &[]);
    let openapi = match tokio::time::timeout(CHECK_TIME, get(state, target, "/openapi/v3", &user, None)).await {
        Ok(Ok(answer)) if answer.status.is_success() => serde_json::from_slice(&answer.body).unwrap_or_default(),
        _ => Value::Null,
    };
    let known = before.swagger.as_ref();
    let tag = known.map(|swagger| swagger.tag.as_str());
    // One that cannot be had now is as it was.
    let swagger = match tokio::time::timeout(CHECK_TIME, get(state, target, "/openapi/v2", &user, tag)).await {
        Ok(Ok(answer)) if answer.status == StatusCode::OK => swagger(&answer, &format!("{path}/")).or(known.cloned()),
        _ => known.cloned(),
    };
    Ok(Told { resources, openapi, swagger })
}

fn swagger(answer: &Answer, prefix: &str) -> Option<Swagger> {
    let document = Foreign::of(serde_json::from_slice(&answer.body).ok()?, prefix)?;
    let tag = answer.tag.clone().unwrap_or_else(|| {
        use sha2::Digest;
        let hash = sha2::Sha256::digest(&answer.body);
        format!("\"{}\"", hash.iter().map(|byte| format!("{byte:02X}")).collect::<String>())
    });
    Some(Swagger { tag, document: Arc::new(document) })
}

struct Answer {
    status: StatusCode,
    tag: Option<String>,
    body: Bytes,
}

async fn get(state: &State, target: &Target, path: &str, user: &UserInfo, tag: Option<&str>) -> Result<Answer, String> {
    let connection = connect(&*state.storage, &state.webhooks, target).await?;
    let told = |error: hyper::Error| error.to_string();
    let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(connection)).await.map_err(told)?;
    let mut request = Request::get(path).header(HOST, target.host()).header(ACCEPT, "application/json");
    if let Some(tag) = tag {
        request = request.header(IF_NONE_MATCH, tag);
    }
    let mut request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    super::proxy::identify(request.headers_mut(), user)?;
    let exchange = async {
        let (parts, body) = sender.send_request(request).await.map_err(told)?.into_parts();
        let body = Limited::new(body, DOCUMENT_LIMIT).collect().await.map_err(|error| error.to_string())?;
        let tag = parts.headers.get(ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        Ok(Answer { status: parts.status, tag, body: body.to_bytes() })
    };
    // The connection lives as long as the exchange.
    tokio::select! {
        answer = exchange => answer,
        Err(error) = driver => Err(error.to_string()),
    }
}
