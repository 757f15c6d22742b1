//! DELETE of one object or of a collection: grace, finalizers, propagation, preconditions.

use super::Call;
use super::list;
use super::selection::Selection;
use crate::api::field::go_quote;
use crate::api::{GroupResource, GroupVersionKind, Status, UserInfo};
use crate::apiserver::admission::{Attributes, Operation};
use crate::apiserver::negotiate::{self, Allows, Output};
use crate::apiserver::options::{self, ListOptions};
use crate::apiserver::respond::{self, Reply};
use crate::apiserver::state::{State, storage_status};
use crate::apiserver::table;
use crate::apiserver::{audit, codec, services};
use crate::resources::Row;
use crate::resources::pipeline::deletion::{self, DeleteOptions, Step};
use crate::resources::pipeline::{metadata, metadata_str};
use crate::schema::{self, FieldValidation, MediaType};
use crate::storage::{Durability, Entry, Error, Key, Revision};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde_json::Value;
use std::sync::Arc;

/// A bound for the retries of one deletion; every one means that another write got through.
const ATTEMPTS: usize = 1000;

/// The version that Kubernetes records the options of a deletion in.
const INTERNAL_OPTIONS: &str = "meta.k8s.io/__internal";

/// One deletion and who makes it.
pub struct Deleter<'a> {
    pub state: &'a Arc<State>,
    pub row: &'a Arc<Row>,
    pub user: &'a UserInfo,
    pub namespace: &'a str,
    pub options: &'a DeleteOptions,
    /// It is one of a collection: who looks at the deletion is told no name.
    pub collected: bool,
    /// Nobody looks at it: it is part of what was looked at.
    pub admitted: bool,
    pub warnings: Vec<String>,
}

/// What came of a deletion.
pub enum Deleted {
    /// It is gone (in a dry run: would be).
    Gone(Value),
    /// It stays for now, marked.
    Marked(Value),
}

