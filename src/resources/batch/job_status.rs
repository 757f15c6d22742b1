//! What the status of a Job may become. A rule is asked only where what it speaks of changed, so that
//! a status that breaks one may still change elsewhere; RULES names for each what that is.

use super::indexes;
use crate::api::{ErrorList, FieldError, Fields, Path, Report};
use serde_json::Value;
use std::collections::BTreeSet;

const STATUS: Path<'static> = Path::new("status");
const TERMINAL: &[&str] = &["Failed", "Complete", "FailureTarget"];

/// A Job's spec, and its status before and after.
struct Change<'a> {
    spec: &'a Value,
    new: &'a Value,
    old: &'a Value,
}

/// When a rule is asked, and what it then finds.
type Rule = (fn(&Change) -> bool, fn(&Change, &mut ErrorList));

/// In the order of the messages.
const RULES: &[Rule] = &[
    (
        |c| c.turned("Complete") || c.turned("Failed"),
        |c, errors| {
            c.contradiction("Complete", "Failed", "cannot set Complete=True and Failed=true conditions", errors);
        },
    ),
    (
        |c| c.turned("Complete") || c.turned("FailureTarget"),
        |c, errors| {
            c.contradiction(
                "Complete",
                "FailureTarget",
                "cannot set Complete=True and FailureTarget=true conditions",
                errors,
            );
        },
    ),
    (
        |c| c.turned("Complete") || c.changed("completionTime"),
        |c, errors| {
            let detail = "cannot set completionTime when there is no Complete=True condition";
            match c.new.get_set("completionTime") {
                Some(time) if !c.is("Complete") => {
                    errors.invalid(&STATUS.child("completionTime"), time.clone(), detail)
                }
                None if c.is("Complete") => {
                    errors.required(&STATUS.child("completionTime"), "completionTime is required for Complete jobs");
                }
                _ => {}
            }
        },
    ),
    (
        |c| c.changed("startTime") || c.changed("completionTime"),
        |c, errors| {
            let time = |name: &str| c.new.str_at(name).parse::<jiff::Timestamp>().ok();
            if let (Some(start), Some(end)) = (time("startTime"), time("completionTime"))
                && end < start
            {
                let value = c.new.at("completionTime").clone();
                errors.invalid(&STATUS.child("completionTime"), value, "must be equal to or after `startTime`");
            }
        },
    ),
    (
        |c| c.turned("Failed") || c.changed("failedIndexes"),
        |c, errors| {
            if c.is("Failed") && !c.is("FailureTarget") {
                c.conditions("cannot set Failed=True condition without the FailureTarget=true condition", errors);
            }
        },
    ),
    (
        |c| c.turned("Complete") || c.turned("SuccessCriteriaMet"),
        |c, errors| {
            if c.is("Complete") && !c.is("SuccessCriteriaMet") {
                c.conditions(
                    "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
                    errors,
                );
            }
        },
    ),
    (
        |c| c.finished_or_not() || c.changed("active"),
        |c, errors| {
            let active = c.new.int_at("active");
            if active > 0 && finished(c.new) {
                errors.invalid(&STATUS.child("active"), active, "active>0 is invalid for finished job");
            }
        },
    ),
    (
        |c| (c.finished_or_not() || c.changed("startTime")) && !c.never_ran(),
        |c, errors| {
            if !c.new.has("startTime") && finished(c.new) {
                errors.required(&STATUS.child("startTime"), "startTime is required for finished job");
            }
        },
    ),
    (
        |c| c.finished_or_not() || c.changed("uncountedTerminatedPods"),
        |c, errors| {
            let pods = c.new.at("uncountedTerminatedPods");
            if finished(c.new) && ["failed", "succeeded"].iter().any(|list| !pods.list_at(list).is_empty()) {
                let path = STATUS.child("uncountedTerminatedPods");
                let shown = format!("{{\"Succeeded\":{},\"Failed\":{}}}", pods.at("succeeded"), pods.at("failed"));
                let error = FieldError::invalid(&path, Value::Null, "must be empty for finished job");
                errors.push(FieldError { shown: Some(shown), ..error });
            }
        },
    ),
    (|c| c.changed("completedIndexes"), |c, errors| c.well_formed("completedIndexes", errors)),
    (
        |c| c.changed("failedIndexes"),
        |c, errors| {
            if c.spec.has("backoffLimitPerIndex") {
                c.well_formed("failedIndexes", errors);
            }
        },
    ),
    (
        |c| c.changed("completedIndexes"),
        |c, errors| {
            let indexes = c.new.str_at("completedIndexes");
            if !indexes.is_empty() && !c.indexed() {
                let detail = "cannot set non-empty completedIndexes when non-indexed completion mode";
                errors.invalid(&STATUS.child("completedIndexes"), indexes, detail);
            }
        },
    ),
    (
        |c| c.changed("failedIndexes"),
        |c, errors| {
            if let Some(indexes) = c.new.get_set("failedIndexes").filter(|_| !c.spec.has("backoffLimitPerIndex")) {
                let detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
                errors.invalid(&STATUS.child("failedIndexes"), indexes.clone(), detail);
            }
        },
    ),
    (
        |c| c.changed("failedIndexes") || c.changed("completedIndexes"),
        |c, errors| {
            let (completed, failed) = (c.new.str_at("completedIndexes"), c.new.str_at("failedIndexes"));
            let common =
                c.spec.optional_int("completions").and_then(|count| indexes::overlap(completed, failed, count));
            if let Some(index) = common {
                let detail = format!("failedIndexes and completedIndexes overlap at index: {index}");
                errors.invalid(&STATUS.child("failedIndexes"), failed, detail);
            }
        },
    ),
    (
        |c| c.finished_or_not() || c.changed("terminating"),
        |c, errors| {
            let terminating = c.new.int_at("terminating");
            if terminating > 0 && finished(c.new) {
                errors.invalid(&STATUS.child("terminating"), terminating, "terminating>0 is invalid for finished job");
            }
        },
    ),
    (
        |c| c.changed("ready") || c.changed("active"),
        |c, errors| {
            let ready = c.new.int_at("ready");
            if c.new.has("ready") && ready > c.new.int_at("active") {
                errors.invalid(&STATUS.child("ready"), ready, "cannot set more ready pods than active");
            }
        },
    ),
    (
        |_| true,
        |c, errors| {
            let detail = "cannot set SuccessCriteriaMet=True and Failed=true conditions";
            c.contradiction("SuccessCriteriaMet", "Failed", detail, errors);
            let detail = "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions";
            c.contradiction("SuccessCriteriaMet", "FailureTarget", detail, errors);
            if c.spec.has("successPolicy") && !c.is("SuccessCriteriaMet") && c.is("Complete") {
                c.conditions(
                    "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
                    errors,
                );
            }
        },
    ),
    (
        |_| true,
        |c, errors| {
            for kind in TERMINAL.iter().filter(|kind| is_true(c.old, kind) && !c.is(kind)) {
                c.conditions(&format!("cannot disable the terminal {kind}=True condition"), errors);
            }
        },
    ),
    (|_| true, |c, errors| c.not_decreased("failed", errors)),
    // A Job that is scaled down may lose successes.
    (
        |c| !c.indexed() || c.spec.at("completions") != c.spec.at("parallelism"),
        |c, errors| {
            c.not_decreased("succeeded", errors);
        },
    ),
    (
        |c| c.changed("completionTime"),
        |c, errors| {
            if let Some(time) = c.new.get_set("completionTime").filter(|_| c.old.has("completionTime")) {
                errors.invalid(&STATUS.child("completionTime"), time.clone(), "field is immutable");
            }
        },
    ),
    (
        |c| c.changed("startTime") && !c.resumes(),
        |c, errors| {
            if c.old.has("startTime") && !c.spec.bool_at("suspend") {
                let detail = "field is immutable for unsuspended job once set";
                errors.invalid(&STATUS.child("startTime"), c.new.at("startTime").clone(), detail);
            }
        },
    ),
    (
        |c| c.turned("SuccessCriteriaMet"),
        |c, errors| {
            if !c.is("SuccessCriteriaMet") {
                c.conditions("cannot disable the SuccessCriteriaMet=True condition", errors);
            } else if is_true(c.old, "Complete") {
                let detail = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
                c.conditions(detail, errors);
            }
        },
    ),
];

