//! What `autoscaling/v1` has no fields for, it carries in annotations.
//!
//! Source: `pkg/apis/autoscaling/v1/conversion.go`.

use crate::api::{Fields, FieldsMut};
use serde_json::{Map, Value, json};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// Where a value of v2 is in the older form; by the field of the source.
const OLD_NAMES: &[(&str, &[(&[&str], &str)])] = &[
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
    if let Some(annotations) = object.object_mut("metadata").set_mut("annotations") {
        if let Some(Value::Array(old)) = take(annotations, METRICS) {
            metrics.extend(old.iter().map(new_metric));
        }
        conditions = take(annotations, CONDITIONS);
        behavior = take(annotations, BEHAVIOR);
        annotations.clear(CURRENT_METRICS);
    }
    if object.at("metadata").map_at("annotations").is_empty() {
        object.object_mut("metadata").clear("annotations");
    }
    let spec = object.object_mut("spec");
    if let Some(percent) = spec.optional_int("targetCPUUtilizationPercentage") {
        let target = json!({ "type": "Utilization", "averageUtilization": percent });
        metrics.insert(0, json!({ "type": "Resource", "resource": { "name": "cpu", "target": target } }));
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
    if let Some(conditions) = conditions {
        status.set("conditions", conditions);
    }
}

/// From v2 to v1.
pub fn to_v1(object: &mut Value) {
    object.set("apiVersion", "autoscaling/v1");
    let mut carried: Vec<(&str, Value)> = Vec::new();
    let spec = object.object_mut("spec");
    let mut others = Vec::new();
    let mut cpu = None;
    for metric in spec.list_at("metrics") {
        match cpu {
            None if is_cpu(metric) => cpu = Some(metric.at("resource").at("target").at("averageUtilization").clone()),
            _ => others.push(old_metric(metric)),
        }
    }
    spec.clear("metrics");
    if let Some(cpu) = cpu {
        spec.set("targetCPUUtilizationPercentage", cpu);
    }
    if !others.is_empty() {
        carried.push((METRICS, Value::Array(others)));
    }
    if let Some(behavior) = spec.get_set("behavior").cloned() {
        carried.push((BEHAVIOR, behavior));
        spec.clear("behavior");
    }
    let status = object.object_mut("status");
    let current = status.list_at("currentMetrics").iter();
    let mut current = current.filter(|metric| metric.at("resource").str_at("name") == "cpu");
    let percent = current.next().map(|metric| metric.at("resource").at("current").at("averageUtilization").clone());
    if let Some(percent) = percent.filter(|percent| !percent.is_null()) {
        status.set("currentCPUUtilizationPercentage", percent);
    }
    status.clear("currentMetrics");
    if !status.list_at("conditions").is_empty() {
        carried.push((CONDITIONS, status.at("conditions").clone()));
    }
    status.clear("conditions");
    for (name, value) in carried {
        object.object_mut("metadata").object_mut("annotations").set(name, value.to_string());
    }
}

fn old_metric(metric: &Value) -> Value {
    let mut old = Map::new();
    old.insert("type".to_owned(), metric.at("type").clone());
    for (source, names) in OLD_NAMES.iter().filter(|(source, _)| metric.has(source)) {
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

fn new_metric(old: &Value) -> Value {
    let mut metric = json!({ "type": old.at("type") });
    for (source, names) in OLD_NAMES.iter().filter(|(source, _)| old.has(source)) {
        let new = metric.object_mut(source);
        for (path, name) in *names {
            let Some(value) = old.at(source).get_set(name) else { continue };
            let (last, steps) = path.split_last().expect("a path has a step");
            let holder = steps.iter().fold(&mut *new, |value, step| value.object_mut(step));
            holder.set(last, value.clone());
        }
        let target = new.object_mut("target");
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
            "status": {},
        });
        let mut object = v2.clone();
        to_v1(&mut object);
        assert_eq!(object["spec"], json!({"maxReplicas": 3, "targetCPUUtilizationPercentage": 50}));
        assert_eq!(
            object["metadata"]["annotations"][METRICS],
            r#"[{"pods":{"metricName":"rps","targetAverageValue":"10"},"type":"Pods"}]"#
        );
        to_v2(&mut object);
        assert_eq!(object, v2);
    }
}
