//! List and watch of one kind into a [`Store`].
//!
//! A watch that ends resumes from the last revision seen; one that is too old lists anew into a
//! side buffer and swaps. Failures back off with jitter. Dropping the [`Informer`] ends its task.

use super::backoff::Backoff;
use super::projection::Projection;
use super::store::Store;
use super::watch::{Event, Lines, WatchError};
use crate::client::{self, is_gone};
use http::Request;
use http_body_util::BodyExt;
use kube::api::{ListParams, WatchParams};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

const PAGE: u32 = 500;
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(400), Duration::from_secs(30));

/// What part of a kind to watch.
#[derive(Clone, Debug, Default)]
pub struct InformerOptions {
    /// None: all.
    pub namespace: Option<String>,
    pub field_selector: Option<String>,
    pub label_selector: Option<String>,
    /// Ask only for PartialObjectMetadata.
    pub metadata_only: bool,
    /// Where it is served, if not at [`Projection::KIND`].
    pub kind: Option<client::Kind>,
}

/// A running cache.
pub struct Informer<P> {
    store: Arc<Store<P>>,
    task: JoinHandle<()>,
}

impl<P> Drop for Informer<P> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What list and watch write into: a [`Store`], or a structure of the component's own.
pub trait Sink<P>: Send + Sync + 'static {
    /// An object was added or changed.
    fn apply(&self, object: P);
    /// It is gone; `last` is its last state.
    fn remove(&self, last: P);
    /// A whole list: what is not in it is gone.
    fn replace(&self, objects: Vec<P>);
}

/// List and watch into `sink`, until the future is dropped.
pub async fn reflect<P: Projection>(client: kube::Client, options: InformerOptions, sink: Arc<dyn Sink<P>>) {
    Reflector::new(client, options, sink).run().await;
}

impl<P: Projection> Informer<P> {
    /// To be called inside a tokio runtime.
    pub fn start(client: kube::Client, options: InformerOptions) -> Self {
        let store = Arc::new(Store::default());
        Self { store: store.clone(), task: tokio::spawn(reflect::<P>(client, options, store)) }
    }

    pub fn store(&self) -> &Arc<Store<P>> {
        &self.store
    }
}

/// Where list and watch are.
enum State<P: Projection> {
    /// Nothing is known, or it is too old: list from the start.
    Empty,
    /// Amid the pages of a list; the sink keeps the old state until the last is in.
    Listing { buffer: Vec<P>, continue_token: String },
    /// Everything up to the revision is in the sink; no watch is open.
    Listed { revision: String },
    /// A watch is open.
    Watching { revision: String, lines: Lines },
}

struct Reflector<P: Projection> {
    client: kube::Client,
    options: InformerOptions,
    kind: client::Kind,
    path: String,
    sink: Arc<dyn Sink<P>>,
    backoff: Backoff,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "O: serde::de::DeserializeOwned"))]
struct List<O> {
    metadata: ListMeta,
    /// Go servers send null for none.
    #[serde(default = "Option::default")]
    items: Option<Vec<O>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMeta {
    #[serde(default)]
    resource_version: String,
    #[serde(default, rename = "continue")]
    continue_token: String,
}

#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Client(#[from] kube::Error),
    #[error(transparent)]
    Watch(#[from] WatchError),
}

impl StepError {
    fn is_gone(&self) -> bool {
        match self {
            Self::Client(error) => is_gone(error),
            Self::Watch(error) => error.is_gone(),
        }
    }
}

impl<P: Projection> Reflector<P> {
    fn new(client: kube::Client, options: InformerOptions, sink: Arc<dyn Sink<P>>) -> Self {
        let kind = options.kind.clone().unwrap_or(P::KIND);
        let path = kind.path(options.namespace.as_deref().unwrap_or_default());
        Self { client, options, kind, path, sink, backoff: BACKOFF }
    }

