//! Terminal sizes: JSON objects one after the other, in whatever pieces they come.

use crate::net::streaming::InputStream;
use tokio::io::AsyncReadExt;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// The size of the client's terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct TerminalSize {
    #[serde(rename = "Width")]
    pub width: u16,
    #[serde(rename = "Height")]
    pub height: u16,
}

/// No size is longer.
const MAX_OBJECT: usize = 512;

/// Sizes as they come; a reader that is behind sees the newest.
pub fn sizes(mut input: InputStream, tasks: &mut JoinSet<()>) -> mpsc::Receiver<TerminalSize> {
    let (latest, mut changed) = watch::channel(None);
    let (sender, receiver) = mpsc::channel(1);
    tasks.spawn(async move {
        let mut buffer = Vec::new();
        let mut piece = [0; 256];
        while let Ok(read @ 1..) = input.read(&mut piece).await {
            buffer.extend_from_slice(&piece[..read]);
            for size in take_sizes(&mut buffer) {
                latest.send_replace(Some(size));
            }
        }
    });
    tasks.spawn(async move {
        while changed.changed().await.is_ok() {
            let size = *changed.borrow_and_update();
            if let Some(size) = size
                && sender.send(size).await.is_err()
            {
                return;
            }
        }
    });
    receiver
}

/// The whole objects at the front; what is left is the start of the next one.
fn take_sizes(buffer: &mut Vec<u8>) -> Vec<TerminalSize> {
    let mut sizes = Vec::new();
    while let Some(end) = buffer.iter().position(|&byte| byte == b'}') {
        let object: Vec<u8> = buffer.drain(..=end).collect();
        // An object that is none is passed over.
        sizes.extend(serde_json::from_slice::<TerminalSize>(&object).ok());
    }
    if buffer.len() > MAX_OBJECT {
        buffer.clear();
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_any_pieces() {
        let text = b"{\"Width\":80,\"Height\":24}\n{\"Width\":100,\"Height\":40}\n{}{\"Width\":70000,\"Height\":1}";
        for step in 1..text.len() {
            let (mut buffer, mut sizes) = (Vec::new(), Vec::new());
            for piece in text.chunks(step) {
                buffer.extend_from_slice(piece);
                sizes.extend(take_sizes(&mut buffer));
            }
            assert_eq!(sizes, [TerminalSize { width: 80, height: 24 }, TerminalSize { width: 100, height: 40 }]);
        }
    }

    #[test]
    fn endless_garbage_is_dropped() {
        let mut buffer = vec![b'x'; MAX_OBJECT + 1];
        assert!(take_sizes(&mut buffer).is_empty());
        assert!(buffer.is_empty());
    }
}
