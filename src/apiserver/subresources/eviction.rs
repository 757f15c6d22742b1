//! `pods/eviction`: a deletion that disruption budgets may refuse.

use super::{Handler, answer, created, is_dry_run};
use crate::api::selector::LabelSelector;
use crate::api::status::StatusCause;
use crate::api::{GroupResource, GroupVersionKind, Status, UserInfo, time};
use crate::apiserver::admission::{Attributes, Operation};
use crate::apiserver::codec;
use crate::apiserver::options::{self, WriteKind};
use crate::apiserver::respond::Reply;
use crate::apiserver::state::{State, storage_status};
use crate::apiserver::verbs::Call;
use crate::apiserver::verbs::delete::Deleter;
use crate::resources::Row;
use crate::resources::pipeline::deletion::DeleteOptions;
use crate::resources::pipeline::{generation, is_being_deleted, metadata_str};
use crate::resources::policy::pod_disruption_budget::{CONDITION, SYNC_FAILED, set_condition, verdict};
use crate::storage::{Durability, Entry, Error, Prefix};
use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;

pub struct Eviction;

/// A budget that is being looked at may be met soon.
const RETRY_SECONDS: u32 = 10;
/// How often a pending pod may change under its eviction.
const ATTEMPTS: usize = 20;
/// Evictions that the controller has not seen yet.
const MOST_DISRUPTED: usize = 2000;
/// As refusals name the kind.
const BUDGET: &str = "poddisruptionbudget";

#[async_trait]
impl Handler for Eviction {
    async fn handle(&self, call: Call<'_>) -> Result<Reply, Status> {
        let (state, info, query, pods, user) = (call.state, call.info, call.query, call.row.clone(), call.user);
        let kind = GroupVersionKind::new("policy", "v1", "Eviction");
        let mut posted = call.posted(&kind).await?;
        let mut eviction = std::mem::take(&mut posted.object);
        let evicted: Result<Reply, Status> = async {
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
            Ok(created())
        }
        .await;
        answer(posted.output, &posted.warnings, evicted)
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
        let guarded = options.resource_version.is_some();
        let at = |entry: &Entry| Some(entry.revision.0.to_string());
        let mut attempts = 1..=ATTEMPTS;
        let (entry, pod) = loop {
            let (entry, pod) = self.pod()?;
            let phase = pod["status"]["phase"].as_str().unwrap_or_default();
            let over = matches!(phase, "Succeeded" | "Failed") || is_being_deleted(&pod);
            if !over && phase != "Pending" {
                break (entry, pod);
            }
            // What runs nothing, or goes anyway, disrupts nothing; a pending pod may begin to run meanwhile.
            let mut options = options.clone();
            if !over && !guarded {
                options.resource_version = at(&entry);
            }
            match self.delete(options).await {
                Err(status) if status.code == 409 && !guarded && attempts.next().is_some() => {}
                done => return done,
            }
        };
        let Some((row, budget)) = self.budget(&pod)? else { return self.delete(options).await };
        if !is_ready(&pod) {
            let budget = codec::parse(&row, &budget.body);
            let number = |field: &str| budget["status"][field].as_i64().unwrap_or_default();
            let (current, desired) = (number("currentHealthy"), number("desiredHealthy"));
            let always = budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow";
            // It does not count among the healthy: the budget loses nothing, as long as the pod stays as it was seen.
            if always || (current >= desired && desired > 0) {
                return match self.delete(DeleteOptions { resource_version: at(&entry), ..options }).await {
                    Err(status) if status.code == 409 && !guarded => Err(unsettled(metadata_str(&budget, "name"))),
                    done => done,
                };
            }
        }
        self.spend(&row, &budget, &pod).await?;
        self.delete(options).await
    }

