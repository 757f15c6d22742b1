//! Parts of points in time, and of durations.

use super::no_such_overload;
use crate::cel::Failure;
use crate::cel::evaluate::Call;
use crate::cel::overloads::{Cost, Row};
use crate::cel::value::Value;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

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

/// A point in time, and the offset that it was written with.
#[derive(Clone, Copy, Debug)]
pub struct Time {
    /// Since 1970.
    pub seconds: i64,
    pub nanoseconds: u32,
    /// Seconds east of Greenwich.
    offset: i32,
}

/// From the year 1 to the year 9999.
const FIRST: i64 = -62_135_596_800;
const LAST: i64 = 253_402_300_799;
const BILLION: i128 = 1_000_000_000;

impl Time {
    pub fn from_seconds(seconds: i64) -> Option<Self> {
        Self::new(seconds, 0, 0)
    }

    fn new(seconds: i64, nanoseconds: u32, offset: i32) -> Option<Self> {
        (FIRST..=LAST).contains(&seconds).then_some(Self { seconds, nanoseconds, offset })
    }

    /// `2006-01-02T15:04:05.999Z`, with `+01:00` in place of the `Z`.
    pub fn parse(text: &str) -> Option<Self> {
        let (civil, zone) = text.split_at_checked(text.find(['Z', '+']).or_else(|| text.rfind('-'))?)?;
        let offset = match zone.as_bytes() {
            b"Z" => 0,
            [sign, _, _, b':', _, _] => {
                let number = |range: std::ops::Range<usize>| {
                    zone.get(range).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
                };
                let (hours, minutes): (i32, i32) = (number(1..3)?.parse().ok()?, number(4..6)?.parse().ok()?);
                if hours > 24 || minutes > 60 {
                    return None;
                }
                let offset = hours * 3600 + minutes * 60;
                if *sign == b'-' { -offset } else { offset }
            }
            _ => return None,
        };
        if civil.as_bytes().get(10) != Some(&b'T') || civil.ends_with('.') {
            return None;
        }
        let civil: DateTime = civil.parse().ok().filter(|_| civil.len() >= 19 && civil.is_ascii())?;
        let since = civil.duration_since(EPOCH);
        let seconds = since.as_nanos().div_euclid(BILLION) as i64 - i64::from(offset);
        Self::new(seconds, since.as_nanos().rem_euclid(BILLION) as u32, offset)
    }

    pub fn is_zero(self) -> bool {
        self.seconds == FIRST && self.nanoseconds == 0
    }

    pub fn as_nanosecond(self) -> i128 {
        i128::from(self.seconds) * BILLION + i128::from(self.nanoseconds)
    }

    /// As a clock shows it that is ahead of Greenwich by so many seconds.
    fn civil(self, offset: i32) -> DateTime {
        let seconds = self.seconds.saturating_add(offset.into());
        let since = SignedDuration::new(seconds, i32::try_from(self.nanoseconds).unwrap_or(0));
        EPOCH.checked_add(since).unwrap_or(if seconds < 0 { DateTime::MIN } else { DateTime::MAX })
    }
}

const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

impl PartialEq for Time {
    fn eq(&self, other: &Self) -> bool {
        self.as_nanosecond() == other.as_nanosecond()
    }
}

impl Eq for Time {}

impl PartialOrd for Time {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Time {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_nanosecond().cmp(&other.as_nanosecond())
    }
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let civil = self.civil(self.offset);
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            civil.year(),
            civil.month(),
            civil.day(),
            civil.hour(),
            civil.minute(),
            civil.second()
        )?;
        if self.nanoseconds > 0 {
            write!(f, ".{}", format!("{:09}", self.nanoseconds).trim_end_matches('0'))?;
        }
        if self.offset == 0 {
            return f.write_str("Z");
        }
        let minutes = self.offset.abs() / 60;
        write!(f, "{}{:02}:{:02}", if self.offset < 0 { '-' } else { '+' }, minutes / 60, minutes % 60)
    }
}

pub(super) fn shift<'a>(time: Time, nanoseconds: i64) -> Outcome<'a> {
    let shifted = time.as_nanosecond() + i128::from(nanoseconds);
    let (seconds, rest) = (shifted.div_euclid(BILLION) as i64, shifted.rem_euclid(BILLION) as u32);
    Time::new(seconds, rest, time.offset).map(Value::Timestamp).ok_or_else(|| Failure::new("timestamp overflow"))
}

fn part<'a>(call: &Call<'a, '_>, part: fn(&DateTime) -> i64) -> Outcome<'a> {
    let Value::Timestamp(time) = &call.arguments[0] else { return Err(no_such_overload()) };
    let offset = if call.arguments.len() > 1 { offset(call.text(1)?, *time)? } else { 0 };
    Ok(Value::Int(part(&time.civil(offset))))
}

/// Of a zone at such a time: by its name, or as an offset, `+02:00`.
fn offset(name: &str, time: Time) -> Result<i32, Failure> {
    if let Some((hours, minutes)) = name.split_once(':') {
        let offset = hours.parse::<i32>().ok().zip(minutes.parse::<i32>().ok()).and_then(|(hours, minutes)| {
            let minutes = if hours < 0 || name.starts_with('-') { -minutes } else { minutes };
            hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?)
        });
        return offset.ok_or_else(|| Failure::new(format!("invalid timezone: {name}")));
    }
    if name.is_empty() || name == "UTC" {
        return Ok(0);
    }
    let zone = TimeZone::get(name).map_err(|_| Failure::new(format!("unknown time zone {name}")))?;
    let seconds = time.seconds.clamp(Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
    Ok(zone.to_offset(Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH)).seconds())
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
