//! Tests of SPDY sessions, against a client of a few lines.

use super::frame::{FLAG_FIN, HEAD, Head, kind, put_control, put_data};
use super::headers::{Deflater, Inflater};
use super::*;
use bytes::{BufMut, BytesMut};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// The client's side: frames by hand.
pub struct Client {
    io: DuplexStream,
    deflater: Deflater,
    inflater: Inflater,
}

#[derive(Debug, PartialEq)]
pub enum Frame {
    Reply(u32),
    Data { stream: u32, bytes: Vec<u8>, fin: bool },
    Control(u16, Vec<u32>),
}

impl Client {
    pub fn new(io: DuplexStream) -> Self {
        Self { io, deflater: Deflater::new(), inflater: Inflater::new() }
    }

    pub async fn open(&mut self, stream: u32, headers: &Headers) {
        let block = self.deflater.block(headers);
        let mut out = BytesMut::new();
        put_control(&mut out, kind::SYN_STREAM, 0, 10 + block.len());
        out.put_u32(stream);
        out.put_u32(0);
        out.put_u16(0);
        out.put_slice(&block);
        self.io.write_all(&out).await.unwrap();
    }

    pub async fn data(&mut self, stream: u32, bytes: &[u8], fin: bool) {
        let mut out = BytesMut::new();
        put_data(&mut out, stream, if fin { FLAG_FIN } else { 0 }, bytes.len());
        out.put_slice(bytes);
        self.io.write_all(&out).await.unwrap();
    }

    pub async fn control(&mut self, kind: u16, words: &[u32]) {
        let mut out = BytesMut::new();
        put_control(&mut out, kind, 0, words.len() * 4);
        words.iter().for_each(|&word| out.put_u32(word));
        self.io.write_all(&out).await.unwrap();
    }

    /// None: the server has closed.
    pub async fn frame(&mut self) -> Option<Frame> {
        let mut head = [0; HEAD];
        self.io.read_exact(&mut head).await.ok()?;
        let (Head::Data { length, .. } | Head::Control { length, .. }) = Head::parse(head).unwrap();
        let mut body = vec![0; length as usize];
        self.io.read_exact(&mut body).await.unwrap();
        Some(match Head::parse(head).unwrap() {
            Head::Data { stream, flags, .. } => Frame::Data { stream, bytes: body, fin: flags & FLAG_FIN != 0 },
            Head::Control { kind: kind::SYN_REPLY, .. } => {
                self.inflater.headers(&body[4..]).unwrap();
                Frame::Reply(u32::from_be_bytes(body[..4].try_into().unwrap()))
            }
            Head::Control { kind, .. } => {
                let words = body.chunks(4).map(|word| u32::from_be_bytes(word.try_into().unwrap())).collect();
                Frame::Control(kind, words)
            }
        })
    }

    /// The next frame that is no WINDOW_UPDATE.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            match self.frame().await {
                Some(Frame::Control(kind::WINDOW_UPDATE, _)) => {}
                other => return other,
            }
        }
    }
}

fn session() -> (Session, Client) {
    let (near, far) = tokio::io::duplex(1 << 20);
    (Session::start(near, Duration::from_secs(60)), Client::new(far))
}

fn named(name: &str) -> Headers {
    Headers::from([("streamtype", name)])
}

#[tokio::test]
async fn a_stream_carries_bytes_both_ways() {
    let (mut session, mut client) = session();
    client.open(1, &named("data")).await;
    let stream = session.next().await.unwrap();
    assert_eq!(stream.headers.get("streamtype"), Some("data"));
    let mut stream = stream.accept().await;
    assert_eq!(client.next().await, Some(Frame::Reply(1)));
    client.data(1, b"hel", false).await;
    client.data(1, b"lo", true).await;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "hello");
    stream.write_all(b"bye").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(client.next().await, Some(Frame::Data { stream: 1, bytes: b"bye".to_vec(), fin: false }));
    assert_eq!(client.next().await, Some(Frame::Data { stream: 1, bytes: vec![], fin: true }));
    drop(stream);
    let closing = tokio::spawn(session.close());
    assert_eq!(client.next().await, Some(Frame::Control(kind::GOAWAY, vec![1, 0])));
    drop(client);
    closing.await.unwrap();
}

#[tokio::test]
async fn pings_are_answered_and_unknown_frames_passed_over() {
    let (_session, mut client) = session();
    client.control(42, &[1, 2, 3]).await;
    client.control(kind::PING, &[2]).await;
    client.control(kind::PING, &[7]).await;
    assert_eq!(client.next().await, Some(Frame::Control(kind::PING, vec![7])));
}

