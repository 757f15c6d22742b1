//! The way of every write, from a decoded object to the store.
//!
//! Create: default, managed fields, mutating admission, hooks, prepare, validate, validating
//! admission, store. Update: the same around the current object, again from the start whenever
//! somebody else wrote in between. [`crate::resources::pipeline`] has the steps.

use crate::api::{FieldError, GroupVersionKind, Path, Status, UserInfo};
use crate::apiserver::admission::{Attributes, Operation};
use crate::apiserver::options::{self, WriteKind, WriteOptions};
use crate::apiserver::respond::{self, Reply};
use crate::apiserver::state::{State, registry_path, storage_status};
use crate::apiserver::subresources::scale;
use crate::apiserver::{codec, services};
use crate::resources::pipeline::{self, deletion, metadata, metadata_str};
use crate::resources::{Context, Row, Strategy, SubresourceHandler};
use crate::schema;
use crate::storage::{Durability, Entry, Error, Key, Revision};
use bytes::Bytes;
use http::StatusCode;
use jiff::Timestamp;
use rand::RngExt;
use serde_json::Value;
use std::sync::Arc;

/// One write and who makes it.
pub struct Writer<'a> {
    pub state: &'a Arc<State>,
    pub row: &'a Arc<Row>,
    pub user: &'a UserInfo,
    pub namespace: &'a str,
    /// Empty: create.
    pub name: &'a str,
    /// Empty: the object itself.
    pub subresource: &'a str,
    pub options: &'a WriteOptions,
    pub kind: WriteKind,
    /// The field manager, or what stands in for it.
    pub manager: String,
    /// Texts of `Warning:` headers, in their order.
    pub warnings: Vec<String>,
    /// The object as the client sent it; empty where it sent a patch.
    pub sent: Bytes,
}

/// What came of a write.
pub enum Written {
    Stored {
        entry: Arc<Entry>,
        created: bool,
    },
    /// Not in the store: a dry run, or an update that ended a deletion.
    Unstored {
        object: Value,
        created: bool,
    },
}

/// How often a name is generated anew when it is taken.
const NAME_ATTEMPTS: usize = 8;
/// A bound for the retries of one update; every one means that another write got through.
const UPDATE_ATTEMPTS: usize = 1000;

