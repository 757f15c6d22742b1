//! A Namespace, with its quotas and limits.

use super::page::{Page, line};
use super::{Lists, Related, Select, limits};
use crate::api::Fields;
use crate::client::kinds;
use serde_json::Value;

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
        limits::quotas(all, page);
    }
    if let Some(all) = lists.get("limits") {
        line!(page, 0, "");
        limits::limit_ranges(all, page);
    }
}
