//! `kubectl auth can-i`.

use crate::api::{Fields, FieldsMut};
use crate::cli::kubectl::discovery::Discovery;
use crate::cli::kubectl::failure::{Failure, Outcome};
use crate::cli::kubectl::flags::{Arguments, Run, Verb, switch, text};
use crate::cli::kubectl::objects::ALL_NAMESPACES;
use crate::cli::kubectl::session::{JSON, Session};
use crate::cli::kubectl::tab_writer::TabWriter;
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub const VERB: Verb = Verb {
    name: "can-i",
    about: "Show whether you may do something",
    usage: "kubectl auth can-i VERB [TYPE | TYPE/NAME | NONRESOURCEURL]",
    flags: &[&[
        ALL_NAMESPACES,
        switch("quiet", "Say it only by the exit code").short('q'),
        text("subresource", "NAME", "Subresource, such as log or scale"),
        switch("list", "Show all that you may do"),
        switch("no-headers", "With --list: leave the headers out"),
    ]],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

const VERBS: &[&str] = &[
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "use",
    "bind",
    "impersonate",
    "*",
    "approve",
    "sign",
    "escalate",
    "attest",
];
const PATH_VERBS: &[&str] = &["get", "put", "post", "head", "options", "delete", "patch", "*"];
const GROUP: &str = "authorization.k8s.io/v1";

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let words = arguments.words();
    let (quiet, all) = (arguments.on("quiet"), arguments.on("all-namespaces"));
    let subresource = arguments.text_or_empty("subresource");
    if arguments.on("list") {
        if !words.is_empty() {
            return Err(Failure::local("list option must be specified with no arguments"));
        }
        if quiet || all || !subresource.is_empty() {
            return Err(Failure::local(
                "list option can't be specified with neither quiet, all-namespaces nor subresource options",
            ));
        }
        return list(arguments, session).await;
    }
    let [verb, what] = words.as_slice() else {
        return Err(Failure::local(
            "you must specify two arguments: verb resource or verb resource/resourceName.\nSee 'kubectl auth can-i -h' for help and examples.",
        ));
    };
    let spec = if what.starts_with('/') {
        if !subresource.is_empty() {
            return Err(Failure::local("--subresource can not be used with NonResourceURL"));
        }
        if !PATH_VERBS.contains(&verb.as_str()) {
            session.say(&format!("Warning: verb '{verb}' is not a known verb\n")).await?;
        }
        json!({ "nonResourceAttributes": { "verb": verb, "path": what } })
    } else {
        let (word, name) = what.split_once('/').unwrap_or((what, ""));
        let mut attributes = attributes(session, word, all).await?;
        if !VERBS.contains(&verb.as_str()) {
            session.say(&format!("Warning: verb '{verb}' is not a known verb\n")).await?;
        }
        let namespace = if all { "" } else { session.namespace.as_str() };
        for (field, value) in
            [("verb", verb.as_str()), ("namespace", namespace), ("subresource", subresource), ("name", name)]
        {
            if !value.is_empty() {
                attributes.set(field, value);
            }
        }
        json!({ "resourceAttributes": attributes })
    };
    if arguments.on("no-headers") {
        return Err(Failure::local("--no-headers cannot be set without --list specified"));
    }
    let status = review(session, "SelfSubjectAccessReview", "selfsubjectaccessreviews", spec).await?;
    let allowed = status.bool_at("allowed");
    if !quiet {
        let mut text = if allowed { "yes" } else { "no" }.to_owned();
        for field in ["reason", "evaluationError"] {
            if !allowed && !status.str_at(field).is_empty() {
                text.push_str(&format!(" - {}", status.str_at(field)));
            }
        }
        session.print(&format!("{text}\n")).await?;
    }
    if allowed { Ok(()) } else { Err(Failure::Exit(1)) }
}

