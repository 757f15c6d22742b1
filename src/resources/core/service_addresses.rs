//! Cluster addresses and address families of a Service: what may be asked for and what may change.

use super::service::{is_headless, kind};
use crate::api::ip;
use crate::api::{ErrorList, Fields, Path, Report};
use serde_json::Value;
use std::collections::BTreeSet;

const SPEC: Path<'static> = Path::new("spec");
const FAMILIES: &[&str] = &["IPv4", "IPv6"];
const POLICIES: &[&str] = &["PreferDualStack", "RequireDualStack", "SingleStack"];

/// `ValidateServiceClusterIPsRelatedFields`; also asked before addresses are allocated.
pub fn validate(object: &Value, old: Option<&Value>, errors: &mut ErrorList) {
    if kind(object) == "ExternalName" {
        return;
    }
    let spec = object.at("spec");
    let path = SPEC.child("clusterIPs");
    let list = spec.at("clusterIPs").clone();
    let (first, addresses) = (spec.str_at("clusterIP"), spec.strs_at("clusterIPs").collect::<Vec<_>>());
    match (first, addresses.first()) {
        ("", Some(_)) => errors.invalid(&path, list.clone(), "must be empty when `clusterIP` is not specified"),
        ("", None) => {}
        (_, None) => errors.required(&path, ""),
        (first, Some(head)) if *head != first => {
            errors.invalid(&path, list.clone(), "first value must match `clusterIP`");
        }
        _ => {}
    }
    families(spec, errors);
    let known: Vec<&str> = old.map(|old| old.at("spec").strs_at("clusterIPs").collect()).unwrap_or_default();
    let before = errors.len();
    let mut misplaced = false;
    for (index, address) in addresses.iter().enumerate() {
        if index == 0 && *address == "None" {
            if addresses.len() > 1 {
                misplaced = true;
                errors.invalid(&path, list.clone(), "'None' must be the first and only value");
            }
        } else if !known.contains(address) {
            errors.check(&path.index(index), address, ip::legacy_ip(address));
        }
    }
    let invalid = misplaced || errors.len() > before;
    if addresses.len() > 2 {
        errors.invalid(&path, list.clone(), "may only hold up to 2 values");
    }
    if invalid {
        return;
    }
    let is_v6 = |address: &str| ip::parse_sloppy(address).is_some_and(|address| address.is_ipv6());
    if addresses.len() > 1 {
        let mixed = addresses.iter().any(|address| is_v6(address)) && !addresses.iter().all(|address| is_v6(address));
        if !mixed {
            errors.invalid(&path, list, "may specify no more than one IP for each IP family");
        }
    }
    if is_headless(object) {
        return;
    }
    for (index, (address, family)) in addresses.iter().zip(spec.strs_at("ipFamilies")).enumerate() {
        let fits = match family {
            "IPv4" => !is_v6(address),
            "IPv6" => is_v6(address),
            _ => true,
        };
        if !fits {
            let detail = format!("expected an {family} value as indicated by `ipFamilies[{index}]`");
            errors.invalid(&path.index(index), *address, detail);
        }
    }
}

fn families(spec: &Value, errors: &mut ErrorList) {
    let list = SPEC.child("ipFamilies");
    let mut seen = BTreeSet::new();
    for (index, family) in spec.strs_at("ipFamilies").enumerate() {
        let path = list.index(index);
        errors.one_of(&path, family, FAMILIES);
        if !seen.insert(family) {
            errors.duplicate(&path, family);
        }
    }
    if let Some(policy) = spec.optional_str("ipFamilyPolicy") {
        errors.one_of(&SPEC.child("ipFamilyPolicy"), policy, POLICIES);
    }
}

/// The first address and family stay; a second may come and, with `SingleStack`, go.
pub fn validate_change(object: &Value, old: &Value, errors: &mut ErrorList) {
    if [object, old].iter().any(|service| kind(service) == "ExternalName") {
        return;
    }
    let headless = (is_headless(old), is_headless(object));
    if headless != (true, true) {
        change(object, old, "clusterIPs", "clusterIP", errors);
    }
    if headless == (false, false) {
        change(object, old, "ipFamilies", "ipFamily", errors);
    }
}

fn change(object: &Value, old: &Value, field: &str, one: &str, errors: &mut ErrorList) {
    const CHANGED: &str = "may not change once set";
    let path = SPEC.child(field);
    let spec = object.at("spec");
    let list: Vec<&str> = spec.strs_at(field).collect();
    let before: Vec<&str> = old.at("spec").strs_at(field).collect();
    let shown = spec.at(field).clone();
    if before.len() == list.len() {
        for (index, _) in before.iter().zip(&list).enumerate().filter(|(_, (before, new))| before != new) {
            let index = if field == "ipFamilies" { 0 } else { index };
            errors.invalid(&path.index(index), shown.clone(), CHANGED);
        }
        return;
    }
    let released = before.len() > list.len();
    if released && spec.list_at("clusterIPs").is_empty() {
        let detail = format!("primary {one} can not be unset");
        errors.invalid(&path.index(0), shown.clone(), detail);
    }
    if let (Some(first), Some(was)) = (list.first(), before.first())
        && first != was
    {
        errors.invalid(&path.index(0), spec.at("clusterIPs").clone(), CHANGED);
    }
    if released && list.len() == 1 && spec.str_at("ipFamilyPolicy") != "SingleStack" {
        let detail = format!("must be set to 'SingleStack' when releasing the secondary {one}");
        errors.invalid(&SPEC.child("ipFamilyPolicy"), spec.at("ipFamilyPolicy").clone(), detail);
    }
}
