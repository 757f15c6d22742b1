//! `kubectl patch`.

use super::changes::{self, Change, DryRun};
use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Run, Verb, text};
use super::manifest;
use super::objects::{self, LOCAL};
use super::output;
use super::session::{JSON, Session, object_path};
use crate::api::field::go_quote;
use crate::api::{Fields, GroupVersionKind, Status, operations};
use http::Method;
use serde_json::Value;

pub(super) const VERB: Verb = Verb {
    name: "patch",
    about: "Change fields of objects",
    usage: "kubectl patch (-f FILE | TYPE NAME) [-p PATCH|--patch-file FILE]",
    flags: &[
        output::FLAGS,
        manifest::FLAGS,
        changes::FLAGS,
        &[
            text("patch", "PATCH", "The patch, JSON or YAML").short('p'),
            text("patch-file", "FILE", "File with the patch"),
            text("type", "TYPE", "What the patch is: json, merge, strategic").default("strategic"),
            text("subresource", "NAME", "Subresource to patch: status, scale"),
            LOCAL,
        ],
    ],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

const TYPES: &[(&str, &str)] = &[
    ("json", "application/json-patch+json"),
    ("merge", "application/merge-patch+json"),
    ("strategic", "application/strategic-merge-patch+json"),
];

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let (inline, file) = (arguments.text_or_empty("patch"), arguments.text_or_empty("patch-file"));
    let local = arguments.on("local");
    let words = arguments.words();
    let mut change = Change::of(arguments, "patched", "kubectl-patch")?;
    // kubectl does not say it of patches.
    change.suffix = "";
    match (inline.is_empty(), file.is_empty()) {
        (false, false) => return Err(Failure::local("cannot specify --patch and --patch-file together")),
        (true, true) => {
            return Err(Failure::local("must specify --patch or --patch-file containing the contents of the patch"));
        }
        _ => {}
    }
    if local && !words.is_empty() {
        return Err(Failure::local("cannot specify --local and server resources"));
    }
    if local && change.dry_run == DryRun::Server {
        return Err(Failure::local("cannot specify --local and --dry-run=server - did you mean --dry-run=client?"));
    }
    let kind = arguments.text_or_empty("type");
    let Some((_, content_type)) = TYPES.iter().find(|(name, _)| *name == kind.to_lowercase()) else {
        let text = format!("--type must be one of [json merge strategic], not {}", go_quote(kind));
        return Err(Failure::local(text));
    };
    let text = if file.is_empty() {
        inline.to_owned()
    } else {
        std::fs::read_to_string(file).map_err(|error| {
            Failure::local(format!(
                "unable to read patch file: open {file}: {}",
                super::create::sources::reason(&error)
            ))
        })?
    };
    // What looks like JSON goes as it is: the server says what is wrong with it.
    let is_json = text.trim_start().starts_with(['{', '[']);
    let read = if is_json {
        serde_json::from_str(&text).map_err(|error| error.to_string())
    } else {
        crate::schema::yaml::parse(text.as_bytes())
    };
    let patch: Result<Value, Failure> =
        read.map_err(|error| Failure::local(format!("unable to parse {}: {error}", go_quote(&text))));
    let bytes = match (&patch, is_json) {
        (Ok(patch), _) => patch.to_string(),
        (Err(_), true) => text,
        (Err(_), false) => return patch.map(|_| ()),
    };
    let found = objects::find(arguments, &words, session).await?;
    if found.found.is_empty() && found.failures.is_empty() {
        return Err(Failure::local("no objects passed to patch"));
    }
    found
        .each(async |found| {
            let kind = &found.resource.kind;
            let mut live = Value::Null;
            let patched = if local || change.only_says() {
                let gvk = GroupVersionKind::new(&kind.group, &kind.version, &kind.kind);
                let patch = patch.as_ref().map_err(|failure| Failure::Said(failure.to_string()))?;
                apply(&gvk, &found.object, content_type, patch)?
            } else {
                let mut path = object_path(kind, &found.namespace, &found.name);
                if let Some(subresource) = arguments.text("subresource").filter(|name| !name.is_empty()) {
                    path = format!("{path}/{subresource}");
                    live = session.get(&path, JSON).await?;
                }
                let sent = session.write_text(Method::PATCH, &change.query().on(&path), content_type, &bytes).await;
                let answer = sent.map_err(|failure| match failure {
                    Failure::Status(status) if status.code == 415 => Failure::local(format!(
                        "{content_type} is not supported by {}/{}, Kind={}: {}",
                        kind.group, kind.version, kind.kind, status.message
                    )),
                    other => other,
                })?;
                serde_json::from_str(&answer).map_err(|error| Failure::Local(error.into()))?
            };
            let live = if live.is_null() { &found.object } else { &live };
            let operation = if patched == *live { "patched (no change)" } else { "patched" };
            change.print_as(session, &patched, operation).await
        })
        .await
}

/// The patch, applied here.
fn apply(gvk: &GroupVersionKind, object: &Value, content_type: &str, patch: &Value) -> Outcome<Value> {
    let plain = |status: Status| Failure::local(status.message);
    match content_type {
        "application/json-patch+json" => {
            let operations = operations::of(patch.clone()).map_err(Failure::local)?;
            let mut patched = object.clone();
            operations::apply(&mut patched, &operations).map_err(|refused| {
                let text = refused.to_string();
                Failure::local(match text.split_once("doc is missing key: ") {
                    Some((_, key)) => format!("Object to be patched is missing field ({key})"),
                    None => text,
                })
            })?;
            Ok(patched)
        }
        "application/merge-patch+json" => {
            let mut patched = object.clone();
            crate::api::patch::merge_patch(&mut patched, patch);
            Ok(patched)
        }
        _ => {
            let Some(schema) = crate::schema::builtin_schema(gvk) else {
                return Err(Failure::local(format!(
                    "strategic merge patch is not supported for {}/{}, Kind={} locally, try --type merge",
                    gvk.group, gvk.version, gvk.kind
                )));
            };
            crate::schema::strategic_merge(&schema, object.clone(), patch.clone()).map_err(plain)
        }
    }
}

/// `--overrides` of verbs that make objects.
pub(super) fn with_overrides(arguments: &Arguments, object: Value, default: &str) -> Outcome<Value> {
    let text = arguments.text_or_empty("overrides");
    if text.is_empty() {
        return Ok(object);
    }
    let kind = arguments.text("override-type").filter(|kind| !kind.is_empty()).unwrap_or(default);
    let Some((_, content_type)) = TYPES.iter().find(|(name, _)| *name == kind) else {
        return Err(Failure::local(format!("invalid override type: {kind}: must be one of json, merge, strategic")));
    };
    let patch: Value =
        serde_json::from_str(text).map_err(|error| Failure::local(format!("--overrides is no JSON: {error}")))?;
    let gvk = GroupVersionKind::from_api_version(object.str_at("apiVersion"), object.str_at("kind"));
    apply(&gvk, &object, content_type, &patch)
}
