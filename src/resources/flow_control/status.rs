//! The status of both kinds: conditions.

use crate::api::{ErrorList, Fields, Path, Report};
use crate::resources::pipeline::keep_metadata;
use crate::resources::{Context, Strategy};
use serde_json::Value;
use std::collections::BTreeSet;

pub struct Status;

impl Strategy for Status {
    fn reset_fields(&self) -> Option<&'static [&'static str]> {
        Some(&["metadata", "spec"])
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        use crate::api::FieldsMut;
        object.copy("spec", old);
        keep_metadata(object, old);
    }

    fn validate_update(&self, object: &Value, _: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let list = Path::new("status");
        let list = list.child("conditions");
        let mut known = BTreeSet::new();
        for (index, condition) in object.at("status").list_at("conditions").iter().enumerate() {
            let path = list.index(index);
            let kind = condition.str_at("type");
            if !known.insert(kind) {
                errors.duplicate(&path.child("type"), kind);
            }
            if kind.is_empty() {
                errors.required(&path.child("type"), "");
            }
        }
        errors
    }
}
