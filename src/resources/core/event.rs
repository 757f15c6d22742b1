//! Event: what happened to an object.

use crate::api::{ErrorList, Fields, Path, Report, names};
use crate::resources::{Column, Resource, Strategy, cells};
use serde_json::Value;
use std::sync::Arc;

const INSTANCE_LIMIT: usize = 128;
const ACTION_LIMIT: usize = 128;
const REASON_LIMIT: usize = 128;
const MESSAGE_LIMIT: usize = 1024;

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["ev".into()],
        columns: columns(),
        strategy: Arc::new(Event),
        ..Resource::new("", "v1", "Event", "events")
    }
}

/// Shared with events.k8s.io.
pub fn columns() -> Vec<Column> {
    let mut columns = Column::strings(&[
        "Last Seen",
        "Type",
        "Reason",
        "Object",
        "+Subobject",
        "+Source",
        "Message",
        "+First Seen",
        "+Count",
    ]);
    let name = columns.remove(0);
    columns.push(name.wide());
    columns
}

struct Event;

impl Strategy for Event {
    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        validate(object, "reportingComponent", &mut errors);
        errors
    }

    fn validates_metadata(&self) -> bool {
        false
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn selectable_fields(&self) -> &'static [(&'static str, fn(&Value) -> String)] {
        SELECTABLE_FIELDS
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        Some(cells(object, now))
    }
}

fn involved(event: &Value, field: &str) -> String {
    event.at("involvedObject").str_at(field).to_owned()
}

pub const SELECTABLE_FIELDS: &[(&str, fn(&Value) -> String)] = &[
    ("involvedObject.kind", |event| involved(event, "kind")),
    ("involvedObject.namespace", |event| involved(event, "namespace")),
    ("involvedObject.name", |event| involved(event, "name")),
    ("involvedObject.uid", |event| involved(event, "uid")),
    ("involvedObject.apiVersion", |event| involved(event, "apiVersion")),
    ("involvedObject.resourceVersion", |event| involved(event, "resourceVersion")),
    ("involvedObject.fieldPath", |event| involved(event, "fieldPath")),
    ("reason", |event| event.str_at("reason").to_owned()),
    ("reportingComponent", |event| event.str_at("reportingComponent").to_owned()),
    ("source", |event| {
        let component = event.at("source").str_at("component");
        if component.is_empty() { event.str_at("reportingComponent").to_owned() } else { component.to_owned() }
    }),
    ("type", |event| event.str_at("type").to_owned()),
];

/// What every event must satisfy; it is in its core form. `reporter`: the name of
/// reportingComponent in the version of the request.
pub fn validate(event: &Value, reporter: &str, errors: &mut ErrorList) {
    let namespace = event.at("metadata").str_at("namespace");
    let of_object = event.at("involvedObject").str_at("namespace");
    let mismatch = |errors: &mut ErrorList| {
        let path = Path::new("involvedObject");
        errors.invalid(&path.child("namespace"), of_object, "does not match event.namespace");
    };
    if !event.has("eventTime") {
        let fits = if of_object.is_empty() { ["", "default"].contains(&namespace) } else { namespace == of_object };
        if !fits {
            mismatch(errors);
        }
    } else {
        if of_object.is_empty() && !["default", "kube-system"].contains(&namespace) {
            mismatch(errors);
        }
        let controller = event.str_at("reportingComponent");
        if controller.is_empty() {
            errors.required(&Path::new(reporter), "");
        }
        errors.check(&Path::new(reporter), controller, names::qualified_name(controller));
        for (field, limit) in
            [("reportingInstance", INSTANCE_LIMIT), ("action", ACTION_LIMIT), ("reason", REASON_LIMIT)]
        {
            if event.str_at(field).is_empty() {
                errors.required(&Path::new(field), "");
            }
            at_most(event, field, limit, errors);
        }
        at_most(event, "message", MESSAGE_LIMIT, errors);
    }
    errors.check(&Path::new("namespace"), namespace, names::dns_subdomain(namespace));
}

fn at_most(event: &Value, field: &str, limit: usize, errors: &mut ErrorList) {
    if event.str_at(field).len() > limit {
        errors.invalid(&Path::new(field), "", format!("can have at most {limit} characters"));
    }
}

/// The row of an event in its core form.
pub fn cells(event: &Value, now: &cells::Clock) -> Vec<Value> {
    let first = [event.str_at("firstTimestamp"), event.str_at("eventTime")];
    let first = cells::since(first.into_iter().find(|time| !time.is_empty()).unwrap_or_default(), now);
    let last = event.str_at("lastTimestamp");
    let mut last = if last.is_empty() { first.clone() } else { cells::since(last, now) };
    let mut count = event.int_at("count").max(i64::from(event.int_at("count") == 0));
    if let Some(series) = event.get_set("series") {
        last = cells::since(series.str_at("lastObservedTime"), now);
        count = series.int_at("count");
    }
    let object = event.at("involvedObject");
    let kind = object.str_at("kind").to_lowercase();
    let target = if object.str_at("name").is_empty() { kind } else { format!("{kind}/{}", object.str_at("name")) };
    let either = |a: &Value, b: &str| {
        [a.as_str().unwrap_or_default(), event.str_at(b)]
            .into_iter()
            .find(|text| !text.is_empty())
            .unwrap_or_default()
            .to_owned()
    };
    let component = either(event.at("source").at("component"), "reportingComponent");
    let instance = either(event.at("source").at("host"), "reportingInstance");
    let source = if instance.is_empty() { component } else { format!("{component}, {instance}") };
    vec![
        last.into(),
        event.str_at("type").into(),
        event.str_at("reason").into(),
        target.into(),
        object.str_at("fieldPath").into(),
        source.into(),
        event.str_at("message").trim().into(),
        first.into(),
        count.into(),
        cells::name(event),
    ]
}
