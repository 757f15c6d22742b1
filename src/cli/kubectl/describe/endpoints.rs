//! Endpoints and EndpointSlices.

use super::Lists;
use super::page::{Page, line, or_none};
use crate::api::Fields;
use serde_json::Value;

pub(super) fn print(endpoints: &Value, _: &Lists, page: &mut Page) {
    page.head(endpoints);
    line!(page, 0, "Subsets:");
    for subset in endpoints.list_at("subsets") {
        for (title, field) in [("Addresses", "addresses"), ("NotReadyAddresses", "notReadyAddresses")] {
            let addresses: Vec<&str> = subset.list_at(field).iter().map(|address| address.str_at("ip")).collect();
            line!(page, 1, "{title}:\t{}", or_none(&addresses.join(",")));
        }
        if !subset.list_at("ports").is_empty() {
            line!(page, 1, "Ports:");
            line!(page, 2, "Name\tPort\tProtocol");
            line!(page, 2, "----\t----\t--------");
            for port in subset.list_at("ports") {
                let name = unset(port.optional_str("name"));
                line!(page, 2, "{name}\t{}\t{}", port.int_at("port"), port.str_at("protocol"));
            }
        }
        line!(page, 0, "");
    }
}

pub(super) fn print_slice(slice: &Value, _: &Lists, page: &mut Page) {
    page.head(slice);
    line!(page, 0, "AddressType:\t{}", slice.str_at("addressType"));
    if slice.list_at("ports").is_empty() {
        line!(page, 0, "Ports: <unset>");
    } else {
        line!(page, 0, "Ports:");
        line!(page, 1, "Name\tPort\tProtocol");
        line!(page, 1, "----\t----\t--------");
        for port in slice.list_at("ports") {
            let number = port.optional_int("port").map_or_else(|| "<unset>".to_owned(), |port| port.to_string());
            line!(page, 1, "{}\t{number}\t{}", unset(port.optional_str("name")), port.str_at("protocol"));
        }
    }
    if slice.list_at("endpoints").is_empty() {
        line!(page, 0, "Endpoints: <none>");
        return;
    }
    line!(page, 0, "Endpoints:");
    for endpoint in slice.list_at("endpoints") {
        let addresses: Vec<&str> = endpoint.strs_at("addresses").collect();
        line!(page, 1, "- Addresses:\t{}", addresses.join(", "));
        line!(page, 2, "Conditions:");
        let ready = endpoint.at("conditions").optional_bool("ready").map(|ready| ready.to_string());
        line!(page, 3, "Ready:\t{}", unset(ready.as_deref()));
        line!(page, 2, "Hostname:\t{}", unset(endpoint.optional_str("hostname")));
        if let Some(target) = endpoint.get_set("targetRef") {
            line!(page, 2, "TargetRef:\t{}/{}", target.str_at("kind"), target.str_at("name"));
        }
        line!(page, 2, "NodeName:\t{}", unset(endpoint.optional_str("nodeName")));
        line!(page, 2, "Zone:\t{}", unset(endpoint.optional_str("zone")));
    }
}

fn unset(text: Option<&str>) -> &str {
    text.filter(|text| !text.is_empty()).unwrap_or("<unset>")
}
