//! Images: pulled from registries or imported from archives, unpacked into layers for overlay mounts.
//!
//! What comes from outside is checked before it is used (digests), and unpacked by a process that can
//! reach nothing but the layer ([`unpack`]). A layer counts only with its completion record, so a power
//! cut at any point leaves no half image.

mod archive;
pub mod control;
mod document;
pub mod registries;
mod registry;
mod service;
mod store;
mod unpack;

pub use archive::ImportedImage;
pub use store::{ImageStore, LocalImage};
pub use unpack::main as unpack_main;

use serde::{Deserialize, Serialize};

/// How far long work is, for a terminal. Calls come often; do not block in them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Progress {
    /// A layer by its short digest: bytes so far, of how many.
    Download {
        layer: String,
        bytes: u64,
        of: u64,
    },
    Unpack {
        layer: String,
    },
    /// The layer is here, or was here before.
    Done {
        layer: String,
    },
}

pub type ProgressFn = dyn Fn(Progress) + Send + Sync;

/// Bounds for what one layer may become.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of files.
    pub bytes: u64,
    pub entries: u64,
    /// Unpacked bytes for each compressed one, above [`Limits::FREE_BYTES`].
    pub ratio: u64,
    /// Memory of the unpacking process.
    pub memory: u64,
}

impl Limits {
    /// So much may a layer unpack to whatever its compressed size.
    pub const FREE_BYTES: u64 = 64 << 20;
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 64 << 30, entries: 2_000_000, ratio: 250, memory: 512 << 20 }
    }
}

/// `sha256:<64 hex digits>` as the digits, which are a safe file name.
pub(super) fn digest_hex(digest: &str) -> anyhow::Result<&str> {
    match digest.strip_prefix("sha256:") {
        Some(hex) if hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) => Ok(hex),
        _ => anyhow::bail!("digest {digest:?} is not of the form sha256:<64 hex digits>"),
    }
}

/// The digest of some bytes.
pub(super) fn digest_of(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Enough of a digest to recognise it by.
pub(super) fn short(digest: &str) -> String {
    digest.trim_start_matches("sha256:").chars().take(12).collect()
}
