//! `pods/log`: a container's output, from the pod's kubelet.

use super::location::{Locator, container};
use super::relay::relay;
use crate::api::{ErrorList, FieldError, GroupVersionKind, Path, Status};
use crate::apiserver::request::Query;
use crate::apiserver::respond::{self, Reply};
use crate::apiserver::subresources::Handler;
use crate::apiserver::verbs::Call;
use crate::apiserver::{audit, options};
use crate::net::streaming::accept_log;
use async_trait::async_trait;
use axum::body::Body;
use futures::StreamExt;
use http::header::{ACCEPT_ENCODING, CONNECTION, UPGRADE};
use http::{HeaderValue, Request, StatusCode};
use std::sync::Arc;
use tokio::io::AsyncWriteExt;

pub struct Log {
    pub locator: Arc<Locator>,
}

#[async_trait]
impl Handler for Log {
    async fn handle(&self, call: Call<'_>) -> Result<Reply, Status> {
        let (namespace, name) = (&call.info.namespace, &call.info.name);
        for name in NUMBERS {
            options::integer(call.query, name)?;
        }
        let errors = validate(call.query);
        if !errors.is_empty() {
            return Err(Status::invalid(&GroupVersionKind::new("", "v1", "PodLogOptions"), name, &errors));
        }
        let pod = self.locator.get("pods", namespace, name)?;
        let container = container(&pod, call.query.get("container").unwrap_or_default())?;
        let Some(node) = self.locator.node_of(&pod)? else {
            // Nothing was written where nothing runs.
            return Ok(respond::nothing());
        };
        let mut path = format!("/containerLogs/{namespace}/{name}/{container}");
        let query = parameters(call.query);
        if !query.is_empty() {
            path.push('?');
            path.push_str(&query);
        }
        let mut request = call.request;
        let socket = accept_log(&mut request).map_err(|error| Status::bad_request(error.to_string()))?;
        let connection = self.locator.connect_kubelet(&node).await?;
        let mut plain = Request::new(Body::empty());
        *plain.headers_mut() = request.headers().clone();
        for header in [CONNECTION, UPGRADE] {
            plain.headers_mut().remove(header);
        }
        plain.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let answer = relay(connection, plain, &path, &node.name).await?;
        if !answer.status().is_success() {
            return Err(kubelet_error(answer).await);
        }
        let Some((response, upgrade)) = socket else { return Ok(answer) };
        let hold = audit::hold();
        tokio::spawn(async move {
            let _hold = hold;
            let socket = match upgrade.await {
                Ok(socket) => socket,
                Err(error) => {
                    tracing::debug!(%error, "logs over a WebSocket were not taken up");
                    return;
                }
            };
            let gone = socket.gone();
            let mut output = socket.output();
            let mut body = answer.into_body().into_data_stream();
            loop {
                let piece = tokio::select! {
                    piece = body.next() => piece,
                    () = gone.cancelled() => return,
                };
                let Some(Ok(piece)) = piece else { break };
                if output.write_all(&piece).await.is_err() {
                    return;
                }
            }
            drop(output);
            socket.close().await;
        });
        Ok(response)
    }
}

const NUMBERS: &[&str] = &["limitBytes", "sinceSeconds", "tailLines"];
const MAX_ERROR_BYTES: usize = 64 << 10;

/// What the kubelet said, as a Status with its code.
async fn kubelet_error(answer: Reply) -> Status {
    let code = answer.status();
    let bytes = axum::body::to_bytes(answer.into_body(), MAX_ERROR_BYTES).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
    match code {
        StatusCode::BAD_REQUEST => Status::bad_request(text),
        StatusCode::NOT_FOUND => Status::failure(404, "NotFound", text),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Status::internal(format!("Authorization error (the kubelet refuses the API server: {text})"))
        }
        _ => Status::internal(text),
    }
}

/// Those of the API, as the kubelet takes them.
fn parameters(query: &Query) -> String {
    let mut out = form_urlencoded::Serializer::new(String::new());
    for flag in ["follow", "previous", "timestamps"] {
        if query.flag(flag) == Some(true) {
            out.append_pair(flag, "true");
        }
    }
    for name in ["sinceSeconds", "sinceTime", "tailLines", "limitBytes", "stream"] {
        if let Some(value) = query.get(name).filter(|value| !value.is_empty()) {
            out.append_pair(name, value);
        }
    }
    out.finish()
}

/// As `ValidatePodLogOptions` does.
fn validate(query: &Query) -> ErrorList {
    let mut errors = ErrorList::new();
    let number = |name: &str| query.get(name).and_then(|value| value.parse::<i64>().ok());
    for (name, least, detail) in
        [("tailLines", 0, "must be greater than or equal to 0"), ("limitBytes", 1, "must be greater than 0")]
    {
        if let Some(value) = number(name)
            && value < least
        {
            errors.push(FieldError::invalid(&Path::new(name), value, detail));
        }
    }
    match (number("sinceSeconds"), query.get("sinceTime").filter(|time| !time.is_empty())) {
        (Some(_), Some(_)) => {
            errors.push(FieldError::forbidden(
                &Path::new(""),
                "at most one of `sinceTime` or `sinceSeconds` may be specified",
            ));
        }
        (Some(seconds), None) if seconds < 1 => {
            errors.push(FieldError::invalid(&Path::new("sinceSeconds"), seconds, "must be greater than 0"));
        }
        _ => {}
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::parse(&format!("/x?{text}").parse().unwrap())
    }

    #[test]
    fn parameters_pass_through() {
        assert_eq!(
            parameters(&query("follow=true&previous=false&timestamps=1&tailLines=5&container=c&pretty=true")),
            "follow=true&timestamps=true&tailLines=5"
        );
    }

    #[test]
    fn bad_parameters_are_named() {
        let texts = |text: &str| validate(&query(text)).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(texts("tailLines=0&limitBytes=1&sinceSeconds=1").is_empty());
        assert_eq!(
            texts("tailLines=-1&limitBytes=0&sinceSeconds=0"),
            [
                "tailLines: Invalid value: -1: must be greater than or equal to 0",
                "limitBytes: Invalid value: 0: must be greater than 0",
                "sinceSeconds: Invalid value: 0: must be greater than 0",
            ]
        );
    }
}
