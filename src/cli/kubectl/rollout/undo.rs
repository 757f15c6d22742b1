//! `kubectl rollout undo`: back to an earlier revision.

use super::history::{self, Revision};
use super::{FLAGS, find};
use crate::api::field::go_quote;
use crate::api::{Fields, FieldsMut};
use crate::cli::kubectl::changes::{Change, DRY_RUN, DryRun};
use crate::cli::kubectl::failure::{Failure, Outcome};
use crate::cli::kubectl::flags::{Arguments, Run, Verb, text};
use crate::cli::kubectl::last_applied;
use crate::cli::kubectl::objects::Found;
use crate::cli::kubectl::output::name_of;
use crate::cli::kubectl::session::{Query, Session, object_path};
use http::Method;
use serde_json::{Value, json};

pub const VERB: Verb = Verb {
    name: "undo",
    about: "Go back to an earlier revision",
    usage: "kubectl rollout undo (TYPE NAME | TYPE/NAME)",
    flags: &[
        FLAGS[0],
        FLAGS[1],
        FLAGS[2],
        &[DRY_RUN, text("to-revision", "N", "The revision; 0: the one before the latest").default("0")],
    ],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

/// Annotations of a ReplicaSet that are not its Deployment's.
const NOT_COPIED: &[&str] = &[
    last_applied::ANNOTATION,
    history::REVISION,
    "deployment.kubernetes.io/revision-history",
    "deployment.kubernetes.io/desired-replicas",
    "deployment.kubernetes.io/max-replicas",
    "deprecated.deployment.rollback.to",
];
const HASH: &str = "pod-template-hash";

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let number = arguments.int("to-revision")?.unwrap_or_default();
    let change = Change::of(arguments, "", "")?;
    let found = find(arguments, session).await?;
    found
        .each(async |found| {
            if last_applied::is_there(&found.object) {
                let warning = format!(
                    "Warning: resource {} was previously managed with 'kubectl apply'. Rolling back will not update the {} annotation, which may cause unexpected behavior on future 'kubectl apply' operations. Consider using 'kubectl apply' with your previous configuration file instead.",
                    name_of(&found.object),
                    last_applied::ANNOTATION
                );
                session.say(&warning).await?;
            }
            let result = undo(session, &found, number, change.dry_run).await?;
            change.print_as(session, &found.object, &result).await
        })
        .await
}

fn not_found(number: i64) -> Failure {
    Failure::local(format!("unable to find specified revision {number} in history"))
}

async fn undo(session: &Session, found: &Found, number: i64, dry_run: DryRun) -> Outcome<String> {
    if number < 0 {
        return Err(not_found(number));
    }
    let is_deployment = found.resource.kind.kind == "Deployment";
    let mut history = history::of(session, found).await.map_err(|failure| {
        let text = failure.to_string().replace("history viewer", "rollbacker").replace("history for", "rollbacker for");
        if text.contains("rollbacker") { Failure::local(text.trim_start_matches("error: ")) } else { failure }
    })?;
    if number == 0 {
        // The one before the latest.
        let latest = history.pop_last();
        debug_assert!(latest.is_some() || history.is_empty());
    }
    let wanted = if number == 0 { history.pop_last() } else { history.remove_entry(&number) };
    let Some((_, revision)) = wanted else {
        return Err(match number {
            0 if is_deployment => {
                Failure::local(format!("no rollout history found for deployment {}", go_quote(&found.name)))
            }
            0 => Failure::local("no last revision to roll back to"),
            number => not_found(number),
        });
    };
    if dry_run == DryRun::Client {
        let text = history::template_text(&revision);
        return Ok(if is_deployment { text } else { format!("will roll back to {text}") });
    }
    if is_deployment && found.object.at("spec").bool_at("paused") {
        return Err(Failure::local(
            "you cannot rollback a paused deployment; resume it first with 'kubectl rollout resume' and try again",
        ));
    }
    let template = without_hash(revision.template());
    if template == without_hash(found.object.at("spec").at("template")) {
        return Ok(format!("skipped rollback (current template already matches revision {number})"));
    }
    let (content_type, patch) = if is_deployment {
        ("application/json-patch+json", deployment_patch(found, &revision, template))
    } else {
        ("application/strategic-merge-patch+json", revision.object.at("data").clone())
    };
    let mut query = Query::default();
    query.set("dryRun", if dry_run == DryRun::Server { "All" } else { "" });
    let path = query.on(&object_path(&found.resource.kind, &found.namespace, &found.name));
    session.write(Method::PATCH, &path, content_type, &patch).await.map_err(|failure| match failure {
        Failure::Status(status) => Failure::local(format!("failed restoring revision {number}: {}", status.message)),
        other => other,
    })?;
    Ok("rolled back".to_owned())
}

fn without_hash(template: &Value) -> Value {
    let mut template = template.clone();
    if template.at("metadata").at("labels").has(HASH) {
        template.object_mut("metadata").object_mut("labels").clear(HASH);
    }
    template
}

fn deployment_patch(found: &Found, revision: &Revision, template: Value) -> Value {
    let own = found.object.at("metadata").at("annotations");
    let mut annotations = json!({});
    for key in NOT_COPIED {
        annotations.copy(key, own);
    }
    for (key, value) in revision.object.at("metadata").map_at("annotations") {
        if !NOT_COPIED.contains(&key.as_str()) {
            annotations.set(key, value.clone());
        }
    }
    json!([
        { "op": "replace", "path": "/spec/template", "value": template },
        { "op": "replace", "path": "/metadata/annotations", "value": annotations },
    ])
}
