//! Nobody hands out rights that he does not have: is a set of rules covered by another?

use super::rules::{ALL, Rule, has, path_matches, resource_matches};
use super::{Rbac, Resolved};
use crate::api::UserInfo;
use crate::api::field::{go_list, go_quote};
use std::collections::{BTreeMap, BTreeSet};

/// `Err`: the text of what is missing, for the 403.
pub fn confirm_no_escalation(rbac: &Rbac, user: &UserInfo, namespace: &str, rules: &[Rule]) -> Result<(), String> {
    let Resolved { rules: owned, errors } = rbac.rules_for(user, namespace);
    let missing = covers(&owned, rules);
    if missing.is_empty() {
        return Ok(());
    }
    let texts: BTreeSet<String> = compact(missing).iter().map(Rule::compact).collect();
    let mut message = format!(
        "user {} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        go_quote(&user.name),
        go_list(user.groups.iter().map(String::as_str)),
        texts.into_iter().collect::<Vec<_>>().join("\n")
    );
    if !errors.is_empty() {
        message.push_str(&format!("; resolution errors: [{}]", errors.join(", ")));
    }
    Err(message)
}

/// The part of `wanted` that `owned` does not cover, in rules of one of each.
pub fn covers(owned: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    wanted.iter().flat_map(breakdown).filter(|part| !owned.iter().any(|rule| rule_covers(rule, part))).collect()
}

fn one(text: &str) -> Box<[Box<str>]> {
    Box::new([text.into()])
}

/// A rule as rules with one verb, one group, one resource and one name each.
fn breakdown(rule: &Rule) -> Vec<Rule> {
    let mut parts = Vec::new();
    for group in &rule.api_groups {
        for resource in &rule.resources {
            for verb in &rule.verbs {
                let part = |names: Box<[Box<str>]>| Rule {
                    verbs: one(verb),
                    api_groups: one(group),
                    resources: one(resource),
                    resource_names: names,
                    non_resource_urls: Box::default(),
                };
                if rule.resource_names.is_empty() {
                    parts.push(part(Box::default()));
                }
                parts.extend(rule.resource_names.iter().map(|name| part(one(name))));
            }
        }
    }
    for url in &rule.non_resource_urls {
        for verb in &rule.verbs {
            parts.push(Rule { verbs: one(verb), non_resource_urls: one(url), ..Rule::default() });
        }
    }
    parts
}

/// `part` has one of each.
fn rule_covers(owner: &Rule, part: &Rule) -> bool {
    let all_or = |list: &[Box<str>], wanted: &[Box<str>]| has(list, ALL) || wanted.iter().all(|item| has(list, item));
    if !all_or(&owner.verbs, &part.verbs) {
        return false;
    }
    if let [url] = &*part.non_resource_urls {
        return owner.non_resource_urls.iter().any(|rule| path_matches(rule, url));
    }
    all_or(&owner.api_groups, &part.api_groups)
        && part.resources.iter().all(|wanted| {
            owner.resources.iter().any(|rule| {
                let (resource, subresource) = wanted.split_once('/').unwrap_or((wanted, ""));
                rule == wanted || resource_matches(rule, resource, subresource)
            })
        })
        && (owner.resource_names.is_empty()
            || !part.resource_names.is_empty()
                && part.resource_names.iter().all(|name| has(&owner.resource_names, name)))
}

/// Parts that differ in their verb only become one.
fn compact(parts: Vec<Rule>) -> Vec<Rule> {
    let mut verbs: BTreeMap<Rule, Vec<Box<str>>> = BTreeMap::new();
    let mut whole = Vec::new();
    for part in parts {
        if part.resources.is_empty() {
            whole.push(part);
            continue;
        }
        let own = part.verbs.clone();
        let list = verbs.entry(Rule { verbs: Box::default(), ..part }).or_default();
        for verb in own {
            if !list.contains(&verb) {
                list.push(verb);
            }
        }
    }
    whole.extend(verbs.into_iter().map(|(rule, verbs)| Rule { verbs: verbs.into(), ..rule }));
    whole
}
