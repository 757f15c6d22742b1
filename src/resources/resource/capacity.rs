//! How much of a device's capacity may be asked for: some values, or a range with steps.

use super::limits::each_once;
use crate::api::{ErrorList, Fields, Path, Quantity, Report};
use serde_json::Value;

const VALUES_LIMIT: usize = 10;

/// `shared`: claims share the device.
pub fn validate(capacity: &Value, shared: bool, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(policy) = capacity.get_set("requestPolicy") else { return };
    let path = path.child("requestPolicy");
    if !shared {
        return errors.forbidden(&path, "allowMultipleAllocations must be true");
    }
    let whole = Quantity::of(capacity.at("value"));
    let (values, range) = (policy.list_at("validValues"), policy.get_set("validRange"));
    let default = policy.get_set("default").map(Quantity::of);
    match (values, range) {
        ([], None) => {}
        ([_, ..], Some(_)) => {
            let detail = "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time";
            errors.forbidden(&path, detail);
        }
        ([_, ..], None) => match default {
            None => errors.required(&path.child("default"), "required when validValues is defined"),
            Some(default) => self::values(values, &default, &whole, &path.child("validValues"), errors),
        },
        ([], Some(range)) => match default {
            None => errors.required(&path.child("default"), "required when validRange is defined"),
            Some(default) => self::range(range, &default, &whole, &path.child("validRange"), errors),
        },
    }
}

fn values(values: &[Value], default: &Quantity, whole: &Quantity, path: &Path<'_>, errors: &mut ErrorList) {
    for (index, pair) in values.windows(2).enumerate() {
        let (first, second) = (Quantity::of(&pair[0]), Quantity::of(&pair[1]));
        if first > second {
            errors.invalid(&path.index(index + 1), second.to_string(), "values must be sorted in ascending order");
        }
    }
    let key = |value: &Value| Quantity::of(value).value().to_string().into();
    each_once(values, VALUES_LIMIT, path, errors, key, |value, path, errors| {
        let option = Quantity::of(value);
        if option > *whole {
            errors.invalid(path, option.to_string(), format!("option is larger than capacity value: {whole}"));
        }
    });
    if values.len() > VALUES_LIMIT || !values.iter().any(|value| Quantity::of(value) == *default) {
        errors.invalid(path, default.to_string(), "default value is not valid according to the requestPolicy");
    }
}

fn range(range: &Value, default: &Quantity, whole: &Quantity, path: &Path<'_>, errors: &mut ErrorList) {
    let bound = |name: &str| range.get_set(name).map(Quantity::of);
    let (at_min, at_max, at_step) = (path.child("min"), path.child("max"), path.child("step"));
    let Some(min) = bound("min") else {
        return errors.required(&at_min, "required when validRange is defined");
    };
    if min > *whole {
        errors.invalid(&at_min, min.to_string(), format!("min is larger than capacity value: {whole}"));
    }
    if *default < min {
        errors.invalid(&at_min, default.to_string(), format!("default is less than min: {min}"));
    }
    let max = bound("max");
    if let Some(max) = &max {
        if min > *max {
            errors.invalid(&at_max, min.to_string(), format!("min is larger than max: {max}"));
        }
        if max > whole {
            errors.invalid(&at_max, max.to_string(), format!("max is larger than capacity value: {whole}"));
        }
        if default > max {
            errors.invalid(&at_max, default.to_string(), format!("default is more than max: {max}"));
        }
    }
    let Some(step) = bound("step") else { return };
    let mut first = min.clone();
    first.add(&step);
    if first > *whole {
        let detail = format!("one step {first} is larger than capacity value: {whole}");
        errors.invalid(&at_step, step.to_string(), detail);
    }
    for value in [Some(default), max.as_ref()].into_iter().flatten() {
        let rest = value.value().wrapping_sub(min.value()).checked_rem(step.value());
        if rest != Some(0) {
            let detail = format!("value is not a multiple of a given step ({step}) from ({min})");
            errors.invalid(&at_step, value.to_string(), detail);
        }
    }
}
