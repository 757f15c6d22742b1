//! A Service, with its endpoints port by port.

use super::page::{Page, line, or_none};
use super::{Lists, Related, Select};
use crate::api::Fields;
use crate::client::kinds;
use crate::resources::cells;
use serde_json::Value;

/// More endpoints of a port are counted only.
const SHOWN: usize = 3;

pub(super) const RELATED: &[Related] = &[Related {
    name: "slices",
    kind: kinds::ENDPOINT_SLICES,
    select: |service| Select {
        namespace: service.at("metadata").str_at("namespace").to_owned(),
        labels: format!("kubernetes.io/service-name={}", service.at("metadata").str_at("name")),
        ..Select::default()
    },
}];

pub(super) fn print(service: &Value, lists: &Lists, page: &mut Page) {
    let spec = service.at("spec");
    let joined = |field: &str, separator: &str| spec.strs_at(field).collect::<Vec<_>>().join(separator);
    page.head(service);
    line!(page, 0, "Selector:\t{}", cells::labels(spec.at("selector")));
    line!(page, 0, "Type:\t{}", spec.str_at("type"));
    if spec.has("ipFamilyPolicy") {
        line!(page, 0, "IP Family Policy:\t{}", spec.str_at("ipFamilyPolicy"));
    }
    line!(page, 0, "IP Families:\t{}", or_none(&joined("ipFamilies", ",")));
    line!(page, 0, "IP:\t{}", spec.str_at("clusterIP"));
    line!(page, 0, "IPs:\t{}", or_none(&joined("clusterIPs", ",")));
    if !spec.list_at("externalIPs").is_empty() {
        line!(page, 0, "External IPs:\t{}", joined("externalIPs", ","));
    }
    for (title, field) in [("Desired LoadBalancer IP", "loadBalancerIP"), ("External Name", "externalName")] {
        if !spec.str_at(field).is_empty() {
            line!(page, 0, "{title}:\t{}", spec.str_at(field));
        }
    }
    let ingress = service.at("status").at("loadBalancer").list_at("ingress");
    if !ingress.is_empty() {
        let texts: Vec<String> = ingress
            .iter()
            .map(|one| match (one.str_at("ip"), one.optional_str("ipMode")) {
                ("", _) => one.str_at("hostname").to_owned(),
                (address, Some(mode)) => format!("{address} ({mode})"),
                (address, None) => address.to_owned(),
            })
            .collect();
        line!(page, 0, "LoadBalancer Ingress:\t{}", texts.join(", "));
    }
    let slices: Vec<&Value> = lists.items("slices").iter().collect();
    for port in spec.list_at("ports") {
        let protocol = port.str_at("protocol");
        let name = if port.str_at("name").is_empty() { "<unset>" } else { port.str_at("name") };
        line!(page, 0, "Port:\t{name}\t{}/{protocol}", port.int_at("port"));
        line!(page, 0, "TargetPort:\t{}/{protocol}", crate::api::jsonpath::to_text(port.at("targetPort")));
        if port.int_at("nodePort") != 0 {
            line!(page, 0, "NodePort:\t{name}\t{}/{protocol}", port.int_at("nodePort"));
        }
        line!(page, 0, "Endpoints:\t{}", endpoints(&slices, port.str_at("name")));
    }
    line!(page, 0, "Session Affinity:\t{}", spec.str_at("sessionAffinity"));
    for (title, field) in
        [("External Traffic Policy", "externalTrafficPolicy"), ("Internal Traffic Policy", "internalTrafficPolicy")]
    {
        if !spec.str_at(field).is_empty() {
            line!(page, 0, "{title}:\t{}", spec.str_at(field));
        }
    }
    if spec.int_at("healthCheckNodePort") != 0 {
        line!(page, 0, "HealthCheck NodePort:\t{}", spec.int_at("healthCheckNodePort"));
    }
    if !spec.list_at("loadBalancerSourceRanges").is_empty() {
        line!(page, 0, "LoadBalancer Source Ranges:\t{}", joined("loadBalancerSourceRanges", ","));
    }
}

/// `10.42.0.5:80,10.42.0.6:80 + 2 more...`
pub(super) fn endpoints(slices: &[&Value], port_name: &str) -> String {
    if slices.is_empty() {
        return "<none>".to_owned();
    }
    let mut all = Vec::new();
    for slice in slices {
        let mut ports = slice.list_at("ports").iter().filter(|port| port.str_at("name") == port_name).peekable();
        let endpoints = slice.list_at("endpoints").iter();
        let ready = endpoints.filter(|endpoint| endpoint.at("conditions").optional_bool("ready") != Some(false));
        let addresses: Vec<&str> = ready.flat_map(|endpoint| endpoint.strs_at("addresses")).collect();
        if slice.list_at("ports").is_empty() {
            all.extend(addresses.iter().map(|address| (*address).to_owned()));
        }
        for port in ports.by_ref() {
            for address in &addresses {
                let host = if address.contains(':') { format!("[{address}]") } else { (*address).to_owned() };
                all.push(format!("{host}:{}", port.int_at("port")));
            }
        }
    }
    let more = all.len().saturating_sub(SHOWN);
    let shown = all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(",");
    if more > 0 { format!("{shown} + {more} more...") } else { shown }
}
