//! A Namespace, with its quotas and limits.

use super::page::{Page, line};
use super::{Lists, Related, Select};
use crate::api::Fields;
use crate::api::jsonpath::to_text;
use crate::client::kinds;
use serde_json::Value;
use std::collections::BTreeSet;

fn inside(namespace: &Value) -> Select {
    Select { namespace: namespace.at("metadata").str_at("name").to_owned(), ..Select::default() }
}

pub(super) const RELATED: &[Related] = &[
    Related { name: "quotas", kind: kinds::RESOURCE_QUOTAS, select: inside },
    Related { name: "limits", kind: kinds::LIMIT_RANGES, select: inside },
];

pub(super) fn print(namespace: &Value, lists: &Lists, page: &mut Page) {
    let metadata = namespace.at("metadata");
    line!(page, 0, "Name:\t{}", metadata.str_at("name"));
    page.labels("Labels", metadata.at("labels"));
    page.annotations("Annotations", metadata.at("annotations"));
    line!(page, 0, "Status:\t{}", namespace.at("status").str_at("phase"));
    let conditions = namespace.at("status").list_at("conditions");
    if !conditions.is_empty() {
        line!(page, 0, "Conditions:");
        line!(page, 1, "Type\tStatus\tLastTransitionTime\tReason\tMessage");
        line!(page, 1, "----\t------\t------------------\t------\t-------");
        for condition in conditions {
            let text = |field: &str| condition.str_at(field).to_owned();
            let time = super::page::time(condition.str_at("lastTransitionTime"));
            line!(page, 1, "{}\t{}\t{time}\t{}\t{}", text("type"), text("status"), text("reason"), text("message"));
        }
    }
    if let Some(all) = lists.get("quotas") {
        line!(page, 0, "");
        quotas(all, page);
    }
    if let Some(all) = lists.get("limits") {
        line!(page, 0, "");
        limits(all, page);
    }
}

fn quotas(quotas: &[Value], page: &mut Page) {
    if quotas.is_empty() {
        line!(page, 0, "No resource quota.");
        return;
    }
    line!(page, 0, "Resource Quotas");
    for quota in quotas {
        line!(page, 1, "Name:\t{}", quota.at("metadata").str_at("name"));
        line!(page, 1, "Resource\tUsed\tHard");
        line!(page, 1, "--------\t---\t---");
        let status = quota.at("status");
        for (name, hard) in status.map_at("hard") {
            let used = to_text(status.at("used").at(name));
            line!(page, 1, "{name}\t{used}\t{}", to_text(hard));
        }
    }
}

fn limits(ranges: &[Value], page: &mut Page) {
    if ranges.is_empty() {
        line!(page, 0, "No LimitRange resource.");
        return;
    }
    line!(page, 0, "Resource Limits");
    line!(page, 0, " Type\tResource\tMin\tMax\tDefault Request\tDefault Limit\tMax Limit/Request Ratio");
    line!(page, 0, " ----\t--------\t---\t---\t---------------\t-------------\t-----------------------");
    const COLUMNS: &[&str] = &["min", "max", "defaultRequest", "default", "maxLimitRequestRatio"];
    for item in ranges.iter().flat_map(|range| range.at("spec").list_at("limits")) {
        let names: BTreeSet<&String> = COLUMNS.iter().flat_map(|field| item.map_at(field).keys()).collect();
        for name in names {
            let cells: Vec<String> = COLUMNS
                .iter()
                .map(|field| item.at(field).get_set(name).map_or_else(|| "-".to_owned(), to_text))
                .collect();
            line!(page, 0, " {}\t{name}\t{}", item.str_at("type"), cells.join("\t"));
        }
    }
}
