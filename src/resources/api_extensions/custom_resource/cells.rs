//! Printer columns: a path into the object and how its value is shown.

use crate::api::Fields;
use crate::api::jsonpath::{Expression, to_text};
use crate::resources::cells::{Clock, since};
use crate::resources::{Column, columns};
use serde_json::Value;

/// One column of a definition.
pub struct Cell {
    kind: String,
    path: Expression,
}

/// The columns of a version, the name before them, and the cells of all but the name. A path that
/// does not read leaves the name alone, as Kubernetes does.
pub fn columns(version: &Value) -> (Vec<Column>, Vec<Cell>) {
    let name = Column { description: columns::description("*", "Name"), ..Column::name() };
    let made = if version.list_at("additionalPrinterColumns").is_empty() {
        let age =
            Column { kind: "date".into(), description: columns::description("*", "Age"), ..Column::string("Age") };
        one(age, ".metadata.creationTimestamp").map(|one| vec![one])
    } else {
        version.list_at("additionalPrinterColumns").iter().map(declared).collect()
    };
    let (mut columns, mut cells) = (vec![name], Vec::new());
    for (column, cell) in made.unwrap_or_default() {
        columns.push(column);
        cells.push(cell);
    }
    (columns, cells)
}

fn declared(column: &Value) -> Option<(Column, Cell)> {
    let path = column.str_at("jsonPath");
    let text = |field: &str| column.str_at(field).to_owned();
    let description = match column.str_at("description") {
        "" => format!("Custom resource definition column (in JSONPath format): {path}"),
        text => text.to_owned(),
    };
    let made = Column {
        name: text("name").into(),
        kind: text("type").into(),
        format: text("format").into(),
        description: description.into(),
        priority: column.int_at("priority") as i32,
    };
    one(made, path)
}

fn one(column: Column, path: &str) -> Option<(Column, Cell)> {
    let cell = Cell { kind: column.kind.to_string(), path: Expression::parse(path).ok()? };
    Some((column, cell))
}

impl Cell {
    pub fn of(&self, object: &Value, now: &Clock) -> Value {
        let found = self.path.select(object);
        let Some(value) = found.first() else { return Value::Null };
        match (self.kind.as_str(), value) {
            ("string", value) => to_text(value).into(),
            ("integer", Value::Number(number)) => match number.as_i64() {
                Some(whole) => whole.into(),
                None => (number.as_f64().unwrap_or_default() as i64).into(),
            },
            ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
            ("date", Value::String(text)) if text.is_empty() => since(text, now).into(),
            ("date", Value::String(text)) => match text.parse::<jiff::Timestamp>() {
                Ok(time) => now.passed(time).into(),
                Err(_) => "<invalid>".into(),
            },
            _ => Value::Null,
        }
    }
}