    async fn delete(&self, mut options: DeleteOptions) -> Result<(), Status> {
        if !self.dry_run {
            let revision = self.mark_target(&options).await?;
            // The mark itself is no change to guard against.
            if options.resource_version.is_some() {
                options.resource_version = Some(revision);
            }
        }
        let mut deleter = Deleter {
            state: self.state,
            row: self.pods,
            user: self.user,
            namespace: self.namespace,
            options: &options,
            collected: false,
            admitted: true,
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
            check(&budget)?;
            let status = &mut budget["status"];
            let left = status["disruptionsAllowed"].as_i64().unwrap_or_default() - 1;
            let now = Timestamp::now();
            status["disruptionsAllowed"] = left.into();
            if left == 0 {
                set_condition(status, verdict(left), "", now);
            }
            status["disruptedPods"][metadata_str(pod, "name")] = time::seconds(now).into();
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

    /// The condition that tells the pod's owner why it goes; the pod's revision then.
    async fn mark_target(&self, options: &DeleteOptions) -> Result<String, Status> {
        loop {
            let (entry, mut pod) = self.pod()?;
            let revision = entry.revision.0.to_string();
            self.check_preconditions(options, &pod, &revision)?;
            let condition = json!({
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "EvictionByEvictionAPI",
                "message": "Eviction API: evicting",
                "lastProbeTime": null,
                "lastTransitionTime": time::seconds(Timestamp::now()),
            });
            if !pod["status"]["conditions"].is_array() {
                pod["status"]["conditions"] = json!([]);
            }
            let Some(conditions) = pod["status"]["conditions"].as_array_mut() else { return Ok(revision) };
            if conditions.iter().any(|known| known["type"] == "DisruptionTarget" && known["status"] == "True") {
                return Ok(revision);
            }
            conditions.retain(|known| known["type"] != "DisruptionTarget");
            conditions.push(condition);
            let body = codec::encode(self.state, self.pods, &pod).await?;
            match self.state.storage.update(entry.key.clone(), entry.revision, body, Durability::Durable).await {
                Ok(marked) => return Ok(marked.revision.0.to_string()),
                Err(Error::Conflict { .. } | Error::NotFound) => {}
                Err(error) => return Err(storage_status(error)),
            }
        }
    }

    fn check_preconditions(&self, options: &DeleteOptions, pod: &Value, revision: &str) -> Result<(), Status> {
        let resource = GroupResource::new("", "Pod");
        let uid = metadata_str(pod, "uid");
        if let Some(wanted) = options.uid.as_deref().filter(|wanted| !wanted.is_empty() && *wanted != uid) {
            let detail = format!(
                "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object might \
                 have been deleted and then recreated"
            );
            return Err(Status::conflict(&resource, self.name, &detail));
        }
        let wanted = options.resource_version.as_deref().filter(|wanted| !wanted.is_empty() && *wanted != revision);
        if let Some(wanted) = wanted {
            let detail = format!(
                "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record \
                 ({revision}). The object might have been modified"
            );
            return Err(Status::conflict(&resource, self.name, &detail));
        }
        Ok(())
    }
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Whether a budget has a disruption left.
fn check(budget: &Value) -> Result<(), Status> {
    let (name, status) = (metadata_str(budget, "name"), &budget["status"]);
    let number = |field: &str| status[field].as_i64().unwrap_or_default();
    if number("observedGeneration") < generation(budget) {
        return Err(unsettled(name));
    }
    let forbidden = |detail: &str| Err(Status::forbidden(&GroupResource::new("policy", BUDGET), name, detail));
    if number("disruptionsAllowed") < 0 {
        return forbidden("pdb disruptions allowed is negative");
    }
    if status["disruptedPods"].as_object().is_some_and(|pods| pods.len() > MOST_DISRUPTED) {
        return forbidden("DisruptedPods map too big - too many evictions not confirmed by PDB controller");
    }
    if number("disruptionsAllowed") > 0 {
        return Ok(());
    }
    let conditions = status["conditions"].as_array();
    let condition = conditions.into_iter().flatten().find(|condition| condition["type"] == CONDITION);
    let text = |field: &str| condition.and_then(|condition| condition[field].as_str()).unwrap_or_default();
    let (reason, message) = (text("reason"), text("message"));
    let told = text("status") == "False" && !message.is_empty();
    let (current, desired) = (number("currentHealthy"), number("desiredHealthy"));
    let cause = if told && reason == SYNC_FAILED {
        format!("The disruption budget {name} does not allow evicting pods currently because it failed sync: {message}")
    } else if current <= desired {
        format!("The disruption budget {name} needs {desired} healthy pods and has {current} currently")
    } else if told {
        format!("The disruption budget {name} does not allow evicting pods currently ({reason}): {message}")
    } else {
        format!("The disruption budget {name} does not allow evicting pods currently")
    };
    Err(refuse(0, cause))
}

/// The budget's numbers are of another state than this one.
fn unsettled(name: &str) -> Status {
    refuse(RETRY_SECONDS, format!("The disruption budget {name} is still being processed by the server."))
}

fn refuse(retry_seconds: u32, cause: String) -> Status {
    let message = "Cannot evict pod as it would violate the pod's disruption budget.";
    let mut status = Status::too_many_requests(message, retry_seconds);
    status.details.get_or_insert_default().causes.push(StatusCause {
        reason: "DisruptionBudget".to_owned(),
        message: cause,
        field: String::new(),
    });
    status
}
