//! MutatingAdmissionPolicy.

use super::super::expressions::{Deciding, Subject, request_question};
use super::super::matching::Invocation;
use super::super::{Attributes, Operation, Plugin, Sources};
use super::Policies;
use super::definition::{Binding, Mutation, Policy};
use super::run::Run;
use crate::api::operations::{self, Refused};
use crate::api::status::StatusCause;
use crate::api::{Fields, GroupVersionResource, Status};
use crate::apiserver::codec;
use crate::schema;
use async_trait::async_trait;
use serde_json::Value;
use std::sync::Arc;
use std::time::Instant;

pub struct MutatingPolicies(Policies);

impl MutatingPolicies {
    pub fn new(sources: &Sources) -> Self {
        Self(Policies::follow(sources, "mutatingadmissionpolicies", "mutatingadmissionpolicybindings"))
    }

    /// The texts of what fails, where the policy fails closed.
    async fn policy(
        &self,
        policy: &Policy,
        bindings: &[Arc<Binding>],
        attributes: &mut Attributes<'_>,
    ) -> Result<Vec<String>, Status> {
        let mut failed = Vec::new();
        let name = &policy.name;
        let mut fail = |binding: Option<&Binding>, error: String| {
            if !policy.fail_open {
                failed.push(match binding {
                    Some(binding) => {
                        format!("policy '{name}' with binding '{}' denied request: {error}", binding.name)
                    }
                    None => format!("policy \"{name}\" denied request: {error}"),
                });
            }
        };
        let invocation = match policy.criteria.matches(attributes, &self.0.world, false) {
            Ok(Some(invocation)) => invocation,
            Ok(None) => return Ok(failed),
            Err(status) => {
                fail(None, format!("failed to configure policy: {}", status.message));
                return Ok(failed);
            }
        };
        for binding in bindings.iter().filter(|binding| binding.policy == policy.name) {
            let parameters = match binding.matches(attributes, &self.0.world) {
                Ok(false) => continue,
                Ok(true) => policy.collect(binding, attributes, &self.0.world),
                Err(error) => Err(error),
            };
            let parameters = match parameters {
                Ok(parameters) => parameters,
                Err(error) => {
                    fail(Some(binding), error);
                    continue;
                }
            };
            for parameters in &parameters {
                let started = Instant::now();
                let applied = self.apply(policy, binding, parameters.as_ref(), &invocation, attributes).await?;
                let error = applied.as_ref().err().map(String::as_str);
                self.0.metrics.mutation(&policy.name, &binding.name, error, started);
                if let Err(error) = applied {
                    fail(Some(binding), error);
                }
            }
        }
        Ok(failed)
    }

