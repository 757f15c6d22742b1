//! Bounds of numbers, compared as Kubernetes's validator compares them: integers as integers where
//! the bound is one, else as floating point.

use super::structural::{Structural, Type};
use super::validate::{Finding, Place};
use serde_json::{Number, Value};

/// Whether a number has no fraction, give or take the error of a division.
pub fn is_whole(value: &Value) -> bool {
    value.as_f64().is_some_and(whole)
}

fn whole(float: f64) -> bool {
    const LARGEST: f64 = 9_007_199_254_740_991.0;
    const EPSILON: f64 = 1e-9;
    if !float.is_finite() || float.abs() > LARGEST {
        return false;
    }
    let near = float.trunc();
    if float == near {
        return true;
    }
    let near = if (float - near).abs() > 0.5 { near + float.signum() } else { near };
    near != 0.0 && (float - near).abs() / (float.abs() + near.abs()) < EPSILON
}

/// As Go prints a number: no fraction where there is none.
fn shown(float: f64) -> String {
    let exponent = if float == 0.0 { 0 } else { float.abs().log10().floor() as i32 };
    if (-5..21).contains(&exponent) {
        return float.to_string();
    }
    let text = format!("{float:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// What a number of the node's type and format cannot be.
fn out_of_range(float: f64, integer: bool, schema: &Structural, prefix: &str, path: &str) -> Option<String> {
    let format = schema.checks().format.as_ref();
    let single = !schema.int_or_string;
    let (name, format, fits) = match schema.kind.filter(|_| single) {
        Some(Type::Integer) => {
            let fits = |least: f64, most: f64| (integer || float.fract() == 0.0) && float >= least && float <= most;
            match format {
                "int32" => ("integer", "int32", fits(f64::from(i32::MIN), f64::from(i32::MAX))),
                "int64" => ("integer", "int64", fits(i64::MIN as f64, i64::MAX as f64)),
                _ => ("integer", "", fits(i64::MIN as f64, i64::MAX as f64)),
            }
        }
        Some(Type::Number) if format == "float" => ("number", "float", float.abs() <= f64::from(f32::MAX)),
        _ => return None,
    };
    if fits {
        return None;
    }
    Some(match format {
        "" => format!("{prefix} value must be of type {name} (default format) in {path}"),
        format => format!("{prefix} value must be of type {name} with format {format} in {path}"),
    })
}

pub(super) fn check(place: &Place, value: &Value, number: &Number, schema: &Structural) -> Vec<Finding> {
    let checks = schema.checks();
    let float = number.as_f64().unwrap_or_default();
    let integer = number.as_i64();
    let mut findings = Vec::new();
    if let Some(text) = out_of_range(float, integer.is_some(), schema, "Checked", place.path()) {
        findings.push(place.nowhere(text));
    }
    // A bound that is no number of the type is told, and compared as it is.
    let bound = |bound: f64, prefix: &str, findings: &mut Vec<Finding>| -> Option<i64> {
        match out_of_range(bound, false, schema, prefix, place.path()) {
            Some(text) => {
                findings.push(place.nowhere(text));
                None
            }
            None => integer.map(|_| bound as i64),
        }
    };
    if let Some(factor) = checks.multiple_of {
        let as_integer = bound(factor, "MultipleOf", &mut findings);
        let holds = match (integer, as_integer) {
            (Some(integer), Some(factor)) if factor > 0 => integer % factor == 0,
            _ if factor <= 0.0 => true,
            _ if factor < 1.0 => whole(1.0 / factor * float),
            _ => whole(float / factor),
        };
        if !holds {
            findings.push(place.invalid(value.clone(), &format!("should be a multiple of {}", shown(factor))));
        }
    }
    if let Some(least) = checks.minimum {
        let exclusive = checks.exclusive_minimum;
        let (below, text) = match (integer, bound(least, "Minimum boundary", &mut findings)) {
            (Some(integer), Some(least)) => (integer < least || exclusive && integer == least, least.to_string()),
            _ => (float < least || exclusive && float == least, shown(least)),
        };
        if below {
            let than = if exclusive { "greater than" } else { "greater than or equal to" };
            findings.push(place.invalid(value.clone(), &format!("should be {than} {text}")));
        }
    }
    if let Some(most) = checks.maximum {
        let exclusive = checks.exclusive_maximum;
        let (above, text) = match (integer, bound(most, "Maximum boundary", &mut findings)) {
            (Some(integer), Some(most)) => (integer > most || exclusive && integer == most, most.to_string()),
            _ => (float > most || exclusive && float == most, shown(most)),
        };
        if above {
            let than = if exclusive { "less than" } else { "less than or equal to" };
            findings.push(place.invalid(value.clone(), &format!("should be {than} {text}")));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_as_go_does() {
        for (float, text) in [(10.0, "10"), (1.5, "1.5"), (1e21, "1e+21"), (1e-7, "1e-07"), (0.0, "0")] {
            assert_eq!(shown(float), text);
        }
    }

    #[test]
    fn a_division_may_be_a_little_off() {
        assert!(whole(0.3 / 0.1) && whole(7.0) && !whole(2.5) && !whole(f64::INFINITY));
    }
}
