//! Labels, annotations and label selectors below `spec`: of templates, of affinities.
//!
//! Source: `k8s.io/apimachinery/pkg/apis/meta/v1/validation`. Those of an object's own metadata are
//! checked by the pipeline.

use crate::api::names;
use crate::api::{ErrorList, Fields, Path, Report};
use serde_json::Value;

const ANNOTATIONS_LIMIT: usize = 256 << 10;

pub fn labels(labels: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    for (key, value) in labels.entries() {
        let value = value.as_str().unwrap_or_default();
        errors.check(path, key, names::qualified_name(key));
        errors.check(path, value, names::label_value(value));
    }
}

pub fn annotations(annotations: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let mut size = 0;
    for (key, value) in annotations.entries() {
        errors.check(path, key, names::qualified_name(&key.to_lowercase()));
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > ANNOTATIONS_LIMIT {
        errors.too_long(path, ANNOTATIONS_LIMIT as i64);
    }
}

/// The metadata of a template of one object: it has labels and annotations, and nothing else.
pub fn template(metadata: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    // In Go's order; Kubernetes lowers one letter of a name.
    const FIELDS: &[(&str, &str)] = &[
        ("name", "name"),
        ("generateName", "generateName"),
        ("namespace", "namespace"),
        ("selfLink", "selfLink"),
        ("uid", "uID"),
        ("resourceVersion", "resourceVersion"),
        ("generation", "generation"),
        ("creationTimestamp", "creationTimestamp"),
        ("deletionTimestamp", "deletionTimestamp"),
        ("deletionGracePeriodSeconds", "deletionGracePeriodSeconds"),
        ("ownerReferences", "ownerReferences"),
        ("finalizers", "finalizers"),
        ("managedFields", "managedFields"),
    ];
    annotations(metadata.at("annotations"), &path.child("annotations"), errors);
    labels(metadata.at("labels"), &path.child("labels"), errors);
    for (field, shown) in FIELDS {
        let value = metadata.at(field);
        let is_unset = value.is_null() || value == "" || *field == "generation" && value == 0;
        if !is_unset {
            errors.forbidden(&path.child(shown), "cannot be set");
        }
    }
}

/// A LabelSelector; an absent one is valid. `lenient`: an old object has label values that are no
/// longer taken, so values are not looked at.
pub fn selector(selector: &Value, lenient: bool, path: &Path<'_>, errors: &mut ErrorList) {
    labels(selector.at("matchLabels"), &path.child("matchLabels"), errors);
    let list = path.child("matchExpressions");
    for (index, requirement) in selector.list_at("matchExpressions").iter().enumerate() {
        requirement_of(requirement, lenient, &list.index(index), errors);
    }
}

fn requirement_of(requirement: &Value, lenient: bool, path: &Path<'_>, errors: &mut ErrorList) {
    let values = requirement.list_at("values");
    let operator = requirement.str_at("operator");
    match operator {
        "In" | "NotIn" if values.is_empty() => {
            errors.required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            errors
                .forbidden(&path.child("values"), "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        _ => errors.invalid(&path.child("operator"), operator, "not a valid selector operator"),
    }
    let key = requirement.str_at("key");
    errors.check(&path.child("key"), key, names::qualified_name(key));
    if !lenient {
        let list = path.child("values");
        for (index, value) in requirement.strs_at("values").enumerate() {
            errors.check(&list.index(index), value, names::label_value(value));
        }
    }
}

/// Whether an expression of the selector holds a value that is no label value.
pub fn selector_has_invalid_value(selector: &Value) -> bool {
    let expressions = selector.list_at("matchExpressions").iter();
    expressions
        .flat_map(|expression| expression.list_at("values"))
        .any(|value| !names::label_value(value.as_str().unwrap_or_default()).is_empty())
}

/// Whether objects can be matched against the selector at all.
pub fn selector_is_usable(selector: &Value) -> bool {
    let mut errors = ErrorList::new();
    self::selector(selector, false, &Path::root(), &mut errors);
    errors.is_empty()
}

/// Whether the labels of a map satisfy a LabelSelector; an absent one selects nothing.
pub fn selector_matches(selector: &Value, labels: &Value) -> bool {
    if selector.is_null() {
        return false;
    }
    let value = |key: &str| labels.optional_str(key);
    selector.map_at("matchLabels").iter().all(|(key, wanted)| value(key) == wanted.as_str())
        && selector.list_at("matchExpressions").iter().all(|expression| {
            let found = value(expression.str_at("key"));
            let listed = found.is_some_and(|found| expression.strs_at("values").any(|value| value == found));
            match expression.str_at("operator") {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => found.is_some(),
                _ => found.is_none(),
            }
        })
}
