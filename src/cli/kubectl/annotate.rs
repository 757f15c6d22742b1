//! `kubectl annotate`.

use super::failure::Outcome;
use super::flags::{Arguments, Run, Verb};
use super::marks::{self, FLAGS, Marks};
use super::pairs;
use super::session::Session;
use crate::api::Fields;

/// May always be written again.
const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";

pub(super) const VERB: Verb = Verb {
    name: "annotate",
    about: "Set and take away annotations",
    usage: "kubectl annotate [--overwrite] (-f FILE | TYPE NAME) KEY_1=VAL_1 ... KEY_N=VAL_N KEY-",
    flags: FLAGS,
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

const ANNOTATIONS: Marks = Marks {
    field: "annotations",
    singular: "annotation",
    manager: "kubectl-annotate",
    clash: |current, pairs| {
        let changed = pairs.set.iter().filter(|(key, _)| *key != CHANGE_CAUSE);
        let changed = changed.filter_map(|(key, value)| {
            let there = current.optional_str(key).filter(|there| there != value)?;
            Some(format!("'{key}' already has a value ({there})"))
        });
        let changed: Vec<String> = changed.collect();
        if changed.is_empty() {
            return changed;
        }
        vec![format!("--overwrite is false but found the following declared annotation(s): {}", changed.join("; "))]
    },
    done: |_, _| "annotated",
};

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let words = arguments.words();
    let (objects, annotations) = pairs::split(&words, "annotation")?;
    let pairs = pairs::parse(annotations, "annotation", true)?;
    marks::change(arguments, session, &ANNOTATIONS, objects, &pairs).await
}
