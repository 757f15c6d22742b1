//! A NetworkPolicy: what comes in, what goes out.

use super::Lists;
use super::page::{Page, line};
use super::rows::Row::{Annotations, Labels};
use super::rows::{NAME, NAMESPACE, show};
use crate::api::Fields;
use crate::resources::cells;
use serde_json::Value;

pub(super) fn print(policy: &Value, _: &Lists, page: &mut Page) {
    let spec = policy.at("spec");
    page.rows(0, policy, &[NAME, NAMESPACE]);
    line!(page, 0, "Created on:\t{}", created(policy.at("metadata").str_at("creationTimestamp")));
    page.rows(0, policy, &[Labels, Annotations]);
    line!(page, 0, "Spec:");
    match cells::selector(spec.at("podSelector")).as_str() {
        "<none>" => {
            line!(page, 1, "PodSelector:     <none> (Allowing the specific traffic to all pods in this namespace)");
        }
        selector => line!(page, 1, "PodSelector:     {selector}"),
    }
    let types: Vec<&str> = spec.strs_at("policyTypes").collect();
    for way in [
        Way { kind: "Ingress", rules: "ingress", peers: "from", peer: "From", what: "source" },
        Way { kind: "Egress", rules: "egress", peers: "to", peer: "To", what: "destination" },
    ] {
        if types.contains(&way.kind) {
            line!(page, 1, "Allowing {} traffic:", way.rules);
            way.print(spec.list_at(way.rules), page);
        } else {
            line!(page, 1, "Not affecting {} traffic", way.rules);
        }
    }
    line!(page, 1, "Policy Types: {}", types.join(", "));
}

/// As Go prints a time: `2026-11-20 21:55:47 +0000 UTC`, in the user's time zone.
fn created(text: &str) -> String {
    text.parse::<jiff::Timestamp>().map_or_else(
        |_| text.to_owned(),
        |time| time.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string(),
    )
}

/// Into the pods or out of them.
struct Way {
    kind: &'static str,
    rules: &'static str,
    peers: &'static str,
    peer: &'static str,
    what: &'static str,
}

impl Way {
    fn print(&self, rules: &[Value], page: &mut Page) {
        if rules.is_empty() {
            line!(page, 2, "<none> (Selected pods are isolated for {} connectivity)", self.rules);
        }
        for (at, rule) in rules.iter().enumerate() {
            if at > 0 {
                line!(page, 2, "----------");
            }
            if rule.list_at("ports").is_empty() {
                line!(page, 2, "To Port: <any> (traffic allowed to all ports)");
            }
            for port in rule.list_at("ports") {
                let number = port.get_set("port").map_or_else(|| "<nil>".to_owned(), show);
                let protocol = port.optional_str("protocol").unwrap_or("TCP");
                match port.optional_int("endPort") {
                    None => line!(page, 2, "To Port: {number}/{protocol}"),
                    Some(end) => line!(page, 2, "To Port Range: {number}-{end}/{protocol}"),
                }
            }
            if rule.list_at(self.peers).is_empty() {
                line!(page, 2, "{}: <any> (traffic not restricted by {})", self.peer, self.what);
            }
            for peer in rule.list_at(self.peers) {
                line!(page, 2, "{}:", self.peer);
                for (title, field) in [("NamespaceSelector", "namespaceSelector"), ("PodSelector", "podSelector")] {
                    if let Some(selector) = peer.get_set(field) {
                        line!(page, 3, "{title}: {}", cells::selector(selector));
                    }
                }
                if let Some(block) = peer.get_set("ipBlock") {
                    line!(page, 3, "IPBlock:");
                    line!(page, 4, "CIDR: {}", block.str_at("cidr"));
                    line!(page, 4, "Except: {}", block.strs_at("except").collect::<Vec<_>>().join(", "));
                }
            }
        }
    }
}
