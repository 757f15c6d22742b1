//! Admission of a connection: its object is the options of the request.

use crate::api::{GroupVersionKind, Status, UserInfo};
use crate::apiserver::admission::{Attributes, Operation};
use crate::apiserver::request::{Query, RequestInfo};
use crate::apiserver::state::State;
use crate::resources::Row;
use serde_json::{Value, json};

/// The options of each kind of connection: flags, and lists.
const OPTIONS: &[(&str, &[&str], &[&str], &[&str])] = &[
    ("PodExecOptions", &["stdin", "stdout", "stderr", "tty"], &["container"], &["command"]),
    ("PodAttachOptions", &["stdin", "stdout", "stderr", "tty"], &["container"], &[]),
    ("PodPortForwardOptions", &[], &[], &["ports"]),
    ("PodProxyOptions", &[], &["path"], &[]),
    ("ServiceProxyOptions", &[], &["path"], &[]),
    ("NodeProxyOptions", &[], &["path"], &[]),
];

/// Err: somebody says no.
pub(super) async fn admit(
    state: &State,
    row: &Row,
    user: &UserInfo,
    info: &RequestInfo,
    query: &Query,
    kind: &str,
) -> Result<(), Status> {
    if !state.has_admission(Operation::Connect, row, &info.subresource) {
        return Ok(());
    }
    let gvk = GroupVersionKind::new("", "v1", kind);
    let mut object = options(query, kind);
    let mut warnings = Vec::new();
    let mut attributes = Attributes {
        user: user,
        operation: Operation::Connect,
        kind: &gvk,
        resource: &row.gvr,
        subresource: &info.subresource,
        namespace: &info.namespace,
        name: &info.name,
        object: Some(&mut object),
        old_object: None,
        options: &Value::Null,
        dry_run: false,
        warnings: &mut warnings,
        reinvocation: Default::default(),
    };
    state.admit(&mut attributes).await?;
    state.validate(&mut attributes).await
}

fn options(query: &Query, kind: &str) -> Value {
    let mut object = json!({ "kind": kind, "apiVersion": "v1" });
    let Some((_, flags, texts, lists)) = OPTIONS.iter().find(|(known, ..)| *known == kind) else { return object };
    for flag in *flags {
        if query.flag(flag) == Some(true) {
            object[*flag] = json!(true);
        }
    }
    for text in *texts {
        if let Some(value) = query.get(text).filter(|value| !value.is_empty()) {
            object[*text] = json!(value);
        }
    }
    for list in *lists {
        let values: Vec<&str> = query.all(list).collect();
        if !values.is_empty() {
            object[*list] = match *list {
                "ports" => values
                    .iter()
                    .flat_map(|ports| ports.split(','))
                    .filter_map(|port| port.parse::<i64>().ok())
                    .collect::<Vec<_>>()
                    .into(),
                _ => json!(values),
            };
        }
    }
    object
}
