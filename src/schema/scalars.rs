//! Values with a text form of their own: times, durations, base64, quantities, with Go's texts.

use crate::api::field::go_quote;
use base64::Engine;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};

/// Go's `StdEncoding`: padding is required, unused bits are not looked at.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&ALPHABET, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

pub fn encode_base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// Line breaks are ignored. The error is Go's.
pub fn decode_base64(text: &str) -> Result<Vec<u8>, String> {
    if !text.bytes().any(|byte| byte == b'\n' || byte == b'\r')
        && let Ok(bytes) = BASE64.decode(text)
    {
        return Ok(bytes);
    }
    let clean: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b'\n' | b'\r')).collect();
    BASE64.decode(&clean).map_err(|_| format!("illegal base64 data at input byte {}", corrupt_at(text.as_bytes())))
}

/// Where Go's decoder stops.
fn corrupt_at(text: &[u8]) -> usize {
    let digit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    let mut at = 0;
    loop {
        // One quantum of four digits.
        let mut j = 0;
        while j < 4 {
            let Some(&byte) = text.get(at) else {
                // The last quantum is short.
                return if j == 0 { at } else { at - j };
            };
            at += 1;
            if matches!(byte, b'\n' | b'\r') {
                continue;
            }
            if digit(byte) {
                j += 1;
                continue;
            }
            if byte != b'=' || j < 2 {
                return at - 1;
            }
            let skip = |mut at: usize| {
                while matches!(text.get(at), Some(b'\n' | b'\r')) {
                    at += 1;
                }
                at
            };
            at = skip(at);
            if j == 2 {
                match text.get(at) {
                    None => return text.len(),
                    Some(b'=') => at = skip(at + 1),
                    Some(_) => return at - 1,
                }
            }
            // Text after the padding.
            return at;
        }
    }
}

/// Seconds: `2024-05-01T10:00:00Z`, from any offset; a fraction is dropped.
pub fn time(text: &str) -> Result<String, String> {
    let time = parse_time(text, "2006-01-02T15:04:05Z07:00")?;
    Ok(format_time(time))
}

/// Microseconds: `2024-05-01T10:00:00.000000Z`.
pub fn micro_time(text: &str) -> Result<String, String> {
    let time = parse_time(text, "2006-01-02T15:04:05.000000Z07:00")?;
    Ok(format_micro_time(time))
}

