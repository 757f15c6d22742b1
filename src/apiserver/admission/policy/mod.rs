//! Admission policies: rules and changes in CEL, bound to what they apply to.
//!
//! [`definition`] has policies and bindings, compiled; [`run`] evaluates one for a write and a
//! parameter; [`validating`] and [`mutating`] are the two plugins.

mod definition;
mod mutating;
mod run;
mod validating;

pub(super) use mutating::MutatingPolicies;
pub(super) use validating::ValidatingPolicies;

use super::configurations::Configurations;
use super::matching::{World, is_exempt};
use super::{Metrics, Operation, Sources};
use crate::api::GroupVersionResource;
use crate::apiserver::authz::Authorizer;
use definition::{Binding, Policy};
use std::sync::Arc;

/// What both plugins have: the policies of a kind, their bindings, and what they ask.
struct Policies {
    policies: Configurations<Policy>,
    bindings: Configurations<Binding>,
    world: Arc<World>,
    authorizers: Vec<Arc<dyn Authorizer>>,
    metrics: Arc<Metrics>,
}

impl Policies {
    fn follow(sources: &Sources, policies: &str, bindings: &str) -> Self {
        let storage = &sources.storage;
        Self {
            policies: Configurations::follow(storage, policies, Policy::new),
            bindings: Configurations::follow(storage, bindings, Binding::new),
            world: sources.world(),
            authorizers: sources.authorizers.clone(),
            metrics: sources.metrics.clone(),
        }
    }

    fn handle(&self, operation: Operation, resource: &GroupVersionResource, subresource: &str) -> bool {
        self.policies.any(|policy| policy.may_match(operation, subresource)) && !is_exempt(resource)
    }
}
