//! Which time of a CronJob's schedule is due, and what has become of its Jobs: pure.
//!
//! Source: `pkg/controller/cronjob`.

use crate::api::cron::Schedule;
use crate::runtime::views::{CronJob, Job};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// After a scheduled time, so that a clock that is set back a little does not come before it.
const MARGIN: Duration = Duration::from_millis(100);

/// More missed times than this are told of.
const MANY: i64 = 100;

/// Where a CronJob is in its schedule.
#[derive(Debug, PartialEq, Eq)]
pub struct Due {
    /// The last time that passed and was not acted on.
    pub time: Option<Timestamp>,
    pub many_missed: bool,
    /// Until the next one.
    pub next: Option<Duration>,
}

/// Err: the schedule never comes twice.
pub fn due(cron: &CronJob, schedule: &Schedule, zone: &TimeZone, now: Timestamp) -> Result<Due, String> {
    let next = next(cron, schedule, zone, now);
    let deadline = cron.spec.starting_deadline_seconds;
    let (time, missed) = last_missed(cron, schedule, zone, now, deadline)?;
    Ok(Due { time, many_missed: missed > MANY, next })
}

/// Whether a time is past its deadline.
pub fn is_too_late(cron: &CronJob, time: Timestamp, now: Timestamp) -> bool {
    let deadline = cron.spec.starting_deadline_seconds.map(SignedDuration::from_secs);
    deadline.is_some_and(|deadline| time.saturating_add(deadline).is_ok_and(|last| last < now))
}

fn since(cron: &CronJob, now: Timestamp, deadline: Option<i64>) -> Timestamp {
    let made = cron.meta.creation_timestamp.unwrap_or(now);
    let earliest = cron.status.last_schedule_time.unwrap_or(made);
    let limit = deadline.and_then(|deadline| now.checked_sub(SignedDuration::from_secs(deadline)).ok());
    limit.map_or(earliest, |limit| earliest.max(limit))
}

/// What is wrong with a schedule that says a zone of its own. The API takes no new ones.
pub fn unsupported(schedule: &str) -> Option<String> {
    let see = "https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/";
    let text = || {
        format!("CRON_TZ or TZ used in schedule {schedule:?} is not officially supported, see {see} for more details")
    };
    schedule.contains("TZ").then(text)
}

pub fn schedule(text: &str) -> Result<Schedule, String> {
    Schedule::parse(text).map_err(|error| format!("unparseable schedule: {text:?} : {error}"))
}

/// The last time up to now, and about how many have passed besides. Of those that come at unequal intervals none may
/// be found though some have passed: they are not made up for.
fn last_missed(
    cron: &CronJob,
    schedule: &Schedule,
    zone: &TimeZone,
    now: Timestamp,
    deadline: Option<i64>,
) -> Result<(Option<Timestamp>, i64), String> {
    let never = || "time difference between two schedules is less than 1 second".to_owned();
    let first = schedule.next(since(cron, now, deadline), zone).ok_or_else(never)?;
    if now < first {
        return Ok((None, 0));
    }
    let second = schedule.next(first, zone).ok_or_else(never)?;
    if now < second {
        return Ok((Some(first), 0));
    }
    // A guess by the first interval, from which the schedule itself goes on.
    let interval = second.duration_since(first).as_secs().max(1);
    let missed = now.duration_since(first).as_secs() / interval + 1;
    let guess = SignedDuration::from_secs((missed - 2).saturating_mul(interval));
    let start = first.saturating_add(guess).unwrap_or(first);
    Ok((up_to(schedule, start, now, zone), missed))
}

/// The last time of the schedule after one time, up to another.
fn up_to(schedule: &Schedule, after: Timestamp, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let next = |time: &Timestamp| schedule.next(*time, zone).filter(|time| *time <= now);
    std::iter::successors(next(&after), next).last()
}

