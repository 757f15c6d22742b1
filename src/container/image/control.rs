//! The images of a running node over a socket in its run directory, for `orch ctr`.
//!
//! Only root can open it (0600, in a directory of mode 0700), and images are all that it gives. Long
//! work answers with a line per [`Event`], the last of which says how it ended. The client is
//! [`Client`].

use super::{LocalImage, Progress};
use crate::api::cri::{ImageService, RegistryAuth};
use crate::container::Runtime;
use anyhow::{Context, Result, bail};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::{Buf, Bytes};
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// In the run directory.
const SOCKET: &str = "images.sock";
/// A line of an answer is no longer: bytes.
const LINE: usize = 1 << 20;

/// What long work tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Event {
    Progress(Progress),
    /// The names of the images that are here now; their ids where they have none.
    Done(Vec<String>),
    Failed(String),
}

#[derive(Serialize, Deserialize)]
struct Import {
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Pull {
    image: String,
    username: String,
    password: String,
}

#[derive(Serialize, Deserialize)]
struct Remove {
    image: String,
}

#[derive(Clone)]
struct Door {
    runtime: Arc<Runtime>,
    /// Work goes on where its client goes away: half an image is of no use.
    work: Arc<Mutex<JoinSet<()>>>,
}

/// Answer until `shutdown`.
pub async fn serve(runtime: Arc<Runtime>, run_directory: &Path, shutdown: CancellationToken) -> Result<()> {
    let path = run_directory.join(SOCKET);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("remove {}", path.display()));
        }
        _ => {}
    }
    let listener = UnixListener::bind(&path).with_context(|| format!("listen on {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("close {} to others", path.display()))?;
    let door = Door { runtime, work: Arc::default() };
    let router = Router::new()
        .route("/images", get(list))
        .route("/images/import", post(import))
        .route("/images/pull", post(pull))
        .route("/images/remove", post(remove))
        .with_state(door.clone());
    // What is under way is cut off: an image counts when it is whole, and not before.
    let served = tokio::select! {
        served = axum::serve(listener, router) => served,
        () = shutdown.cancelled() => Ok(()),
    };
    let mut work = std::mem::take(&mut *door.work.lock());
    work.shutdown().await;
    served.with_context(|| format!("serve {}", path.display()))
}

async fn list(State(door): State<Door>) -> Response {
    match serde_json::to_vec(&door.runtime.images().list()) {
        Ok(bytes) => bytes.into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// A request that is read, or the answer to one that cannot be.
fn request<T: DeserializeOwned>(body: &[u8]) -> std::result::Result<T, (StatusCode, String)> {
    serde_json::from_slice(body).map_err(|error| (StatusCode::BAD_REQUEST, format!("request: {error}")))
}

async fn remove(State(door): State<Door>, body: Bytes) -> (StatusCode, String) {
    let image = match request::<Remove>(&body) {
        Ok(request) => request.image,
        Err(wrong) => return wrong,
    };
    match door.runtime.images().local(&image).await {
        Ok(Some(_)) => {}
        Ok(None) => return (StatusCode::NOT_FOUND, format!("image {image} is not here")),
        Err(error) => return (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}")),
    }
    match door.runtime.remove_image(&image).await {
        Ok(()) => (StatusCode::OK, String::new()),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

async fn import(State(door): State<Door>, body: Bytes) -> Response {
    let request = match request::<Import>(&body) {
        Ok(request) => request,
        Err(wrong) => return wrong.into_response(),
    };
    let images = door.runtime.images().clone();
    door.events(move |events| async move {
        let progress = {
            let events = events.clone();
            Arc::new(move |progress| tell(&events, Event::Progress(progress)))
        };
        let imported = images.import(&request.path, progress).await?;
        let names = imported.into_iter().map(|one| name_of(&one.image, one.names.into_iter().next()));
        Ok(names.collect())
    })
}

async fn pull(State(door): State<Door>, body: Bytes) -> Response {
    let request = match request::<Pull>(&body) {
        Ok(request) => request,
        Err(wrong) => return wrong.into_response(),
    };
    let images = door.runtime.images().clone();
    door.events(move |events| async move {
        let progress = {
            let events = events.clone();
            Arc::new(move |progress| tell(&events, Event::Progress(progress)))
        };
        let credentials = match request.username.as_str() {
            "" => Vec::new(),
            _ => {
                vec![RegistryAuth { username: request.username, password: request.password, ..RegistryAuth::default() }]
            }
        };
        let image = images.pull(&request.image, &credentials, progress).await?;
        Ok(vec![name_of(&image, image.repo_tags.first().cloned())])
    })
}

fn name_of(image: &LocalImage, name: Option<String>) -> String {
    name.unwrap_or_else(|| image.id.clone())
}

/// Nobody listens any more: the work goes on without.
fn tell(events: &mpsc::UnboundedSender<Event>, event: Event) {
    let _ = events.send(event);
}

impl Door {
    /// Do the work in a task of its own, and answer with what it tells.
    fn events<F>(&self, work: impl FnOnce(mpsc::UnboundedSender<Event>) -> F) -> Response
    where
        F: Future<Output = Result<Vec<String>>> + Send + 'static,
    {
        let (sender, receiver) = mpsc::unbounded_channel();
        let work = work(sender.clone());
        let mut tasks = self.work.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            let last = match work.await {
                Ok(names) => Event::Done(names),
                Err(error) => Event::Failed(format!("{error:#}")),
            };
            tell(&sender, last);
        });
        let lines = tokio_stream::wrappers::UnboundedReceiverStream::new(receiver);
        let lines = futures::StreamExt::map(lines, |event| {
            let mut line = serde_json::to_vec(&event)?;
            line.push(b'\n');
            Ok::<_, serde_json::Error>(Bytes::from(line))
        });
        Response::new(Body::from_stream(lines))
    }
}

/// The other end.
pub struct Client {
    socket: PathBuf,
}

impl Client {
    pub fn new(run_directory: &Path) -> Self {
        Self { socket: run_directory.join(SOCKET) }
    }

    pub async fn list(&self) -> Result<Vec<LocalImage>> {
        let body = self.send(Method::GET, "/images", &()).await?;
        let bytes = body.collect().await.context("read the node's answer")?.to_bytes();
        serde_json::from_slice(&bytes).context("read the node's answer")
    }

    pub async fn remove(&self, image: &str) -> Result<()> {
        self.send(Method::POST, "/images/remove", &Remove { image: image.to_owned() }).await.map(drop)
    }

    /// The names of the images; an absolute path.
    pub async fn import(&self, path: &Path, progress: impl FnMut(Progress)) -> Result<Vec<String>> {
        self.follow("/images/import", &Import { path: path.to_owned() }, progress).await
    }

    pub async fn pull(
        &self,
        image: &str,
        credentials: Option<(String, String)>,
        progress: impl FnMut(Progress),
    ) -> Result<Vec<String>> {
        let (username, password) = credentials.unwrap_or_default();
        let pull = Pull { image: image.to_owned(), username, password };
        self.follow("/images/pull", &pull, progress).await
    }

    async fn send(&self, method: Method, path: &str, body: &impl Serialize) -> Result<hyper::body::Incoming> {
        let stream = UnixStream::connect(&self.socket).await.with_context(|| {
            format!("no node of orch answers at {} (start orch, or give its --run-dir; as root)", self.socket.display())
        })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the answer.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(serde_json::to_vec(body)?)))?;
        let response = sender.send_request(request).await.context("ask the node")?;
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        let bytes = response.into_body().collect().await.context("read the node's answer")?.to_bytes();
        bail!("{}", String::from_utf8_lossy(&bytes).trim())
    }

    async fn follow(
        &self,
        path: &str,
        body: &impl Serialize,
        mut progress: impl FnMut(Progress),
    ) -> Result<Vec<String>> {
        let mut body = self.send(Method::POST, path, body).await?;
        let mut lines = bytes::BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.context("read the node's answer")?.into_data() else { continue };
            lines.extend_from_slice(&data);
            while let Some(end) = lines.iter().position(|byte| *byte == b'\n') {
                let line = lines.split_to(end);
                lines.advance(1);
                match read::<Event>(&line)? {
                    Event::Progress(one) => progress(one),
                    Event::Done(names) => return Ok(names),
                    Event::Failed(error) => bail!(error),
                }
            }
            if lines.len() > LINE {
                bail!("the node's answer has a line of more than {LINE} bytes");
            }
        }
        bail!("the node went away before it was done; what was finished stays, so try again")
    }
}

fn read<T: DeserializeOwned>(line: &[u8]) -> Result<T> {
    serde_json::from_slice(line).context("read the node's answer")
}
