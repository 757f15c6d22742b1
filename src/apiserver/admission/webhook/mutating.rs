//! MutatingAdmissionWebhook: one after the other, each sees what those before it made.

use super::super::configurations::Configurations;
use super::super::matching::{Invocation, is_exempt};
use super::super::metrics::Step;
use super::super::{Attributes, Operation, Plugin, Sources};
use super::hook::{Caller, Hook, Place, hooks};
use crate::api::field::go_quote;
use crate::api::{GroupVersionResource, Status, operations};
use crate::apiserver::{audit, codec};
use async_trait::async_trait;
use serde::Serialize;
use serde_json::Value;

pub struct MutatingWebhooks {
    configurations: Configurations<Vec<Hook>>,
    caller: Caller,
}

impl MutatingWebhooks {
    pub fn new(sources: &Sources) -> Self {
        let configurations =
            Configurations::follow(&sources.storage, "mutatingwebhookconfigurations", |object| hooks(object));
        Self { configurations, caller: sources.caller() }
    }

    /// Apply a patch; whether it changed anything.
    async fn patch(
        &self,
        hook: &Hook,
        attributes: &mut Attributes<'_>,
        invocation: &Invocation,
        patch: &[Value],
    ) -> Result<bool, Status> {
        let world = &self.caller.world;
        let Some(object) = attributes.object.as_deref_mut() else {
            let name = go_quote(&hook.name);
            return Err(Status::internal(format!(
                "admission webhook {name} attempted to modify the object, which is not supported for this operation"
            )));
        };
        let mut patched = match &invocation.row {
            Some(row) => world.convert(object, attributes.resource, row).await?,
            None => object.clone(),
        };
        operations::apply(&mut patched, patch).map_err(|refused| Status::internal(refused.to_string()))?;
        let GroupVersionResource { group, version, resource } = attributes.resource;
        let own = world.registry.row(group, version, resource);
        if let (Some(row), Some(own)) = (&invocation.row, &own) {
            patched = codec::convert(row, own, &patched).await?;
        }
        // A subresource's own kind is no object of the row.
        if let Some(own) = own.filter(|own| own.gvk == *attributes.kind) {
            patched = codec::normalize(&own, patched)?;
        }
        let changed = patched != *object;
        *object = patched;
        Ok(changed)
    }
}

#[async_trait]
impl Plugin for MutatingWebhooks {
    fn name(&self) -> &'static str {
        "MutatingAdmissionWebhook"
    }

    fn handles(&self, operation: Operation, resource: &GroupVersionResource, subresource: &str) -> bool {
        self.configurations.any(|hooks| hooks.iter().any(|hook| hook.may_match(operation, subresource)))
            && !is_exempt(resource)
    }

    async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let again = attributes.reinvocation.again;
        if again && self.output_changed(attributes) {
            attributes.reinvocation.require_hooks();
        }
        for (index, hook) in self.configurations.load().iter().flat_map(|hooks| hooks.iter()).enumerate() {
            if again && !attributes.reinvocation.wants_hook(&hook.id) {
                continue;
            }
            let Some(invocation) = hook.invocation(attributes, &self.caller).await? else { continue };
            let place = Place { step: Step::Admit, round: u8::from(again), index };
            let changed = self.mutate(hook, attributes, &invocation, &place).await;
            audit::annotate(&place.key(""), mutation_record(hook, matches!(changed, Ok(true))));
            if changed? {
                attributes.reinvocation.require_hooks();
                attributes.reinvocation.needed = true;
            }
            if hook.reinvoke {
                attributes.reinvocation.called_hook(&hook.id);
            }
        }
        attributes.reinvocation.output = attributes.object.as_deref().cloned();
        Ok(())
    }
}

/// Whether a webhook changed the object, for the audit event.
fn mutation_record(hook: &Hook, mutated: bool) -> String {
    record(&Record { mutated: Some(mutated), ..Record::of(hook) })
}

/// What the audit event says of a webhook.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    configuration: &'a str,
    webhook: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mutated: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<&'a [Value]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
}

impl<'a> Record<'a> {
    fn of(hook: &'a Hook) -> Self {
        Self { configuration: &hook.configuration, webhook: &hook.name, mutated: None, patch: None, patch_type: None }
    }
}

fn record(record: &Record<'_>) -> String {
    serde_json::to_string(record).expect("a record prints")
}

impl MutatingWebhooks {
    /// Call one and do as it says; whether that changed anything.
    async fn mutate(
        &self,
        hook: &Hook,
        attributes: &mut Attributes<'_>,
        invocation: &Invocation,
        place: &Place,
    ) -> Result<bool, Status> {
        let answer = hook.call(attributes, invocation, &self.caller, place).await?;
        let Some(patch) = answer.and_then(|answer| answer.patch) else { return Ok(false) };
        let changed = self.patch(hook, attributes, invocation, &patch).await?;
        let key = format!("patch.webhook.admission.k8s.io/round_{}_index_{}", place.round, place.index);
        audit::annotate_request(&key, || {
            record(&Record { patch: Some(&patch), patch_type: Some("JSONPatch"), ..Record::of(hook) })
        });
        Ok(changed)
    }

    /// Whether plugins changed the object since the webhooks saw it.
    fn output_changed(&self, attributes: &Attributes<'_>) -> bool {
        let last: Option<&Value> = attributes.reinvocation.output.as_ref();
        last != attributes.object.as_deref()
    }
}
