//! Schedules in cron's notation: five fields, or a name such as `@daily`.
//!
//! Taken and refused as `robfig/cron` takes and refuses them, whose texts these are; [`Schedule::next`]
//! finds the times that it finds.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Said before the fields; None: that of who asks.
    zone: Option<TimeZone>,
    times: Times,
}

/// Which minutes, hours, days, months and weekdays are meant: a bit for each.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Times {
    Fields {
        minutes: u64,
        hours: u64,
        days: u64,
        months: u64,
        weekdays: u64,
        /// A `*` in the field of days, of weekdays: then the other one decides alone.
        any_day: bool,
        any_weekday: bool,
    },
    /// `@every 90m`, in whole seconds.
    Every(i64),
}

/// Why a text is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(String);

struct Field {
    first: u32,
    last: u32,
    names: &'static [&'static str],
}

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const FIELDS: [Field; 5] = [
    Field { first: 0, last: 59, names: &[] },
    Field { first: 0, last: 23, names: &[] },
    Field { first: 1, last: 31, names: &[] },
    Field { first: 1, last: 12, names: MONTHS },
    Field { first: 0, last: 6, names: WEEKDAYS },
];
const DESCRIPTORS: &[(&[&str], &str)] = &[
    (&["@yearly", "@annually"], "0 0 1 1 *"),
    (&["@monthly"], "0 0 1 * *"),
    (&["@weekly"], "0 0 * * 0"),
    (&["@daily", "@midnight"], "0 0 * * *"),
    (&["@hourly"], "0 * * * *"),
];

impl Schedule {
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        if text.is_empty() {
            return refuse("empty spec string".to_owned());
        }
        // A zone before the fields: where it may stand is the caller's to say.
        let (mut rest, mut zone) = (text, None);
        if text.starts_with("TZ=") || text.starts_with("CRON_TZ=") {
            let Some((said, fields)) = text.split_once(' ') else {
                return refuse(format!("provided bad location {text}: no schedule follows"));
            };
            let name = said.split_once('=').map(|(_, name)| name).unwrap_or_default();
            let Ok(found) = TimeZone::get(name) else {
                return refuse(format!("provided bad location {name}: unknown time zone {name}"));
            };
            (rest, zone) = (fields.trim(), Some(found));
        }
        Ok(Self { zone, times: Times::parse(rest)? })
    }

    /// The first time of it behind another one; where no zone is said the times are of this one. None: there is
    /// none in the next five years. Times that a change to summer leaves out are not made up for.
    pub fn next(&self, after: Timestamp, local: &TimeZone) -> Option<Timestamp> {
        let (minutes, hours, months) = match &self.times {
            Times::Every(seconds) => {
                let whole = Timestamp::from_second(after.as_second()).ok()?;
                return whole.checked_add(SignedDuration::from_secs(*seconds)).ok();
            }
            Times::Fields { minutes, hours, months, .. } => (*minutes, *hours, *months),
        };
        let has = |bits: u64, number: i8| bits & (1 << number) != 0;
        let mut time =
            Timestamp::from_second(after.as_second()).ok()?.to_zoned(self.zone.as_ref().unwrap_or(local).clone());
        let last = time.year() + 5;
        let mut ahead = 60 - i64::from(time.second());
        loop {
            time = time.checked_add(SignedDuration::from_secs(ahead)).ok()?;
            let date = time.date();
            if time.year() > last {
                return None;
            } else if !has(months, time.month()) {
                time = date.last_of_month().tomorrow().ok()?.to_zoned(time.time_zone().clone()).ok()?;
                ahead = 0;
            } else if !self.times.is_on(date) {
                time = date.tomorrow().ok()?.to_zoned(time.time_zone().clone()).ok()?;
                ahead = 0;
            } else if !has(hours, time.hour()) {
                ahead = 3600 - 60 * i64::from(time.minute());
            } else if !has(minutes, time.minute()) {
                ahead = 60;
            } else {
                return Some(time.timestamp());
            }
        }
    }
}

