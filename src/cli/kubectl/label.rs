//! `kubectl label`.

use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Run, Verb};
use super::marks::{self, FLAGS, Marks};
use super::pairs::{self, Pairs};
use super::session::Session;
use crate::api::field::go_quote;
use crate::api::{Fields, names};

pub(super) const VERB: Verb = Verb {
    name: "label",
    about: "Set and take away labels",
    usage: "kubectl label [--overwrite] (-f FILE | TYPE NAME) KEY_1=VAL_1 ... KEY_N=VAL_N KEY-",
    flags: FLAGS,
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

const LABELS: Marks = Marks {
    field: "labels",
    singular: "label",
    manager: "kubectl-label",
    clash: |current, pairs| {
        let changed = pairs.set.iter().filter_map(|(key, value)| {
            let there = current.optional_str(key).filter(|there| there != value)?;
            Some(format!("'{key}' already has a value ({there}), and --overwrite is false"))
        });
        changed.collect()
    },
    done: |set, removed| match (set, removed) {
        (true, true) => "modified",
        (true, false) => "labeled",
        (false, true) => "unlabeled",
        (false, false) => "not labeled",
    },
};

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let words = arguments.words();
    let (objects, labels) = pairs::split(&words, "label")?;
    marks::change(arguments, session, &LABELS, objects, &parse(labels)?).await
}

fn parse(words: &[String]) -> Outcome<Pairs> {
    for word in words.iter().filter(|word| word.contains('=')) {
        let [_, value] = word.split('=').collect::<Vec<_>>()[..] else {
            return Err(Failure::local(format!("invalid label spec: {word}")));
        };
        let wrong = names::label_value(value);
        if !wrong.is_empty() {
            return Err(Failure::local(format!("invalid label value: {}: {}", go_quote(word), wrong.join(";"))));
        }
    }
    pairs::parse(words, "label", true)
}