/// The options of the request: a body of DeleteOptions, or the query.
fn read_options(
    call_query: &crate::apiserver::request::Query,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<DeleteOptions, Status> {
    if body.is_empty() {
        return options::delete_options(call_query, body, None);
    }
    let media = codec::media_type(headers)?;
    if let Some(error) = schema::unreadable(body, media) {
        return Err(Status::bad_request(error));
    }
    let (kind, api_version) = codec::kind_of(body, media);
    let api_version = if api_version.is_empty() { "v1" } else { &api_version };
    if !matches!(&*kind, "" | "DeleteOptions") {
        let (kind, api_version) = (go_quote(&kind), go_quote(api_version));
        return Err(Status::bad_request(format!(
            "no kind {kind} is registered for version {api_version} in scheme \"k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27\""
        )));
    }
    // Options are a kind of every group version, those that nobody serves included.
    let of = |api_version: &str| {
        schema::builtin_schema(&GroupVersionKind::from_api_version(api_version, "DeleteOptions"))
            .ok_or_else(|| Status::internal("there are no options of deletions"))
    };
    let decoded = match of(api_version) {
        Ok(schema) => schema::decode_body(&schema, body, media, FieldValidation::Ignore)?,
        Err(_) => {
            let body = codec::of_version(body, media, "v1").map_err(Status::bad_request)?;
            schema::decode_body(&of("v1")?, &body, MediaType::Json, FieldValidation::Ignore)?
        }
    };
    audit::requested(&decoded.object, |options| options["apiVersion"] = INTERNAL_OPTIONS.into());
    options::delete_options(call_query, body, Some(decoded.object))
}

pub async fn delete(call: Call<'_>) -> Result<Reply, Status> {
    let Call { state, info, query, row, user, request } = call;
    let (parts, body) = request.into_parts();
    let output = negotiate::output(&parts.headers, query, Allows::Transforms)?;
    let body = codec::read(body).await?;
    let options = read_options(query, &parts.headers, &body)?;
    let mut deleter = Deleter {
        state,
        row,
        user,
        namespace: &info.namespace,
        options: &options,
        collected: false,
        admitted: false,
        warnings: Vec::new(),
    };
    let mut reply = match deleter.delete(&info.name).await {
        Ok(deleted) => answer(output, row, &info.name, &options, &deleted),
        Err(status) if deleter.warnings.is_empty() => return Err(status),
        Err(status) => respond::status_in(&status, output),
    };
    respond::warn(&mut reply, &deleter.warnings);
    Ok(reply)
}

fn answer(output: Output, row: &Row, name: &str, options: &DeleteOptions, deleted: &Deleted) -> Reply {
    match deleted {
        Deleted::Gone(object) if !row.strategy.returns_deleted_object() => {
            respond::deleted(&Status::success(&row.group_resource, name, metadata_str(object, "uid")))
        }
        Deleted::Gone(object) => respond::object(StatusCode::OK, output, row, object),
        Deleted::Marked(object) => {
            let code = if options.orphan_dependents == Some(false) { StatusCode::ACCEPTED } else { StatusCode::OK };
            respond::object(code, output, row, object)
        }
    }
}

impl Deleter<'_> {
    fn dry_run(&self) -> bool {
        !self.options.dry_run.is_empty()
    }

    pub async fn delete(&mut self, name: &str) -> Result<Deleted, Status> {
        self.warnings.extend(warning(self.row, self.options));
        let key = State::key(self.row, self.namespace, name);
        for _ in 0..ATTEMPTS {
            let entry = self.state.storage.get(&key);
            let entry = entry.ok_or_else(|| Status::not_found(&self.row.group_resource, name))?;
            let entry = codec::converted(self.row, entry).await?;
            if let Some(deleted) = self.delete_once(name, &key, &entry).await? {
                return Ok(deleted);
            }
        }
        Err(Status::modified(&self.row.group_resource, name))
    }

    /// None: somebody else wrote in between.
    async fn delete_once(&mut self, name: &str, key: &Key, entry: &Arc<Entry>) -> Result<Option<Deleted>, Status> {
        let old = codec::parse(self.row, &entry.body);
        let version = entry.revision.0.to_string();
        let now = Timestamp::now();
        let mut object = old.clone();
        let held = self.row.strategy.holds_deletion(&mut object, now);
        if held {
            self.check_held(name, &old, &version)?;
        } else {
            self.options.check_preconditions(self.row, &old, &version)?;
        }
        self.admission(name, &old, &version).await?;
        let step = if held {
            if object == old { Step::Pending } else { Step::Update }
        } else {
            object = old.clone();
            deletion::begin(self.row, &mut object, self.options, now)
        };
        let deleted = match step {
            Step::Pending => Some(Deleted::Marked(object.clone())),
            Step::Update if object == old => Some(Deleted::Marked(object.clone())),
            Step::Update => self.mark(key, entry, &object).await?.map(|entry| match entry {
                Some(entry) => return_at(self.row, &entry),
                None => Deleted::Marked(object.clone()),
            }),
            Step::Remove => self.remove(key, entry, &object).await?.map(|version| gone(&object, version)),
            Step::UpdateThenRemove if self.dry_run() => Some(Deleted::Gone(object.clone())),
            Step::UpdateThenRemove => match self.mark(key, entry, &object).await? {
                Some(Some(marked)) => {
                    // Whoever took it meanwhile did what was asked for.
                    let version = self.remove(key, &marked, &object).await?.unwrap_or(marked.revision);
                    Some(gone(&codec::parse(self.row, &marked.body), version))
                }
                _ => None,
            },
        };
        Ok(deleted.map(|deleted| with_version(deleted, &version)))
    }

    /// The preconditions of a kind that marks itself, in the words that it has for them.
    fn check_held(&self, name: &str, old: &Value, version: &str) -> Result<(), Status> {
        let wanted = [
            ("UID", &self.options.uid, metadata_str(old, "uid")),
            ("ResourceVersion", &self.options.resource_version, version),
        ];
        for (what, wanted, own) in wanted {
            if let Some(wanted) = wanted
                && wanted != own
            {
                let detail =
                    format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {own}");
                let resource: &GroupResource = &self.row.group_resource;
                return Err(Status::conflict(resource, name, &detail));
            }
        }
        Ok(())
    }

    /// Store the marked object; the inner None: a dry run.
    async fn mark(&self, key: &Key, entry: &Entry, object: &Value) -> Result<Option<Option<Arc<Entry>>>, Status> {
        if self.dry_run() {
            return Ok(Some(None));
        }
        let stored = self.stored_form(object);
        let body = codec::encode(self.state, self.row, &stored).await?;
        match self.state.storage.update(key.clone(), entry.revision, body, Durability::Durable).await {
            Ok(entry) => Ok(Some(Some(codec::converted(self.row, entry).await?))),
            Err(Error::Conflict { .. } | Error::NotFound) => Ok(None),
            Err(error) => Err(storage_status(error)),
        }
    }

    fn stored_form(&self, object: &Value) -> Value {
        let mut stored = object.clone();
        if self.row.stored_as.is_some() {
            self.row.strategy.to_stored(&mut stored);
        }
        stored
    }

    /// The revision of the deletion. None: somebody else wrote in between.
    async fn remove(&self, key: &Key, entry: &Entry, object: &Value) -> Result<Option<Revision>, Status> {
        if self.dry_run() {
            return Ok(Some(entry.revision));
        }
        match self.state.storage.delete(key.clone(), entry.revision).await {
            Ok((_, revision)) => {
                services::after_delete(self.state, self.row, object).await;
                Ok(Some(revision))
            }
            Err(Error::Conflict { .. } | Error::NotFound) => Ok(None),
            Err(error) => Err(storage_status(error)),
        }
    }

    async fn admission(&mut self, name: &str, old: &Value, version: &str) -> Result<(), Status> {
        if self.admitted || !self.state.has_admission(Operation::Delete, self.row, "") {
            return Ok(());
        }
        let mut old = old.clone();
        metadata(&mut old).insert("resourceVersion".to_owned(), Value::String(version.to_owned()));
        let options = options::delete_options_value(self.options);
        let mut attributes = Attributes {
            user: self.user,
            operation: Operation::Delete,
            kind: &self.row.gvk,
            resource: &self.row.gvr,
            subresource: "",
            namespace: self.namespace,
            name: if self.collected { "" } else { name },
            object: None,
            old_object: Some(&old),
            options: &options,
            dry_run: self.dry_run(),
            warnings: &mut self.warnings,
            reinvocation: Default::default(),
        };
        self.state.admit(&mut attributes).await?;
        self.state.validate(&mut attributes).await
    }
}

