//! ClusterRole: what may be done anywhere.

use super::rules;
use crate::api::names::{self, Messages};
use crate::api::{ErrorList, Fields, Path, Report};
use crate::resources::{Resource, Strategy, labels};
use serde_json::Value;
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        namespaced: false,
        strategy: Arc::new(ClusterRole),
        ..Resource::new("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles")
    }
}

struct ClusterRole;

const SELECTORS: &str = "clusterRoleSelectors";

impl Strategy for ClusterRole {
    fn metadata_checks_on_update(&self) -> usize {
        1
    }

    fn validate(&self, object: &Value) -> ErrorList {
        validate(object, false)
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let selectors = old.at("aggregationRule").list_at(SELECTORS);
        validate(object, selectors.iter().any(labels::selector_has_invalid_value))
    }

    fn validate_name(&self, name: &str, _: bool) -> Messages {
        names::path_segment(name)
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}

fn validate(object: &Value, lenient: bool) -> ErrorList {
    let mut errors = ErrorList::new();
    rules::validate(object, false, &mut errors);
    let Some(aggregation) = object.get_set("aggregationRule") else { return errors };
    let path = Path::new("aggregationRule");
    let path = path.child(SELECTORS);
    let selectors = aggregation.list_at(SELECTORS);
    if selectors.is_empty() {
        errors.required(&path, "at least one clusterRoleSelector required if aggregationRule is non-nil");
    }
    for (index, selector) in selectors.iter().enumerate() {
        let path = path.index(index);
        labels::selector(selector, lenient, &path, &mut errors);
        if !labels::selector_is_usable(selector) {
            errors.invalid(&path, Value::Null, "invalid label selector.");
        }
    }
    errors
}
