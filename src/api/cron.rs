//! Schedules in cron's notation: five fields, or a name such as `@daily`.
//!
//! Taken and refused as `robfig/cron` takes and refuses them, whose texts these are.

/// Which minutes, hours, days, months and weekdays are meant: a bit for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
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
    Every(u64),
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
        let mut rest = text;
        if text.starts_with("TZ=") || text.starts_with("CRON_TZ=") {
            let Some((zone, fields)) = text.split_once(' ') else {
                return refuse(format!("provided bad location {text}: no schedule follows"));
            };
            let name = zone.split_once('=').map(|(_, name)| name).unwrap_or_default();
            if jiff::tz::TimeZone::get(name).is_err() {
                return refuse(format!("provided bad location {name}: unknown time zone {name}"));
            }
            rest = fields.trim();
        }
        if rest.starts_with('@') {
            return Self::descriptor(rest);
        }
        let fields: Vec<&str> = rest.split_whitespace().collect();
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
                Ok(duration) => Ok(Self::Every(u64::try_from(duration.as_secs()).unwrap_or_default().max(1))),
                Err(_) => refuse(format!(
                    "failed to parse duration {text}: time: invalid duration {}",
                    super::field::go_quote(every)
                )),
            };
        }
        refuse(format!("unrecognized descriptor: {text}"))
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
        let Schedule::Fields { minutes, hours, weekdays, any_day, any_weekday, .. } = parse("*/15 9-17/4 * * mon-fri")
        else {
            panic!("fields")
        };
        assert_eq!(minutes, 1 | 1 << 15 | 1 << 30 | 1 << 45);
        assert_eq!(hours, 1 << 9 | 1 << 13 | 1 << 17);
        assert_eq!(weekdays, 0b0011_1110);
        assert!(any_day && !any_weekday);
        assert_eq!(parse("@daily"), parse("0 0 * * *"));
        assert_eq!(parse("@every 90m"), Schedule::Every(5400));
        assert_eq!(parse("TZ=UTC 0 0 * * *"), parse("@daily"));
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
