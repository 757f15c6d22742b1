//! Keeps the objects of flow control right: the `Dangling` condition of each FlowSchema, and the
//! default objects as they were shipped (`apf.kubernetes.io/autoupdate-spec`).
//!
//! It begins when all default objects have been seen: on a server that is not set up yet,
//! [`bootstrap`] writes them.

use super::{EXEMPT, FlowControl, LENDING_PERIOD, is_mandatory, name};
use crate::api::{Fields, UserInfo, time};
use crate::apiserver::state::State;
use crate::apiserver::{Server, bootstrap};
use axum::body::Body;
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tower::ServiceExt;

/// A write that failed is tried again after this.
const RETRY: Duration = Duration::from_secs(10);
const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";
const API: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";
const CONSUMER: &str = "api-priority-and-fairness-config-consumer-v1";
const PRODUCER: &str = "api-priority-and-fairness-config-producer-v1";

/// Must be called on a tokio runtime; ends with the server.
pub fn start(state: &Arc<State>) {
    let (control, weak) = (state.flow_control.clone(), Arc::downgrade(state));
    let mending = async move {
        let mut complete = false;
        loop {
            control.changed.notified().await;
            let Some(state) = weak.upgrade() else { return };
            let writes = plan(&control, &mut complete);
            if let Err(error) = write(&state, writes).await {
                tracing::warn!("keep the objects of flow control: {error}");
                drop(state);
                tokio::time::sleep(RETRY).await;
                control.changed.notify_one();
            }
        }
    };
    let control = state.flow_control.clone();
    let lending = async move {
        loop {
            control.wanting.notified().await;
            control.lend();
            tokio::time::sleep(LENDING_PERIOD).await;
        }
    };
    let shutdown = state.shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = mending => {}
            () = lending => {}
        }
    });
}

#[derive(Debug, PartialEq)]
struct Write {
    method: Method,
    path: String,
    content_type: &'static str,
    body: Value,
}

fn plan(control: &FlowControl, complete: &mut bool) -> Vec<Write> {
    let sources = control.sources.lock();
    let stored = |collection: &str| match collection.ends_with(super::LEVELS) {
        true => &sources.levels,
        false => &sources.schemas,
    };
    let shipped = bootstrap::flow_control();
    *complete |= shipped.iter().all(|(collection, object)| stored(collection).contains_key(name(object)));
    if !*complete {
        return Vec::new();
    }
    let mut writes: Vec<Write> =
        shipped.iter().filter_map(|(collection, object)| keep(collection, object, stored(collection))).collect();
    writes.extend(sources.schemas.values().filter_map(|schema| condition(schema, &sources.levels)));
    writes
}

/// The write that makes a default object what it should be.
fn keep(collection: &str, shipped: &Value, stored: &BTreeMap<String, Value>) -> Option<Write> {
    let name = name(shipped);
    let Some(live) = stored.get(name) else {
        return Some(Write {
            method: Method::POST,
            path: format!("{collection}?fieldManager={PRODUCER}"),
            content_type: "application/json",
            body: shipped.clone(),
        });
    };
    let automatic = match live.at("metadata").at("annotations").str_at(AUTO_UPDATE) {
        "" => live.at("metadata").int_at("generation") == 1,
        text => text == "true",
    };
    // The seats of the exempt level are the administrator's.
    let seats = name == EXEMPT && collection.ends_with(super::LEVELS) && live.at("spec").str_at("type") == "Exempt";
    if live.at("spec") == shipped.at("spec") || seats || !(automatic || is_mandatory(name)) {
        return None;
    }
    Some(Write {
        method: Method::PATCH,
        path: format!("{collection}/{name}?fieldManager={PRODUCER}"),
        content_type: "application/json-patch+json",
        body: json!([{ "op": "replace", "path": "/spec", "value": shipped.at("spec") }]),
    })
}

