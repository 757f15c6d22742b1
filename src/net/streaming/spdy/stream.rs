//! One stream of a session: a byte stream in both directions.

use super::Shared;
use super::frame::reset;
use super::headers::Headers;
use super::writer::Outgoing;
use bytes::{Buf, Bytes};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

/// Pieces of input that wait for a reader: half a megabyte at most.
const INBOX: usize = 32;

/// The largest data frame that is sent.
const MAX_DATA: usize = 16 << 10;

/// The peer hears of a wider window after this much was read.
const WINDOW_STEP: usize = 16 << 10;

/// Where the session puts a stream's input.
pub struct Inbox(Option<mpsc::Sender<Bytes>>);

impl Inbox {
    /// None: the client has said that nothing more comes.
    pub fn sender(&self) -> Option<mpsc::Sender<Bytes>> {
        self.0.clone()
    }

    pub fn close(&mut self) {
        self.0 = None;
    }
}

/// A stream that the client wants to open.
pub struct NewStream {
    pub headers: Headers,
    stream: Stream,
}

impl NewStream {
    pub(super) fn new(id: u32, headers: Headers, shared: Arc<Shared>) -> (Inbox, Self) {
        let (sender, input) = mpsc::channel(INBOX);
        let outgoing = PollSender::new(shared.outgoing.clone());
        let stream = Stream {
            id,
            shared,
            input,
            rest: Bytes::new(),
            unannounced: 0,
            ended: false,
            outgoing,
            state: State::Open,
            quiet: false,
        };
        (Inbox(Some(sender)), Self { headers, stream })
    }

    pub fn id(&self) -> u32 {
        self.stream.id
    }

    /// Send SYN_REPLY: the client may use it.
    pub async fn accept(self) -> Stream {
        let reply = Outgoing::Reply { stream: self.stream.id };
        // A session that has ended shows in the stream's first use.
        let _ = self.stream.shared.outgoing.send(reply).await;
        self.stream
    }

    /// Reset it.
    pub async fn refuse(mut self) {
        self.stream.state = State::Closed;
        let frame = Outgoing::Reset { stream: self.stream.id, status: reset::PROTOCOL_ERROR };
        let _ = self.stream.shared.outgoing.send(frame).await;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// FIN is sent.
    Closed,
}

/// Dropping it without a shutdown resets it.
pub struct Stream {
    id: u32,
    shared: Arc<Shared>,
    input: mpsc::Receiver<Bytes>,
    rest: Bytes,
    /// Read, but not yet given back to the peer's window.
    unannounced: usize,
    ended: bool,
    outgoing: PollSender<Outgoing>,
    state: State,
    quiet: bool,
}

impl Stream {
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Dropping it tells the client nothing; input that still comes is thrown away.
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    fn announce(&mut self, read: usize) {
        self.unannounced += read;
        if self.unannounced >= WINDOW_STEP {
            // When the queue is full it goes with the next one.
            for stream in [self.id, 0] {
                let frame = Outgoing::Window { stream, delta: self.unannounced };
                if self.shared.outgoing.try_send(frame).is_err() {
                    return;
                }
            }
            self.unannounced = 0;
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.rest.is_empty() && !self.ended {
            match ready!(self.input.poll_recv(context)) {
                Some(piece) => self.rest = piece,
                None => self.ended = true,
            }
        }
        let length = self.rest.len().min(out.remaining());
        out.put_slice(&self.rest[..length]);
        self.rest.advance(length);
        self.announce(length);
        Poll::Ready(Ok(()))
    }
}

fn broken() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if self.state == State::Closed || self.shared.gone.is_cancelled() {
            return Poll::Ready(Err(broken()));
        }
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        ready!(self.outgoing.poll_reserve(context)).map_err(|_| broken())?;
        if !self.shared.streams.lock().contains_key(&self.id) {
            // The client has reset it.
            self.outgoing.abort_send();
            return Poll::Ready(Err(broken()));
        }
        let length = self.shared.take_window(self.id, data.len().min(MAX_DATA), context.waker());
        if length == 0 {
            self.outgoing.abort_send();
            return Poll::Pending;
        }
        let frame = Outgoing::Data { stream: self.id, bytes: Bytes::copy_from_slice(&data[..length]), fin: false };
        self.outgoing.send_item(frame).map_err(|_| broken())?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The writer task flushes whatever it took.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.state == State::Closed {
            return Poll::Ready(Ok(()));
        }
        ready!(self.outgoing.poll_reserve(context)).map_err(|_| broken())?;
        let frame = Outgoing::Data { stream: self.id, bytes: Bytes::new(), fin: true };
        self.outgoing.send_item(frame).map_err(|_| broken())?;
        self.state = State::Closed;
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.state == State::Open && !self.quiet {
            // Best effort: when the queue is full the client learns it from the end of the session.
            let _ = self.shared.outgoing.try_send(Outgoing::Reset { stream: self.id, status: reset::CANCEL });
        }
        self.shared.forget(self.id);
    }
}
