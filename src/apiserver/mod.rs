//! The API server: one [`Server`], a cloneable tower service over the store.
//!
//! A request goes: [`request`] (what is asked) -> [`authn`] -> [`flow_control`] -> [`authz`] ->
//! [`verbs`] or a handler of [`subresources`] -> [`codec`] (decode) -> [`crate::resources::pipeline`] around [`admission`]
//! -> the store -> [`respond`]. Tables, discovery, OpenAPI and metrics are read off the registry of
//! rows. Nothing here knows a kind by name but the handlers of [`subresources`] and [`services`].

pub mod admission;
pub mod aggregation;
pub mod audit;
pub mod authn;
pub mod authz;
pub mod bootstrap;
mod codec;
mod continue_token;
pub mod definitions;
pub mod discovery;
pub mod flow_control;
pub mod follow;
mod indent;
mod listener;
mod metrics;
mod negotiate;
mod openapi;
mod options;
mod parsed;
mod renderings;
pub mod request;
pub mod respond;
pub mod routes;
pub mod services;
mod state;
pub mod subresources;
mod table;
pub mod traces;
pub mod verbs;
pub mod webhook;

pub use listener::Limits;
pub use respond::Reply;
pub use routes::health::HealthCheck;
pub use state::{About, Check, Config, State};

use crate::api::field::go_quote;
use crate::api::{Status, UserInfo};
use axum::body::Body;
use flow_control::Flow;
use futures::future::BoxFuture;
use http::header::{AUTHORIZATION, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Request};
use request::{Query, RequestInfo};
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// A request that is not long running ends after this.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// What an apply patch is sent as.
const APPLY: &[u8] = b"application/apply-patch";

/// The API server. Clones share everything.
///
/// As a service it answers requests from inside the process; [`Server::serve`] puts it behind TLS.
#[derive(Clone)]
pub struct Server {
    state: Arc<State>,
}

impl Server {
    /// To be called inside a tokio runtime: it starts the ticker of watch bookmarks, and serves what
    /// is defined by CustomResourceDefinitions.
    pub fn new(config: Config) -> Self {
        let (definitions, start) = definitions::Definitions::new();
        let state = Arc::new(State::new(config, definitions));
        verbs::watch::tick(&state);
        definitions::start(&state, start);
        flow_control::start(&state);
        aggregation::start(&state);
        Self { state }
    }

    pub fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// From now on requests are recorded as spans; only the first tracer counts.
    pub fn trace(&self, tracer: Arc<traces::Tracer>) {
        self.state.tracer.get_or_init(|| tracer);
    }

    /// Ends all watches and other long-running requests; new ones are refused with 503.
    pub fn shut_down(&self) {
        self.state.shutdown.cancel();
    }
}

impl tower::Service<Request<Body>> for Server {
    type Response = Reply;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Reply, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let state = self.state.clone();
        Box::pin(async move { Ok(answer(state, request).await) })
    }
}

async fn answer(state: Arc<State>, mut request: Request<Body>) -> Reply {
    let started = Instant::now();
    let query = Query::parse(request.uri());
    let info = RequestInfo::parse(request.method(), request.uri(), &query);
    let long_running = info.is_long_running();
    let asker = negotiate::Asker::of(&request);
    let inflight = state.metrics.begin(&info, || state.serves(&info));
    let apply = request.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(APPLY));
    let audit_id = audit::id(request.headers());
    let (mut trail, mut marks) = (None, Marks::default());
    let dry_run = query.get("dryRun").is_some_and(|given| !given.is_empty());
    let handled = handle(&state, &info, query, &mut request, &audit_id, &mut trail, &mut marks);
    let handled = async {
        if long_running {
            return handled.await;
        }
        let late = || Status::timeout("Timeout: request did not complete within the allotted timeout");
        tokio::time::timeout(REQUEST_TIMEOUT, handled).await.unwrap_or_else(|_| Err(late()))
    };
    let (result, waited) = metrics::waiting(handled).await;
    let mut reply = match result {
        Ok(reply) => reply,
        Err(status) => {
            codec::drain(request.into_body()).await;
            respond::status_in(&status, asker.output())
        }
    };
    if let Some(flow) = &marks.flow {
        flow.mark(reply.headers_mut());
    }
    if marks.refused {
        reply.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
    if let Some(trail) = trail {
        reply = trail.finish(&info, reply).await;
    }
    reply.headers_mut().insert(audit::AUDIT_ID, audit_id);
    let (routed, elapsed) = (marks.routed, started.elapsed());
    let outcome = metrics::Outcome { reply: &reply, routed, dry_run, apply, elapsed, waited };
    state.metrics.end(inflight, &info, &outcome);
    reply
}

