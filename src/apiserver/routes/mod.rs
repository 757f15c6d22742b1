//! Paths beside the resources: discovery, OpenAPI, version, health, metrics, and what other rooms
//! add.

pub mod health;
pub mod openid;
pub mod websocket;

use super::request::{Query, RequestInfo};
use super::respond::{self, Reply};
use super::state::State;
use super::{discovery, no_such_verb, openapi};
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
        (Some("" | "apis" | "healthz" | "livez" | "readyz"), _, None) => true,
        (Some("healthz" | "livez" | "readyz"), ..) => true,
        _ => false,
    }
}

fn answer(state: &Arc<State>, query: &Query, request: &Request<Body>, path: &str) -> Option<Result<Reply, Status>> {
    match path {
        "/" => return Some(Ok(respond::json(StatusCode::OK, &json!({ "paths": paths(state) })))),
        "/version" | "/version/" => return Some(Ok(respond::json(StatusCode::OK, &version::info()))),
        "/metrics" => {
            state.flow_control.measure();
            let content_type = http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            return Some(Ok(respond::bytes(StatusCode::OK, content_type, state.metrics.text(state))));
        }
        _ => {}
    }
    if let Some(reply) = health::serve(state, query, path) {
        return Some(Ok(reply));
    }
    if path.starts_with("/api") {
        let rows = state.registry.rows();
        let remotes = state.aggregator.remotes();
        return discovery::serve(&state.discovery, &rows, &remotes, request.headers(), query, path);
    }
    if path.starts_with("/openapi/") && !path.ends_with('/') {
        return openapi::serve(state, request.headers(), query.get("hash"), path);
    }
    None
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
    paths.extend(["/metrics", "/openapi/v2", "/openapi/v3", "/version"].map(str::to_owned));
    paths.extend(state.routes.keys().map(|path| (*path).to_owned()));
    paths.sort_unstable();
    paths.dedup();
    paths
}
