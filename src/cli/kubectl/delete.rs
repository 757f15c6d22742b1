//! `kubectl delete`: by name, by selector, by file; and wait until they are gone.

use super::changes::{DRY_RUN, DryRun};
use super::discovery::{Discovery, Resource, label};
use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Run, Verb, optional, switch, text};
use super::following;
use super::manifest::{self, FileArguments};
use super::objects::{self, ALL, ALL_NAMESPACES, FIELD_SELECTOR, SELECTOR, Selection};
use super::output::name_in;
use super::session::{JSON, Session, object_path};
use super::targets;
use crate::api::Fields;
use crate::api::field::go_quote;
use crate::client::Kind;
use http::Method;
use serde_json::json;
use std::time::Duration;

pub(super) const VERB: Verb = Verb {
    name: "delete",
    about: "Delete objects",
    usage: "kubectl delete ([-f FILE] | TYPE [NAME ... | -l SELECTOR | --all] | TYPE/NAME ...)",
    flags: &[
        manifest::FLAGS,
        &[
            text("output", "FORMAT", "Form of the output: name").short('o'),
            SELECTOR,
            FIELD_SELECTOR,
            ALL_NAMESPACES,
            ALL,
            text("grace-period", "SECONDS", "Seconds that pods have to end; -1: as the object says").default("-1"),
            switch("now", "End pods after one second"),
            switch("force", "Forget the object at once; its containers may go on"),
            optional(
                "cascade",
                "HOW",
                "background",
                "What becomes of what the object owns: background, foreground, orphan",
            )
            .default("background"),
            switch("ignore-not-found", "What is not there is no error; so with --all"),
            switch("wait", "Wait until the objects are gone").default("true"),
            text("timeout", "DURATION", "How long to wait for each: 30s, 5m; 0: as long as it takes").default("0s"),
            switch("interactive", "Ask before anything is deleted").short('i'),
            text("raw", "PATH", "Path to send the request for deletion to"),
            DRY_RUN,
        ],
    ],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

struct Args {
    arguments: Vec<String>,
    files: FileArguments,
    selection: Selection,
    all: bool,
    grace_period: i64,
    now: bool,
    force: bool,
    cascade: &'static str,
    ignore_not_found: bool,
    wait: bool,
    timeout: Option<Duration>,
    dry_run: DryRun,
    by_name: bool,
    interactive: bool,
}

impl Args {
    fn of(arguments: &Arguments) -> Outcome<Self> {
        let by_name = match arguments.text("output") {
            None | Some("") => false,
            Some("name") => true,
            Some(other) => {
                return Err(Failure::local(format!("unexpected -o output mode: {other}. We only support '-o name'")));
            }
        };
        Ok(Self {
            arguments: arguments.words(),
            files: FileArguments::of(arguments),
            selection: Selection::of(arguments),
            all: arguments.on("all"),
            grace_period: arguments.int("grace-period")?.unwrap_or(-1),
            now: arguments.on("now"),
            force: arguments.on("force"),
            cascade: cascade(arguments.text("cascade").unwrap_or_default())?,
            ignore_not_found: arguments.on("ignore-not-found"),
            wait: arguments.on("wait"),
            timeout: arguments.timeout("timeout")?,
            dry_run: DryRun::of(arguments)?,
            by_name,
            interactive: arguments.on("interactive"),
        })
    }
}

/// The policy of a `--cascade`.
pub(super) fn cascade(text: &str) -> Outcome<&'static str> {
    match text {
        "" | "background" | "true" => Ok("Background"),
        "foreground" => Ok("Foreground"),
        "orphan" | "false" => Ok("Orphan"),
        other => Err(Failure::local(format!(
            "invalid cascade value ({other}). Must be \"background\", \"foreground\", or \"orphan\""
        ))),
    }
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

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    if let Some(path) = arguments.text("raw").filter(|path| !path.is_empty()) {
        let answer = session.write_text(Method::DELETE, path, JSON, "").await?;
        return session.print(&answer).await;
    }
    let mut args = Args::of(arguments)?;
    if let (cascade @ ("true" | "false"), other) = match arguments.text_or_empty("cascade") {
        "true" => ("true", "background"),
        "false" => ("false", "orphan"),
        _ => ("", ""),
    } {
        session
            .say(&format!(
                "warning: --cascade={cascade} is deprecated (boolean value) and can be replaced with --cascade={other}."
            ))
            .await?;
    }
    check(&mut args, session).await?;
    let discovery = Discovery::fetch(session).await?;
    let (doomed, mut failures) = find(&args, session, &discovery).await?;
    let delete = Delete { args: &args, session };
    let mut waits = Vec::new();
    if doomed.is_empty() && failures.is_empty() {
        session.print("No resources found\n").await?;
    }
    if args.interactive && !doomed.is_empty() && !confirmed(&doomed, session).await? {
        return session.print("deletion is cancelled\n").await;
    }
    if session.namespace_is_given && doomed.iter().any(|one| !one.resource.kind.namespaced) {
        session.say("Warning: deleting cluster-scoped resources, not scoped to the provided namespace").await?;
    }
    for one in doomed {
        if one.name.is_empty() {
            let nameless = Failure::local("resource name may not be empty");
            failures.push(nameless.doing("deleting", one.source.as_deref().unwrap_or_default()));
            continue;
        }
        match delete.one(&one).await {
            Ok(uid) => waits.push((one, uid)),
            Err(failure) if failure.is_not_found() && args.ignore_not_found => {}
            Err(failure) => failures.push(match &one.source {
                Some(source) => failure.doing("deleting", source),
                None => failure,
            }),
        }
    }
    if args.wait && args.dry_run == DryRun::None {
        let timeout = args.timeout;
        for (one, uid) in &waits {
            let gone =
                following::gone(session, &one.resource.kind, &one.namespace, &one.name, uid.as_deref(), timeout).await;
            failures.extend(gone.err());
        }
    }
    Failure::all(failures)
}