/// What a reply is marked with.
#[derive(Default)]
struct Marks {
    flow: Option<Flow>,
    /// The sender may not: no resource was asked.
    refused: bool,
    /// A resource that is served, or a page, was asked, or would have been.
    routed: bool,
}

async fn handle(
    state: &Arc<State>,
    info: &RequestInfo,
    query: Query,
    request: &mut Request<Body>,
    audit_id: &HeaderValue,
    trail: &mut Option<Arc<audit::Trail>>,
    marks: &mut Marks,
) -> Result<Reply, Status> {
    let since = Instant::now();
    let authenticated = authenticate(state, request).await;
    state.metrics.access.authenticated(authenticated.as_ref().ok(), since.elapsed(), || credential(request));
    if let Some(left) = request.extensions().get::<authn::ConnectionInfo>().and_then(|connection| connection.left()) {
        state.metrics.access.certificate(left);
    }
    let user = match authenticated {
        Ok(user) => user,
        Err(status) => {
            let audit = state.audit.as_ref();
            *trail = audit.and_then(|audit| audit.begin_refused(info, request, audit_id));
            return Err(status);
        }
    };
    let begun = state.audit.as_ref().and_then(|audit| audit.begin(&user, info, request, audit_id));
    if let Some(begun) = &begun
        && let Err(audit::NotRecorded) = begun.received().await
    {
        codec::drain(std::mem::take(request.body_mut())).await;
        let path = go_quote(&request.uri().to_string());
        let text = format!("Internal Server Error: {path}: failed to store audit event\n");
        return Ok(respond::text(http::StatusCode::INTERNAL_SERVER_ERROR, text));
    }
    *trail = begun;
    let followed = traces::begin(state.tracer.get(), &user, info, request, audit_id);
    let served = async {
        let Some(trail) = trail else { return serve(state, info, query, user, request, None, marks).await };
        trail.clone().follow(serve(state, info, query, user, request, Some(trail), marks)).await
    };
    match followed {
        None => served.await,
        Some(followed) => Box::pin(followed.follow(served)).await,
    }
}

