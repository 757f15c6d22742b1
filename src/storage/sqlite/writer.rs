//! The writer thread: batches, conflict checks, commits, lazy writes, a full disk.
//!
//! A batch is planned on a copy of the state (cheap: it is persistent), written in one transaction,
//! and shown only when that is durable. Lazy writes are shown at once and stay pending until the
//! next commit takes them along; the timer for them runs only while there are any.

use super::ballast::Ballast;
use super::database::{Database, Failure, RowWrite};
use super::directory::Directory;
use super::plan::{Operation, Outcome, Plan, Rows};
use super::rows::{Meta, fingerprint};
use super::sequence::{Committed, Sidecar};
use super::{Health, Options, Shared};
use crate::storage::{Encryption, Error, Result, Revision};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Requests in one transaction.
const BATCH: usize = 512;
/// Bytes of objects in one transaction: it has to fit the bounds of the WAL.
const BATCH_BYTES: usize = 4 << 20;
/// Lazy rows that may wait, and their bytes.
const LAZY_ROWS: usize = 1024;
const LAZY_BYTES: usize = 1 << 20;
/// Revisions reserved ahead with every commit.
const BLOCK: u64 = 10_000;
/// The longest that a batch waits for more.
const GATHER: Duration = Duration::from_millis(10);
/// How often a full disk is looked at again, at most.
const FULL_RETRY: Duration = Duration::from_secs(1);

pub enum Request {
    Write { operation: Operation, reply: oneshot::Sender<Result<Outcome>> },
    Flush(oneshot::Sender<Result<()>>),
    Encrypt { encryption: Arc<Encryption>, reply: oneshot::Sender<Result<()>> },
    Rewrite(oneshot::Sender<Result<()>>),
    Close(oneshot::Sender<Result<()>>),
}

type Reply = oneshot::Sender<Result<Outcome>>;

/// What is open on disk.
pub struct Disk {
    pub database: Database,
    pub sidecar: Option<Sidecar>,
    pub ballast: Option<Ballast>,
}

enum State {
    Open(Disk),
    /// Damaged or failed: nothing touches the disk any more.
    Shut(Error),
}

struct FullDisk {
    /// When it was looked at last.
    tried: Instant,
}

pub struct Writer {
    shared: Arc<Shared>,
    options: Options,
    state: State,
    /// Of the last commit.
    meta: Meta,
    pending: Rows,
    pending_bytes: usize,
    pending_since: Option<Instant>,
    full: Option<FullDisk>,
    /// How many callers the last batch answered.
    answered: usize,
    /// What the last commit took.
    commit_time: Duration,
    /// Locked until the writer is done.
    directory: Directory,
}

enum After {
    Encrypt(Arc<Encryption>, oneshot::Sender<Result<()>>),
    Rewrite(oneshot::Sender<Result<()>>),
}

#[derive(Default)]
struct Batch {
    operations: Vec<Operation>,
    replies: Vec<Reply>,
    flushes: Vec<oneshot::Sender<Result<()>>>,
    /// What is done when the operations are.
    after: Option<After>,
    close: Option<oneshot::Sender<Result<()>>>,
    bytes: usize,
}

impl Batch {
    fn add(&mut self, request: Request) {
        match request {
            Request::Write { operation, reply } => {
                self.bytes += operation.bytes();
                self.operations.push(operation);
                self.replies.push(reply);
            }
            Request::Flush(reply) => self.flushes.push(reply),
            Request::Encrypt { encryption, reply } => self.after = Some(After::Encrypt(encryption, reply)),
            Request::Rewrite(reply) => self.after = Some(After::Rewrite(reply)),
            Request::Close(reply) => self.close = Some(reply),
        }
    }

    fn is_empty(&self) -> bool {
        self.operations.is_empty() && self.flushes.is_empty() && self.after.is_none() && self.close.is_none()
    }

    /// What is there without waiting.
    fn take_waiting(&mut self, inbox: &Receiver<Request>) {
        while self.has_room()
            && let Ok(request) = inbox.try_recv()
        {
            self.add(request);
        }
    }

    fn has_room(&self) -> bool {
        self.operations.len() < BATCH && self.bytes < BATCH_BYTES && self.after.is_none() && self.close.is_none()
    }
}

impl Writer {
    pub fn new(shared: Arc<Shared>, options: Options, directory: Directory, disk: Disk, meta: Meta) -> Self {
        Self::with_state(shared, options, directory, State::Open(disk), meta)
    }

