//! ResourceQuotas, LimitRanges and PodDisruptionBudgets: their own pages, and what the page of a
//! namespace says of the first two.

use super::Lists;
use super::page::{Page, line};
use super::rows::Row::{self, If, Text};
use super::rows::{NAME, NAMESPACE};
use crate::api::Fields;
use crate::api::jsonpath::to_text;
use crate::resources::cells;
use serde_json::Value;
use std::collections::BTreeSet;

/// What the scopes of a quota mean.
const SCOPES: &[(&str, &str)] = &[
    (
        "Terminating",
        "Matches all pods that have an active deadline. These pods have a limited lifespan on a node before being actively terminated by the system.",
    ),
    (
        "NotTerminating",
        "Matches all pods that do not have an active deadline. These pods usually include long running pods whose container command is not expected to terminate.",
    ),
    (
        "BestEffort",
        "Matches all pods that do not have resource requirements set. These pods have a best effort quality of service.",
    ),
    (
        "NotBestEffort",
        "Matches all pods that have at least one resource requirement set. These pods have a burstable or guaranteed quality of service.",
    ),
];

pub(super) fn print_quota(quota: &Value, _: &Lists, page: &mut Page) {
    page.rows(0, quota, &[NAME, NAMESPACE]);
    usage(quota, 0, " * ", "----\t----", page);
}

pub(super) fn quotas(quotas: &[Value], page: &mut Page) {
    if quotas.is_empty() {
        line!(page, 0, "No resource quota.");
        return;
    }
    line!(page, 0, "Resource Quotas");
    for quota in quotas {
        page.rows(1, quota, &[NAME]);
        usage(quota, 1, "* ", "---\t---", page);
    }
}

fn usage(quota: &Value, level: usize, bullet: &str, rule: &str, page: &mut Page) {
    let mut scopes: Vec<&str> = quota.at("spec").strs_at("scopes").collect();
    scopes.sort_unstable();
    if !scopes.is_empty() {
        line!(page, level, "Scopes:\t{}", scopes.join(", "));
    }
    for (_, text) in scopes.iter().filter_map(|scope| SCOPES.iter().find(|(name, _)| name == scope)) {
        line!(page, level, "{bullet}{text}");
    }
    line!(page, level, "Resource\tUsed\tHard");
    line!(page, level, "--------\t{rule}");
    let status = quota.at("status");
    for (name, hard) in status.map_at("hard") {
        let used = status.at("used").get_set(name).map_or_else(|| "0".to_owned(), to_text);
        line!(page, level, "{name}\t{used}\t{}", to_text(hard));
    }
}

const TITLES: &str = "Type\tResource\tMin\tMax\tDefault Request\tDefault Limit\tMax Limit/Request Ratio";
const RULES: &str = "----\t--------\t---\t---\t---------------\t-------------\t-----------------------";

pub(super) fn print_limit_range(range: &Value, _: &Lists, page: &mut Page) {
    page.rows(0, range, &[NAME, NAMESPACE]);
    limit_lines("", std::slice::from_ref(range), page);
}

pub(super) fn limit_ranges(ranges: &[Value], page: &mut Page) {
    if ranges.is_empty() {
        line!(page, 0, "No LimitRange resource.");
        return;
    }
    line!(page, 0, "Resource Limits");
    limit_lines(" ", ranges, page);
}

fn limit_lines(space: &str, ranges: &[Value], page: &mut Page) {
    line!(page, 0, "{space}{TITLES}");
    line!(page, 0, "{space}{RULES}");
    const COLUMNS: &[&str] = &["min", "max", "defaultRequest", "default", "maxLimitRequestRatio"];
    for item in ranges.iter().flat_map(|range| range.at("spec").list_at("limits")) {
        let names: BTreeSet<&String> = COLUMNS.iter().flat_map(|field| item.map_at(field).keys()).collect();
        for name in names {
            let cells: Vec<String> = COLUMNS
                .iter()
                .map(|field| item.at(field).get_set(name).map_or_else(|| "-".to_owned(), to_text))
                .collect();
            line!(page, 0, "{space}{}\t{name}\t{}", item.str_at("type"), cells.join("\t"));
        }
    }
}

pub(super) fn print_budget(budget: &Value, _: &Lists, page: &mut Page) {
    page.rows(0, budget, &[NAME, NAMESPACE]);
    page.rows(0, budget, &[If("Min available", "/spec/minAvailable"), If("Max unavailable", "/spec/maxUnavailable")]);
    match budget.at("spec").get_set("selector") {
        Some(selector) => line!(page, 0, "Selector:\t{}", cells::selector(selector)),
        None => line!(page, 0, "Selector:\t<unset>"),
    }
    const STATUS: &[Row] = &[
        Text("Allowed disruptions", "/disruptionsAllowed"),
        Text("Current", "/currentHealthy"),
        Text("Desired", "/desiredHealthy"),
        Text("Total", "/expectedPods"),
    ];
    line!(page, 0, "Status:");
    page.rows(2, budget.at("status"), STATUS);
}
