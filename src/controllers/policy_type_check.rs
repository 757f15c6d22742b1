//! Type checking of ValidatingAdmissionPolicies: warnings in their status about expressions that do not
//! fit the kinds that they match.
//! Source: `pkg/controller/validatingadmissionpolicystatus`.

use super::context::{Context, Running};
use crate::api::{Fields, GroupVersionKind, GroupVersionResource};
use crate::cel::Declared;
use crate::client::{Objects, is_not_found, kinds, send};
use crate::resources::admission_registration::type_check;
use crate::runtime::{Action, Controller, Meta, ObjectKey, Store, WorkQueue, whole};
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

const NAME: &str = "validatingadmissionpolicy-status-controller";

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Policy {
    #[serde(rename = "metadata")]
    meta: Meta,
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    observed_generation: i64,
}

whole!(Policy, kinds::VALIDATING_ADMISSION_POLICIES);

pub fn start(context: &Context) -> Running {
    let queue = Arc::new(WorkQueue::default());
    let policies = context.informers.of::<Policy>();
    policies.feed(&queue);
    let controller = TypeCheck { objects: context.objects(NAME), policies: policies.clone() };
    Running::new(controller, queue, 1, [policies.until_synced()], move || policies.keys())
}

struct TypeCheck {
    objects: Objects,
    policies: Arc<Store<Policy>>,
}

impl TypeCheck {
    /// What the server says at a path; None: nothing.
    async fn read(&self, path: &str) -> anyhow::Result<Option<Value>> {
        let request = http::Request::get(path).body(Vec::new())?;
        match send(self.objects.client(), request).await {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The kind that is served as a resource.
    async fn kind(&self, resource: &GroupVersionResource) -> anyhow::Result<Option<GroupVersionKind>> {
        let GroupVersionResource { group, version, resource } = resource;
        let Some(list) = self.read(&path("", group, version)).await? else { return Ok(None) };
        let found = list.list_at("resources").iter().find(|one| one.str_at("name") == resource);
        Ok(found.map(|one| GroupVersionKind::new(group, version, one.str_at("kind"))))
    }

    async fn declared(&self, kind: &GroupVersionKind) -> anyhow::Result<Option<Declared>> {
        if let Some(declared) = type_check::built_in(kind) {
            return Ok(Some(declared));
        }
        let Some(document) = self.read(&path("/openapi/v3", &kind.group, &kind.version)).await? else {
            return Ok(None);
        };
        let is_kind = |schema: &&Value| {
            let kinds = schema.list_at("x-kubernetes-group-version-kind");
            kinds.iter().any(|one| {
                (one.str_at("group"), one.str_at("version"), one.str_at("kind"))
                    == (&kind.group, &kind.version, &kind.kind)
            })
        };
        let found = document.at("components").map_at("schemas").values().find(is_kind);
        Ok(found.and_then(type_check::custom))
    }

    /// The kinds that a policy matches by name, in order.
    async fn kinds(&self, policy: &Value) -> anyhow::Result<Vec<(GroupVersionKind, Declared)>> {
        let mut found: Vec<GroupVersionKind> = Vec::new();
        for rule in policy.at("spec").at("matchConstraints").list_at("resourceRules") {
            let mut count = 0;
            for resource in type_check::resources(rule) {
                if count == type_check::MAX_KINDS {
                    break;
                }
                if let Some(kind) = self.kind(&resource).await? {
                    count += 1;
                    if !found.contains(&kind) {
                        found.push(kind);
                    }
                }
            }
        }
        found.sort_by(|a, b| (&a.group, &a.version, &a.kind).cmp(&(&b.group, &b.version, &b.kind)));
        let mut declared = Vec::with_capacity(found.len());
        for kind in found {
            if let Some(own) = self.declared(&kind).await? {
                declared.push((kind, own));
            }
        }
        Ok(declared)
    }
}

/// Of a group's version: below `/api`, `/apis`.
fn path(prefix: &str, group: &str, version: &str) -> String {
    if group.is_empty() { format!("{prefix}/api/{version}") } else { format!("{prefix}/apis/{group}/{version}") }
}

#[async_trait]
impl Controller for TypeCheck {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        NAME
    }

    async fn reconcile(&self, key: &ObjectKey) -> anyhow::Result<Action> {
        let Some(policy) = self.policies.get(key) else { return Ok(Action::Done) };
        if policy.meta.generation <= policy.status.observed_generation {
            return Ok(Action::Done);
        }
        let kind = &kinds::VALIDATING_ADMISSION_POLICIES;
        let Some(live) = self.objects.find(kind, "", &key.name).await? else { return Ok(Action::Done) };
        let parameters = match live.at("spec").get_set("paramKind") {
            Some(kind) => {
                let kind = GroupVersionKind::from_api_version(kind.str_at("apiVersion"), kind.str_at("kind"));
                self.declared(&kind).await?
            }
            None => None,
        };
        let warnings = type_check::warnings(&live, &self.kinds(&live).await?, parameters.as_ref());
        let generation = live.at("metadata").int_at("generation");
        self.objects
            .modify(kind, "", &key.name, "status", |policy| {
                // A newer one comes again.
                if policy.at("metadata").int_at("generation") != generation {
                    return false;
                }
                policy["status"]["observedGeneration"] = generation.into();
                policy["status"]["typeChecking"] = match warnings.as_slice() {
                    [] => json!({}),
                    warnings => json!({ "expressionWarnings": warnings }),
                };
                true
            })
            .await?;
        Ok(Action::Done)
    }
}
