//! Event in `events.k8s.io/v1`: the core Event under other names, and with stricter rules.

use crate::api::value::same;
use crate::api::{ErrorList, Fields, Path, Report};
use crate::resources::core::event;
use crate::resources::{Resource, Strategy};
use serde_json::Value;
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["ev".into()],
        columns: event::columns(),
        stored_as: Some(event::resource().gvr()),
        strategy: Arc::new(Event),
        ..Resource::new("events.k8s.io", "v1", "Event", "events")
    }
}

struct Event;

/// Names here and in the core group.
const NAMES: &[(&str, &str)] = &[
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("reportingController", "reportingComponent"),
];
/// In their core names, in the order of the checks; the last two have other names here.
const UNCHANGEABLE: &[&str] = &[
    "involvedObject",
    "reason",
    "message",
    "source",
    "firstTimestamp",
    "lastTimestamp",
    "count",
    "reason",
    "type",
    "eventTime",
    "action",
    "related",
    "reportingComponent",
    "reportingInstance",
];

fn rename(object: &mut Value, api_version: &str, names: impl Iterator<Item = (&'static str, &'static str)>) {
    let Some(fields) = object.as_object_mut() else { return };
    for (from, to) in names {
        if let Some(value) = fields.remove(from) {
            fields.insert(to.to_owned(), value);
        }
    }
    fields.insert("apiVersion".to_owned(), api_version.into());
}

impl Strategy for Event {
    fn to_stored(&self, object: &mut Value) {
        rename(object, "v1", NAMES.iter().copied());
    }

    fn from_stored(&self, object: &mut Value) {
        rename(object, "events.k8s.io/v1", NAMES.iter().map(|(here, core)| (*core, *here)));
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        event::validate(object, "reportingController", &mut errors);
        series(object, &mut errors);
        if !object.has("eventTime") {
            errors.required(&Path::new("eventTime"), "");
        }
        let kind = object.str_at("type");
        if !["Normal", "Warning"].contains(&kind) {
            errors.invalid(&Path::new("type"), "", format!("has invalid value: {kind}"));
        }
        for field in ["firstTimestamp", "lastTimestamp"] {
            if object.has(field) {
                errors.invalid(&Path::new(field), "", "needs to be unset");
            }
        }
        if object.int_at("count") != 0 {
            errors.invalid(&Path::new("count"), "", "needs to be unset");
        }
        let source = object.at("source");
        if ["component", "host"].iter().any(|field| !source.str_at(field).is_empty()) {
            errors.invalid(&Path::new("source"), "", "needs to be unset");
        }
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        event::validate(object, "reportingController", &mut errors);
        if !same(object.at("series"), old.at("series")) {
            series(object, &mut errors);
        }
        for field in UNCHANGEABLE {
            let name = if *field == "reportingComponent" { "reportingController" } else { field };
            let is_text = ["reason", "action", "message", "type", "reportingComponent", "reportingInstance"];
            let (path, value, before) = (Path::new(name), object.at(field), old.at(field));
            if is_text.contains(field) {
                // Some of them are always written in one version, and in the other never where they are empty.
                if object.str_at(field) != old.str_at(field) {
                    errors.immutable_text(&path, value, before);
                }
            } else {
                errors.immutable(&path, value, before);
            }
        }
        errors
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn selectable_fields(&self) -> &'static [(&'static str, fn(&Value) -> String)] {
        event::SELECTABLE_FIELDS
    }

    fn renamed_fields(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("reason", "reason"),
            ("regarding.kind", "involvedObject.kind"),
            ("regarding.namespace", "involvedObject.namespace"),
            ("regarding.name", "involvedObject.name"),
            ("regarding.uid", "involvedObject.uid"),
            ("regarding.apiVersion", "involvedObject.apiVersion"),
            ("regarding.resourceVersion", "involvedObject.resourceVersion"),
            ("regarding.fieldPath", "involvedObject.fieldPath"),
            ("reportingController", "reportingComponent"),
            ("type", "type"),
        ]
    }

    fn cells(&self, object: &Value, now: &crate::resources::cells::Clock) -> Option<Vec<Value>> {
        let mut core = object.clone();
        self.to_stored(&mut core);
        Some(event::cells(&core, now))
    }
}

fn series(object: &Value, errors: &mut ErrorList) {
    let Some(series) = object.get_set("series") else { return };
    if series.int_at("count") < 2 {
        errors.invalid(&Path::new("series.count"), "", "should be at least 2");
    }
    if !series.has("lastObservedTime") {
        errors.required(&Path::new("series.lastObservedTime"), "");
    }
}
