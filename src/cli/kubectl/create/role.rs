//! `kubectl create role` and `clusterrole`.

use super::{FLAGS, made, object};
use crate::api::field::go_quote;
use crate::api::{Fields, FieldsMut};
use crate::cli::kubectl::discovery::Discovery;
use crate::cli::kubectl::failure::{Failure, Outcome};
use crate::cli::kubectl::flags::{Arguments, Flag, Run, Verb, array, slice, text};
use crate::cli::kubectl::session::Session;
use crate::client::Kind;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const GROUP: &str = "rbac.authorization.k8s.io";
const ROLES: Kind = Kind::namespaced(GROUP, "v1", "Role", "roles");
const CLUSTER_ROLES: Kind = Kind::cluster(GROUP, "v1", "ClusterRole", "clusterroles");

const RULE: &[Flag] = &[
    slice("verb", "VERB", "What may be done"),
    slice("resource", "RESOURCE", "With which resources: pods, deployments.apps, pods/log"),
    array("resource-name", "NAME", "Only with objects of this name; may be given several times"),
];

pub const ROLE: Verb = Verb {
    name: "role",
    about: "Create a Role with a single rule",
    usage: "kubectl create role NAME --verb=verb --resource=resource.group/subresource [--resource-name=resourcename]",
    flags: &[FLAGS[0], FLAGS[1], RULE],
    run: Run::Cluster(|arguments, session| Box::pin(role(arguments, session))),
    ..Verb::DEFAULT
};

pub const CLUSTER_ROLE: Verb = Verb {
    name: "clusterrole",
    about: "Create a ClusterRole",
    usage: "kubectl create clusterrole NAME --verb=verb --resource=resource.group [--resource-name=resourcename]",
    flags: &[
        FLAGS[0],
        FLAGS[1],
        RULE,
        &[
            slice("non-resource-url", "PATH", "With which paths"),
            text("aggregation-rule", "LABEL=VALUE,…", "Labels of the ClusterRoles that this one is made of"),
        ],
    ],
    run: Run::Cluster(|arguments, session| Box::pin(cluster_role(arguments, session))),
    ..Verb::DEFAULT
};

const RESOURCE_VERBS: &[&str] = &[
    "*",
    "get",
    "delete",
    "list",
    "create",
    "update",
    "patch",
    "watch",
    "proxy",
    "deletecollection",
    "use",
    "bind",
    "escalate",
    "impersonate",
];
const PATH_VERBS: &[&str] = &["*", "get", "post", "put", "delete", "patch", "head", "options"];

/// Verbs that only some resources have.
const SPECIAL_VERBS: &[(&str, &[(&str, &str)])] = &[
    ("use", &[("policy", "podsecuritypolicies"), ("extensions", "podsecuritypolicies")]),
    ("bind", &[(GROUP, "roles"), (GROUP, "clusterroles")]),
    ("escalate", &[(GROUP, "roles"), (GROUP, "clusterroles")]),
    ("impersonate", &[("", "users"), ("", "serviceaccounts"), ("", "groups"), ("authentication.k8s.io", "userextras")]),
];

/// What the flags say of a rule.
struct Rule {
    verbs: Vec<String>,
    resources: Vec<Wanted>,
    names: Vec<String>,
    paths: Vec<String>,
}

/// `deployments.apps/scale`.
struct Wanted {
    resource: String,
    group: String,
    subresource: String,
}

impl Rule {
    fn of(arguments: &Arguments) -> Self {
        let mut verbs = unique(arguments.list("verb"));
        if verbs.iter().any(|verb| verb == "*") {
            verbs = vec!["*".to_owned()];
        }
        let mut resources = Vec::new();
        for text in arguments.list("resource") {
            let (whole, subresource) = text.split_once('/').unwrap_or((&text, ""));
            let (resource, group) = whole.split_once('.').unwrap_or((whole, ""));
            if text == "*" {
                resources.clear();
            }
            resources.push(Wanted {
                resource: resource.to_owned(),
                group: group.to_owned(),
                subresource: subresource.to_owned(),
            });
            if text == "*" {
                break;
            }
        }
        Self {
            verbs,
            resources,
            names: unique(arguments.list("resource-name")),
            paths: unique(arguments.list("non-resource-url")),
        }
    }

    async fn check_verbs(&self, session: &Session) -> Outcome<()> {
        for verb in self.verbs.iter().filter(|verb| !RESOURCE_VERBS.contains(&verb.as_str())) {
            session.say(&format!("Warning: '{verb}' is not a standard resource verb")).await?;
        }
        Ok(())
    }

    fn check_resources(&self, discovery: &Discovery) -> Outcome<()> {
        for wanted in &self.resources {
            if wanted.resource.is_empty() {
                return Err(Failure::local("resource must be specified if apiGroup/subresource specified"));
            }
            if wanted.resource == "*" {
                continue;
            }
            let known = wanted.find(discovery);
            let (group, resource) = known.clone().unwrap_or_else(|| (wanted.group.clone(), wanted.resource.clone()));
            let mut special = false;
            for verb in &self.verbs {
                let Some((_, having)) = SPECIAL_VERBS.iter().find(|(name, _)| name == verb) else { continue };
                if !having.contains(&(group.as_str(), resource.as_str())) {
                    return Err(Failure::local(format!("can not perform '{verb}' on '{resource}' in group '{group}'")));
                }
                special = true;
            }
            if known.is_none() && !special {
                let place = if wanted.group.is_empty() {
                    String::new()
                } else {
                    format!(" in group {}", go_quote(&wanted.group))
                };
                return Err(Failure::Said(format!(
                    "the server doesn't have a resource type {}{place}",
                    go_quote(&wanted.resource)
                )));
            }
        }
        Ok(())
    }

