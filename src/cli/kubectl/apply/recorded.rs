//! `kubectl apply view-last-applied`, `set-last-applied`, `edit-last-applied`: what apply remembers.

use crate::api::{Fields, FieldsMut};
use crate::cli::kubectl::changes::{self, Change, DryRun};
use crate::cli::kubectl::discovery::Discovery;
use crate::cli::kubectl::edit;
use crate::cli::kubectl::failure::{Failure, Outcome};
use crate::cli::kubectl::flags::{Arguments, Run, Verb, switch, text};
use crate::cli::kubectl::last_applied;
use crate::cli::kubectl::manifest::{self, FileArguments};
use crate::cli::kubectl::objects::{self, ALL, SELECTOR};
use crate::cli::kubectl::output::{self, Format, escape_html};
use crate::cli::kubectl::session::Session;
use serde_json::json;

pub const VIEW: Verb = Verb {
    name: "view-last-applied",
    about: "Show what was applied last",
    usage: "kubectl apply view-last-applied (TYPE [NAME | -l label] | TYPE/NAME | -f FILE)",
    flags: &[
        manifest::FLAGS,
        &[text("output", "FORMAT", "Form of the output: yaml, json").short('o').default("yaml"), SELECTOR, ALL],
    ],
    run: Run::Cluster(|arguments, session| Box::pin(view(arguments, session))),
    ..Verb::DEFAULT
};

pub const SET: Verb = Verb {
    name: "set-last-applied",
    about: "Say that files were applied, without changing anything else",
    usage: "kubectl apply set-last-applied -f FILE",
    flags: &[
        manifest::FLAGS,
        output::FLAGS,
        &[changes::DRY_RUN, switch("create-annotation", "Also where nothing was applied yet")],
    ],
    run: Run::Cluster(|arguments, session| Box::pin(set(arguments, session))),
    ..Verb::DEFAULT
};

pub const EDIT: Verb = Verb {
    name: "edit-last-applied",
    about: "Edit what was applied last",
    usage: "kubectl apply edit-last-applied (TYPE NAME | TYPE/NAME | -f FILE)",
    flags: &[
        manifest::FLAGS,
        &[
            text("output", "FORMAT", "Form of the file to edit: yaml, json").short('o'),
            switch("windows-line-endings", "Write the file with the line ends of Windows"),
            changes::FIELD_MANAGER,
        ],
    ],
    run: Run::Cluster(|arguments, session| Box::pin(edit::last_applied(arguments, session))),
    ..Verb::DEFAULT
};

async fn view(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let format = match arguments.text_or_empty("output") {
        "yaml" => Format::Yaml,
        "json" => Format::Json,
        other => {
            let text = format!("Unexpected -o output mode: {other}, the flag 'output' must be one of yaml|json");
            return Err(arguments.usage(text));
        }
    };
    let found = objects::find(arguments, &arguments.words(), session).await?;
    found
        .each(async |found| match last_applied::of(&found.object) {
            Some(applied) => {
                // Kubernetes shows the text here, and not Go's form of it.
                let text = match format {
                    Format::Json => serde_json::to_string_pretty(&applied).unwrap_or_default() + "\n",
                    _ => format.print(&applied)?,
                };
                session.print(&text).await
            }
            None => Err(Failure::local(format!(
                "no last-applied-configuration annotation found on resource: {}",
                found.name
            ))),
        })
        .await
}

async fn set(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let files = FileArguments::of(arguments);
    files.check()?;
    let change = Change::of(arguments, "configured", "kubectl-last-applied")?;
    let discovery = Discovery::fetch(session).await?;
    let (manifests, mut failures) = manifest::read(&files, session, &discovery).await?;
    for manifest in &manifests {
        let kind = &manifest.resource.kind;
        let live = match session.object(kind, manifest.namespace(), manifest.name()).await {
            Ok(live) => live,
            Err(failure) => {
                failures.push(failure.doing("retrieving current configuration of", &manifest.source));
                continue;
            }
        };
        if !last_applied::is_there(&live) && !arguments.on("create-annotation") {
            failures.push(Failure::local(format!(
                "no last-applied-configuration annotation found on resource: {}, to create the annotation, run the command with --create-annotation",
                manifest.name()
            )));
            continue;
        }
        let text = escape_html(&manifest.object.to_string()) + "\n";
        let mut after = live.clone();
        after.object_mut("metadata").object_mut("annotations").set(last_applied::ANNOTATION, text.as_str());
        if after == live {
            session.print(&format!("set-last-applied {}: no changes required.\n", manifest.name())).await?;
            continue;
        }
        let patch = json!({ "metadata": { "annotations": { last_applied::ANNOTATION: text } } });
        if change.dry_run != DryRun::Client {
            let sent = change.send_patch(session, kind, &live, "application/merge-patch+json", &patch).await;
            match sent {
                Ok(object) => after = object,
                Err(failure) => {
                    failures.push(failure);
                    continue;
                }
            }
        }
        debug_assert!(last_applied::is_there(&after) && after.at("metadata").is_object());
        change.print(session, &after).await?;
    }
    Failure::all(failures)
}
