//! ValidatingAdmissionWebhook: all at once; the first no decides.

use super::super::configurations::Configurations;
use super::super::matching::is_exempt;
use super::super::metrics::Step;
use super::super::{Attributes, Operation, Plugin, Sources};
use super::hook::{Caller, Hook, Place, hooks};
use crate::api::{GroupVersionResource, Status};
use crate::apiserver::metrics;
use async_trait::async_trait;
use futures::future::join_all;
use std::time::Instant;

pub struct ValidatingWebhooks {
    configurations: Configurations<Vec<Hook>>,
    caller: Caller,
}

impl ValidatingWebhooks {
    pub fn new(sources: &Sources) -> Self {
        let configurations =
            Configurations::follow(&sources.storage, "validatingwebhookconfigurations", |object| hooks(object));
        Self { configurations, caller: sources.caller() }
    }
}

#[async_trait]
impl Plugin for ValidatingWebhooks {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionWebhook"
    }

    fn handles(&self, operation: Operation, resource: &GroupVersionResource, subresource: &str) -> bool {
        self.configurations.any(|hooks| hooks.iter().any(|hook| hook.may_match(operation, subresource)))
            && !is_exempt(resource)
    }

    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let configurations = self.configurations.load();
        let mut calls = Vec::new();
        for hook in configurations.iter().flat_map(|hooks| hooks.iter()) {
            let Some(invocation) = hook.invocation(attributes, &self.caller).await? else { continue };
            calls.push((hook, hook.review(attributes, &invocation, &self.caller).await?));
        }
        let (operation, dry_run) = (attributes.operation, attributes.dry_run);
        let since = Instant::now();
        let results = join_all(calls.into_iter().enumerate().map(|(index, (hook, review))| async move {
            let place = Place { step: Step::Validate, round: 0, index };
            let mut warnings = Vec::new();
            let result = hook.ask(operation, dry_run, review, &self.caller, &place, &mut warnings).await;
            (result, warnings)
        }))
        .await;
        metrics::waited(since.elapsed());
        let mut denied = None;
        for (result, mut warnings) in results {
            attributes.warnings.append(&mut warnings);
            if let Err(status) = result {
                denied.get_or_insert(status);
            }
        }
        denied.map_or(Ok(()), Err)
    }
}