/// Group, version and resource of a word.
async fn attributes(session: &Session, word: &str, all: bool) -> Outcome<Value> {
    if word == "*" {
        return Ok(json!({ "resource": "*" }));
    }
    let discovery = Discovery::fetch(session).await?;
    let Ok(resource) = discovery.resolve_one(&word.to_lowercase()) else {
        if !matches!(word, "users" | "groups") {
            let (resource, group) = word.split_once('.').unwrap_or((word, ""));
            let group = if group.is_empty() { String::new() } else { format!(" in group '{group}'") };
            session
                .say(&format!(
                    "Warning: the server doesn't have a resource type '{}'{group}\n",
                    resource.to_lowercase()
                ))
                .await?;
        }
        return Ok(json!({ "resource": word }));
    };
    let kind = &resource.kind;
    if !kind.namespaced && !all {
        let group = if kind.group.is_empty() { String::new() } else { format!(" in group '{}'", kind.group) };
        session.say(&format!("Warning: resource '{}' is not namespace scoped{group}\n", kind.plural)).await?;
    }
    let mut attributes = json!({ "resource": kind.plural });
    if !kind.group.is_empty() {
        attributes.set("group", &*kind.group);
    }
    Ok(attributes)
}

async fn review(session: &Session, kind: &str, plural: &str, spec: Value) -> Outcome<Value> {
    let review = json!({ "apiVersion": GROUP, "kind": kind, "spec": spec });
    let mut answer = session.write(Method::POST, &format!("/apis/{GROUP}/{plural}"), JSON, &review).await?;
    Ok(answer["status"].take())
}

/// What Kubernetes calls a simple rule: one group and resource, at most one name.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Simple {
    group: String,
    resource: String,
    name: Option<String>,
}

async fn list(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let spec = json!({ "namespace": session.namespace });
    let status = review(session, "SelfSubjectRulesReview", "selfsubjectrulesreviews", spec).await?;
    if status.bool_at("incomplete") {
        let why = status.str_at("evaluationError");
        session.say(&format!("Warning: the list may be incomplete: {why}")).await?;
    }
    let mut rows: Vec<[String; 5]> = Vec::new();
    for (simple, verbs) in compact(status.list_at("resourceRules")) {
        let (group, resource) = (format!("[{}]", simple.group), format!("[{}]", simple.resource));
        let names = format!("[{}]", simple.name.unwrap_or_default());
        rows.push([verbs, group, resource, names, "[]".to_owned()]);
    }
    for rule in status.list_at("nonResourceRules") {
        for path in rule.strs_at("nonResourceURLs") {
            for verb in rule.strs_at("verbs") {
                let none = || "[]".to_owned();
                rows.push([format!("[{verb}]"), none(), none(), none(), format!("[{path}]")]);
            }
        }
    }
    // As the text of a rule is ordered: verbs first.
    rows.sort();
    let mut table = TabWriter::table();
    if !arguments.on("no-headers") {
        table.line("Resources\tNon-Resource URLs\tResource Names\tVerbs");
    }
    for [verbs, group, resource, names, paths] in rows {
        let bare = |text: &str| text.trim_matches(['[', ']']).to_owned();
        let dot = if bare(&group).is_empty() { "" } else { "." };
        table.line(&format!("{}{dot}{}\t{paths}\t{names}\t{verbs}", bare(&resource), bare(&group)));
    }
    session.print(&table.flush()).await
}

/// The verbs of each simple rule, in their order.
fn compact(rules: &[Value]) -> BTreeMap<Simple, String> {
    let mut verbs: BTreeMap<Simple, Vec<&str>> = BTreeMap::new();
    for rule in rules {
        for group in rule.strs_at("apiGroups") {
            for resource in rule.strs_at("resources") {
                let mut names: Vec<Option<String>> =
                    rule.strs_at("resourceNames").map(|name| Some(name.to_owned())).collect();
                if names.is_empty() {
                    names.push(None);
                }
                for name in names {
                    let simple = Simple { group: group.to_owned(), resource: resource.to_owned(), name };
                    verbs.entry(simple).or_default().extend(rule.strs_at("verbs"));
                }
            }
        }
    }
    verbs.into_iter().map(|(simple, verbs)| (simple, format!("[{}]", verbs.join(" ")))).collect()
}
