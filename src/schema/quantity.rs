//! The canonical text of a quantity: `1000m` to `1`, `1024Ki` to `1Mi`, as `resource.Quantity`
//! prints what it parsed.

const WRONG: &str = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
const SUFFIX: &str = "unable to parse quantity's suffix";

/// Nothing is larger, in whole units.
const MAX: i128 = i64::MAX as i128;
const NANO: i128 = 1_000_000_000;

#[derive(Clone, Copy, PartialEq)]
enum Format {
    Decimal,
    Binary,
    Exponent,
}

/// The error is Kubernetes's.
pub(super) fn canonical(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err(WRONG.to_owned());
    }
    // Most are whole numbers with a suffix that already stand as they should.
    let (negative, whole, fraction, suffix) = split(text)?;
    let (format, base, exponent) = scale(suffix)?;
    let nanos = nanos(whole, fraction, base, exponent);
    let format = if format == Format::Binary && nanos < NANO { Format::Decimal } else { format };
    Ok(print(if negative { -nanos } else { nanos }, format))
}

/// Sign, digits before and after the point, suffix.
fn split(text: &str) -> Result<(bool, &str, &str, &str), String> {
    let (negative, rest) = match text.as_bytes()[0] {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (whole, rest) = rest.split_at(digits(rest));
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits(rest)),
        None => ("", rest),
    };
    let letters = rest.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let tail = letters.strip_prefix(['-', '+']).unwrap_or(letters);
    if tail.bytes().all(|byte| byte.is_ascii_digit()) {
        Ok((negative, whole, fraction, rest))
    } else {
        Err(WRONG.to_owned())
    }
}

/// The format of a suffix, and the power of which base it stands for.
fn scale(suffix: &str) -> Result<(Format, i128, i32), String> {
    let decimal = |exponent| Ok((Format::Decimal, 10, exponent));
    let binary = |exponent| Ok((Format::Binary, 2, exponent));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E']).and_then(|exponent| exponent.parse::<i32>().ok());
            exponent.map(|exponent| (Format::Exponent, 10, exponent)).ok_or_else(|| SUFFIX.to_owned())
        }
    }
}

/// In billionths, rounded away from zero, at most [`MAX`].
fn nanos(whole: &str, fraction: &str, base: i128, exponent: i32) -> i128 {
    let digits: String = [whole, fraction].concat();
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return 0;
    }
    let max = MAX * NANO;
    // value = digits * 10^point * base^exponent
    let point = -(fraction.len() as i64) + 9 + if base == 10 { i64::from(exponent) } else { 0 };
    if digits.len() as i64 + point > 29 {
        return max;
    }
    let binary = if base == 2 { 1_i128 << exponent } else { 1 };
    // 30 digits times 2^60 may overflow: the digits that count are kept, one more tells of the rest.
    let kept = &digits[..digits.len().min(19)];
    let lost = digits[kept.len()..].bytes().any(|byte| byte != b'0');
    let point = point + (digits.len() - kept.len()) as i64;
    let Ok(value) = kept.parse::<i128>() else { return max };
    let value = match value.checked_mul(binary) {
        Some(value) => value,
        None => return max,
    };
    let rounded = if point >= 0 {
        10_i128.checked_pow(point as u32).and_then(|scale| value.checked_mul(scale)).map(|value| (value, false))
    } else {
        match 10_i128.checked_pow((-point) as u32) {
            Some(scale) => Some((value / scale, value % scale != 0)),
            None => Some((0, true)),
        }
    };
    match rounded {
        Some((value, rest)) => (value + i128::from(rest || lost)).min(max),
        None => max,
    }
}

fn print(nanos: i128, format: Format) -> String {
    if nanos == 0 {
        return "0".to_owned();
    }
    if format == Format::Binary {
        let negative = nanos < 0;
        let mut units = (nanos.abs() + NANO - 1) / NANO;
        if units >= 1024 {
            const SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
            let mut at = 0;
            while units % 1024 == 0 && at < SUFFIXES.len() - 1 {
                units /= 1024;
                at += 1;
            }
            return format!("{}{units}{}", if negative { "-" } else { "" }, SUFFIXES[at]);
        }
    }
    let (mut value, mut exponent) = (nanos, -9);
    while value % 1000 == 0 && exponent < 18 {
        value /= 1000;
        exponent += 3;
    }
    if format == Format::Exponent {
        return if exponent == 0 { value.to_string() } else { format!("{value}e{exponent}") };
    }
    const SUFFIXES: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
    format!("{value}{}", SUFFIXES[(exponent / 3 + 3) as usize])
}

#[cfg(test)]
mod tests {
    use super::canonical;
    use expect_test::expect;

    #[test]
    fn texts_are_canonical() {
        let lines: String = [
            "0",
            "1",
            "1000m",
            "1.5",
            "0.1",
            "100m",
            "1000",
            "1500",
            "1024",
            "1024Ki",
            "1.5Gi",
            "0.5Ki",
            "1.1Ki",
            "1e3",
            "12e6",
            "1E",
            "1E3",
            "-1",
            "+2",
            "1.",
            ".5",
            "m",
            "0.0000000001",
            "100Ei",
            "99999999999999999999",
            "1x",
            "1mm",
            "",
            "abc",
            "64Mi",
            "0Mi",
            "0.5Mi",
            "1Mi5",
            "12345678901234567890123.5",
        ]
        .iter()
        .map(|text| format!("{text} => {}\n", canonical(text).unwrap_or_else(|error| error)))
        .collect();
        expect![[r#"
            0 => 0
            1 => 1
            1000m => 1
            1.5 => 1500m
            0.1 => 100m
            100m => 100m
            1000 => 1k
            1500 => 1500
            1024 => 1024
            1024Ki => 1Mi
            1.5Gi => 1536Mi
            0.5Ki => 512
            1.1Ki => 1127
            1e3 => 1e3
            12e6 => 12e6
            1E => 1E
            1E3 => 1e3
            -1 => -1
            +2 => 2
            1. => 1
            .5 => 500m
            m => 0
            0.0000000001 => 1n
            100Ei => 9223372036854775807
            99999999999999999999 => 9223372036854775807
            1x => quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
            1mm => unable to parse quantity's suffix
             => quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
            abc => quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
            64Mi => 64Mi
            0Mi => 0
            0.5Mi => 512Ki
            1Mi5 => unable to parse quantity's suffix
            12345678901234567890123.5 => 9223372036854775807
        "#]]
        .assert_eq(&lines);
    }
}