    /// A rule per group.
    fn rules(&self, discovery: &Discovery) -> Value {
        let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for wanted in &self.resources {
            let (group, mut resource) =
                wanted.find(discovery).unwrap_or_else(|| (wanted.group.clone(), wanted.resource.clone()));
            if !wanted.subresource.is_empty() {
                resource = format!("{resource}/{}", wanted.subresource);
            }
            let resources = groups.entry(group).or_default();
            if !resources.contains(&resource) {
                resources.push(resource);
            }
        }
        let mut rules = Vec::new();
        for (group, resources) in groups {
            let mut rule = json!({ "apiGroups": [group], "resources": resources, "verbs": self.verbs });
            if !self.names.is_empty() {
                rule.set("resourceNames", self.names.clone());
            }
            rules.push(rule);
        }
        if !self.paths.is_empty() {
            rules.push(json!({ "nonResourceURLs": self.paths, "verbs": self.verbs }));
        }
        rules.into()
    }
}

impl Wanted {
    /// Group and plural of what the server knows by this name.
    fn find(&self, discovery: &Discovery) -> Option<(String, String)> {
        let word =
            if self.group.is_empty() { self.resource.clone() } else { format!("{}.{}", self.resource, self.group) };
        let kind = &discovery.resolve_one(&word).ok()?.kind;
        Some((kind.group.to_string(), kind.plural.to_string()))
    }
}

fn unique(values: Vec<String>) -> Vec<String> {
    let mut once: Vec<String> = Vec::new();
    for value in values {
        if !once.contains(&value) {
            once.push(value);
        }
    }
    once
}

async fn role(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let name = arguments.name()?;
    let rule = Rule::of(arguments);
    if rule.verbs.is_empty() {
        return Err(Failure::local("at least one verb must be specified"));
    }
    rule.check_verbs(session).await?;
    if rule.resources.is_empty() {
        return Err(Failure::local("at least one resource must be specified"));
    }
    let discovery = Discovery::fetch(session).await?;
    rule.check_resources(&discovery)?;
    let mut role = object(&ROLES, &name);
    role.set("rules", rule.rules(&discovery));
    made(arguments, session, &ROLES, role, "").await
}

async fn cluster_role(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let name = arguments.name()?;
    let rule = Rule::of(arguments);
    let mut role = object(&CLUSTER_ROLES, &name);
    let aggregation = arguments.text_or_empty("aggregation-rule");
    if !aggregation.is_empty() {
        let Rule { verbs, resources, names, paths } = &rule;
        if !(verbs.is_empty() && resources.is_empty() && names.is_empty() && paths.is_empty()) {
            return Err(Failure::local(
                "aggregation rule must be specified without nonResourceURLs, verbs, resources or resourceNames",
            ));
        }
        role.set("aggregationRule", json!({ "clusterRoleSelectors": [{ "matchLabels": labels(aggregation)? }] }));
        role.set("rules", Value::Null);
        return made(arguments, session, &CLUSTER_ROLES, role, "").await;
    }
    if rule.verbs.is_empty() {
        return Err(Failure::local("at least one verb must be specified"));
    }
    if rule.resources.is_empty() && rule.paths.is_empty() {
        return Err(Failure::local("one of resource or nonResourceURL must be specified"));
    }
    let discovery = Discovery::fetch(session).await?;
    if !rule.resources.is_empty() {
        rule.check_verbs(session).await?;
        rule.check_resources(&discovery)?;
    }
    if !rule.paths.is_empty() {
        check_paths(&rule)?;
    }
    role.set("rules", rule.rules(&discovery));
    made(arguments, session, &CLUSTER_ROLES, role, "").await
}

fn check_paths(rule: &Rule) -> Outcome<()> {
    if let Some(verb) = rule.verbs.iter().find(|verb| !PATH_VERBS.contains(&verb.as_str())) {
        return Err(Failure::local(format!("invalid verb: '{verb}' for nonResourceURL")));
    }
    for path in rule.paths.iter().filter(|path| *path != "*") {
        if !path.starts_with('/') {
            return Err(Failure::local("nonResourceURL should start with /"));
        }
        if path[..path.len() - 1].contains('*') {
            return Err(Failure::local("nonResourceURL only supports wildcard matches when '*' is at the end"));
        }
    }
    Ok(())
}

/// `a=b,c=d`.
fn labels(text: &str) -> Outcome<Value> {
    let mut labels = json!({});
    for pair in text.split(',') {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(Failure::local(format!("malformed pair, expect string=string: {pair}")));
        };
        labels.set(key.trim(), value.trim());
    }
    debug_assert!(!labels.entries().is_empty());
    Ok(labels)
}
