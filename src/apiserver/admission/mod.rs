//! The admission chain: plugins that change or refuse a write before it is stored.
//!
//! Mutating plugins run after defaulting and before validation, validating ones after it. A plugin
//! is one file and one row of the chain's table.

use crate::api::{GroupVersionKind, GroupVersionResource, Status, UserInfo};
use async_trait::async_trait;
use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// One write on its way to the store.
pub struct Attributes<'a> {
    pub user: &'a UserInfo,
    pub operation: Operation,
    pub kind: &'a GroupVersionKind,
    pub resource: &'a GroupVersionResource,
    /// Empty: the object itself.
    pub subresource: &'a str,
    /// Empty: cluster-scoped.
    pub namespace: &'a str,
    /// Empty until generateName is resolved.
    pub name: &'a str,
    /// None on delete; on connect the options.
    pub object: Option<&'a mut Value>,
    /// On update and delete.
    pub old_object: Option<&'a Value>,
    /// CreateOptions, UpdateOptions, DeleteOptions.
    pub options: &'a Value,
    pub dry_run: bool,
    /// `Warning:` headers for the reply.
    pub warnings: &'a mut Vec<String>,
}

/// One plugin. Both steps let everything pass unless they say otherwise.
#[async_trait]
pub trait Plugin: Send + Sync + 'static {
    /// As `--enable-admission-plugins` names it.
    fn name(&self) -> &'static str;

    /// Whether it cares for such a write; asked first, so that the rest costs nothing.
    fn handles(&self, operation: Operation, resource: &GroupVersionResource, subresource: &str) -> bool;

    async fn admit(&self, _attributes: &mut Attributes<'_>) -> Result<(), Status> {
        Ok(())
    }

    async fn validate(&self, _attributes: &mut Attributes<'_>) -> Result<(), Status> {
        Ok(())
    }
}
