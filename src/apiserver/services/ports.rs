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
    used: Mutex<Option<HashSet<u16>>>,
}

/// The ports of all Services in the store.
fn read(state: &State) -> HashSet<u16> {
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

    /// This one; the error is Kubernetes's.
    pub fn take(&self, state: &State, port: u16) -> Result<(), String> {
        if !self.range.contains(&port) {
            return Err(format!(
                "provided port is not in the valid range. The range of valid ports is {}-{}",
                self.range.start(),
                self.range.end()
            ));
        }
        let mut used = self.used.lock();
        if used.get_or_insert_with(|| read(state)).insert(port) {
            Ok(())
        } else {
            Err("provided port is already allocated".to_owned())
        }
    }

    /// A free one, at random: so a port that was just freed is not handed out at once.
    pub fn take_any(&self, state: &State) -> Result<u16, String> {
        let mut used = self.used.lock();
        let used = used.get_or_insert_with(|| read(state));
        let count = u32::from(self.range.end() - self.range.start()) + 1;
        // The lowest ones are left to those who ask for a number.
        let reserved = (count / 32).clamp(16, 128).min(count);
        let random = |from: u32, to: u32| if from < to { rand::rng().random_range(from..to) } else { from };
        let upper = random(reserved, count);
        let candidates = (upper..count).chain(reserved..upper).chain(0..reserved);
        for offset in candidates {
            let port = self.range.start() + u16::try_from(offset).unwrap_or(u16::MAX);
            if used.insert(port) {
                return Ok(port);
            }
        }
        Err("range is full".to_owned())
    }

    pub fn release(&self, port: u16) {
        if let Some(used) = self.used.lock().as_mut() {
            used.remove(&port);
        }
    }
}
