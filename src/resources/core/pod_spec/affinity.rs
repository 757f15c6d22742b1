//! Affinity: to nodes by their labels, to and against pods by theirs.

use super::{Options, placement};
use crate::api::names;
use crate::api::{ErrorList, Fields, Path, Report};
use crate::resources::labels;
use serde_json::Value;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub fn validate(affinity: &Value, path: &Path<'_>, options: &Options, errors: &mut ErrorList) {
    if let Some(node) = affinity.get_set("nodeAffinity") {
        let path = path.child("nodeAffinity");
        if let Some(selector) = node.get_set(REQUIRED) {
            node_selector(selector, options.keep_node_affinity_values, &path.child(REQUIRED), errors);
        }
        let list = path.child(PREFERRED);
        for (index, term) in node.list_at(PREFERRED).iter().enumerate() {
            let path = list.index(index);
            weight(term, &path, errors);
            node_selector_term(term.at("preference"), true, &path.child("preference"), errors);
        }
    }
    for field in ["podAffinity", "podAntiAffinity"] {
        let affinity = affinity.at(field);
        let path = path.child(field);
        let list = path.child(REQUIRED);
        for (index, term) in affinity.list_at(REQUIRED).iter().enumerate() {
            pod_term(term, options, &list.index(index), errors);
        }
        let list = path.child(PREFERRED);
        for (index, weighted) in affinity.list_at(PREFERRED).iter().enumerate() {
            let path = list.index(index);
            weight(weighted, &path, errors);
            pod_term(weighted.at("podAffinityTerm"), options, &path.child("podAffinityTerm"), errors);
        }
    }
}

fn weight(term: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let weight = term.int_at("weight");
    if !(1..=100).contains(&weight) {
        errors.invalid(&path.child("weight"), weight, "must be in the range 1-100");
    }
}

/// A NodeSelector: of affinity, of a volume. `lenient`: values need not be label values.
pub fn node_selector(selector: &Value, lenient: bool, path: &Path<'_>, errors: &mut ErrorList) {
    let list = path.child("nodeSelectorTerms");
    let terms = selector.list_at("nodeSelectorTerms");
    if terms.is_empty() {
        errors.required(&list, "must have at least one node selector term");
    }
    for (index, term) in terms.iter().enumerate() {
        node_selector_term(term, lenient, &list.index(index), errors);
    }
}

fn node_selector_term(term: &Value, lenient: bool, path: &Path<'_>, errors: &mut ErrorList) {
    let list = path.child("matchExpressions");
    for (index, requirement) in term.list_at("matchExpressions").iter().enumerate() {
        label_requirement(requirement, lenient, &list.index(index), errors);
    }
    let list = path.child("matchFields");
    for (index, requirement) in term.list_at("matchFields").iter().enumerate() {
        field_requirement(requirement, &list.index(index), errors);
    }
}

fn label_requirement(requirement: &Value, lenient: bool, path: &Path<'_>, errors: &mut ErrorList) {
    let count = requirement.list_at("values").len();
    let values = path.child("values");
    match requirement.str_at("operator") {
        "In" | "NotIn" => {
            if count == 0 {
                errors.required(&values, "must be specified when `operator` is 'In' or 'NotIn'");
            }
        }
        "Exists" | "DoesNotExist" => {
            if count > 0 {
                errors.forbidden(&values, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
            }
        }
        "Gt" | "Lt" => {
            if count != 1 {
                errors.required(&values, "must be specified single value when `operator` is 'Lt' or 'Gt'");
            }
        }
        operator => errors.invalid(&path.child("operator"), operator, "not a valid selector operator"),
    }
    let key = requirement.str_at("key");
    errors.check(&path.child("key"), key, names::qualified_name(key));
    if !lenient {
        for (index, value) in requirement.strs_at("values").enumerate() {
            errors.check(&values.index(index), value, names::label_value(value));
        }
    }
}

fn field_requirement(requirement: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let values = path.child("values");
    match requirement.str_at("operator") {
        "In" | "NotIn" => {
            if requirement.list_at("values").len() != 1 {
                let detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                errors.required(&values, detail);
            }
        }
        operator => errors.invalid(&path.child("operator"), operator, "not a valid selector operator"),
    }
    let key = requirement.str_at("key");
    if key != "metadata.name" {
        errors.invalid(&path.child("key"), key, "not a valid field selector key");
        return;
    }
    for (index, value) in requirement.strs_at("values").enumerate() {
        errors.check(&values.index(index), value, names::dns_subdomain(value));
    }
}

fn pod_term(term: &Value, options: &Options, path: &Path<'_>, errors: &mut ErrorList) {
    for field in ["labelSelector", "namespaceSelector"] {
        labels::selector(term.at(field), options.keep_selector_values, &path.child(field), errors);
    }
    for namespace in term.strs_at("namespaces") {
        errors.check(&path.child("namespace"), namespace, names::dns_label(namespace));
    }
    placement::match_and_mismatch_keys(term, path, errors);
    let key = term.str_at("topologyKey");
    if key.is_empty() {
        errors.required(&path.child("topologyKey"), "can not be empty");
    }
    errors.check(&path.child("topologyKey"), key, names::qualified_name(key));
}
