//! Audit: who asked what, when, and what came of it, in a log by a [`Policy`].
//!
//! [`super::answer`] begins a [`Trail`] per request that the policy wants recorded and ends it with
//! the reply; what handles the request on the way may [`annotate`]. Source: "Auditing", and
//! `endpoints/filters/audit.go`.

mod counts;
mod event;
pub mod log;
mod policy;
pub mod webhook;

pub use counts::Counts;
pub use log::Log;
pub use policy::{Level, Policy};
pub use webhook::Webhook;

use super::authn::ConnectionInfo;
use super::request::RequestInfo;
use super::respond::Reply;
use crate::api::{GroupVersionKind, UserInfo, time};
use crate::schema;
use axum::body::Body;
use bytes::Bytes;
use event::{AuthenticationMetadata, Event, ObjectReference, ResponseStatus, Stage};
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use jiff::Timestamp;
use parking_lot::Mutex;
use policy::Decision;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

/// Names a request in its reply and in every event about it; a client may give its own.
pub const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
/// A longer one of a client's is cut.
const ID_LENGTH: usize = 64;
const USER_AGENT_LENGTH: usize = 1024;
/// Behind a user agent that was cut.
const CUT: &str = "...TRUNCATED";

tokio::task_local! {
    static CURRENT: Arc<Trail>;
}

/// An annotation of the event of the request that is being handled. The first value of a key stays.
pub fn annotate(key: &str, value: impl Into<String>) {
    // Outside of a request, or of one that is not recorded, there is nothing to annotate.
    let _ = CURRENT.try_with(|trail| {
        trail.event.lock().annotations.entry(key.to_owned()).or_insert_with(|| value.into());
    });
}

/// As [`annotate`], where the policy wants what requests bring, too.
pub fn annotate_request(key: &str, value: impl FnOnce() -> String) {
    if CURRENT.try_with(|trail| trail.decision.level >= Level::Request).unwrap_or(false) {
        annotate(key, value());
    }
}

/// The object that a write brings, as it was decoded; `default` completes what is recorded of it.
pub fn requested(object: &Value, default: impl FnOnce(&mut Value)) {
    // Outside of a request, or of one that is not recorded, nobody wants it.
    let _ = CURRENT.try_with(|trail| trail.requested(object, default));
}

/// The patch that a request brings, in JSON or YAML.
pub fn patched(patch: &[u8]) {
    // As above.
    let _ = CURRENT.try_with(|trail| trail.patched(patch));
}

/// Keeps the request that is being handled from being complete, for what goes on after its answer:
/// an upgraded connection.
pub fn hold() -> Option<Hold> {
    CURRENT.try_with(|trail| Hold { _end: trail.end() }).ok()
}

/// See [`hold`].
pub struct Hold {
    _end: Arc<End>,
}

/// What the authorizers said of the request that is being handled.
pub fn authorized(decision: &str, reason: String) {
    annotate("authorization.k8s.io/decision", decision);
    annotate("authorization.k8s.io/reason", reason);
}

/// Whether annotations of the request that is being handled go anywhere.
pub fn is_recorded() -> bool {
    CURRENT.try_with(|_| ()).is_ok()
}

/// The id of a request: the client's, else a new one.
pub fn id(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(AUDIT_ID).filter(|value| !value.is_empty());
    let given = given.and_then(|value| HeaderValue::from_bytes(&value.as_bytes()[..value.len().min(ID_LENGTH)]).ok());
    given.unwrap_or_else(|| {
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        // Every request has one: not worth a call of the kernel each.
        let uuid = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
        let text = uuid.hyphenated().encode_lower(&mut text);
        HeaderValue::from_str(text).expect("hexadecimal digits")
    })
}

/// When a request goes on: before its events are where they belong, or behind that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    Batch,
    #[default]
    Blocking,
    /// It does not go on where its first event cannot be recorded.
    BlockingStrict,
}

impl Mode {
    /// As the flags name them.
    pub const ALL: &[(&str, Self)] =
        &[("batch", Self::Batch), ("blocking", Self::Blocking), ("blocking-strict", Self::BlockingStrict)];
}

/// What is recorded, and where to.
pub struct Audit {
    policy: Policy,
    log: Option<Log>,
    webhook: Option<Webhook>,
    counts: Counts,
}

/// The first event of a request is lost, where that must not be.
#[derive(Debug)]
pub struct NotRecorded;

