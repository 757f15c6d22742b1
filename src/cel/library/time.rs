//! Parts of points in time, and of durations.

use super::no_such_overload;
use crate::cel::Failure;
use crate::cel::evaluate::Call;
use crate::cel::overloads::{Cost, Row};
use crate::cel::value::Value;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, Zoned};

type Outcome<'a> = Result<Value<'a>, Failure>;

/// Each part in UTC and in a zone.
macro_rules! parts {
    ($($name:literal, $id:literal, $function:ident);* $(;)?) => {
        &[
            $(
                ($name, $id, "timestamp -> int", $function, Cost::One),
                ($name, concat!($id, "_with_tz"), "timestamp, string -> int", $function, Cost::One),
            )*
            (".getHours", "duration_to_hours", "duration -> int", hours_of, Cost::One),
            (".getMinutes", "duration_to_minutes", "duration -> int", minutes_of, Cost::One),
            (".getSeconds", "duration_to_seconds", "duration -> int", seconds_of, Cost::One),
            (".getMilliseconds", "duration_to_milliseconds", "duration -> int", milliseconds_of, Cost::One),
        ]
    };
}

pub(super) const ROWS: &[Row] = parts! {
    ".getFullYear", "timestamp_to_year", year;
    ".getMonth", "timestamp_to_month", month;
    ".getDayOfYear", "timestamp_to_day_of_year", day_of_year;
    ".getDayOfMonth", "timestamp_to_day_of_month", day_of_month;
    ".getDate", "timestamp_to_day_of_month_1_based", date;
    ".getDayOfWeek", "timestamp_to_day_of_week", day_of_week;
    ".getHours", "timestamp_to_hours", hours;
    ".getMinutes", "timestamp_to_minutes", minutes;
    ".getSeconds", "timestamp_to_seconds", seconds;
    ".getMilliseconds", "timestamp_to_milliseconds", milliseconds;
};

pub(super) fn shift<'a>(time: Timestamp, nanoseconds: i64) -> Outcome<'a> {
    let shifted = time.checked_add(SignedDuration::from_nanos(nanoseconds));
    shifted.map(Value::Timestamp).map_err(|_| Failure::new("timestamp overflow"))
}

fn part<'a>(call: &Call<'a, '_>, part: fn(&Zoned) -> i64) -> Outcome<'a> {
    let Value::Timestamp(time) = &call.arguments[0] else { return Err(no_such_overload()) };
    let zone = if call.arguments.len() > 1 { zone(call.text(1)?)? } else { TimeZone::UTC };
    Ok(Value::Int(part(&time.to_zoned(zone))))
}

/// A name, or an offset: `+02:00`.
fn zone(name: &str) -> Result<TimeZone, Failure> {
    if let Some((hours, minutes)) = name.split_once(':') {
        let offset = hours.parse::<i32>().ok().zip(minutes.parse::<i32>().ok()).and_then(|(hours, minutes)| {
            let minutes = if hours < 0 || name.starts_with('-') { -minutes } else { minutes };
            Offset::from_seconds(hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?)?).ok()
        });
        return offset.map(TimeZone::fixed).ok_or_else(|| Failure::new(format!("invalid timezone: {name}")));
    }
    if name.is_empty() || name == "UTC" {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(name).map_err(|_| Failure::new(format!("unknown time zone {name}")))
}

fn year<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    part(call, |time| time.year().into())
}

fn month<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    part(call, |time| i64::from(time.month()) - 1)
}

fn day_of_year<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    part(call, |time| i64::from(time.day_of_year()) - 1)
}

fn day_of_month<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    part(call, |time| i64::from(time.day()) - 1)
}

fn date<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    part(call, |time| time.day().into())
}

fn day_of_week<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    part(call, |time| time.weekday().to_sunday_zero_offset().into())
}

fn hours<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    part(call, |time| time.hour().into())
}

fn minutes<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    part(call, |time| time.minute().into())
}

fn seconds<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    part(call, |time| time.second().into())
}

fn milliseconds<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    part(call, |time| time.millisecond().into())
}

fn duration<'a>(call: &Call<'a, '_>, unit: i64) -> Outcome<'a> {
    match &call.arguments[0] {
        Value::Duration(nanoseconds) => Ok(Value::Int(nanoseconds / unit)),
        _ => Err(no_such_overload()),
    }
}

fn hours_of<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    duration(call, 3_600_000_000_000)
}

fn minutes_of<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    duration(call, 60_000_000_000)
}

fn seconds_of<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    duration(call, 1_000_000_000)
}

fn milliseconds_of<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    duration(call, 1_000_000)
}
