//! `pods/eviction`: a deletion that disruption budgets may refuse.

use super::{Handler, created, is_dry_run};
use crate::api::selector::LabelSelector;
use crate::api::status::StatusCause;
use crate::api::{GroupVersionKind, Status, UserInfo, time};
use crate::apiserver::admission::{Attributes, Operation};
use crate::apiserver::codec;
use crate::apiserver::options::{self, WriteKind};
use crate::apiserver::respond::{self, Reply};
use crate::apiserver::state::{State, storage_status};
use crate::apiserver::verbs::Call;
use crate::apiserver::verbs::delete::Deleter;
use crate::resources::pipeline::deletion::DeleteOptions;
use crate::resources::pipeline::{generation, is_being_deleted, metadata_str};
use crate::resources::{Row, pipeline};
use crate::storage::{Durability, Entry, Error, Prefix};
use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;

pub struct Eviction;

/// A budget that cannot be met now may be met soon.
const RETRY_SECONDS: u32 = 10;

#[async_trait]
impl Handler for Eviction {
    async fn handle(&self, call: Call<'_>) -> Result<Reply, Status> {
        let (state, info, query, pods, user) = (call.state, call.info, call.query, call.row.clone(), call.user);
        let kind = GroupVersionKind::new("policy", "v1", "Eviction");
        let mut posted = call.posted(&kind).await?;
        let mut eviction = posted.object;
        if metadata_str(&eviction, "name") != info.name {
            return Err(Status::bad_request("name in URL does not match name in Eviction object"));
        }
        crate::apiserver::verbs::write::check_namespace(&pods, &mut eviction, &info.namespace)?;
        let inner = eviction["deleteOptions"].clone();
        let dry_run = posted.options.dry_run || is_dry_run(&inner);
        let given = (!inner.is_null()).then_some(inner);
        // Any body but an empty one: the options are inside.
        let body = if given.is_some() { Bytes::from_static(b"{}") } else { Bytes::new() };
        let mut delete = match given {
            Some(inner) => options::delete_options(query, &body, Some(inner))?,
            None => DeleteOptions::default(),
        };
        if dry_run {
            delete.dry_run = vec!["All".to_owned()];
        }
        let key = State::key(&pods, &info.namespace, &info.name);
        if state.storage.get(&key).is_none() {
            return Err(Status::not_found(&pods.group_resource, &info.name));
        }
        let options = posted.options.to_value(WriteKind::Create);
        let mut attributes = Attributes {
            user,
            operation: Operation::Create,
            kind: &kind,
            resource: &pods.gvr,
            subresource: "eviction",
            namespace: &info.namespace,
            name: &info.name,
            object: Some(&mut eviction),
            old_object: None,
            options: &options,
            dry_run,
            warnings: &mut posted.warnings,
            reinvocation: Default::default(),
        };
        state.admit(&mut attributes).await?;
        state.validate(&mut attributes).await?;
        let evictor = Evictor { state, pods: &pods, user, namespace: &info.namespace, name: &info.name, dry_run };
        evictor.evict(delete).await?;
        let mut reply = created();
        respond::warn(&mut reply, &posted.warnings);
        Ok(reply)
    }
}

struct Evictor<'a> {
    state: &'a Arc<State>,
    pods: &'a Arc<Row>,
    user: &'a UserInfo,
    namespace: &'a str,
    name: &'a str,
    dry_run: bool,
}

