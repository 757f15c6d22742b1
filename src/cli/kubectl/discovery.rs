//! What the cluster serves, and what a word on the command line means: `po`, `deploy`,
//! `deployments.apps`, `ingresses.v1.networking.k8s.io`, `all`.

use super::failure::{Failure, Outcome};
use super::session::Session;
use crate::api::Fields;
use crate::api::field::go_quote;
use crate::client::Kind;
use serde_json::Value;

const ACCEPT: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                      application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/// One kind of object that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    pub kind: Kind,
    pub singular: String,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    pub verbs: Vec<String>,
}

impl Resource {
    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|known| known == verb)
    }
}

/// `deployment.apps`, `pod`.
pub fn label(kind: &Kind) -> String {
    let name = kind.kind.to_lowercase();
    if kind.group.is_empty() { name } else { format!("{name}.{}", kind.group) }
}

/// Everything that is served, in the server's order; of each group the preferred version first.
pub struct Discovery {
    resources: Vec<Resource>,
    /// `apps/v1`, `v1`.
    pub versions: Vec<String>,
}

impl Discovery {
    pub async fn fetch(session: &Session) -> Outcome<Self> {
        let (mut resources, mut versions) = (Vec::new(), Vec::new());
        for root in ["/api", "/apis"] {
            let list = session.get(root, ACCEPT).await?;
            if list.str_at("kind") != "APIGroupDiscoveryList" {
                return Err(Failure::local("the server has no aggregated discovery: it is older than v1.27"));
            }
            for group in list.list_at("items") {
                for version in group.list_at("versions") {
                    let name = group.at("metadata").str_at("name");
                    versions.push(crate::api::gvk::join_api_version(name, version.str_at("version")));
                    read_version(name, version, &mut resources);
                }
            }
        }
        Ok(Self { resources, versions })
    }

    /// Of each resource the version that its group likes best.
    pub fn preferred(&self) -> impl Iterator<Item = &Resource> {
        let mut seen = std::collections::HashSet::new();
        self.resources.iter().filter(move |resource| seen.insert((&resource.kind.group, &resource.kind.plural)))
    }

    /// All resources of a word, in the server's order.
    pub fn all_of(&self, word: &str) -> impl Iterator<Item = &Resource> {
        let word = word.to_lowercase();
        self.resources.iter().filter(move |resource| {
            resource.kind.plural == word || resource.singular == word || resource.short_names.contains(&word)
        })
    }

    /// What a word means; categories give several.
    pub fn resolve(&self, word: &str) -> Outcome<Vec<&Resource>> {
        if let Some(resource) = self.find(word) {
            return Ok(vec![resource]);
        }
        let mut members: Vec<&Resource> = Vec::new();
        for resource in self.resources.iter().filter(|resource| resource.categories.iter().any(|name| name == word)) {
            let again = members
                .iter()
                .any(|other| other.kind.group == resource.kind.group && other.kind.plural == resource.kind.plural);
            if !again && resource.can("list") {
                members.push(resource);
            }
        }
        if members.is_empty() {
            return Err(unknown(word));
        }
        Ok(members)
    }

    /// The resource of a word that means one.
    pub fn resolve_one(&self, word: &str) -> Outcome<&Resource> {
        self.find(word).ok_or_else(|| unknown(word))
    }

    fn find(&self, word: &str) -> Option<&Resource> {
        let lower = word.to_lowercase();
        let named = |resource: &Resource, name: &str| {
            resource.kind.plural == name
                || resource.singular == name
                || resource.short_names.iter().any(|short| short == name)
        };
        // A name may have dots of its own only as a group.
        let mut parts = lower.splitn(3, '.');
        let name = parts.next().unwrap_or_default();
        match (parts.next(), parts.next()) {
            (None, _) => self.resources.iter().find(|resource| named(resource, name)),
            (Some(version), Some(group)) => self
                .resources
                .iter()
                .find(|resource| {
                    named(resource, name) && resource.kind.version == version && resource.kind.group == group
                })
                .or_else(|| self.in_group(&named, name, &format!("{version}.{group}"))),
            (Some(group), None) => self.in_group(&named, name, group),
        }
    }