    /// All mutations of a policy with one parameter. The inner Err: the policy's failure.
    async fn apply(
        &self,
        policy: &Policy,
        binding: &Binding,
        parameters: Option<&Value>,
        invocation: &Invocation,
        attributes: &mut Attributes<'_>,
    ) -> Result<Result<(), String>, Status> {
        let metadata = parameters.map(|parameters| parameters.at("metadata"));
        let parameter = metadata
            .map_or(String::new(), |metadata| format!("{}/{}", metadata.str_at("namespace"), metadata.str_at("name")));
        let id = format!("{}/{}/{parameter}", policy.name, binding.name);
        let deciding = Deciding::new(&self.0.authorizers, attributes.user);
        let question = request_question(attributes);
        let mut subject = Subject::new(attributes, invocation, &self.0.world).await?;
        let run = Run { policy, subject: &subject, parameters, deciding: &deciding, question: &question };
        match run.conditions().await {
            Ok(true) => {}
            Ok(false) => return Ok(Ok(())),
            Err(error) => return Ok(Err(error)),
        }
        if attributes.reinvocation.again && !attributes.reinvocation.policies.wants(&id) {
            return Ok(Ok(()));
        }
        let mut outcome = Ok(());
        let before = subject.object.clone();
        for mutation in &policy.mutations {
            if subject.object.is_null() {
                continue;
            }
            let run = Run { policy, subject: &subject, parameters, deciding: &deciding, question: &question };
            let mutated = match run.mutation(mutation).await {
                Ok(patch) => self.mutate(mutation, &patch, invocation, attributes, &subject.object)?,
                Err(error) => Err(error),
            };
            match mutated {
                Ok(object) => subject.object = object,
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        if subject.object != before {
            self.store(invocation, attributes, subject.object).await?;
            attributes.reinvocation.policies.require();
            attributes.reinvocation.needed = true;
        }
        if policy.reinvoke {
            attributes.reinvocation.policies.called(&id);
        }
        Ok(outcome)
    }

    /// The object with one mutation made.
    fn mutate(
        &self,
        mutation: &Mutation,
        patch: &Value,
        invocation: &Invocation,
        attributes: &Attributes<'_>,
        object: &Value,
    ) -> Result<Result<Value, String>, Status> {
        let resource = invocation.row.as_ref().map_or(attributes.resource, |row| &row.gvr);
        let row = self.0.world.registry.row(&resource.group, &resource.version, &resource.resource);
        let row = row.filter(|row| row.gvk == invocation.kind);
        let mutated = if mutation.is_patch {
            let mut patched = object.clone();
            match operations::apply(&mut patched, patch.items()) {
                Ok(()) => patched,
                // A test that does not hold: nothing is to be done.
                Err(Refused::TestFailed(_)) => object.clone(),
                Err(refused) => return Ok(Err(format!("JSON Patch: {refused}"))),
            }
        } else {
            let Some(schema) = row.as_ref().and_then(|row| row.schema.as_ref()) else {
                return Err(Status::service_unavailable(format!(
                    "Resource kind {} not found. There can be a delay between when CustomResourceDefinitions are created and when they are available.",
                    invocation.kind
                )));
            };
            let mut patch = patch.clone();
            patch["apiVersion"] = object["apiVersion"].clone();
            patch["kind"] = object["kind"].clone();
            match schema::merge_applied(schema, object, &patch) {
                Ok(merged) => merged,
                Err(error) => return Ok(Err(error)),
            }
        };
        match row {
            Some(row) => codec::normalize(&row, mutated).map(Ok),
            None => Ok(Ok(mutated)),
        }
    }

    async fn store(
        &self,
        invocation: &Invocation,
        attributes: &mut Attributes<'_>,
        mut object: Value,
    ) -> Result<(), Status> {
        if let Some(row) = &invocation.row {
            let GroupVersionResource { group, version, resource } = attributes.resource;
            if let Some(own) = self.0.world.registry.row(group, version, resource) {
                object = codec::convert(row, &own, &object).await?;
            }
        }
        if let Some(place) = attributes.object.as_deref_mut() {
            *place = object;
        }
        Ok(())
    }
}

#[async_trait]
impl Plugin for MutatingPolicies {
    fn name(&self) -> &'static str {
        "MutatingAdmissionPolicy"
    }

    fn handles(&self, operation: Operation, resource: &GroupVersionResource, subresource: &str) -> bool {
        self.0.handle(operation, resource, subresource)
    }

    async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let (policies, bindings) = (self.0.policies.load(), self.0.bindings.load());
        if attributes.reinvocation.again
            && attributes.reinvocation.policies_output.as_ref() != attributes.object.as_deref()
        {
            attributes.reinvocation.policies.require();
        }
        let mut failed = Vec::new();
        for policy in policies.iter() {
            failed.append(&mut self.policy(policy, &bindings, attributes).await?);
        }
        attributes.reinvocation.policies_output = attributes.object.as_deref().cloned();
        let Some(first) = failed.first() else { return Ok(()) };
        let mut status = attributes.forbidden("admission request denied by policy");
        status.message.clone_from(first);
        status.reason = "Invalid".to_owned();
        let causes = &mut status.details.get_or_insert_default().causes;
        causes.extend(failed.iter().map(|message| StatusCause {
            reason: String::new(),
            message: message.clone(),
            field: String::new(),
        }));
        Err(status)
    }
}