impl Audit {
    /// False: it is lost, and must not be.
    fn write(&self, line: &[u8]) -> bool {
        let mut kept = true;
        if self.webhook.as_ref().is_some_and(|webhook| !webhook.put(line)) {
            self.counts.lost("webhook");
        }
        if let Some(log) = &self.log
            && let Err(error) = log.write(line)
        {
            self.counts.lost("log");
            tracing::error!(%error, "an audit event is lost: the audit log cannot be written");
            kept = log.mode() != Mode::BlockingStrict;
        }
        kept
    }

    fn blocks(&self) -> bool {
        self.webhook.as_ref().is_some_and(|webhook| webhook.mode() != Mode::Batch)
    }

    /// To a webhook that requests wait for. False: it is lost, and must not be.
    async fn deliver(&self, line: &[u8]) -> bool {
        let Some(webhook) = self.webhook.as_ref().filter(|_| self.blocks()) else { return true };
        let delivered = webhook.deliver(line).await;
        if !delivered {
            self.counts.lost("webhook");
        }
        delivered || webhook.mode() != Mode::BlockingStrict
    }

    pub fn new(policy: Policy, log: Option<Log>, webhook: Option<Webhook>) -> Self {
        Self { policy, log, webhook, counts: Counts::default() }
    }

    pub fn counts(&self) -> Counts {
        self.counts.clone()
    }

    /// Begin the trail of a request, received just now; None: nothing of it is recorded.
    /// [`Trail::received`] is to be called next.
    pub fn begin<B>(
        self: &Arc<Self>,
        user: &UserInfo,
        info: &RequestInfo,
        request: &Request<B>,
        id: &HeaderValue,
    ) -> Option<Arc<Trail>> {
        self.trail(user, info, request, id)
    }

    /// As [`Audit::begin`], of a request that nobody proved to be the sender of: its one event is its
    /// answer.
    pub fn begin_refused<B>(
        self: &Arc<Self>,
        info: &RequestInfo,
        request: &Request<B>,
        id: &HeaderValue,
    ) -> Option<Arc<Trail>> {
        let trail = self.trail(&UserInfo::default(), info, request, id)?;
        trail.refused.store(true, Ordering::Release);
        Some(trail)
    }

    fn trail<B>(
        self: &Arc<Self>,
        user: &UserInfo,
        info: &RequestInfo,
        request: &Request<B>,
        id: &HeaderValue,
    ) -> Option<Arc<Trail>> {
        let decision = self.policy.decide(user, info);
        self.counts.level(decision.level);
        if decision.level == Level::None {
            return None;
        }
        let now = time::micros(Timestamp::now());
        let reference = |info: &RequestInfo| ObjectReference {
            resource: info.resource.clone(),
            namespace: info.namespace.clone(),
            name: info.name.clone(),
            api_group: info.group.clone(),
            api_version: info.version.clone(),
            subresource: info.subresource.clone(),
            ..ObjectReference::default()
        };
        let agent = request.headers().get(USER_AGENT).map(HeaderValue::as_bytes).unwrap_or_default();
        let (agent, cut) = match agent.get(..USER_AGENT_LENGTH) {
            Some(start) if agent.len() > USER_AGENT_LENGTH => (start, CUT),
            _ => (agent, ""),
        };
        let event = Event {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level: decision.level,
            audit_id: id.to_str().unwrap_or_default().to_owned(),
            stage: Stage::RequestReceived,
            request_uri: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
            verb: info.verb,
            user: user.clone(),
            impersonated_user: None,
            authentication_metadata: None,
            source_ips: source_ips(request),
            user_agent: String::from_utf8_lossy(agent).into_owned() + cut,
            object_ref: info.is_resource.then(|| reference(info)),
            response_status: None,
            request_object: None,
            response_object: None,
            request_received_timestamp: now.clone(),
            stage_timestamp: now,
            annotations: Default::default(),
        };
        Some(Arc::new(Trail {
            audit: self.clone(),
            decision,
            event: Mutex::new(event),
            end: Mutex::default(),
            started: AtomicBool::new(false),
            refused: AtomicBool::new(false),
        }))
    }
}

