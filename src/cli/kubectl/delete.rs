//! `kubectl delete`: by name, by selector, by file; and wait until they are gone.

use super::discovery::{Discovery, Resource, label};
use super::failure::{Failure, Outcome};
use super::get::Selection;
use super::manifest::{self, FileArguments};
use super::output::name_in;
use super::session::{JSON, Query, Session, object_path};
use super::targets;
use crate::api::Fields;
use crate::api::field::go_quote;
use crate::client::Kind;
use anyhow::Context;
use futures::AsyncBufReadExt;
use http::Method;
use serde_json::{Value, json};
use std::time::Duration;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Types and names: pod web-1, deploy/web svc/web, pods,services
    #[arg(value_name = "TYPE [NAME ...] | TYPE/NAME")]
    arguments: Vec<String>,
    #[command(flatten)]
    files: FileArguments,
    #[command(flatten)]
    selection: Selection,
    /// All objects of the types, in the namespace
    #[arg(long)]
    all: bool,
    /// Seconds that pods have to end; -1: as the object says
    #[arg(long, value_name = "SECONDS", default_value_t = -1, allow_negative_numbers = true)]
    grace_period: i64,
    /// End pods after one second
    #[arg(long)]
    now: bool,
    /// Forget the object at once; its containers may go on
    #[arg(long)]
    force: bool,
    /// What becomes of what the object owns: background, foreground, orphan
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true, default_value = "background", default_missing_value = "background", value_parser = ["background", "foreground", "orphan"])]
    cascade: String,
    /// What is not there is no error; so with --all
    #[arg(long)]
    ignore_not_found: bool,
    /// Wait until the objects are gone
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    wait: bool,
    /// How long to wait for each: 30s, 5m; 0: as long as it takes
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = duration)]
    timeout: Duration,
    /// Change nothing: client or server
    #[arg(long, value_name = "WHERE", num_args = 0..=1, require_equals = true, default_value = "none", default_missing_value = "client", value_parser = ["none", "client", "server"])]
    dry_run: String,
    /// Form of the output: name
    #[arg(long, short = 'o', value_name = "FORMAT", value_parser = ["name"])]
    output: Option<String>,
}

/// `30s`, `5m`, `1h30m`; a bare number is seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let span: jiff::SignedDuration =
        text.parse().map_err(|_| format!("{text:?} is not a duration such as 30s or 5m"))?;
    Duration::try_from(span).map_err(|_| "must not be negative".to_owned())
}

/// An object to delete.
struct Doomed {
    resource: Resource,
    namespace: String,
    name: String,
    /// The file that says it.
    source: Option<String>,
}

pub(super) async fn run(mut args: Args, session: &Session) -> Outcome<()> {
    check(&mut args, session).await?;
    let discovery = Discovery::fetch(session).await?;
    let (doomed, mut failures) = find(&args, session, &discovery).await?;
    let delete = Delete { args: &args, session };
    let mut waits = Vec::new();
    if doomed.is_empty() && failures.is_empty() {
        session.print("No resources found\n").await?;
    }
    for one in doomed {
        match delete.one(&one).await {
            Ok(uid) => waits.push((one, uid)),
            Err(failure) if failure.is_not_found() && args.ignore_not_found => {}
            Err(failure) => failures.push(match &one.source {
                Some(source) => failure.doing("deleting", source),
                None => failure,
            }),
        }
    }
    if args.wait && args.dry_run == "none" {
        let timeout = Some(args.timeout).filter(|timeout| !timeout.is_zero());
        for (one, uid) in &waits {
            let gone = wait_gone(session, &one.resource.kind, &one.namespace, &one.name, uid.as_deref(), timeout).await;
            failures.extend(gone.err());
        }
    }
    Failure::all(failures)
}

async fn check(args: &mut Args, session: &Session) -> Outcome<()> {
    let nothing = args.arguments.is_empty() && args.files.files.is_empty();
    if nothing {
        return Err(Failure::local("You must provide one or more resources by argument or filename."));
    }
    let named = args.arguments.len() > 1 || args.arguments.iter().any(|argument| argument.contains('/'));
    if !args.arguments.is_empty() && !named && !args.all && args.selection.is_empty() {
        return Err(Failure::local("resource(s) were provided, but no name was specified"));
    }
    if args.all && args.selection.selector.is_some() {
        return Err(Failure::local("cannot set --all and --selector at the same time"));
    }
    if named && (args.all || !args.selection.is_empty()) {
        return Err(Failure::local("name cannot be provided when a selector is specified"));
    }
    if named && args.selection.all_namespaces {
        return Err(Failure::local("a resource cannot be retrieved by name across all namespaces"));
    }
    if args.now {
        if args.grace_period != -1 {
            return Err(Failure::local("--now and --grace-period cannot be specified together"));
        }
        args.grace_period = 1;
    }
    if args.force && args.grace_period > 0 {
        return Err(Failure::local("--force and --grace-period greater than 0 cannot be specified together"));
    }
    if args.force {
        args.grace_period = 0;
        if args.dry_run == "none" {
            session
                .say("Warning: Immediate deletion does not wait for confirmation that the running resource has been terminated. The resource may continue to run on the cluster indefinitely.")
                .await?;
        }
    } else if args.grace_period == 0 {
        // Who did not say --force does not mean it.
        args.grace_period = 1;
    }
    args.ignore_not_found |= args.all;
    Ok(())
}

