//! WATCH: initial state, then changes as they come; chunked frames, or messages of a WebSocket.
//!
//! One encoding per change, media type and event type is shared by all watchers. A selector turns
//! a change into ADDED, MODIFIED or DELETED, as the object enters, stays in or leaves the set.

use super::Call;
use super::selection::Selection;
use crate::api::Status;
use crate::apiserver::codec;
use crate::apiserver::metrics;
use crate::apiserver::negotiate::{self, Allows, Format, Output, Transform};
use crate::apiserver::options::{AtVersion, ListOptions};
use crate::apiserver::respond::{self, Reply};
use crate::apiserver::state::{State, check_readable, storage_status, too_large_version};
use crate::apiserver::table::{self, Include};
use crate::resources::Row;
use crate::schema::protobuf;
use crate::storage::{Change, Entry, Error, Key, Revision, Snapshot, Watch, WatchError};
use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use rand::RngExt;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch as signal;
use tokio::time::Instant;

/// How often bookmarks go out at most.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
/// A watch without timeoutSeconds lasts this long, and up to twice as long.
const SHORTEST: Duration = Duration::from_secs(1800);
/// Frames that are ready go out together, up to about this size.
const CHUNK: usize = 64 * 1024;
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// Starts the ticker of bookmarks: one for all watchers, silent while nothing is written.
pub(crate) fn tick(state: &Arc<State>) {
    let weak = Arc::downgrade(state);
    let shutdown = state.shutdown.clone();
    tokio::spawn(async move {
        let mut interval = tokio::time::interval(BOOKMARK_INTERVAL);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = interval.tick() => {}
            }
            let Some(state) = weak.upgrade() else { return };
            let revision = state.storage.revision();
            state.bookmarks.send_if_modified(|last| std::mem::replace(last, revision) != revision);
        }
    });
}

pub async fn watch(call: Call<'_>) -> Result<Reply, Status> {
    let output = negotiate::output(call.headers(), call.query, Allows::Transforms)?;
    let options = ListOptions::parse(call.query, true)?;
    let selection = Selection::new(&call, options)?;
    let include = Include::of(output, call.query)?;
    let timeout = selection.options.timeout.unwrap_or_else(|| SHORTEST + SHORTEST.mul_f64(rand::rng().random()));
    let watcher = match Watcher::start(call.state, selection, Encoder { output, include }).await {
        Ok(watcher) => watcher,
        // An expired revision is told in the stream, as an event.
        Err(status) if status.code == 410 => Watcher::failed(call.state, &call, output, include, &status)?,
        Err(status) => return Err(status),
    };
    let watcher = Watcher { deadline: Instant::now() + timeout, ..watcher };
    if is_websocket(&call) {
        return super::super::routes::websocket::frames(call.request, watcher);
    }
    let content_type = match output.format {
        Format::Json => respond::JSON,
        Format::Yaml => HeaderValue::from_static("application/yaml;stream=watch"),
        Format::Protobuf if output.transform == Transform::None => {
            HeaderValue::from_static("application/vnd.kubernetes.protobuf;stream=watch")
        }
        Format::Protobuf => respond::JSON,
    };
    let frames = stream::unfold(watcher, |mut watcher| async move {
        let frame = watcher.chunk().await?;
        Some((Ok::<_, Infallible>(frame), watcher))
    });
    let mut reply = Response::new(Body::from_stream(frames));
    *reply.status_mut() = StatusCode::OK;
    reply.headers_mut().insert(CONTENT_TYPE, content_type);
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    Ok(reply)
}

fn is_websocket(call: &Call<'_>) -> bool {
    let upgrade = call.headers().get(http::header::UPGRADE).and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|upgrade| upgrade.eq_ignore_ascii_case("websocket"))
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum EventKind {
    Added,
    Modified,
    Deleted,
    Bookmark,
    Error,
}

impl EventKind {
    fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
            Self::Bookmark => "BOOKMARK",
            Self::Error => "ERROR",
        }
    }
}

/// How events look to one watcher.
#[derive(Clone, Copy)]
struct Encoder {
    output: Output,
    include: Include,
}

