//! Termination messages: what a container left in its file, or the end of its log.

use crate::api::cri::ContainerStatus;
use crate::kubelet::logs;
use crate::kubelet::view::{ANNOTATION_TERMINATION_MESSAGE_FILE, ANNOTATION_TERMINATION_MESSAGE_POLICY};
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

/// Bytes of a message from the file.
const MAX_FILE: u64 = 4096;
/// Bytes and lines of a message from the log.
const MAX_LOG: usize = 2048;
const MAX_LOG_LINES: usize = 80;

/// The message of a container that ended; empty: none.
pub fn termination_message(status: &ContainerStatus, log_directory: &Path) -> String {
    let policy = status.annotations.get(ANNOTATION_TERMINATION_MESSAGE_POLICY).map(String::as_str);
    let from_file = match status.annotations.get(ANNOTATION_TERMINATION_MESSAGE_FILE) {
        Some(path) => read_file(Path::new(path)),
        None => Ok(String::new()),
    };
    let message = match from_file {
        Ok(message) => message,
        Err(message) => return message,
    };
    let failed = status.exit_code != 0;
    if message.is_empty() && failed && policy == Some("FallbackToLogsOnError") {
        return match logs::tail(&log_directory.join(&status.log_path), MAX_LOG_LINES, MAX_LOG) {
            Ok(text) => text,
            Err(error) => format!("Error on reading termination message from logs: {error}"),
        };
    }
    message
}

/// Only a regular file is read: the container could have put anything in its place.
fn read_file(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("Error on reading termination log {}: {error}", path.display());
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(failed(error)),
    };
    if !metadata.is_file() {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes)).map_err(failed)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
