//! Paths beside the resources: discovery, OpenAPI, version, health, metrics, and what other rooms
//! add.

pub mod health;
pub mod openid;
mod pages;
pub mod websocket;

use super::request::{Query, RequestInfo};
use super::respond::{self, Reply};
use super::state::State;
use super::{discovery, metrics, negotiate, no_such_verb, openapi};
use crate::api::{Status, UserInfo, version};
use async_trait::async_trait;
use axum::body::Body;
use http::{Method, Request, StatusCode};
use serde_json::json;
use std::sync::Arc;

/// A path that another room answers: `/openid/v1/jwks`.
#[async_trait]
pub trait Route: Send + Sync + 'static {
    async fn serve(&self, user: &UserInfo, request: Request<Body>) -> Result<Reply, Status>;
}

pub async fn serve(
    state: &Arc<State>,
    info: &RequestInfo,
    query: &Query,
    user: &UserInfo,
    request: Request<Body>,
) -> Result<Reply, Status> {
    let path = info.path.as_str();
    if let Some(route) = state.routes.get(path).cloned() {
        return route.serve(user, request).await;
    }
    let read = matches!(*request.method(), Method::GET | Method::HEAD);
    // These do not look at the method; routes of the others know GET.
    let any_method = is_open(path);
    let known = answer(state, query, &request, path);
    let head = *request.method() == Method::HEAD && path.starts_with("/api");
    match known {
        Some(Ok(_)) if !any_method && (!read || head) => Err(no_such_verb()),
        Some(reply) => reply,
        None if path.starts_with("/openapi/v3/") => {
            let mut reply = respond::text(StatusCode::NOT_FOUND, "");
            reply.headers_mut().remove(http::header::CONTENT_TYPE);
            reply.headers_mut().remove(http::header::X_CONTENT_TYPE_OPTIONS);
            Ok(reply)
        }
        None => Ok(respond::page_not_found()),
    }
}

fn is_open(path: &str) -> bool {
    let mut parts = path.trim_matches('/').split('/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some("" | "apis" | "healthz" | "livez" | "readyz" | "statusz" | "flagz"), _, None) => true,
        (Some("metrics"), None | Some("slis"), None) => true,
        (Some("healthz" | "livez" | "readyz"), ..) => true,
        _ => false,
    }
}

fn answer(state: &Arc<State>, query: &Query, request: &Request<Body>, path: &str) -> Option<Result<Reply, Status>> {
    match path {
        "/" => return Some(Ok(respond::json(StatusCode::OK, &json!({ "paths": paths(state) })))),
        "/version" | "/version/" => {
            let version = || respond::json(StatusCode::OK, &version::info());
            return Some(negotiate::routed_json(request.headers()).map(|()| version()));
        }
        "/metrics" => {
            state.flow_control.measure();
            return Some(Ok(measures(state.metrics.text(state))));
        }
        "/metrics/slis" => return Some(Ok(measures(state.indicators.text()))),
        path if path.starts_with("/debug/") => {
            return state.flow_control.page(path).map(|text| Ok(respond::text(StatusCode::OK, text)));
        }
        "/statusz" => return Some(pages::status(request.headers(), &paths(state))),
        "/flagz" => return Some(pages::flags(state, request.headers())),
        _ => {}
    }
    if let Some(reply) = health::serve(state, query, path) {
        return Some(Ok(reply));
    }
    if path.starts_with("/api") {
        let rows = state.registry.rows();
        let remotes = state.aggregator.remotes();
        let address = state.about.address.as_ref().and_then(|address| address());
        return discovery::serve(&state.discovery, &rows, &remotes, request.headers(), query, path, address);
    }
    if path.starts_with("/openapi/") && !path.ends_with('/') {
        return openapi::serve(state, request.headers(), query.get("hash"), path);
    }
    None
}

/// What a scraper reads, and since when it counts.
fn measures(text: String) -> Reply {
    let form = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
    let mut reply = respond::bytes(StatusCode::OK, http::HeaderValue::from_static(form), text);
    if let Some(started) = metrics::started() {
        reply.headers_mut().insert("process-start-time-unix", started.into());
    }
    reply
}

/// What `GET /` lists.
fn paths(state: &State) -> Vec<String> {
    let rows = state.registry.rows();
    let mut paths = vec!["/api".to_owned(), "/apis".to_owned(), "/apis/".to_owned()];
    for group in &rows.groups {
        if group.name.is_empty() {
            paths.extend(group.versions.iter().map(|version| format!("/api/{}", version.name)));
        } else {
            paths.push(format!("/apis/{}", group.name));
            paths.extend(group.versions.iter().map(|version| format!("/apis/{}/{}", group.name, version.name)));
        }
    }
    for remote in &state.aggregator.remotes().all {
        paths.extend([format!("/apis/{}", remote.group), format!("/apis/{}/{}", remote.group, remote.version)]);
    }
    paths.extend(health::paths(state));
    paths.extend(
        ["/flagz", "/metrics", "/metrics/slis", "/openapi/v2", "/openapi/v3", "/statusz", "/version"]
            .map(str::to_owned),
    );
    paths.extend(state.routes.keys().map(|path| (*path).to_owned()));
    paths.sort_unstable();
    paths.dedup();
    paths
}