/// The field manager of a request: as given, else the first part of the user agent.
pub fn manager(options: &WriteOptions, headers: &http::HeaderMap) -> String {
    if !options.field_manager.is_empty() {
        return options.field_manager.clone();
    }
    let agent = headers.get(http::header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let prefix: String =
        agent.split('/').next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(128).collect();
    if prefix.is_empty() { "unknown".to_owned() } else { prefix }
}

/// How an update gets from the current object (with its resourceVersion) to the one wanted.
pub type Change<'a> = dyn FnMut(Option<&Value>, &mut Vec<String>) -> Result<Value, Status> + Send + 'a;

impl Writer<'_> {
    fn context(&self) -> Context<'_> {
        Context { user: self.user, namespace: self.namespace, dry_run: self.options.dry_run, now: Timestamp::now() }
    }

    /// The path that a write through `scale` changes.
    fn scaled(&self) -> Option<&str> {
        match &self.row.resource.subresource(self.subresource)?.handler {
            SubresourceHandler::Scale { spec_replicas, .. } => Some(spec_replicas.trim_start_matches('.')),
            _ => None,
        }
    }

    /// Fields that this endpoint does not write belong to nobody through it.
    fn track(&self, live: Option<&Value>, object: &mut Value) -> Result<(), Status> {
        if let (Some(live), Some(path)) = (live, self.scaled()) {
            let write = schema::Write::new(&self.manager, self.subresource, &[]);
            schema::track_scale(codec::schema(self.row)?, live, object, path, &write);
            return Ok(());
        }
        let reset = reset_fields(self.row, self.subresource);
        let beside = codec::Beside { state: self.state, row: self.row };
        let write = schema::Write::new(&self.manager, self.subresource, reset);
        let write = schema::Write { versions: Some(&beside), ..write };
        if self.row.stored_as.is_none() {
            return codec::track(self.row, live, object, &write);
        }
        // What the version has no field for is owned in the form that it comes back in.
        let mut shown = codec::through_storage(self.row, object.clone())?;
        codec::track(self.row, live, &mut shown, &write)?;
        let metadata = metadata(object);
        match shown["metadata"]["managedFields"].take() {
            Value::Null => drop(metadata.remove("managedFields")),
            entries => drop(metadata.insert("managedFields".to_owned(), entries)),
        }
        Ok(())
    }

    /// `object` is decoded and lies in the right namespace.
    pub async fn create(&mut self, mut object: Value, managed: bool) -> Result<Written, Status> {
        if let Some(reason) = self.row.strategy.refuses_create() {
            return Err(Status::forbidden(&self.row.group_resource, metadata_str(&object, "name"), reason));
        }
        for name in ["deletionTimestamp", "deletionGracePeriodSeconds"] {
            metadata(&mut object).remove(name);
        }
        self.row.strategy.default(&mut object);
        self.dedup(&mut object);
        if !managed {
            self.track(None, &mut object)?;
        }
        // A patch that makes an object is a create to who looks at it, as one that changes it is an update.
        let options = self.options.to_value(WriteKind::Create);
        let admitted = self.state.has_admission(Operation::Create, self.row, self.subresource);
        if admitted {
            let name = metadata_str(&object, "name").to_owned();
            self.admission(Operation::Create, &name, &options, &mut object, None, Half::Mutating).await?;
            self.dedup(&mut object);
            self.row.strategy.default(&mut object);
        }
        if self.row.stored_as.is_some() {
            self.row.strategy.to_stored(&mut object);
        }
        let generate = metadata_str(&object, "generateName").to_owned();
        let generated = !generate.is_empty() && metadata_str(&object, "name").is_empty();
        for attempt in 1.. {
            let mut candidate = if generated { object.clone() } else { std::mem::take(&mut object) };
            if generated {
                metadata(&mut candidate).insert("name".to_owned(), Value::String(generate_name(&generate)));
            }
            match self.create_named(candidate, &options, admitted).await {
                Err(status) if generated && status.reason == "AlreadyExists" => {
                    if attempt == NAME_ATTEMPTS {
                        return Err(status);
                    }
                }
                result => return result,
            }
        }
        unreachable!("the last attempt returns")
    }

    async fn create_named(&mut self, mut object: Value, options: &Value, admitted: bool) -> Result<Written, Status> {
        let mut undo = services::begin_create(self.state, self.row, &mut object, self.options.dry_run).await?;
        let result = self.create_prepared(object, options, admitted).await;
        undo.finish(self.state, result.is_ok()).await;
        result
    }

    async fn create_prepared(&mut self, mut object: Value, options: &Value, admitted: bool) -> Result<Written, Status> {
        pipeline::prepare_create(self.row, &mut object, &self.context());
        pipeline::validate_create(self.row, &object, &self.sent)?;
        // The store looks at it, behind all others.
        let version = metadata_str(&object, "resourceVersion");
        if !matches!(version, "" | "0") && !self.options.dry_run {
            return Err(Status::failure(500, "", "resourceVersion should not be set on objects to be created"));
        }
        self.warnings.extend(self.row.strategy.warnings(&object, None));
        let name = metadata_str(&object, "name").to_owned();
        if admitted {
            self.admission(Operation::Create, &name, options, &mut object, None, Half::Validating).await?;
        }
        let key = State::key(self.row, self.namespace, &name);
        if self.options.dry_run {
            if let Some(existing) = self.state.storage.get(&key) {
                return Err(self.exists(&name, Some(&existing)));
            }
            return Ok(Written::Unstored { object, created: true });
        }
        metadata(&mut object).remove("resourceVersion");
        let body = codec::encode(self.state, self.row, &object).await?;
        match self.state.storage.create(key.clone(), body, self.durability(None)).await {
            Ok(entry) => {
                // Somebody is about to say how it goes.
                if self.row.status {
                    self.state.parsed.put(self.row, &entry, object);
                }
                let entry = codec::converted(self.row, entry).await?;
                Ok(Written::Stored { entry, created: true })
            }
            Err(Error::Exists) => Err(self.exists(&name, self.state.storage.get(&key).as_deref())),
            Err(error) => Err(storage_status(error)),
        }
    }

    fn exists(&self, name: &str, existing: Option<&Entry>) -> Status {
        let mut status = Status::already_exists(&self.row.group_resource, name);
        if existing.is_some_and(|entry| pipeline::is_being_deleted(&entry.body.parse())) {
            status.message = format!("object is being deleted: {}", status.message);
        }
        status
    }

    fn dedup(&mut self, object: &mut Value) {
        self.warnings.extend(pipeline::dedup_owner_references(object));
    }

    async fn admission(
        &mut self,
        operation: Operation,
        name: &str,
        options: &Value,
        object: &mut Value,
        old: Option<&Value>,
        half: Half,
    ) -> Result<(), Status> {
        // A write to `scale` is of a Scale.
        let scale = if self.subresource == "scale" { scale::paths(self.row) } else { None };
        let scale_kind = scale::scale_kind();
        let mut seen = scale.as_ref().map(|paths| scale::of(object, paths));
        let mut old_seen = old.zip(scale.as_ref()).map(|(old, paths)| scale::of(old, paths));
        // What is about to be stored is looked at in the version of the request.
        if half == Half::Validating && scale.is_none() && self.row.stored_as.is_some() {
            let as_requested = |object: &Value| {
                let mut object = object.clone();
                self.row.strategy.from_stored(&mut object);
                object
            };
            seen = Some(as_requested(object));
            old_seen = old.map(as_requested);
        }
        let mut attributes = Attributes {
            user: self.user,
            operation,
            kind: if scale.is_some() { &scale_kind } else { &self.row.gvk },
            resource: &self.row.gvr,
            subresource: self.subresource,
            namespace: self.namespace,
            name,
            object: Some(seen.as_mut().unwrap_or(object)),
            old_object: old_seen.as_ref().or(old),
            options,
            dry_run: self.options.dry_run,
            warnings: &mut self.warnings,
            reinvocation: Default::default(),
        };
        match half {
            Half::Mutating => self.state.admit(&mut attributes).await?,
            Half::Validating => self.state.validate(&mut attributes).await?,
        }
        if let (Some(paths), Some(scale)) = (scale, seen)
            && half == Half::Mutating
        {
            scale::put(object, &scale, &paths);
        }
        Ok(())
    }

    fn durability(&self, heartbeat: Option<(&Value, &Value)>) -> Durability {
        let stored = &self.row.stored;
        let event = stored.resource == "events" && matches!(stored.group.as_str(), "" | "events.k8s.io");
        let lazy = event || heartbeat.is_some_and(|(object, old)| pipeline::heartbeat::is_only(stored, object, old));
        if lazy { Durability::Lazy } else { Durability::Durable }
    }

    /// Replace the current object by what `change` makes of it. `uid`: it must be this one.
    /// `create`: where there is none, `change` makes a new one (of None).
    pub async fn update(
        &mut self,
        uid: Option<&str>,
        create: bool,
        change: &mut Change<'_>,
    ) -> Result<Written, Status> {
        let key = State::key(self.row, self.namespace, self.name);
        let given = self.warnings.len();
        for _ in 0..UPDATE_ATTEMPTS {
            self.warnings.truncate(given);
            let Some(entry) = self.state.storage.get(&key) else {
                if !create {
                    return Err(Status::not_found(&self.row.group_resource, self.name));
                }
                if let Some(uid) = uid {
                    return Err(self.other_uid("", uid));
                }
                let object = change(None, &mut self.warnings)?;
                return self.create(object, matches!(self.kind, WriteKind::Patch { apply: true })).await;
            };
            let entry = codec::converted(self.row, entry).await?;
            if let Some(uid) = uid
                && let Some(status) = self.wrong_uid(&entry, uid)
            {
                return Err(status);
            }
            match self.update_once(&key, &entry, change).await {
                Err(Failure::Retry) => {}
                Err(Failure::Status(status)) => return Err(status),
                Ok(written) => return Ok(written),
            }
        }
        Err(Status::modified(&self.row.group_resource, self.name))
    }

    async fn update_once(
        &mut self,
        key: &Key,
        entry: &Arc<Entry>,
        change: &mut Change<'_>,
    ) -> Result<Written, Failure> {
        let mut old = self.state.parsed.take(self.row, entry);
        let version = entry.revision.0.to_string();
        metadata(&mut old).insert("resourceVersion".to_owned(), Value::String(version.clone()));
        let mut object = change(Some(&old), &mut self.warnings)?;
        let strategy = strategy(self.row, self.subresource);
        self.check_version(&mut object, &version, strategy)?;
        self.row.strategy.default(&mut object);
        self.dedup(&mut object);
        if !matches!(self.kind, WriteKind::Patch { apply: true }) {
            self.track(Some(&old), &mut object)?;
        }
        let options = self.options.to_value(WriteKind::Update);
        let admitted = self.state.has_admission(Operation::Update, self.row, self.subresource);
        let name = self.name;
        if admitted {
            self.admission(Operation::Update, name, &options, &mut object, Some(&old), Half::Mutating).await?;
            self.dedup(&mut object);
            self.row.strategy.default(&mut object);
        }
        if self.row.stored_as.is_some() {
            self.row.strategy.to_stored(&mut object);
            old = entry.body.parse_at(entry.revision);
        }
        let mut undo = services::Undo::none();
        if self.subresource.is_empty() {
            undo = services::begin_update(self.state, self.row, &mut object, &old, self.options.dry_run).await?;
        }
        let result = self.update_prepared(key, entry, object, &old, &options, admitted).await;
        undo.finish(self.state, result.is_ok()).await;
        if matches!(&result, Ok(Written::Stored { entry: stored, .. }) if stored.revision == entry.revision) {
            self.state.parsed.put(self.row, entry, old);
        }
        result
    }

    async fn update_prepared(
        &mut self,
        key: &Key,
        entry: &Arc<Entry>,
        mut object: Value,
        old: &Value,
        options: &Value,
        admitted: bool,
    ) -> Result<Written, Failure> {
        let strategy = strategy(self.row, self.subresource);
        if matches!(self.subresource, "" | "scale") {
            if self.row.status {
                pipeline::keep_status(&mut object, old);
            }
        } else if self.subresource == "status" && self.row.strategy.status().is_none() {
            pipeline::keep_all_but_status(&mut object, old);
        }
        pipeline::prepare_update(self.row, strategy, &mut object, old, &self.context());
        if matches!(self.subresource, "" | "scale" | "resize" | "ephemeralcontainers") {
            pipeline::count_generation(self.row, &mut object, old);
        }
        pipeline::validate_update(self.row, strategy, &object, old, &self.sent)?;
        self.warnings.extend(strategy.warnings(&object, Some(old)));
        let name = self.name;
        if admitted {
            self.admission(Operation::Update, name, options, &mut object, Some(old), Half::Validating).await?;
        }
        if deletion::ends_with_update(&object, old)
            && !self.row.strategy.holds_deletion(&mut object.clone(), Timestamp::now())
        {
            return self.end_deletion(key, entry, object).await;
        }
        if self.options.dry_run {
            return Ok(Written::Unstored { object, created: false });
        }
        if object == *old && self.state.storage.is_current(entry) {
            return Ok(Written::Stored { entry: entry.clone(), created: false });
        }
        let durability = self.durability(Some((&object, old)));
        metadata(&mut object).remove("resourceVersion");
        let body = codec::encode(self.state, self.row, &object).await?;
        match self.state.storage.update(key.clone(), entry.revision, body, durability).await {
            Ok(entry) => {
                self.state.parsed.put(self.row, &entry, object);
                let entry = codec::converted(self.row, entry).await?;
                Ok(Written::Stored { entry, created: false })
            }
            Err(Error::Conflict { .. } | Error::NotFound) => Err(Failure::Retry),
            Err(error) => Err(Failure::Status(storage_status(error))),
        }
    }

    /// The update took the last finalizer: instead of being stored the object goes.
    async fn end_deletion(&self, key: &Key, entry: &Arc<Entry>, object: Value) -> Result<Written, Failure> {
        if !self.options.dry_run {
            match self.state.storage.delete(key.clone(), entry.revision).await {
                Ok(_) => services::after_delete(self.state, self.row, &object).await,
                Err(Error::Conflict { .. } | Error::NotFound) => return Err(Failure::Retry),
                Err(error) => return Err(Failure::Status(storage_status(error))),
            }
        }
        Ok(Written::Unstored { object, created: false })
    }

    /// Without a version the newest is meant, where the kind allows it; another one is a conflict.
    fn check_version(&self, object: &mut Value, current: &str, strategy: &dyn Strategy) -> Result<(), Failure> {
        let given = match metadata_str(object, "resourceVersion") {
            "0" => "",
            given => given,
        };
        if given == current {
            return Ok(());
        }
        if !given.is_empty() {
            options::version(given).map_err(|text| Status::failure(500, "", text))?;
            return Err(Status::modified(&self.row.group_resource, self.name).into());
        }
        if !strategy.allow_unconditional_update() {
            let kind = GroupVersionKind::new(&self.row.group, &self.row.version, &self.row.plural);
            let detail = "must be specified for an update";
            let root = Path::new("metadata");
            let error = FieldError::invalid(&root.child("resourceVersion"), 0, detail);
            return Err(Status::invalid(&kind, self.name, &vec![error]).into());
        }
        metadata(object).insert("resourceVersion".to_owned(), Value::String(current.to_owned()));
        Ok(())
    }

    fn wrong_uid(&self, entry: &Entry, wanted: &str) -> Option<Status> {
        let index = entry.body.index(|object| pipeline::index(self.row, object));
        if *index.uid == *wanted {
            return None;
        }
        Some(self.other_uid(&index.uid, wanted))
    }

    /// `found`: empty where there is no object.
    fn other_uid(&self, found: &str, wanted: &str) -> Status {
        let path = registry_path(self.row, self.namespace, self.name);
        // A dry run does not get as far as the store, where the prefix is.
        let path = if self.options.dry_run { path.trim_start_matches("/registry") } else { &path };
        let detail = format!(
            "StorageError: invalid object, Code: 4, Key: {path}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}",
        );
        Status::conflict(&self.row.group_resource, self.name, &detail)
    }

    /// The reply to a write, with its warnings.
    pub fn reply(&self, output: crate::apiserver::negotiate::Output, written: &Written) -> Reply {
        let code = |created: bool| if created { StatusCode::CREATED } else { StatusCode::OK };
        let mut reply = match written {
            Written::Stored { entry, created } => respond::entry(code(*created), output, self.row, entry),
            Written::Unstored { object, created } => {
                if self.row.stored_as.is_some() {
                    let mut object = object.clone();
                    self.row.strategy.from_stored(&mut object);
                    respond::object(code(*created), output, self.row, &object)
                } else {
                    respond::object(code(*created), output, self.row, object)
                }
            }
        };
        respond::warn(&mut reply, &self.warnings);
        reply
    }
}

