//! `kubectl set resources`.

use super::{FLAGS, MANAGER, check, containers, pod_spec, send};
use crate::api::{Fields, FieldsMut};
use crate::cli::kubectl::changes::Change;
use crate::cli::kubectl::create::quantities;
use crate::cli::kubectl::failure::{Failure, Outcome};
use crate::cli::kubectl::flags::{Arguments, Run, Verb, text};
use crate::cli::kubectl::objects;
use crate::cli::kubectl::session::Session;

pub const VERB: Verb = Verb {
    name: "resources",
    about: "Set what containers ask for and may use",
    usage: "kubectl set resources (-f FILE | TYPE NAME) ([--limits=LIMITS & --requests=REQUESTS]",
    flags: &[
        FLAGS[0],
        FLAGS[1],
        FLAGS[2],
        FLAGS[3],
        &[
            text("containers", "PATTERN", "Names of the containers, may have *").short('c').default("*"),
            text("limits", "RESOURCE=QUANTITY,…", "What they may use"),
            text("requests", "RESOURCE=QUANTITY,…", "What they ask for"),
        ],
    ],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let change = Change::of(arguments, "resource requirements updated", MANAGER)?;
    let found = objects::find(arguments, &arguments.words(), session).await?;
    check(arguments, &change)?;
    let mut wanted = Vec::new();
    for field in ["limits", "requests"] {
        let text = arguments.text_or_empty(field);
        if !text.is_empty() {
            wanted.push((field, quantities(text)?));
        }
    }
    if wanted.is_empty() {
        return Err(Failure::local(
            "you must specify an update to requests or limits (in the form of --requests/--limits)",
        ));
    }
    let pattern = arguments.text_or_empty("containers");
    found
        .each(async |found| {
            let mut after = found.object.clone();
            let mut containers = containers(pod_spec(&found, &mut after)?, pattern);
            if containers.is_empty() {
                return Err(Failure::local(format!("unable to find container named {pattern}")));
            }
            for container in &mut containers {
                for (field, list) in &wanted {
                    let there = container.object_mut("resources").object_mut(field);
                    list.entries().iter().for_each(|(name, quantity)| there.set(name, quantity.clone()));
                }
            }
            send(arguments, session, &change, &found, &after, "resources update to pod template").await
        })
        .await
}
