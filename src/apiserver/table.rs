//! `meta.k8s.io` Tables: what `kubectl get` shows, made by the row's columns and cells.

use super::negotiate::{Output, Transform};
use super::renderings::Renderings;
use super::request::Query;
use crate::api::Status;
use crate::resources::cells::Clock;
use crate::resources::pipeline::metadata_str;
use crate::resources::{Column, Row};
use crate::storage::{Entry, Revision};
use jiff::Timestamp;
use serde_json::{Value, json};

/// `includeObject` of the query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Include {
    None,
    #[default]
    Metadata,
    Object,
}

impl Include {
    /// Of a reply: only a Table has rows that objects go along with.
    pub fn of(output: Output, query: &Query) -> Result<Self, Status> {
        if output.transform != Transform::Table {
            return Ok(Self::default());
        }
        match query.get("includeObject").unwrap_or_default() {
            "None" => Ok(Self::None),
            "Object" => Ok(Self::Object),
            "" | "Metadata" => Ok(Self::Metadata),
            text => Err(Status::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {}: must be 'Metadata', 'Object', 'None', or empty",
                crate::api::field::go_quote(text)
            ))),
        }
    }
}

/// A whole table of parsed objects; `None` in a pair: the object's own metadata goes along.
pub fn of<'a>(
    row: &Row,
    output: Output,
    objects: impl Iterator<Item = (&'a Value, Option<Value>)>,
    metadata: Value,
) -> Value {
    let now = Clock::now();
    let rows: Vec<Value> = objects
        .map(|(object, shown)| {
            let shown = shown.unwrap_or_else(|| {
                json!({
                    "kind": "PartialObjectMetadata",
                    "apiVersion": output.meta_version(),
                    "metadata": super::respond::metadata_of(row, object),
                })
            });
            json!({ "cells": cells(row, object, &now), "object": shown })
        })
        .collect();
    json!({
        "kind": "Table",
        "apiVersion": output.meta_version(),
        "metadata": metadata,
        "columnDefinitions": columns(row),
        "rows": rows,
    })
}

/// `columnDefinitions`.
pub fn columns(row: &Row) -> Value {
    let definition = |column: &Column| {
        json!({
            "name": column.name,
            "type": column.kind,
            "format": column.format,
            "description": column.description,
            "priority": column.priority,
        })
    };
    if row.columns.is_empty() {
        return Column::of_any_kind().iter().map(definition).collect();
    }
    row.columns.iter().map(definition).collect()
}

/// A row's `cells`.
pub fn cells(row: &Row, object: &Value, now: &Clock) -> Value {
    match row.strategy.cells(object, now) {
        Some(cells) => Value::Array(cells),
        None => json!([metadata_str(object, "name"), object["metadata"]["creationTimestamp"]]),
    }
}

/// Writes rows of stored objects, without a copy of an object.
pub struct Rows<'a> {
    renderings: &'a Renderings,
    row: &'a Row,
    include: Include,
    /// What each object begins with.
    head: Vec<u8>,
    now: Timestamp,
}

impl<'a> Rows<'a> {
    pub fn new(renderings: &'a Renderings, row: &'a Row, output: Output, include: Include) -> Self {
        let head = super::respond::partial_head("PartialObjectMetadata", output);
        Self { renderings, row, include, head, now: Timestamp::now() }
    }

    /// An object with a revision: its own, or that of its removal.
    pub fn write(&self, entry: &Entry, revision: Revision, out: &mut Vec<u8>) {
        let body = super::respond::current(self.row, &entry.body);
        out.extend_from_slice(b"{\"cells\":");
        out.extend_from_slice(&self.renderings.cells(self.row, entry, self.now));
        match self.include {
            Include::None => out.extend_from_slice(b",\"object\":null}"),
            Include::Object => {
                out.extend_from_slice(b",\"object\":");
                body.write(revision, out);
                out.push(b'}');
            }
            Include::Metadata => {
                out.extend_from_slice(b",\"object\":");
                out.extend_from_slice(&self.head);
                super::respond::write_metadata(self.row, &body, revision, out);
                out.extend_from_slice(b"}}");
            }
        }
    }
}