/// The forwarding proxies' word first, then the peer.
fn source_ips<B>(request: &Request<B>) -> Vec<String> {
    let headers = request.headers();
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let forwarded = text("x-forwarded-for").split(',').chain([text("x-real-ip")]).map(str::trim);
    let mut all: Vec<String> = Vec::new();
    let peer = request.extensions().get::<ConnectionInfo>().and_then(|connection| connection.peer);
    let given = forwarded.filter_map(|text| text.parse::<std::net::IpAddr>().ok());
    for address in given.chain(peer.map(|peer| peer.ip())) {
        let address = address.to_canonical().to_string();
        if !all.contains(&address) {
            all.push(address);
        }
    }
    all
}

/// One request on its way, as far as it is recorded.
pub struct Trail {
    audit: Arc<Audit>,
    decision: Decision,
    event: Mutex<Event>,
    /// Whoever has a part in the answer of a long request.
    end: Mutex<Weak<End>>,
    /// The answer of a long request has begun.
    started: AtomicBool,
    /// Nobody was authenticated.
    refused: AtomicBool,
}

impl Trail {
    fn end(self: &Arc<Self>) -> Arc<End> {
        let mut known = self.end.lock();
        known.upgrade().unwrap_or_else(|| {
            let end = Arc::new(End(self.clone()));
            *known = Arc::downgrade(&end);
            end
        })
    }

    /// Handle the request: what it annotates is in this trail.
    pub async fn follow<F: Future>(self: Arc<Self>, work: F) -> F::Output {
        CURRENT.scope(self, work).await
    }

    /// Record that the request is there. `Err`: that is lost, and it must not go on.
    pub async fn received(&self) -> Result<(), NotRecorded> {
        if self.emit(Stage::RequestReceived).await {
            return Ok(());
        }
        self.audit.counts.rejected();
        Err(NotRecorded)
    }

    /// False: a request that has to be recorded is not.
    async fn emit(&self, stage: Stage) -> bool {
        let Some(line) = self.line(stage) else { return true };
        let written = self.audit.write(&line);
        self.audit.deliver(&line).await && written
    }

    /// The event of a stage, if there is one.
    fn line(&self, stage: Stage) -> Option<Vec<u8>> {
        if self.decision.omit_stages.contains(&stage) {
            return None;
        }
        let line = {
            let mut event = self.event.lock();
            event.stage = stage;
            event.stage_timestamp = time::micros(Timestamp::now());
            let mut line = serde_json::to_vec(&*event).expect("an event prints");
            line.push(b'\n');
            line
        };
        self.audit.counts.event();
        Some(line)
    }

    /// `constraint`: the verb that allowed it; None: the plain one.
    pub fn impersonated(&self, user: &UserInfo, constraint: Option<&'static str>) {
        let mut event = self.event.lock();
        event.impersonated_user = Some(user.clone());
        event.authentication_metadata =
            constraint.map(|impersonation_constraint| AuthenticationMetadata { impersonation_constraint });
    }

    fn requested(&self, object: &Value, default: impl FnOnce(&mut Value)) {
        let mut event = self.event.lock();
        if let Some(reference) = &mut event.object_ref {
            let said = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
            for (known, field) in [
                (&mut reference.name, "name"),
                (&mut reference.namespace, "namespace"),
                (&mut reference.uid, "uid"),
                (&mut reference.resource_version, "resourceVersion"),
            ] {
                if known.is_empty() {
                    *known = said(field);
                }
            }
        }
        if self.decision.level >= Level::Request {
            let mut object = object.clone();
            default(&mut object);
            event.request_object = self.raw(&mut object);
        }
    }

    /// As it was sent; one in YAML as JSON. What cannot be read is not recorded.
    fn patched(&self, patch: &[u8]) {
        if self.decision.level < Level::Request {
            return;
        }
        let patch = serde_json::from_slice(patch).ok().or_else(|| schema::yaml::parse(patch).ok());
        self.event.lock().request_object = patch.and_then(|patch: Value| to_raw_value(&patch).ok());
    }

    fn raw(&self, object: &mut Value) -> Option<Box<RawValue>> {
        if self.decision.omit_managed_fields {
            forget_managed_fields(object);
        }
        to_raw_value(object).ok()
    }

