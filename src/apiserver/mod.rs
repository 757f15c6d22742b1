//! The API server: one [`Server`], a cloneable tower service over the store.
//!
//! A request goes: [`request`] (what is asked) -> [`authn`] -> [`authz`] -> [`verbs`] or a handler
//! of [`subresources`] -> [`codec`] (decode) -> [`crate::resources::pipeline`] around [`admission`]
//! -> the store -> [`respond`]. Tables, discovery, OpenAPI and metrics are read off the registry of
//! rows. Nothing here knows a kind by name but the handlers of [`subresources`] and [`services`].

pub mod admission;
pub mod authn;
pub mod authz;
pub mod bootstrap;
mod codec;
pub mod definitions;
pub mod discovery;
pub mod follow;
mod listener;
mod metrics;
mod negotiate;
mod openapi;
mod options;
pub mod request;
pub mod respond;
pub mod routes;
pub mod services;
mod state;
pub mod subresources;
mod table;
pub mod verbs;
pub mod webhook;

pub use listener::Limits;
pub use respond::Reply;
pub use state::{Check, Config, State};

use crate::api::{Status, UserInfo};
use axum::body::Body;
use futures::future::BoxFuture;
use http::Request;
use request::{Query, RequestInfo};
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// A request that is not long running ends after this.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

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
        Self { state }
    }

    pub fn state(&self) -> &Arc<State> {
        &self.state
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
    let mut info = RequestInfo::parse(request.method(), request.uri(), &query);
    let long_running = info.is_long_running();
    let inflight = state.metrics.begin(&info);
    let handled = handle(&state, &mut info, query, &mut request);
    let result = if long_running {
        handled.await
    } else {
        match tokio::time::timeout(REQUEST_TIMEOUT, handled).await {
            Ok(result) => result,
            Err(_) => Err(Status::timeout("Timeout: request did not complete within the allotted timeout")),
        }
    };
    let reply = match result {
        Ok(reply) => reply,
        Err(status) => {
            codec::drain(request.into_body()).await;
            respond::status(&status)
        }
    };
    state.metrics.end(inflight, &info, reply.status(), started.elapsed());
    reply
}

async fn handle(
    state: &Arc<State>,
    info: &mut RequestInfo,
    query: Query,
    request: &mut Request<Body>,
) -> Result<Reply, Status> {
    let user = authenticate(state, request).await?;
    let attributes = attributes(&user, info, &query);
    let impersonated = authn::impersonate(request.headers_mut(), &attributes, &state.authorizers).await?;
    let user = impersonated.unwrap_or(user);
    authz::check(&state.authorizers, &self::attributes(&user, info, &query)).await?;
    let request = std::mem::replace(request, Request::new(Body::empty()));
    if !info.is_resource {
        return routes::serve(state, info, &query, &user, request).await;
    }
    let Some(row) = state.registry.row(&info.group, &info.version, &info.resource) else {
        return Err(no_such_resource());
    };
    verbs::route(verbs::Call { state, info, query: &query, row: &row, user: &user, request }).await
}

async fn authenticate(state: &State, request: &mut Request<Body>) -> Result<UserInfo, Status> {
    // Only a caller inside the process can have put it there: the listener starts with none.
    if let Some(user) = request.extensions_mut().remove::<UserInfo>() {
        return Ok(user);
    }
    let (parts, body) = std::mem::replace(request, Request::new(Body::empty())).into_parts();
    let mut found = Err(Status::unauthorized());
    for authenticator in &state.authenticators {
        match authenticator.authenticate(&parts).await {
            Ok(None) => {}
            Ok(Some(user)) => {
                found = Ok(user);
                break;
            }
            Err(status) => {
                found = Err(status);
                break;
            }
        }
    }
    *request = Request::from_parts(parts, body);
    found
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
