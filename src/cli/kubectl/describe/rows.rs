//! Pages as tables: a row is a title and where its value stands in the object.

use super::page::{Page, line, time};
use crate::api::Fields;
use crate::resources::cells;
use serde_json::Value;

/// A row of a page; paths are JSON pointers.
pub enum Row {
    /// `Title: value`, also where there is none.
    Text(&'static str, &'static str),
    /// `Title: value`, only where there is one.
    If(&'static str, &'static str),
    /// What stands in place of a value that is not there.
    Or(&'static str, &'static str, &'static str),
    /// `True` or `False`.
    Flag(&'static str, &'static str),
    Seconds(&'static str, &'static str),
    Time(&'static str, &'static str),
    /// `a=b,c=d`.
    Pairs(&'static str, &'static str),
    Selector(&'static str, &'static str),
    Labels,
    Annotations,
}

/// How most pages begin.
pub const NAME: Row = Row::Text("Name", "/metadata/name");
pub const NAMESPACE: Row = Row::Text("Namespace", "/metadata/namespace");

impl Page {
    /// `level` is of all rows.
    pub fn rows(&mut self, level: usize, object: &Value, rows: &[Row]) {
        for row in rows {
            let (title, text) = match *row {
                Row::Labels => {
                    self.labels("Labels", object.at("metadata").at("labels"));
                    continue;
                }
                Row::Annotations => {
                    self.annotations("Annotations", object.at("metadata").at("annotations"));
                    continue;
                }
                Row::Text(title, path) => (title, Some(show(at(object, path)))),
                Row::If(title, path) => (title, set(object, path).map(show)),
                Row::Or(title, path, other) => (title, Some(set(object, path).map_or_else(|| other.to_owned(), show))),
                Row::Flag(title, path) => {
                    (title, Some(at(object, path).as_bool().map_or("<unset>", true_or_false).to_owned()))
                }
                Row::Seconds(title, path) => (title, set(object, path).map(|value| show(value) + "s")),
                Row::Time(title, path) => {
                    (title, set(object, path).map(|value| time(value.as_str().unwrap_or_default())))
                }
                Row::Pairs(title, path) => (title, Some(cells::labels(at(object, path)))),
                Row::Selector(title, path) => (title, Some(cells::selector(at(object, path)))),
            };
            if let Some(text) = text {
                line!(self, level, "{title}:\t{text}");
            }
        }
    }
}

fn at<'a>(object: &'a Value, path: &str) -> &'a Value {
    object.pointer(path).unwrap_or(&Value::Null)
}

fn set<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    object.pointer(path).filter(|value| !value.is_null())
}

fn true_or_false(flag: bool) -> &'static str {
    if flag { "True" } else { "False" }
}

/// Go's `%v`.
pub fn show(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(" ")),
        value => value.to_string(),
    }
}
