//! LimitRange: bounds and defaults for what pods and claims of a namespace ask for.

use super::pod_spec::{defaults, resource_requirements};
use crate::api::names;
use crate::api::{ErrorList, Fields, FieldsMut, Path, Quantity, Report};
use crate::resources::{Context, Resource, Strategy};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["limits".into()],
        strategy: Arc::new(LimitRange),
        ..Resource::new("", "v1", "LimitRange", "limitranges")
    }
}

struct LimitRange;

const SPEC: Path<'static> = Path::new("spec");
const TYPES: &[&str] = &["Container", "PersistentVolumeClaim", "Pod"];
/// Above, amounts are not looked at in thousandths.
const MAX_MILLI: i64 = i64::MAX / 1000;
const LISTS: &[&str] = &["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];
/// Which list fills in which: a limit from the maximum, a request from the limit, then the minimum.
const FILLS: &[(&str, &str)] = &[("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")];

impl Strategy for LimitRange {
    fn checks_metadata_change(&self) -> bool {
        false
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn metadata_checks_on_update(&self) -> usize {
        1
    }

    fn default(&self, object: &mut Value) {
        for limit in object.object_mut("spec").items_mut("limits") {
            for list in LISTS {
                defaults::resource_list(limit, list);
            }
            if limit.str_at("type") != "Container" {
                continue;
            }
            for (from, to) in FILLS {
                for (name, amount) in limit.map_at(from).clone() {
                    limit.object_mut(to).set_default(&name, amount);
                }
            }
        }
    }

    /// One without a name gets one.
    fn prepare_create(&self, object: &mut Value, _: &Context) {
        object.object_mut("metadata").set_default_str("name", &uuid::Uuid::new_v4().to_string());
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let list = SPEC.child("limits");
        let mut known = BTreeSet::new();
        for (index, limit) in object.at("spec").list_at("limits").iter().enumerate() {
            let path = list.index(index);
            let kind = limit.str_at("type");
            type_name(kind, &path.child("type"), &mut errors);
            if !known.insert(kind) {
                errors.duplicate(&path.child("type"), kind);
            }
            validate(limit, kind, &path, &mut errors);
        }
        errors
    }
}

fn type_name(kind: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let messages = names::qualified_name(kind);
    if messages.is_empty() && !kind.contains('/') && !TYPES.contains(&kind) {
        errors.invalid(path, kind, "must be a standard limit type or fully qualified");
    }
    errors.check(path, kind, messages);
}

fn resource_name(kind: &str, name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if matches!(kind, "Pod" | "Container") {
        resource_requirements::container_resource_name(name, path, errors);
    } else {
        resource_requirements::resource_name(name, path, errors);
    }
}

fn validate(limit: &Value, kind: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let mut resources = BTreeSet::new();
    for list in LISTS {
        let at_list = path.child(list);
        let defaults = matches!(*list, "default" | "defaultRequest");
        if kind == "Pod" && defaults {
            if !limit.map_at(list).is_empty() {
                errors.forbidden(&at_list, "may not be specified when `type` is 'Pod'");
            }
            continue;
        }
        if *list == "maxLimitRequestRatio"
            && kind == "PersistentVolumeClaim"
            && !limit.at("min").has("storage")
            && !limit.at("max").has("storage")
        {
            let detail = "either minimum or maximum storage value is required, but neither was provided";
            errors.required(&path.child("limits"), detail);
        }
        for name in limit.map_at(list).keys() {
            resource_name(kind, name, &at_list.key(name), errors);
            resources.insert(name.as_str());
        }
    }
    for name in resources {
        relations(limit, kind, name, path, errors);
    }
}

/// What the amounts of one resource must be to each other.
fn relations(limit: &Value, kind: &str, name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    // A Pod has no defaults.
    let counts = |list: &str| kind != "Pod" || !list.starts_with("default");
    let amount = |list: &str| limit.at(list).get_set(name).filter(|_| counts(list)).map(Quantity::of);
    let [max, min, default, request, ratio] = [0, 1, 2, 3, 4].map(|index: usize| amount(LISTS[index]));
    let mut above = |list: &str, shown: &Quantity, detail: String| {
        errors.invalid(&path.child(list).key(name), shown.to_string(), detail);
    };
    if let (Some(min), Some(max)) = (&min, &max)
        && min > max
    {
        above("min", min, format!("min value {min} is greater than max value {max}"));
    }
    if let Some(request) = &request {
        if let Some(min) = min.as_ref().filter(|min| *min > request) {
            let detail = format!("min value {min} is greater than default request value {request}");
            above("defaultRequest", request, detail);
        }
        if let Some(max) = max.as_ref().filter(|max| request > *max) {
            let detail = format!("default request value {request} is greater than max value {max}");
            above("defaultRequest", request, detail);
        }
        if let Some(default) = default.as_ref().filter(|default| request > *default) {
            let detail = format!("default request value {request} is greater than default limit value {default}");
            above("defaultRequest", request, detail);
        }
    }
    if let Some(default) = &default {
        if let Some(min) = min.as_ref().filter(|min| *min > default) {
            above("default", min, format!("min value {min} is greater than default value {default}"));
        }
        if let Some(max) = max.as_ref().filter(|max| default > *max) {
            above("default", max, format!("default value {default} is greater than max value {max}"));
        }
    }
    if let Some(ratio) = &ratio {
        if *ratio < Quantity::new(1, crate::api::quantity::Format::DecimalSi) {
            above("maxLimitRequestRatio", ratio, format!("ratio {ratio} is less than 1"));
        }
        if let (Some(min), Some(max)) = (&min, &max) {
            let small = [ratio, min, max].iter().all(|amount| amount.value() < MAX_MILLI);
            let number = |amount: &Quantity| if small { amount.milli_value() } else { amount.value() } as f64;
            let most = number(max) / number(min);
            let ratio_value = if small { number(ratio) / 1000.0 } else { number(ratio) };
            if ratio_value > most {
                let detail = format!("ratio {ratio} is greater than max/min = {most:.6}");
                above("maxLimitRequestRatio", ratio, detail);
            }
        }
    }
    if let (Some(default), Some(request)) = (&default, &request)
        && !resource_requirements::may_overcommit(name)
        && default != request
    {
        let detail = format!("default value {default} must equal to defaultRequest value {request} in {name}");
        above("defaultRequest", request, detail);
    }
}
