//! What verbs that write have in common: dry runs, the field manager, validation, and how a change
//! is told: `deployment.apps/web scaled (dry run)`, or the object in the form of `-o`.

use super::discovery::Resource;
use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Flag, optional, switch, text};
use super::last_applied;
use super::output::{Format, name_of, without_managed_fields};
use super::session::{JSON, Query, Session, object_path};
use crate::api::field::go_quote;
use crate::api::{Fields, GroupVersionKind};
use crate::client::Kind;
use crate::schema::strategic_diff::{three_way, three_way_merge_patch};
use http::Method;
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};

pub const DRY_RUN: Flag =
    optional("dry-run", "WHERE", "unchanged", "Change nothing: client (say what would be done) or server")
        .default("none");
pub const FIELD_MANAGER: Flag = text("field-manager", "NAME", "Name of the owner of the changed fields");
pub const VALIDATE: Flag =
    optional("validate", "HOW", "strict", "What to do with unknown and duplicate fields: strict, warn, ignore")
        .default("strict");
pub const SAVE_CONFIG: Flag = switch("save-config", "Keep the object in the annotation that apply reads");

/// What most verbs take that change an object that is there.
pub const FLAGS: &[Flag] = &[DRY_RUN, FIELD_MANAGER];
/// What verbs take that send whole objects.
pub const WHOLE: &[Flag] = &[DRY_RUN, FIELD_MANAGER, VALIDATE, SAVE_CONFIG];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DryRun {
    None,
    Client,
    Server,
}

impl DryRun {
    pub fn of(arguments: &Arguments) -> Outcome<Self> {
        match arguments.text("dry-run").unwrap_or("none") {
            "none" | "false" => Ok(Self::None),
            "client" | "unchanged" | "true" => Ok(Self::Client),
            "server" => Ok(Self::Server),
            other => Err(Failure::local(format!(
                "Invalid dry-run value ({other}). Must be \"none\", \"server\", or \"client\"."
            ))),
        }
    }

    pub fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Client => " (dry run)",
            Self::Server => " (server dry run)",
        }
    }
}

/// How a verb changes objects, and what it says of each.
pub struct Change {
    pub dry_run: DryRun,
    pub format: Format,
    operation: &'static str,
    manager: String,
    validation: &'static str,
    save_config: bool,
    managed_fields: bool,
    /// Of a dry run.
    pub suffix: &'static str,
    /// Something was printed: the next document is set apart.
    printed: AtomicBool,
}

impl Change {
    pub fn of(arguments: &Arguments, operation: &'static str, manager: &str) -> Outcome<Self> {
        let validation = match arguments.text("validate") {
            None => "",
            Some("strict" | "true" | "") => "Strict",
            Some("warn") => "Warn",
            Some("ignore" | "false") => "Ignore",
            Some(other) => {
                return Err(Failure::local(format!(
                    "invalid - validate option {}; must be one of: strict (or true), warn, ignore (or false)",
                    go_quote(other)
                )));
            }
        };
        let dry_run = DryRun::of(arguments)?;
        Ok(Self {
            dry_run,
            suffix: dry_run.suffix(),
            format: Format::of(arguments)?,
            operation,
            manager: arguments.text("field-manager").unwrap_or(manager).to_owned(),
            validation,
            save_config: arguments.on("save-config"),
            managed_fields: arguments.on("show-managed-fields"),
            printed: AtomicBool::new(false),
        })
    }

    pub fn query(&self) -> Query {
        let mut query = Query::default();
        query.set("fieldManager", &self.manager).set("fieldValidation", self.validation);
        query.set("dryRun", if self.dry_run == DryRun::Server { "All" } else { "" });
        query
    }

    /// Nothing is sent.
    pub fn only_says(&self) -> bool {
        self.dry_run == DryRun::Client
    }

    /// The object as it is kept: with the annotation that apply reads where that is asked for, or
    /// where it is there already.
    pub fn configured(&self, object: &Value) -> Value {
        if self.save_config || last_applied::is_there(object) {
            last_applied::annotated(object)
        } else {
            object.clone()
        }
    }

    /// Create it; what the server made of it.
    pub async fn create(&self, session: &Session, kind: &Kind, namespace: &str, object: &Value) -> Outcome<Value> {
        if self.only_says() {
            return Ok(object.clone());
        }
        session.write(Method::POST, &self.query().on(&kind.path(namespace)), JSON, object).await
    }

    /// Make the object that is there what it is after; with the server's answer.
    pub async fn patch(&self, session: &Session, resource: &Resource, before: &Value, after: &Value) -> Outcome<Value> {
        if self.only_says() || before == after {
            return Ok(after.clone());
        }
        let kind = &resource.kind;
        let (patch, content_type) = difference(kind, before, before, after)?;
        self.send_patch(session, kind, before, content_type, &patch).await
    }

    /// Send a patch for an object.
    pub async fn send_patch(
        &self,
        session: &Session,
        kind: &Kind,
        object: &Value,
        content_type: &str,
        patch: &Value,
    ) -> Outcome<Value> {
        let metadata = object.at("metadata");
        let path = object_path(kind, metadata.str_at("namespace"), metadata.str_at("name"));
        session.write(Method::PATCH, &self.query().on(&path), content_type, patch).await
    }

    /// Say that it was done.
    pub async fn print(&self, session: &Session, object: &Value) -> Outcome<()> {
        self.print_as(session, object, self.operation).await
    }

    pub async fn print_as(&self, session: &Session, object: &Value, operation: &str) -> Outcome<()> {
        session.print(&self.text(object, operation)?).await
    }

    /// What is printed of it.
    pub fn text(&self, object: &Value, operation: &str) -> Outcome<String> {
        if matches!(self.format, Format::Default) {
            let space = if operation.is_empty() { "" } else { " " };
            return Ok(format!("{}{space}{operation}{}\n", name_of(object), self.suffix));
        }
        let mut object = object.clone();
        if !self.managed_fields {
            without_managed_fields(&mut object);
        }
        let again = self.printed.swap(true, Ordering::Relaxed);
        let apart = if again && matches!(self.format, Format::Yaml) { "---\n" } else { "" };
        Ok(format!("{apart}{}", self.format.print(&object)?))
    }
}

/// The patch that makes `after` of `current`, and takes away what `original` had and `after` has no
/// more: strategic where this binary knows the kind.
pub fn difference(kind: &Kind, original: &Value, current: &Value, after: &Value) -> Outcome<(Value, &'static str)> {
    let known = crate::schema::builtin_schema(&GroupVersionKind::new(&kind.group, &kind.version, &kind.kind));
    let Some(schema) = known else {
        return Ok((three_way_merge_patch(original, after, current), "application/merge-patch+json"));
    };
    let patch = three_way(&schema, original, after, current)
        .map_err(|error| Failure::local(format!("failed to create patch: {error}")))?;
    Ok((patch, "application/strategic-merge-patch+json"))
}
