//! `kubectl rollout pause` and `resume`.

use super::{FLAGS, MANAGER, find};
use crate::api::field::go_quote;
use crate::api::{Fields, FieldsMut};
use crate::cli::kubectl::changes::Change;
use crate::cli::kubectl::failure::{Failure, Outcome};
use crate::cli::kubectl::flags::{Arguments, Run, Verb};
use crate::cli::kubectl::session::Session;

pub const PAUSE: Verb = Verb {
    name: "pause",
    about: "Let changes of a Deployment wait",
    usage: "kubectl rollout pause RESOURCE",
    flags: FLAGS,
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session, true))),
    ..Verb::DEFAULT
};

pub const RESUME: Verb = Verb {
    name: "resume",
    about: "Let changes of a Deployment go on",
    usage: "kubectl rollout resume RESOURCE",
    flags: FLAGS,
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session, false))),
    ..Verb::DEFAULT
};

async fn run(arguments: &Arguments, session: &Session, pause: bool) -> Outcome<()> {
    let change = Change::of(arguments, if pause { "paused" } else { "resumed" }, MANAGER)?;
    let found = find(arguments, session).await?;
    found
        .each(async |found| {
            let kind = &found.resource.kind;
            let refused = |why: &str| Failure::local(format!("{kind} {} {why}", go_quote(&found.name)));
            if kind.group != "apps" || kind.kind != "Deployment" {
                return Err(refused(if pause { "pausing is not supported" } else { "resuming is not supported" }));
            }
            if found.object.at("spec").bool_at("paused") == pause {
                return Err(refused(if pause { "is already paused" } else { "is not paused" }));
            }
            let mut after = found.object.clone();
            if pause {
                after.object_mut("spec").set("paused", true);
            } else {
                after.object_mut("spec").clear("paused");
            }
            let sent = change.patch(session, &found.resource, &found.object, &after).await;
            let patched = sent.map_err(|failure| match failure {
                Failure::Status(status) => Failure::local(format!("failed to patch: {}", status.message)),
                other => other,
            })?;
            change.print(session, &patched).await
        })
        .await
}
