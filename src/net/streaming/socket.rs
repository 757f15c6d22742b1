//! A WebSocket of channels: the first byte of a message says which.
//!
//! [`Socket::start`] runs a reader, which hands messages to the channels' inboxes, and a writer,
//! which takes them from [`Socket::output`]s. With base64 protocols the channel is a digit and the
//! rest is text.

use super::activity::Activity;
use super::websocket;
use super::{InputStream, OutputStream};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message};
use tokio_util::io::StreamReader;
use tokio_util::sync::{CancellationToken, PollSender};

/// Messages that wait for a reader, and for the writer.
const QUEUE: usize = 8;

/// The most that one message carries.
const PIECE: usize = 32 << 10;

/// How long a closing socket waits for the peer.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// `v5.channel.k8s.io`: the client closes a channel with this one.
const CLOSE_CHANNEL: u8 = 255;

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coding {
    pub base64: bool,
    /// The client may close single channels.
    pub closes: bool,
    /// Messages start with their channel.
    pub channels: bool,
}

/// The running socket. Dropping it cuts the connection.
pub struct Socket {
    outgoing: mpsc::Sender<Message>,
    coding: Coding,
    gone: CancellationToken,
    tasks: JoinSet<()>,
}

/// Where the input of a channel goes. None: there is no such channel, or it is closed.
pub type Inboxes = Vec<Option<mpsc::Sender<Bytes>>>;

/// An inbox and the stream that reads it.
pub fn inbox() -> (mpsc::Sender<Bytes>, InputStream) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let bytes = ReceiverStream::new(receiver).map(Ok::<_, io::Error>);
    (sender, Box::new(StreamReader::new(bytes)))
}

impl Socket {
    pub async fn start<T>(io: T, coding: Coding, inboxes: Inboxes, idle_timeout: Duration) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (mut sink, mut messages) = websocket::server(io).await.split();
        let (outgoing, mut to_send) = mpsc::channel::<Message>(QUEUE);
        let gone = CancellationToken::new();
        let activity = Arc::new(Activity::new());
        let mut tasks = JoinSet::new();
        {
            let (gone, activity) = (gone.clone(), activity.clone());
            tasks.spawn(async move {
                let mut inboxes = inboxes;
                let read = async {
                    while let Some(Ok(message)) = messages.next().await {
                        activity.touch();
                        match coding.decode(message) {
                            Incoming::Data(channel, data) => {
                                if let Some(Some(inbox)) = inboxes.get(usize::from(channel)) {
                                    // Waits while the channel is not read. Nobody reads it any
                                    // more: the rest is thrown away.
                                    let _ = inbox.send(data).await;
                                }
                            }
                            Incoming::Close(channel) => {
                                if let Some(inbox) = inboxes.get_mut(usize::from(channel)) {
                                    *inbox = None;
                                }
                            }
                            Incoming::Nothing => {}
                            Incoming::End => return,
                        }
                    }
                };
                tokio::select! {
                    () = read => {}
                    () = activity.idle_for(idle_timeout) => tracing::debug!("websocket was idle for too long"),
                }
                gone.cancel();
            });
        }
        {
            let gone = gone.clone();
            tasks.spawn(async move {
                while let Some(message) = to_send.recv().await {
                    let last = matches!(message, Message::Close(_));
                    if sink.send(message).await.is_err() {
                        gone.cancel();
                        return;
                    }
                    activity.touch();
                    if last {
                        return;
                    }
                }
            });
        }
        Self { outgoing, coding, gone, tasks }
    }

    /// What is written goes out on this channel; a shutdown does nothing.
    pub fn output(&self, channel: u8) -> OutputStream {
        Box::new(Output { channel, coding: self.coding, outgoing: PollSender::new(self.outgoing.clone()) })
    }

    /// One message, empty or not, on a channel.
    pub async fn send(&self, channel: u8, data: &[u8]) {
        // A client that is gone shows in `gone`.
        let _ = self.outgoing.send(self.coding.encode(channel, data)).await;
    }

    pub fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// After everything that is under way, close, and wait a moment for the client to do the same.
    pub async fn close(mut self) {
        let farewell = async {
            // Without a code clients take it for a broken connection.
            let normally = CloseFrame { code: CloseCode::Normal, reason: "".into() };
            if self.outgoing.send(Message::Close(Some(normally))).await.is_ok() {
                self.gone.cancelled().await;
            }
        };
        // A client that stays is cut off by the drop.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, farewell).await;
        self.tasks.abort_all();
    }
}

