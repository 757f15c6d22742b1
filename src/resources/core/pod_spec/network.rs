//! DNS, host aliases, host names and host ports.

use super::Options;
use crate::api::{ErrorList, Fields, Path, Report};
use crate::api::{ip, names};
use serde_json::Value;

const NAMESERVERS_LIMIT: usize = 3;
const SEARCHES_LIMIT: usize = 32;
const SEARCH_LIST_LIMIT: usize = 2048;
const HOSTNAME_LIMIT: usize = 64;

pub fn dns_config(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let config = spec.at("dnsConfig");
    let nameservers = path.child("nameservers");
    let count = config.list_at("nameservers").len();
    if spec.str_at("dnsPolicy") == "None" {
        if config.is_null() {
            return errors.required(path, "must provide `dnsConfig` when `dnsPolicy` is None");
        }
        if count == 0 {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            return errors.required(&nameservers, detail);
        }
    }
    if count > NAMESERVERS_LIMIT {
        let detail = format!("must not have more than {NAMESERVERS_LIMIT} nameservers");
        errors.invalid(&nameservers, config.at("nameservers").clone(), detail);
    }
    for (index, address) in config.strs_at("nameservers").enumerate() {
        errors.check(&nameservers.index(index), address, ip::legacy_ip(address));
    }
    let searches = path.child("searches");
    let count = config.list_at("searches").len();
    if count > SEARCHES_LIMIT {
        let detail = format!("must not have more than {SEARCHES_LIMIT} search paths");
        errors.invalid(&searches, config.at("searches").clone(), detail);
    }
    let length = config.strs_at("searches").map(str::len).sum::<usize>() + count.saturating_sub(1);
    if length > SEARCH_LIST_LIMIT {
        let detail =
            format!("must not have more than {SEARCH_LIST_LIMIT} characters (including spaces) in the search list");
        errors.invalid(&searches, config.at("searches").clone(), detail);
    }
    for (index, search) in config.strs_at("searches").enumerate() {
        if search != "." {
            let search = search.strip_suffix('.').unwrap_or(search);
            errors.check(&searches.index(index), search, names::dns_subdomain_with_underscore(search));
        }
    }
    let options = path.child("options");
    for (index, option) in config.list_at("options").iter().enumerate() {
        if option.str_at("name").is_empty() {
            errors.required(&options.index(index), "must not be empty");
        }
    }
}

pub fn host_aliases(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    for (index, alias) in spec.list_at("hostAliases").iter().enumerate() {
        let path = path.index(index);
        let address = alias.str_at("ip");
        errors.check(&path.child("ip"), address, ip::legacy_ip(address));
        let list = path.child("hostnames");
        for (index, name) in alias.strs_at("hostnames").enumerate() {
            errors.check(&list.index(index), name, names::dns_subdomain(name));
        }
    }
}

/// On the host's network a container's port is the host's; in a template it may be left out.
pub fn host_ports_match(spec: &Value, path: &Path<'_>, options: &Options, errors: &mut ErrorList) {
    if !spec.bool_at("hostNetwork") {
        return;
    }
    for (index, container) in spec.list_at("containers").iter().enumerate() {
        let path = path.index(index);
        let list = path.child("ports");
        for (index, port) in container.list_at("ports").iter().enumerate() {
            let host_port = port.int_at("hostPort");
            if (options.is_pod || host_port != 0) && host_port != port.int_at("containerPort") {
                let detail = "must match `containerPort` when `hostNetwork` is true";
                errors.invalid(&list.index(index).child("hostPort"), host_port, detail);
            }
        }
    }
}

pub fn hostname_override(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(name) = spec.optional_str("hostnameOverride") else { return };
    let path = path.child("hostnameOverride");
    if spec.bool_at("setHostnameAsFQDN") {
        errors.forbidden(&path, "may not be specified when setHostnameAsFQDN is true");
    }
    if spec.bool_at("hostNetwork") {
        errors.forbidden(&path, "may not be specified when hostNetwork is true");
    }
    if name.len() > HOSTNAME_LIMIT {
        errors.too_long(&path, HOSTNAME_LIMIT as i64);
    }
    errors.check(&path, name, names::dns_subdomain(name));
}
