//! Role: what may be done in a namespace.

use super::rules;
use crate::api::ErrorList;
use crate::api::names::{self, Messages};
use crate::resources::{Resource, Strategy};
use serde_json::Value;
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource { strategy: Arc::new(Role), ..Resource::new("rbac.authorization.k8s.io", "v1", "Role", "roles") }
}

struct Role;

impl Strategy for Role {
    fn metadata_checks_on_update(&self) -> usize {
        1
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        rules::validate(object, true, &mut errors);
        errors
    }

    fn validate_name(&self, name: &str, _: bool) -> Messages {
        names::path_segment(name)
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}