async fn find(args: &Args, session: &Session, discovery: &Discovery) -> Outcome<(Vec<Doomed>, Vec<Failure>)> {
    let mut doomed = Vec::new();
    let mut failures = Vec::new();
    if !args.files.files.is_empty() {
        let (manifests, wrong) = manifest::read(&args.files, session, discovery).await?;
        failures = wrong;
        doomed.extend(manifests.into_iter().map(|manifest| Doomed {
            namespace: manifest.namespace().to_owned(),
            name: manifest.name().to_owned(),
            resource: manifest.resource,
            source: Some(manifest.source),
        }));
    }
    if args.arguments.is_empty() {
        return Ok((doomed, failures));
    }
    for target in targets::read(&args.arguments, discovery)?.targets {
        let resource = target.resource;
        if let Some(name) = target.name {
            doomed.push(Doomed { resource, namespace: session.namespace.clone(), name, source: None });
            continue;
        }
        let mut query = args.selection.query();
        query.set("limit", "500");
        let list = match session.list(&resource.kind, args.selection.namespace(session), &query).await {
            Ok(list) => list,
            Err(failure) => {
                failures.push(failure);
                continue;
            }
        };
        doomed.extend(list.list_at("items").iter().map(|object| {
            let metadata = object.at("metadata");
            Doomed {
                resource: resource.clone(),
                namespace: metadata.str_at("namespace").to_owned(),
                name: metadata.str_at("name").to_owned(),
                source: None,
            }
        }));
    }
    Ok((doomed, failures))
}

struct Delete<'a> {
    args: &'a Args,
    session: &'a Session,
}

impl Delete<'_> {
    /// The UID of what was deleted, where the server says it.
    async fn one(&self, doomed: &Doomed) -> Outcome<Option<String>> {
        let kind = &doomed.resource.kind;
        let path = object_path(kind, &doomed.namespace, &doomed.name);
        let (answer, suffix) = if self.args.dry_run == "client" {
            (self.session.get(&path, JSON).await?, " (dry run)")
        } else {
            let policy = match self.args.cascade.as_str() {
                "foreground" => "Foreground",
                "orphan" => "Orphan",
                _ => "Background",
            };
            let mut options = json!({ "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy });
            if self.args.grace_period >= 0 {
                options["gracePeriodSeconds"] = self.args.grace_period.into();
            }
            let server = self.args.dry_run == "server";
            if server {
                options["dryRun"] = json!(["All"]);
            }
            let answer = self.session.write(Method::DELETE, &path, JSON, &options).await?;
            (answer, if server { " (server dry run)" } else { "" })
        };
        let verb = if self.args.force { "force deleted" } else { "deleted" };
        let text = match &self.args.output {
            Some(_) => name_in(kind, &doomed.name),
            None => format!("{} {} {verb}{suffix}", label(kind), go_quote(&doomed.name)),
        };
        self.session.print(&format!("{text}\n")).await?;
        // An object that goes on for a while, or a Status with details.
        let uid = match answer.at("metadata").optional_str("uid") {
            Some(uid) => Some(uid),
            None => answer.at("details").optional_str("uid"),
        };
        Ok(uid.filter(|uid| !uid.is_empty()).map(str::to_owned))
    }
}

/// Return when the object, or the one with this UID, is no more.
pub(super) async fn wait_gone(
    session: &Session,
    kind: &Kind,
    namespace: &str,
    name: &str,
    uid: Option<&str>,
    timeout: Option<Duration>,
) -> Outcome<()> {
    let gone = async {
        loop {
            let object = match session.object(kind, namespace, name).await {
                Err(failure) if failure.is_not_found() => return Ok(()),
                // Who may delete but not get cannot wait.
                Err(Failure::Status(status)) if matches!(status.code, 403 | 405) => return Ok(()),
                object => object?,
            };
            let metadata = object.at("metadata");
            if uid.is_some_and(|uid| metadata.str_at("uid") != uid) {
                return Ok(());
            }
            let mut query = Query::default();
            query.set("watch", "true").set("fieldSelector", &format!("metadata.name={name}"));
            query.set("resourceVersion", metadata.str_at("resourceVersion"));
            let stream = match session.stream(&query.on(&kind.path(namespace)), JSON).await {
                // The revision is too old by now: look again.
                Err(Failure::Status(status)) if status.code == 410 => continue,
                stream => stream?,
            };
            let mut lines = stream.lines();
            while let Some(line) = futures::StreamExt::next(&mut lines).await {
                let event: Value = serde_json::from_str(&line?).context("read the watch")?;
                match event.str_at("type") {
                    "DELETED" => return Ok(()),
                    "ERROR" => break,
                    _ => {}
                }
            }
        }
    };
    match timeout {
        None => gone.await,
        Some(timeout) => tokio::time::timeout(timeout, gone).await.unwrap_or_else(|_| {
            let text = format!("timed out waiting for the condition on {}/{name}", kind.plural);
            Err(Failure::local(text))
        }),
    }
}
