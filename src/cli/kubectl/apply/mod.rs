//! `kubectl apply`: make the cluster what the files say.
//!
//! Client-side, as kubectl does it by default: the three-way difference between what was applied
//! last (an annotation), the file and the live object, sent as a strategic merge patch (as a JSON
//! merge patch for kinds that this binary has no schema of). With `--server-side` the server
//! decides, by field ownership.

mod prune;
mod recorded;

pub(in crate::cli::kubectl) use prune::{ALLOW, pruned};

use crate::api::field::go_quote;
use crate::api::{Fields, FieldsMut};
use crate::cli::kubectl::changes::{Change, DRY_RUN, FIELD_MANAGER, VALIDATE, difference};
use crate::cli::kubectl::delete;
use crate::cli::kubectl::discovery::Discovery;
use crate::cli::kubectl::failure::{Failure, Outcome};
use crate::cli::kubectl::flags::{Arguments, DURATION, Run, Verb, optional, switch, text};
use crate::cli::kubectl::last_applied;
use crate::cli::kubectl::manifest::{self, FileArguments, Manifest};
use crate::cli::kubectl::objects::SELECTOR;
use crate::cli::kubectl::output::{self, Format, list_of};
use crate::cli::kubectl::session::{JSON, Session, object_path};
use http::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// A patch that meets another change is made again so often.
const CONFLICTS: usize = 5;
const BACKOFF: Duration = Duration::from_secs(1);

pub(in crate::cli::kubectl) const VERB: Verb = Verb {
    name: "apply",
    about: "Create objects from files, or change them to what the files say",
    usage: "kubectl apply (-f FILE | -k DIRECTORY)",
    flags: &[
        output::FLAGS,
        manifest::FLAGS,
        &[
            DRY_RUN,
            FIELD_MANAGER,
            VALIDATE,
            SELECTOR,
            switch("server-side", "Let the server merge, by field ownership"),
            switch("force-conflicts", "With --server-side: take fields over that others own"),
            switch("force", "Delete and create again what cannot be changed"),
            switch("overwrite", "Take over what others changed").default("true"),
            switch("openapi-patch", "The schemas are always known here: this changes nothing").default("true"),
            text("subresource", "NAME", "With --server-side: subresource to apply to"),
            text("grace-period", "SECONDS", "With --force: how long pods have to end").default("-1"),
            text("timeout", DURATION, "With --force: how long to wait for the deletion").default("0s"),
            switch("wait", "With --force: the deletion is always waited for"),
            optional("cascade", "HOW", "background", "With --force and --prune: background, foreground, orphan")
                .default("background"),
        ],
        prune::FLAGS,
    ],
    verbs: &[&recorded::EDIT, &recorded::SET, &recorded::VIEW],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    if let words @ [_, ..] = arguments.words().as_slice() {
        return Err(arguments.usage(format!("Unexpected args: [{}]", words.join(" "))));
    }
    let files = FileArguments::of(arguments);
    files.check()?;
    let server_side = arguments.on("server-side");
    let (force, force_conflicts) = (arguments.on("force"), arguments.on("force-conflicts"));
    if force_conflicts && !server_side {
        return Err(Failure::local("--force-conflicts only works with --server-side"));
    }
    if force && server_side {
        return Err(Failure::local("--force cannot be used with --server-side"));
    }
    if force && arguments.text_or_empty("dry-run") == "server" {
        return Err(Failure::local("--dry-run=server cannot be used with --force"));
    }
    if force && arguments.on("prune") {
        return Err(Failure::local("--force cannot be used with --prune"));
    }
    if !server_side && !arguments.text_or_empty("subresource").is_empty() {
        return Err(Failure::local("--subresource can only be specified for --server-side"));
    }
    let deletion = Deletion {
        policy: delete::cascade(arguments.text_or_empty("cascade"))?,
        grace: arguments.int("grace-period")?.filter(|grace| *grace >= 0),
        timeout: arguments.timeout("timeout")?,
    };
    prune::check(arguments, server_side)?;
    let manager = if server_side { "kubectl" } else { "kubectl-client-side-apply" };
    let change = Change::of(arguments, "", manager)?;
    if change.only_says() && server_side {
        return Err(Failure::local(
            "--dry-run=client doesn't work with --server-side (did you mean --dry-run=server instead?)",
        ));
    }
    let discovery = Discovery::fetch(session).await?;
    let (mut manifests, mut failures) = manifest::read(&files, session, &discovery).await?;
    manifest::select(&mut manifests, arguments)?;
    if manifests.is_empty() && failures.is_empty() {
        return Err(Failure::local("no objects passed to apply"));
    }
    let subresource = arguments.text_or_empty("subresource");
    let force = force.then_some(&deletion);
    let apply = Apply { change: &change, server_side, force, force_conflicts, session, records: true, subresource };
    let mut applied = Vec::new();
    let says = matches!(change.format, Format::Default | Format::Name);
    for manifest in &manifests {
        match apply.one(manifest).await {
            Ok(done) => {
                if says {
                    change.print_as(session, &done.object, done.verb).await?;
                }
                applied.push(done.object);
            }
            Err(failure) => failures.push(failure),
        }
    }
    // What failed may be what would be deleted.
    if arguments.on("prune") && failures.is_empty() {
        prune::run(arguments, session, &change, &discovery, &applied).await?;
    }
    match applied.as_slice() {
        _ if says => {}
        [] => {}
        [one] => change.print(session, one).await?,
        _ => change.print(session, &list_of(applied)).await?,
    }
    Failure::all(failures)
}

