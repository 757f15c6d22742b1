//! Labels and annotations, set and taken away: what `label` and `annotate` have in common.

use super::changes::{Change, difference};
use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Flag, switch, text};
use super::objects::{self, ALL, ALL_NAMESPACES, FIELD_SELECTOR, LOCAL, SELECTOR};
use super::output::name_of;
use super::pairs::Pairs;
use super::session::Session;
use super::{changes, manifest, output};
use crate::api::field::go_quote;
use crate::api::{Fields, FieldsMut};
use serde_json::Value;

/// The flags of both.
pub const FLAGS: &[&[Flag]] = &[
    output::FLAGS,
    manifest::FLAGS,
    changes::FLAGS,
    &[
        SELECTOR,
        FIELD_SELECTOR,
        ALL_NAMESPACES,
        ALL,
        LOCAL,
        switch("overwrite", "Replace values that are there"),
        switch("list", "Show what is there"),
        text("resource-version", "VERSION", "Change the object only if this is its version"),
    ],
];

/// What differs.
pub struct Marks {
    /// `labels`.
    pub field: &'static str,
    pub singular: &'static str,
    pub manager: &'static str,
    /// Why values must stay; None: they may go.
    pub clash: fn(current: &Value, pairs: &Pairs) -> Vec<String>,
    /// What was done: something set, something taken away.
    pub done: fn(set: bool, removed: bool) -> &'static str,
}

/// Set and take away what the words say.
pub async fn change(
    arguments: &Arguments,
    session: &Session,
    marks: &Marks,
    words: &[String],
    pairs: &Pairs,
) -> Outcome<()> {
    let files = manifest::FileArguments::of(arguments);
    let (local, list) = (arguments.on("local"), arguments.on("list"));
    for flag in ["selector", "field-selector"] {
        if arguments.on("all") && !arguments.text_or_empty(flag).is_empty() {
            return Err(Failure::local(format!("cannot set --all and --{flag} at the same time")));
        }
    }
    let change = Change::of(arguments, "", marks.manager)?;
    if list && !arguments.text_or_empty("output").is_empty() {
        return Err(Failure::local("--list and --output may not be specified together"));
    }
    if local && !words.is_empty() {
        return Err(Failure::local(
            "can only use local files by -f pod.yaml or --filename=pod.json when --local=true is set",
        ));
    }
    if files.is_empty() && (local || words.is_empty()) {
        return Err(Failure::local(if local {
            "one or more files must be specified as -f pod.yaml or --filename=pod.json"
        } else {
            "one or more resources must be specified as <resource> <name> or <resource>/<name>"
        }));
    }
    if pairs.set.is_empty() && pairs.remove.is_empty() && !list {
        return Err(Failure::local(format!("at least one {} update is required", marks.singular)));
    }
    if let Some(both) = pairs.remove.iter().find(|key| pairs.set.contains_key(*key)) {
        debug_assert!(!both.is_empty() || pairs.set.contains_key(""));
        let what = match marks.singular {
            "label" => "a label in the same command".to_owned(),
            singular => format!("the following {singular}(s) in the same command: {both}"),
        };
        return Err(Failure::local(format!("can not both modify and remove {what}")));
    }
    let found = objects::find(arguments, words, session).await?;
    let (single, version) = (found.single, arguments.text_or_empty("resource-version"));
    if !single && !version.is_empty() {
        return Err(Failure::local("--resource-version may only be used with a single resource"));
    }
    let (marks, change) = (&marks, &change);
    found
        .each(async |found| {
            let before = &found.object;
            let current = before.at("metadata").at(marks.field);
            if !arguments.on("overwrite") {
                Failure::all((marks.clash)(current, pairs).into_iter().map(Failure::local).collect())?;
            }
            let mut after = before.clone();
            let values = after.object_mut("metadata").object_mut(marks.field);
            let set = pairs.set.iter().filter(|(key, value)| current.optional_str(key) != Some(value.as_str()));
            let set = set.map(|(key, value)| values.set(key, value.as_str())).count() > 0;
            let mut removed = false;
            for key in &pairs.remove {
                removed |= current.has(key);
                let told = marks.singular == "label" && !local && !list && !change.only_says();
                if !current.has(key) && told {
                    session.print(&format!("label {} not found.\n", go_quote(key))).await?;
                }
                values.clear(key);
            }
            if values.entries().is_empty() {
                after.object_mut("metadata").clear(marks.field);
            }
            if list {
                return show(session, marks, &after, single).await;
            }
            let mut object = after;
            if (set || removed) && !local && !change.only_says() {
                let (mut patch, content_type) = difference(&found.resource.kind, before, before, &object)?;
                if !version.is_empty() {
                    patch.object_mut("metadata").set("resourceVersion", version);
                }
                object = change.send_patch(session, &found.resource.kind, before, content_type, &patch).await?;
            }
            change.print_as(session, &object, (marks.done)(set, removed)).await
        })
        .await
}

async fn show(session: &Session, marks: &Marks, object: &Value, single: bool) -> Outcome<()> {
    let mut text = String::new();
    let indent = if single { "" } else { " " };
    if !single {
        let (group, _) = crate::api::gvk::split_api_version(object.str_at("apiVersion"));
        let name = name_of(object);
        let name = name.rsplit('/').next().unwrap_or_default();
        text = format!("Listing {} for {}.{group}/{name}:\n", marks.field, object.str_at("kind"));
    }
    for (key, value) in object.at("metadata").map_at(marks.field) {
        text.push_str(&format!("{indent}{key}={}\n", value.as_str().unwrap_or_default()));
    }
    session.print(&text).await
}
