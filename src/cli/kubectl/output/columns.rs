//! `-o custom-columns=NAME:.metadata.name,…`

use crate::api::jsonpath::Expression;
use crate::cli::kubectl::failure::{Failure, Outcome};
use crate::cli::kubectl::tab_writer::TabWriter;
use crate::schema::go_print;
use serde_json::Value;

#[derive(Clone, Debug)]
pub struct Columns {
    columns: Vec<(String, Expression)>,
    no_headers: bool,
}

impl Columns {
    pub fn parse(text: &str, no_headers: bool) -> Outcome<Self> {
        let mut columns = Vec::new();
        for part in text.split(',') {
            let Some((header, path)) = part.split_once(':') else {
                return Err(Failure::local(format!(
                    "unexpected custom-columns spec: {part}, expected <header>:<json-path-expr>"
                )));
            };
            columns.push((header.to_owned(), expression(path)?));
        }
        Ok(Self { columns, no_headers })
    }

    /// Two lines: headers, and the paths below them.
    pub fn parse_file(text: &str, no_headers: bool) -> Outcome<Self> {
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        let words = |line: Option<&str>| -> Vec<String> {
            line.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
        };
        let (headers, paths) = (words(lines.next()), words(lines.next()));
        if headers.is_empty() || headers.len() != paths.len() {
            return Err(Failure::local(format!(
                "number of headers ({}) and field specifications ({}) don't match",
                headers.len(),
                paths.len()
            )));
        }
        let columns = headers.into_iter().zip(paths);
        let columns = columns.map(|(header, path)| Ok((header, expression(&path)?))).collect::<Outcome<_>>()?;
        Ok(Self { columns, no_headers })
    }

    pub fn print<'a>(&self, objects: impl Iterator<Item = &'a Value>) -> String {
        let mut writer = TabWriter::table();
        if !self.no_headers {
            let headers: Vec<&str> = self.columns.iter().map(|(header, _)| header.as_str()).collect();
            writer.line(&headers.join("\t"));
        }
        for object in objects {
            let cells: Vec<String> = self.columns.iter().map(|(_, path)| cell(path, object)).collect();
            writer.line(&cells.join("\t"));
        }
        writer.flush()
    }
}

fn expression(path: &str) -> Outcome<Expression> {
    Expression::parse_relaxed(path).map_err(Failure::local)
}

fn cell(path: &Expression, object: &Value) -> String {
    let values = path.select(object);
    if values.is_empty() {
        return "<none>".to_owned();
    }
    values.iter().map(|value| go_print(value)).collect::<Vec<_>>().join(",")
}
