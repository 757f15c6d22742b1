//! Jobs and CronJobs.

use super::page::{Page, line, or_none, time};
use super::rows::Row::{self, Annotations, Flag, If, Labels, Or, Seconds, Selector, Text, Time};
use super::rows::{NAME, NAMESPACE};
use super::{Lists, controlled_by, workload};
use crate::api::Fields;
use crate::resources::cells;
use jiff::Timestamp;
use serde_json::Value;

/// More of a list of indexes is not shown.
const INDEXES_SHOWN: usize = 50;

pub(super) fn print_job(job: &Value, _: &Lists, page: &mut Page) {
    let (spec, status) = (job.at("spec"), job.at("status"));
    page.rows(0, job, &[NAME, NAMESPACE, Selector("Selector", "/spec/selector"), Labels, Annotations]);
    if let Some(owner) = controlled_by(job) {
        line!(page, 0, "Controlled By:\t{owner}");
    }
    page.rows(
        0,
        job,
        &[
            If("Parallelism", "/spec/parallelism"),
            Or("Completions", "/spec/completions", "<unset>"),
            If("Completion Mode", "/spec/completionMode"),
            If("Suspend", "/spec/suspend"),
            If("Backoff Limit", "/spec/backoffLimit"),
            If("TTL Seconds After Finished", "/spec/ttlSecondsAfterFinished"),
            Time("Start Time", "/status/startTime"),
            Time("Completed At", "/status/completionTime"),
        ],
    );
    let moment = |field: &str| status.str_at(field).parse::<Timestamp>().ok();
    if let (Some(start), Some(end)) = (moment("startTime"), moment("completionTime")) {
        line!(page, 0, "Duration:\t{}", cells::duration(end.duration_since(start).as_secs()));
    }
    page.rows(0, job, &[Seconds("Active Deadline Seconds", "/spec/activeDeadlineSeconds")]);
    let ready = status.optional_int("ready").map(|ready| format!(" ({ready} Ready)")).unwrap_or_default();
    line!(
        page,
        0,
        "Pods Statuses:\t{} Active{ready} / {} Succeeded / {} Failed",
        status.int_at("active"),
        status.int_at("succeeded"),
        status.int_at("failed")
    );
    if spec.str_at("completionMode") == "Indexed" {
        line!(page, 0, "Completed Indexes:\t{}", indexes(status.str_at("completedIndexes")));
    }
    workload::template(spec.at("template"), page);
}

fn indexes(text: &str) -> String {
    match text.get(INDEXES_SHOWN..).and_then(|rest| rest.find(',')) {
        Some(comma) => format!("{}...", &text[..=INDEXES_SHOWN + comma]),
        None => or_none(text).to_owned(),
    }
}

pub(super) fn print_cron_job(cron_job: &Value, _: &Lists, page: &mut Page) {
    let (template, status) = (cron_job.at("spec").at("jobTemplate").at("spec"), cron_job.at("status"));
    const HEAD: &[Row] = &[
        NAME,
        NAMESPACE,
        Labels,
        Annotations,
        Text("Schedule", "/spec/schedule"),
        Text("Concurrency Policy", "/spec/concurrencyPolicy"),
        Flag("Suspend", "/spec/suspend"),
        Or("Time Zone", "/spec/timeZone", "<unset>"),
        Or("Successful Job History Limit", "/spec/successfulJobsHistoryLimit", "<unset>"),
        Or("Failed Job History Limit", "/spec/failedJobsHistoryLimit", "<unset>"),
    ];
    page.rows(0, cron_job, HEAD);
    match cron_job.at("spec").optional_int("startingDeadlineSeconds") {
        Some(seconds) => line!(page, 0, "Starting Deadline Seconds:\t{seconds}s"),
        None => line!(page, 0, "Starting Deadline Seconds:\t<unset>"),
    }
    match template.get_set("selector") {
        Some(selector) => line!(page, 0, "Selector:\t{}", cells::selector(selector)),
        None => line!(page, 0, "Selector:\t<unset>"),
    }
    page.rows(
        0,
        template,
        &[
            Or("Parallelism", "/parallelism", "<unset>"),
            Or("Completions", "/completions", "<unset>"),
            Seconds("Active Deadline Seconds", "/activeDeadlineSeconds"),
        ],
    );
    workload::template(template.at("template"), page);
    let last = status.optional_str("lastScheduleTime").map_or_else(|| "<unset>".to_owned(), time);
    line!(page, 0, "Last Schedule Time:\t{last}");
    let active: Vec<&str> = status.list_at("active").iter().map(|job| job.str_at("name")).collect();
    line!(page, 0, "Active Jobs:\t{}", or_none(&active.join(", ")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_of_indexes_are_cut_at_a_comma() {
        let long = (0..40).map(|index| index.to_string()).collect::<Vec<_>>().join(",");
        assert_eq!(indexes(&long), "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,...");
        assert_eq!(indexes("0-7"), "0-7");
        assert_eq!(indexes(""), "<none>");
    }
}
