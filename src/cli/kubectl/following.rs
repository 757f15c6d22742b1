//! Waiting for what becomes of one object: its state, and each change of it, by a watch.

use super::failure::{Failure, Outcome};
use super::session::{JSON, Query, Session};
use crate::api::Fields;
use crate::client::Kind;
use anyhow::Context;
use futures::{AsyncBufReadExt, StreamExt};
use serde_json::Value;
use std::time::Duration;

/// Show the object to `look` as it is now and after each change, until that has an answer; None:
/// there is no such object.
pub async fn follow<T>(
    session: &Session,
    kind: &Kind,
    namespace: &str,
    name: &str,
    mut look: impl AsyncFnMut(Option<&Value>) -> Outcome<Option<T>>,
) -> Outcome<T> {
    let mut query = Query::default();
    query.set("fieldSelector", &format!("metadata.name={name}"));
    loop {
        let mut list = session.list(kind, namespace, &query).await?;
        let object = list["items"].get_mut(0).map(Value::take).map(|object| complete(object, kind));
        if let Some(answer) = look(object.as_ref()).await? {
            return Ok(answer);
        }
        let mut watch = query.clone();
        watch.set("watch", "true").set("resourceVersion", list.at("metadata").str_at("resourceVersion"));
        let stream = match session.stream(&watch.on(&kind.path(namespace)), JSON).await {
            // The revision is too old by now: look again.
            Err(Failure::Status(status)) if status.code == 410 => continue,
            stream => stream?,
        };
        let mut lines = stream.lines();
        while let Some(line) = lines.next().await {
            let mut event: Value = serde_json::from_str(&line?).context("read the watch")?;
            let object = event["object"].take();
            let answer = match event.str_at("type") {
                "ADDED" | "MODIFIED" => look(Some(&complete(object, kind))).await?,
                "DELETED" => look(None).await?,
                "ERROR" => break,
                _ => None,
            };
            if let Some(answer) = answer {
                return Ok(answer);
            }
        }
    }
}

/// Items of a list need not say their kind.
fn complete(mut object: Value, kind: &Kind) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.entry("apiVersion").or_insert_with(|| kind.api_version().into());
        fields.entry("kind").or_insert_with(|| kind.kind.to_string().into());
    }
    object
}

/// Return when the object, or the one with this UID, is no more.
pub async fn gone(
    session: &Session,
    kind: &Kind,
    namespace: &str,
    name: &str,
    uid: Option<&str>,
    timeout: Option<Duration>,
) -> Outcome<()> {
    let gone = follow(session, kind, namespace, name, async |object: Option<&Value>| {
        let is_other = |object: &Value| uid.is_some_and(|uid| object.at("metadata").str_at("uid") != uid);
        Ok(object.is_none_or(is_other).then_some(()))
    });
    let gone = async {
        match gone.await {
            // Who may delete but not list cannot wait.
            Err(Failure::Status(status)) if matches!(status.code, 403 | 405) => Ok(()),
            other => other,
        }
    };
    within(timeout, gone, || format!("timed out waiting for the condition on {}/{name}", kind.plural)).await
}

/// What takes longer fails with this text.
pub async fn within<T>(
    timeout: Option<Duration>,
    work: impl Future<Output = Outcome<T>>,
    text: impl FnOnce() -> String,
) -> Outcome<T> {
    match timeout {
        None => work.await,
        Some(timeout) => tokio::time::timeout(timeout, work).await.unwrap_or_else(|_| Err(Failure::local(text()))),
    }
}
