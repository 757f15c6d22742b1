//! `kubectl replace`: objects as the files have them, in place of what is there.

use super::changes::{self, Change, DryRun};
use super::create;
use super::delete;
use super::discovery::Discovery;
use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Run, Verb, optional, switch, text};
use super::following;
use super::manifest::{self, FileArguments, Manifest};
use super::output;
use super::session::{JSON, Session, object_path};
use crate::api::{Fields, FieldsMut};
use http::Method;
use serde_json::json;
use std::time::Duration;

pub(super) const VERB: Verb = Verb {
    name: "replace",
    about: "Replace objects by what files say",
    usage: "kubectl replace -f FILE",
    flags: &[
        output::FLAGS,
        manifest::FLAGS,
        changes::WHOLE,
        &[
            switch("force", "Delete the object first, and create it again"),
            optional("cascade", "HOW", "background", "With --force: background, foreground, orphan")
                .default("background"),
            text("grace-period", "SECONDS", "With --force: how long pods have to end").default("-1"),
            text("timeout", "DURATION", "With --force: how long to wait for the deletion").default("0s"),
            switch("wait", "With --force: wait for the deletion"),
            text("subresource", "NAME", "Subresource to replace: status, scale"),
            text("raw", "PATH", "Path to send the file to as it is"),
        ],
    ],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

/// For a deletion that nobody set a time for.
const PATIENCE: Duration = Duration::from_secs(300);

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let files = FileArguments::of(arguments);
    files.check()?;
    let change = Change::of(arguments, "replaced", "kubectl-replace")?;
    let force = arguments.on("force");
    let grace = arguments.int("grace-period")?.unwrap_or(-1);
    if grace >= 0 && !force {
        return Err(Failure::local("--grace-period must have --force specified"));
    }
    if arguments.timeout("timeout")?.is_some() && !force {
        return Err(Failure::local("--timeout must have --force specified"));
    }
    if force && change.dry_run != DryRun::None {
        return Err(Failure::local("--dry-run can not be used when --force is set"));
    }
    if let Some(path) = arguments.text("raw").filter(|path| !path.is_empty()) {
        return create::raw(arguments, session, &files, path, Method::PUT).await;
    }
    let discovery = Discovery::fetch(session).await?;
    let (manifests, mut failures) = manifest::read(&files, session, &discovery).await?;
    if manifests.is_empty() && failures.is_empty() {
        return Err(Failure::local("no objects passed to replace"));
    }
    if force {
        Failure::all(failures)?;
        return anew(arguments, session, &change, &manifests, grace).await;
    }
    for manifest in &manifests {
        match one(arguments, session, &change, manifest).await {
            Ok(()) => {}
            Err(failure) => failures.push(failure.doing("replacing", &manifest.source)),
        }
    }
    Failure::all(failures)
}

async fn one(arguments: &Arguments, session: &Session, change: &Change, manifest: &Manifest) -> Outcome<()> {
    let mut object = change.configured(&manifest.object);
    if change.only_says() {
        return change.print(session, &object).await;
    }
    let mut path = object_path(&manifest.resource.kind, manifest.namespace(), manifest.name());
    if let Some(subresource) = arguments.text("subresource").filter(|name| !name.is_empty()) {
        path = format!("{path}/{subresource}");
    }
    if object.at("metadata").str_at("resourceVersion").is_empty() {
        // Whatever is there now is replaced.
        let live = session.get(&path, JSON).await?;
        object.object_mut("metadata").set("resourceVersion", live.at("metadata").str_at("resourceVersion"));
    }
    let replaced = session.write(Method::PUT, &change.query().on(&path), JSON, &object).await?;
    change.print(session, &replaced).await
}

/// `--force`.
async fn anew(
    arguments: &Arguments,
    session: &Session,
    change: &Change,
    manifests: &[Manifest],
    grace: i64,
) -> Outcome<()> {
    let policy = delete::cascade(arguments.text_or_empty("cascade"))?;
    let timeout = arguments.timeout("timeout")?.unwrap_or(PATIENCE);
    for manifest in manifests {
        let (kind, namespace, name) = (&manifest.resource.kind, manifest.namespace(), manifest.name());
        let mut options = json!({ "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy });
        if grace >= 0 {
            options["gracePeriodSeconds"] = grace.max(1).into();
        }
        match session.write(Method::DELETE, &object_path(kind, namespace, name), JSON, &options).await {
            Ok(_) => session.print(&delete::said(kind, namespace, name, false, "")).await?,
            Err(failure) if failure.is_not_found() => {}
            Err(failure) => return Err(failure),
        }
    }
    for manifest in manifests {
        let (kind, namespace, name) = (&manifest.resource.kind, manifest.namespace(), manifest.name());
        following::gone(session, kind, namespace, name, None, Some(timeout)).await?;
    }
    for manifest in manifests {
        let object = change.configured(&manifest.object);
        let created = change.create(session, &manifest.resource.kind, manifest.namespace(), &object).await?;
        change.print(session, &created).await?;
    }
    Ok(())
}
