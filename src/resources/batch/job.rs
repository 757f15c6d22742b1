//! Job: pods that run to their end.

use super::{job_status, job_update, pod_failure_policy};
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report, names};
use crate::resources::core::pod_spec::{Options, warnings};
use crate::resources::core::template;
use crate::resources::{Column, Context, Resource, Strategy, Subresource, cells, labels};
use serde_json::{Value, json};
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        categories: vec!["all".into()],
        status: true,
        generation: true,
        subresources: vec![Subresource::status()],
        columns: Column::strings(&["Status", "Completions", "Duration", "Age", "+Containers", "+Images", "+Selector"]),
        strategy: Arc::new(Job),
        ..Resource::new("batch", "v1", "Job", "jobs")
    }
}

struct Job;

pub const SPEC: Path<'static> = Path::new("spec");
const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";
const JOB_NAME: &str = "batch.kubernetes.io/job-name";
const OLD_CONTROLLER_UID: &str = "controller-uid";
const OLD_JOB_NAME: &str = "job-name";
const INDEXED_LIMIT: i64 = 100_000;
const COMPLETIONS_SOFT_LIMIT: i64 = 100_000;
/// Of parallelism and failed indexes, with more completions than that.
const HIGH_COMPLETIONS_LIMIT: i64 = 10_000;
const MANAGED_BY_LIMIT: usize = 63;

impl Strategy for Job {
    fn metadata_checks_on_update(&self) -> usize {
        1
    }

    fn default(&self, object: &mut Value) {
        let template = object.at("spec").at("template").at("metadata");
        let generated = template.at("labels").has(OLD_CONTROLLER_UID) || template.at("labels").has(CONTROLLER_UID);
        // Those of a new Job are not whole yet.
        if generated || object.at("spec").bool_at("manualSelector") {
            default_labels(object);
        }
        let spec = object.object_mut("spec");
        if !spec.has("completions") && !spec.has("parallelism") {
            spec.set("completions", 1);
        }
        spec.set_default("parallelism", 1);
        let limit = if spec.has("backoffLimitPerIndex") { i32::MAX } else { 6 };
        spec.set_default("backoffLimit", limit);
        spec.set_default("completionMode", "NonIndexed");
        spec.set_default("suspend", false);
        spec.set_default("manualSelector", false);
        let replacement = if spec.has("podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
        spec.set_default("podReplacementPolicy", replacement);
        pod_failure_policy::default(spec);
        template::default(spec, "template");
    }

    fn prepare_create(&self, object: &mut Value, _: &Context) {
        object.set("status", json!({}));
        let metadata = object.at("metadata");
        let (uid, name) = (metadata.str_at("uid").to_owned(), metadata.str_at("name").to_owned());
        let spec = object.object_mut("spec");
        let labelled = !spec.at("template").at("metadata").map_at("labels").is_empty();
        if !spec.bool_at("manualSelector") {
            let labels = spec.object_mut("template").object_mut("metadata").object_mut("labels");
            for (label, value) in
                [(OLD_JOB_NAME, &name), (JOB_NAME, &name), (OLD_CONTROLLER_UID, &uid), (CONTROLLER_UID, &uid)]
            {
                labels.set_default(label, value.as_str());
            }
            spec.object_mut("selector").object_mut("matchLabels").set_default(CONTROLLER_UID, uid);
        }
        template::drop_disabled(spec.set_mut("template"), None);
        // Where the pods had no labels of their own, Kubernetes does this when it reads the Job again: a name
        // that is no label value is refused first.
        if labelled || names::label_value(&name).is_empty() {
            default_labels(object);
        }
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("status", old);
        let before = old.at("spec").at("template");
        template::drop_disabled(object.object_mut("spec").set_mut("template"), Some(before));
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        generated_selector(object, true, &mut errors);
        validate_selected(object.at("spec"), &template::options(None), &mut errors);
        hostnames(object, &mut errors);
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let before = old.at("spec").at("template");
        let options = template::options(Some(before));
        let labels = before.at("metadata").at("labels");
        generated_selector(object, labels.has(JOB_NAME) && labels.has(CONTROLLER_UID), &mut errors);
        validate_selected(object.at("spec"), &options, &mut errors);
        hostnames(object, &mut errors);
        // Kubernetes looks at the spec twice.
        validate_selected(object.at("spec"), &options, &mut errors);
        job_update::validate(object.at("spec"), old, &mut errors);
        errors
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let at = |list: &mut Vec<String>, object: &Value| spec_warnings(object.at("spec"), &SPEC, list);
        template::workload_warnings_of(object, old, at)
    }

    fn status(&self) -> Option<&dyn Strategy> {
        Some(&Status)
    }

    fn selectable_fields(&self) -> &'static [(&'static str, fn(&Value) -> String)] {
        &[("status.successful", |job| job.at("status").int_at("succeeded").to_string())]
    }

    fn orphans_dependents(&self) -> bool {
        true
    }

    fn deletion_warning(&self) -> Option<&'static str> {
        Some(
            "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning",
        )
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        let (spec, status) = (object.at("spec"), object.at("status"));
        let [names, images] = cells::containers(spec.at("template").at("spec"));
        let done = status.int_at("succeeded");
        let completions = match (spec.optional_int("completions"), spec.int_at("parallelism")) {
            (Some(completions), _) => format!("{done}/{completions}"),
            (None, parallelism) if parallelism > 1 => format!("{done}/1 of {parallelism}"),
            _ => format!("{done}/1"),
        };
        Some(vec![
            cells::name(object),
            state(object).into(),
            completions.into(),
            duration(status, now).into(),
            cells::age(object, now),
            names,
            images,
            cells::selector(spec.at("selector")).into(),
        ])
    }
}

