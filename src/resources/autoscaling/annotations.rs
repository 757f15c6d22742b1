//! What `autoscaling/v1` has no fields for, it carries in annotations.
//!
//! Source: `pkg/apis/autoscaling/v1/conversion.go`.

use crate::api::{Fields, FieldsMut, GroupVersionKind};
use crate::schema;
use serde_json::{Map, Value, json};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// The field of a source, and for each value in it the path in v2 and the name in the older form.
type Source = (&'static str, &'static [(&'static [&'static str], &'static str)]);

/// Where a value of v2 is in the older form; by the field of the source.
const OLD_NAMES: &[Source] = &[
    (
        "object",
        &[
            (&["describedObject"], "target"),
            (&["metric", "name"], "metricName"),
            (&["metric", "selector"], "selector"),
            (&["target", "value"], "targetValue"),
            (&["target", "averageValue"], "averageValue"),
        ],
    ),
    (
        "external",
        &[
            (&["metric", "name"], "metricName"),
            (&["metric", "selector"], "metricSelector"),
            (&["target", "value"], "targetValue"),
            (&["target", "averageValue"], "targetAverageValue"),
        ],
    ),
    (
        "pods",
        &[
            (&["metric", "name"], "metricName"),
            (&["metric", "selector"], "selector"),
            (&["target", "averageValue"], "targetAverageValue"),
        ],
    ),
    ("resource", RESOURCE),
    ("containerResource", RESOURCE),
];
/// The same of the values that were measured.
const OLD_CURRENT: &[Source] = &[
    (
        "object",
        &[
            (&["describedObject"], "target"),
            (&["metric", "name"], "metricName"),
            (&["metric", "selector"], "selector"),
            (&["current", "value"], "currentValue"),
            (&["current", "averageValue"], "averageValue"),
        ],
    ),
    (
        "external",
        &[
            (&["metric", "name"], "metricName"),
            (&["metric", "selector"], "metricSelector"),
            (&["current", "value"], "currentValue"),
            (&["current", "averageValue"], "currentAverageValue"),
        ],
    ),
    (
        "pods",
        &[
            (&["metric", "name"], "metricName"),
            (&["metric", "selector"], "selector"),
            (&["current", "averageValue"], "currentAverageValue"),
        ],
    ),
    ("resource", CURRENT_RESOURCE),
    ("containerResource", CURRENT_RESOURCE),
];
const CURRENT_RESOURCE: &[(&[&str], &str)] = &[
    (&["name"], "name"),
    (&["container"], "container"),
    (&["current", "averageUtilization"], "currentAverageUtilization"),
    (&["current", "averageValue"], "currentAverageValue"),
];
const RESOURCE: &[(&[&str], &str)] = &[
    (&["name"], "name"),
    (&["container"], "container"),
    (&["target", "averageUtilization"], "targetAverageUtilization"),
    (&["target", "averageValue"], "targetAverageValue"),
];

fn is_cpu(metric: &Value) -> bool {
    let resource = metric.at("resource");
    metric.str_at("type") == "Resource"
        && resource.str_at("name") == "cpu"
        && resource.at("target").has("averageUtilization")
}

fn take(annotations: &mut Value, name: &str) -> Option<Value> {
    let text = annotations.optional_str(name)?.to_owned();
    annotations.clear(name);
    serde_json::from_str(&text).ok()
}

/// From v1 to v2.
pub fn to_v2(object: &mut Value) {
    object.set("apiVersion", "autoscaling/v2");
    let mut metrics = Vec::new();
    let mut conditions = None;
    let mut behavior = None;
    let mut measured = Vec::new();
    if let Some(annotations) = object.object_mut("metadata").set_mut("annotations") {
        if let Some(Value::Array(old)) = take(annotations, METRICS) {
            metrics.extend(old.iter().map(|old| new_metric(old, OLD_NAMES)));
        }
        conditions = take(annotations, CONDITIONS);
        behavior = take(annotations, BEHAVIOR).map(sent_behavior);
        if let Some(Value::Array(old)) = take(annotations, CURRENT_METRICS) {
            measured.extend(old.iter().map(|old| new_metric(old, OLD_CURRENT)));
        }
    }
    if object.at("metadata").map_at("annotations").is_empty() {
        object.object_mut("metadata").clear("annotations");
    }
    let spec = object.object_mut("spec");
    if let Some(percent) = spec.optional_int("targetCPUUtilizationPercentage") {
        let target = json!({ "type": "Utilization", "averageUtilization": percent });
        metrics.push(json!({ "type": "Resource", "resource": { "name": "cpu", "target": target } }));
    }
    spec.clear("targetCPUUtilizationPercentage");
    if !metrics.is_empty() {
        spec.set("metrics", metrics);
    }
    if let Some(behavior) = behavior {
        spec.set("behavior", behavior);
    }
    let status = object.object_mut("status");
    if let Some(percent) = status.optional_int("currentCPUUtilizationPercentage") {
        let current = json!({ "averageUtilization": percent });
        let metric = json!({ "type": "Resource", "resource": { "name": "cpu", "current": current } });
        status.set("currentMetrics", json!([metric]));
    }
    status.clear("currentCPUUtilizationPercentage");
    // v2 does not write a zero here.
    if status.int_at("currentReplicas") == 0 {
        status.clear("currentReplicas");
    }
    if !measured.is_empty() {
        status.set("currentMetrics", measured);
    } else if !status.has("currentMetrics") {
        // v2 always writes it.
        status.set("currentMetrics", Value::Null);
    }
    if let Some(conditions) = conditions {
        status.set("conditions", conditions);
    }
}

/// From v2 to v1.
pub fn to_v1(object: &mut Value) {
    object.set("apiVersion", "autoscaling/v1");
    if let Some(annotations) = object.object_mut("metadata").set_mut("annotations") {
        for carried in [METRICS, CURRENT_METRICS, CONDITIONS, BEHAVIOR] {
            annotations.clear(carried);
        }
    }
    // Go writes fields in the order of their structs.
    let list = |kind: &str, items: &[Value]| {
        let texts: Vec<String> = items.iter().map(|item| schema::as_sent("autoscaling/v1", kind, item)).collect();
        format!("[{}]", texts.join(","))
    };
    let mut carried: Vec<(&str, String)> = Vec::new();
    let spec = object.object_mut("spec");
    let mut others = Vec::new();
    let mut cpu = None;
    for metric in spec.list_at("metrics") {
        // Of several the first counts, and the others are lost.
        if !is_cpu(metric) {
            others.push(old_metric(metric, OLD_NAMES));
        } else if cpu.is_none() {
            cpu = Some(metric.at("resource").at("target").at("averageUtilization").clone());
        }
    }
    spec.clear("metrics");
    if let Some(cpu) = cpu {
        spec.set("targetCPUUtilizationPercentage", cpu);
    }
    if !others.is_empty() {
        carried.push((METRICS, list("MetricSpec", &others)));
    }
    if let Some(behavior) = spec.get_set("behavior") {
        carried.push((BEHAVIOR, shown_behavior(behavior)));
        spec.clear("behavior");
    }
    let status = object.object_mut("status");
    let current = status.list_at("currentMetrics").iter().filter(|metric| metric.str_at("type") == "Resource");
    let current = current.filter(|metric| metric.at("resource").str_at("name") == "cpu");
    let percents = current.map(|metric| metric.at("resource").at("current").at("averageUtilization"));
    if let Some(percent) = percents.filter(|percent| !percent.is_null()).last().cloned() {
        status.set("currentCPUUtilizationPercentage", percent);
    }
    let current: Vec<Value> =
        status.list_at("currentMetrics").iter().map(|metric| old_metric(metric, OLD_CURRENT)).collect();
    if !current.is_empty() {
        carried.push((CURRENT_METRICS, list("MetricStatus", &current)));
    }
    status.clear("currentMetrics");
    if !status.list_at("conditions").is_empty() {
        carried.push((CONDITIONS, list("HorizontalPodAutoscalerCondition", status.list_at("conditions"))));
    }
    status.clear("conditions");
    for field in ["currentReplicas", "desiredReplicas"] {
        status.set_default(field, 0);
    }
    for (name, value) in carried {
        object.object_mut("metadata").object_mut("annotations").set(name, value);
    }
}

/// The behavior as Go writes its internal type.
fn shown_behavior(behavior: &Value) -> String {
    let kind = GroupVersionKind::new("autoscaling", "v2", "HorizontalPodAutoscaler");
    let shown = schema::builtin_schema(&kind).and_then(|schema| {
        let field = schema.at_steps(["spec", "behavior"].into_iter())?;
        schema.shown(field, behavior)
    });
    shown.unwrap_or_else(|| behavior.to_string())
}

/// A behavior that was written so, or as it is sent.
fn sent_behavior(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name[..1].to_lowercase() + &name[1..], sent_behavior(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(sent_behavior).collect(),
        value => value,
    }
}

fn old_metric(metric: &Value, names: &[Source]) -> Value {
    let mut old = Map::new();
    old.insert("type".to_owned(), metric.at("type").clone());
    for (source, names) in names.iter().filter(|(source, _)| metric.has(source)) {
        let mut fields = Map::new();
        for (path, name) in *names {
            let value = path.iter().fold(metric.at(source), |value, step| value.at(step));
            if !value.is_null() {
                fields.insert((*name).to_owned(), value.clone());
            }
        }
        old.insert((*source).to_owned(), Value::Object(fields));
    }
    Value::Object(old)
}

fn new_metric(old: &Value, names: &[Source]) -> Value {
    let mut metric = json!({ "type": old.at("type") });
    for (source, names) in names.iter().filter(|(source, _)| old.has(source)) {
        let new = metric.object_mut(source);
        for (path, name) in *names {
            let Some(value) = old.at(source).get_set(name) else { continue };
            let (last, steps) = path.split_last().expect("a path has a step");
            let holder = steps.iter().fold(&mut *new, |value, step| value.object_mut(step));
            holder.set(last, value.clone());
        }
        let Some(target) = new.set_mut("target").filter(|target| target.is_object()) else { continue };
        let kind = ["averageUtilization", "averageValue", "value"].into_iter().find(|field| target.has(field));
        let kind = match kind {
            Some("averageUtilization") => "Utilization",
            Some("averageValue") => "AverageValue",
            _ => "Value",
        };
        target.set("type", kind);
    }
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_v1_cannot_say_goes_there_and_back() {
        let v2 = json!({
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "a"},
            "spec": {
                "maxReplicas": 3,
                "behavior": {"scaleUp": {"selectPolicy": "Max"}},
                "metrics": [
                    {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}},
                    {"type": "Pods", "pods": {"metric": {"name": "rps"}, "target": {"type": "AverageValue", "averageValue": "10"}}},
                ],
            },
            "status": {
                "desiredReplicas": 0,
                "currentMetrics": [
                    {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 7}}},
                ],
            },
        });
        let mut object = v2.clone();
        to_v1(&mut object);
        assert_eq!(object["spec"], json!({"maxReplicas": 3, "targetCPUUtilizationPercentage": 50}));
        assert_eq!(
            object["metadata"]["annotations"][METRICS],
            r#"[{"type":"Pods","pods":{"metricName":"rps","targetAverageValue":"10"}}]"#
        );
        assert_eq!(
            object["metadata"]["annotations"][CURRENT_METRICS],
            r#"[{"type":"Resource","resource":{"name":"cpu","currentAverageUtilization":7,"currentAverageValue":"0"}}]"#
        );
        assert_eq!(object["status"]["currentCPUUtilizationPercentage"], 7);
        to_v2(&mut object);
        // What v1 has a field for comes last, and what it always writes is there.
        let mut back = v2;
        back["spec"]["metrics"].as_array_mut().expect("a list").reverse();
        back["status"]["currentMetrics"][0]["resource"]["current"]["averageValue"] = json!("0");
        assert_eq!(object, back);
    }
}
