//! `kubectl set serviceaccount`.

use super::{FLAGS, MANAGER, SERVICE_ACCOUNT, check, pod_spec, send};
use crate::api::FieldsMut;
use crate::cli::kubectl::changes::Change;
use crate::cli::kubectl::failure::{Failure, Outcome};
use crate::cli::kubectl::flags::{Arguments, Run, Verb};
use crate::cli::kubectl::objects;
use crate::cli::kubectl::session::Session;

pub const VERB: Verb = Verb {
    name: "serviceaccount",
    aliases: &["sa"],
    about: "Set the service account of pod templates",
    usage: "kubectl set serviceaccount (-f FILE | TYPE NAME) SERVICE_ACCOUNT",
    flags: FLAGS,
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let change = Change::of(arguments, "serviceaccount updated", MANAGER)?;
    check(arguments, &change)?;
    let mut words = arguments.words();
    let Some(account) = words.pop() else { return Err(Failure::local("serviceaccount is required")) };
    let found = objects::find(arguments, &words, session).await?;
    found
        .each(async |found| {
            let mut after = found.object.clone();
            let spec = pod_spec(&found, &mut after)?;
            spec.set("serviceAccountName", account.as_str());
            send(arguments, session, &change, &found, &after, SERVICE_ACCOUNT).await
        })
        .await
}
