//! APIServices: which are not to be reached, as their status says.

use crate::api::{Fields, GroupResource};
use crate::storage::{Prefix, Storage};
use std::fmt::Write;

pub fn write(storage: &dyn Storage, out: &mut String) {
    let name = "aggregator_unavailable_apiservice";
    let help = "[ALPHA] Gauge of APIServices which are marked as unavailable broken down by APIService name.";
    let services = GroupResource::new("apiregistration.k8s.io", "apiservices");
    let snapshot = storage.snapshot();
    let mut line = |text: std::fmt::Arguments<'_>| out.write_fmt(text).expect("a String takes it");
    line(format_args!("# HELP {name} {help}\n# TYPE {name} gauge\n"));
    for entry in snapshot.range(&Prefix::resource(&services), None) {
        let service = entry.body.parse();
        let conditions = service.at("status").list_at("conditions");
        let available = conditions.iter().find(|condition| condition.str_at("type") == "Available");
        let unavailable = u8::from(available.is_some_and(|condition| condition.str_at("status") == "False"));
        line(format_args!("{name}{{name=\"{}\"}} {unavailable}\n", service.at("metadata").str_at("name")));
    }
}
