//! `kubectl set`: single features of objects: images, variables, resources, accounts, selectors,
//! subjects.

mod env;
mod image;
mod resources;
mod selector;
mod service_account;
mod subject;

use super::changes::{self, Change};
use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Flag, Verb};
use super::manifest;
use super::objects::{ALL, Found, LOCAL, SELECTOR};
use super::output;
use super::pod_specs;
use super::session::Session;
use crate::api::Fields;
use serde_json::Value;

pub(super) const VERB: Verb = Verb {
    name: "set",
    about: "Set single features of objects",
    usage: "kubectl set (env | image | resources | selector | serviceaccount | subject) (TYPE NAME)",
    verbs: &[&env::VERB, &image::VERB, &resources::VERB, &selector::VERB, &service_account::VERB, &subject::VERB],
    ..Verb::DEFAULT
};

/// The flags of all.
const FLAGS: &[&[Flag]] = &[output::FLAGS, manifest::FLAGS, changes::FLAGS, &[SELECTOR, ALL, LOCAL]];
const MANAGER: &str = "kubectl-set";
/// As its refusals call it.
const SERVICE_ACCOUNT: &str = "ServiceAccountName";

/// `--all` and `--selector`, `--local` and the server: one or the other.
fn check(arguments: &Arguments, change: &Change) -> Outcome<()> {
    if arguments.on("all") && !arguments.text_or_empty("selector").is_empty() {
        return Err(Failure::local("cannot set --all and --selector at the same time"));
    }
    if arguments.on("local") && change.dry_run == changes::DryRun::Server {
        return Err(Failure::local("cannot specify --local and --dry-run=server - did you mean --dry-run=client?"));
    }
    Ok(())
}

/// The spec of the object's pods, for change.
fn pod_spec<'a>(found: &Found, object: &'a mut Value) -> Outcome<&'a mut Value> {
    let kind = &found.resource.kind;
    pod_specs::spec_mut(kind, object).ok_or_else(|| {
        let name = format!("{}/{}", kind.plural, found.name);
        Failure::local(format!("{name} the object is not a pod or does not have a pod template: *v1.{}", kind.kind))
    })
}

/// Send what was changed; only of a service account anything is said where nothing was.
async fn send(
    arguments: &Arguments,
    session: &Session,
    change: &Change,
    found: &Found,
    after: &Value,
    what: &str,
) -> Outcome<()> {
    if *after == found.object {
        return match what {
            SERVICE_ACCOUNT => change.print(session, after).await,
            _ => Ok(()),
        };
    }
    if arguments.on("local") {
        return change.print(session, after).await;
    }
    let sent = change.patch(session, &found.resource, &found.object, after).await;
    let patched = sent.map_err(|failure| match failure {
        Failure::Status(status) => Failure::local(format!("failed to patch {what} {}", status.message)),
        other => other,
    })?;
    change.print(session, &patched).await
}

/// The containers whose names a pattern with `*` takes.
fn containers<'a>(spec: &'a mut Value, pattern: &str) -> Vec<&'a mut Value> {
    let Some(fields) = spec.as_object_mut() else { return Vec::new() };
    let mut lists: Vec<(&String, &mut Value)> =
        fields.iter_mut().filter(|(name, _)| matches!(name.as_str(), "containers" | "initContainers")).collect();
    lists.sort_by_key(|(name, _)| name.as_str() == "initContainers");
    let all = lists.into_iter().filter_map(|(_, list)| list.as_array_mut()).flatten();
    all.filter(|container| is_like(container.str_at("name"), pattern)).collect()
}

fn is_like(name: &str, pattern: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return name == pattern };
    let Some(mut name) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = name.find(part) else { return false };
        name = &name[at + part.len()..];
    }
    name.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::is_like;

    #[test]
    fn names_are_like_patterns() {
        for (name, pattern, is) in [
            ("web", "*", true),
            ("web", "web", true),
            ("web-1", "web", false),
            ("web-1", "web*", true),
            ("web-1", "*1", true),
            ("web-1", "w*-*", true),
            ("web-1", "*x*", false),
        ] {
            assert_eq!(is_like(name, pattern), is, "{name} {pattern}");
        }
    }
}
