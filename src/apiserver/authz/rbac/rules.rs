//! One rule of a role, and whether it allows a request.

use crate::apiserver::authz::Attributes;
use serde::{Deserialize, Serialize};

/// `rbac.authorization.k8s.io/v1.PolicyRule`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    #[serde(default, deserialize_with = "null_is_empty")]
    pub verbs: Box<[Box<str>]>,
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "<[_]>::is_empty")]
    pub api_groups: Box<[Box<str>]>,
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "<[_]>::is_empty")]
    pub resources: Box<[Box<str>]>,
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "<[_]>::is_empty")]
    pub resource_names: Box<[Box<str>]>,
    #[serde(
        default,
        rename = "nonResourceURLs",
        deserialize_with = "null_is_empty",
        skip_serializing_if = "<[_]>::is_empty"
    )]
    pub non_resource_urls: Box<[Box<str>]>,
}

pub(super) fn null_is_empty<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

pub const ALL: &str = "*";

pub(super) fn has(list: &[Box<str>], wanted: &str) -> bool {
    list.iter().any(|item| &**item == wanted)
}

fn has_or_all(list: &[Box<str>], wanted: &str) -> bool {
    list.iter().any(|item| &**item == ALL || &**item == wanted)
}

/// `pods/log`, `pods`, `*`, `*/log`.
pub(super) fn resource_matches(rule: &str, resource: &str, subresource: &str) -> bool {
    if rule == ALL {
        return true;
    }
    match rule.split_once('/') {
        None => subresource.is_empty() && rule == resource,
        Some((head, tail)) => !subresource.is_empty() && tail == subresource && (head == ALL || head == resource),
    }
}

/// `/healthz/*` and the like.
pub(super) fn path_matches(rule: &str, path: &str) -> bool {
    rule == ALL || rule == path || rule.strip_suffix('*').is_some_and(|head| path.starts_with(head))
}

impl Rule {
    pub fn allows(&self, attributes: &Attributes<'_>) -> bool {
        if !has_or_all(&self.verbs, attributes.verb) {
            return false;
        }
        match &attributes.resource {
            Some(resource) => {
                has_or_all(&self.api_groups, resource.group)
                    && self.resources.iter().any(|rule| resource_matches(rule, resource.resource, resource.subresource))
                    && (self.resource_names.is_empty() || has(&self.resource_names, resource.name))
            }
            None => self.non_resource_urls.iter().any(|rule| path_matches(rule, attributes.path)),
        }
    }

    /// As messages show it: `{APIGroups:["apps"], Resources:["deployments"], Verbs:["get"]}`.
    pub fn compact(&self) -> String {
        let parts: Vec<String> = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ]
        .iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(name, list)| format!("{name}:{}", crate::api::field::go_list(list.iter().map(AsRef::as_ref))))
        .collect();
        format!("{{{}}}", parts.join(", "))
    }
}
