//! The reading half of a session.

use super::frame::{FLAG_FIN, FrameError, HEAD, Head, MAX_CONTROL, kind, reset};
use super::headers::Inflater;
use super::stream::{Inbox, NewStream};
use super::writer::Outgoing;
use super::{MAX_STREAMS, Shared};
use bytes::{Buf, Bytes, BytesMut};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::io::{AsyncRead, AsyncReadExt, BufReader};
use tokio::sync::mpsc;

/// Data is handed on in pieces of at most this.
const PIECE: usize = 16 << 10;

/// SETTINGS_INITIAL_WINDOW_SIZE
const INITIAL_WINDOW_SETTING: u32 = 7;

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("spdy: stream {0} is not a new one of the client")]
    StreamId(u32),
    #[error("the session is closed here")]
    Closed,
}

struct Reader<'a, R> {
    io: BufReader<R>,
    shared: &'a Arc<Shared>,
    accepted: mpsc::Sender<NewStream>,
    inflater: Inflater,
    last: u32,
}

/// Until EOF, an error, or the peer's GOAWAY and the end of its streams.
pub async fn run<R: AsyncRead + Unpin>(
    io: R,
    shared: &Arc<Shared>,
    accepted: mpsc::Sender<NewStream>,
) -> Result<(), ReadError> {
    let mut reader =
        Reader { io: BufReader::with_capacity(PIECE, io), shared, accepted, inflater: Inflater::new(), last: 0 };
    loop {
        let mut head = [0; HEAD];
        match reader.io.read_exact(&mut head).await {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        shared.activity.touch();
        match Head::parse(head)? {
            Head::Data { stream, flags, length } => reader.data(stream, flags, length).await?,
            Head::Control { kind, flags, length } => reader.control(kind, flags, length).await?,
        }
    }
}

async fn send(shared: &Shared, frame: Outgoing) -> Result<(), ReadError> {
    shared.outgoing.send(frame).await.map_err(|_| ReadError::Closed)
}

impl<R: AsyncRead + Unpin> Reader<'_, R> {
    async fn bytes(&mut self, length: usize) -> io::Result<Bytes> {
        let mut buffer = BytesMut::zeroed(length);
        self.io.read_exact(&mut buffer).await?;
        Ok(buffer.freeze())
    }

    async fn data(&mut self, id: u32, flags: u8, length: u32) -> Result<(), ReadError> {
        let inbox = self.shared.streams.lock().get(&id).and_then(Inbox::sender);
        let mut rest = length as usize;
        while rest > 0 {
            let piece = self.bytes(rest.min(PIECE)).await?;
            rest -= piece.len();
            let read = piece.len();
            let taken = match &inbox {
                // Waits while the stream is not read: so does the whole session, as it must without
                // flow control.
                Some(inbox) => inbox.send(piece).await.is_ok(),
                None => false,
            };
            if !taken {
                // Nobody reads it: the window opens again at once.
                send(self.shared, Outgoing::Window { stream: 0, delta: read }).await?;
            }
        }
        if flags & FLAG_FIN != 0 {
            self.end_of_input(id);
        }
        Ok(())
    }

    fn end_of_input(&self, id: u32) {
        if let Some(inbox) = self.shared.streams.lock().get_mut(&id) {
            inbox.close();
        }
    }

    async fn control(&mut self, frame: u16, flags: u8, length: u32) -> Result<(), ReadError> {
        debug_assert!(length <= MAX_CONTROL, "checked by the head");
        let mut body = self.bytes(length as usize).await?;
        match frame {
            kind::SYN_STREAM => self.open(body, flags).await,
            // The client answers nothing that we asked; the block still counts for the compression.
            kind::SYN_REPLY | kind::HEADERS => {
                let id = body.get_u32() & 0x7fff_ffff;
                self.inflater.headers(&body)?;
                if flags & FLAG_FIN != 0 {
                    self.end_of_input(id);
                }
                Ok(())
            }
            kind::RST_STREAM => {
                self.shared.forget(body.get_u32() & 0x7fff_ffff);
                Ok(())
            }
            // Ours would have even numbers; odd ones are questions.
            kind::PING => match body.get_u32() {
                id if id % 2 == 1 => send(self.shared, Outgoing::Ping(id)).await,
                _ => Ok(()),
            },
            // The client opens no more streams; those that are there go on.
            kind::GOAWAY => Ok(()),
            kind::WINDOW_UPDATE => {
                let id = body.get_u32() & 0x7fff_ffff;
                self.shared.widen(id, body.get_u32() & 0x7fff_ffff);
                Ok(())
            }
            kind::SETTINGS => {
                if body.len() >= 4 {
                    let entries = body.get_u32();
                    for _ in 0..entries {
                        if body.len() < 8 {
                            break;
                        }
                        let (id, value) = (body.get_u32() & 0x00ff_ffff, body.get_u32());
                        if id == INITIAL_WINDOW_SETTING {
                            self.shared.set_initial_window(value);
                        }
                    }
                }
                Ok(())
            }
            // Unknown frames are passed over.
            _ => Ok(()),
        }
    }

    async fn open(&mut self, mut body: Bytes, flags: u8) -> Result<(), ReadError> {
        let id = body.get_u32() & 0x7fff_ffff;
        // Associated stream, priority and slot mean nothing here.
        body.advance(6);
        let headers = self.inflater.headers(&body)?;
        if id.is_multiple_of(2) || id <= self.last {
            return Err(ReadError::StreamId(id));
        }
        self.last = id;
        self.shared.last_stream.store(id, Ordering::Relaxed);
        if self.shared.streams.lock().len() >= MAX_STREAMS {
            return send(self.shared, Outgoing::Reset { stream: id, status: reset::REFUSED_STREAM }).await;
        }
        let (inbox, stream) = NewStream::new(id, headers, self.shared.clone());
        {
            let mut windows = self.shared.windows.lock();
            let initial = windows.initial;
            windows.streams.insert(id, initial);
        }
        self.shared.streams.lock().insert(id, inbox);
        if flags & FLAG_FIN != 0 {
            self.end_of_input(id);
        }
        self.accepted.send(stream).await.map_err(|_| ReadError::Closed)
    }
}