#[tokio::test]
async fn a_stream_that_is_refused_dropped_or_reset_is_closed_for_the_other() {
    let (mut session, mut client) = session();
    client.open(1, &named("x")).await;
    session.next().await.unwrap().refuse().await;
    assert_eq!(client.next().await, Some(Frame::Control(kind::RST_STREAM, vec![1, 1])));
    client.open(3, &named("x")).await;
    drop(session.next().await.unwrap().accept().await);
    assert_eq!(client.next().await, Some(Frame::Reply(3)));
    assert_eq!(client.next().await, Some(Frame::Control(kind::RST_STREAM, vec![3, 5])));
    client.open(5, &named("x")).await;
    let mut stream = session.next().await.unwrap().accept().await;
    client.control(kind::RST_STREAM, &[5, 5]).await;
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
    assert_eq!(stream.write(b"x").await.unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    // The session goes on.
    client.data(5, b"late", false).await;
    client.open(7, &named("x")).await;
    assert_eq!(session.next().await.unwrap().id(), 7);
}

#[tokio::test]
async fn wrong_stream_numbers_end_the_session() {
    for (first, second) in [(1, 1), (3, 1), (1, 2)] {
        let (mut session, mut client) = session();
        client.open(first, &named("x")).await;
        let _stream = session.next().await.unwrap();
        client.open(second, &named("x")).await;
        assert!(session.next().await.is_none());
        assert!(session.gone().is_cancelled());
    }
}

#[tokio::test]
async fn a_client_without_flow_control_gets_everything() {
    let (mut session, mut client) = session();
    client.open(1, &named("x")).await;
    let mut stream = session.next().await.unwrap().accept().await;
    let data = vec![7; 300 << 10];
    let sent = data.clone();
    let writing = tokio::spawn(async move {
        stream.write_all(&sent).await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let mut received = Vec::new();
    loop {
        match client.next().await.unwrap() {
            Frame::Data { bytes, fin, .. } => {
                received.extend(bytes);
                if fin {
                    break;
                }
            }
            other => assert_eq!(other, Frame::Reply(1)),
        }
    }
    writing.await.unwrap();
    assert_eq!(received, data);
}

#[tokio::test]
async fn windows_hold_once_the_client_speaks_of_them() {
    let (mut session, mut client) = session();
    // SETTINGS: an initial window of 1000 bytes.
    client.control(kind::SETTINGS, &[1, 7, 1000]).await;
    client.open(1, &named("x")).await;
    let mut stream = session.next().await.unwrap().accept().await;
    assert_eq!(client.next().await, Some(Frame::Reply(1)));
    let writing = tokio::spawn(async move {
        stream.write_all(&[1; 1500]).await.unwrap();
        stream
    });
    assert_eq!(client.next().await, Some(Frame::Data { stream: 1, bytes: vec![1; 1000], fin: false }));
    tokio::task::yield_now().await;
    assert!(!writing.is_finished());
    client.control(kind::WINDOW_UPDATE, &[1, 600]).await;
    assert_eq!(client.next().await, Some(Frame::Data { stream: 1, bytes: vec![1; 500], fin: false }));
    writing.await.unwrap();
}

#[tokio::test]
async fn what_is_read_widens_the_clients_window() {
    let (mut session, mut client) = session();
    client.open(1, &named("x")).await;
    let mut stream = session.next().await.unwrap().accept().await;
    assert_eq!(client.frame().await, Some(Frame::Reply(1)));
    client.data(1, &[0; 20 << 10], false).await;
    stream.read_exact(&mut vec![0; 20 << 10]).await.unwrap();
    let Some(Frame::Control(kind::WINDOW_UPDATE, words)) = client.frame().await else { panic!("no update") };
    assert_eq!(words[0], 1);
    assert!(words[1] >= 16 << 10);
}

#[tokio::test]
async fn a_stream_that_nobody_reads_stops_the_client_within_bounds() {
    let (near, far) = tokio::io::duplex(4 << 10);
    let mut session = Session::start(near, Duration::from_secs(60));
    let mut client = Client::new(far);
    client.open(1, &named("x")).await;
    let _stream = session.next().await.unwrap().accept().await;
    let flood = async {
        for _ in 0..256 {
            client.data(1, &[0; 16 << 10], false).await;
        }
    };
    // Four megabytes do not go into half a megabyte.
    assert!(tokio::time::timeout(Duration::from_millis(200), flood).await.is_err());
}

#[tokio::test]
async fn an_idle_session_ends() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let (mut session, mut client) = (Session::start(near, Duration::from_millis(30)), Client::new(far));
    client.open(1, &named("x")).await;
    let _stream = session.next().await.unwrap();
    assert!(session.next().await.is_none());
    assert!(session.gone().is_cancelled());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_end_the_session_or_leave_it_waiting(
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
        frames in proptest::collection::vec((0_u16..12, 0_u8..4, 0_usize..40), 0..8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let (near, mut far) = tokio::io::duplex(1 << 16);
            let mut session = Session::start(near, Duration::from_secs(60));
            // Plausible heads in front, so that bodies are reached, too.
            let mut out = BytesMut::new();
            for (kind, flags, length) in frames {
                put_control(&mut out, kind, flags, length);
                out.put_slice(&bytes[..length.min(bytes.len())]);
            }
            out.put_slice(&bytes);
            far.write_all(&out).await.unwrap();
            far.shutdown().await.unwrap();
            while let Some(stream) = session.next().await {
                drop(stream.accept().await);
            }
            prop_assert!(session.gone().is_cancelled());
            Ok(())
        })?;
    }
}
