//! `kubectl create`: objects from files, or made of flags by the generators below.
//!
//! A generator makes the object as a value, with the fields that Kubernetes's own types always
//! print; [`made`] sends it. To add one: one file, one row in [`GENERATORS`].

mod bindings;
mod config_map;
mod cron_job;
mod deployment;
mod ingress;
mod job;
mod namespace;
mod pod_disruption_budget;
mod priority_class;
mod quota;
mod role;
mod secret;
mod service;
mod service_account;
pub(super) mod sources;
mod token;

use super::changes::{self, Change};
use super::discovery::Discovery;
use super::edit;
use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Flag, Run, Verb, switch, text};
use super::manifest::{self, FileArguments};
use super::objects::SELECTOR;
use super::output;
use super::session::{JSON, Session};
use crate::api::{Fields, FieldsMut};
use crate::client::Kind;
use serde_json::{Value, json};

pub(super) use bindings::SUBJECTS;
pub(super) use config_map::fill as fill_config_map;
pub(super) use pod_disruption_budget::selector_of;
pub(super) use quota::quantities;
pub(super) use secret::fill as fill_secret;

const GENERATORS: &[&Verb] = &[
    &bindings::CLUSTER_ROLE_BINDING,
    &bindings::ROLE_BINDING,
    &config_map::VERB,
    &cron_job::VERB,
    &deployment::VERB,
    &ingress::VERB,
    &job::VERB,
    &namespace::VERB,
    &pod_disruption_budget::VERB,
    &priority_class::VERB,
    &quota::VERB,
    &role::CLUSTER_ROLE,
    &role::ROLE,
    &secret::VERB,
    &service::VERB,
    &service_account::VERB,
    &token::VERB,
];

pub(super) const VERB: Verb = Verb {
    name: "create",
    about: "Create objects from files, or by what the flags say",
    usage: "kubectl create -f FILE",
    flags: &[
        manifest::FLAGS,
        output::FLAGS,
        changes::WHOLE,
        &[
            SELECTOR,
            switch("edit", "Edit the objects before they are created"),
            text("raw", "PATH", "Path to send the file to as it is"),
        ],
    ],
    verbs: GENERATORS,
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

/// The flags of every generator.
const FLAGS: &[&[Flag]] = &[output::FLAGS, changes::WHOLE];
/// What generators own.
const MANAGER: &str = "kubectl-create";

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    if let words @ [_, ..] = arguments.words().as_slice() {
        return Err(arguments.usage(format!("Unexpected args: [{}]", words.join(" "))));
    }
    let files = FileArguments::of(arguments);
    files.check()?;
    if let Some(path) = arguments.text("raw").filter(|path| !path.is_empty()) {
        return raw(arguments, session, &files, path, http::Method::POST).await;
    }
    let change = Change::of(arguments, "created", MANAGER)?;
    if arguments.on("edit") {
        return edit::create(arguments, session, &change).await;
    }
    let discovery = Discovery::fetch(session).await?;
    let (mut manifests, mut failures) = manifest::read(&files, session, &discovery).await?;
    manifest::select(&mut manifests, arguments)?;
    if manifests.is_empty() && failures.is_empty() {
        return Err(Failure::local("no objects passed to create"));
    }
    for manifest in &manifests {
        let object = change.configured(&manifest.object);
        match change.create(session, &manifest.resource.kind, manifest.namespace(), &object).await {
            Ok(created) => change.print(session, &created).await?,
            Err(failure) => failures.push(failure.doing("creating", &manifest.source)),
        }
    }
    Failure::all(failures)
}

/// `--raw`: a file goes to a path as it is.
pub(super) async fn raw(
    arguments: &Arguments,
    session: &Session,
    files: &FileArguments,
    path: &str,
    method: http::Method,
) -> Outcome<()> {
    let [file] = files.files.as_slice() else {
        return Err(Failure::local("--raw can only use a single local file or stdin"));
    };
    if file.starts_with("http://") || file.starts_with("https://") {
        return Err(Failure::local("--raw cannot read from a url"));
    }
    for (flag, said) in [("edit", "--edit"), ("recursive", "--recursive")] {
        if arguments.on(flag) {
            return Err(Failure::local(format!("--raw and {said} are mutually exclusive")));
        }
    }
    if !arguments.text_or_empty("output").is_empty() {
        return Err(Failure::local("--raw and --output are mutually exclusive"));
    }
    let text = match file.as_str() {
        "-" => String::from_utf8_lossy(&session.terminal.input().await?).into_owned(),
        file => std::fs::read_to_string(file)?,
    };
    session.print(&session.write_text(method, path, JSON, &text).await?).await
}

/// The beginning of every object.
fn object(kind: &Kind, name: &str) -> Value {
    json!({
        "apiVersion": kind.api_version(),
        "kind": kind.kind,
        "metadata": { "name": name },
    })
}

/// Create what a generator made; `what` stands before a refusal.
async fn made(arguments: &Arguments, session: &Session, kind: &Kind, mut object: Value, what: &str) -> Outcome<()> {
    let change = Change::of(arguments, "created", MANAGER)?;
    if kind.namespaced && session.namespace_is_given {
        object.object_mut("metadata").set("namespace", session.namespace.as_str());
    }
    let object = change.configured(&object);
    let namespace = if kind.namespaced { session.namespace.as_str() } else { "" };
    let created = change.create(session, kind, namespace, &object).await.map_err(|failure| match failure {
        Failure::Status(status) if !what.is_empty() => Failure::local(format!("{what} {}", status.message)),
        other => other,
    })?;
    change.print(session, &created).await
}

/// A pod template of containers.
fn template(labels: &Value, containers: Vec<Value>) -> Value {
    let mut metadata = json!({});
    if !labels.entries().is_empty() {
        metadata["labels"] = labels.clone();
    }
    json!({ "metadata": metadata, "spec": { "containers": containers } })
}

/// A container of a template.
fn container(name: &str, image: &str, command: &[String]) -> Value {
    let mut container = json!({ "image": image, "name": name, "resources": {} });
    if !command.is_empty() {
        container["command"] = command.into();
    }
    container
}

/// The name and the command, which may also stand without `--`.
fn name_and_command(arguments: &Arguments) -> Outcome<(String, Vec<String>)> {
    Ok((arguments.name()?, arguments.behind()))
}
