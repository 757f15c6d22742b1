//! ResourceQuota: what would be more than a namespace may have is refused.
//!
//! The check charges the quota's status before the object is stored, by revision, so that two
//! requests never take the same last place. [`keeper`] counts anew what is there.

mod keeper;

use super::{Attributes, Operation, Plugin, Sources};
use crate::api::{Fields, GroupResource, GroupVersionResource, Quantity, Status};
use crate::apiserver::follow::Following;
use crate::apiserver::state::storage_status;
use crate::resources::quota::{self, Amounts};
use crate::resources::{Registry, Row, pipeline};
use crate::storage::{Body, Durability, Entry, Error, Prefix, Storage};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::Arc;

/// Somebody else charged the quota in between, again and again.
const ATTEMPTS: usize = 64;

pub struct ResourceQuota {
    storage: Arc<dyn Storage>,
    registry: Arc<Registry>,
    _keeper: Following,
}

fn quotas() -> GroupResource {
    GroupResource::new("", "resourcequotas")
}

fn row(registry: &Registry) -> Result<Arc<Row>, Status> {
    registry.row("", "v1", "resourcequotas").ok_or_else(|| Status::internal("resourcequotas are not served"))
}

fn body(row: &Row, object: &Value) -> Body {
    Body::from_value(object, row.stored_hash(), Some(pipeline::index(row, object)))
}

impl ResourceQuota {
    pub fn new(sources: &Sources) -> Self {
        let keeper = keeper::start(sources.storage.clone(), sources.registry.clone());
        Self { storage: sources.storage.clone(), registry: sources.registry.clone(), _keeper: keeper }
    }

    fn entries(&self, namespace: &str) -> Vec<Arc<Entry>> {
        self.storage.snapshot().range(&Prefix::namespace(&quotas(), namespace), None).cloned().collect()
    }

    /// What a write adds to a quota. None: the quota is not about it.
    fn added(&self, quota: &Value, attributes: &Attributes<'_>) -> Result<Option<Amounts>, Status> {
        let (spec, resource) = (quota.at("spec"), attributes.group_resource());
        let Some(object) = attributes.object.as_deref() else { return Ok(None) };
        let hard = quota::amounts(quota.at("status").at("hard"));
        let relevant: Amounts = hard.into_iter().filter(|(name, _)| quota::resource_of(name) == resource).collect();
        if relevant.is_empty() || !quota::in_scope(spec, &resource, object) {
            return Ok(None);
        }
        let name = quota.at("metadata").str_at("name");
        if attributes.is_core("pods")
            && let Some(missing) = quota::unspecified(&relevant, object)
        {
            return Err(attributes.forbidden(&format!("failed quota: {name}: {missing}")));
        }
        let used = quota.at("status").at("used");
        if relevant.keys().any(|name| used.get_set(name).is_none()) {
            let names: Vec<&str> = relevant.keys().map(String::as_str).collect();
            let reason = format!("status unknown for quota: {name}, resources: {}", names.join(","));
            return Err(attributes.forbidden(&reason));
        }
        let mut added = quota::usage(&resource, object);
        if let Some(old) = attributes.old_object.filter(|old| quota::in_scope(spec, &resource, old)) {
            for (name, amount) in quota::usage(&resource, old) {
                if let Some(own) = added.get_mut(&name) {
                    own.sub(&amount);
                }
            }
        }
        added.retain(|name, amount| relevant.contains_key(name) && !amount.is_zero() && !amount.is_negative());
        Ok((!added.is_empty()).then_some(added))
    }

    /// The quota as it is after the write; None: it is not charged. Err: it would be exceeded.
    fn charged(&self, entry: &Entry, attributes: &Attributes<'_>) -> Result<Option<Value>, Status> {
        let mut quota = entry.body.parse();
        let Some(added) = self.added(&quota, attributes)? else { return Ok(None) };
        let (hard, used) =
            (quota::amounts(quota.at("status").at("hard")), quota::amounts(quota.at("status").at("used")));
        let mut exceeded: [Vec<String>; 3] = Default::default();
        for (name, amount) in &added {
            let before = used.get(name).cloned().unwrap_or(Quantity::ZERO);
            let mut after = before.clone();
            after.add(amount);
            let most = hard.get(name).cloned().unwrap_or(Quantity::ZERO);
            if after > most {
                for (list, amount) in exceeded.iter_mut().zip([amount, &before, &most]) {
                    list.push(format!("{name}={amount}"));
                }
            }
            quota["status"]["used"][name] = json!(after.to_string());
        }
        let [requested, used, limited] = exceeded.map(|list| list.join(","));
        if !requested.is_empty() && attributes.subresource != "status" {
            let name = quota.at("metadata").str_at("name");
            let reason = format!("exceeded quota: {name}, requested: {requested}, used: {used}, limited: {limited}");
            return Err(attributes.forbidden(&reason));
        }
        Ok(Some(quota))
    }
}

#[async_trait]
impl Plugin for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    fn handles(&self, operation: Operation, resource: &GroupVersionResource, subresource: &str) -> bool {
        let core = |plurals: &[&str]| resource.group.is_empty() && plurals.contains(&resource.resource.as_str());
        match (operation, subresource) {
            // Events are too many to be counted.
            (Operation::Create, "") => resource.resource != "events",
            (Operation::Update, "") => core(&["pods", "services", "persistentvolumeclaims"]),
            (Operation::Update, "resize") => core(&["pods"]),
            _ => false,
        }
    }

    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        if attributes.namespace.is_empty() {
            return Ok(());
        }
        let entries = self.entries(attributes.namespace);
        if entries.is_empty() {
            return Ok(());
        }
        let pod_update = attributes.operation == Operation::Update
            && attributes.is_core("pods")
            && attributes.subresource.is_empty();
        let terminating = |object: Option<&Value>| object.is_some_and(quota::is_terminating);
        if pod_update && terminating(attributes.object.as_deref()) == terminating(attributes.old_object) {
            return Ok(());
        }
        // All must have room before one is charged.
        let mut wanted = Vec::new();
        for entry in entries {
            if self.charged(&entry, attributes)?.is_some() {
                wanted.push(entry.key.clone());
            }
        }
        if attributes.dry_run {
            return Ok(());
        }
        let row = row(&self.registry)?;
        for key in wanted {
            for attempt in 1.. {
                // Gone by now: it bounds nothing.
                let Some(entry) = self.storage.get(&key) else { break };
                let Some(quota) = self.charged(&entry, attributes)? else { break };
                let body = body(&row, &quota);
                match self.storage.update(key.clone(), entry.revision, body, Durability::Durable).await {
                    Ok(_) => break,
                    Err(Error::Conflict { .. } | Error::NotFound) if attempt < ATTEMPTS => {}
                    Err(Error::Conflict { .. } | Error::NotFound) => {
                        return Err(Status::modified(&quotas(), key.name()));
                    }
                    Err(error) => return Err(storage_status(error)),
                }
            }
        }
        Ok(())
    }
}
