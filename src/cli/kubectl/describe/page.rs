//! A page of `Key:\tvalue` lines in columns.

use crate::api::Fields;
use crate::cli::kubectl::tab_writer::TabWriter;
use jiff::Timestamp;
use serde_json::Value;

/// What `apply` writes, and nobody wants to read.
const SKIPPED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const LONGEST_ANNOTATION: usize = 140;

pub struct Page {
    writer: TabWriter,
    done: String,
}

impl Default for Page {
    fn default() -> Self {
        Self { writer: TabWriter::page(), done: String::new() }
    }
}

/// A line of a page, two spaces deep for each level.
macro_rules! line {
    ($page:expr, $level:expr, $($text:tt)*) => {
        $page.line($level, &format!($($text)*))
    };
}
pub(super) use line;

impl Page {
    /// Its columns are parted by tabs.
    pub fn with_tabs() -> Self {
        Self { writer: TabWriter::raw(), done: String::new() }
    }

    pub fn line(&mut self, level: usize, text: &str) {
        self.writer.line(&format!("{}{text}", "  ".repeat(level)));
    }

    /// What follows has columns of its own.
    pub fn break_columns(&mut self) {
        let text = self.writer.flush();
        self.done.push_str(&text);
    }

    pub fn finish(mut self) -> String {
        self.break_columns();
        self.done
    }

    /// `title:\tk=v`, one per line.
    pub fn labels(&mut self, title: &str, labels: &Value) {
        let lines = labels.entries().iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
        self.list(title, lines.collect());
    }

    /// One line per entry; `<none>` where there is none.
    pub fn list(&mut self, title: &str, entries: Vec<String>) {
        if entries.is_empty() {
            line!(self, 0, "{title}:\t<none>");
        }
        for (at, entry) in entries.iter().enumerate() {
            if at == 0 {
                line!(self, 0, "{title}:\t{entry}");
            } else {
                line!(self, 0, "\t{entry}");
            }
        }
    }

    pub fn annotations(&mut self, title: &str, annotations: &Value) {
        let mut entries = Vec::new();
        for (key, value) in annotations.entries().iter().filter(|(key, _)| *key != SKIPPED) {
            let value = value.as_str().unwrap_or_default();
            let value = value.strip_suffix('\n').unwrap_or(value);
            if key.len() + value.len() + 2 > LONGEST_ANNOTATION || value.contains('\n') {
                entries.push(format!("{key}:"));
                entries.extend(value.split('\n').map(|line| format!("  {}", cut(line, LONGEST_ANNOTATION - 2))));
            } else {
                entries.push(format!("{key}: {value}"));
            }
        }
        self.list(title, entries);
    }

    /// Name, namespace, labels and annotations: how most pages begin.
    pub fn head(&mut self, object: &Value) {
        let metadata = object.at("metadata");
        line!(self, 0, "Name:\t{}", metadata.str_at("name"));
        if metadata.has("namespace") {
            line!(self, 0, "Namespace:\t{}", metadata.str_at("namespace"));
        }
        self.labels("Labels", metadata.at("labels"));
        self.annotations("Annotations", metadata.at("annotations"));
    }
}

/// No longer than a value on a page may be.
pub fn shorten(text: &str) -> String {
    cut(text, LONGEST_ANNOTATION)
}

fn cut(text: &str, length: usize) -> String {
    match text.char_indices().nth(length) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

pub fn or_none(text: &str) -> &str {
    if text.is_empty() { "<none>" } else { text }
}

/// `Fri, 20 Nov 2026 21:55:47 +0000`, in the user's time zone.
pub fn time(text: &str) -> String {
    match text.parse::<Timestamp>() {
        Ok(time) => time.to_zoned(jiff::tz::TimeZone::system()).strftime("%a, %d %b %Y %H:%M:%S %z").to_string(),
        // As Go prints a time that is not set.
        Err(_) => "Mon, 01 Jan 0001 00:00:00 +0000".to_owned(),
    }
}
