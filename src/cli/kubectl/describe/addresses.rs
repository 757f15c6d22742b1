//! IPAddresses and ServiceCIDRs.

use super::Lists;
use super::page::{Page, line, time};
use crate::api::Fields;
use serde_json::Value;

pub(super) fn print_ip_address(address: &Value, _: &Lists, page: &mut Page) {
    page.head(address);
    let parent = address.at("spec").at("parentRef");
    line!(page, 0, "Parent Reference:");
    for (title, field) in [("Group", "group"), ("Resource", "resource"), ("Namespace", "namespace"), ("Name", "name")] {
        line!(page, 1, "{title}:\t{}", parent.str_at(field));
    }
}

pub(super) fn print_service_cidr(cidr: &Value, _: &Lists, page: &mut Page) {
    page.head(cidr);
    line!(page, 0, "CIDRs:\t{}", cidr.at("spec").strs_at("cidrs").collect::<Vec<_>>().join(", "));
    let conditions = cidr.at("status").list_at("conditions");
    if conditions.is_empty() {
        return;
    }
    line!(page, 0, "Status:");
    line!(page, 0, "Conditions:");
    line!(page, 1, "Type\tStatus\tLastTransitionTime\tReason\tMessage");
    line!(page, 1, "----\t------\t------------------\t------\t-------");
    for condition in conditions {
        let (kind, status, reason) = (condition.str_at("type"), condition.str_at("status"), condition.str_at("reason"));
        let changed = time(condition.str_at("lastTransitionTime"));
        line!(page, 1, "{kind}\t{status}\t{changed}\t{reason}\t{}", condition.str_at("message"));
    }
}