/// A Job without labels has those of its pods.
fn default_labels(object: &mut Value) {
    let labels = object.at("spec").at("template").at("metadata").at("labels").clone();
    if labels.is_object() && object.at("metadata").map_at("labels").is_empty() {
        object.object_mut("metadata").set("labels", labels);
    }
}

fn duration(status: &Value, now: &cells::Clock) -> String {
    let Ok(start) = status.str_at("startTime").parse::<jiff::Timestamp>() else { return String::new() };
    match status.str_at("completionTime").parse::<jiff::Timestamp>() {
        Ok(end) => cells::duration(end.as_second() - start.as_second()),
        Err(_) => now.passed(start),
    }
}

fn state(object: &Value) -> &'static str {
    let conditions = object.at("status").list_at("conditions");
    let has = |kind: &str| {
        conditions.iter().any(|condition| condition.str_at("type") == kind && condition.str_at("status") == "True")
    };
    if has("Complete") {
        return "Complete";
    }
    if has("Failed") {
        return "Failed";
    }
    if object.at("metadata").has("deletionTimestamp") {
        return "Terminating";
    }
    let other = ["Suspended", "FailureTarget", "SuccessCriteriaMet"].into_iter().find(|kind| has(kind));
    other.unwrap_or("Running")
}

struct Status;

impl Strategy for Status {
    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("spec", old);
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        job_status::validate(object, old, &mut errors);
        errors
    }
}

/// Warnings of the spec of a Job, or of a template of one.
pub fn spec_warnings(spec: &Value, path: &Path<'_>, out: &mut Vec<String>) {
    if spec.str_at("completionMode") == "Indexed"
        && spec.int_at("completions") > COMPLETIONS_SOFT_LIMIT
        && spec.int_at("parallelism") > HIGH_COMPLETIONS_LIMIT
    {
        out.push(format!(
            "{path}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
        ));
    }
    warnings::template(spec.at("template"), &path.child("template"), out);
}

/// The labels that tie pods to a Job are those that were generated for it; `prefixed`: with those
/// that bear a prefix.
fn generated_selector(object: &Value, prefixed: bool, errors: &mut ErrorList) {
    let (metadata, spec) = (object.at("metadata"), object.at("spec"));
    if spec.bool_at("manualSelector") || !spec.has("selector") {
        return;
    }
    let path = SPEC.child("template.metadata");
    let labels = spec.at("template").at("metadata").at("labels");
    let (uid, name) = (metadata.str_at("uid"), metadata.str_at("name"));
    let all = [(OLD_CONTROLLER_UID, uid), (OLD_JOB_NAME, name), (CONTROLLER_UID, uid), (JOB_NAME, name)];
    let wanted = if prefixed { &all[..] } else { &all[..2] };
    let at_labels = path.child("labels");
    for (label, value) in wanted {
        match labels.get_set(label) {
            None => errors.required(&at_labels.key(label), format!("must be '{value}'")),
            Some(actual) if actual.as_str() != Some(value) => {
                errors.invalid(&at_labels.key(label), labels.clone(), format!("must be '{value}'"));
            }
            Some(_) => {}
        }
    }
    let expected: Value = wanted.iter().map(|(label, value)| (label.to_string(), Value::from(*value))).collect();
    let selector = spec.at("selector");
    if labels::selector_is_usable(selector) && !labels::selector_matches(selector, &expected) {
        errors.invalid(&SPEC.child("selector"), selector.clone(), "`selector` not auto-generated");
    }
}

/// Pods of an Indexed Job have its name and their index as their hostnames.
fn hostnames(object: &Value, errors: &mut ErrorList) {
    let spec = object.at("spec");
    if spec.str_at("completionMode") == "Indexed" && spec.int_at("completions") > 0 {
        let name = object.at("metadata").str_at("name");
        let last = format!("{name}-{}", spec.int_at("completions") - 1);
        if !names::dns_label(&last).is_empty() {
            let detail = format!("will not able to create pod with invalid DNS label: {last}");
            errors.invalid(&Path::new("metadata").child("name"), name, detail);
        }
    }
}

