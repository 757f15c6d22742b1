//! The frames of SPDY/3.1: heads are parsed purely, bodies are read by the session.

use bytes::{BufMut, BytesMut};

pub const HEAD: usize = 8;
const VERSION: u16 = 3;

pub const FLAG_FIN: u8 = 1;

/// A control frame that is longer is an error; data may be as long as the length field allows,
/// since it is read in pieces.
pub const MAX_CONTROL: u32 = 64 << 10;

/// The types of control frames.
pub mod kind {
    pub const SYN_STREAM: u16 = 1;
    pub const SYN_REPLY: u16 = 2;
    pub const RST_STREAM: u16 = 3;
    pub const SETTINGS: u16 = 4;
    pub const PING: u16 = 6;
    pub const GOAWAY: u16 = 7;
    pub const HEADERS: u16 = 8;
    pub const WINDOW_UPDATE: u16 = 9;
}

/// The status of RST_STREAM.
pub mod reset {
    pub const PROTOCOL_ERROR: u32 = 1;
    pub const REFUSED_STREAM: u32 = 3;
    pub const CANCEL: u32 = 5;
}

/// The first eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    Data { stream: u32, flags: u8, length: u32 },
    Control { kind: u16, flags: u8, length: u32 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("spdy: version {0}, only 3 is spoken here")]
    Version(u16),
    #[error("spdy: control frame of type {kind} with {length} bytes")]
    Length { kind: u16, length: u32 },
    #[error("spdy: data on stream 0")]
    StreamZero,
    #[error("spdy: damaged header block")]
    Headers,
}

impl Head {
    pub fn parse(bytes: [u8; HEAD]) -> Result<Self, FrameError> {
        let [a, b, c, d, flags, x, y, z] = bytes;
        let length = u32::from_be_bytes([0, x, y, z]);
        if a & 0x80 == 0 {
            return match u32::from_be_bytes([a, b, c, d]) {
                0 => Err(FrameError::StreamZero),
                stream => Ok(Self::Data { stream, flags, length }),
            };
        }
        let version = u16::from_be_bytes([a & 0x7f, b]);
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        let kind = u16::from_be_bytes([c, d]);
        let fits = match kind {
            kind::SYN_STREAM => (10..=MAX_CONTROL).contains(&length),
            kind::SYN_REPLY | kind::HEADERS => (4..=MAX_CONTROL).contains(&length),
            kind::RST_STREAM | kind::GOAWAY | kind::WINDOW_UPDATE => length == 8,
            kind::PING => length == 4,
            _ => length <= MAX_CONTROL,
        };
        if fits { Ok(Self::Control { kind, flags, length }) } else { Err(FrameError::Length { kind, length }) }
    }
}

/// Appends the head of a control frame; `length` bytes follow.
pub fn put_control(out: &mut BytesMut, kind: u16, flags: u8, length: usize) {
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    put_flags_and_length(out, flags, length);
}

/// Appends the head of a data frame.
pub fn put_data(out: &mut BytesMut, stream: u32, flags: u8, length: usize) {
    out.put_u32(stream);
    put_flags_and_length(out, flags, length);
}

fn put_flags_and_length(out: &mut BytesMut, flags: u8, length: usize) {
    debug_assert!(length < 1 << 24, "frames are cut before");
    out.put_u8(flags);
    out.put_uint(length as u64, 3);
}
