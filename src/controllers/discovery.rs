//! What the server serves, for controllers that work on every kind.

use crate::client::Kind;
use kube::discovery::{Discovery, Scope};
use std::borrow::Cow;

/// One kind in its preferred version.
#[derive(Clone, Debug, PartialEq)]
pub struct Served {
    pub kind: Kind,
    pub verbs: Vec<String>,
    /// It has the subresource `scale`.
    pub scales: bool,
}

impl Served {
    pub fn has(&self, verbs: &[&str]) -> bool {
        verbs.iter().all(|verb| self.verbs.iter().any(|has| has == verb))
    }
}

/// Every kind, each in one version.
pub async fn served(client: &kube::Client) -> Result<Vec<Served>, kube::Error> {
    let discovery = Discovery::new(client.clone()).run_aggregated().await?;
    let mut served = Vec::new();
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            served.push(Served {
                kind: Kind {
                    group: Cow::Owned(resource.group),
                    version: Cow::Owned(resource.version),
                    kind: Cow::Owned(resource.kind),
                    plural: Cow::Owned(resource.plural),
                    namespaced: capabilities.scope == Scope::Namespaced,
                },
                scales: capabilities.subresources.iter().any(|(subresource, _)| subresource.plural == "scale"),
                verbs: capabilities.operations,
            });
        }
    }
    served.sort_by(|one, two| one.kind.cmp(&two.kind));
    Ok(served)
}