/// What a client is told who does not say what is to become of the dependents.
fn warning(row: &Row, options: &DeleteOptions) -> Option<String> {
    let says = options.orphan_dependents.is_some() || options.propagation_policy.is_some();
    row.strategy.deletion_warning().filter(|_| !says).map(str::to_owned)
}

/// An object that is gone: its version is that of its deletion.
fn gone(object: &Value, version: Revision) -> Deleted {
    let mut object = object.clone();
    metadata(&mut object).insert("resourceVersion".to_owned(), Value::String(version.0.to_string()));
    Deleted::Gone(object)
}

/// A marked object as the reply has it.
fn return_at(row: &Row, entry: &Entry) -> Deleted {
    let mut object = codec::parse(row, &entry.body);
    metadata(&mut object).insert("resourceVersion".to_owned(), Value::String(entry.revision.0.to_string()));
    Deleted::Marked(object)
}

fn with_version(mut deleted: Deleted, version: &str) -> Deleted {
    let (Deleted::Gone(object) | Deleted::Marked(object)) = &mut deleted;
    metadata(object).entry("resourceVersion").or_insert_with(|| Value::String(version.to_owned()));
    deleted
}

pub async fn delete_collection(call: Call<'_>) -> Result<Reply, Status> {
    let output = negotiate::output(call.headers(), call.query, Allows::Transforms)?;
    let list_options = ListOptions::parse(call.query, false)?;
    let selection = Selection::new(&call, list_options)?;
    let Call { state, info, query, row, user, request } = call;
    let (parts, body) = request.into_parts();
    let body = codec::read(body).await?;
    let options = read_options(query, &parts.headers, &body)?;
    let page = list::read(state, &selection).await?;
    let mut warnings: Vec<String> = warning(row, &options).into_iter().collect();
    for entry in &page.entries {
        let namespace = if row.namespaced { entry.key.namespace() } else { "" };
        let mut deleter = Deleter {
            state,
            row,
            user,
            namespace,
            options: &options,
            collected: true,
            admitted: false,
            warnings: Vec::new(),
        };
        match deleter.delete(entry.key.name()).await {
            Ok(_) => {}
            // Gone by another hand: just as well.
            Err(status) if status.is_not_found() => {}
            Err(status) => return Err(status),
        }
        for warning in deleter.warnings {
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
    }
    let call =
        Call { state, info, query, row, user, request: http::Request::from_parts(parts, axum::body::Body::empty()) };
    let include = table::Include::of(output, query)?;
    let mut reply = list::write(&call, output, include, &page);
    respond::warn(&mut reply, &warnings);
    Ok(reply)
}
