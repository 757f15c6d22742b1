//! Role-based access control, from an index that follows the store.
//!
//! Bindings are found by the user's name and groups, never by a list over all of them. The index
//! is changed by the store's watch; a request only reads it.

mod escalation;
mod index;
mod rules;

pub use escalation::{confirm_no_escalation, covers};
pub use rules::Rule;

use super::{Attributes, Authorizer, Decision};
use crate::api::{GroupResource, UserInfo};
use crate::apiserver::follow::{Following, Update, follow};
use crate::storage::{Prefix, Storage};
use async_trait::async_trait;
use index::{Binding, Index};
use parking_lot::RwLock;
use std::ops::ControlFlow;
use std::sync::Arc;

pub const GROUP: &str = "rbac.authorization.k8s.io";

/// The RBAC authorizer and rule resolver.
pub struct Rbac {
    index: Arc<RwLock<Index>>,
    _following: Vec<Following>,
}

/// The rules that a user has in a namespace.
#[derive(Debug, Default)]
pub struct Resolved {
    pub rules: Vec<Rule>,
    /// Bindings to roles that are not there.
    pub errors: Vec<String>,
}

type Apply = fn(&mut Index, Update<'_>);

impl Rbac {
    /// Must be called on a tokio runtime.
    pub fn new(storage: Arc<dyn Storage>) -> Self {
        let index: Arc<RwLock<Index>> = Arc::default();
        let resources: [(&str, Apply); 4] = [
            ("clusterroles", Index::apply_cluster_role),
            ("roles", Index::apply_role),
            ("clusterrolebindings", Index::apply_cluster_role_binding),
            ("rolebindings", Index::apply_role_binding),
        ];
        let following = resources
            .into_iter()
            .map(|(resource, apply)| {
                let index = index.clone();
                let prefix = Prefix::resource(&GroupResource::new(GROUP, resource));
                follow(storage.clone(), prefix, move |update| apply(&mut index.write(), update))
            })
            .collect();
        Self { index, _following: following }
    }

    /// All rules of the user in the namespace (empty: cluster-wide only).
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> Resolved {
        let mut resolved = Resolved::default();
        let index = self.index.read();
        let _ = index.visit(user, namespace, &mut |binding, _| {
            match index.role(binding) {
                Ok(rules) => resolved.rules.extend_from_slice(rules),
                Err(error) => resolved.errors.push(error),
            }
            ControlFlow::<()>::Continue(())
        });
        resolved
    }
}

#[async_trait]
impl Authorizer for Rbac {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let namespace = attributes.resource.map_or("", |resource| resource.namespace);
        let index = self.index.read();
        let mut errors: Vec<String> = Vec::new();
        let found =
            index.visit(attributes.user, namespace, &mut |binding: &Binding, subject| match index.role(binding) {
                Ok(rules) if rules.iter().any(|rule| rule.allows(attributes)) => {
                    ControlFlow::Break(format!("RBAC: allowed by {}", binding.describe(subject)))
                }
                Ok(_) => ControlFlow::Continue(()),
                Err(error) => {
                    errors.push(error);
                    ControlFlow::Continue(())
                }
            });
        match found {
            ControlFlow::Break(reason) => Decision::Allow(reason),
            ControlFlow::Continue(()) => Decision::NoOpinion(match errors.as_slice() {
                [] => String::new(),
                [one] => format!("RBAC: {one}"),
                many => format!("RBAC: [{}]", many.join(", ")),
            }),
        }
    }
}

#[cfg(test)]
mod tests;
