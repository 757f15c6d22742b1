//! CronJob: Jobs by the clock.

use super::job::{self, SPEC};
use super::pod_failure_policy;
use crate::api::cron::Schedule;
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report};
use crate::resources::core::pod_spec::Options;
use crate::resources::core::template;
use crate::resources::{Column, Context, Resource, Strategy, Subresource, cells};
use serde_json::{Value, json};
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["cj".into()],
        categories: vec!["all".into()],
        status: true,
        generation: true,
        subresources: vec![Subresource::status()],
        columns: vec![
            Column::name(),
            Column::string("Schedule"),
            Column::string("Timezone"),
            Column::boolean("Suspend"),
            Column::integer("Active"),
            Column::string("Last Schedule"),
            Column::string("Age"),
            Column::string("Containers").wide(),
            Column::string("Images").wide(),
            Column::string("Selector").wide(),
        ],
        strategy: Arc::new(CronJob),
        ..Resource::new("batch", "v1", "CronJob", "cronjobs")
    }
}

struct CronJob;

/// A Job's name is this one's and eleven characters.
const NAME_LIMIT: usize = 52;
const ZONE_PART_LIMIT: usize = 14;

impl Strategy for CronJob {
    fn default(&self, object: &mut Value) {
        let spec = object.object_mut("spec");
        spec.set_default_str("concurrencyPolicy", "Allow");
        spec.set_default("suspend", false);
        spec.set_default("successfulJobsHistoryLimit", 3);
        spec.set_default("failedJobsHistoryLimit", 1);
        let job = spec.object_mut("jobTemplate");
        job.set_default("metadata", json!({}));
        let spec = job.object_mut("spec");
        pod_failure_policy::default(spec);
        template::default(spec, "template");
    }

    fn prepare_create(&self, object: &mut Value, _: &Context) {
        object.set("status", json!({}));
        drop_disabled(object, &Value::Null);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("status", old);
        drop_disabled(object, old);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        validate(object.at("spec"), None, &template::options(None), &mut errors);
        let name = object.at("metadata").str_at("name");
        if name.len() > NAME_LIMIT {
            let detail = format!("must be no more than {NAME_LIMIT} characters");
            errors.invalid(&Path::new("metadata").child("name"), name, detail);
        }
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let options = template::options(Some(pods(old)));
        validate(object.at("spec"), Some(old.at("spec")), &options, &mut errors);
        errors
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let mut out = template::workload_warnings_of(object, old, |out, object| {
            let job = object.at("spec").at("jobTemplate").at("spec");
            job::spec_warnings(job, &SPEC.child("jobTemplate.spec"), out);
        });
        if old.is_some() && object.at("spec").str_at("schedule").contains("TZ") {
            // The path is Kubernetes's own.
            out.push("cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details".to_owned());
        }
        out
    }

    fn status(&self) -> Option<&dyn Strategy> {
        Some(&Status)
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        let (spec, status) = (object.at("spec"), object.at("status"));
        let [names, images] = cells::containers(pods(object).at("spec"));
        let suspend = match spec.optional_bool("suspend") {
            Some(true) => "True",
            Some(false) => "False",
            None => "<unset>",
        };
        let last = status.optional_str("lastScheduleTime").map(|time| cells::since(time, now));
        Some(vec![
            cells::name(object),
            spec.str_at("schedule").into(),
            spec.optional_str("timeZone").unwrap_or(cells::NONE).into(),
            suspend.into(),
            status.list_at("active").len().into(),
            last.unwrap_or_else(|| cells::NONE.to_owned()).into(),
            cells::age(object, now),
            names,
            images,
            cells::selector(spec.at("jobTemplate").at("spec").at("selector")).into(),
        ])
    }
}

struct Status;

impl Strategy for Status {
    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("spec", old);
    }

    fn validate_update(&self, _: &Value, _: &Value) -> ErrorList {
        ErrorList::new()
    }
}

/// The template of the pods of the Jobs.
fn pods(object: &Value) -> &Value {
    object.at("spec").at("jobTemplate").at("spec").at("template")
}

fn drop_disabled(object: &mut Value, old: &Value) {
    let before = pods(old);
    let before = if before.is_null() { None } else { Some(before.clone()) };
    let job = object.object_mut("spec").object_mut("jobTemplate").object_mut("spec");
    template::drop_disabled(job.set_mut("template"), before.as_ref());
}

fn validate(spec: &Value, old: Option<&Value>, options: &Options, errors: &mut ErrorList) {
    let path = SPEC.child("schedule");
    match spec.str_at("schedule") {
        "" => errors.required(&path, ""),
        schedule => {
            if let Err(error) = Schedule::parse(schedule) {
                errors.invalid(&path, schedule, error.to_string());
            }
            // One that had a zone in its schedule keeps it.
            let had_zone = old.is_some_and(|old| old.str_at("schedule").contains("TZ"));
            let detail = match (schedule.contains("TZ"), had_zone, spec.has("timeZone")) {
                (true, true, true) => "cannot use both timeZone field and TZ or CRON_TZ in schedule",
                (true, false, _) => "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
                _ => "",
            };
            if !detail.is_empty() {
                errors.invalid(&path, schedule, detail);
            }
        }
    }
    errors.not_negative(&SPEC.child("startingDeadlineSeconds"), spec.int_at("startingDeadlineSeconds"));
    let zone = spec.optional_str("timeZone");
    if let Some(zone) = zone.filter(|_| old.is_none_or(|old| old.optional_str("timeZone") != zone)) {
        time_zone(zone, &SPEC.child("timeZone"), errors);
    }
    let known = &["Allow", "Forbid", "Replace"];
    match spec.str_at("concurrencyPolicy") {
        "" => errors.required(&SPEC.child("concurrencyPolicy"), ""),
        policy => errors.one_of(&SPEC.child("concurrencyPolicy"), policy, known),
    }
    let at_job = SPEC.child("jobTemplate.spec");
    let job = spec.at("jobTemplate").at("spec");
    job::validate(job, &at_job, options, errors);
    if job.has("selector") {
        let detail = "`selector` will be auto-generated";
        errors.invalid(&at_job.child("selector"), job.at("selector").clone(), detail);
    }
    if job.bool_at("manualSelector") {
        errors.not_supported(&at_job.child("manualSelector"), true, &["nil", "false"]);
    }
    for field in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        errors.not_negative(&SPEC.child(field), spec.int_at(field));
    }
}

fn time_zone(zone: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if zone.is_empty() {
        return errors.invalid(path, zone, "timeZone must be nil or non-empty string");
    }
    let known = |c: u8| c.is_ascii_alphanumeric() || b".-_+".contains(&c);
    let is_part = |part: &str| {
        (1..=ZONE_PART_LIMIT).contains(&part.len())
            && part.bytes().all(known)
            && !part.starts_with('-')
            && !matches!(part, "." | "..")
    };
    let unknown = format!("unknown time zone {zone}");
    if !zone.split('/').all(is_part) {
        return errors.invalid(path, zone, unknown);
    }
    if zone.eq_ignore_ascii_case("Local") {
        let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.invalid(path, zone, detail);
    }
    // Kubernetes minds the case of letters.
    let found = zone == "Local" || jiff::tz::TimeZone::get(zone).is_ok_and(|found| found.iana_name() == Some(zone));
    if !found {
        errors.invalid(path, zone, unknown);
    }
}
