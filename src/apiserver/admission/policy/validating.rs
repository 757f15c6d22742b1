//! ValidatingAdmissionPolicy.

use super::super::expressions::{Deciding, Subject, request_question};
use super::super::{Attributes, Operation, Plugin, Sources};
use super::Policies;
use super::definition::{Binding, Policy};
use super::run::{Annotations, Denial, Run};
use crate::api::status::StatusCause;
use crate::api::{GroupVersionResource, Status};
use crate::apiserver::audit;
use async_trait::async_trait;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

pub struct ValidatingPolicies(Policies);

/// The first no, by whom.
struct Refusal {
    policy: String,
    binding: Option<String>,
    denial: Denial,
}

impl ValidatingPolicies {
    pub fn new(sources: &Sources) -> Self {
        Self(Policies::follow(sources, "validatingadmissionpolicies", "validatingadmissionpolicybindings"))
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
            denial: Denial::error(message, false),
        };
        let closed = |refusal: Refusal| (!policy.fail_open).then_some(refusal);
        let invocation = match policy.criteria.matches(attributes, &self.0.world, false) {
            Ok(Some(invocation)) => invocation,
            Ok(None) => return Ok(None),
            Err(status) => {
                return Ok(closed(refusal(None, format!("failed to configure policy: {}", status.message))));
            }
        };
        let mut first = None;
        let mut annotations: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for binding in bindings.iter().filter(|binding| binding.policy == policy.name) {
            let parameters = match binding.matches(attributes, &self.0.world) {
                Ok(false) => continue,
                Ok(true) => policy.collect(binding, attributes, &self.0.world),
                Err(error) => Err(error),
            };
            let parameters = match parameters {
                Ok(parameters) => parameters,
                Err(error) => {
                    first = first.or(closed(refusal(Some(binding), error)));
                    continue;
                }
            };
            let subject = Subject::new(attributes, &invocation, &self.0.world).await?;
            let question = request_question(attributes);
            let user = attributes.user;
            for parameters in &parameters {
                let deciding = Deciding::new(&self.0.authorizers, user);
                let run = Run {
                    policy,
                    subject: &subject,
                    parameters: parameters.as_ref(),
                    deciding: &deciding,
                    question: &question,
                };
                let (denials, recorded) = match run.conditions().await {
                    Ok(true) => (run.validate().await, run.annotations().await),
                    Ok(false) => continue,
                    Err(message) => (vec![Denial::error(message, policy.fail_open)], Annotations::default()),
                };
                for denial in denials {
                    if self.act(policy, binding, &denial, attributes.warnings) && first.is_none() {
                        first = Some(Refusal { denial, ..refusal(Some(binding), String::new()) });
                    }
                }
                // What cannot be recorded is refused, whatever the binding does about validations.
                for denial in recorded.failed {
                    self.count(policy, binding, &denial, "deny");
                    first.get_or_insert_with(|| Refusal { denial, ..refusal(Some(binding), String::new()) });
                }
                for (key, mut value) in recorded.set {
                    value.truncate(value.floor_char_boundary(MAX_ANNOTATION));
                    let values = annotations.entry(key).or_default();
                    if !values.contains(&value) {
                        values.push(value);
                    }
                }
            }
        }
        for (key, values) in annotations {
            audit::annotate(&format!("{}/{key}", policy.name), values.join(", "));
        }
        Ok(first)
    }

    fn count(&self, policy: &Policy, binding: &Binding, denial: &Denial, action: &'static str) {
        self.0.metrics.validation(&policy.name, &binding.name, &denial.message, action, denial.started);
    }

    /// What the binding does about a validation that does not hold; whether it is refused.
    fn act(&self, policy: &Policy, binding: &Binding, denial: &Denial, warnings: &mut Vec<String>) -> bool {
        if denial.admits {
            tracing::debug!(policy = policy.name, error = denial.message, "validation failed open");
            self.count(policy, binding, denial, "allow");
            return false;
        }
        for action in &binding.actions {
            let counted = match action.as_str() {
                "Deny" => "deny",
                "Audit" => {
                    audit::annotate(VALIDATION_FAILURE, failure(binding, denial));
                    "audit"
                }
                "Warn" => {
                    warnings.push(format!(
                        "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                        policy.name, binding.name, denial.message
                    ));
                    "warn"
                }
                _ => continue,
            };
            self.count(policy, binding, denial, counted);
        }
        binding.actions.iter().any(|action| action == "Deny")
    }
}

const VALIDATION_FAILURE: &str = "validation.policy.admission.k8s.io/validation_failure";
/// Bytes of an audit annotation.
const MAX_ANNOTATION: usize = 10 * 1024;

/// A validation that does not hold, as the audit event has it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Failure<'a> {
    message: &'a str,
    policy: &'a str,
    binding: &'a str,
    expression_index: usize,
    validation_actions: &'a [String],
}

fn failure(binding: &Binding, denial: &Denial) -> String {
    let failure = Failure {
        message: &denial.message,
        policy: &binding.policy,
        binding: &binding.name,
        expression_index: denial.index,
        validation_actions: &binding.actions,
    };
    serde_json::to_string(&[failure]).expect("texts and a number print")
}

#[async_trait]
impl Plugin for ValidatingPolicies {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionPolicy"
    }

    fn handles(&self, operation: Operation, resource: &GroupVersionResource, subresource: &str) -> bool {
        self.0.handle(operation, resource, subresource)
    }

    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let (policies, bindings) = (self.0.policies.load(), self.0.bindings.load());
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
