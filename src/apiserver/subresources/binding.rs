//! `pods/binding` and `bindings`: a pod gets its node.

use super::{Handler, answer, bare_error, created};
use crate::api::{FieldError, GroupResource, GroupVersionKind, Path, Status, time};
use crate::apiserver::admission::{Attributes, Operation};
use crate::apiserver::codec;
use crate::apiserver::options::WriteKind;
use crate::apiserver::respond::Reply;
use crate::apiserver::state::{State, storage_status};
use crate::apiserver::verbs::Call;
use crate::apiserver::verbs::write::check_namespace;
use crate::resources::Row;
use crate::resources::pipeline::{is_being_deleted, metadata, metadata_str};
use crate::storage::{Durability, Error};
use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;

pub struct Binding;

#[async_trait]
impl Handler for Binding {
    async fn handle(&self, call: Call<'_>) -> Result<Reply, Status> {
        let (state, info, row, user) = (call.state, call.info, call.row, call.user);
        let kind = GroupVersionKind::new("", "v1", "Binding");
        let mut posted = call.posted(&kind).await?;
        let mut binding = std::mem::take(&mut posted.object);
        let bound: Result<Reply, Status> = async {
            let Some(pods) = state.registry.row("", "v1", "pods") else {
                return Err(Status::internal("pods are not served"));
            };
            check_namespace(&pods, &mut binding, &info.namespace)?;
            let name = metadata_str(&binding, "name").to_owned();
            if info.subresource == "binding" && name != info.name {
                return Err(Status::bad_request("name in URL does not match name in Binding object"));
            }
            validate(&binding)?;
            let options = posted.options.to_value(WriteKind::Create);
            let mut attributes = Attributes {
                user,
                operation: Operation::Create,
                kind: &kind,
                resource: &row.gvr,
                subresource: &info.subresource,
                namespace: &info.namespace,
                name: &name,
                object: Some(&mut binding),
                old_object: None,
                options: &options,
                dry_run: posted.options.dry_run,
                warnings: &mut posted.warnings,
                reinvocation: Default::default(),
            };
            state.admit(&mut attributes).await?;
            state.validate(&mut attributes).await?;
            assign(state, &pods, &info.namespace, &name, &binding, posted.options.dry_run).await?;
            Ok(created())
        }
        .await;
        answer(posted.output, &posted.warnings, bound)
    }
}

fn validate(binding: &Value) -> Result<(), Status> {
    let target = &binding["target"];
    let mut errors = Vec::new();
    let root = Path::new("target");
    let kind = target["kind"].as_str().unwrap_or_default();
    if !matches!(kind, "" | "Node") {
        errors.push(FieldError::not_supported(&root.child("kind"), kind, &["Node", "<empty>"]));
    }
    if target["name"].as_str().unwrap_or_default().is_empty() {
        errors.push(FieldError::required(&root.child("name"), ""));
    }
    match errors.as_slice() {
        [] => Ok(()),
        [one] => Err(bare_error(one.to_string())),
        many => Err(bare_error(format!("[{}]", many.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")))),
    }
}

async fn assign(
    state: &Arc<State>,
    pods: &Row,
    namespace: &str,
    name: &str,
    binding: &Value,
    dry_run: bool,
) -> Result<(), Status> {
    let key = State::key(pods, namespace, name);
    loop {
        let entry = state.storage.get(&key).ok_or_else(|| Status::not_found(&pods.group_resource, name))?;
        let mut pod = state.parsed.take(pods, &entry);
        let conflict = |detail: String| Err(Status::conflict(&GroupResource::new("", "pods/binding"), name, &detail));
        let (uid, version) = (metadata_str(binding, "uid"), metadata_str(binding, "resourceVersion"));
        let own = metadata_str(&pod, "uid");
        let failed = |what: &str, given: &str, own: &str| {
            let path = format!("{}{namespace}/{name}", if dry_run { "/pods/" } else { "/registry/pods/" });
            let detail = format!(
                "StorageError: invalid object, Code: 4, Key: {path}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: {what} in precondition: {given}, {what} in object meta: {own}"
            );
            Err(Status::conflict(&pods.group_resource, name, &detail))
        };
        if !uid.is_empty() && uid != own {
            return failed("UID", uid, own);
        }
        if !version.is_empty() && version != entry.revision.0.to_string() {
            return failed("ResourceVersion", version, &entry.revision.0.to_string());
        }
        if is_being_deleted(&pod) {
            return conflict(format!("pod {name} is being deleted, cannot be assigned to a host"));
        }
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        if !node.is_empty() {
            return conflict(format!("pod {name} is already assigned to node \"{node}\""));
        }
        if pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
            return conflict(format!("pod {name} has non-empty .spec.schedulingGates"));
        }
        bind(&mut pod, binding);
        if dry_run {
            return Ok(());
        }
        let body = codec::encode(state, pods, &pod).await?;
        match state.storage.update(key.clone(), entry.revision, body, Durability::Durable).await {
            Ok(entry) => {
                state.parsed.put(pods, &entry, pod);
                return Ok(());
            }
            Err(Error::Conflict { .. } | Error::NotFound) => {}
            Err(error) => return Err(storage_status(error)),
        }
    }
}

/// The node, the annotations and labels that come with it, and the condition PodScheduled.
fn bind(pod: &mut Value, binding: &Value) {
    pod["spec"]["nodeName"] = binding["target"]["name"].clone();
    for field in ["annotations", "labels"] {
        let Some(given) = binding["metadata"][field].as_object().filter(|given| !given.is_empty()) else { continue };
        if let Some(own) = metadata(pod).entry(field).or_insert_with(|| json!({})).as_object_mut() {
            own.extend(given.clone());
        }
    }
    let now = time::seconds(Timestamp::now());
    let mut condition = json!({ "type": "PodScheduled", "status": "True", "lastProbeTime": null });
    if !pod["status"].is_object() {
        pod["status"] = json!({});
    }
    if !pod["status"]["conditions"].is_array() {
        pod["status"]["conditions"] = json!([]);
    }
    let Some(conditions) = pod["status"]["conditions"].as_array_mut() else { return };
    match conditions.iter_mut().find(|condition| condition["type"] == "PodScheduled") {
        Some(known) => {
            condition["lastTransitionTime"] =
                if known["status"] == "True" { known["lastTransitionTime"].clone() } else { json!(now) };
            *known = condition;
        }
        None => {
            condition["lastTransitionTime"] = json!(now);
            conditions.push(condition);
        }
    }
}
