//! `kubectl rollout restart`: new pods of the same template, by an annotation.

use super::{FLAGS, MANAGER, find};
use crate::api::field::go_quote;
use crate::api::{Fields, FieldsMut};
use crate::cli::kubectl::changes::Change;
use crate::cli::kubectl::failure::{Failure, Outcome};
use crate::cli::kubectl::flags::{Arguments, Run, Verb};
use crate::cli::kubectl::session::Session;
use serde_json::Value;

pub const VERB: Verb = Verb {
    name: "restart",
    about: "Start the pods anew",
    usage: "kubectl rollout restart RESOURCE",
    flags: FLAGS,
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let change = Change::of(arguments, "restarted", MANAGER)?;
    let found = find(arguments, session).await?;
    if found.found.is_empty() && found.failures.is_empty() {
        return session.say(&format!("No resources found in {} namespace.", session.namespace)).await;
    }
    found
        .each(async |found| {
            let kind = &found.resource.kind;
            let refused = |why: &str| Failure::local(format!("{kind} {} {why}", go_quote(&found.name)));
            if kind.group != "apps" || !matches!(&*kind.kind, "Deployment" | "DaemonSet" | "StatefulSet") {
                return Err(refused("restarting is not supported"));
            }
            if found.object.at("spec").bool_at("paused") {
                return Err(refused("can't restart paused deployment (run rollout resume first)"));
            }
            let mut after = found.object.clone();
            let template = after.object_mut("spec").object_mut("template");
            template.object_mut("metadata").object_mut("annotations").set(RESTARTED, now());
            if after == found.object {
                return Err(Failure::local(format!(
                    "failed to create patch for {}: if restart has already been triggered within the past second, please wait before attempting to trigger another",
                    found.name
                )));
            }
            let sent = change.patch(session, &found.resource, &found.object, &after).await;
            let patched: Value = sent.map_err(|failure| match failure {
                Failure::Status(status) => Failure::local(format!("failed to patch: {}", status.message)),
                other => other,
            })?;
            change.print(session, &patched).await
        })
        .await
}

fn now() -> String {
    crate::api::time::seconds(jiff::Timestamp::now())
}