    fn in_group(&self, named: &impl Fn(&Resource, &str) -> bool, name: &str, group: &str) -> Option<&Resource> {
        let candidates = || self.resources.iter().filter(|resource| named(resource, name));
        candidates()
            .find(|resource| resource.kind.group == group)
            .or_else(|| candidates().find(|resource| !group.is_empty() && resource.kind.group.starts_with(group)))
    }

    /// The resource of an object.
    pub fn of_object(&self, api_version: &str, kind: &str) -> Option<&Resource> {
        self.resources.iter().find(|resource| resource.kind.kind == kind && resource.kind.api_version() == api_version)
    }
}

/// Only the resource is named, not its version or group.
fn unknown(word: &str) -> Failure {
    let resource = word.split('.').next().unwrap_or_default();
    Failure::local(format!("the server doesn't have a resource type {}", go_quote(resource)))
}

fn read_version(group: &str, version: &Value, out: &mut Vec<Resource>) {
    for resource in version.list_at("resources") {
        let words = |field: &str| resource.strs_at(field).map(str::to_owned).collect();
        let kind = resource.at("responseKind");
        // Where the kind is of the group that it is listed in, its group may be left out, or be empty.
        let group = if kind.str_at("group").is_empty() { group } else { kind.str_at("group") };
        let kind_name = kind.str_at("kind").to_owned();
        let singular = match resource.str_at("singularResource") {
            "" => kind_name.to_lowercase(),
            name => name.to_owned(),
        };
        out.push(Resource {
            kind: Kind {
                group: group.to_owned().into(),
                version: version.str_at("version").to_owned().into(),
                kind: kind_name.into(),
                plural: resource.str_at("resource").to_owned().into(),
                namespaced: resource.str_at("scope") == "Namespaced",
            },
            singular,
            short_names: words("shortNames"),
            categories: words("categories"),
            verbs: words("verbs"),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served() -> Discovery {
        let resource = |group: &'static str,
                        version: &'static str,
                        kind: &'static str,
                        plural: &'static str,
                        short: &str,
                        all: bool| Resource {
            kind: Kind::namespaced(group, version, kind, plural),
            singular: kind.to_lowercase(),
            short_names: vec![short.to_owned()],
            categories: if all { vec!["all".to_owned()] } else { Vec::new() },
            verbs: vec!["list".to_owned()],
        };
        Discovery {
            versions: Vec::new(),
            resources: vec![
                resource("", "v1", "Event", "events", "ev", false),
                resource("", "v1", "Pod", "pods", "po", true),
                resource("apps", "v1", "Deployment", "deployments", "deploy", true),
                resource("apps", "v1beta1", "Deployment", "deployments", "deploy", true),
                resource("events.k8s.io", "v1", "Event", "events", "ev", false),
            ],
        }
    }

    #[test]
    fn words_mean_what_kubectl_takes_them_for() {
        let discovery = served();
        for (word, found) in [
            ("po", "v1 Pod"),
            ("pod", "v1 Pod"),
            ("Pod", "v1 Pod"),
            ("pods", "v1 Pod"),
            ("deploy", "apps/v1 Deployment"),
            ("deployments.apps", "apps/v1 Deployment"),
            ("deployments.v1beta1.apps", "apps/v1beta1 Deployment"),
            ("events", "v1 Event"),
            ("events.events.k8s.io", "events.k8s.io/v1 Event"),
            ("events.v1.events.k8s.io", "events.k8s.io/v1 Event"),
            ("ev.events", "events.k8s.io/v1 Event"),
        ] {
            let resource = discovery.resolve_one(word).expect(word);
            assert_eq!(format!("{} {}", resource.kind.api_version(), resource.kind.kind), found, "{word}");
        }
        let all: Vec<String> =
            discovery.resolve("all").expect("a category").iter().map(|one| label(&one.kind)).collect();
        assert_eq!(all, ["pod", "deployment.apps"]);
        let error = discovery.resolve("nonsense").expect_err("unknown").to_string();
        assert_eq!(error, "error: the server doesn't have a resource type \"nonsense\"");
    }
}
