//! ServiceCIDR: a range of Service addresses.

use crate::api::{ErrorList, Fields, FieldsMut, Path, Report, ip};
use crate::resources::pipeline::keep_metadata;
use crate::resources::{Column, Context, Resource, Strategy, Subresource, cells};
use serde_json::{Value, json};
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        namespaced: false,
        status: true,
        subresources: vec![Subresource::status()],
        columns: Column::strings(&["CIDRs", "Age"]),
        strategy: Arc::new(ServiceCidr),
        ..Resource::new("networking.k8s.io", "v1", "ServiceCIDR", "servicecidrs")
    }
}

struct ServiceCidr;

const SPEC: Path<'static> = Path::new("spec");
const IMMUTABLE: &str = "field is immutable";

impl Strategy for ServiceCidr {
    fn prepare_create(&self, object: &mut Value, _: &Context) {
        object.set("status", json!({}));
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("status", old);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let path = SPEC.child("cidrs");
        let ranges: Vec<&str> = object.at("spec").strs_at("cidrs").collect();
        if ranges.is_empty() {
            errors.required(&path, "at least one CIDR required");
        } else if ranges.len() > 2 {
            errors.invalid(&path, object.at("spec").clone(), "may only hold up to 2 values");
        } else {
            for (index, range) in ranges.iter().enumerate() {
                errors.check(&path.index(index), range, ip::cidr(range));
            }
            let parsed: Vec<ip::Cidr> = ranges.iter().filter_map(|range| ip::Cidr::parse_sloppy(range)).collect();
            if let [first, second] = parsed.as_slice()
                && first.address.is_ipv4() == second.address.is_ipv4()
            {
                let detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
                errors.invalid(&path, object.at("spec").at("cidrs").clone(), detail);
            }
        }
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let path = SPEC.child("cidrs");
        let new: Vec<&str> = object.at("spec").strs_at("cidrs").collect();
        let before: Vec<&str> = old.at("spec").strs_at("cidrs").collect();
        let grows = before.len() == 1 && new.len() == 2;
        if !grows && new.len() != before.len() {
            errors.invalid(&path, object.at("spec").at("cidrs").clone(), IMMUTABLE);
            return errors;
        }
        for (index, (new, _)) in new.iter().zip(&before).enumerate().filter(|(_, (new, before))| new != before) {
            errors.invalid(&path.index(index), *new, IMMUTABLE);
        }
        if grows {
            errors.extend(self.validate(object));
        }
        errors
    }

    fn status(&self) -> Option<&dyn Strategy> {
        Some(&Status)
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        let ranges: Vec<&str> = object.at("spec").strs_at("cidrs").collect();
        Some(vec![cells::name(object), ranges.join(",").into(), cells::age(object, now)])
    }
}

struct Status;

impl Strategy for Status {
    fn reset_fields(&self) -> Option<&'static [&'static str]> {
        Some(&["metadata", "spec"])
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("spec", old);
        keep_metadata(object, old);
    }

    fn validate_update(&self, _: &Value, _: &Value) -> ErrorList {
        ErrorList::new()
    }
}
