//! ClusterRoleBinding: gives a ClusterRole everywhere.

use super::subjects;
use crate::api::ErrorList;
use crate::api::names::{self, Messages};
use crate::resources::{Column, Resource, Strategy};
use serde_json::Value;
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        namespaced: false,
        columns: Column::strings(&["Role", "Age", "+Users", "+Groups", "+ServiceAccounts"]),
        strategy: Arc::new(ClusterRoleBinding),
        ..Resource::new("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings")
    }
}

struct ClusterRoleBinding;

impl Strategy for ClusterRoleBinding {
    fn metadata_checks_on_update(&self) -> usize {
        1
    }

    fn default(&self, object: &mut Value) {
        subjects::default(object);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        subjects::validate(object, &["ClusterRole"], false)
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(object);
        subjects::same_role(object, old, &mut errors);
        errors
    }

    fn validate_name(&self, name: &str, _: bool) -> Messages {
        names::path_segment(name)
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn cells(&self, object: &Value, now: &crate::resources::cells::Clock) -> Option<Vec<Value>> {
        Some(subjects::cells(object, now))
    }
}
