//! ValidatingAdmissionPolicy.

use super::super::configurations::Configurations;
use super::super::expressions::{Deciding, Subject, request_question};
use super::super::matching::{World, is_exempt};
use super::super::{Attributes, Operation, Plugin, Sources};
use super::definition::{Binding, Policy};
use super::run::{Denial, Run};
use crate::api::status::StatusCause;
use crate::api::{GroupVersionResource, Status};
use crate::apiserver::authz::Authorizer;
use async_trait::async_trait;
use std::sync::Arc;

pub struct ValidatingPolicies {
    policies: Configurations<Policy>,
    bindings: Configurations<Binding>,
    world: Arc<World>,
    authorizers: Vec<Arc<dyn Authorizer>>,
}

/// The first no, by whom.
struct Refusal {
    policy: String,
    binding: Option<String>,
    denial: Denial,
}

impl ValidatingPolicies {
    pub fn new(sources: &Sources) -> Self {
        let storage = &sources.storage;
        Self {
            policies: Configurations::follow(storage, "validatingadmissionpolicies", Policy::new),
            bindings: Configurations::follow(storage, "validatingadmissionpolicybindings", Binding::new),
            world: sources.world(),
            authorizers: sources.authorizers.clone(),
        }
    }

    async fn policy(
        &self,
        policy: &Policy,
        bindings: &[Arc<Binding>],
        attributes: &mut Attributes<'_>,
    ) -> Result<Option<Refusal>, Status> {
        let refusal = |binding: Option<&Binding>, message: String| Refusal {
            policy: policy.name.clone(),
            binding: binding.map(|binding| binding.name.clone()),
            denial: Denial { message, reason: String::new() },
        };
        let closed = |refusal: Refusal| (!policy.fail_open).then_some(refusal);
        let invocation = match policy.criteria.matches(attributes, &self.world, false) {
            Ok(Some(invocation)) => invocation,
            Ok(None) => return Ok(None),
            Err(status) => {
                return Ok(closed(refusal(None, format!("failed to configure policy: {}", status.message))));
            }
        };
        let mut first = None;
        for binding in bindings.iter().filter(|binding| binding.policy == policy.name) {
            let parameters = match binding.matches(attributes, &self.world) {
                Ok(false) => continue,
                Ok(true) => policy.collect(binding, attributes, &self.world),
                Err(error) => Err(error),
            };
            let parameters = match parameters {
                Ok(parameters) => parameters,
                Err(error) => {
                    first = first.or(closed(refusal(Some(binding), error)));
                    continue;
                }
            };
            let subject = Subject::new(attributes, &invocation, &self.world).await?;
            let question = request_question(attributes);
            let user = attributes.user;
            for parameters in &parameters {
                let deciding = Deciding::new(&self.authorizers, user);
                let run = Run {
                    policy,
                    subject: &subject,
                    parameters: parameters.as_ref(),
                    deciding: &deciding,
                    question: &question,
                };
                let denials = match run.conditions().await {
                    Ok(true) => {
                        let mut denials = run.validate().await;
                        if let Err(message) = run.annotations().await {
                            denials.push(Denial { message, reason: String::new() });
                        }
                        denials
                    }
                    Ok(false) => continue,
                    Err(_) if policy.fail_open => continue,
                    Err(message) => vec![Denial { message, reason: String::new() }],
                };
                for denial in denials {
                    if binding.warn {
                        attributes.warnings.push(format!(
                            "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                            policy.name, binding.name, denial.message
                        ));
                    }
                    if binding.deny && first.is_none() {
                        first = Some(Refusal { denial, ..refusal(Some(binding), String::new()) });
                    }
                }
            }
        }
        Ok(first)
    }
}

#[async_trait]
impl Plugin for ValidatingPolicies {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionPolicy"
    }

    fn handles(&self, operation: Operation, resource: &GroupVersionResource, subresource: &str) -> bool {
        self.policies.any(|policy| policy.may_match(operation, subresource)) && !is_exempt(resource)
    }

    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let (policies, bindings) = (self.policies.load(), self.bindings.load());
        let mut first = None;
        for policy in policies.iter() {
            let refusal = self.policy(policy, &bindings, attributes).await?;
            first = first.or(refusal);
        }
        first.map_or(Ok(()), |refusal| Err(refused(attributes, &refusal)))
    }
}

fn refused(attributes: &Attributes<'_>, refusal: &Refusal) -> Status {
    let Refusal { policy, binding, denial } = refusal;
    let by = match binding {
        Some(binding) => format!("ValidatingAdmissionPolicy '{policy}' with binding '{binding}'"),
        None => format!("ValidatingAdmissionPolicy '{policy}'"),
    };
    let message = format!("{by} denied request: {}", denial.message);
    let mut status = attributes.forbidden(&message);
    let reason = if denial.reason.is_empty() { "Invalid" } else { &denial.reason };
    status.reason = reason.to_owned();
    status.code = match reason {
        "Unauthorized" => 401,
        "Forbidden" => 403,
        "RequestEntityTooLarge" => 413,
        _ => 422,
    };
    let cause = StatusCause { reason: String::new(), message, field: String::new() };
    status.details.get_or_insert_default().causes.push(cause);
    status
}
