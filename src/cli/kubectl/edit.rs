//! `kubectl edit`: objects in the user's editor, and what was changed sent as a patch.
//!
//! What the server refuses is opened again with its reasons above it; what cannot be sent is kept in
//! a file that is named.

use super::changes::{self, Change, DryRun, SAVE_CONFIG, VALIDATE, difference};
use super::discovery::{Discovery, Resource};
use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Run, Verb, switch, text};
use super::last_applied;
use super::manifest::{self, FileArguments};
use super::objects::{self, Found};
use super::output::{Format, list_of, without_managed_fields};
use super::session::{Session, object_path};
use crate::api::field::go_quote;
use crate::api::{Fields, FieldsMut};
use anyhow::Context;
use http::Method;
use serde_json::Value;
use std::io::Write;
use std::path::PathBuf;

pub(super) const VERB: Verb = Verb {
    name: "edit",
    about: "Edit objects in your editor ($KUBE_EDITOR, $EDITOR or vi)",
    usage: "kubectl edit (TYPE NAME ... | TYPE/NAME ... | -f FILE)",
    flags: &[
        manifest::FLAGS,
        &[
            text("output", "FORMAT", "Form of the file to edit: yaml, json").short('o'),
            switch("output-patch", "Show the patch"),
            switch("windows-line-endings", "Write the file with the line ends of Windows"),
            switch("show-managed-fields", "Show managedFields"),
            text("subresource", "NAME", "Subresource to edit: status, scale"),
            SAVE_CONFIG,
            VALIDATE,
            changes::FIELD_MANAGER,
        ],
    ],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

const HEADER: &str = "# Please edit the object below. Lines beginning with a '#' will be ignored,
# and an empty file will abort the edit. If an error occurs while saving this file will be
# reopened with the relevant failures.
#
";
const APPLIED_HEADER: &str = "# Please edit the 'last-applied-configuration' annotations below.
# Lines beginning with a '#' will be ignored, and an empty file will abort the edit.
#
";

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let discovery = Discovery::fetch(session).await?;
    let found = objects::find_in(arguments, &arguments.words(), session, &discovery).await?;
    Failure::all(found.failures)?;
    if found.found.is_empty() {
        return Err(Failure::local("edit cancelled, no objects found"));
    }
    let mut change = Change::of(arguments, "edited", "kubectl-edit")?;
    let form = Form::of(arguments)?;
    change.format = Format::Default;
    let edit = Edit { arguments, session, discovery: &discovery, change: &change, form, header: HEADER };
    edit.objects(found.found).await
}

/// `create --edit`: each object of the files is edited first.
pub(super) async fn create(arguments: &Arguments, session: &Session, change: &Change) -> Outcome<()> {
    let discovery = Discovery::fetch(session).await?;
    let (manifests, failures) = manifest::read(&FileArguments::of(arguments), session, &discovery).await?;
    Failure::all(failures)?;
    let form = Form::of(arguments)?;
    let edit = Edit { arguments, session, discovery: &discovery, change, form, header: HEADER };
    for manifest in manifests {
        let Some((edited, file)) = edit.open(&manifest.object, &[], None).await? else { return Ok(()) };
        for object in edit.parse(&edited).map_err(Failure::local)? {
            let placed = manifest::place(object, &manifest.source, session, &discovery)?;
            let object = change.configured(&placed.object);
            match change.create(session, &placed.resource.kind, placed.namespace(), &object).await {
                Ok(created) => session.print(&changed_text(&created, "created", change.dry_run)).await?,
                Err(failure) => return Err(kept(session, &file, failure).await?),
            }
        }
        std::fs::remove_file(&file)?;
    }
    Ok(())
}

/// `apply edit-last-applied`: not the object, but what was applied.
pub(super) async fn last_applied(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let discovery = Discovery::fetch(session).await?;
    let found = objects::find_in(arguments, &arguments.words(), session, &discovery).await?;
    Failure::all(found.failures)?;
    let with_configuration = found.found.into_iter().filter(|one| last_applied::is_there(&one.object));
    let live: Vec<Found> = with_configuration.collect();
    if live.is_empty() {
        return Err(Failure::local(
            "no last-applied-configuration annotation found on resources, to create the annotation, use command `kubectl apply set-last-applied --create-annotation`",
        ));
    }
    let mut change = Change::of(arguments, "edited", "kubectl-last-applied")?;
    change.format = Format::Default;
    let form = Form::of(arguments)?;
    let edit = Edit { arguments, session, discovery: &discovery, change: &change, form, header: APPLIED_HEADER };
    for one in live {
        let applied = last_applied::of(&one.object).unwrap_or_default();
        let Some((text, file)) = edit.open(&applied, &[], None).await? else { continue };
        let objects = edit.parse(&text).map_err(Failure::local)?;
        let edited = objects.first().cloned().unwrap_or_default();
        if edited == applied {
            change.print_as(session, &one.object, "skipped").await?;
        } else {
            let mut after = one.object.clone();
            last_applied::set(&mut after, &edited);
            let sent = change.patch(session, &one.resource, &one.object, &after).await;
            match sent {
                Ok(object) => change.print(session, &object).await?,
                Err(failure) => return Err(kept(session, &file, failure).await?),
            }
        }
        std::fs::remove_file(&file)?;
    }
    Ok(())
}