fn next(cron: &CronJob, schedule: &Schedule, zone: &TimeZone, now: Timestamp) -> Option<Duration> {
    let last = match last_missed(cron, schedule, zone, now, None) {
        Ok((Some(last), _)) => last,
        Ok((None, 0)) => since(cron, now, None),
        Ok((None, _)) | Err(_) => now,
    };
    let next = schedule.next(last, zone)?;
    Some(Duration::try_from(next.duration_since(now)).unwrap_or_default() + MARGIN)
}

/// How long a change of a CronJob can wait. A new schedule begins with its next time: it does not make up for
/// times that were none before.
pub fn patience(old: &CronJob, new: &CronJob, now: Timestamp) -> Duration {
    if old.spec.schedule == new.spec.schedule && old.spec.time_zone == new.spec.time_zone {
        return Duration::ZERO;
    }
    let (Ok(schedule), Ok(zone)) = (Schedule::parse(&new.spec.schedule), zone(new)) else { return Duration::ZERO };
    next(new, &schedule, &zone, now).unwrap_or_default()
}

/// In which its schedule is meant.
pub fn zone(cron: &CronJob) -> Result<TimeZone, String> {
    match cron.spec.time_zone.as_deref() {
        None => Ok(TimeZone::system()),
        Some(name) => TimeZone::get(name).map_err(|_| format!("unknown time zone {name}")),
    }
}

/// Those beyond the limit, the oldest first.
pub fn surplus(mut jobs: Vec<Arc<Job>>, limit: Option<i32>) -> Vec<Arc<Job>> {
    let Some(limit) = limit else { return Vec::new() };
    let count = jobs.len().saturating_sub(usize::try_from(limit).unwrap_or_default());
    let order = |job: &Job| (job.status.start_time.is_none(), job.status.start_time);
    jobs.sort_by(|one, two| order(one).cmp(&order(two)).then_with(|| one.meta.name.cmp(&two.meta.name)));
    jobs.truncate(count);
    jobs
}

