//! Tables of the server's, with the columns that the user asks for beside its own.

use crate::api::Fields;
use crate::cli::kubectl::discovery::label;
use crate::cli::kubectl::tab_writer::TabWriter;
use crate::client::Kind;
use crate::resources::cells;
use serde_json::{Value, json};

#[derive(Clone, Debug, Default)]
pub struct TableOptions {
    pub wide: bool,
    pub no_headers: bool,
    pub with_namespace: bool,
    /// `pod/web` in place of `web`.
    pub with_kind: bool,
    pub show_labels: bool,
    /// A column per label.
    pub label_columns: Vec<String>,
}

/// Prints tables one below the other; the columns are shown again only when they change.
pub struct TablePrinter {
    options: TableOptions,
    writer: TabWriter,
    columns: Option<Value>,
    kind: Option<Kind>,
    written: bool,
}

impl TablePrinter {
    pub fn new(options: TableOptions) -> Self {
        Self { options, writer: TabWriter::table(), columns: None, kind: None, written: false }
    }

    /// Something was printed.
    pub fn has_written(&self) -> bool {
        self.written
    }

    /// Adds a table of objects of one kind; what is complete by now is returned.
    pub fn add(&mut self, kind: &Kind, table: &Value) -> String {
        let rows = table.list_at("rows");
        if rows.is_empty() {
            return String::new();
        }
        let mut out = String::new();
        if self.kind.as_ref() != Some(kind) {
            out = self.writer.flush();
            self.writer.forget();
            if self.kind.is_some() && !self.options.no_headers && self.written {
                out.push('\n');
            }
            self.kind = Some(kind.clone());
            self.columns = None;
        }
        let definitions = match table.get_set("columnDefinitions") {
            Some(definitions) if !definitions.items().is_empty() => definitions.clone(),
            _ => self.columns.clone().unwrap_or_default(),
        };
        if self.columns.as_ref() != Some(&definitions) {
            if !self.options.no_headers {
                let line = self.header(kind, &definitions);
                self.writer.line(&line);
            }
            self.columns = Some(definitions.clone());
        }
        for row in rows {
            let line = self.row(kind, &definitions, row);
            self.writer.line(&line);
        }
        self.written = true;
        out
    }

    /// The rest.
    pub fn flush(&mut self) -> String {
        self.writer.flush()
    }

    fn shown<'a>(&self, definitions: &'a Value) -> impl Iterator<Item = (usize, &'a Value)> + use<'a> {
        let wide = self.options.wide;
        definitions.items().iter().enumerate().filter(move |(_, column)| wide || column.int_at("priority") == 0)
    }

    fn header(&self, kind: &Kind, definitions: &Value) -> String {
        let mut cells = Vec::new();
        if self.options.with_namespace && kind.namespaced {
            cells.push("NAMESPACE".to_owned());
        }
        cells.extend(self.shown(definitions).map(|(_, column)| column.str_at("name").to_uppercase()));
        for label in &self.options.label_columns {
            cells.push(label.rsplit('/').next().unwrap_or_default().to_uppercase());
        }
        if self.options.show_labels {
            cells.push("LABELS".to_owned());
        }
        cells.join("\t")
    }

    fn row(&self, kind: &Kind, definitions: &Value, row: &Value) -> String {
        let metadata = row.at("object").at("metadata");
        let mut cells = Vec::new();
        if self.options.with_namespace && kind.namespaced {
            cells.push(metadata.str_at("namespace").to_owned());
        }
        for (at, column) in self.shown(definitions) {
            let text = cell_text(row.list_at("cells").get(at).unwrap_or(&Value::Null));
            let is_name = column.str_at("name") == "Name";
            cells.push(if is_name && self.options.with_kind { format!("{}/{text}", label(kind)) } else { text });
        }
        let labels = metadata.map_at("labels");
        for label in &self.options.label_columns {
            let value = labels.get(label).and_then(Value::as_str).unwrap_or_default();
            cells.push(value.to_owned());
        }
        if self.options.show_labels {
            cells.push(cells::labels(metadata.at("labels")));
        }
        cells.join("\t")
    }
}

/// Only the first line of a text.
fn cell_text(cell: &Value) -> String {
    match cell {
        Value::Null => String::new(),
        Value::String(text) => match text.find(['\n', '\r', '\u{c}']) {
            Some(end) => format!("{}...", &text[..end]),
            None => text.replace('\t', " "),
        },
        value => value.to_string(),
    }
}

/// For an answer that is no Table: name and age, as kubectl shows objects it knows nothing about.
pub fn of_objects(objects: &[Value]) -> Value {
    let now = &cells::Clock::now();
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            json!({ "cells": [cells::name(object), cells::age(object, now)], "object": { "metadata": object["metadata"] } })
        })
        .collect();
    let column = |name: &str| json!({ "name": name, "type": "string", "priority": 0 });
    json!({ "kind": "Table", "columnDefinitions": [column("Name"), column("Age")], "rows": rows })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::kinds;
    use expect_test::expect;

    fn table() -> Value {
        json!({
            "kind": "Table",
            "columnDefinitions": [{"name": "Name", "priority": 0}, {"name": "Ready", "priority": 0}, {"name": "IP", "priority": 1}],
            "rows": [
                {"cells": ["a", "1/1", "10.0.0.1"], "object": {"metadata": {"namespace": "x", "labels": {"app": "web"}}}},
                {"cells": ["long-name", 7, null], "object": {"metadata": {"namespace": "y"}}},
            ],
        })
    }

    fn print(options: TableOptions) -> String {
        let mut printer = TablePrinter::new(options);
        let first = printer.add(&kinds::PODS, &table());
        let second = printer.add(&kinds::SERVICES, &table());
        format!("{first}{second}{}", printer.flush())
    }

    #[test]
    fn kinds_are_apart_and_names_have_theirs() {
        expect![[r#"
            NAME            READY
            pod/a           1/1
            pod/long-name   7

            NAME                READY
            service/a           1/1
            service/long-name   7
        "#]]
        .assert_eq(&print(TableOptions { with_kind: true, ..TableOptions::default() }));
    }

    #[test]
    fn columns_as_asked_for() {
        let options = TableOptions {
            wide: true,
            with_namespace: true,
            show_labels: true,
            label_columns: vec!["example.com/app".to_owned(), "app".to_owned()],
            ..TableOptions::default()
        };
        let mut printer = TablePrinter::new(options);
        printer.add(&kinds::PODS, &table());
        expect![[r#"
            NAMESPACE   NAME        READY   IP         APP   APP   LABELS
            x           a           1/1     10.0.0.1         web   app=web
            y           long-name   7                              <none>
        "#]]
        .assert_eq(&printer.flush());
    }
}