impl Evictor<'_> {
    fn pod(&self) -> Result<(Arc<Entry>, Value), Status> {
        let key = State::key(self.pods, self.namespace, self.name);
        let entry = self.state.storage.get(&key);
        let entry = entry.ok_or_else(|| Status::not_found(&self.pods.group_resource, self.name))?;
        let pod = codec::parse(self.pods, &entry.body);
        Ok((entry, pod))
    }

    async fn evict(&self, options: DeleteOptions) -> Result<(), Status> {
        let (_, pod) = self.pod()?;
        let phase = pod["status"]["phase"].as_str().unwrap_or_default();
        // What runs nothing, or goes anyway, disrupts nothing.
        let free = matches!(phase, "Succeeded" | "Failed" | "Pending") || is_being_deleted(&pod);
        if !free && let Some((row, entry)) = self.budget(&pod)? {
            self.spend(&row, &entry, &pod).await?;
        }
        self.mark_target().await?;
        let mut deleter = Deleter {
            state: self.state,
            row: self.pods,
            user: self.user,
            namespace: self.namespace,
            options: &options,
            warnings: Vec::new(),
        };
        deleter.delete(self.name).await.map(|_| ())
    }

    /// The one budget that selects the pod.
    fn budget(&self, pod: &Value) -> Result<Option<(Arc<Row>, Arc<Entry>)>, Status> {
        let Some(row) = self.state.registry.row("policy", "v1", "poddisruptionbudgets") else { return Ok(None) };
        let snapshot = self.state.storage.snapshot();
        let labels = pod["metadata"]["labels"].as_object();
        let selects = |entry: &&Arc<Entry>| {
            let selector = LabelSelector::from_value(&entry.body.parse()["spec"]["selector"]);
            let label = |key: &str| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str);
            selector.is_some_and(|selector| selector.matches(label))
        };
        let prefix = Prefix::namespace(&row.stored, self.namespace);
        let mut budgets = snapshot.range(&prefix, None).filter(selects);
        let first = budgets.next().cloned();
        if budgets.next().is_some() {
            return Err(Status::internal(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
        Ok(first.map(|entry| (row, entry)))
    }

    /// Take one disruption from the budget, or the 429 that says it has none.
    async fn spend(&self, row: &Row, entry: &Arc<Entry>, pod: &Value) -> Result<(), Status> {
        let mut entry = entry.clone();
        loop {
            let mut budget = codec::parse(row, &entry.body);
            let name = metadata_str(&budget, "name").to_owned();
            let status = &budget["status"];
            let number = |field: &str| status[field].as_i64().unwrap_or_default();
            if number("observedGeneration") < generation(&budget) {
                return Err(refuse(
                    "Cannot evict pod as it would violate the pod's disruption budget.",
                    format!("The disruption budget {name} is still being processed by the server."),
                ));
            }
            let allowed = number("disruptionsAllowed");
            if allowed <= 0 {
                return Err(refuse(
                    "Cannot evict pod as it would violate the pod's disruption budget.",
                    format!(
                        "The disruption budget {name} needs {} healthy pods and has {} currently",
                        number("desiredHealthy"),
                        number("currentHealthy")
                    ),
                ));
            }
            budget["status"]["disruptionsAllowed"] = json!(allowed - 1);
            budget["status"]["disruptedPods"][metadata_str(pod, "name")] = json!(time::seconds(Timestamp::now()));
            if self.dry_run {
                return Ok(());
            }
            let body = codec::encode(self.state, row, &budget).await?;
            match self.state.storage.update(entry.key.clone(), entry.revision, body, Durability::Durable).await {
                Ok(_) => return Ok(()),
                Err(Error::Conflict { .. }) => match self.state.storage.get(&entry.key) {
                    Some(newer) => entry = newer,
                    None => return Ok(()),
                },
                Err(Error::NotFound) => return Ok(()),
                Err(error) => return Err(storage_status(error)),
            }
        }
    }

    /// The condition that tells the pod's owner why it goes.
    async fn mark_target(&self) -> Result<(), Status> {
        loop {
            let (entry, mut pod) = self.pod()?;
            if self.dry_run || is_being_deleted(&pod) {
                return Ok(());
            }
            let mut condition = json!({
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "EvictionByEvictionAPI",
                "message": "Eviction API: evicting",
                "lastProbeTime": null,
                "lastTransitionTime": time::seconds(Timestamp::now()),
            });
            let generation = pipeline::generation(&pod);
            if generation > 0 {
                condition["observedGeneration"] = json!(generation);
            }
            if !pod["status"]["conditions"].is_array() {
                pod["status"]["conditions"] = json!([]);
            }
            let Some(conditions) = pod["status"]["conditions"].as_array_mut() else { return Ok(()) };
            if conditions.iter().any(|known| known["type"] == "DisruptionTarget" && known["status"] == "True") {
                return Ok(());
            }
            conditions.retain(|known| known["type"] != "DisruptionTarget");
            conditions.push(condition);
            let body = codec::encode(self.state, self.pods, &pod).await?;
            match self.state.storage.update(entry.key.clone(), entry.revision, body, Durability::Durable).await {
                Ok(_) => return Ok(()),
                Err(Error::Conflict { .. } | Error::NotFound) => {}
                Err(error) => return Err(storage_status(error)),
            }
        }
    }
}

fn refuse(message: &str, cause: String) -> Status {
    let mut status = Status::too_many_requests(message, RETRY_SECONDS);
    status.details.get_or_insert_default().causes.push(StatusCause {
        reason: "DisruptionBudget".to_owned(),
        message: cause,
        field: String::new(),
    });
    status
}