impl Times {
    fn parse(text: &str) -> Result<Self, ParseError> {
        if text.starts_with('@') {
            return Self::descriptor(text);
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        if fields.len() != FIELDS.len() {
            return refuse(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
        }
        let mut bits = [0; 5];
        let mut any = [false; 5];
        for (index, (text, field)) in fields.iter().zip(&FIELDS).enumerate() {
            for part in text.split(',').filter(|part| !part.is_empty()) {
                let (range, star) = range(part, field)?;
                bits[index] |= range;
                any[index] |= star;
            }
        }
        let [minutes, hours, days, months, weekdays] = bits;
        Ok(Self::Fields { minutes, hours, days, months, weekdays, any_day: any[2], any_weekday: any[4] })
    }

    fn descriptor(text: &str) -> Result<Self, ParseError> {
        if let Some((_, fields)) = DESCRIPTORS.iter().find(|(names, _)| names.contains(&text)) {
            return Self::parse(fields);
        }
        if let Some(every) = text.strip_prefix("@every ") {
            return match every.parse::<jiff::SignedDuration>() {
                Ok(duration) => Ok(Self::Every(duration.as_secs().max(1))),
                Err(_) => refuse(format!(
                    "failed to parse duration {text}: time: invalid duration {}",
                    super::field::go_quote(every)
                )),
            };
        }
        refuse(format!("unrecognized descriptor: {text}"))
    }

    /// Days and weekdays that are both named are alternatives.
    fn is_on(&self, date: Date) -> bool {
        let Self::Fields { days, weekdays, any_day, any_weekday, .. } = self else { return true };
        let day = days & (1 << date.day()) != 0;
        let weekday = weekdays & (1 << date.weekday().to_sunday_zero_offset()) != 0;
        if *any_day || *any_weekday { day && weekday } else { day || weekday }
    }
}

fn refuse<T>(text: String) -> Result<T, ParseError> {
    Err(ParseError(text))
}

/// The bits of `*`, `5`, `1-5`, `*/15`, `mon-fri/2`, and whether it is a plain star.
fn range(text: &str, field: &Field) -> Result<(u64, bool), ParseError> {
    let parts: Vec<&str> = text.split('/').collect();
    let ends: Vec<&str> = parts[0].split('-').collect();
    let mut star = false;
    let (first, mut last) = if matches!(ends[0], "*" | "?") {
        star = true;
        (field.first, field.last)
    } else {
        let first = number(ends[0], field)?;
        match ends.as_slice() {
            [_] => (first, first),
            [_, last] => (first, number(last, field)?),
            _ => return refuse(format!("too many hyphens: {text}")),
        }
    };
    let step = match parts.as_slice() {
        [_] => 1,
        [_, step] => {
            // `5/15`: from 5 to the end.
            if ends.len() == 1 && !star {
                last = field.last;
            }
            let step = integer(step)?;
            star &= step <= 1;
            step
        }
        _ => return refuse(format!("too many slashes: {text}")),
    };
    if first < field.first {
        return refuse(format!("beginning of range ({first}) below minimum ({}): {text}", field.first));
    }
    if last > field.last {
        return refuse(format!("end of range ({last}) above maximum ({}): {text}", field.last));
    }
    if first > last {
        return refuse(format!("beginning of range ({first}) beyond end of range ({last}): {text}"));
    }
    if step == 0 {
        return refuse(format!("step of range should be a positive number: {text}"));
    }
    Ok(((first..=last).step_by(step as usize).fold(0, |bits, number| bits | 1 << number), star))
}

fn number(text: &str, field: &Field) -> Result<u32, ParseError> {
    let lower = text.to_lowercase();
    match field.names.iter().position(|name| *name == lower) {
        Some(index) => Ok(field.first + index as u32),
        None => integer(text),
    }
}

fn integer(text: &str) -> Result<u32, ParseError> {
    match text.parse::<i64>() {
        Ok(number) if number < 0 => refuse(format!("negative number ({number}) not allowed: {text}")),
        Ok(number) => u32::try_from(number).or_else(|_| refuse(format!("number too large: {text}"))),
        Err(_) => {
            let quoted = super::field::go_quote(text);
            refuse(format!("failed to parse int from {text}: strconv.Atoi: parsing {quoted}: invalid syntax"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_become_bits() {
        let parse = |text: &str| Schedule::parse(text).expect("a schedule");
        let times = parse("*/15 9-17/4 * * mon-fri").times;
        let Times::Fields { minutes, hours, weekdays, any_day, any_weekday, .. } = times else { panic!("fields") };
        assert_eq!(minutes, 1 | 1 << 15 | 1 << 30 | 1 << 45);
        assert_eq!(hours, 1 << 9 | 1 << 13 | 1 << 17);
        assert_eq!(weekdays, 0b0011_1110);
        assert!(any_day && !any_weekday);
        assert_eq!(parse("@daily"), parse("0 0 * * *"));
        assert_eq!(parse("@every 90m").times, Times::Every(5400));
        assert_eq!(parse("TZ=UTC 0 0 * * *").times, parse("@daily").times);
        assert_eq!(parse("TZ=UTC 0 0 * * *").zone, Some(TimeZone::UTC));
    }

    #[test]
    fn the_next_time() {
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a zone");
        for (schedule, after, next) in [
            ("0 */12 * * *", "2026-11-21T12:22:49.5Z", "2026-11-22T00:00:00Z"),
            ("0 */12 * * *", "2026-11-22T00:00:00Z", "2026-11-22T12:00:00Z"),
            ("0 */12 * * *", "2026-11-21T23:59:59.999Z", "2026-11-22T00:00:00Z"),
            ("*/15 * * * *", "2026-12-31T23:46:00Z", "2027-01-01T00:00:00Z"),
            ("30 4 29 2 *", "2026-11-21T00:00:00Z", "2028-02-29T04:30:00Z"),
            ("0 0 31 * *", "2026-11-01T00:00:00Z", "2026-12-31T00:00:00Z"),
            // The day or the weekday, and both where one is a star.
            ("0 0 13 * fri", "2026-11-21T00:00:00Z", "2026-11-27T00:00:00Z"),
            ("0 0 * * fri", "2026-11-21T00:00:00Z", "2026-11-27T00:00:00Z"),
            ("0 0 1 * *", "2026-11-21T00:00:00Z", "2026-12-01T00:00:00Z"),
            ("@every 90m", "2026-11-21T00:00:10.7Z", "2026-11-21T01:30:10Z"),
        ] {
            let found =
                Schedule::parse(schedule).expect("a schedule").next(after.parse().expect("a time"), &TimeZone::UTC);
            assert_eq!(found, Some(next.parse().expect("a time")), "{schedule} after {after}");
        }
        let local = |schedule: &str, after: &str| {
            let found = Schedule::parse(schedule).expect("a schedule").next(after.parse().expect("a time"), &berlin);
            found.map(|time| time.to_string())
        };
        assert_eq!(local("30 6 * * *", "2026-11-21T06:00:00Z").as_deref(), Some("2026-11-22T05:30:00Z"));
        assert_eq!(local("TZ=UTC 30 6 * * *", "2026-11-21T06:00:00Z").as_deref(), Some("2026-11-21T06:30:00Z"));
        // 2:30 is not on the 29th of March 2026, and twice on the 25th of October.
        assert_eq!(local("30 2 * * *", "2026-03-28T12:00:00Z").as_deref(), Some("2026-03-30T00:30:00Z"));
        assert_eq!(local("30 2 * * *", "2026-10-24T12:00:00Z").as_deref(), Some("2026-10-25T00:30:00Z"));
        assert_eq!(local("30 2 * * *", "2026-10-25T00:30:00Z").as_deref(), Some("2026-10-25T01:30:00Z"));
        assert_eq!(local("0 0 30 2 *", "2026-03-28T12:00:00Z"), None, "there is no such day");
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, error) in [
            ("", "empty spec string"),
            ("changed", "expected exactly 5 fields, found 1: [changed]"),
            (" ", "expected exactly 5 fields, found 0: []"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("x * * * *", "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("@never", "unrecognized descriptor: @never"),
        ] {
            assert_eq!(Schedule::parse(text).unwrap_err().to_string(), error, "{text}");
        }
    }
}
