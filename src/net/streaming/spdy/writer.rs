//! The writing half of a session: one task, so that frames are whole and header blocks in order.

use super::Shared;
use super::frame::{FLAG_FIN, kind, put_control, put_data};
use super::headers::{Deflater, Headers};
use bytes::{BufMut, Bytes, BytesMut};
use std::io;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

/// What can be sent.
#[derive(Debug)]
pub enum Outgoing {
    Reply {
        stream: u32,
    },
    Data {
        stream: u32,
        bytes: Bytes,
        fin: bool,
    },
    Reset {
        stream: u32,
        status: u32,
    },
    Window {
        stream: u32,
        delta: usize,
    },
    Ping(u32),
    /// The last frame.
    GoAway {
        last: u32,
        status: u32,
    },
}

/// Until GOAWAY is out or everything that could send is gone.
pub async fn run<W: AsyncWrite + Unpin>(
    mut io: W,
    mut frames: mpsc::Receiver<Outgoing>,
    shared: &Shared,
) -> io::Result<()> {
    let mut deflater = Deflater::new();
    let mut out = BytesMut::new();
    loop {
        // Everything that waits goes out in one write.
        let mut next = tokio::select! {
            frame = frames.recv() => frame,
            () = shared.gone.cancelled() => None,
        };
        let mut last = next.is_none();
        while let Some(frame) = next {
            last = matches!(frame, Outgoing::GoAway { .. });
            encode(frame, &mut deflater, &mut out);
            next = if last || out.len() > MAX_BATCH { None } else { frames.try_recv().ok() };
        }
        if last && out.is_empty() {
            return Ok(());
        }
        io.write_all(&out).await?;
        io.flush().await?;
        out.clear();
        shared.activity.touch();
        if last {
            return io.shutdown().await;
        }
    }
}

const MAX_BATCH: usize = 64 << 10;

fn encode(frame: Outgoing, deflater: &mut Deflater, out: &mut BytesMut) {
    match frame {
        Outgoing::Reply { stream } => {
            let block = deflater.block(&Headers::default());
            put_control(out, kind::SYN_REPLY, 0, 4 + block.len());
            out.put_u32(stream);
            out.put_slice(&block);
        }
        Outgoing::Data { stream, bytes, fin } => {
            put_data(out, stream, if fin { FLAG_FIN } else { 0 }, bytes.len());
            out.put_slice(&bytes);
        }
        Outgoing::Reset { stream, status } => {
            put_control(out, kind::RST_STREAM, 0, 8);
            out.put_u32(stream);
            out.put_u32(status);
        }
        Outgoing::Window { stream, delta } => {
            put_control(out, kind::WINDOW_UPDATE, 0, 8);
            out.put_u32(stream);
            out.put_u32(u32::try_from(delta).unwrap_or(i32::MAX as u32));
        }
        Outgoing::Ping(id) => {
            put_control(out, kind::PING, 0, 4);
            out.put_u32(id);
        }
        Outgoing::GoAway { last, status } => {
            put_control(out, kind::GOAWAY, 0, 8);
            out.put_u32(last);
            out.put_u32(status);
        }
    }
}
