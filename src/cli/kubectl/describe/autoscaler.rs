//! A HorizontalPodAutoscaler (v2).

use super::page::{Page, line};
use super::rows::Row::{Annotations, Labels, Or, Text, Time};
use super::rows::{NAME, NAMESPACE, show};
use super::{Lists, quoted};
use crate::api::Fields;
use serde_json::Value;

pub(super) fn print(autoscaler: &Value, _: &Lists, page: &mut Page) {
    let (spec, status) = (autoscaler.at("spec"), autoscaler.at("status"));
    let target = spec.at("scaleTargetRef");
    page.rows(
        0,
        autoscaler,
        &[NAME, NAMESPACE, Labels, Annotations, Time("CreationTimestamp", "/metadata/creationTimestamp")],
    );
    line!(page, 0, "Reference:\t{}/{}", target.str_at("kind"), target.str_at("name"));
    line!(page, 0, "Metrics:\t( current / target )");
    for (at, metric) in spec.list_at("metrics").iter().enumerate() {
        line!(page, 1, "{}", metric_line(metric, status.list_at("currentMetrics").get(at).unwrap_or(&Value::Null)));
    }
    page.rows(
        0,
        autoscaler,
        &[Or("Min replicas", "/spec/minReplicas", "<unset>"), Text("Max replicas", "/spec/maxReplicas")],
    );
    if let Some(behavior) = spec.get_set("behavior") {
        line!(page, 0, "Behavior:");
        for (title, field) in [("Scale Up", "scaleUp"), ("Scale Down", "scaleDown")] {
            if let Some(rules) = behavior.get_set(field) {
                direction(title, rules, page);
            }
        }
    }
    line!(
        page,
        0,
        "{} pods:\t{} current / {} desired",
        target.str_at("kind"),
        status.int_at("currentReplicas"),
        status.int_at("desiredReplicas")
    );
    let conditions = status.list_at("conditions");
    if !conditions.is_empty() {
        line!(page, 0, "Conditions:");
        line!(page, 1, "Type\tStatus\tReason\tMessage");
        line!(page, 1, "----\t------\t------\t-------");
        for condition in conditions {
            let cells = ["type", "status", "reason", "message"].map(|field| condition.str_at(field));
            line!(page, 1, "{}", cells.join("\t"));
        }
    }
}

/// `resource cpu on pods  (as a percentage of request):\t<unknown> / 50%`.
fn metric_line(metric: &Value, current: &Value) -> String {
    let kind = metric.str_at("type");
    let Some(first) = kind.chars().next() else { return "<unknown metric type \"\">".to_owned() };
    let field = format!("{}{}", first.to_lowercase(), &kind[first.len_utf8()..]);
    let (source, current) = (metric.at(&field), current.at(&field).at("current"));
    let target = source.at("target");
    let name = source.at("metric").str_at("name");
    // An amount, and what it is now.
    let amounts = |field: &str| {
        let now = current.get_set(field).map_or_else(|| "<unknown>".to_owned(), show);
        format!(":\t{now} / {}", show(target.at(field)))
    };
    let average = |plain: &str, averaged: &str, by_average: bool| match by_average {
        true => format!("{averaged}{}", amounts("averageValue")),
        false => format!("{plain}{}", amounts("value")),
    };
    let resource = || {
        if target.has("averageValue") {
            return amounts("averageValue");
        }
        let now = current.optional_int("averageUtilization").map_or_else(
            || "<unknown>".to_owned(),
            |utilization| format!("{utilization}% ({})", show(current.at("averageValue"))),
        );
        let wanted = target
            .optional_int("averageUtilization")
            .map_or_else(|| "<auto>".to_owned(), |utilization| format!("{utilization}%"));
        format!("  (as a percentage of request):\t{now} / {wanted}")
    };
    match kind {
        "External" => {
            let amount = average(" (target value)", " (target average value)", target.has("averageValue"));
            format!("{}{amount}", quoted(name))
        }
        "Pods" => format!("{} on pods{}", quoted(name), amounts("averageValue")),
        "Object" => {
            let object = source.at("describedObject");
            let by_average = target.str_at("type") == "AverageValue";
            let amount = average(" (target value)", " (target average value)", by_average);
            format!("\"{name}\" on {}/{}{amount}", object.str_at("kind"), object.str_at("name"))
        }
        "Resource" => format!("resource {} on pods{}", source.str_at("name"), resource()),
        "ContainerResource" => format!(
            "resource {} of container \"{}\" on pods{}",
            source.str_at("name"),
            source.str_at("container"),
            resource()
        ),
        kind => format!("<unknown metric type {}>", quoted(kind)),
    }
}

fn direction(title: &str, rules: &Value, page: &mut Page) {
    line!(page, 1, "{title}:");
    if let Some(seconds) = rules.optional_int("stabilizationWindowSeconds") {
        line!(page, 2, "Stabilization Window: {seconds} seconds");
    }
    if rules.list_at("policies").is_empty() {
        return;
    }
    line!(page, 2, "Select Policy: {}", rules.optional_str("selectPolicy").unwrap_or("Max"));
    line!(page, 2, "Policies:");
    for policy in rules.list_at("policies") {
        line!(
            page,
            3,
            "- Type: {}\tValue: {}\tPeriod: {} seconds",
            policy.str_at("type"),
            policy.int_at("value"),
            policy.int_at("periodSeconds")
        );
    }
}