pub fn is_active(active: &[Value], uid: &str) -> bool {
    active.iter().any(|reference| reference["uid"] == uid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn cron(spec: Value, last: Option<&str>) -> CronJob {
        serde_json::from_value(json!({
            "metadata": { "name": "tick", "creationTimestamp": "2026-01-01T10:00:00Z" },
            "spec": spec, "status": { "lastScheduleTime": last },
        }))
        .expect("a CronJob")
    }

    fn at(text: &str) -> Timestamp {
        format!("2026-01-{text}Z").parse().expect("a time")
    }

    fn check(cron: &CronJob, schedule: &str, now: &str) -> (Option<Timestamp>, bool, u64) {
        let schedule = Schedule::parse(schedule).expect("a schedule");
        let due = due(cron, &schedule, &TimeZone::UTC, at(now)).expect("a time");
        (due.time, due.many_missed, due.next.expect("another").as_secs())
    }

    #[test]
    fn the_last_missed_time_is_due() {
        let fresh = cron(json!({}), None);
        assert_eq!(check(&fresh, "*/5 * * * *", "01T10:03:00"), (None, false, 120));
        assert_eq!(check(&fresh, "*/5 * * * *", "01T10:05:00"), (Some(at("01T10:05:00")), false, 300));
        assert_eq!(check(&fresh, "*/5 * * * *", "01T10:17:00"), (Some(at("01T10:15:00")), false, 180));
        assert_eq!(check(&fresh, "* * * * *", "01T12:00:30"), (Some(at("01T12:00:00")), true, 30));
        let done = cron(json!({}), Some("2026-01-01T10:15:00Z"));
        assert_eq!(check(&done, "*/5 * * * *", "01T10:17:00"), (None, false, 180));
        // Not at equal intervals: the first one says how far back the last is looked for.
        assert_eq!(check(&fresh, "0 11,12,20 * * *", "01T20:00:00"), (Some(at("01T20:00:00")), false, 15 * 3600));
        assert_eq!(
            check(&fresh, "0 11,12,20 * * *", "01T20:30:00"),
            (Some(at("01T20:00:00")), false, 14 * 3600 + 1800)
        );
        assert_eq!(check(&fresh, "0 11,12,20 * * *", "01T21:00:00"), (None, false, 14 * 3600));
        let weekly = "30 6-16/4 * * 1-5";
        assert_eq!(check(&fresh, weekly, "05T06:30:00").0, Some(at("05T06:30:00")), "a Monday");
        assert_eq!(check(&fresh, weekly, "04T12:00:00"), (None, false, 18 * 3600 + 1800), "a Sunday");
    }

    #[test]
    fn what_is_wrong_with_a_schedule() {
        let text = "CRON_TZ or TZ used in schedule \"CRON_TZ=Asia/Kolkata 0 * * * *\" is not officially supported, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details";
        assert_eq!(unsupported("CRON_TZ=Asia/Kolkata 0 * * * *").as_deref(), Some(text));
        assert_eq!(unsupported("TZ=UTC 0 * * * *").map(|text| text.contains("\"TZ=UTC 0 * * * *\"")), Some(true));
        assert_eq!(unsupported("0 * * * *"), None);
        let text = "unparseable schedule: \"TZ=No/Where 0 * * * *\" : provided bad location No/Where: unknown time zone No/Where";
        assert_eq!(schedule("TZ=No/Where 0 * * * *").expect_err("no zone"), text);
        let error = zone(&cron(json!({ "timeZone": "No/Where" }), None)).expect_err("no zone");
        assert_eq!(error, "unknown time zone No/Where");
    }

    #[test]
    fn a_schedule_that_never_comes_is_none() {
        let schedule = Schedule::parse("59 23 31 2 *").expect("a schedule");
        let error = due(&cron(json!({}), None), &schedule, &TimeZone::UTC, at("01T10:03:00"));
        assert_eq!(error, Err("time difference between two schedules is less than 1 second".to_owned()));
    }

    #[test]
    fn a_new_schedule_begins_with_its_next_time() {
        let spec = |schedule: &str, zone: Value| json!({ "schedule": schedule, "timeZone": zone });
        let old = cron(spec("0 * * * *", json!("Etc/UTC")), Some("2026-01-01T10:00:00Z"));
        let waits =
            |spec: Value| patience(&old, &cron(spec, Some("2026-01-01T10:00:00Z")), at("01T10:30:00")).as_secs();
        assert_eq!(waits(spec("0 * * * *", json!("Etc/UTC"))), 0, "something else was changed");
        assert_eq!(waits(spec("15 * * * *", json!("Etc/UTC"))), 45 * 60, "and not for 10:15 now");
        assert_eq!(waits(spec("0 * * * *", json!("Asia/Kolkata"))), 60 * 60, "10:30 there is half past");
        assert_eq!(waits(spec("0 * * * *", json!("No/Where"))), 0, "which is to be told");
    }

    #[test]
    fn a_deadline_forgets_what_is_long_missed() {
        let cron = cron(json!({ "startingDeadlineSeconds": 60 }), None);
        assert_eq!(check(&cron, "0 * * * *", "01T11:30:00").0, None);
        assert_eq!(check(&cron, "0 * * * *", "01T11:00:40").0, Some(at("01T11:00:00")));
        assert!(is_too_late(&cron, at("01T11:00:00"), at("01T11:01:01")));
        assert!(!is_too_late(&cron, at("01T11:00:00"), at("01T11:01:00")));
    }

    #[test]
    fn the_oldest_beyond_the_limit_go() {
        let job = |name: &str, start: Option<&str>| {
            let job = json!({ "metadata": { "name": name }, "status": { "startTime": start } });
            Arc::new(serde_json::from_value::<Job>(job).expect("a Job"))
        };
        let jobs = vec![job("c", None), job("b", Some("2026-01-01T00:00:02Z")), job("a", Some("2026-01-01T00:00:01Z"))];
        let names = |limit: Option<i32>| -> Vec<String> {
            surplus(jobs.clone(), limit).iter().map(|job| job.meta.name.to_string()).collect()
        };
        assert_eq!(names(None), Vec::<String>::new());
        assert_eq!(names(Some(1)), ["a", "b"]);
        assert_eq!(names(Some(0)), ["a", "b", "c"]);
    }
}