    /// Record the reply; a long one ends with its body.
    pub async fn finish(self: Arc<Self>, info: &RequestInfo, reply: Reply) -> Reply {
        let code = reply.status();
        let long = info.is_long_running();
        if long && (code.is_success() || code.is_informational()) {
            self.event.lock().response_status = Some(ResponseStatus::code(code.as_u16()));
            self.emit(Stage::ResponseStarted).await;
            self.started.store(true, Ordering::Release);
            return reply.map(|body| Body::new(Followed { body, _end: self.end() }));
        }
        let reply = self.look(info, reply).await;
        let refused = self.refused.load(Ordering::Acquire);
        if long || refused {
            self.emit(Stage::ResponseStarted).await;
        }
        if !refused {
            self.emit(Stage::ResponseComplete).await;
        }
        reply
    }

    /// What there is to say of a whole reply.
    async fn look(&self, info: &RequestInfo, reply: Reply) -> Reply {
        let code = reply.status();
        let is_status = answers_status(info) || !code.is_success();
        let wanted = self.decision.level == Level::RequestResponse || is_status;
        if !wanted || !is_object(reply.headers()) || info.is_resource && code == StatusCode::NOT_ACCEPTABLE {
            self.event.lock().response_status = Some(ResponseStatus::code(code.as_u16()));
            return reply;
        }
        let (parts, body) = reply.into_parts();
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => {
                tracing::error!(%error, "a reply has no end");
                Bytes::new()
            }
        };
        self.record(info, &parts.headers, &body, code.as_u16());
        Reply::from_parts(parts, Body::from(body))
    }

    fn record(&self, info: &RequestInfo, headers: &HeaderMap, body: &[u8], code: u16) {
        let object = decode(headers, body);
        let mut event = self.event.lock();
        event.response_status = Some(ResponseStatus::code(code));
        let Some(mut object) = object else { return };
        let is_status = object["kind"] == "Status" && object["apiVersion"] == "v1";
        if is_status && let Ok(status) = serde_json::from_value(object.clone()) {
            event.response_status = Some(ResponseStatus::of(status, code));
        }
        // Of other pages only discovery is made of objects.
        let is_discovery = ["/api", "/apis"]
            .iter()
            .any(|root| info.path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
        if self.decision.level == Level::RequestResponse && (info.is_resource || is_status || is_discovery) {
            event.response_object = self.raw(&mut object);
        }
    }
}

/// Whether a success of it is told in a Status.
fn answers_status(info: &RequestInfo) -> bool {
    match info.verb {
        "delete" | "deletecollection" => true,
        "create" => matches!(&*info.subresource, "binding" | "eviction") || info.resource == "bindings",
        _ => false,
    }
}

/// A stream that is being answered; its event is complete when the last who holds it drops it.
struct End(Arc<Trail>);

impl Drop for End {
    fn drop(&mut self) {
        // One that never began is complete with its answer.
        if self.0.started.load(Ordering::Acquire) {
            let trail = self.0.clone();
            let Some(line) = trail.line(Stage::ResponseComplete) else { return };
            trail.audit.write(&line);
            // Nobody waits for the end of a stream.
            if trail.audit.blocks() {
                tokio::spawn(async move { trail.audit.deliver(&line).await });
            }
        }
    }
}

struct Followed {
    body: Body,
    _end: Arc<End>,
}

impl http_body::Body for Followed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

fn is_object(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"]
        .iter()
        .any(|known| kind.starts_with(known.as_bytes()))
}

/// A body as JSON, whatever form it came in. None: it is none, or not to be read.
fn decode(headers: &HeaderMap, body: &[u8]) -> Option<Value> {
    if body.is_empty() {
        return None;
    }
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("application/json");
    if kind.contains("protobuf") {
        let (api_version, name, message) = schema::protobuf::open(body).ok()?;
        let schema = schema::builtin_schema(&GroupVersionKind::from_api_version(&api_version, &name))?;
        return schema::protobuf::decode_message(&schema, message).ok();
    }
    if kind.contains("yaml") { schema::yaml::parse(body).ok() } else { schema::scan::parse(body).ok() }
}

/// Of an object, of the items of a list, or of the objects of a Table.
fn forget_managed_fields(object: &mut Value) {
    let forget = |object: &mut Value| {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
    };
    forget(object);
    if let Some(items) = object.get_mut("items").and_then(Value::as_array_mut) {
        items.iter_mut().for_each(forget);
    }
    if let Some(rows) = object.get_mut("rows").and_then(Value::as_array_mut) {
        rows.iter_mut().filter_map(|row| row.get_mut("object")).for_each(forget);
    }
}