/// Whether the level of a schema is there, where its status does not say so.
fn condition(schema: &Value, levels: &BTreeMap<String, Value>) -> Option<Write> {
    let level = schema.at("spec").at("priorityLevelConfiguration").str_at("name");
    let about = format!(
        "This FlowSchema references the PriorityLevelConfiguration object named {}",
        crate::api::field::go_quote(level)
    );
    let (status, reason, message) = match levels.contains_key(level) {
        true => ("False", "Found", format!("{about} and it exists")),
        false => ("True", "NotFound", format!("{about} but there is no such object")),
    };
    let mut conditions = schema.at("status").list_at("conditions").iter();
    let now = conditions.find(|condition| condition.str_at("type") == "Dangling");
    if now.is_some_and(|now| now.str_at("status") == status && now.str_at("message") == message) {
        return None;
    }
    let since = now.filter(|now| now.str_at("status") == status).map(|now| now.at("lastTransitionTime").clone());
    let name = name(schema);
    Some(Write {
        method: Method::PATCH,
        path: format!("{API}/flowschemas/{name}/status?fieldManager={CONSUMER}&force=true"),
        content_type: "application/apply-patch+yaml",
        body: json!({
            "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
            "kind": "FlowSchema",
            "metadata": { "name": name },
            "status": { "conditions": [{
                "type": "Dangling",
                "status": status,
                "reason": reason,
                "message": message,
                "lastTransitionTime": since.unwrap_or_else(|| time::seconds(jiff::Timestamp::now()).into()),
            }]},
        }),
    })
}

async fn write(state: &Arc<State>, writes: Vec<Write>) -> Result<(), String> {
    let server = Server { state: state.clone() };
    for write in writes {
        let what = format!("{} {}", write.method, write.path);
        let request = Request::builder()
            .method(write.method)
            .uri(&write.path)
            .header(http::header::CONTENT_TYPE, write.content_type)
            .extension(UserInfo::new("system:apiserver", &[crate::api::user::SYSTEM_MASTERS]))
            .body(Body::from(write.body.to_string()))
            .map_err(|error| format!("{what}: {error}"))?;
        let Ok(reply) = server.clone().oneshot(request).await;
        // Written or deleted by another meanwhile: that change is on its way here.
        let settled = matches!(reply.status(), StatusCode::CONFLICT | StatusCode::NOT_FOUND);
        if !reply.status().is_success() && !settled {
            let status = reply.status();
            let text = axum::body::to_bytes(reply.into_body(), 1 << 20).await.unwrap_or_default();
            return Err(format!("{what}: {status}: {}", String::from_utf8_lossy(&text)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::CATCH_ALL;
    use super::*;

    #[test]
    fn defaults_are_kept_but_for_what_is_the_administrators() {
        let shipped = bootstrap::flow_control();
        let find = |wanted: &str, kind: &str| {
            let found = shipped.iter().find(|(_, object)| name(object) == wanted && object["kind"] == *kind);
            found.expect("a default").clone()
        };
        let check = |(collection, object): &(String, Value), live: Option<Value>, wanted: Option<Method>| {
            let stored = live.into_iter().map(|live| (name(&live).to_owned(), live)).collect();
            assert_eq!(keep(collection, object, &stored).map(|write| write.method), wanted, "{collection} {object}");
        };
        let schema = find(CATCH_ALL, "FlowSchema");
        check(&schema, None, Some(Method::POST));
        check(&schema, Some(schema.1.clone()), None);
        let mut changed = schema.1.clone();
        changed["spec"]["matchingPrecedence"] = json!(500);
        check(&schema, Some(changed.clone()), Some(Method::PATCH));
        changed["metadata"]["annotations"][AUTO_UPDATE] = json!("false");
        check(&schema, Some(changed), Some(Method::PATCH));
        let suggested = find("workload-low", "PriorityLevelConfiguration");
        let mut changed = suggested.1.clone();
        changed["spec"]["limited"]["nominalConcurrencyShares"] = json!(7);
        check(&suggested, Some(changed.clone()), Some(Method::PATCH));
        changed["metadata"]["annotations"][AUTO_UPDATE] = json!("false");
        check(&suggested, Some(changed), None);
        let exempt = find(EXEMPT, "PriorityLevelConfiguration");
        let mut changed = exempt.1.clone();
        changed["spec"]["exempt"]["lendablePercent"] = json!(50);
        check(&exempt, Some(changed), None);
    }

    #[test]
    fn a_condition_is_written_once() {
        let schema = |status: Value| json!({"metadata": {"name": "s"}, "spec": {"priorityLevelConfiguration": {"name": "p"}}, "status": status});
        let levels = BTreeMap::from([("p".to_owned(), json!({}))]);
        let written = condition(&schema(json!({})), &levels).expect("a write").body["status"].take();
        assert_eq!(written["conditions"][0]["reason"], "Found");
        assert_eq!(condition(&schema(written.clone()), &levels), None);
        let dangling = condition(&schema(written), &BTreeMap::new()).expect("a write").body["status"].take();
        assert_eq!(dangling["conditions"][0]["status"], "True");
    }
}
