//! `kubectl diff`: what `apply` would change, as `diff` shows it; code 1 where there is something.

use super::apply;
use super::changes::{Change, FIELD_MANAGER};
use super::discovery::Discovery;
use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Run, Verb, switch, text};
use super::manifest::{self, FileArguments};
use super::objects::SELECTOR;
use super::output::without_managed_fields;
use super::session::Session;
use crate::api::{Fields, FieldsMut};
use crate::client::Kind;
use anyhow::Context;
use serde_json::Value;
use std::path::{Path, PathBuf};

pub(super) const VERB: Verb = Verb {
    name: "diff",
    about: "Show what apply would change",
    usage: "kubectl diff -f FILE",
    flags: &[
        manifest::FLAGS,
        &[
            FIELD_MANAGER,
            SELECTOR,
            switch("server-side", "As apply --server-side"),
            switch("force-conflicts", "With --server-side: take fields over that others own"),
            switch("show-managed-fields", "Also in managedFields"),
            switch("show-secrets", "Show the values of Secrets"),
            text("concurrency", "N", "Objects are asked for one after the other: this changes nothing").default("1"),
            switch("prune", "Also what apply --prune would delete"),
        ],
        &[apply::ALLOW],
    ],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    // 1 says that there is a difference, so that an error has another code.
    compare(arguments, session).await.map_err(|failure| match failure {
        Failure::Exit(code) => Failure::Exit(code),
        failure => Failure::Ended(failure.to_string(), 2),
    })
}

async fn compare(arguments: &Arguments, session: &Session) -> Outcome<()> {
    if let words @ [_, ..] = arguments.words().as_slice() {
        return Err(arguments.usage(format!("Unexpected args: [{}]", words.join(" "))));
    }
    let files = FileArguments::of(arguments);
    files.check()?;
    let discovery = Discovery::fetch(session).await?;
    let (mut manifests, failures) = manifest::read(&files, session, &discovery).await?;
    Failure::all(failures)?;
    manifest::select(&mut manifests, arguments)?;
    let server_side = arguments.on("server-side");
    let mut change = Change::of(arguments, "", if server_side { "kubectl" } else { "kubectl-client-side-apply" })?;
    change.dry_run = super::changes::DryRun::Server;
    let directories = Directories::new()?;
    let mut applied = Vec::new();
    for manifest in &manifests {
        let live = match session.object(&manifest.resource.kind, manifest.namespace(), manifest.name()).await {
            Ok(object) => Some(object),
            Err(failure) if failure.is_not_found() => None,
            Err(failure) => return Err(failure),
        };
        let merged = apply::outcome(&change, session, manifest, server_side, arguments.on("force-conflicts")).await?;
        directories.write(arguments, &manifest.resource.kind, live, Some(merged.clone()))?;
        applied.push(merged);
    }
    if arguments.on("prune") {
        for (resource, object) in apply::pruned(arguments, session, &discovery, &applied).await? {
            directories.write(arguments, &resource.kind, Some(object), None)?;
        }
    }
    directories.compare(session).await
}

/// The objects as they are, and as they would be.
struct Directories {
    live: PathBuf,
    merged: PathBuf,
}

impl Directories {
    fn new() -> Outcome<Self> {
        let make = |name: &str| -> Outcome<PathBuf> {
            let path = std::env::temp_dir().join(format!("{name}-{}", rand::random::<u32>()));
            let mut builder = std::fs::DirBuilder::new();
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            builder.create(&path).with_context(|| format!("make {}", path.display()))?;
            Ok(path)
        };
        Ok(Self { live: make("LIVE")?, merged: make("MERGED")? })
    }

