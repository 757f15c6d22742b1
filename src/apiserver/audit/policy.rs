//! `audit.k8s.io/v1` Policy: which requests are recorded, and how much of them. The first rule that
//! matches decides; without one nothing is recorded.

use super::event::Stage;
use crate::api::{UserInfo, yaml};
use crate::apiserver::request::RequestInfo;
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// How much of a request is recorded; each level has what those before it have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    None,
    Metadata,
    Request,
    RequestResponse,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    api_version: String,
    kind: String,
    #[serde(default)]
    #[allow(dead_code, reason = "a file may have it, nothing reads it")]
    metadata: serde::de::IgnoredAny,
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<GroupResources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GroupResources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

/// What the policy says of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub level: Level,
    pub omit_stages: Vec<Stage>,
    pub omit_managed_fields: bool,
}

impl Policy {
    /// From a YAML or JSON file.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("read the audit policy {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("audit policy {}", path.display()))
    }

    pub fn parse(text: &str) -> Result<Self> {
        let policy: Self = yaml::read::typed(text).map_err(anyhow::Error::msg)?;
        if (policy.api_version.as_str(), policy.kind.as_str()) != ("audit.k8s.io/v1", "Policy") {
            bail!("is {} {}: write apiVersion audit.k8s.io/v1 and kind Policy", policy.api_version, policy.kind);
        }
        ensure!(!policy.rules.is_empty(), "has no rules: at least one is needed");
        for (place, rule) in policy.rules.iter().enumerate() {
            rule.check().with_context(|| format!("rules[{place}]"))?;
        }
        Ok(policy)
    }

    pub fn decide(&self, user: &UserInfo, info: &RequestInfo) -> Decision {
        let Some(rule) = self.rules.iter().find(|rule| rule.matches(user, info)) else {
            return Decision {
                level: Level::None,
                omit_stages: self.omit_stages.clone(),
                omit_managed_fields: self.omit_managed_fields,
            };
        };
        Decision {
            level: rule.level,
            omit_stages: self.omit_stages.iter().chain(&rule.omit_stages).copied().collect(),
            omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
        }
    }
}

impl Rule {
    fn check(&self) -> Result<()> {
        let has_resources = !self.resources.is_empty() || !self.namespaces.is_empty();
        if has_resources && !self.non_resource_urls.is_empty() {
            bail!("nonResourceURLs: rules cannot apply to both regular resources and non-resource URLs");
        }
        for url in &self.non_resource_urls {
            if url == "*" {
                continue;
            }
            ensure!(
                url.starts_with('/'),
                "nonResourceURLs: {url:?}: non-resource URL rules must begin with a '/' character"
            );
            let inner = url.strip_suffix('*').unwrap_or(url);
            ensure!(
                !inner.contains('*'),
                "nonResourceURLs: {url:?}: wildcards '*' must be the final character of the path"
            );
        }
        for one in &self.resources {
            ensure!(
                !one.group.contains('/'),
                "resources: group {:?} must not contain '/': leave the version out",
                one.group
            );
            ensure!(
                one.resource_names.is_empty() || !one.resources.is_empty(),
                "resources: resourceNames need resources"
            );
        }
        Ok(())
    }

    fn matches(&self, user: &UserInfo, info: &RequestInfo) -> bool {
        let has = |list: &[String], one: &str| list.iter().any(|item| item == one);
        if !self.users.is_empty() && !has(&self.users, &user.name)
            || !self.user_groups.is_empty() && !user.groups.iter().any(|group| has(&self.user_groups, group))
            || !self.verbs.is_empty() && !has(&self.verbs, info.verb)
        {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return info.is_resource
                && (self.namespaces.is_empty() || has(&self.namespaces, &info.namespace))
                && (self.resources.is_empty() || self.resources.iter().any(|one| one.matches(info)));
        }
        self.non_resource_urls.is_empty()
            || !info.is_resource && self.non_resource_urls.iter().any(|url| path_matches(url, &info.path))
    }
}

fn path_matches(url: &str, path: &str) -> bool {
    url == "*" || url == path || url.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
}

