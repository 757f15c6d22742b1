//! Policy rules, of Roles and ClusterRoles.

use crate::api::{ErrorList, Fields, Path, Report};
use serde_json::Value;

const RULES: Path<'static> = Path::new("rules");

/// `namespaced`: rules cannot be about URLs.
pub fn validate(role: &Value, namespaced: bool, errors: &mut ErrorList) {
    for (index, rule) in role.list_at("rules").iter().enumerate() {
        let path = RULES.index(index);
        let empty = |field: &str| rule.list_at(field).is_empty();
        if empty("verbs") {
            errors.required(&path.child("verbs"), "verbs must contain at least one value");
        }
        if !empty("nonResourceURLs") {
            let urls = rule.at("nonResourceURLs").clone();
            let path = path.child("nonResourceURLs");
            if namespaced {
                let detail = "namespaced rules cannot apply to non-resource URLs";
                errors.invalid(&path, urls.clone(), detail);
            }
            if ["apiGroups", "resources", "resourceNames"].iter().any(|field| !empty(field)) {
                let detail = "rules cannot apply to both regular resources and non-resource URLs";
                errors.invalid(&path, urls, detail);
            }
            continue;
        }
        if empty("apiGroups") {
            errors.required(&path.child("apiGroups"), "resource rules must supply at least one api group");
        }
        if empty("resources") {
            errors.required(&path.child("resources"), "resource rules must supply at least one resource");
        }
    }
}