pub fn format_time(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

pub fn format_micro_time(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// Go's `time.Parse`, for the two layouts of the API.
fn parse_time(text: &str, layout: &'static str) -> Result<jiff::Timestamp, String> {
    let error = |element: &str, rest: &str, message: &str| {
        if message.is_empty() {
            format!(
                "parsing time {} as {}: cannot parse {} as {}",
                go_quote(text),
                go_quote(layout),
                go_quote(rest),
                go_quote(element)
            )
        } else {
            format!("parsing time {}{message}", go_quote(text))
        }
    };
    let mut rest = text;
    let mut parts = [0_i64; 6];
    const ELEMENTS: [(&str, usize); 6] = [("2006", 4), ("01", 2), ("02", 2), ("15", 2), ("04", 2), ("05", 2)];
    const SEPARATORS: [&str; 6] = ["", "-", "-", "T", ":", ":"];
    let mut out_of_range = "";
    for (at, ((element, width), separator)) in ELEMENTS.into_iter().zip(SEPARATORS).enumerate() {
        rest = rest.strip_prefix(separator).ok_or_else(|| error(separator, rest, ""))?;
        // Go takes an hour of one digit.
        let width = if element == "15" && !rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit) { 1 } else { width };
        let digits = rest.get(..width).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        let Some(digits) = digits else { return Err(error(element, rest, "")) };
        parts[at] = digits.parse().map_err(|_| error(element, rest, ""))?;
        let range = match element {
            "01" => (1..=12, "month"),
            "02" => (1..=31, "day"),
            "15" => (0..=23, "hour"),
            "04" => (0..=59, "minute"),
            "05" => (0..=59, "second"),
            _ => (0..=9999, "year"),
        };
        if !range.0.contains(&parts[at]) && out_of_range.is_empty() {
            out_of_range = range.1;
            if out_of_range != "day" {
                return Err(error("", "", &format!(": {out_of_range} out of range")));
            }
        }
        rest = &rest[width..];
    }
    let mut nanoseconds = 0_i64;
    let fraction = rest.strip_prefix(['.', ',']).map(|rest| {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        rest.split_at(digits)
    });
    let micro = layout.contains(".000000");
    match fraction {
        // The layout has exactly six digits.
        Some((digits, _)) if micro && digits.len() < 6 => return Err(error(".000000", rest, "")),
        Some((digits, tail)) if !digits.is_empty() => {
            let used = if micro { 6 } else { digits.len().min(9) };
            let value: i64 = digits[..used].parse().map_err(|_| error(".000000", rest, ""))?;
            nanoseconds = value * 10_i64.pow(9 - used as u32);
            rest = if micro { &rest[7..] } else { tail };
        }
        None if micro => return Err(error(".000000", rest, "")),
        _ => {}
    }
    let offset = if let Some(tail) = rest.strip_prefix('Z') {
        rest = tail;
        0
    } else {
        let bytes = rest.as_bytes();
        let shape = bytes.len() >= 6
            && matches!(bytes[0], b'+' | b'-')
            && bytes[3] == b':'
            && [1, 2, 4, 5].iter().all(|&at| bytes[at].is_ascii_digit());
        if !shape {
            return Err(error("Z07:00", rest, ""));
        }
        let two = |at: usize| i64::from(bytes[at] - b'0') * 10 + i64::from(bytes[at + 1] - b'0');
        let (hours, minutes) = (two(1), two(4));
        if hours > 24 {
            return Err(error("", "", ": time zone offset hour out of range"));
        }
        if minutes > 60 {
            return Err(error("", "", ": time zone offset minute out of range"));
        }
        let seconds = hours * 3600 + minutes * 60;
        let negative = bytes[0] == b'-';
        rest = &rest[6..];
        if negative { -seconds } else { seconds }
    };
    if !rest.is_empty() {
        return Err(error("", "", &format!(": extra text: {}", go_quote(rest))));
    }
    let [year, month, day, hour, minute, second] = parts;
    let part = |value: i64| i8::try_from(value).unwrap_or(i8::MAX);
    let date =
        jiff::civil::Date::new(year as i16, part(month), part(day)).map_err(|_| error("", "", ": day out of range"))?;
    let local = date.at(part(hour), part(minute), part(second), nanoseconds as i32);
    let utc = local
        .to_zoned(jiff::tz::TimeZone::UTC)
        .and_then(|zoned| zoned.timestamp().checked_sub(jiff::SignedDuration::from_secs(offset)))
        .map_err(|_| error("", "", ": year out of range"))?;
    Ok(utc)
}

/// Go's `time.ParseDuration` and back: `90m` to `1h30m0s`.
pub fn duration(text: &str) -> Result<String, String> {
    parse_duration(text).map(format_duration)
}

/// Nanoseconds.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {}", go_quote(text));
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0_i128;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if number.is_empty() || (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(invalid());
        }
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let scale: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "" => return Err(format!("time: missing unit in duration {}", go_quote(text))),
            unit => {
                return Err(format!("time: unknown unit {} in duration {}", go_quote(unit), go_quote(text)));
            }
        };
        let parse = |digits: &str| {
            if digits.is_empty() { Ok(0) } else { digits.parse::<i64>().map(i128::from).map_err(|_| invalid()) }
        };
        total += parse(whole)? * scale;
        let fraction = &fraction[..fraction.len().min(18)];
        total += parse(fraction)? * scale / 10_i128.pow(fraction.len() as u32);
        rest = tail;
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| invalid())
}