impl GroupResources {
    fn matches(&self, info: &RequestInfo) -> bool {
        if self.group != info.group {
            return false;
        }
        let named = self.resource_names.is_empty() || self.resource_names.contains(&info.name);
        let full = info.full_resource();
        self.resources.is_empty()
            || named
                && self.resources.iter().any(|resource| {
                    resource == "*"
                        || *resource == *full
                        || !info.subresource.is_empty() && resource.strip_prefix("*/") == Some(&info.subresource)
                        || resource.strip_suffix("/*").is_some_and(|plural| plural == info.resource)
                })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::request::Query;
    use http::{Method, Uri};

    const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: None
  users: ["system:kube-proxy"]
  verbs: ["watch"]
- level: None
  nonResourceURLs: ["/healthz*", "/version"]
- level: Request
  resources: [{group: "", resources: ["secrets"], resourceNames: ["open"]}]
  omitManagedFields: false
- level: Metadata
  resources: [{group: "", resources: ["secrets", "pods/*", "*/scale"]}]
- level: RequestResponse
  namespaces: ["a", ""]
  omitStages: [ResponseStarted]
- level: Metadata
  userGroups: ["system:masters"]
"#;

    fn level(user: &UserInfo, method: &str, path: &str) -> Level {
        let uri: Uri = path.parse().expect("a URI");
        let info = RequestInfo::parse(&method.parse::<Method>().expect("a method"), &uri, &Query::parse(&uri));
        Policy::parse(POLICY).expect("a policy").decide(user, &info).level
    }

    #[test]
    fn the_first_rule_decides() {
        let ann = UserInfo::new("ann", &[]);
        let proxy = UserInfo::new("system:kube-proxy", &[]);
        let admin = UserInfo::new("admin", &["system:masters"]);
        for (user, method, path, expected) in [
            (&proxy, "GET", "/api/v1/services?watch=1", Level::None),
            (&proxy, "GET", "/api/v1/services", Level::RequestResponse),
            (&ann, "GET", "/healthz/ping", Level::None),
            (&ann, "GET", "/livez", Level::None),
            (&admin, "GET", "/livez", Level::Metadata),
            (&ann, "GET", "/api/v1/namespaces/b/secrets/open", Level::Request),
            (&ann, "GET", "/api/v1/namespaces/b/secrets/closed", Level::Metadata),
            (&ann, "POST", "/api/v1/namespaces/b/pods/p/exec", Level::Metadata),
            (&ann, "PUT", "/api/v1/namespaces/b/replicationcontrollers/p/scale", Level::Metadata),
            // As Kubernetes has it, `pods/*` is also the pods themselves.
            (&ann, "GET", "/api/v1/namespaces/b/pods/p", Level::Metadata),
            (&ann, "GET", "/api/v1/namespaces/b/configmaps/c", Level::None),
            (&ann, "GET", "/apis/apps/v1/namespaces/b/pods/p", Level::None),
            (&ann, "GET", "/apis/apps/v1/namespaces/a/deployments", Level::RequestResponse),
            (&ann, "GET", "/api/v1/nodes", Level::RequestResponse),
        ] {
            assert_eq!(level(user, method, path), expected, "{} {method} {path}", user.name);
        }
    }

    #[test]
    fn stages_and_managed_fields_add_up() {
        let policy = Policy::parse(POLICY).expect("a policy");
        let of = |path: &str| {
            let uri: Uri = path.parse().expect("a URI");
            policy.decide(&UserInfo::new("ann", &[]), &RequestInfo::parse(&Method::GET, &uri, &Query::default()))
        };
        let secret = of("/api/v1/namespaces/b/secrets/open");
        assert_eq!((secret.omit_stages, secret.omit_managed_fields), (vec![Stage::RequestReceived], false));
        let node = of("/api/v1/nodes/n");
        assert_eq!(node.omit_stages, [Stage::RequestReceived, Stage::ResponseStarted]);
        assert!(node.omit_managed_fields);
    }

    #[test]
    fn a_wrong_policy_says_where() {
        for (text, expected) in [
            ("apiVersion: v1\nkind: Policy\nrules: [{level: None}]", "write apiVersion audit.k8s.io/v1"),
            ("apiVersion: audit.k8s.io/v1\nkind: Policy", "at least one is needed"),
            ("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Some}]", "unknown variant"),
            ("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, user: [a]}]", "unknown field `user`"),
            (
                "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None}, {level: None, nonResourceURLs: [x]}]",
                "rules[1]: nonResourceURLs: \"x\"",
            ),
            (
                "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, namespaces: [a], nonResourceURLs: [/x]}]",
                "cannot apply to both",
            ),
            (
                "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, resources: [{group: apps/v1}]}]",
                "leave the version out",
            ),
        ] {
            let error = format!("{:#}", Policy::parse(text).expect_err(text));
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
