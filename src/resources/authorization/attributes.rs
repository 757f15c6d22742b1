//! What the access reviews share: what is asked about, and by whom.

use crate::api::{ErrorList, Fields, Path, Report, names};
use serde_json::Value;

const SPEC: Path<'static> = Path::new("spec");
const RESOURCE: Path<'static> = Path::new("spec.resourceAttributes");

/// `somebody`: the review names the user.
pub fn validate(spec: &Value, somebody: bool, errors: &mut ErrorList) {
    let (resource, url) = (spec.has("resourceAttributes"), spec.get_set("nonResourceAttributes"));
    if let (true, Some(url)) = (resource, url) {
        let detail = "cannot be specified in combination with resourceAttributes";
        errors.invalid(&SPEC.child("nonResourceAttributes"), url.clone(), detail);
    }
    if !resource && url.is_none() {
        let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        errors.invalid(&SPEC.child("resourceAttributes"), Value::Null, detail);
    }
    if somebody && spec.str_at("user").is_empty() && spec.list_at("groups").is_empty() {
        errors.invalid(&SPEC.child("user"), "", "at least one of user or group must be specified");
    }
    let attributes = spec.at("resourceAttributes");
    for (field, labels) in [("fieldSelector", false), ("labelSelector", true)] {
        if let Some(selector) = attributes.get_set(field) {
            self::selector(selector, labels, &RESOURCE.child(field), errors);
        }
    }
}

fn selector(selector: &Value, labels: bool, path: &Path<'_>, errors: &mut ErrorList) {
    let raw = selector.str_at("rawSelector");
    let requirements = selector.list_at("requirements");
    if !raw.is_empty() && !requirements.is_empty() {
        let detail = "may not specified at the same time as requirements";
        errors.invalid(&path.child("rawSelector"), raw, detail);
    }
    let list = path.child("requirements");
    if raw.is_empty() && requirements.is_empty() {
        errors.required(&list, format!("when {path} is specified, requirements or rawSelector is required"));
    }
    for (index, requirement) in requirements.iter().enumerate() {
        let path = list.index(index);
        let key = requirement.str_at("key");
        if !labels && key.is_empty() {
            errors.required(&path.child("key"), "must be specified");
        }
        let values = requirement.list_at("values");
        match requirement.str_at("operator") {
            "In" | "NotIn" if values.is_empty() => {
                errors.required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.forbidden(&path.child("values"), detail);
            }
            _ => {}
        }
        if labels {
            errors.check(&path.child("key"), key, names::qualified_name(key));
            let list = path.child("values");
            for (index, value) in requirement.strs_at("values").enumerate() {
                errors.check(&list.index(index), value, names::label_value(value));
            }
        }
    }
}

/// A review is no object: it has no metadata, but for what the pipeline fills in.
pub fn empty_metadata(review: &Value, except: &[&str], detail: &str, errors: &mut ErrorList) {
    const FILLED: &[&str] = &["managedFields", "creationTimestamp", "uid"];
    let metadata = review.at("metadata");
    let set = |name: &String| metadata.has(name) && metadata.at(name).as_str() != Some("");
    let mut names = metadata.entries().keys().filter(|name| set(name));
    if names.any(|name| !FILLED.contains(&name.as_str()) && !except.contains(&name.as_str())) {
        errors.invalid(&Path::new("metadata"), metadata.clone(), detail);
    }
}