/// That an object was deleted.
pub(super) fn said(kind: &Kind, namespace: &str, name: &str, force: bool, suffix: &str) -> String {
    let verb = if force { "force deleted" } else { "deleted" };
    let place = if kind.namespaced { format!(" from {namespace} namespace") } else { String::new() };
    format!("{} {} {verb}{place}{suffix}\n", label(kind), go_quote(name))
}

/// What `--interactive` asks.
async fn confirmed(doomed: &[Doomed], session: &Session) -> Outcome<bool> {
    let mut question = "You are about to delete the following ".to_owned();
    question.push_str(&format!("{} resource(s):\n", doomed.len()));
    for one in doomed {
        question.push_str(&name_in(&one.resource.kind, &one.name));
        question.push('\n');
    }
    session.print(&format!("{question}Do you want to continue? (y/N): ")).await?;
    let answer = session.terminal.line().await?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

async fn check(args: &mut Args, session: &Session) -> Outcome<()> {
    let nothing = args.arguments.is_empty() && args.files.is_empty();
    if nothing && (args.all || !args.selection.is_empty()) {
        return Err(Failure::local("at least one resource must be specified to use a selector"));
    }
    if nothing {
        return Err(Failure::local(objects::MISSING));
    }
    let named = args.arguments.len() > 1 || args.arguments.iter().any(|argument| argument.contains('/'));
    if !args.arguments.is_empty() && !named && !args.all && args.selection.is_empty() {
        return Err(Failure::local("resource(s) were provided, but no name was specified"));
    }
    if args.all && !args.selection.is_empty() {
        return Err(Failure::local("setting 'all' parameter but found a non empty selector. "));
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
        if args.dry_run == DryRun::None {
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
    if !args.files.is_empty() {
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
        let answer = if self.args.dry_run == DryRun::Client {
            json!({})
        } else {
            let policy = self.args.cascade;
            let mut options = json!({ "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy });
            if self.args.grace_period >= 0 {
                options["gracePeriodSeconds"] = self.args.grace_period.into();
            }
            if self.args.dry_run == DryRun::Server {
                options["dryRun"] = json!(["All"]);
            }
            self.session.write(Method::DELETE, &path, JSON, &options).await?
        };
        let text = match self.args.by_name {
            true => format!("{}\n", name_in(kind, &doomed.name)),
            false => said(kind, &doomed.namespace, &doomed.name, self.args.force, self.args.dry_run.suffix()),
        };
        self.session.print(&text).await?;
        // An object that goes on for a while, or a Status with details.
        let uid = match answer.at("metadata").optional_str("uid") {
            Some(uid) => Some(uid),
            None => answer.at("details").optional_str("uid"),
        };
        Ok(uid.filter(|uid| !uid.is_empty()).map(str::to_owned))
    }
}
