//! May this user do this: authorizers are asked in order, the first with an opinion decides.
//!
//! [`check`] is what the API server asks; [`standard`] makes its authorizers.

mod node;
pub mod rbac;
pub mod webhook;

pub use node::{NodeAuthorizer, node_identity};
pub use rbac::Rbac;

use crate::api::field::go_quote;
use crate::api::user::SYSTEM_MASTERS;
use crate::api::{GroupResource, Status, UserInfo};
use crate::storage::Storage;
use async_trait::async_trait;
use std::sync::Arc;

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

/// The authorizers of the API server in order: `system:masters`, Node, RBAC. Must be called on a
/// tokio runtime.
pub fn standard(storage: &Arc<dyn Storage>) -> (Vec<Arc<dyn Authorizer>>, Arc<Rbac>) {
    of_modes(storage, &[Mode::Node, Mode::Rbac], None)
}

/// `--authorization-mode`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    AlwaysAllow,
    AlwaysDeny,
    Node,
    Rbac,
    Webhook,
}

impl Mode {
    pub const ALL: &[(&str, Self)] = &[
        ("AlwaysAllow", Self::AlwaysAllow),
        ("AlwaysDeny", Self::AlwaysDeny),
        ("Node", Self::Node),
        ("RBAC", Self::Rbac),
        ("Webhook", Self::Webhook),
    ];
}

/// As [`standard`], of the given modes in their order. RBAC answers reviews of rules, used or not.
pub fn of_modes(
    storage: &Arc<dyn Storage>,
    modes: &[Mode],
    webhook: Option<Arc<webhook::Webhook>>,
) -> (Vec<Arc<dyn Authorizer>>, Arc<Rbac>) {
    let rbac = Arc::new(Rbac::new(storage.clone()));
    let mut authorizers: Vec<Arc<dyn Authorizer>> = vec![Arc::new(PrivilegedGroup)];
    for mode in modes {
        match mode {
            Mode::AlwaysAllow => authorizers.push(Arc::new(Always(true))),
            Mode::AlwaysDeny => authorizers.push(Arc::new(Always(false))),
            Mode::Node => authorizers.push(Arc::new(NodeAuthorizer::new(storage.clone()))),
            Mode::Rbac => authorizers.push(rbac.clone()),
            Mode::Webhook => authorizers.extend(webhook.clone().map(|webhook| webhook as Arc<dyn Authorizer>)),
        }
    }
    (authorizers, rbac)
}

/// Says yes to all, or no.
struct Always(bool);

#[async_trait]
impl Authorizer for Always {
    async fn authorize(&self, _attributes: &Attributes<'_>) -> Decision {
        match self.0 {
            true => Decision::Allow(String::new()),
            false => Decision::NoOpinion("Everything is forbidden.".to_owned()),
        }
    }
}

/// `system:masters` may do everything.
pub struct PrivilegedGroup;

#[async_trait]
impl Authorizer for PrivilegedGroup {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        if attributes.user.groups.iter().any(|group| group == SYSTEM_MASTERS) {
            Decision::Allow(String::new())
        } else {
            Decision::NoOpinion(String::new())
        }
    }
}

/// Ask them in order; the reasons of those without an opinion are joined.
pub async fn decide(authorizers: &[Arc<dyn Authorizer>], attributes: &Attributes<'_>) -> Decision {
    let mut reasons = String::new();
    for authorizer in authorizers {
        match authorizer.authorize(attributes).await {
            Decision::NoOpinion(reason) => {
                if !reasons.is_empty() && !reason.is_empty() {
                    reasons.push('\n');
                }
                reasons.push_str(&reason);
            }
            decided => return decided,
        }
    }
    Decision::NoOpinion(reasons)
}

/// `Err`: the 403 that Kubernetes answers.
pub async fn check(authorizers: &[Arc<dyn Authorizer>], attributes: &Attributes<'_>) -> Result<(), Status> {
    match decide(authorizers, attributes).await {
        Decision::Allow(_) => Ok(()),
        Decision::Deny(reason) | Decision::NoOpinion(reason) => Err(forbidden(attributes, &reason)),
    }
}

/// The 403 for a request that was not allowed.
pub fn forbidden(attributes: &Attributes<'_>, reason: &str) -> Status {
    let user = go_quote(&attributes.user.name);
    let verb = attributes.verb;
    let (about, name, mut detail) = match &attributes.resource {
        None => {
            let path = go_quote(attributes.path);
            (GroupResource::new("", ""), "", format!("User {user} cannot {verb} path {path}"))
        }
        Some(resource) => {
            let what = if resource.subresource.is_empty() {
                go_quote(resource.resource)
            } else {
                go_quote(&format!("{}/{}", resource.resource, resource.subresource))
            };
            let place = if resource.namespace.is_empty() {
                "at the cluster scope".to_owned()
            } else {
                format!("in the namespace {}", go_quote(resource.namespace))
            };
            let group = go_quote(resource.group);
            let detail = format!("User {user} cannot {verb} resource {what} in API group {group} {place}");
            (GroupResource::new(resource.group, resource.resource), resource.name, detail)
        }
    };
    if !reason.is_empty() {
        detail.push_str(": ");
        detail.push_str(reason);
    }
    Status::forbidden(&about, name, &detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_worded_as_kubernetes_does() {
        let user = UserInfo { name: "jane".to_owned(), ..UserInfo::default() };
        let pods = ResourceAttributes { resource: "pods", version: "v1", ..ResourceAttributes::default() };
        let check = |verb: &str, resource: Option<ResourceAttributes<'_>>, reason: &str, wanted: &str| {
            let attributes = Attributes { user: &user, verb, resource, path: "/metrics" };
            let status = forbidden(&attributes, reason);
            assert_eq!(status.message, wanted);
            assert_eq!((status.code, status.reason.as_str()), (403, "Forbidden"));
        };
        check(
            "list",
            Some(pods),
            "",
            "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" at the cluster scope",
        );
        check(
            "create",
            Some(ResourceAttributes { subresource: "exec", namespace: "default", name: "web", ..pods }),
            "no",
            "pods \"web\" is forbidden: User \"jane\" cannot create resource \"pods/exec\" in API group \"\" \
             in the namespace \"default\": no",
        );
        check(
            "patch",
            Some(ResourceAttributes { group: "apps", resource: "deployments", namespace: "x", ..pods }),
            "",
            "deployments.apps is forbidden: User \"jane\" cannot patch resource \"deployments\" \
             in API group \"apps\" in the namespace \"x\"",
        );
        check("get", None, "", "forbidden: User \"jane\" cannot get path \"/metrics\"");
    }
}