impl Encoder {
    /// What a shared frame depends on.
    fn key(self, row: &Row, kind: EventKind) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        (self.output, self.include as u8, kind, row.number).hash(&mut hasher);
        hasher.finish()
    }

    fn event(self, kind: EventKind, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
        let mut out = format!("{{\"type\":\"{}\",\"object\":", kind.name()).into_bytes();
        write(&mut out);
        out.extend_from_slice(b"}\n");
        out.into()
    }

    fn object(self, state: &State, row: &Row, kind: EventKind, entry: &Entry, revision: Revision) -> Bytes {
        if self.output.format == Format::Protobuf
            && self.output.transform == Transform::None
            && let Some(frame) = Self::message(state, row, kind, entry, revision)
        {
            return frame;
        }
        let body = respond::current(row, &entry.body);
        self.event(kind, |out| match self.output.transform {
            Transform::None => body.write(revision, out),
            Transform::PartialMetadata => {
                out.extend_from_slice(&respond::partial_head("PartialObjectMetadata", self.output));
                respond::write_metadata(row, &body, revision, out);
                out.push(b'}');
            }
            Transform::Table => {
                let head = format!(
                    "{{\"kind\":\"Table\",\"apiVersion\":\"{}\",\"metadata\":{{\"resourceVersion\":\"{}\"}},\"columnDefinitions\":{},\"rows\":[",
                    self.output.meta_version(),
                    revision.0,
                    table::columns(row)
                );
                out.extend_from_slice(head.as_bytes());
                table::Rows::new(&state.renderings, row, self.output, self.include).write(entry, revision, out);
                out.extend_from_slice(b"]}");
            }
        })
    }

    /// In protobuf; None: the kind has no such form.
    fn message(state: &State, row: &Row, kind: EventKind, entry: &Entry, revision: Revision) -> Option<Bytes> {
        if revision != entry.revision {
            // The last state, at the revision of its removal.
            let last = respond::current(row, &entry.body).render(revision);
            return codec::protobuf_event(row.schema.as_ref(), kind.name(), &last);
        }
        let message = state.renderings.message(row, entry)?;
        Some(protobuf::encode_object_event(kind.name(), &row.gvk, &message).into())
    }

    /// An object of the kind with nothing but a resourceVersion.
    fn bookmark(self, row: &Row, revision: Revision, initial_end: bool) -> Bytes {
        let annotations =
            if initial_end { format!(",\"annotations\":{{\"{INITIAL_EVENTS_END}\":\"true\"}}") } else { String::new() };
        let metadata = format!("{{\"resourceVersion\":\"{}\",\"creationTimestamp\":null{annotations}}}", revision.0);
        let object = match self.output.transform {
            Transform::None => {
                format!("{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{metadata}}}", row.kind, row.api_version)
            }
            Transform::PartialMetadata => format!(
                "{{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"{}\",\"metadata\":{metadata}}}",
                self.output.meta_version()
            ),
            Transform::Table => format!(
                "{{\"kind\":\"Table\",\"apiVersion\":\"{}\",\"metadata\":{{\"resourceVersion\":\"{}\"}},\"columnDefinitions\":{},\"rows\":[{{\"cells\":[],\"object\":{{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"{0}\",\"metadata\":{metadata}}}}}]}}",
                self.output.meta_version(),
                revision.0,
                table::columns(row)
            ),
        };
        self.json(row, EventKind::Bookmark, &object)
    }

    fn error(self, row: &Row, status: &Status) -> Bytes {
        self.json(row, EventKind::Error, &serde_json::to_string(status).expect("a status prints"))
    }

    fn json(self, row: &Row, kind: EventKind, object: &str) -> Bytes {
        if self.output.format == Format::Protobuf && self.output.transform == Transform::None {
            let schema = match kind {
                EventKind::Error => {
                    crate::schema::builtin_schema(&crate::api::GroupVersionKind::new("", "v1", "Status"))
                }
                _ => row.schema.clone(),
            };
            if let Some(frame) = codec::protobuf_event(schema.as_ref(), kind.name(), object.as_bytes()) {
                return frame;
            }
        }
        self.event(kind, |out| out.extend_from_slice(object.as_bytes()))
    }
}

/// A change of objects that a webhook must bring to the row's version.
async fn converted(row: &Row, change: Arc<Change>) -> Result<Arc<Change>, Status> {
    let (old, new) = (change.old.clone(), change.new.clone());
    let has_old = old.is_some();
    let mut both = codec::converted_all(row, old.into_iter().chain(new).collect()).await?.into_iter();
    let old = if has_old { both.next() } else { None };
    Ok(Arc::new(Change::new(change.revision, change.key.clone(), old, both.next())))
}

/// The state that a watch begins with.
struct Initial {
    snapshot: Arc<dyn Snapshot>,
    /// Up to which the snapshot was read; None: it was not begun.
    last: Option<Key>,
    /// Read and matching, not yet told.
    batch: VecDeque<Arc<Entry>>,
    /// There is no more to read.
    whole: bool,
}

