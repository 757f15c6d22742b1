//! A SPDY/3.1 server session over any byte stream: what kubectl falls back to, and what
//! port-forward speaks even inside a WebSocket.
//!
//! [`Session::start`] runs a reader and a writer task; the client's streams come out of
//! [`Session::next`]. Buffers are bounded: a stream that is not read stops the reader, a client
//! that does not read stops writers. kubectl's library knows no flow control, so its windows are
//! kept only from the first WINDOW_UPDATE or SETTINGS that the peer sends.

mod frame;
mod headers;
mod reader;
mod stream;
mod writer;

pub use headers::Headers;
pub use stream::{NewStream, Stream};

use super::activity::Activity;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::Waker;
use std::time::Duration;
use stream::Inbox;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use writer::Outgoing;

/// Streams of one session at a time.
const MAX_STREAMS: usize = 1024;

/// Frames on their way to the writer.
const OUTGOING: usize = 16;

/// Streams on their way to [`Session::next`].
const INCOMING: usize = 16;

/// The window of a stream and of the session before anything is said.
const INITIAL_WINDOW: i64 = 64 << 10;

/// How long a closing session waits for the peer.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The client's connection. Dropping it cuts it; [`Session::close`] ends it well.
pub struct Session {
    incoming: mpsc::Receiver<NewStream>,
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

/// What streams and the two tasks share.
struct Shared {
    streams: Mutex<HashMap<u32, Inbox>>,
    outgoing: mpsc::Sender<Outgoing>,
    /// Once set, what is sent keeps to the peer's windows.
    flow_control: AtomicBool,
    windows: Mutex<Windows>,
    /// The newest stream that was accepted.
    last_stream: AtomicU32,
    gone: CancellationToken,
    activity: Activity,
}

/// How much may be sent.
struct Windows {
    session: i64,
    /// What a new stream starts with.
    initial: i64,
    streams: HashMap<u32, i64>,
    waiting: Vec<Waker>,
}

impl Session {
    pub fn start(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, idle_timeout: Duration) -> Self {
        let (outgoing, to_send) = mpsc::channel(OUTGOING);
        let (accepted, incoming) = mpsc::channel(INCOMING);
        let shared = Arc::new(Shared {
            streams: Mutex::default(),
            outgoing,
            flow_control: AtomicBool::new(false),
            windows: Mutex::new(Windows {
                session: INITIAL_WINDOW,
                initial: INITIAL_WINDOW,
                streams: HashMap::new(),
                waiting: Vec::new(),
            }),
            last_stream: AtomicU32::new(0),
            gone: CancellationToken::new(),
            activity: Activity::new(),
        });
        let (read, write) = tokio::io::split(io);
        let mut tasks = JoinSet::new();
        {
            let shared = shared.clone();
            tasks.spawn(async move {
                tokio::select! {
                    result = reader::run(read, &shared, accepted) => {
                        if let Err(error) = result {
                            tracing::debug!(%error, "spdy session ends");
                        }
                    }
                    () = shared.activity.idle_for(idle_timeout) => tracing::debug!("spdy session was idle for too long"),
                    () = shared.gone.cancelled() => {}
                }
                shared.end();
            });
        }
        {
            let shared = shared.clone();
            tasks.spawn(async move {
                if let Err(error) = writer::run(write, to_send, &shared).await {
                    tracing::debug!(%error, "spdy session cannot be written to");
                    shared.end();
                }
            });
        }
        Self { incoming, shared, tasks }
    }

    /// The next stream that the client opens; None: the client has gone away.
    pub async fn next(&mut self) -> Option<NewStream> {
        self.incoming.recv().await
    }

    /// Cancelled when the client has gone away.
    pub fn gone(&self) -> CancellationToken {
        self.shared.gone.clone()
    }

    /// Nothing more comes on this stream: for streams whose owner may have dropped them.
    pub async fn end_output(&self, stream: u32) {
        let fin = Outgoing::Data { stream, bytes: bytes::Bytes::new(), fin: true };
        // A session that has ended needs no FIN.
        let _ = self.shared.outgoing.send(fin).await;
    }

    /// Send everything that is under way, say GOAWAY, and wait a moment for the client to close.
    pub async fn close(mut self) {
        self.incoming.close();
        let last = self.shared.last_stream.load(Ordering::Relaxed);
        let farewell = async {
            if self.shared.outgoing.send(Outgoing::GoAway { last, status: 0 }).await.is_ok() {
                self.shared.gone.cancelled().await;
            }
        };
        // A client that stays is cut off by the drop.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, farewell).await;
        self.tasks.abort_all();
    }
}

impl Shared {
    /// The connection is gone: readers see EOF, writers an error.
    fn end(&self) {
        self.gone.cancel();
        self.streams.lock().clear();
        let waiting = std::mem::take(&mut self.windows.lock().waiting);
        waiting.into_iter().for_each(Waker::wake);
    }

    fn forget(&self, id: u32) {
        self.streams.lock().remove(&id);
        let mut windows = self.windows.lock();
        windows.streams.remove(&id);
        // Its writer may be waiting for a window that never opens.
        let waiting = std::mem::take(&mut windows.waiting);
        drop(windows);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// The peer may take `delta` bytes more (stream 0: in all).
    fn widen(&self, id: u32, delta: u32) {
        let mut windows = self.windows.lock();
        if id == 0 {
            windows.session = (windows.session + i64::from(delta)).min(i64::from(i32::MAX));
        } else if let Some(window) = windows.streams.get_mut(&id) {
            *window = (*window + i64::from(delta)).min(i64::from(i32::MAX));
        }
        self.flow_control.store(true, Ordering::Relaxed);
        let waiting = std::mem::take(&mut windows.waiting);
        drop(windows);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// The peer's SETTINGS: windows of streams change by the difference.
    fn set_initial_window(&self, initial: u32) {
        let mut windows = self.windows.lock();
        let initial = i64::from(initial.min(i32::MAX as u32));
        let difference = initial - windows.initial;
        windows.initial = initial;
        windows.streams.values_mut().for_each(|window| *window += difference);
        self.flow_control.store(true, Ordering::Relaxed);
        let waiting = std::mem::take(&mut windows.waiting);
        drop(windows);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Take up to `wanted` bytes out of the windows; 0: none is left, the waker is kept.
    fn take_window(&self, id: u32, wanted: usize, waker: &Waker) -> usize {
        let mut windows = self.windows.lock();
        let wanted = i64::try_from(wanted).unwrap_or(i64::MAX);
        let own = windows.streams.get(&id).copied().unwrap_or_default();
        let granted = if self.flow_control.load(Ordering::Relaxed) {
            wanted.min(own).min(windows.session).max(0)
        } else {
            wanted
        };
        if granted == 0 {
            windows.waiting.push(waker.clone());
            return 0;
        }
        windows.session -= granted;
        if let Some(window) = windows.streams.get_mut(&id) {
            *window -= granted;
        }
        usize::try_from(granted).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
pub mod testing {
    pub use super::tests::{Client, Frame};
}
