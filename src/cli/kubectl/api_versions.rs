//! `kubectl api-versions`: the groups that the cluster serves, in all versions.

use super::discovery::Discovery;
use super::failure::Outcome;
use super::flags::{Arguments, Run, Verb};
use super::session::Session;
use std::collections::BTreeSet;

pub(super) const VERB: Verb = Verb {
    name: "api-versions",
    about: "Show the versions of the API that the cluster serves",
    usage: "kubectl api-versions",
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    arguments.no_words()?;
    let discovery = Discovery::fetch(session).await?;
    let versions: BTreeSet<&String> = discovery.versions.iter().collect();
    let lines: String = versions.into_iter().map(|version| format!("{version}\n")).collect();
    session.print(&lines).await
}
