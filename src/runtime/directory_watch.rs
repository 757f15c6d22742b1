//! Waiting for changes in a directory, by inotify.

use rustix::fs::inotify;
pub use rustix::fs::inotify::WatchFlags;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub struct DirectoryWatch {
    events: AsyncFd<OwnedFd>,
}

impl DirectoryWatch {
    /// To be called inside a tokio runtime.
    pub fn new(directory: &Path, what: WatchFlags) -> io::Result<Self> {
        let events = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
        inotify::add_watch(&events, directory, what)?;
        // SAFETY: the descriptor is owned by the AsyncFd, so it is open for as long as it is registered.
        let events = unsafe { AsyncFd::register_with_interest(events, Interest::READABLE) }?;
        Ok(Self { events })
    }

    /// Something happened since the last call; what it was does not matter. Cancel-safe.
    pub async fn changed(&self) -> io::Result<()> {
        let mut ready = self.events.readable().await?;
        let mut buffer = [0u8; 4096];
        while rustix::io::read(self.events.get_ref(), &mut buffer).is_ok_and(|read| read > 0) {}
        ready.clear_ready();
        Ok(())
    }
}