impl Written {
    /// The object as it is now, with its resourceVersion.
    pub fn object(&self) -> Value {
        match self {
            Self::Stored { entry, .. } => entry.body.parse_at(entry.revision),
            Self::Unstored { object, .. } => object.clone(),
        }
    }

    pub fn revision(&self) -> Option<Revision> {
        match self {
            Self::Stored { entry, .. } => Some(entry.revision),
            Self::Unstored { .. } => None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    Mutating,
    Validating,
}

enum Failure {
    /// Somebody else wrote in between.
    Retry,
    Status(Status),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

/// The rules of the endpoint: the row's own, or those of a subresource.
pub fn strategy<'a>(row: &'a Row, subresource: &str) -> &'a dyn Strategy {
    match subresource {
        // A scale is an update of the parent.
        "" | "scale" => &*row.strategy,
        name => row.strategy.subresource(name).unwrap_or(&crate::resources::Plain),
    }
}

pub(super) fn reset_fields(row: &Row, subresource: &str) -> &'static [&'static str] {
    if let Some(fields) = strategy(row, subresource).reset_fields() {
        return fields;
    }
    match subresource {
        "" | "scale" if row.status => &["status"],
        "finalize" => &["status"],
        "status" => &["spec"],
        _ => &[],
    }
}

/// The namespace of the request, where the object names none; 400 when it names another.
pub fn check_namespace(row: &Row, object: &mut Value, namespace: &str) -> Result<(), Status> {
    let wanted = if row.namespaced { namespace } else { "" };
    let own = metadata_str(object, "namespace");
    if own == wanted {
        return Ok(());
    }
    if own.is_empty() || wanted.is_empty() {
        let metadata = metadata(object);
        if wanted.is_empty() {
            metadata.remove("namespace");
        } else {
            metadata.insert("namespace".to_owned(), Value::String(wanted.to_owned()));
        }
        return Ok(());
    }
    Err(Status::bad_request("the namespace of the provided object does not match the namespace sent on the request"))
}

/// 400 when the body names another object than the path.
pub fn check_name(object: &Value, name: &str, namespace: &str) -> Result<(), Status> {
    let own = metadata_str(object, "name");
    if own.is_empty() {
        return Err(Status::bad_request(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        )));
    }
    if own != name {
        return Err(Status::bad_request(format!(
            "the name of the object ({own}) does not match the name on the URL ({name})"
        )));
    }
    let own = metadata_str(object, "namespace");
    if !namespace.is_empty() && !own.is_empty() && own != namespace {
        return Err(Status::bad_request(format!(
            "the namespace of the object ({own}) does not match the namespace on the URL ({namespace})"
        )));
    }
    Ok(())
}

/// A base and five random characters, as Kubernetes makes them: no vowels, no look-alikes.
fn generate_name(base: &str) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    const BASE_LIMIT: usize = 58;
    let mut end = base.len().min(BASE_LIMIT);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = base[..end].to_owned();
    let mut random = rand::rng();
    name.extend((0..5).map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())])));
    name
}
