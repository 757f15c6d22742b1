//! `kubectl scale`: through the scale subresource, whatever the kind is.

use super::changes::{self, Change, DryRun};
use super::discovery::Resource;
use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Run, Verb, text};
use super::following::{follow, within};
use super::manifest;
use super::objects::{self, ALL, Found, SELECTOR};
use super::output;
use super::session::{JSON, Query, Session, object_path};
use crate::api::field::go_quote;
use crate::api::{Fields, FieldsMut};
use http::Method;
use serde_json::json;

pub(super) const VERB: Verb = Verb {
    name: "scale",
    about: "Set the number of replicas",
    usage: "kubectl scale [--resource-version=version] [--current-replicas=count] --replicas=COUNT (-f FILE | TYPE NAME)",
    flags: &[
        output::FLAGS,
        manifest::FLAGS,
        &[
            changes::DRY_RUN,
            SELECTOR,
            ALL,
            text("replicas", "COUNT", "How many"),
            text("current-replicas", "COUNT", "Only where there are so many; -1: whatever there are").default("-1"),
            text("resource-version", "VERSION", "Only if this is the object's version"),
            text("timeout", "DURATION", "How long to wait until they are there; 0: not at all").default("0s"),
        ],
    ],
    required: &["replicas"],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let replicas = arguments.int("replicas")?.unwrap_or(-1);
    let current = arguments.int("current-replicas")?.unwrap_or(-1);
    if replicas < 0 {
        return Err(Failure::local(
            "The --replicas=COUNT flag is required, and COUNT must be greater than or equal to 0",
        ));
    }
    if current < -1 {
        return Err(Failure::local("The --current-replicas must specify an integer of -1 or greater"));
    }
    let change = Change::of(arguments, "scaled", "")?;
    let version = arguments.text_or_empty("resource-version");
    let found = objects::find(arguments, &arguments.words(), session).await?;
    if !version.is_empty() && found.found.len() > 1 {
        return Err(Failure::local("cannot use --resource-version with multiple resources"));
    }
    if found.found.is_empty() && found.failures.is_empty() {
        return Err(Failure::local("no objects passed to scale"));
    }
    let timeout = arguments.timeout("timeout")?.filter(|_| change.dry_run == DryRun::None);
    let mut failures = found.failures;
    for mut one in found.found {
        let mut size = replicas;
        if !change.only_says() {
            size = resize(session, &one, replicas, current, version, change.dry_run).await?;
            if timeout.is_some() {
                let synced = settled(session, &one.resource, &one.namespace, &one.name, replicas);
                let text = || format!("timed out waiting for {} to be synced", go_quote(&one.name));
                within(timeout, synced, text).await?;
            }
        }
        if matches!(&*one.resource.kind.group, "" | "apps") {
            one.object.object_mut("spec").set("replicas", size);
        }
        change.print(session, &one.object).await?;
    }
    failures.dedup_by_key(|failure| failure.to_string());
    Failure::all(failures)
}

fn path(resource: &Resource, namespace: &str, name: &str) -> String {
    format!("{}/scale", object_path(&resource.kind, namespace, name))
}

/// The new size, as the server took it.
async fn resize(
    session: &Session,
    found: &Found,
    replicas: i64,
    current: i64,
    version: &str,
    dry_run: DryRun,
) -> Outcome<i64> {
    let path = path(&found.resource, &found.namespace, &found.name);
    let mut query = Query::default();
    query.set("dryRun", if dry_run == DryRun::Server { "All" } else { "" });
    let changed = query.on(&path);
    if current == -1 && version.is_empty() {
        let patch = json!({ "spec": { "replicas": replicas } });
        let scale = session.write(Method::PATCH, &changed, "application/merge-patch+json", &patch).await?;
        return Ok(scale.at("spec").int_at("replicas"));
    }
    loop {
        let mut scale = session.get(&path, JSON).await?;
        let there = [
            ("replicas", (current != -1).then(|| current.to_string()), scale.at("spec").int_at("replicas").to_string()),
            (
                "resource version",
                Some(version.to_owned()).filter(|version| !version.is_empty()),
                scale.at("metadata").str_at("resourceVersion").to_owned(),
            ),
        ];
        for (what, wanted, is) in there {
            if let Some(wanted) = wanted.filter(|wanted| *wanted != is) {
                return Err(Failure::local(format!("Expected {what} to be {wanted}, was {is}")));
            }
        }
        scale.object_mut("spec").set("replicas", replicas);
        match session.write(Method::PUT, &changed, JSON, &scale).await {
            // Somebody was faster: what is there now decides.
            Err(Failure::Status(status)) if status.reason == "Conflict" => {}
            answer => return Ok(answer?.at("spec").int_at("replicas")),
        }
    }
}

/// There are as many as there should be, or somebody wants another number by now.
async fn settled(session: &Session, resource: &Resource, namespace: &str, name: &str, replicas: i64) -> Outcome<()> {
    follow(session, &resource.kind, namespace, name, async |_| {
        let scale = session.get(&path(resource, namespace, name), JSON).await?;
        let (wanted, is) = (scale.at("spec").int_at("replicas"), scale.at("status").int_at("replicas"));
        Ok((wanted != replicas || is == replicas).then_some(()))
    })
    .await
}