/// How many entries are looked at, at most, for each time that the snapshot is sought in.
const BATCH: usize = 256;

impl Initial {
    async fn new(selection: &Selection, snapshot: Arc<dyn Snapshot>) -> Result<Self, Status> {
        // Who is told of all but one would take that for deleted.
        snapshot.range(&selection.prefix, None).try_for_each(|entry| check_readable(&selection.row, entry))?;
        let mut initial = Self { snapshot, last: None, batch: VecDeque::new(), whole: false };
        if let Some(one) = &selection.one {
            initial.whole = true;
            initial.batch.extend(initial.snapshot.get(one));
        }
        if selection.row.conversion.is_some() {
            // A webhook converts them together.
            if !initial.whole {
                initial.whole = true;
                initial.batch.extend(initial.snapshot.range(&selection.prefix, None).cloned());
            }
            initial.batch = codec::converted_all(&selection.row, initial.batch.into()).await?.into();
        }
        initial.batch.retain(|entry| selection.matches(entry));
        Ok(initial)
    }

    fn next(&mut self, selection: &Selection) -> Option<Arc<Entry>> {
        while self.batch.is_empty() && !self.whole {
            let mut seen = 0;
            for entry in self.snapshot.range(&selection.prefix, self.last.as_ref()).take(BATCH) {
                seen += 1;
                if seen == BATCH {
                    self.last = Some(entry.key.clone());
                }
                if selection.matches(entry) {
                    self.batch.push_back(entry.clone());
                }
            }
            self.whole = seen < BATCH;
        }
        self.batch.pop_front()
    }
}

/// One watch: a stream of frames.
pub struct Watcher {
    state: Arc<State>,
    row: Arc<Row>,
    selection: Option<Selection>,
    encoder: Encoder,
    /// What was there at the start and is still to tell.
    initial: Option<Initial>,
    /// Frames that are due.
    ready: VecDeque<Bytes>,
    /// None: after `ready` the stream ends.
    changes: Option<Box<dyn Watch>>,
    bookmarks: Option<signal::Receiver<Revision>>,
    /// Of the last event or bookmark.
    told: Revision,
    deadline: Instant,
    sent: metrics::Events,
}

impl Watcher {
    async fn start(state: &Arc<State>, selection: Selection, encoder: Encoder) -> Result<Self, Status> {
        let options = &selection.options;
        let initial = match options.send_initial_events {
            Some(initial) => initial,
            None => !matches!(options.at, AtVersion::Number(_)),
        };
        let from = match options.at {
            AtVersion::Number(number) => {
                let current = state.storage.revision().0;
                if number > current {
                    return Err(too_large_version(number, current));
                }
                Some(Revision(number))
            }
            AtVersion::Unset | AtVersion::Any => None,
        };
        let row = selection.row.clone();
        let snapshot = state.storage.snapshot();
        let start = if initial || from.is_none() { snapshot.revision() } else { from.unwrap_or_default() };
        let prefix = selection.one.as_ref().map_or_else(|| selection.prefix.clone(), crate::storage::Prefix::key);
        let changes = state.storage.watch(prefix, start).map_err(|error| match error {
            Error::Compacted { .. } => {
                Status::expired(format!("too old resource version: {} ({})", start.0, state.storage.revision().0))
            }
            error => storage_status(error),
        })?;
        let initial = match initial {
            true => Some(Initial::new(&selection, snapshot).await?),
            false => None,
        };
        let bookmarks = options.bookmarks.then(|| {
            let mut receiver = state.bookmarks.subscribe();
            receiver.mark_unchanged();
            receiver
        });
        Ok(Self {
            sent: state.metrics.watches.of(&row.gvr),
            state: state.clone(),
            row,
            encoder,
            initial,
            ready: VecDeque::new(),
            changes: Some(changes),
            bookmarks,
            told: start,
            deadline: Instant::now(),
            selection: Some(selection),
        })
    }

    /// A stream of one error.
    fn failed(
        state: &Arc<State>,
        call: &Call<'_>,
        output: Output,
        include: Include,
        status: &Status,
    ) -> Result<Self, Status> {
        let encoder = Encoder { output, include };
        Ok(Self {
            sent: state.metrics.watches.of(&call.row.gvr),
            state: state.clone(),
            row: call.row.clone(),
            encoder,
            initial: None,
            ready: VecDeque::from([encoder.error(call.row, status)]),
            changes: None,
            bookmarks: None,
            told: Revision::default(),
            deadline: Instant::now(),
            selection: None,
        })
    }