/// The spec of a Job, selector included.
fn validate_selected(spec: &Value, options: &Options, errors: &mut ErrorList) {
    validate(spec, &SPEC, options, errors);
    let selector = spec.at("selector");
    if selector.is_null() {
        errors.required(&SPEC.child("selector"), "");
    } else {
        labels::selector(selector, false, &SPEC.child("selector"), errors);
    }
    let template_labels = spec.at("template").at("metadata").at("labels");
    if labels::selector_is_usable(selector) && !labels::selector_matches(selector, template_labels) {
        let detail = "`selector` does not match template `labels`";
        errors.invalid(&SPEC.child("template.metadata.labels"), template_labels.clone(), detail);
    }
}

/// The spec of a Job or of a template of one.
pub fn validate(spec: &Value, path: &Path<'_>, options: &Options, errors: &mut ErrorList) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        errors.not_negative(&path.child(field), spec.int_at(field));
    }
    if spec.has("maxFailedIndexes") && !spec.has("backoffLimitPerIndex") {
        errors.required(&path.child("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    if let Some(manager) = spec.optional_str("managedBy") {
        let at_manager = path.child("managedBy");
        match manager {
            "" => errors.required(&at_manager, ""),
            manager => errors.check(&at_manager, manager, names::domain_prefixed_path(manager)),
        }
        if manager.len() > MANAGED_BY_LIMIT {
            errors.too_long(&at_manager, MANAGED_BY_LIMIT as i64);
        }
    }
    completion_mode(spec, path, errors);
    pod_failure_policy::validate(spec, path, errors);
    if let Some(policy) = spec.get_set("successPolicy") {
        let at_policy = path.child("successPolicy");
        if spec.str_at("completionMode") == "Indexed" {
            pod_failure_policy::success(policy, spec.int_at("completions"), &at_policy, errors);
        } else {
            errors.invalid(&at_policy, policy.clone(), "requires indexed completion mode");
        }
    }
    if let Some(policy) = spec.optional_str("podReplacementPolicy") {
        let known: &[&str] =
            if spec.has("podFailurePolicy") { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
        errors.one_of(&path.child("podReplacementPolicy"), policy, known);
    }
    let template = spec.at("template");
    template::validate(template, &path.child("template"), options, errors);
    let policy = template.at("spec").str_at("restartPolicy");
    let at_policy = path.child("template.spec.restartPolicy");
    match policy {
        "OnFailure" | "Never" => {}
        // What a pod's default is, a Job's author has to choose.
        "" | "Always" => errors.required(&at_policy, "valid values: \"OnFailure\", \"Never\""),
        policy => errors.not_supported(&at_policy, policy, &["OnFailure", "Never"]),
    }
    if spec.has("podFailurePolicy") && policy == "OnFailure" {
        let detail = "only \"Never\" is supported when podFailurePolicy is specified";
        errors.invalid(&at_policy, policy, detail);
    }
}

fn completion_mode(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let mode = spec.optional_str("completionMode");
    if let Some(mode) = mode {
        errors.one_of(&path.child("completionMode"), mode, &["NonIndexed", "Indexed"]);
    }
    let (failed, completions) = (spec.optional_int("maxFailedIndexes"), spec.optional_int("completions"));
    let (at_failed, at_parallelism) = (path.child("maxFailedIndexes"), path.child("parallelism"));
    if matches!(mode, None | Some("NonIndexed")) {
        for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if let Some(value) = spec.optional_int(field) {
                errors.invalid(&path.child(field), value, "requires indexed completion mode");
            }
        }
    }
    if mode != Some("Indexed") {
        return;
    }
    if completions.is_none() {
        errors.required(&path.child("completions"), "when completion mode is Indexed");
    }
    let at_most = |limit: i64, when: &str| format!("must be less than or equal to {limit}{when}");
    let parallelism = spec.int_at("parallelism");
    if parallelism > INDEXED_LIMIT {
        errors.invalid(&at_parallelism, parallelism, at_most(INDEXED_LIMIT, " when completion mode is Indexed"));
    }
    if let Some((failed, _)) = failed.zip(completions).filter(|(failed, completions)| failed > completions) {
        errors.invalid(&at_failed, failed, "must be less than or equal to completions");
    }
    if let Some(failed) = failed.filter(|failed| *failed > INDEXED_LIMIT) {
        errors.invalid(&at_failed, failed, at_most(INDEXED_LIMIT, ""));
    }
    if completions.is_none_or(|count| count <= COMPLETIONS_SOFT_LIMIT) || !spec.has("backoffLimitPerIndex") {
        return;
    }
    let when = format!(" when completions are above {COMPLETIONS_SOFT_LIMIT} and used with backoff limit per index");
    if failed.is_none() {
        let detail = format!("must be specified when completions is above {COMPLETIONS_SOFT_LIMIT}");
        errors.required(&at_failed, detail);
    }
    if parallelism > HIGH_COMPLETIONS_LIMIT {
        errors.invalid(&at_parallelism, parallelism, at_most(HIGH_COMPLETIONS_LIMIT, &when));
    }
    if let Some(failed) = failed.filter(|failed| *failed > HIGH_COMPLETIONS_LIMIT) {
        errors.invalid(&at_failed, failed, at_most(HIGH_COMPLETIONS_LIMIT, &when));
    }
}
