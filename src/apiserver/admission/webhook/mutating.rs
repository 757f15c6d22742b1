//! MutatingAdmissionWebhook: one after the other, each sees what those before it made.

use super::super::configurations::Configurations;
use super::super::matching::is_exempt;
use super::super::{Attributes, Operation, Plugin, Sources};
use super::hook::{Caller, Hook, hooks};
use crate::api::field::go_quote;
use crate::api::{GroupVersionResource, Status};
use crate::apiserver::codec;
use async_trait::async_trait;
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
        invocation: &super::super::matching::Invocation,
        patch: &json_patch::Patch,
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
        json_patch::patch(&mut patched, patch).map_err(|error| Status::internal(error.to_string()))?;
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
        for hook in self.configurations.load().iter().flat_map(|hooks| hooks.iter()) {
            if again && !attributes.reinvocation.wants_hook(&hook.id) {
                continue;
            }
            let Some(invocation) = hook.invocation(attributes, &self.caller).await? else { continue };
            let answer = hook.call(attributes, &invocation, &self.caller, true).await?;
            if let Some(patch) = answer.and_then(|answer| answer.patch)
                && self.patch(hook, attributes, &invocation, &patch).await?
            {
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

impl MutatingWebhooks {
    /// Whether plugins changed the object since the webhooks saw it.
    fn output_changed(&self, attributes: &Attributes<'_>) -> bool {
        let last: Option<&Value> = attributes.reinvocation.output.as_ref();
        last != attributes.object.as_deref()
    }
}