    /// The frames that are due, together; None: the stream ends.
    pub async fn chunk(&mut self) -> Option<Bytes> {
        let first = self.frame().await?;
        if self.ready.is_empty() {
            return Some(first);
        }
        let mut chunk = Vec::with_capacity(CHUNK.min(first.len() * 8));
        chunk.extend_from_slice(&first);
        while chunk.len() < CHUNK
            && let Some(frame) = self.ready.pop_front()
        {
            self.sent.sent(frame.len());
            chunk.extend_from_slice(&frame);
        }
        Some(chunk.into())
    }

    /// The next frame.
    pub async fn frame(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                self.sent.sent(frame.len());
                return Some(frame);
            }
            if self.initial.is_some() {
                self.push_initial();
                continue;
            }
            let changes = self.changes.as_mut()?;
            let bookmark = async {
                match &mut self.bookmarks {
                    Some(bookmarks) => bookmarks.changed().await.is_ok(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.state.shutdown.cancelled() => return None,
                change = changes.next() => match change {
                    Ok(change) if self.row.conversion.is_some() => {
                        let change = converted(&self.row, change).await;
                        self.take_converted(change);
                    }
                    change => self.take(change),
                },
                // What was still to tell has been told.
                () = self.row.withdrawn.cancelled() => return None,
                due = bookmark => {
                    if !due {
                        self.bookmarks = None;
                    }
                    self.push_bookmark();
                }
                () = tokio::time::sleep_until(self.deadline) => {
                    if self.bookmarks.is_some() {
                        self.push_bookmark();
                    }
                    self.changes = None;
                }
            }
        }
    }

    /// The next of what was there, up to about a chunk, so that a large state is never encoded as a whole.
    fn push_initial(&mut self) {
        let (Some(initial), Some(selection)) = (&mut self.initial, &self.selection) else { return };
        let mut size = 0;
        while size < CHUNK {
            let Some(entry) = initial.next(selection) else {
                if selection.options.send_initial_events == Some(true) && selection.options.bookmarks {
                    self.ready.push_back(self.encoder.bookmark(&self.row, initial.snapshot.revision(), true));
                }
                self.initial = None;
                return;
            };
            let frame = self.encoder.object(&self.state, &self.row, EventKind::Added, &entry, entry.revision);
            size += frame.len();
            self.ready.push_back(frame);
        }
    }

    fn push_bookmark(&mut self) {
        let Some(changes) = &self.changes else { return };
        let progress = changes.progress();
        if progress > self.told {
            self.told = progress;
            self.ready.push_back(self.encoder.bookmark(&self.row, progress, false));
        }
    }

    fn take(&mut self, change: Result<Arc<Change>, WatchError>) {
        match change {
            Ok(change) => {
                self.told = change.revision;
                let frame = self.encode(&change);
                self.ready.extend(frame);
            }
            Err(WatchError::Closed) => self.changes = None,
            Err(WatchError::Lagged) => {
                let current = self.state.storage.revision().0;
                let status = Status::expired(format!("too old resource version: {} ({current})", self.told.0));
                self.ready.push_back(self.encoder.error(&self.row, &status));
                self.changes = None;
            }
        }
    }

    /// A webhook that fails ends the watch: the client lists again, and hears why.
    fn take_converted(&mut self, change: Result<Arc<Change>, Status>) {
        match change {
            Ok(change) => self.take(Ok(change)),
            Err(status) => {
                self.ready.push_back(self.encoder.error(&self.row, &status));
                self.changes = None;
            }
        }
    }

    /// What the change is to this watcher; None: nothing.
    fn encode(&self, change: &Change) -> Option<Bytes> {
        let selection = self.selection.as_ref()?;
        let matched = |entry: &Option<Arc<Entry>>| entry.as_ref().is_some_and(|entry| selection.matches(entry));
        let (before, after) = (matched(&change.old), matched(&change.new));
        let (kind, entry) = match (before, after) {
            (false, false) => return None,
            (false, true) => (EventKind::Added, change.new.as_ref()?),
            (true, true) => (EventKind::Modified, change.new.as_ref()?),
            // What leaves the set is shown as it was last seen in it, or as it was stored last.
            (true, false) => (EventKind::Deleted, change.old.as_ref()?),
        };
        let key = self.encoder.key(&self.row, kind);
        Some(change.frame(key, || self.encoder.object(&self.state, &self.row, kind, entry, change.revision)))
    }
}
