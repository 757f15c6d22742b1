//! IPAddress: an address of a Service, taken.

use crate::api::names::{self, Messages};
use crate::api::value::same;
use crate::api::{ErrorList, Fields, Path, Report, ip};
use crate::resources::{Column, Resource, Strategy, cells};
use serde_json::Value;
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["ip".into()],
        namespaced: false,
        columns: Column::strings(&["ParentRef"]),
        strategy: Arc::new(IpAddress),
        ..Resource::new("networking.k8s.io", "v1", "IPAddress", "ipaddresses")
    }
}

struct IpAddress;

const SPEC: Path<'static> = Path::new("spec");

impl Strategy for IpAddress {
    fn metadata_checks_on_update(&self) -> usize {
        1
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let path = SPEC.child("parentRef");
        let Some(parent) = object.at("spec").get_set("parentRef") else {
            errors.required(&path, "");
            return errors;
        };
        let group = parent.str_at("group");
        if !group.is_empty() {
            errors.check(&path.child("group"), group, names::dns_subdomain(group));
        }
        for (field, required) in [("resource", true), ("name", true), ("namespace", false)] {
            match parent.str_at(field) {
                "" if required => errors.required(&path.child(field), ""),
                value => errors.check(&path.child(field), value, names::path_segment(value)),
            }
        }
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(object);
        let (parent, before) = (object.at("spec").at("parentRef"), old.at("spec").at("parentRef"));
        if !same(parent, before) {
            errors.invalid(&SPEC.child("parentRef"), parent.clone(), "field is immutable");
        }
        errors
    }

    fn validate_name(&self, name: &str, _: bool) -> Messages {
        ip::ip(name)
    }

    fn selectable_fields(&self) -> &'static [(&'static str, fn(&Value) -> String)] {
        &[
            ("spec.parentRef.group", |address| parent(address, "group")),
            ("spec.parentRef.resource", |address| parent(address, "resource")),
            ("spec.parentRef.namespace", |address| parent(address, "namespace")),
            ("spec.parentRef.name", |address| parent(address, "name")),
        ]
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        let mut shown = cells::NONE.to_owned();
        if let Some(parent) = object.at("spec").get_set("parentRef") {
            let (group, resource) = (parent.str_at("group"), parent.str_at("resource"));
            let resource = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
            let parts = [&resource.to_lowercase(), parent.str_at("namespace"), parent.str_at("name")];
            let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            shown = parts.join("/");
        }
        Some(vec![cells::name(object), shown.into(), cells::age(object, now)])
    }
}

fn parent(address: &Value, field: &str) -> String {
    address.at("spec").at("parentRef").str_at(field).to_owned()
}
