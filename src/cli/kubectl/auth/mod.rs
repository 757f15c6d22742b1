//! `kubectl auth`: who one is, and what one may do.

mod can_i;
mod reconcile;
mod whoami;

use super::flags::Verb;

pub(super) const VERB: Verb = Verb {
    name: "auth",
    about: "Show who you are and what you may do",
    usage: "kubectl auth (can-i | reconcile | whoami)",
    verbs: &[&can_i::VERB, &reconcile::VERB, &whoami::VERB],
    ..Verb::DEFAULT
};
