//! `kubectl cordon` and `uncordon`: nodes that take no new pods.

use super::changes::{self, Change};
use super::discovery::Discovery;
use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Flag, Run, Verb};
use super::objects::{Found, Objects, SELECTOR};
use super::output::take_items;
use super::session::{Query, Session};
use crate::api::field::go_quote;
use crate::api::{Fields, FieldsMut};
use crate::client::kinds::NODES;

pub(super) const CORDON: Verb = Verb {
    name: "cordon",
    about: "Let nodes take no new pods",
    usage: "kubectl cordon NODE",
    flags: FLAGS,
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session, true))),
    ..Verb::DEFAULT
};

pub(super) const UNCORDON: Verb = Verb {
    name: "uncordon",
    about: "Let nodes take new pods again",
    usage: "kubectl uncordon NODE",
    flags: FLAGS,
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session, false))),
    ..Verb::DEFAULT
};

const FLAGS: &[&[Flag]] = &[&[changes::DRY_RUN, SELECTOR]];

async fn run(arguments: &Arguments, session: &Session, wanted: bool) -> Outcome<()> {
    let change = Change::of(arguments, "", "")?;
    let nodes = nodes(arguments, session).await?;
    for node in &nodes.found {
        mark(session, &change, node, wanted).await?;
    }
    Failure::all(nodes.failures)
}

/// The nodes that are named or selected.
pub(super) async fn nodes(arguments: &Arguments, session: &Session) -> Outcome<Objects> {
    let (words, selector) = (arguments.words(), arguments.text_or_empty("selector"));
    if words.is_empty() && selector.is_empty() {
        let name = arguments.path.rsplit(' ').next().unwrap_or_default();
        return Err(arguments.usage(format!("USAGE: {name} NODE [flags]")));
    }
    if !words.is_empty() && !selector.is_empty() {
        return Err(arguments.usage("cannot specify both a node name and a --selector option"));
    }
    let discovery = Discovery::fetch(session).await?;
    let resource = discovery.resolve_one("nodes")?;
    let mut nodes = Objects::default();
    let mut add = |object: serde_json::Value| {
        let name = object.at("metadata").str_at("name").to_owned();
        nodes.found.push(Found { resource: resource.clone(), namespace: String::new(), name, object });
    };
    if !selector.is_empty() {
        let mut query = Query::default();
        query.set("labelSelector", selector);
        take_items(session.list(&NODES, "", &query).await?, &NODES).into_iter().for_each(&mut add);
    }
    for word in &words {
        let name = match word.split_once('/') {
            Some(("node" | "nodes" | "no", name)) => name,
            Some(_) => return Err(Failure::local(format!("expected resource of type node, got {}", go_quote(word)))),
            None => word,
        };
        // One that is not there ends it before anything is done.
        add(session.object(&NODES, "", name).await?);
    }
    Ok(nodes)
}

/// Say whether a node takes pods; what cannot be written is told, and ends nothing.
pub(super) async fn mark(session: &Session, change: &Change, node: &Found, wanted: bool) -> Outcome<()> {
    if node.object.at("spec").bool_at("unschedulable") == wanted {
        let already = if wanted { "already cordoned" } else { "already uncordoned" };
        return change.print_as(session, &node.object, already).await;
    }
    let mut after = node.object.clone();
    if wanted {
        after.object_mut("spec").set("unschedulable", true);
    } else {
        after.object_mut("spec").clear("unschedulable");
    }
    match change.patch(session, &node.resource, &node.object, &after).await {
        Ok(_) => change.print_as(session, &node.object, if wanted { "cordoned" } else { "uncordoned" }).await,
        Err(failure) => {
            let verb = if wanted { "cordon" } else { "uncordon" };
            let text = format!("error: unable to {verb} node {}: {}", go_quote(&node.name), failure.message());
            session.say(&text).await
        }
    }
}