    fn write(&self, arguments: &Arguments, kind: &Kind, live: Option<Value>, merged: Option<Value>) -> Outcome<()> {
        let group = if kind.group.is_empty() { String::new() } else { format!("{}.", kind.group) };
        let metadata = merged.as_ref().or(live.as_ref()).unwrap_or(&Value::Null).at("metadata");
        let name = format!(
            "{group}{}.{}.{}.{}",
            kind.version,
            kind.kind,
            metadata.str_at("namespace"),
            metadata.str_at("name")
        );
        let mut both = (live, merged);
        if kind.kind == "Secret" && kind.group.is_empty() && !arguments.on("show-secrets") {
            mask(&mut both);
        }
        for (directory, object) in [(&self.live, both.0), (&self.merged, both.1)] {
            let path = directory.join(&name);
            let Some(mut object) = object else {
                std::fs::write(&path, "").with_context(|| format!("write {}", path.display()))?;
                continue;
            };
            if !arguments.on("show-managed-fields") {
                without_managed_fields(&mut object);
            }
            std::fs::write(&path, crate::api::yaml::print(&object))
                .with_context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }

    /// With `$KUBECTL_EXTERNAL_DIFF`, which may have flags of its own, or `diff`.
    async fn compare(&self, session: &Session) -> Outcome<()> {
        let external = std::env::var("KUBECTL_EXTERNAL_DIFF").unwrap_or_default();
        let mut words = external.split(' ').filter(|word| !word.is_empty());
        let program = words.next().unwrap_or("diff").to_owned();
        // Only what looks like a flag is one.
        let is_flag =
            |word: &&str| word.starts_with('-') && word.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '=');
        let mut flags: Vec<&str> = words.filter(is_flag).collect();
        if external.is_empty() {
            flags = vec!["-u", "-N"];
        }
        let mut command = tokio::process::Command::new(&program);
        let output = command.args(flags).args([&self.live, &self.merged]).output().await;
        let output = output.map_err(|error| {
            let why = match error.kind() {
                std::io::ErrorKind::NotFound => "executable file not found in $PATH".to_owned(),
                _ => error.to_string(),
            };
            Failure::local(format!("failed to run {program:?}: {why}"))
        })?;
        session.print(&String::from_utf8_lossy(&output.stdout)).await?;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        if !errors.trim().is_empty() {
            session.say(errors.trim_end()).await?;
        }
        match output.status.code() {
            Some(0) => Ok(()),
            Some(code) => Err(Failure::Exit(u8::try_from(code).unwrap_or(2))),
            None => Err(Failure::local(format!("{program} was ended by a signal"))),
        }
    }
}

impl Drop for Directories {
    fn drop(&mut self) {
        for path in [&self.live, &self.merged] {
            remove(path);
        }
    }
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_dir_all(path) {
        tracing::debug!(%error, path = %path.display(), "a directory of diff stays");
    }
}

/// That a value differs may be seen, the value may not.
fn mask((live, merged): &mut (Option<Value>, Option<Value>)) {
    const MASKED: &str = "***";
    let data = |object: &Option<Value>| object.as_ref().map(|object| object.at("data").clone()).unwrap_or_default();
    let (before, after) = (data(live), data(merged));
    let hide = |object: &mut Value, own: &Value, other: &Value, which: &str| {
        for (key, value) in own.entries() {
            let text = match other.get_set(key) {
                Some(same) if same == value => MASKED.to_owned(),
                Some(_) => format!("{MASKED} ({which})"),
                None => MASKED.to_owned(),
            };
            object.object_mut("data").set(key, text);
        }
        let annotation = super::last_applied::ANNOTATION;
        if object.at("metadata").at("annotations").has(annotation) {
            object.object_mut("metadata").object_mut("annotations").set(annotation, MASKED);
        }
    };
    if let Some(live) = live {
        hide(live, &before, &after, "before");
    }
    if let Some(merged) = merged {
        hide(merged, &after, &before, "after");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_masked() {
        let mut both = (
            Some(json!({ "data": { "a": "1", "b": "2" } })),
            Some(json!({ "data": { "a": "1", "b": "3", "c": "4" } })),
        );
        mask(&mut both);
        assert_eq!(both.0.expect("there")["data"], json!({ "a": "***", "b": "*** (before)" }));
        assert_eq!(both.1.expect("there")["data"], json!({ "a": "***", "b": "*** (after)", "c": "***" }));
    }
}