    /// Serves what could be read, and writes nothing.
    pub fn read_only(shared: Arc<Shared>, options: Options, directory: Directory, reason: String) -> Self {
        Self::with_state(shared, options, directory, State::Shut(Error::ReadOnly(reason)), Meta::default())
    }

    fn with_state(shared: Arc<Shared>, options: Options, directory: Directory, state: State, meta: Meta) -> Self {
        Self {
            shared,
            options,
            state,
            meta,
            pending: Rows::new(),
            pending_bytes: 0,
            pending_since: None,
            full: None,
            answered: 0,
            commit_time: Duration::ZERO,
            directory,
        }
    }

    pub fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Until the store is closed or every handle to it is gone.
    pub fn run(mut self, inbox: &Receiver<Request>) {
        let close = loop {
            let mut batch = Batch::default();
            batch.take_waiting(inbox);
            let waited = batch.operations.len();
            if batch.is_empty() {
                let first = match self.pending_since {
                    Some(since) => {
                        inbox.recv_timeout((since + self.options.lazy).saturating_duration_since(Instant::now()))
                    }
                    None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                };
                match first {
                    Ok(request) => batch.add(request),
                    Err(RecvTimeoutError::Timeout) => {
                        self.flush_lazy();
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => break None,
                }
            }
            self.gather(&mut batch, waited, inbox);
            if let Some(close) = self.serve(batch) {
                break Some(close);
            }
        };
        let finished = self.finish();
        if let Some(close) = close {
            // Nobody waits any more: the outcome is of no use to anyone.
            let _ = close.send(finished);
        }
    }

    /// Callers who were answered together come again together, a moment later than the first of them;
    /// with those who waited meanwhile they are all there are. For so many a batch waits, a small part
    /// of what a commit takes: else two halves take turns, and each waits for the other's commit.
    fn gather(&self, batch: &mut Batch, waited: usize, inbox: &Receiver<Request>) {
        let expected = waited + self.answered;
        let until = Instant::now() + (self.commit_time / 4).min(GATHER);
        batch.take_waiting(inbox);
        while batch.has_room() && batch.operations.len() < expected {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(request) = inbox.recv_timeout(left) else { return };
            batch.add(request);
            batch.take_waiting(inbox);
        }
    }

    fn flush_lazy(&mut self) {
        let revision = self.shared.history.revision();
        match self.commit(&self.pending.clone(), revision, false) {
            Ok(()) => self.maintain(),
            Err(Failure::Full(reason)) => {
                self.enter_full(reason);
                self.pending_since = Some(Instant::now());
            }
            Err(Failure::Fatal(reason)) => self.fail(reason),
        }
    }

    /// Returns the request to close, where the batch has one.
    fn serve(&mut self, batch: Batch) -> Option<oneshot::Sender<Result<()>>> {
        let Batch { operations, replies, flushes, after, close, .. } = batch;
        self.look_for_space();
        self.answered = operations.len();
        let flush = !flushes.is_empty();
        let (outcomes, flushed) = match self.execute(&operations, flush) {
            Ok(outcomes) => (outcomes, Ok(())),
            Err(error) => (operations.iter().map(|_| Err(error.clone())).collect(), Err(error)),
        };
        for (reply, outcome) in replies.into_iter().zip(outcomes) {
            // A caller that has gone away does not undo its write.
            let _ = reply.send(outcome);
        }
        for reply in flushes {
            let _ = reply.send(flushed.clone());
        }
        if let Some(after) = after {
            let (done, reply) = match after {
                After::Encrypt(encryption, reply) => (self.encrypt(encryption), reply),
                After::Rewrite(reply) => (self.rewrite(), reply),
            };
            // Who asked may have gone away: it is done all the same.
            let _ = reply.send(done);
        }
        self.maintain();
        close
    }

    /// Err: nothing of the batch was done, or nothing is known of it.
    fn execute(&mut self, operations: &[Operation], flush: bool) -> Result<Vec<Result<Outcome>>> {
        for _ in 0..2 {
            if let State::Shut(error) = &self.state {
                return Err(error.clone());
            }
            let full = self.full.is_some().then(|| self.full_error());
            let tree = (**self.shared.tree.load()).clone();
            let plan = Plan::new(tree, self.pending.clone(), operations, full.as_ref(), &self.shared.encryption.load());
            match self.write(&plan, flush) {
                Ok(()) => return Ok(self.show(plan)),
                Err(Failure::Full(reason)) => self.enter_full(reason),
                Err(Failure::Fatal(reason)) => {
                    self.fail(reason.clone());
                    return Err(Error::Unknown(reason));
                }
            }
        }
        Err(self.full_error())
    }

    fn write(&mut self, plan: &Plan, flush: bool) -> std::result::Result<(), Failure> {
        let due = !plan.pending.is_empty()
            && (flush
                || plan.durable
                || plan.pending.len() > LAZY_ROWS
                || self.pending_bytes > LAZY_BYTES
                || plan.tree.revision > self.meta.reserved);
        if due {
            return self.commit(&plan.pending, plan.tree.revision, false);
        }
        self.pending = plan.pending.clone();
        self.pending_bytes +=
            plan.changes.iter().filter_map(|change| change.new.as_ref()).map(|new| new.body.len()).sum::<usize>();
        if self.pending.is_empty() {
            self.pending_since = None;
        } else {
            self.pending_since.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    /// Writes rows; durable when it returns ok. `clean`: the last commit before the store closes.
    fn commit(&mut self, rows: &Rows, revision: Revision, clean: bool) -> std::result::Result<(), Failure> {
        let State::Open(disk) = &mut self.state else { return Ok(()) };
        let mut meta = self.meta;
        meta.sequence += 1;
        meta.clean = clean;
        meta.reserved = if clean { revision } else { Revision(revision.0 + BLOCK) };
        for row in rows.values() {
            if let Some(stored) = row.stored {
                meta.sum = meta.sum.wrapping_sub(stored);
                meta.count -= 1;
            }
            if let Some(entry) = &row.entry {
                meta.sum = meta.sum.wrapping_add(fingerprint(entry));
                meta.count += 1;
            }
        }
        let writes = rows.iter().filter_map(|(id, row)| match (&row.entry, row.stored) {
            (Some(entry), _) => Some(RowWrite::Put(entry)),
            (None, Some(_)) => Some(RowWrite::Remove { id: *id }),
            (None, None) => None,
        });
        let since = Instant::now();
        disk.database.commit(writes, &meta)?;
        self.commit_time = since.elapsed();
        self.meta = meta;
        self.pending = Rows::new();
        self.pending_bytes = 0;
        self.pending_since = None;
        disk.note(&meta)
    }

    fn show(&mut self, plan: Plan) -> Vec<Result<Outcome>> {
        let Plan { tree, changes, outcomes, .. } = plan;
        if !changes.is_empty() {
            let revision = tree.revision;
            self.shared.history.publish(changes, revision, || self.shared.tree.store(Arc::new(tree)));
            self.shared.pins.expire();
        }
        outcomes
    }

    /// Keeps the WAL and the file small; after the replies, since nobody waits for it.
    fn maintain(&mut self) {
        let State::Open(disk) = &mut self.state else { return };
        if disk.database.wal_bytes() < self.options.checkpoint_bytes {
            return;
        }
        let truncate = disk.database.wal_length() > self.options.truncate_bytes;
        let done = disk.database.vacuum(self.options.spare_bytes);
        let done = done.and_then(|_| disk.database.checkpoint(truncate));
        match done {
            Ok(()) => {}
            Err(Failure::Full(reason)) => self.enter_full(reason),
            Err(Failure::Fatal(reason)) => self.fail(reason),
        }
    }

    /// Reads with other keys from now on, and writes with them.
    fn encrypt(&mut self, encryption: Arc<Encryption>) -> Result<()> {
        let old = self.shared.tree.load_full();
        let mut tree = (*old).clone();
        for entry in old.entries() {
            if let Some(entry) = encryption.reopened(entry) {
                tree.insert(Arc::new(entry));
            }
        }
        self.shared.encryption.store(encryption);
        self.shared.tree.store(Arc::new(tree));
        Ok(())
    }

    fn rewrite(&mut self) -> Result<()> {
        let rewritten = self.commit(&self.pending.clone(), self.shared.history.revision(), false).and_then(|()| {
            match std::mem::replace(&mut self.state, State::Shut(super::closed())) {
                State::Shut(error) => {
                    self.state = State::Shut(error.clone());
                    Ok(Err(error))
                }
                State::Open(disk) => {
                    let tree = self.shared.tree.load_full();
                    let (disk, written) = disk.rewrite(&self.directory, &self.options, &tree, self.meta)?;
                    self.state = State::Open(disk);
                    Ok(written.map(|meta| self.meta = meta))
                }
            }
        });
        match rewritten {
            Ok(done) => done,
            Err(Failure::Full(reason)) => {
                self.enter_full(reason);
                Err(self.full_error())
            }
            Err(Failure::Fatal(reason)) => {
                self.fail(reason.clone());
                Err(Error::Unknown(reason))
            }
        }
    }

    pub fn enter_full(&mut self, reason: String) {
        let State::Open(disk) = &mut self.state else { return };
        if self.full.is_none() {
            tracing::error!(reason, "the disk is full: only deletes and shrinking updates pass");
            self.full = Some(FullDisk { tried: Instant::now() });
            self.shared.health.send_replace(Health::Full(reason));
        }
        match disk.make_way() {
            // Without room for that there may be enough for a delete.
            Ok(()) | Err(Failure::Full(_)) => {}
            Err(Failure::Fatal(reason)) => self.fail(reason),
        }
    }

    fn full_error(&self) -> Error {
        let place = self.directory.path().map(|path| format!(" on {}", path.display())).unwrap_or_default();
        let needed = super::ballast::room(self.options.ballast_bytes) >> 20;
        Error::Full(format!("delete objects, or make {needed} MiB free{place}"))
    }

    /// On a full disk: gives back what deletes have freed, and opens up when there is room for the ballast again.
    fn look_for_space(&mut self) {
        let State::Open(disk) = &mut self.state else { return };
        match &mut self.full {
            Some(full) if full.tried.elapsed() >= FULL_RETRY => full.tried = Instant::now(),
            _ => return,
        }
        match disk.give_back() {
            Ok(true) => {
                tracing::info!("the disk has room again");
                self.full = None;
                self.shared.health.send_replace(Health::Good);
            }
            Ok(false) | Err(Failure::Full(_)) => {}
            Err(Failure::Fatal(reason)) => self.fail(reason),
        }
    }

    fn fail(&mut self, reason: String) {
        tracing::error!(reason, "the outcome of a write to the database is not known: the process has to start again");
        self.state = State::Shut(Error::Unknown(reason.clone()));
        self.shared.health.send_replace(Health::Failed(reason));
        self.shared.history.close();
    }

    fn finish(mut self) -> Result<()> {
        self.shared.history.close();
        let revision = self.shared.history.revision();
        let flushed = self.commit(&self.pending.clone(), revision, true);
        let disk = match std::mem::replace(&mut self.state, State::Shut(super::closed())) {
            State::Shut(Error::ReadOnly(_)) => return Ok(()),
            State::Shut(error) => return Err(error),
            State::Open(disk) => disk,
        };
        match flushed.and_then(|()| disk.close()) {
            Ok(()) => Ok(()),
            Err(Failure::Full(reason)) => Err(Error::Full(reason)),
            Err(Failure::Fatal(reason)) => Err(Error::Unknown(reason)),
        }
    }
}

impl Disk {
    pub(super) fn note(&self, meta: &Meta) -> std::result::Result<(), Failure> {
        let Some(sidecar) = &self.sidecar else { return Ok(()) };
        sidecar
            .note(Committed { sequence: meta.sequence, reserved: meta.reserved })
            .map_err(|error| Failure::Fatal(format!("write the commit sequence: {error}")))
    }

    /// Room for deletes: the ballast's, and that of the WAL.
    fn make_way(&mut self) -> std::result::Result<(), Failure> {
        if let Some(ballast) = &self.ballast
            && let Err(error) = ballast.release()
        {
            tracing::error!(%error, "release the ballast");
        }
        self.database.checkpoint(true)
    }

    /// Gives back what deletes have freed until there is room for the ballast. True: it is there again.
    fn give_back(&mut self) -> std::result::Result<bool, Failure> {
        loop {
            self.database.checkpoint(true)?;
            if let Some(ballast) = &self.ballast
                && ballast.restore().map_err(|error| Failure::Fatal(format!("restore the ballast: {error}")))?
            {
                return Ok(true);
            }
            if !self.database.vacuum(0)? {
                return Ok(self.ballast.is_none());
            }
        }
    }

    fn close(mut self) -> std::result::Result<(), Failure> {
        self.database.checkpoint(true)?;
        if let Some(sidecar) = &self.sidecar {
            sidecar.sync().map_err(|error| Failure::Fatal(format!("write the commit sequence: {error}")))?;
        }
        self.database.close()
    }
}