pub fn validate(object: &Value, old: &Value, errors: &mut ErrorList) {
    let change = Change { spec: object.at("spec"), new: object.at("status"), old: old.at("status") };
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        errors.not_negative(&STATUS.child(field), change.new.int_at(field));
    }
    uncounted(change.new.at("uncountedTerminatedPods"), errors);
    for (asked, rule) in RULES {
        if asked(&change) {
            rule(&change, errors);
        }
    }
}

fn uncounted(pods: &Value, errors: &mut ErrorList) {
    let path = STATUS.child("uncountedTerminatedPods");
    let mut seen = BTreeSet::new();
    for list in ["succeeded", "failed"] {
        let path = path.child(list);
        for (index, uid) in pods.strs_at(list).enumerate() {
            if uid.is_empty() {
                errors.invalid(&path.index(index), uid, "must not be empty");
            } else if !seen.insert(uid) {
                errors.duplicate(&path.index(index), uid);
            }
        }
    }
}

fn has_condition(status: &Value, kind: &str, state: &str) -> bool {
    let mut conditions = status.list_at("conditions").iter();
    conditions.any(|condition| condition.str_at("type") == kind && condition.str_at("status") == state)
}

fn is_true(status: &Value, kind: &str) -> bool {
    has_condition(status, kind, "True")
}

