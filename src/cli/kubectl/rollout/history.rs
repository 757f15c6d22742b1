//! `kubectl rollout history`: the revisions, of ReplicaSets or of ControllerRevisions.

use super::{FLAGS, find};
use crate::api::{Fields, FieldsMut, GroupVersionKind};
use crate::cli::kubectl::changes::Change;
use crate::cli::kubectl::describe;
use crate::cli::kubectl::failure::{Failure, Outcome};
use crate::cli::kubectl::flags::{Arguments, Run, Verb, text};
use crate::cli::kubectl::objects::Found;
use crate::cli::kubectl::output::{Format, take_items};
use crate::cli::kubectl::session::{Query, Session};
use crate::cli::kubectl::tab_writer::TabWriter;
use crate::client::Kind;
use crate::client::kinds::REPLICA_SETS;
use crate::resources::cells;
use serde_json::Value;
use std::collections::BTreeMap;

pub const REVISION: &str = "deployment.kubernetes.io/revision";
const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";
const CONTROLLER_REVISIONS: Kind = Kind::namespaced("apps", "v1", "ControllerRevision", "controllerrevisions");

pub const VERB: Verb = Verb {
    name: "history",
    about: "Show the revisions of a rollout",
    usage: "kubectl rollout history (TYPE NAME | TYPE/NAME)",
    flags: &[FLAGS[0], FLAGS[1], FLAGS[2], &[text("revision", "N", "Show this revision in detail").default("0")]],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

/// What is kept of a revision.
pub struct Revision {
    /// The ReplicaSet or the ControllerRevision.
    pub object: Value,
    /// The workload as it was, or the ReplicaSet.
    pub whole: Value,
}

impl Revision {
    pub fn template(&self) -> &Value {
        self.whole.at("spec").at("template")
    }
}

/// By number.
pub type History = BTreeMap<i64, Revision>;

/// The revisions of an object that are still there.
pub async fn of(session: &Session, found: &Found) -> Outcome<History> {
    let kind = &found.resource.kind;
    let listed = match (&*kind.group, &*kind.kind) {
        ("apps", "Deployment") => &REPLICA_SETS,
        ("apps", "DaemonSet" | "StatefulSet") => &CONTROLLER_REVISIONS,
        _ => {
            let dot = if kind.group.is_empty() { "" } else { "." };
            let known = matches!(&*kind.kind, "Job" | "Pod" | "ReplicaSet" | "ReplicationController" | "CronJob");
            let name = format!("{}{dot}{}", kind.kind, kind.group);
            return Err(Failure::local(match known {
                true => format!("no history viewer has been implemented for {name:?}"),
                false => format!(
                    "error retrieving history for {name:?}, no visitor method exists for {{{} {}}}",
                    kind.group, kind.kind
                ),
            }));
        }
    };
    let mut query = Query::default();
    query.set("labelSelector", &cells::selector(found.object.at("spec").at("selector")));
    let objects = take_items(session.list(listed, &found.namespace, &query).await?, listed);
    let uid = found.object.at("metadata").str_at("uid");
    let mut history = History::new();
    for object in objects {
        let metadata = object.at("metadata");
        let mut owners = metadata.list_at("ownerReferences").iter();
        if !owners.any(|owner| owner.bool_at("controller") && owner.str_at("uid") == uid) {
            continue;
        }
        if kind.kind == "Deployment" {
            let number = metadata.at("annotations").str_at(REVISION).parse();
            if let Ok(number) = number {
                history.insert(number, Revision { whole: object.clone(), object });
            }
            continue;
        }
        let number = object.int_at("revision");
        let whole = restored(&found.object, &object)?;
        history.insert(number, Revision { object, whole });
    }
    Ok(history)
}

/// The workload as the revision has it.
fn restored(workload: &Value, revision: &Value) -> Outcome<Value> {
    let gvk = GroupVersionKind::from_api_version(workload.str_at("apiVersion"), workload.str_at("kind"));
    let schema = crate::schema::builtin_schema(&gvk)
        .ok_or_else(|| Failure::local(format!("{} has no schema here", gvk.kind)))?;
    crate::schema::strategic_merge(&schema, workload.clone(), revision.at("data").clone())
        .map_err(|_| Failure::local(format!("unable to parse history {}", revision.at("metadata").str_at("name"))))
}

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let number = arguments.int("revision")?.unwrap_or_default();
    if number < 0 {
        return Err(Failure::local(format!("revision must be a positive integer: {number}")));
    }
    let change = Change::of(arguments, "", "")?;
    let found = find(arguments, session).await?;
    found
        .each(async |found| {
            let history = of(session, &found).await?;
            let one = (number > 0)
                .then(|| history.get(&number).ok_or_else(|| Failure::local("unable to find the specified revision")))
                .transpose()?;
            if !matches!(change.format, Format::Default) {
                for revision in one.into_iter().chain(history.values().filter(|_| one.is_none())) {
                    change.print(session, &revision.whole).await?;
                }
                return Ok(());
            }
            let text = match one {
                Some(revision) => format!("with revision #{number}\n{}", template_text(revision)),
                None => format!("\n{}", table(&history)),
            };
            change.print_as(session, &found.object, &text).await
        })
        .await
}

/// The template in the form of `describe`.
pub fn template_text(revision: &Revision) -> String {
    let mut template = revision.template().clone();
    let cause = cause(revision);
    if !cause.is_empty() && revision.object.str_at("kind") == "ReplicaSet" {
        template.object_mut("metadata").object_mut("annotations").set(CHANGE_CAUSE, cause);
    }
    describe::pod_template(&template)
}

fn cause(revision: &Revision) -> &str {
    revision.object.at("metadata").at("annotations").str_at(CHANGE_CAUSE)
}

fn table(history: &History) -> String {
    if history.is_empty() {
        return "No rollout history found.".to_owned();
    }
    let mut writer = TabWriter::page();
    writer.line("REVISION\tCHANGE-CAUSE");
    for (number, revision) in history {
        let cause = cause(revision);
        writer.line(&format!("{number}\t{}", if cause.is_empty() { "<none>" } else { cause }));
    }
    writer.flush()
}