pub fn format_duration(nanoseconds: i64) -> String {
    if nanoseconds == 0 {
        return "0s".to_owned();
    }
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let total = nanoseconds.unsigned_abs();
    let decimal = |unit: u64, name: &str| {
        let digits = unit.ilog10() as usize;
        let fraction = format!("{:0digits$}", total % unit);
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() || unit == 1 { String::new() } else { format!(".{fraction}") };
        (total / unit, format!("{point}{name}"))
    };
    if total < 1_000_000_000 {
        let (value, tail) = match total {
            ..1_000 => decimal(1, "ns"),
            ..1_000_000 => decimal(1_000, "µs"),
            _ => decimal(1_000_000, "ms"),
        };
        return format!("{sign}{value}{tail}");
    }
    let (seconds, tail) = decimal(1_000_000_000, "s");
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}{tail}"),
        (0, _) => format!("{sign}{minutes}m{seconds}{tail}"),
        _ => format!("{sign}{hours}h{minutes}m{seconds}{tail}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(convert: fn(&str) -> Result<String, String>, texts: &[&str], expect: Expect) {
        let lines: Vec<String> =
            texts.iter().map(|text| format!("{text} => {}\n", convert(text).unwrap_or_else(|error| error))).collect();
        expect.assert_eq(&lines.concat());
    }

    #[test]
    fn times() {
        check(
            time,
            &[
                "2024-05-01T10:00:00Z",
                "2024-05-01T10:00:00.9+02:00",
                "not a time",
                "2024-13-01T00:00:00Z",
                "2024-02-30T00:00:00Z",
                "2024-05-01",
                "2024-05-01T10:00:00",
                "2024-05-01T10:00:00Zx",
                "",
                "0001-01-01T00:00:00Z",
            ],
            expect![[r#"
                2024-05-01T10:00:00Z => 2024-05-01T10:00:00Z
                2024-05-01T10:00:00.9+02:00 => 2024-05-01T08:00:00Z
                not a time => parsing time "not a time" as "2006-01-02T15:04:05Z07:00": cannot parse "not a time" as "2006"
                2024-13-01T00:00:00Z => parsing time "2024-13-01T00:00:00Z": month out of range
                2024-02-30T00:00:00Z => parsing time "2024-02-30T00:00:00Z": day out of range
                2024-05-01 => parsing time "2024-05-01" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "T"
                2024-05-01T10:00:00 => parsing time "2024-05-01T10:00:00" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "Z07:00"
                2024-05-01T10:00:00Zx => parsing time "2024-05-01T10:00:00Zx": extra text: "x"
                 => parsing time "" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "2006"
                0001-01-01T00:00:00Z => 0001-01-01T00:00:00Z
            "#]],
        );
        check(
            micro_time,
            &["2024-05-01T10:00:00.123456Z", "2024-05-01T10:00:00Z", "2024-05-01T10:00:00.1Z"],
            expect![[r#"
                2024-05-01T10:00:00.123456Z => 2024-05-01T10:00:00.123456Z
                2024-05-01T10:00:00Z => parsing time "2024-05-01T10:00:00Z" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "Z" as ".000000"
                2024-05-01T10:00:00.1Z => parsing time "2024-05-01T10:00:00.1Z" as "2006-01-02T15:04:05.000000Z07:00": cannot parse ".1Z" as ".000000"
            "#]],
        );
    }

    #[test]
    fn durations() {
        check(
            duration,
            &["90m", "1.5h", "100ms", "1h", "0", "-2s", "1us", "3", "x", "1d"],
            expect![[r#"
                90m => 1h30m0s
                1.5h => 1h30m0s
                100ms => 100ms
                1h => 1h0m0s
                0 => 0s
                -2s => -2s
                1us => 1µs
                3 => time: missing unit in duration "3"
                x => time: invalid duration "x"
                1d => time: unknown unit "d" in duration "1d"
            "#]],
        );
    }

    #[test]
    fn base64_errors_are_gos() {
        let again = |text: &str| decode_base64(text).map(|bytes| encode_base64(&bytes));
        check(
            again,
            &["YQ==", "YWJj\nYWJj", "not base64!", "YQ", "YQ=", "YR==", "YQ==YQ==", "a*bc", ""],
            expect![[r#"
                YQ== => YQ==
                YWJj
                YWJj => YWJjYWJj
                not base64! => illegal base64 data at input byte 3
                YQ => illegal base64 data at input byte 0
                YQ= => illegal base64 data at input byte 3
                YR== => YQ==
                YQ==YQ== => illegal base64 data at input byte 4
                a*bc => illegal base64 data at input byte 1
                 => 
            "#]],
        );
    }
}
