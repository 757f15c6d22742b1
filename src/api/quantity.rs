//! `resource.Quantity`: a fixed-point number with a suffix, `100m`, `1.5Gi`, `2e3`.
//!
//! Parsed, compared and printed as `k8s.io/apimachinery/pkg/api/resource` does: the canonical form
//! keeps no more than needed (`1500m`, not `1.5`), rounds up to nano, and remembers which of the
//! three notations it was written in. Numbers hold 38 digits; longer ones are refused.

use serde_json::Value;
use std::cmp::Ordering;
use std::fmt;

/// How a quantity was written, and so how it prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `12e6`
    DecimalExponent,
    /// `12Mi`
    BinarySi,
    /// `12M`
    DecimalSi,
}

/// Why a text is no quantity; prints as Kubernetes says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

pub const NANO: i32 = -9;
pub const MILLI: i32 = -3;

const DECIMAL_SUFFIXES: &[(&str, i32)] =
    &[("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY_SUFFIXES: &[(&str, u32)] = &[("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

/// `mantissa * 10^exponent`.
#[derive(Clone, Debug)]
pub struct Quantity {
    mantissa: i128,
    exponent: i32,
    format: Format,
    /// The text it came from, where that is taken for canonical.
    text: Option<Box<str>>,
}

/// Of ten; more than anything is measured in.
const MAX_POWER: u32 = 10_000;

impl Quantity {
    pub const ZERO: Self = Self { mantissa: 0, exponent: 0, format: Format::DecimalSi, text: None };

    pub fn new(value: i64, format: Format) -> Self {
        Self { mantissa: i128::from(value), exponent: 0, format, text: None }
    }

    pub fn from_milli(value: i64) -> Self {
        Self { mantissa: i128::from(value), exponent: MILLI, format: Format::DecimalSi, text: None }
    }

    /// A quantity field of an object: a string, or a number as clients may send it. What is absent
    /// or malformed is zero: malformed ones were refused when the object was decoded.
    pub fn of(value: &Value) -> Self {
        match value {
            Value::String(text) => Self::parse(text).unwrap_or(Self::ZERO),
            Value::Number(number) => Self::parse(&number.to_string()).unwrap_or(Self::ZERO),
            _ => Self::ZERO,
        }
    }

    pub fn parse(text: &str) -> Result<Self, ParseError> {
        Self::parse_plain(text).map_or_else(|| Self::parse_any(text), Ok)
    }

    /// Nearly all are like this: a few digits that are canonical as they are, and one of the suffixes.
    fn parse_plain(text: &str) -> Option<Self> {
        let (digits, suffix) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
        if digits.starts_with('0') || digits.len() > 9 {
            return None;
        }
        let number: u32 = digits.parse().ok()?;
        let (mantissa, exponent, format) = match interpret(suffix).ok()? {
            (10, power, Format::DecimalSi) if !digits.ends_with("000") => {
                (i128::from(number), power, Format::DecimalSi)
            }
            (2, power @ ..=30, format) if number & 7 != 0 => (i128::from(number) << power, 0, format),
            _ => return None,
        };
        Some(Self { mantissa, exponent, format, text: Some(text.into()) })
    }

    fn parse_any(text: &str) -> Result<Self, ParseError> {
        if text.is_empty() {
            return Err(ParseError::Format);
        }
        let parts = split(text)?;
        let (base, power, format) = interpret(parts.suffix)?;
        if power.unsigned_abs() > 2 * MAX_POWER {
            return Err(ParseError::Suffix);
        }
        let negative = text.starts_with('-');
        let digits: String = [parts.whole, parts.fraction].concat();
        // Printed, it may have two zeros more: see `canonical_decimal`.
        if digits.len() > 38 || digits.trim_end_matches('0').len() > 36 {
            return Err(ParseError::Numeric);
        }
        let mut mantissa: i128 = if digits.is_empty() { 0 } else { digits.parse().map_err(|_| ParseError::Numeric)? };
        let mut exponent = -i32::try_from(parts.fraction.len()).map_err(|_| ParseError::Numeric)?;
        let mut format = format;
        // A point without digits behind it is never printed.
        let short = digits.len() <= 18 && (!parts.fraction.is_empty() || !text.contains('.'));
        let canonical = match format {
            Format::BinarySi => short && parts.fraction.is_empty() && power % 10 == 0 && mantissa & 7 != 0,
            Format::DecimalSi | Format::DecimalExponent => {
                let scale = power + exponent;
                short && scale >= NANO && scale % 3 == 0 && !digits.ends_with("000") && !digits.starts_with('0')
            }
        };
        if base == 10 {
            exponent = exponent.checked_add(power).ok_or(ParseError::Suffix)?;
        } else {
            mantissa = mantissa.checked_mul(1i128 << power).ok_or(ParseError::Numeric)?;
        }
        // Zero of any size is zero.
        let exponent = if mantissa == 0 { 0 } else { exponent };
        let mut quantity = Self { mantissa, exponent, format, text: None };
        quantity.round_up(NANO);
        // As it is printed.
        if mantissa != 0 && quantity.canonical_decimal().1 > MAX_POWER as i32 {
            return Err(ParseError::Suffix);
        }
        if format == Format::BinarySi {
            let limit = Self::new(i64::MAX, format);
            if quantity > limit {
                quantity = limit;
            }
            if quantity > Self::ZERO && quantity < Self::new(1, format) {
                format = Format::DecimalSi;
                quantity.format = format;
            }
        }
        if negative {
            quantity.mantissa = -quantity.mantissa;
        }
        if canonical || text == "0" {
            quantity.text = Some(text.into());
        }
        Ok(quantity)
    }

    /// As it is printed.
    pub fn into_text(mut self) -> String {
        self.text.take().map_or_else(|| self.to_string(), String::from)
    }

    pub fn is_zero(&self) -> bool {
        self.mantissa == 0
    }

    pub fn is_negative(&self) -> bool {
        self.mantissa < 0
    }

    /// Rounds away from zero to a multiple of `10^scale`; false where that changed the value.
    pub fn round_up(&mut self, scale: i32) -> bool {
        if self.exponent >= scale {
            return true;
        }
        self.text = None;
        let (mantissa, exact) = divide_up(self.mantissa, scale.saturating_sub(self.exponent));
        self.mantissa = mantissa;
        self.exponent = scale;
        exact
    }

    /// The value in units, rounded up.
    pub fn value(&self) -> i64 {
        self.scaled(0)
    }

    /// The value in thousandths, rounded up.
    pub fn milli_value(&self) -> i64 {
        self.scaled(MILLI)
    }

    /// The value in multiples of `10^scale`, rounded up, within an i64.
    pub fn scaled(&self, scale: i32) -> i64 {
        let difference = self.exponent.saturating_sub(scale);
        let value = if difference < 0 {
            divide_up(self.mantissa, -difference).0
        } else {
            power_of_ten(difference)
                .and_then(|factor| self.mantissa.checked_mul(factor))
                .unwrap_or_else(|| self.bound())
        };
        i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
    }

    pub fn add(&mut self, other: &Self) {
        self.text = None;
        if self.is_zero() {
            self.format = other.format;
        }
        let exponent = self.exponent.min(other.exponent);
        self.mantissa = self.at(exponent).saturating_add(other.at(exponent));
        self.exponent = exponent;
    }

    pub fn sub(&mut self, other: &Self) {
        self.add(&Self { mantissa: other.mantissa.saturating_neg(), text: None, ..other.clone() });
    }

    /// The value where it is a whole number that fits.
    pub fn whole(&self) -> Option<i64> {
        let mut exact = self.clone();
        let same = exact.round_up(0);
        same.then(|| self.value()).filter(|value| *value != i64::MAX && *value != i64::MIN)
    }

    /// The value as near as a double comes to it.
    pub fn approximate(&self) -> f64 {
        self.mantissa as f64 * 10_f64.powi(self.exponent)
    }

    pub fn format(&self) -> Format {
        self.format
    }

    fn bound(&self) -> i128 {
        if self.mantissa < 0 { i128::MIN } else { i128::MAX }
    }

    /// The mantissa for a smaller exponent, within an i128.
    fn at(&self, exponent: i32) -> i128 {
        if self.mantissa == 0 {
            return 0;
        }
        power_of_ten(self.exponent.saturating_sub(exponent))
            .and_then(|factor| self.mantissa.checked_mul(factor))
            .unwrap_or_else(|| self.bound())
    }

    /// The mantissa without zeros at its end, the exponent a multiple of three.
    fn canonical_decimal(&self) -> (i128, i32) {
        let (mut mantissa, mut exponent) = (self.mantissa, self.exponent);
        while mantissa % 10 == 0 {
            mantissa /= 10;
            exponent += 1;
        }
        let (down, ten) = (exponent.rem_euclid(3), |times: i32| 10_i128.pow(times.unsigned_abs()));
        match mantissa.checked_mul(ten(down)) {
            Some(mantissa) => (mantissa, exponent - down),
            // As much as fits.
            None => (mantissa / ten(3 - down), exponent + 3 - down),
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(text) = &self.text {
            return f.write_str(text);
        }
        if self.is_zero() {
            return f.write_str("0");
        }
        if self.format == Format::BinarySi {
            let mut whole = self.clone();
            let exact = whole.round_up(0);
            let mut value = whole.at(0);
            if exact && !(-1024 < value && value < 1024) {
                let mut steps = 0;
                while value % 1024 == 0 && steps < BINARY_SUFFIXES.len() {
                    value /= 1024;
                    steps += 1;
                }
                let suffix = if steps == 0 { "" } else { BINARY_SUFFIXES[steps - 1].0 };
                return write!(f, "{value}{suffix}");
            }
        }
        let (mantissa, exponent) = self.canonical_decimal();
        match DECIMAL_SUFFIXES.iter().find(|(_, power)| *power == exponent) {
            Some((suffix, _)) if self.format != Format::DecimalExponent => write!(f, "{mantissa}{suffix}"),
            _ if exponent == 0 => write!(f, "{mantissa}"),
            _ => write!(f, "{mantissa}e{exponent}"),
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        let exponent = self.exponent.min(other.exponent);
        self.at(exponent).cmp(&other.at(exponent))
    }
}

impl std::str::FromStr for Quantity {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

struct Parts<'a> {
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

fn split(text: &str) -> Result<Parts<'_>, ParseError> {
    let take =
        |text: &str, wanted: fn(&char) -> bool| text.chars().take_while(wanted).map(char::len_utf8).sum::<usize>();
    let digit: fn(&char) -> bool = |c| c.is_ascii_digit();
    let rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    let rest = rest.trim_start_matches('0');
    let (whole, rest) = rest.split_at(take(rest, digit));
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(take(rest, digit)),
        None => ("", rest),
    };
    let letters = take(rest, |c| "eEinumkKMGTP".contains(*c));
    let tail = &rest[letters..];
    let tail = tail.strip_prefix(['+', '-']).unwrap_or(tail);
    if take(tail, digit) != tail.len() {
        return Err(ParseError::Format);
    }
    Ok(Parts { whole, fraction, suffix: rest })
}

/// The base (10 or 2), the power and the notation of a suffix.
fn interpret(suffix: &str) -> Result<(u32, i32, Format), ParseError> {
    if let Some((_, power)) = DECIMAL_SUFFIXES.iter().find(|(name, _)| *name == suffix) {
        return Ok((10, *power, Format::DecimalSi));
    }
    if let Some((_, power)) = BINARY_SUFFIXES.iter().find(|(name, _)| *name == suffix) {
        return Ok((2, *power as i32, Format::BinarySi));
    }
    let exponent = suffix.strip_prefix(['e', 'E']).ok_or(ParseError::Suffix)?;
    let power = exponent.parse::<i32>().map_err(|_| ParseError::Suffix)?;
    Ok((10, power, Format::DecimalExponent))
}

fn power_of_ten(power: i32) -> Option<i128> {
    10i128.checked_pow(u32::try_from(power).ok()?)
}

/// `value / 10^power`, away from zero, and whether it was exact.
fn divide_up(value: i128, power: i32) -> (i128, bool) {
    if value == 0 {
        return (0, true);
    }
    let Some(divisor) = power_of_ten(power) else { return (value.signum(), false) };
    let (quotient, remainder) = (value / divisor, value % divisor);
    if remainder == 0 { (quotient, true) } else { (quotient + remainder.signum(), false) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_plain_is_read_as_any_other() {
        let suffixes =
            DECIMAL_SUFFIXES.iter().map(|(name, _)| *name).chain(BINARY_SUFFIXES.iter().map(|(name, _)| *name));
        let suffixes: Vec<&str> = suffixes.chain(["e3", "E", "x", ".5", "mm"]).collect();
        let digits =
            "0 1 7 8 10 64 99 100 999 1000 1023 1024 65536 100000 1234567 999999999 1000000000 4294967296 010 -1 +1 ''";
        let mut plain = 0;
        for digits in digits.split(' ') {
            for suffix in &suffixes {
                let text = format!("{}{suffix}", digits.trim_matches('\''));
                let (one, any) = (Quantity::parse(&text), Quantity::parse_any(&text));
                assert_eq!(format!("{one:?}"), format!("{any:?}"), "{text}");
                plain += usize::from(Quantity::parse_plain(&text).is_some());
                if let Ok(quantity) = one {
                    assert_eq!(quantity.to_string(), quantity.clone().into_text());
                }
            }
        }
        assert!(plain > 100, "{plain}");
    }

    #[test]
    fn prints_the_canonical_form() {
        for (text, canonical) in [
            ("0", "0"),
            ("0.1", "100m"),
            ("1.5", "1500m"),
            ("1000", "1k"),
            ("1024", "1024"),
            ("1024Ki", "1Mi"),
            ("1.5Gi", "1536Mi"),
            ("0.5Ki", "512"),
            ("2e3", "2e3"),
            ("20e2", "2e3"),
            ("1E6", "1E6"),
            ("0.0000000001", "1n"),
            ("-0.1", "-100m"),
            ("1000m", "1"),
            ("12000k", "12M"),
            ("100000000000000000000", "100E"),
            ("9223372036854775808Ki", "9223372036854775807"),
            ("1.G", "1G"),
        ] {
            assert_eq!(Quantity::parse(text).map(|quantity| quantity.to_string()), Ok(canonical.to_owned()), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_none() {
        for (text, error) in [
            ("", ParseError::Format),
            (" ", ParseError::Format),
            ("1x", ParseError::Format),
            ("1KiKi", ParseError::Suffix),
            ("Bogus", ParseError::Format),
            ("1ee3", ParseError::Suffix),
        ] {
            assert_eq!(Quantity::parse(text).unwrap_err(), error, "{text}");
        }
    }

    /// Found by fuzzing.
    #[test]
    fn zero_is_zero_however_it_is_written() {
        for text in ["0e0106", "0E", "0Ei", "0e-9", "0.000"] {
            let zero = Quantity::parse(text).expect("a quantity");
            assert_eq!((zero.value(), zero.milli_value()), (0, 0), "{text}");
        }
        let digits = "9".repeat(36);
        let printed = |text: &str| Quantity::parse(text).expect("a quantity").to_string();
        assert_eq!(printed(&format!("{digits}e2")), format!("{digits}00"));
        assert_eq!(printed(&format!("{digits}e3")), format!("{digits}e3"));
        let point = "9223372092233720367758073677.03677006";
        assert!(Quantity::parse(&printed(point)).is_ok(), "{}", printed(point));
        // Longer ones could not be printed as they are.
        assert!(Quantity::parse(&format!("{digits}9")).is_err());
        assert!(Quantity::parse("1e2147483647").is_err() && Quantity::parse("1.5e-2147483648").is_err());
    }

    #[test]
    fn compares_and_adds_across_notations() {
        let quantity = |text: &str| Quantity::parse(text).unwrap();
        assert!(quantity("1Gi") > quantity("1G"));
        assert_eq!(quantity("1000m"), quantity("1"));
        let mut sum = quantity("100m");
        sum.add(&quantity("1"));
        assert_eq!(sum.to_string(), "1100m");
        assert_eq!(quantity("1500m").value(), 2);
        assert_eq!(quantity("64Mi").value(), 64 << 20);
    }
}
