//! HorizontalPodAutoscaler in `autoscaling/v2`: as many replicas as the metrics ask for.

use super::metrics::{self, Version};
use crate::api::{ErrorList, Fields, FieldsMut, Path, Quantity, Report};
use crate::resources::{Column, Context, Resource, Strategy, Subresource, cells};
use serde_json::{Value, json};
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource { strategy: Arc::new(HorizontalPodAutoscaler), ..row("v2") }
}

/// What both versions are served with.
pub fn row(version: &'static str) -> Resource {
    Resource {
        short_names: vec!["hpa".into()],
        categories: vec!["all".into()],
        status: true,
        subresources: vec![Subresource::status()],
        columns: Column::strings(&["Reference", "Targets", "MinPods", "MaxPods", "Replicas", "Age"]),
        ..Resource::new("autoscaling", version, "HorizontalPodAutoscaler", "horizontalpodautoscalers")
    }
}

pub struct HorizontalPodAutoscaler;

const SPEC: Path<'static> = Path::new("spec");
const STATUS: Path<'static> = Path::new("status");
const STABILIZATION_LIMIT: i64 = 3600;
const PERIOD_LIMIT: i64 = 1800;

impl Strategy for HorizontalPodAutoscaler {
    fn default(&self, object: &mut Value) {
        let spec = object.object_mut("spec");
        spec.set_default("minReplicas", 1);
        if spec.list_at("metrics").is_empty() {
            let target = json!({ "type": "Utilization", "averageUtilization": 80 });
            spec.set("metrics", json!([{ "type": "Resource", "resource": { "name": "cpu", "target": target } }]));
        }
        if let Some(behavior) = spec.set_mut("behavior") {
            let up = behavior.object_mut("scaleUp");
            up.set_default("stabilizationWindowSeconds", 0);
            up.set_default("selectPolicy", "Max");
            up.set_default(
                "policies",
                json!([
                    { "type": "Pods", "value": 4, "periodSeconds": 15 },
                    { "type": "Percent", "value": 100, "periodSeconds": 15 },
                ]),
            );
            let down = behavior.object_mut("scaleDown");
            down.set_default("selectPolicy", "Max");
            down.set_default("policies", json!([{ "type": "Percent", "value": 100, "periodSeconds": 15 }]));
        }
    }

    fn prepare_create(&self, object: &mut Value, _: &Context) {
        object.set("status", json!({ "desiredReplicas": 0, "currentMetrics": null }));
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("status", old);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        validate(object.at("spec"), None, &mut errors);
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        validate(object.at("spec"), Some(old.at("spec")), &mut errors);
        errors
    }

    fn status(&self) -> Option<&dyn Strategy> {
        Some(&Status)
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        let (spec, status) = (object.at("spec"), object.at("status"));
        let target = spec.at("scaleTargetRef");
        let least = spec.optional_int("minReplicas").map(|count| count.to_string());
        Some(vec![
            cells::name(object),
            format!("{}/{}", target.str_at("kind"), target.str_at("name")).into(),
            metrics::shown(object).into(),
            least.unwrap_or_else(|| "<unset>".to_owned()).into(),
            spec.int_at("maxReplicas").into(),
            status.int_at("currentReplicas").into(),
            cells::age(object, now),
        ])
    }
}

/// The strategy of the status of both versions.
pub struct Status;

impl Strategy for Status {
    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("spec", old);
    }

    fn validate_update(&self, object: &Value, _: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        for field in ["currentReplicas", "desiredReplicas"] {
            errors.not_negative(&STATUS.child(field), object.at("status").int_at(field));
        }
        errors
    }
}

fn validate(spec: &Value, old: Option<&Value>, errors: &mut ErrorList) {
    let least = spec.optional_int("minReplicas");
    // One that was at zero may stay there.
    let bound = if old.is_some_and(|old| old.optional_int("minReplicas") == Some(0)) { 0 } else { 1 };
    if let Some(least) = least.filter(|least| *least < bound) {
        errors.invalid(&SPEC.child("minReplicas"), least, format!("must be greater than or equal to {bound}"));
    }
    let (path, most) = (SPEC.child("maxReplicas"), spec.int_at("maxReplicas"));
    if most == 0 {
        errors.required(&path, "must be set and greater than 0");
    } else if most < 1 {
        errors.invalid(&path, most, "must be greater than or equal to 1");
    }
    if least.is_some_and(|least| most < least) {
        errors.invalid(&path, most, "must be greater than or equal to `minReplicas`");
    }
    let target = spec.at("scaleTargetRef");
    let kept = |field: &str| old.is_some_and(|old| old.at("scaleTargetRef").str_at(field) == target.str_at(field));
    let version = match target.str_at("kind") {
        _ if kept("kind") && kept("apiVersion") => Version::Ignored,
        // The only one of the core group that scales.
        "ReplicationController" => Version::Any,
        _ => Version::Grouped,
    };
    metrics::reference(target, version, &SPEC.child("scaleTargetRef"), errors);
    let described = |metric: &Value| {
        metric.str_at("type") == "Object"
            && metrics::version_error(metric.at("object").at("describedObject").str_at("apiVersion"), Version::Any)
                .is_some()
    };
    let lenient = old.is_some_and(|old| old.list_at("metrics").iter().any(described));
    metrics::validate(spec.list_at("metrics"), lenient, &SPEC.child("metrics"), errors);
    let outside = |metric: &Value| matches!(metric.str_at("type"), "Object" | "External");
    if least == Some(0) && !spec.list_at("metrics").iter().any(outside) {
        let detail = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.forbidden(&SPEC.child("metrics"), detail);
    }
    let path = SPEC.child("behavior");
    for field in ["scaleUp", "scaleDown"] {
        if let Some(rules) = spec.at("behavior").get_set(field) {
            scaling_rules(rules, &path.child(field), errors);
        }
    }
}

fn scaling_rules(rules: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let at_window = path.child("stabilizationWindowSeconds");
    match rules.optional_int("stabilizationWindowSeconds") {
        Some(seconds) if seconds < 0 => {
            errors.invalid(&at_window, seconds, "must be greater than or equal to zero");
        }
        Some(seconds) if seconds > STABILIZATION_LIMIT => {
            errors.invalid(&at_window, seconds, format!("must be less than or equal to {STABILIZATION_LIMIT}"));
        }
        _ => {}
    }
    if let Some(policy) = rules.optional_str("selectPolicy") {
        errors.one_of(&path.child("selectPolicy"), policy, &["Disabled", "Max", "Min"]);
    }
    let list = path.child("policies");
    if rules.list_at("policies").is_empty() {
        errors.required(&list, "must specify at least one Policy");
    }
    for (index, policy) in rules.list_at("policies").iter().enumerate() {
        let path = list.index(index);
        errors.one_of(&path.child("type"), policy.str_at("type"), &["Percent", "Pods"]);
        errors.positive(&path.child("value"), policy.int_at("value"));
        let period = policy.int_at("periodSeconds");
        errors.positive(&path.child("periodSeconds"), period);
        if period > PERIOD_LIMIT {
            let detail = format!("must be less than or equal to {PERIOD_LIMIT}");
            errors.invalid(&path.child("periodSeconds"), period, detail);
        }
    }
    if let Some(tolerance) = rules.get_set("tolerance").map(Quantity::of).filter(Quantity::is_negative) {
        errors.invalid(&path.child("tolerance"), tolerance.to_string(), "must be greater than or equal to 0");
    }
}