enum Incoming {
    Data(u8, Bytes),
    Close(u8),
    Nothing,
    End,
}

impl Coding {
    fn decode(self, message: Message) -> Incoming {
        let data = match message {
            Message::Binary(data) => data,
            Message::Text(text) => Bytes::from(text),
            Message::Close(_) => return Incoming::End,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => return Incoming::Nothing,
        };
        if !self.channels {
            return Incoming::Nothing;
        }
        let Some((&first, rest)) = data.split_first() else { return Incoming::Nothing };
        if self.base64 {
            let channel = first.wrapping_sub(b'0');
            return match STANDARD.decode(rest) {
                Ok(decoded) => Incoming::Data(channel, decoded.into()),
                Err(_) => Incoming::End,
            };
        }
        match (first, rest) {
            (CLOSE_CHANNEL, [channel]) if self.closes => Incoming::Close(*channel),
            (channel, _) => Incoming::Data(channel, data.slice(1..)),
        }
    }

    fn encode(self, channel: u8, data: &[u8]) -> Message {
        if self.base64 {
            let mut text = String::with_capacity(1 + data.len().div_ceil(3) * 4);
            if self.channels {
                text.push(char::from(b'0' + channel));
            }
            STANDARD.encode_string(data, &mut text);
            return Message::Text(text.into());
        }
        let mut bytes = BytesMut::with_capacity(1 + data.len());
        if self.channels {
            bytes.put_u8(channel);
        }
        bytes.put_slice(data);
        Message::Binary(bytes.freeze())
    }
}

struct Output {
    channel: u8,
    coding: Coding,
    outgoing: PollSender<Message>,
}

impl AsyncWrite for Output {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        ready!(self.outgoing.poll_reserve(context)).map_err(|_| broken())?;
        let length = data.len().min(PIECE);
        let message = self.coding.encode(self.channel, &data[..length]);
        self.outgoing.send_item(message).map_err(|_| broken())?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BINARY: Coding = Coding { base64: false, closes: true, channels: true };
    const BASE64: Coding = Coding { base64: true, closes: false, channels: true };

    #[test]
    fn messages_read_back() {
        for coding in [BINARY, BASE64] {
            for (channel, data) in [(0, &b"hello"[..]), (3, b""), (2, &[0, 255, 7])] {
                match coding.decode(coding.encode(channel, data)) {
                    Incoming::Data(decoded, bytes) => assert_eq!((decoded, &bytes[..]), (channel, data)),
                    _ => panic!("not data"),
                }
            }
        }
        assert_eq!(BASE64.encode(1, b"hi"), Message::Text("1aGk=".into()));
        assert!(matches!(BINARY.decode(Message::binary(vec![255, 0])), Incoming::Close(0)));
        let old = Coding { closes: false, ..BINARY };
        assert!(matches!(old.decode(Message::binary(vec![255, 0])), Incoming::Data(255, _)));
    }

    proptest! {
        #[test]
        fn any_message_is_decoded_or_ends_the_connection(data in proptest::collection::vec(any::<u8>(), 0..64)) {
            for coding in [BINARY, BASE64] {
                let _ = coding.decode(Message::binary(data.clone()));
                let _ = coding.decode(Message::text(String::from_utf8_lossy(&data).into_owned()));
            }
        }
    }
}