fn changed_text(object: &Value, operation: &str, dry_run: DryRun) -> String {
    format!("{} {operation}{}\n", super::output::name_of(object), dry_run.suffix())
}

/// How the file is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Yaml,
    Json,
}

impl Form {
    fn of(arguments: &Arguments) -> Outcome<Self> {
        match arguments.text_or_empty("output") {
            "" | "yaml" => Ok(Self::Yaml),
            "json" => Ok(Self::Json),
            other => Err(Failure::local(format!("The flag 'output' must be one of yaml|json, got {other}"))),
        }
    }
}

struct Edit<'a> {
    arguments: &'a Arguments,
    session: &'a Session,
    discovery: &'a Discovery,
    change: &'a Change,
    form: Form,
    header: &'static str,
}

impl Edit<'_> {
    async fn objects(&self, live: Vec<Found>) -> Outcome<()> {
        let mut shown: Vec<Value> = live.iter().map(|found| found.object.clone()).collect();
        if !self.arguments.on("show-managed-fields") {
            shown.iter_mut().for_each(without_managed_fields);
        }
        let whole = if let [one] = shown.as_slice() { one.clone() } else { list_of(shown.clone()) };
        let (mut reasons, mut before): (Vec<String>, Option<String>) = (Vec::new(), None);
        loop {
            let Some((text, file)) = self.open(&whole, &reasons, before.as_deref()).await? else { return Ok(()) };
            reasons.clear();
            let edited = match self.parse(&text) {
                Ok(edited) => edited,
                Err(error) => {
                    reasons.push(format!("The edited file had a syntax error: {error}"));
                    before = Some(text);
                    continue;
                }
            };
            let mut unsent = false;
            for object in edited {
                let same = |found: &&(Found, &Value)| {
                    let (a, b) = (found.1.at("metadata"), object.at("metadata"));
                    a.str_at("uid") == b.str_at("uid") && a.str_at("uid") != ""
                };
                let pairs: Vec<(Found, &Value)> = live.iter().cloned().zip(&shown).collect();
                let Some((found, original)) = pairs.iter().find(same) else {
                    let failure = Failure::local("At least one of apiVersion, kind and name was changed");
                    return Err(kept(self.session, &file, failure).await?);
                };
                match self.send(&found.resource, original, &object).await {
                    Ok(text) => self.session.print(&text).await?,
                    Err(Failure::Status(status)) => {
                        let kind = &found.resource.kind;
                        let named = format!("{kind} {}", go_quote(&found.name));
                        if status.reason == "Invalid" {
                            self.session.say(&format!("error: {named} is invalid")).await?;
                            reasons.push(format!("{named} was not valid:"));
                            let causes = status.details.iter().flat_map(|details| &details.causes);
                            reasons.extend(causes.map(|cause| format!("* {}: {}", cause.field, cause.message)));
                        } else if status.is_not_found() {
                            self.session.say(&format!("error: {named} could not be found on the server")).await?;
                            let text = format!("The edits you made on deleted resources have been saved to {:?}", file);
                            self.session.say(&text).await?;
                            return Err(Failure::Exit(1));
                        } else {
                            self.session
                                .say(&format!("error: {named} could not be patched: {}", status.message))
                                .await?;
                            unsent = true;
                        }
                    }
                    Err(failure) => return Err(kept(self.session, &file, failure).await?),
                }
            }
            if unsent {
                let text = format!("You can run `kubectl replace -f {}` to try this update again.", file.display());
                self.session.say(&text).await?;
                return Err(Failure::Exit(1));
            }
            if reasons.is_empty() {
                return Ok(std::fs::remove_file(&file)?);
            }
            before = Some(text);
        }
    }

    /// Send what was changed; what is said of it.
    async fn send(&self, resource: &Resource, original: &Value, edited: &Value) -> Outcome<String> {
        if original == edited {
            return Ok(changed_text(original, "skipped", DryRun::None));
        }
        let name = |object: &Value| {
            let name = object.at("metadata").str_at("name");
            [object.str_at("apiVersion"), object.str_at("kind"), name].map(str::to_owned)
        };
        if name(original) != name(edited) {
            return Err(Failure::local("At least one of apiVersion, kind and name was changed"));
        }
        let edited = self.change.configured(edited);
        let (patch, content_type) = difference(&resource.kind, original, original, &edited)?;
        if self.arguments.on("output-patch") {
            self.session.print(&format!("Patch: {patch}\n")).await?;
        }
        let metadata = original.at("metadata");
        let mut path = object_path(&resource.kind, metadata.str_at("namespace"), metadata.str_at("name"));
        if let Some(subresource) = self.arguments.text("subresource").filter(|name| !name.is_empty()) {
            path = format!("{path}/{subresource}");
        }
        let path = self.change.query().on(&path);
        let object = self.session.write(Method::PATCH, &path, content_type, &patch).await?;
        Ok(changed_text(&object, "edited", DryRun::None))
    }

    fn parse(&self, text: &str) -> Result<Vec<Value>, String> {
        let mut objects = manifest::parse(&without_comments(text)).map_err(|error| error.to_string())?;
        for object in &mut objects {
            let (version, kind) = (object.str_at("apiVersion").to_owned(), object.str_at("kind").to_owned());
            if self.discovery.of_object(&version, &kind).is_none() {
                return Err(format!("no matches for kind {} in version {}", go_quote(&kind), go_quote(&version)));
            }
            // A file that says nothing of them does not take them away.
            if object.at("metadata").get("managedFields").is_some_and(Value::is_null) {
                object.object_mut("metadata").clear("managedFields");
            }
        }
        Ok(objects)
    }

    /// What the user made of the object, and the file that has it; None: nothing is to be done.
    async fn open(
        &self,
        object: &Value,
        reasons: &[String],
        before: Option<&str>,
    ) -> Outcome<Option<(String, PathBuf)>> {
        let (original, extension) = match self.form {
            Form::Yaml => (crate::api::yaml::print(object), "yaml"),
            Form::Json => (Format::Json.print(object)?, "json"),
        };
        let mut shown = self.header.to_owned();
        for reason in reasons {
            shown.push_str(&format!("# {}\n", reason.replace('\n', "\n# ")));
        }
        if !reasons.is_empty() {
            shown.push_str("#\n");
        }
        let body = before.map_or_else(|| original.clone(), without_comments);
        shown.push_str(&body);
        if self.arguments.on("windows-line-endings") {
            shown = shown.replace('\n', "\r\n");
        }
        let path = std::env::temp_dir().join(format!("kubectl-edit-{}.{extension}", rand::random::<u32>()));
        let mut options = std::fs::OpenOptions::new();
        std::os::unix::fs::OpenOptionsExt::mode(options.write(true).create_new(true), 0o600);
        options
            .open(&path)
            .and_then(|mut file| file.write_all(shown.as_bytes()))
            .with_context(|| format!("write {}", path.display()))?;
        start_editor(&path).await?;
        let edited = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let edited = edited.replace("\r\n", "\n");
        let bare = without_comments(&edited);
        if before.is_some_and(|before| without_comments(before) == bare) {
            let failure = Failure::local("Edit cancelled, no valid changes were saved.");
            return Err(kept(self.session, &path, failure).await?);
        }
        let nothing = if bare == without_comments(&original) {
            Some("Edit cancelled, no changes made.")
        } else if bare.trim().is_empty() {
            Some("Edit cancelled, saved file was empty.")
        } else {
            None
        };
        if let Some(text) = nothing {
            std::fs::remove_file(&path)?;
            self.session.say(text).await?;
            return Ok(None);
        }
        Ok(Some((edited, path)))
    }
}

fn without_comments(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with('#')).fold(String::new(), |all, line| all + line + "\n")
}

async fn kept(session: &Session, file: &std::path::Path, failure: Failure) -> Outcome<Failure> {
    session.say(&format!("A copy of your changes has been stored to {:?}", file.display().to_string())).await?;
    Ok(failure)
}

async fn start_editor(path: &std::path::Path) -> Outcome<()> {
    let named = |name: &str| std::env::var(name).ok().filter(|editor| !editor.is_empty());
    let editor = named("KUBE_EDITOR").or_else(|| named("EDITOR")).unwrap_or_else(|| "vi".to_owned());
    // It may have arguments of its own.
    let mut command = tokio::process::Command::new("sh");
    let status = command.arg("-c").arg(format!("{editor} \"$0\"")).arg(path).status().await;
    let status = status.with_context(|| format!("start the editor {editor}"))?;
    if !status.success() {
        return Err(Failure::local(format!("there was a problem with the editor {}", go_quote(&editor))));
    }
    Ok(())
}
