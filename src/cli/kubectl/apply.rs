//! `kubectl apply`: make the cluster what the files say.
//!
//! Client-side, as kubectl does it by default: the three-way difference between what was applied
//! last (an annotation), the file and the live object, sent as a strategic merge patch (as a JSON
//! merge patch for kinds that this binary has no schema of). With `--server-side` the server
//! decides, by field ownership.

use super::discovery::{Discovery, Resource};
use super::failure::{Failure, Outcome};
use super::last_applied;
use super::manifest::{self, FileArguments, Manifest};
use super::output::{Format, list_of, name_in, without_managed_fields};
use super::session::{JSON, Query, Session, object_path};
use crate::api::field::go_quote;
use crate::api::{Fields, FieldsMut, GroupVersionKind};
use crate::schema::strategic_diff::{three_way, three_way_merge_patch};
use http::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// A patch that meets another change is made again so often.
const CONFLICTS: usize = 5;
const BACKOFF: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    files: FileArguments,
    /// Form of the output: name, json, yaml, jsonpath=…
    #[arg(long, short = 'o', value_name = "FORMAT")]
    output: Option<String>,
    /// Let the server merge, by field ownership
    #[arg(long)]
    server_side: bool,
    /// With --server-side: take fields over that others own
    #[arg(long)]
    force_conflicts: bool,
    /// Name of the owner of the applied fields
    #[arg(long, value_name = "NAME")]
    field_manager: Option<String>,
    /// Change nothing: client (say what would be done) or server (let the server check it)
    #[arg(long, value_name = "WHERE", num_args = 0..=1, require_equals = true, default_value = "none", default_missing_value = "client", value_parser = ["none", "client", "server"])]
    dry_run: String,
    /// What to do with unknown and duplicate fields: strict, warn, ignore
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true, default_value = "strict", default_missing_value = "strict", value_parser = ["strict", "true", "warn", "ignore", "false"])]
    validate: String,
    /// Delete and create again what cannot be changed
    #[arg(long)]
    force: bool,
    /// Show managedFields in JSON and YAML
    #[arg(long)]
    show_managed_fields: bool,
}

pub(super) async fn run(args: Args, session: &Session) -> Outcome<()> {
    if args.files.files.is_empty() {
        return Err(Failure::local("must specify one of -f and -k"));
    }
    if args.force_conflicts && !args.server_side {
        return Err(Failure::local("--force-conflicts only works with --server-side"));
    }
    if args.force && args.server_side {
        return Err(Failure::local("--force cannot be used with --server-side"));
    }
    if args.dry_run == "client" && args.server_side {
        return Err(Failure::local(
            "--dry-run=client doesn't work with --server-side (did you mean --dry-run=server instead?)",
        ));
    }
    let format = Format::parse(args.output.as_deref(), false)?;
    let discovery = Discovery::fetch(session).await?;
    let (manifests, mut failures) = manifest::read(&args.files, session, &discovery).await?;
    if manifests.is_empty() && failures.is_empty() {
        return Err(Failure::local("no objects passed to apply"));
    }
    let apply = Apply { args: &args, session };
    let mut applied = Vec::new();
    for manifest in &manifests {
        match apply.one(manifest).await {
            Ok(done) if matches!(format, Format::Default) => {
                session.print(&format!("{} {}{}\n", done.name, done.verb, apply.suffix())).await?;
            }
            Ok(done) => applied.push(done.object),
            Err(failure) => failures.push(failure),
        }
    }
    if !args.show_managed_fields {
        applied.iter_mut().for_each(without_managed_fields);
    }
    match applied.len() {
        0 => {}
        1 => session.print(&format.print(&applied[0])).await?,
        _ => session.print(&format.print(&list_of(applied))).await?,
    }
    Failure::all(failures)
}

/// What became of an object.
struct Done {
    name: String,
    verb: &'static str,
    object: Value,
}

struct Apply<'a> {
    args: &'a Args,
    session: &'a Session,
}

