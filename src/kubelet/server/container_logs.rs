//! `/containerLogs/{namespace}/{pod}/{container}`.

use super::{ContainerPath, Query, Server, text};
use crate::api::cri::ContainerState;
use crate::kubelet::context::Context;
use crate::kubelet::logs::{self, LogOptions, Stream};
use crate::kubelet::status::CONTAINER_ID_SCHEME;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{Response, StatusCode};
use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};
use std::sync::Arc;
use tokio::sync::{broadcast, watch};
use tokio_stream::wrappers::ReceiverStream;

pub async fn serve(
    State(server): State<Server>,
    Path((namespace, pod, container)): ContainerPath,
    request: Request,
) -> Response<Body> {
    let query = Query::parse(request.uri().query());
    let options = match options(&query) {
        Ok(options) => options,
        Err(error) => return text(StatusCode::BAD_REQUEST, error),
    };
    let shared = match server.find(&namespace, &pod) {
        Ok(shared) => shared,
        Err(response) => return response,
    };
    let found = {
        let state = shared.state.lock();
        container_id(&state.status, &pod, &container, query.is_on("previous"))
            .map(|id| (state.view.container(&id).map(|status| (status.log_path.clone(), status.state)), id))
    };
    let (log, id) = match found {
        Ok((Some(log), id)) => (log, id),
        Ok((None, id)) => {
            let message = format!("unable to retrieve container logs for {CONTAINER_ID_SCHEME}{id}");
            return text(StatusCode::OK, message);
        }
        Err(error) => return text(StatusCode::BAD_REQUEST, error),
    };
    let path = shared.log_directory().join(log.0);
    if let Err(error) = tokio::fs::metadata(&path).await {
        return text(StatusCode::NOT_FOUND, format!("the log of container \"{container}\" is gone: {error}"));
    }
    let running = if options.follow && log.1 == ContainerState::Running {
        watch_running(server.context.clone(), id)
    } else {
        watch::channel(false).1
    };
    let lines = logs::stream(path, options, running);
    let mut response = Response::new(Body::from_stream(ReceiverStream::new(lines)));
    let kind = axum::http::HeaderValue::from_static("text/plain");
    response.headers_mut().insert(axum::http::header::CONTENT_TYPE, kind);
    response
}

fn options(query: &Query) -> Result<LogOptions, String> {
    let now = jiff::Timestamp::now();
    let since = match (query.number("sinceSeconds")?, query.get("sinceTime")) {
        (Some(seconds), _) => {
            let seconds = i64::try_from(seconds).map_err(|_| "sinceSeconds is too large".to_owned())?;
            let span = jiff::SignedDuration::from_secs(seconds);
            Some(now.checked_sub(span).unwrap_or(jiff::Timestamp::UNIX_EPOCH))
        }
        (None, Some(time)) if !time.is_empty() => {
            Some(time.parse().map_err(|_| format!("invalid value {time:?} of sinceTime"))?)
        }
        _ => None,
    };
    Ok(LogOptions {
        follow: query.is_on("follow"),
        timestamps: query.is_on("timestamps"),
        tail_lines: query.number("tailLines")?,
        since,
        limit_bytes: query.number("limitBytes")?,
        stream: match query.get("stream") {
            Some("Stdout") => Stream::Stdout,
            Some("Stderr") => Stream::Stderr,
            _ => Stream::All,
        },
    })
}

/// Which instance of the container is meant; the error is Kubernetes's message.
fn container_id(status: &PodStatus, pod: &str, container: &str, previous: bool) -> Result<String, String> {
    let lists = [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    let found: Option<&ContainerStatus> = lists.into_iter().flatten().flatten().find(|status| status.name == container);
    let Some(found) = found else {
        return Err(format!("container \"{container}\" in pod \"{pod}\" is not available"));
    };
    let state = found.state.clone().unwrap_or_default();
    let last = found.last_state.as_ref().and_then(|last| last.terminated.as_ref());
    let last = last.and_then(|last| last.container_id.clone());
    let id = if previous {
        last.ok_or_else(|| format!("previous terminated container \"{container}\" in pod \"{pod}\" not found"))?
    } else if state.running.is_some() {
        found.container_id.clone().unwrap_or_default()
    } else if let Some(terminated) = state.terminated {
        terminated
            .container_id
            .or(last)
            .ok_or_else(|| format!("container \"{container}\" in pod \"{pod}\" is terminated"))?
    } else if let Some(last) = last {
        last
    } else {
        let reason = state.waiting.and_then(|waiting| waiting.reason).unwrap_or_default();
        let why = match reason.as_str() {
            "ErrImagePull" => "image can't be pulled",
            "ImagePullBackOff" => "trying and failing to pull image",
            "" => "no logs yet",
            other => other,
        };
        return Err(format!("container \"{container}\" in pod \"{pod}\" is waiting to start: {why}"));
    };
    Ok(id.trim_start_matches(CONTAINER_ID_SCHEME).to_owned())
}

/// True until the container ends; looks only when the runtime says that something happened.
fn watch_running(context: Arc<Context>, id: String) -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(true);
    let mut events = context.runtime.events();
    tokio::spawn(async move {
        loop {
            // First a look, for what happened before we listened.
            let status = context.runtime.container_status(&id).await;
            if !status.is_ok_and(|status| status.state == ContainerState::Running) {
                sender.send_replace(false);
                return;
            }
            loop {
                let event = tokio::select! {
                    event = events.recv() => event,
                    () = sender.closed() => return,
                };
                match event {
                    Ok(event) if event.container_id.as_deref() != Some(id.as_str()) => {}
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => break,
                    Err(broadcast::error::RecvError::Closed) => return,
                }
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn which(state: serde_json::Value, last: serde_json::Value, previous: bool) -> Result<String, String> {
        let status: PodStatus =
            serde_json::from_value(json!({"containerStatuses": [{"name": "c", "image": "", "imageID": "",
            "ready": false, "restartCount": 0, "containerID": "orch://now", "state": state, "lastState": last}]}))
            .expect("a status");
        container_id(&status, "p", "c", previous)
    }

    #[test]
    fn which_instance() {
        let ended = |id: &str| json!({"terminated": {"exitCode": 1, "containerID": format!("orch://{id}")}});
        assert_eq!(which(json!({"running": {}}), json!({}), false), Ok("now".into()));
        assert_eq!(which(ended("a"), json!({}), false), Ok("a".into()));
        assert_eq!(which(json!({"waiting": {"reason": "CrashLoopBackOff"}}), ended("a"), false), Ok("a".into()));
        assert_eq!(which(json!({"running": {}}), ended("a"), true), Ok("a".into()));
        assert_eq!(
            which(json!({"running": {}}), json!({}), true),
            Err("previous terminated container \"c\" in pod \"p\" not found".into())
        );
        assert_eq!(
            which(json!({"waiting": {"reason": "ContainerCreating"}}), json!({}), false),
            Err("container \"c\" in pod \"p\" is waiting to start: ContainerCreating".into())
        );
    }
}
