//! Versions: `semver("1.2.3").isLessThan(semver("1.3.0"))`.

use super::no_such_overload;
use super::order::{compare, is_greater, is_less};
use crate::cel::Failure;
use crate::cel::evaluate::Call;
use crate::cel::overloads::{Cost, Row};
use crate::cel::value::Value;
use std::cmp::Ordering;
use std::sync::Arc;

type Outcome<'a> = Result<Value<'a>, Failure>;

#[derive(Debug)]
pub struct Semver {
    numbers: [u64; 3],
    prerelease: Vec<Part>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(u64),
    Text(String),
}

pub(super) const ROWS: &[Row] = &[
    ("semver", "string_to_semver", "string -> Semver", parse, Cost::Read),
    ("semver", "string_bool_to_semver", "string, bool -> Semver", parse, Cost::Read),
    ("isSemver", "is_semver_string", "string -> bool", is_semver, Cost::Read),
    ("isSemver", "is_semver_string_bool", "string, bool -> bool", is_semver, Cost::Read),
    (".isGreaterThan", "semver_is_greater_than", "Semver, Semver -> bool", is_greater, Cost::One),
    (".isLessThan", "semver_is_less_than", "Semver, Semver -> bool", is_less, Cost::One),
    (".compareTo", "semver_compare_to", "Semver, Semver -> int", compare, Cost::One),
    (".major", "semver_major", "Semver -> int", |call| number(call, 0), Cost::One),
    (".minor", "semver_minor", "Semver -> int", |call| number(call, 1), Cost::One),
    (".patch", "semver_patch", "Semver -> int", |call| number(call, 2), Cost::One),
];

impl Semver {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("Version string empty".to_owned());
        }
        let (text, build) = match text.split_once('+') {
            Some((text, build)) => (text, Some(build)),
            None => (text, None),
        };
        let (numbers, prerelease) = match text.split_once('-') {
            Some((numbers, prerelease)) => (numbers, Some(prerelease)),
            None => (text, None),
        };
        let parts: Vec<&str> = numbers.splitn(3, '.').collect();
        let [major, minor, patch] = parts.as_slice() else {
            return Err("No Major.Minor.Patch elements found".to_owned());
        };
        let number = |name: &str, text: &str| {
            if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(format!("Invalid character(s) found in {name} number {text:?}"));
            }
            if text.len() > 1 && text.starts_with('0') {
                return Err(format!("{} number must not contain leading zeroes {text:?}", capital(name)));
            }
            text.parse::<u64>().map_err(|error| error.to_string())
        };
        let numbers = [number("major", major)?, number("minor", minor)?, number("patch", patch)?];
        let identifier = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let mut parts = Vec::new();
        for part in prerelease.into_iter().flat_map(|text| text.split('.')) {
            if part.is_empty() {
                return Err("Prerelease is empty".to_owned());
            }
            parts.push(match part.parse::<u64>() {
                Ok(_) if part.len() > 1 && part.starts_with('0') => {
                    return Err(format!("Numeric PreRelease version must not contain leading zeroes {part:?}"));
                }
                Ok(number) if !part.starts_with('+') => Part::Number(number),
                _ if part.chars().all(identifier) => Part::Text(part.to_owned()),
                _ => return Err(format!("Invalid character(s) found in prerelease {part:?}")),
            });
        }
        for part in build.into_iter().flat_map(|text| text.split('.')) {
            if part.is_empty() {
                return Err("Build meta data is empty".to_owned());
            }
            if !part.chars().all(identifier) {
                return Err(format!("Invalid character(s) found in build meta data {part:?}"));
            }
        }
        Ok(Self { numbers, prerelease: parts })
    }

    /// `v1.02` is 1.2.0.
    fn parse_lenient(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let mut parts: Vec<String> = text.splitn(3, '.').map(str::to_owned).collect();
        for part in parts.iter_mut().filter(|part| part.len() > 1) {
            let stripped = part.trim_start_matches('0');
            let bare = stripped.is_empty() || !stripped.starts_with(|c: char| c.is_ascii_digit());
            *part = if bare { format!("0{stripped}") } else { stripped.to_owned() };
        }
        if parts.len() < 3 {
            if parts.last().is_some_and(|part| part.contains(['+', '-'])) {
                return Err("short version cannot contain PreRelease/Build meta data".to_owned());
            }
            parts.resize(3, "0".to_owned());
        }
        Self::parse(&parts.join("."))
    }
}

fn capital(name: &str) -> String {
    name[..1].to_uppercase() + &name[1..]
}

impl PartialEq for Semver {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Semver {}

impl PartialOrd for Semver {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Semver {
    fn cmp(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| match (self.prerelease.is_empty(), other.prerelease.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => self.prerelease.cmp(&other.prerelease),
        })
    }
}

fn read(call: &Call) -> Result<Result<Semver, String>, Failure> {
    let lenient = call.arguments.len() > 1 && call.bool(1)?;
    let text = call.text(0)?;
    Ok(if lenient { Semver::parse_lenient(text) } else { Semver::parse(text) })
}

fn parse<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    read(call)?.map(|version| Value::Semver(Arc::new(version))).map_err(Failure::new)
}

fn is_semver<'a>(call: &mut Call<'a, '_>) -> Outcome<'a> {
    Ok(Value::Bool(read(call)?.is_ok()))
}

fn given<'c, 'a>(call: &'c Call<'a, '_>, index: usize) -> Result<&'c Semver, Failure> {
    match call.arguments.get(index) {
        Some(Value::Semver(version)) => Ok(version),
        _ => Err(no_such_overload()),
    }
}

fn number<'a>(call: &Call<'a, '_>, index: usize) -> Outcome<'a> {
    Ok(Value::Int(i64::try_from(given(call, 0)?.numbers[index]).unwrap_or(i64::MAX)))
}
