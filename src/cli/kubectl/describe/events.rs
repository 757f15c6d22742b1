//! The events of an object, oldest first.

use super::page::{Page, line};
use crate::api::Fields;
use crate::resources::cells::{Clock, since};
use jiff::Timestamp;
use serde_json::Value;

pub fn print(events: &[Value], page: &mut Page, now: &Clock) {
    if events.is_empty() {
        line!(page, 0, "Events:\t<none>");
        return;
    }
    page.break_columns();
    let mut events: Vec<&Value> = events.iter().collect();
    events.sort_by_key(|event| event.str_at("lastTimestamp").parse::<Timestamp>().ok());
    line!(page, 0, "Events:");
    line!(page, 1, "Type\tReason\tAge\tFrom\tMessage");
    line!(page, 1, "----\t------\t----\t----\t-------");
    for event in events {
        let source = match event.at("source").str_at("component") {
            "" => event.str_at("reportingComponent"),
            component => component,
        };
        let (kind, reason, message) = (event.str_at("type"), event.str_at("reason"), event.str_at("message").trim());
        let message = match event.at("involvedObject").str_at("fieldPath") {
            "" => message.to_owned(),
            field => format!("{field}: {message}"),
        };
        line!(page, 1, "{kind}\t{reason}\t{}\t{source}\t{message}", interval(event, now));
    }
}

/// How long ago, and how often since when.
fn interval(event: &Value, now: &Clock) -> String {
    let first = match event.str_at("eventTime") {
        "" => since(event.str_at("firstTimestamp"), now),
        time => since(time, now),
    };
    if let Some(series) = event.get_set("series") {
        return format!("{} (x{} over {first})", since(series.str_at("lastObservedTime"), now), series.int_at("count"));
    }
    match event.int_at("count") {
        count @ 2.. => format!("{} (x{count} over {first})", since(event.str_at("lastTimestamp"), now)),
        _ => first,
    }
}