    async fn run(mut self) {
        let mut state = State::Empty;
        loop {
            state = match self.step(state).await {
                Ok(state) => state,
                Err((error, _)) if error.is_gone() => {
                    tracing::debug!(kind = %self.kind, %error, "listing anew");
                    State::Empty
                }
                Err((error, state)) => {
                    tracing::debug!(kind = %self.kind, %error, "list or watch failed, trying again");
                    tokio::time::sleep(self.backoff.next()).await;
                    state
                }
            };
        }
    }

    /// One move; with an error, the state to go on from.
    async fn step(&mut self, state: State<P>) -> Result<State<P>, (StepError, State<P>)> {
        match state {
            State::Empty => self.list(Vec::new(), String::new()).await.map_err(|error| (error, State::Empty)),
            State::Listing { buffer, continue_token } => {
                self.list(buffer, continue_token).await.map_err(|error| (error, State::Empty))
            }
            State::Listed { revision } => match self.open(&revision).await {
                Ok(lines) => Ok(State::Watching { revision, lines }),
                Err(error) => Err((error, State::Listed { revision })),
            },
            State::Watching { mut revision, mut lines } => match self.follow(&mut revision, &mut lines).await {
                Ok(true) => Ok(State::Watching { revision, lines }),
                // A watch ends by itself now and then; it resumes at once, unless it brought nothing.
                Ok(false) => Ok(State::Listed { revision }),
                Err(error) => Err((error, State::Listed { revision })),
            },
        }
    }

    async fn list(&mut self, mut buffer: Vec<P>, continue_token: String) -> Result<State<P>, StepError> {
        let mut parameters = ListParams::default().limit(PAGE);
        parameters.field_selector = self.options.field_selector.clone();
        parameters.label_selector = self.options.label_selector.clone();
        if !continue_token.is_empty() {
            parameters = parameters.continue_token(&continue_token);
        }
        let request = kube::core::Request::new(&self.path);
        let request =
            if self.options.metadata_only { request.list_metadata(&parameters) } else { request.list(&parameters) };
        let bytes = client::send(&self.client, request.map_err(kube::Error::BuildRequest)?).await?;
        let list: List<P::Object> = serde_json::from_slice(&bytes).map_err(kube::Error::SerdeError)?;
        buffer.extend(list.items.into_iter().flatten().map(P::project));
        if list.metadata.continue_token.is_empty() {
            self.sink.replace(buffer);
            self.backoff.reset();
            Ok(State::Listed { revision: list.metadata.resource_version })
        } else {
            Ok(State::Listing { buffer, continue_token: list.metadata.continue_token })
        }
    }

    async fn open(&mut self, revision: &str) -> Result<Lines, StepError> {
        let mut parameters = WatchParams::default();
        parameters.field_selector = self.options.field_selector.clone();
        parameters.label_selector = self.options.label_selector.clone();
        // The server chooses how long a watch lasts.
        parameters.timeout = None;
        let request = kube::core::Request::new(&self.path);
        let request = if self.options.metadata_only {
            request.watch_metadata(&parameters, revision)
        } else {
            request.watch(&parameters, revision)
        };
        let request: Request<Vec<u8>> = request.map_err(kube::Error::BuildRequest)?;
        let response = self.client.send(request.map(kube::client::Body::from)).await?;
        let code = response.status();
        let body = response.into_body();
        if code.is_success() {
            return Ok(Lines::new(body));
        }
        let bytes = body.collect().await?.to_bytes();
        Err(client::error_of(code, &bytes).into())
    }

    /// Take one event; false: the watch ended.
    async fn follow(&mut self, revision: &mut String, lines: &mut Lines) -> Result<bool, StepError> {
        let Some(line) = lines.next().await? else {
            // A server that ends each watch at once must not be asked in a circle.
            tokio::time::sleep(Duration::from_millis(20)).await;
            return Ok(false);
        };
        match Event::<P::Object>::parse(&line)? {
            Event::Applied(object) => {
                let object = P::project(object);
                *revision = object.meta().resource_version.to_string();
                self.sink.apply(object);
            }
            Event::Deleted(object) => {
                let object = P::project(object);
                *revision = object.meta().resource_version.to_string();
                self.sink.remove(object);
            }
            Event::Bookmark(seen) => *revision = seen,
        }
        self.backoff.reset();
        Ok(true)
    }
}