/// A request whose sender is known.
async fn serve(
    state: &Arc<State>,
    info: &RequestInfo,
    query: Query,
    user: UserInfo,
    request: &mut Request<Body>,
    trail: Option<&audit::Trail>,
    marks: &mut Marks,
) -> Result<Reply, Status> {
    let attributes = attributes(&user, info, &query);
    marks.refused = true;
    let impersonated = authn::impersonate(request.headers_mut(), &attributes, &state.authorizers).await?;
    marks.refused = false;
    if let (Some(trail), Some((user, constraint))) = (trail, &impersonated) {
        trail.impersonated(user, *constraint);
    }
    let user = impersonated.map_or(user, |(user, _)| user);
    marks.flow = state.flow_control.classify(&user, info);
    // Held until there is an answer: a watch holds none while it goes on.
    let _seats = match &marks.flow {
        None => None,
        Some(flow) => {
            let seats = || flow_control::seats(&*state.storage, info, &query);
            let since = Instant::now();
            let entered = state.flow_control.enter(flow, seats).await;
            metrics::waited(since.elapsed());
            match entered {
                Ok(entered) => Some(entered),
                Err(refusal) => {
                    marks.routed = state.serves(info);
                    codec::drain(std::mem::take(request.body_mut())).await;
                    return Ok(refusal);
                }
            }
        }
    };
    marks.refused = true;
    authorize(state, &self::attributes(&user, info, &query)).await?;
    marks.refused = false;
    let request = std::mem::replace(request, Request::new(Body::empty()));
    if let Some(remote) = state.aggregator.find(&info.path) {
        return Ok(aggregation::serve(state, &remote, &user, request).await);
    }
    if !info.is_resource {
        marks.routed = true;
        return routes::serve(state, info, &query, &user, request).await;
    }
    let Some(row) = state.registry.row(&info.group, &info.version, &info.resource) else {
        // Only groups that are built in have routes of their own.
        let rows = state.registry.rows();
        let built_in = rows.group(&info.group).is_some_and(|group| {
            group.name.is_empty() || group.versions.iter().any(|version| version.rows.iter().any(|row| !row.custom))
        });
        return if built_in { Err(no_such_resource()) } else { Ok(respond::page_not_found()) };
    };
    marks.routed = state::serves(&row, info);
    verbs::route(verbs::Call { state, info, query: &query, row: &row, user: &user, request }).await
}

async fn authorize(state: &State, attributes: &authz::Attributes<'_>) -> Result<(), Status> {
    let since = Instant::now();
    let decision = authz::decide(&state.authorizers, attributes).await;
    state.metrics.access.authorized(&decision, since.elapsed());
    match decision {
        authz::Decision::Allow(reason) => {
            audit::authorized("allow", reason);
            Ok(())
        }
        authz::Decision::Deny(reason) | authz::Decision::NoOpinion(reason) => {
            audit::authorized("forbid", reason.clone());
            Err(authz::forbidden(attributes, &reason))
        }
    }
}

async fn authenticate(state: &State, request: &mut Request<Body>) -> Result<UserInfo, Status> {
    // Only a caller inside the process can have put it there: the listener starts with none.
    if let Some(user) = request.extensions_mut().remove::<UserInfo>() {
        return Ok(user);
    }
    let (parts, body) = std::mem::replace(request, Request::new(Body::empty())).into_parts();
    let mut found = Ok(None);
    for authenticator in &state.authenticators {
        found = authenticator.authenticate(&parts).await;
        if !matches!(found, Ok(None)) {
            break;
        }
    }
    *request = Request::from_parts(parts, body);
    found?.ok_or_else(Status::unauthorized)
}

/// Whether a request brought something to be known by.
fn credential(request: &Request<Body>) -> bool {
    let connection = request.extensions().get::<authn::ConnectionInfo>();
    request.headers().contains_key(AUTHORIZATION)
        || connection.is_some_and(|connection| !connection.certificates.is_empty())
}

/// What the authorizers are asked.
fn attributes<'a>(user: &'a UserInfo, info: &'a RequestInfo, query: &'a Query) -> authz::Attributes<'a> {
    let resource = info.is_resource.then(|| authz::ResourceAttributes {
        group: &info.group,
        version: &info.version,
        resource: &info.resource,
        subresource: &info.subresource,
        namespace: &info.namespace,
        name: &info.name,
        field_selector: query.get("fieldSelector").unwrap_or_default(),
    });
    authz::Attributes { user, verb: info.verb, resource, path: &info.path }
}

/// The 404 of a path that no resource is served at.
pub fn no_such_resource() -> Status {
    let mut status = Status::failure(404, "NotFound", "the server could not find the requested resource");
    status.details = Some(Box::default());
    status
}

/// The 405 of a verb that the resource does not have.
pub fn no_such_verb() -> Status {
    let mut status =
        Status::failure(405, "MethodNotAllowed", "the server does not allow this method on the requested resource");
    status.details = Some(Box::default());
    status
}