fn finished(status: &Value) -> bool {
    is_true(status, "Complete") || is_true(status, "Failed")
}

impl Change<'_> {
    fn is(&self, kind: &str) -> bool {
        is_true(self.new, kind)
    }

    fn turned(&self, kind: &str) -> bool {
        is_true(self.old, kind) != self.is(kind)
    }

    fn changed(&self, field: &str) -> bool {
        self.old.at(field) != self.new.at(field)
    }

    fn finished_or_not(&self) -> bool {
        finished(self.old) != finished(self.new)
    }

    fn indexed(&self) -> bool {
        self.spec.str_at("completionMode") == "Indexed"
    }

    fn never_ran(&self) -> bool {
        self.spec.bool_at("suspend") && self.spec.optional_int("completions") == Some(0)
    }

    fn resumes(&self) -> bool {
        is_true(self.old, "Suspended") && has_condition(self.new, "Suspended", "False")
    }

    fn conditions(&self, detail: &str, errors: &mut ErrorList) {
        errors.push(FieldError::invalid_omitted(&STATUS.child("conditions"), detail));
    }

    fn contradiction(&self, one: &str, other: &str, detail: &str, errors: &mut ErrorList) {
        if self.is(one) && self.is(other) {
            self.conditions(detail, errors);
        }
    }

    fn well_formed(&self, field: &str, errors: &mut ErrorList) {
        let text = self.new.str_at(field);
        let Some(completions) = self.spec.optional_int("completions") else { return };
        if let Err(error) = indexes::count(text, completions) {
            errors.invalid(&STATUS.child(field), text, format!("error parsing {field}: {error}"));
        }
    }

    fn not_decreased(&self, field: &str, errors: &mut ErrorList) {
        let count = self.new.int_at(field);
        if count < self.old.int_at(field) {
            errors.invalid(&STATUS.child(field), count, format!("cannot decrease the {field} counter"));
        }
    }
}
