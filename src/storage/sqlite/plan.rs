//! A batch worked out on a copy of the state: who conflicts, what changes, which rows to write.
//!
//! Nothing here is seen or stored: the writer commits a plan and shows it, or throws it away.

use super::rows::fingerprint;
use crate::storage::live::Tree;
use crate::storage::{Body, Change, Durability, Encryption, Entry, Error, Key, Result, Revision};
use imbl::OrdMap;
use std::sync::Arc;

/// What an object that is being deleted may grow by on a full disk: its deletion mark and last status.
const DELETION_GROWTH: usize = 4 << 10;

#[derive(Clone)]
pub enum Operation {
    Create { key: Key, body: Body, durability: Durability },
    Update { key: Key, expected: Revision, body: Body, durability: Durability },
    Delete { key: Key, expected: Revision },
}

impl Operation {
    pub fn bytes(&self) -> usize {
        match self {
            Self::Create { body, .. } | Self::Update { body, .. } => body.len(),
            Self::Delete { .. } => 0,
        }
    }
}

/// The written state, or the removed one; and the revision of the write.
#[derive(Debug)]
pub struct Outcome {
    pub entry: Arc<Entry>,
    pub revision: Revision,
}

/// What a commit has to do to one row.
#[derive(Clone)]
pub struct Pending {
    /// The fingerprint of the row as the database has it; None: it has none.
    pub stored: Option<u64>,
    /// None: remove it.
    pub entry: Option<Arc<Entry>>,
}

/// By row id.
pub type Rows = OrdMap<u64, Pending>;
/// A batch, worked out but not written.
pub struct Plan {
    pub tree: Tree,
    pub pending: Rows,
    pub changes: Vec<Arc<Change>>,
    pub outcomes: Vec<Result<Outcome>>,
    pub durable: bool,
}

impl Plan {
    /// Each operation against the state that the ones before it leave. `full`: what to answer to
    /// those that would need room.
    pub fn new(
        tree: Tree,
        pending: Rows,
        operations: &[Operation],
        full: Option<&Error>,
        encryption: &Encryption,
    ) -> Self {
        let mut plan = Self {
            tree,
            pending,
            changes: Vec::with_capacity(operations.len()),
            outcomes: Vec::with_capacity(operations.len()),
            durable: false,
        };
        for operation in operations {
            let outcome = check(&plan.tree, operation, full).map(|old| plan.apply(operation, old, encryption));
            plan.outcomes.push(outcome);
        }
        plan
    }

    fn apply(&mut self, operation: &Operation, old: Option<Arc<Entry>>, encryption: &Encryption) -> Outcome {
        let revision = Revision(self.tree.revision.0 + 1);
        self.tree.revision = revision;
        let (key, body, durability) = match operation {
            Operation::Create { key, body, durability } | Operation::Update { key, body, durability, .. } => {
                (key, Some(encryption.seal(key, body)), *durability)
            }
            Operation::Delete { key, .. } => (key, None, Durability::Durable),
        };
        let created = old.as_ref().map_or(revision, |old| old.created);
        let new = body.map(|body| Arc::new(Entry { key: key.clone(), revision, created, body }));
        match &new {
            Some(new) => self.tree.insert(new.clone()),
            None => {
                self.tree.remove(key);
            }
        }
        let stored = match self.pending.get(&created.0) {
            Some(row) => row.stored,
            None => old.as_deref().map(fingerprint),
        };
        if new.is_none() && stored.is_none() {
            self.pending.remove(&created.0);
        } else {
            self.pending.insert(created.0, Pending { stored, entry: new.clone() });
        }
        self.durable |= durability == Durability::Durable;
        let entry = new.clone().or_else(|| old.clone()).expect("a delete has a state to remove");
        self.changes.push(Arc::new(Change::new(revision, key.clone(), old, new)));
        Outcome { entry, revision }
    }
}

/// The state that the operation replaces, where it may.
fn check(tree: &Tree, operation: &Operation, full: Option<&Error>) -> Result<Option<Arc<Entry>>> {
    let (key, expected) = match operation {
        Operation::Create { key, .. } => (key, None),
        Operation::Update { key, expected, .. } | Operation::Delete { key, expected } => (key, Some(*expected)),
    };
    let old = tree.find(key).cloned();
    match (&old, expected) {
        (Some(_), None) => return Err(Error::Exists),
        (None, Some(_)) => return Err(Error::NotFound),
        (Some(old), Some(expected)) if old.revision != expected => {
            return Err(Error::Conflict { current: old.revision });
        }
        _ => {}
    }
    match (full, operation, &old) {
        (None, ..) | (_, Operation::Delete { .. }, _) => Ok(old),
        (_, Operation::Update { body, .. }, Some(was)) if relieves(body, &was.body) => Ok(old),
        (Some(full), ..) => Err(full.clone()),
    }
}

/// Whether an update is part of making room: it shrinks, or goes on with a deletion.
fn relieves(new: &Body, old: &Body) -> bool {
    const MARK: &[u8] = b"\"deletionTimestamp\":\"";
    new.len() <= old.len()
        || new.len() <= old.len() + DELETION_GROWTH && new.stored().windows(MARK.len()).any(|part| part == MARK)
}
