//! `kubectl rollout`: what becomes of changes to Deployments, DaemonSets and StatefulSets.

mod history;
mod pause;
mod restart;
mod status;
mod undo;

use super::changes;
use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Flag, Verb};
use super::manifest;
use super::objects::{self, Objects, SELECTOR};
use super::output;
use super::session::Session;

pub(super) const VERB: Verb = Verb {
    name: "rollout",
    about: "Follow, undo, pause and restart rollouts",
    usage: "kubectl rollout (history | pause | restart | resume | status | undo) (TYPE NAME | TYPE/NAME)",
    verbs: &[&history::VERB, &pause::PAUSE, &restart::VERB, &pause::RESUME, &status::VERB, &undo::VERB],
    ..Verb::DEFAULT
};

/// The flags of all.
const FLAGS: &[&[Flag]] = &[output::FLAGS, manifest::FLAGS, &[SELECTOR, changes::FIELD_MANAGER]];
const MANAGER: &str = "kubectl-rollout";

/// The objects that are meant; a type alone means all of it.
async fn find(arguments: &Arguments, session: &Session) -> Outcome<Objects> {
    let words = arguments.words();
    if words.is_empty() && manifest::FileArguments::of(arguments).is_empty() {
        return Err(Failure::local("required resource not specified"));
    }
    objects::find_all(arguments, &words, session).await
}
