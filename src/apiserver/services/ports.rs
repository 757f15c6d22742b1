//! Node ports: a set of numbers in use.

use crate::api::GroupResource;
use crate::apiserver::services::fields::Service;
use crate::apiserver::state::State;
use crate::storage::Prefix;
use parking_lot::Mutex;
use rand::RngExt;
use std::collections::HashSet;
use std::ops::RangeInclusive;

pub struct NodePorts {
    range: RangeInclusive<u16>,
    /// None: the Services of the store were not read yet.
    used: Mutex<Option<HashSet<i64>>>,
}

/// The ports that one write takes. A dry run takes none: what it would get is a number beyond the
/// range, and one that it names need not be in it.
pub struct Taking<'a> {
    ports: &'a NodePorts,
    state: &'a State,
    dry_run: bool,
    taken: Vec<i64>,
}

/// The first that a dry run hands out, less one.
const BEYOND: i64 = 32768;
const ALLOCATED: &str = "provided port is already allocated";

impl<'a> Taking<'a> {
    pub fn new(ports: &'a NodePorts, state: &'a State, dry_run: bool) -> Self {
        Self { ports, state, dry_run, taken: Vec::new() }
    }

    /// This one; the error is Kubernetes's.
    pub fn take(&mut self, port: i64) -> Result<(), String> {
        if !self.dry_run {
            self.ports.take(self.state, port)?;
        } else if self.taken.contains(&port) || self.ports.is_taken(self.state, port) {
            return Err(ALLOCATED.to_owned());
        }
        self.taken.push(port);
        Ok(())
    }

    pub fn take_any(&mut self) -> Result<i64, String> {
        let port = match self.dry_run {
            true => self.taken.iter().max().copied().unwrap_or(BEYOND).max(0) + 1,
            false => self.ports.take_any(self.state)?,
        };
        self.taken.push(port);
        Ok(port)
    }

    /// What is to be given back when the write fails.
    pub fn taken(self) -> Vec<i64> {
        if self.dry_run { Vec::new() } else { self.taken }
    }
}

/// The ports of all Services in the store.
fn read(state: &State) -> HashSet<i64> {
    let prefix = Prefix::resource(&GroupResource::new("", "services"));
    let snapshot = state.storage.snapshot();
    let mut used = HashSet::new();
    for entry in snapshot.range(&prefix, None) {
        let object = entry.body.parse();
        let service = Service(&object);
        used.extend(service.node_ports().into_iter().chain(service.health_check_port()));
    }
    used
}

impl NodePorts {
    pub fn new(range: RangeInclusive<u16>) -> Self {
        Self { range, used: Mutex::default() }
    }

    fn take(&self, state: &State, port: i64) -> Result<(), String> {
        if !u16::try_from(port).is_ok_and(|port| self.range.contains(&port)) {
            return Err(format!(
                "provided port is not in the valid range. The range of valid ports is {}-{}",
                self.range.start(),
                self.range.end()
            ));
        }
        let mut used = self.used.lock();
        if used.get_or_insert_with(|| read(state)).insert(port) { Ok(()) } else { Err(ALLOCATED.to_owned()) }
    }

    fn is_taken(&self, state: &State, port: i64) -> bool {
        self.used.lock().get_or_insert_with(|| read(state)).contains(&port)
    }

    /// A free one, at random: so a port that was just freed is not handed out at once.
    fn take_any(&self, state: &State) -> Result<i64, String> {
        let mut used = self.used.lock();
        let used = used.get_or_insert_with(|| read(state));
        let count = u32::from(self.range.end() - self.range.start()) + 1;
        // The lowest ones are left to those who ask for a number.
        let reserved = (count / 32).clamp(16, 128).min(count);
        let random = |from: u32, to: u32| if from < to { rand::rng().random_range(from..to) } else { from };
        let upper = random(reserved, count);
        let candidates = (upper..count).chain(reserved..upper).chain(0..reserved);
        for offset in candidates {
            let port = i64::from(*self.range.start()) + i64::from(offset);
            if used.insert(port) {
                return Ok(port);
            }
        }
        Err("range is full".to_owned())
    }

    pub fn release(&self, port: i64) {
        if let Some(used) = self.used.lock().as_mut() {
            used.remove(&port);
        }
    }
}