/// What the server would make of an object that is applied.
pub(in crate::cli::kubectl) async fn outcome(
    change: &Change,
    session: &Session,
    manifest: &Manifest,
    server_side: bool,
    force_conflicts: bool,
) -> Outcome<Value> {
    let apply = Apply { change, server_side, force: None, force_conflicts, session, records: false, subresource: "" };
    Ok(apply.one(manifest).await?.object)
}

/// What became of an object.
struct Done {
    verb: &'static str,
    object: Value,
}

/// How `--force` deletes what cannot be changed.
struct Deletion {
    policy: &'static str,
    grace: Option<i64>,
    timeout: Option<Duration>,
}

struct Apply<'a> {
    change: &'a Change,
    server_side: bool,
    force: Option<&'a Deletion>,
    force_conflicts: bool,
    subresource: &'a str,
    /// Keep what is applied in the annotation, and say where it is missing.
    records: bool,
    session: &'a Session,
}

impl Apply<'_> {
    async fn one(&self, manifest: &Manifest) -> Outcome<Done> {
        if manifest.name().is_empty() {
            let generated = manifest.object.at("metadata").str_at("generateName");
            let text = match generated {
                "" => format!(
                    "error when retrieving current configuration of:\n{}\nfrom server for: {}: resource name may not be empty",
                    self.describe(manifest),
                    go_quote(&manifest.source)
                ),
                prefix => format!("from {prefix}: cannot use generate name with apply"),
            };
            return Err(Failure::local(text));
        }
        if self.server_side {
            return self.on_server(manifest).await;
        }
        let mut wanted = manifest.object.clone();
        if self.records {
            wanted = last_applied::annotated(&wanted);
        } else {
            // Annotations that apply and others made stay.
            wanted.object_mut("metadata").object_mut("annotations");
        }
        let live = self.session.object(&manifest.resource.kind, manifest.namespace(), manifest.name()).await;
        match live {
            Ok(live) => self.update(manifest, &wanted, live).await,
            Err(failure) if failure.is_not_found() => self.create(manifest, &wanted, "created").await,
            Err(failure) => Err(failure.doing("retrieving current configuration of", &manifest.source)),
        }
    }

    async fn create(&self, manifest: &Manifest, wanted: &Value, verb: &'static str) -> Outcome<Done> {
        let created = self.change.create(self.session, &manifest.resource.kind, manifest.namespace(), wanted).await;
        let object = created.map_err(|failure| failure.doing("creating", &manifest.source))?;
        Ok(Done { verb, object })
    }

    async fn update(&self, manifest: &Manifest, wanted: &Value, mut live: Value) -> Outcome<Done> {
        if self.records && !last_applied::is_there(&live) {
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
            let original = last_applied::of(&live).unwrap_or(Value::Null);
            let kind = &manifest.resource.kind;
            let (patch, content_type) = difference(kind, &original, &live, wanted)?;
            if patch.entries().is_empty() {
                return Ok(Done { verb: "unchanged", object: live });
            }
            if self.change.only_says() {
                return Ok(Done { verb: "configured", object: live });
            }
            let sent = self.change.send_patch(self.session, kind, &live, content_type, &patch).await;
            match sent {
                Ok(object) => return Ok(Done { verb: "configured", object }),
                Err(Failure::Status(status)) if status.reason == "Conflict" && attempt < CONFLICTS => {
                    // The first try again is at once.
                    if attempt > 1 {
                        tokio::time::sleep(BACKOFF).await;
                    }
                    attempt += 1;
                    live = self.session.object(&manifest.resource.kind, manifest.namespace(), manifest.name()).await?;
                }
                Err(failure) => {
                    let status = if let Failure::Status(status) = &failure { status.reason.as_str() } else { "" };
                    if let (Some(deletion), "Conflict" | "Invalid") = (self.force, status) {
                        return self.replace(manifest, wanted, deletion).await;
                    }
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
            "Resource: {}, GroupVersionKind: {}\nName: {}, Namespace: {}",
            go_quote(&resource),
            go_quote(&format!("{}/{}, Kind={}", kind.group, kind.version, kind.kind)),
            go_quote(manifest.name()),
            go_quote(manifest.namespace())
        )
    }

    /// `--force`: what cannot be changed is made anew.
    async fn replace(&self, manifest: &Manifest, wanted: &Value, deletion: &Deletion) -> Outcome<Done> {
        let (kind, namespace, name) = (&manifest.resource.kind, manifest.namespace(), manifest.name());
        let path = object_path(kind, namespace, name);
        let mut options = json!({ "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": deletion.policy });
        if let Some(grace) = deletion.grace {
            options.set("gracePeriodSeconds", grace);
        }
        self.session.write(Method::DELETE, &path, JSON, &options).await?;
        crate::cli::kubectl::following::gone(self.session, kind, namespace, name, None, deletion.timeout).await?;
        self.create(manifest, wanted, "configured").await
    }

    async fn on_server(&self, manifest: &Manifest) -> Outcome<Done> {
        let mut query = self.change.query();
        if self.force_conflicts {
            query.set("force", "true");
        }
        let mut object = manifest.object.clone();
        object.object_mut("metadata").clear("managedFields");
        let mut path = object_path(&manifest.resource.kind, manifest.namespace(), manifest.name());
        if !self.subresource.is_empty() {
            path = format!("{path}/{}", self.subresource);
        }
        let sent = self.session.write(Method::PATCH, &query.on(&path), "application/apply-patch+yaml", &object).await;
        match sent {
            Ok(object) => Ok(Done { verb: "serverside-applied", object }),
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
