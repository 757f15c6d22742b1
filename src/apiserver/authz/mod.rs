//! May this user do this: authorizers are asked in order, the first with an opinion decides.

use crate::api::UserInfo;
use async_trait::async_trait;

/// What is asked, as `authorization.k8s.io` SubjectAccessReview says it.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    pub user: &'a UserInfo,
    /// Lower case: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`,
    /// or the method of a non-resource request.
    pub verb: &'a str,
    /// None: a non-resource request for `path`.
    pub resource: Option<ResourceAttributes<'a>>,
    pub path: &'a str,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct ResourceAttributes<'a> {
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    /// Empty: none.
    pub subresource: &'a str,
    /// Empty: cluster-scoped, or all namespaces.
    pub namespace: &'a str,
    /// Empty: all, or not known yet.
    pub name: &'a str,
    /// The raw fieldSelector of the request; empty: none.
    pub field_selector: &'a str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// With the reason, for reviews and audit: `RBAC: allowed by ClusterRoleBinding "x" of …`.
    Allow(String),
    Deny(String),
    NoOpinion(String),
}

/// One source of rights.
#[async_trait]
pub trait Authorizer: Send + Sync + 'static {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision;
}