impl Apply<'_> {
    fn suffix(&self) -> &'static str {
        match self.args.dry_run.as_str() {
            "client" => " (dry run)",
            "server" => " (server dry run)",
            _ => "",
        }
    }

    fn query(&self) -> Query {
        let mut query = Query::default();
        let default = if self.args.server_side { "kubectl" } else { "kubectl-client-side-apply" };
        query.set("fieldManager", self.args.field_manager.as_deref().unwrap_or(default));
        query.set(
            "fieldValidation",
            match self.args.validate.as_str() {
                "warn" => "Warn",
                "ignore" | "false" => "Ignore",
                _ => "Strict",
            },
        );
        query.set("dryRun", if self.args.dry_run == "server" { "All" } else { "" });
        query
    }

    fn only_says(&self) -> bool {
        self.args.dry_run == "client"
    }

    async fn one(&self, manifest: &Manifest) -> Outcome<Done> {
        if manifest.name().is_empty() {
            let generated = manifest.object.at("metadata").str_at("generateName");
            let text = match generated {
                "" => format!(
                    "error when retrieving current configuration of {}: resource name may not be empty",
                    manifest.source
                ),
                prefix => format!("from {prefix}: cannot use generate name with apply"),
            };
            return Err(Failure::local(text));
        }
        if self.args.server_side {
            return self.server_side(manifest).await;
        }
        let wanted = last_applied::annotated(&manifest.object);
        let live = self.session.object(&manifest.resource.kind, manifest.namespace(), manifest.name()).await;
        match live {
            Ok(live) => self.update(manifest, &wanted, live).await,
            Err(failure) if failure.is_not_found() => self.create(manifest, &wanted, "created").await,
            Err(failure) => Err(failure.doing("retrieving current configuration of", &manifest.source)),
        }
    }

    fn done(&self, resource: &Resource, verb: &'static str, object: Value) -> Done {
        Done { name: name_in(&resource.kind, object.at("metadata").str_at("name")), verb, object }
    }

    async fn create(&self, manifest: &Manifest, wanted: &Value, verb: &'static str) -> Outcome<Done> {
        if self.only_says() {
            return Ok(self.done(&manifest.resource, verb, wanted.clone()));
        }
        let path = self.query().on(&manifest.resource.kind.path(manifest.namespace()));
        let created = self.session.write(Method::POST, &path, JSON, wanted).await;
        let created = created.map_err(|failure| failure.doing("creating", &manifest.source))?;
        Ok(self.done(&manifest.resource, verb, created))
    }

    async fn update(&self, manifest: &Manifest, wanted: &Value, mut live: Value) -> Outcome<Done> {
        if !last_applied::is_there(&live) {
            let kind = &manifest.resource.kind;
            self.session
                .say(&format!(
                    "Warning: resource {}/{} is missing the {} annotation which is required by kubectl apply. kubectl apply should only be used on resources created declaratively by either kubectl create --save-config or kubectl apply. The missing annotation will be patched automatically.",
                    kind.plural,
                    manifest.name(),
                    last_applied::ANNOTATION
                ))
                .await?;
        }
        let mut attempt = 1;
        loop {
            let (patch, content_type) = self.patch(manifest, wanted, &live)?;
            if patch.entries().is_empty() {
                return Ok(self.done(&manifest.resource, "unchanged", live));
            }
            if self.only_says() {
                return Ok(self.done(&manifest.resource, "configured", live));
            }
            let path = object_path(&manifest.resource.kind, manifest.namespace(), manifest.name());
            let sent = self.session.write(Method::PATCH, &self.query().on(&path), content_type, &patch).await;
            match sent {
                Ok(object) => return Ok(self.done(&manifest.resource, "configured", object)),
                Err(Failure::Status(status)) if status.reason == "Conflict" && attempt < CONFLICTS => {
                    // The first try again is at once.
                    if attempt > 1 {
                        tokio::time::sleep(BACKOFF).await;
                    }
                    attempt += 1;
                    live = self.session.object(&manifest.resource.kind, manifest.namespace(), manifest.name()).await?;
                }
                Err(Failure::Status(status))
                    if self.args.force && matches!(status.reason.as_str(), "Conflict" | "Invalid") =>
                {
                    return self.replace(manifest, wanted).await;
                }
                Err(failure) => {
                    let what = format!("applying patch:\n{patch}\nto:\n{}\nfor:", self.describe(manifest));
                    return Err(failure.doing(&what, &manifest.source));
                }
            }
        }
    }

    fn describe(&self, manifest: &Manifest) -> String {
        let kind = &manifest.resource.kind;
        let resource = format!("{}/{}, Resource={}", kind.group, kind.version, kind.plural);
        format!(
            "Resource: {}, GroupVersionKind: {}/{}, Kind={}\nName: {}, Namespace: {}",
            go_quote(&resource),
            kind.group,
            kind.version,
            kind.kind,
            go_quote(manifest.name()),
            go_quote(manifest.namespace())
        )
    }

    fn patch(&self, manifest: &Manifest, wanted: &Value, live: &Value) -> Outcome<(Value, &'static str)> {
        let original = last_applied::of(live).unwrap_or(Value::Null);
        let kind = &manifest.resource.kind;
        let known = crate::schema::builtin_schema(&GroupVersionKind::new(&kind.group, &kind.version, &kind.kind));
        let Some(schema) = known else {
            return Ok((three_way_merge_patch(&original, wanted, live), "application/merge-patch+json"));
        };
        let patch = three_way(&schema, &original, wanted, live)
            .map_err(|error| Failure::local(format!("creating patch for {}: {error}", manifest.source)))?;
        Ok((patch, "application/strategic-merge-patch+json"))
    }

    /// `--force`: what cannot be changed is made anew.
    async fn replace(&self, manifest: &Manifest, wanted: &Value) -> Outcome<Done> {
        let (kind, namespace, name) = (&manifest.resource.kind, manifest.namespace(), manifest.name());
        let path = object_path(kind, namespace, name);
        let options = json!({ "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background" });
        self.session.write(Method::DELETE, &path, JSON, &options).await?;
        super::delete::wait_gone(self.session, kind, namespace, name, None, None).await?;
        self.create(manifest, wanted, "configured").await
    }

    async fn server_side(&self, manifest: &Manifest) -> Outcome<Done> {
        let mut query = self.query();
        if self.args.force_conflicts {
            query.set("force", "true");
        }
        let mut object = manifest.object.clone();
        object.object_mut("metadata").clear("managedFields");
        let path = object_path(&manifest.resource.kind, manifest.namespace(), manifest.name());
        let sent = self.session.write(Method::PATCH, &query.on(&path), "application/apply-patch+yaml", &object).await;
        match sent {
            Ok(object) => Ok(self.done(&manifest.resource, "serverside-applied", object)),
            Err(Failure::Status(status)) if status.reason == "Conflict" => {
                Err(Failure::local(format!("{}\n{ADVICE}", status.message)))
            }
            Err(failure) => Err(failure),
        }
    }
}

/// What a user can do about fields that others own.
const ADVICE: &str = "Please review the fields above--they currently have other managers. Here
are the ways you can resolve this warning:
* If you intend to manage all of these fields, please re-run the apply
  command with the `--force-conflicts` flag.
* If you do not intend to manage all of the fields, please edit your
  manifest to remove references to the fields that should keep their
  current managers.
* You may co-own fields by updating your manifest to match the existing
  value; in this case, you'll become the manager if the other manager(s)
  stop managing the field (remove it from their configuration).
See https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts";
