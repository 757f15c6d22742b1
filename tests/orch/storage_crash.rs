//! Crashes at random points: what was acknowledged is there, what was not is whole or absent, and
//! revisions never go back.

use crate::simulated_disk::{Crash, SimulatedDisk, rounds, seeded};
use crate::storage::{body, pod, pods};
use orch::storage::{Body, Durability, Entry, Error, Health, Key, Options, Prefix, Revision, SqliteStorage, Storage};
use rand::RngExt;
use rand::rngs::SmallRng;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

const KEYS: u64 = 24;
const WRITERS: u64 = 4;

/// What one key went through, as its writer saw it.
#[derive(Clone, Default)]
struct Life {
    /// Acknowledged states in order; None: deleted.
    acknowledged: Vec<Acknowledged>,
    /// A write without an answer: the state it was to make.
    unknown: Option<Option<Body>>,
}

#[derive(Clone)]
struct Acknowledged {
    revision: Revision,
    body: Option<Body>,
    durable: bool,
}

impl Life {
    fn now(&self) -> Option<(Revision, &Body)> {
        let last = self.acknowledged.last()?;
        last.body.as_ref().map(|body| (last.revision, body))
    }

    /// Whether the disk may hold this state. `reached`: the highest revision on it.
    fn allows(&self, found: Option<&Arc<Entry>>, reached: Revision) -> Result<(), String> {
        if let Some(unknown) = &self.unknown {
            match (unknown, found) {
                (None, None) => return Ok(()),
                (Some(body), Some(entry)) if entry.body.stored() == body.stored() => return Ok(()),
                _ => {}
            }
        }
        let mut lost = Vec::new();
        for state in self.acknowledged.iter().rev() {
            let same = match (&state.body, found) {
                (None, None) => true,
                (Some(body), Some(entry)) => entry.revision == state.revision && entry.body.stored() == body.stored(),
                _ => false,
            };
            if same {
                return Ok(());
            }
            if state.durable {
                return Err(format!("the durable write of {:?} is gone, found {found:?}", state.revision));
            }
            if state.revision <= reached {
                return Err(format!("{:?} is gone, though {reached:?} is there; found {found:?}", state.revision));
            }
            lost.push(state.revision);
        }
        match found {
            None => Ok(()),
            Some(entry) => Err(format!("{entry:?} was never written; lost before it: {lost:?}")),
        }
    }
}

fn options(disk: &SimulatedDisk) -> Options {
    Options {
        vfs: Some(disk.name()),
        ballast_bytes: 0,
        checkpoint_bytes: 48 << 10,
        truncate_bytes: 96 << 10,
        // What is deleted is given back with the next checkpoint.
        spare_bytes: 0,
        ..Options::default()
    }
}

fn random_body(name: &str, random: &mut SmallRng) -> Body {
    // Mostly within a page, at times over several.
    let length = if random.random_ratio(1, 8) { random.random_range(0..9000) } else { random.random_range(0..900) };
    let filler: String = std::iter::repeat_with(|| random.random_range('a'..='z')).take(length).collect();
    body(name, &filler)
}

/// Writes to the keys of one writer until the disk is gone or the work is done.
async fn write(store: Arc<SqliteStorage>, keys: Vec<(Key, Life)>, mut random: SmallRng, work: u32) -> Vec<(Key, Life)> {
    let mut keys = keys;
    for _ in 0..work {
        let index = random.random_range(0..keys.len());
        let (key, life) = &mut keys[index];
        let durability = if random.random_ratio(1, 3) { Durability::Lazy } else { Durability::Durable };
        let (body, durability, outcome) = match life.now() {
            None => {
                let body = random_body(key.name(), &mut random);
                let written = store.create(key.clone(), body.clone(), durability).await;
                (Some(body), durability, written.map(|entry| entry.revision))
            }
            Some((revision, _)) if random.random_ratio(1, 4) => {
                let written = store.delete(key.clone(), revision).await;
                (None, Durability::Durable, written.map(|(_, revision)| revision))
            }
            Some((revision, _)) => {
                let body = random_body(key.name(), &mut random);
                let written = store.update(key.clone(), revision, body.clone(), durability).await;
                (Some(body), durability, written.map(|entry| entry.revision))
            }
        };
        match outcome {
            Ok(revision) => {
                let durable = durability == Durability::Durable;
                life.acknowledged.push(Acknowledged { revision, body, durable });
            }
            Err(Error::Unknown(_)) => {
                life.unknown = Some(body);
                return keys;
            }
            Err(other) => panic!("{key:?}: {other}"),
        }
    }
    keys
}

/// Checks every key and makes what was found the new beginning.
fn verify(store: &SqliteStorage, lives: &mut HashMap<Key, Life>, round: u64) {
    assert_eq!(store.health(), Health::Good, "round {round}");
    let snapshot = store.snapshot();
    let everything = Prefix::resource(&pods());
    let reached = snapshot.range(&everything, None).map(|entry| entry.revision).max().unwrap_or_default();
    let highest = lives.values().flat_map(|life| &life.acknowledged).map(|state| state.revision).max();
    assert!(Some(store.revision()) >= highest, "round {round}: {:?} is behind {highest:?}", store.revision());
    assert!(store.revision() >= reached);
    for (key, life) in lives.iter_mut() {
        let found = snapshot.get(key);
        if let Err(wrong) = life.allows(found.as_ref(), reached) {
            panic!("round {round}: {key:?}: {wrong}");
        }
        let state =
            found.map(|entry| Acknowledged { revision: entry.revision, body: Some(entry.body.clone()), durable: true });
        *life = Life { acknowledged: state.into_iter().collect(), unknown: None };
    }
    assert_eq!(
        snapshot.count(&everything),
        lives.values().filter(|life| life.now().is_some()).count(),
        "round {round}: nothing else is there"
    );
}

/// The sidecar is not synced: a crash may leave an older one, or one slot torn.
fn age_sidecar(path: &Path, older: &[u8], random: &mut SmallRng) {
    match random.random_range(0..4) {
        0 => std::fs::write(path, older).unwrap(),
        1 => {
            let mut bytes = std::fs::read(path).unwrap();
            let slot = random.random_range(0..2) * 4096;
            bytes[slot..slot + 512].fill(random.random());
            std::fs::write(path, bytes).unwrap();
        }
        _ => {}
    }
}

#[tokio::test]
async fn crashes_lose_nothing_that_was_acknowledged() {
    let mut random = seeded(1);
    // Only the lock and the sidecar are in it: in memory where there is such a place.
    let home = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let mut crashed_while_opening = 0;
    let mut round = 0;
    let all = rounds(2000);
    while round < all {
        // A new disk now and then; in between, each crash hits what the last one left.
        let disk = SimulatedDisk::new();
        let directory = home.path().join(round.to_string());
        let sidecar = directory.join("orch.db-sequence");
        let mut lives: HashMap<Key, Life> = (0..KEYS).map(|n| (pod(&format!("pod-{n}")), Life::default())).collect();
        let mut older = Vec::new();
        for _ in 0..50 {
            round += 1;
            // Some die while they open, most while they write, a few live to be closed in order.
            let operations = if random.random_ratio(1, 10) { 30 } else { 600 };
            disk.die_after(random.random_range(0..operations));
            match SqliteStorage::open(&directory, options(&disk)).await {
                // A disk that dies under the load looks like a damaged one: nothing is written to it.
                Ok(store) if disk.is_dead() && store.health() != Health::Good => {
                    assert!(matches!(store.health(), Health::ReadOnly(_)), "round {round}: {:?}", store.health());
                    store.close().await.unwrap();
                    crashed_while_opening += 1;
                }
                Ok(store) => {
                    verify(&store, &mut lives, round);
                    older = std::fs::read(&sidecar).unwrap();
                    let mut parts: Vec<Vec<(Key, Life)>> = (0..WRITERS).map(|_| Vec::new()).collect();
                    for (index, entry) in lives.drain().enumerate() {
                        parts[index % WRITERS as usize].push(entry);
                    }
                    let work = random.random_range(1..40);
                    let writers: Vec<_> = parts
                        .into_iter()
                        .map(|keys| {
                            let random = rand::SeedableRng::seed_from_u64(random.random());
                            tokio::spawn(write(store.clone(), keys, random, work))
                        })
                        .collect();
                    for writer in writers {
                        lives.extend(writer.await.unwrap());
                    }
                    match store.close().await {
                        Ok(()) => {
                            // Closed in order: lazy writes are on disk too.
                            for state in lives.values_mut().flat_map(|life| &mut life.acknowledged) {
                                state.durable = true;
                            }
                        }
                        Err(error) => assert!(matches!(error, Error::Unknown(_)), "round {round}: {error}"),
                    }
                }
                Err(error) => {
                    assert!(disk.is_dead(), "round {round}: a whole disk opens: {error}");
                    crashed_while_opening += 1;
                }
            }
            let crash = [Crash::KeepAll, Crash::LoseAll, Crash::Shuffle][random.random_range(0..3)];
            disk.crash(crash, &mut random);
            if !older.is_empty() {
                age_sidecar(&sidecar, &older, &mut random);
            }
        }
        let store = SqliteStorage::open(&directory, options(&disk)).await.unwrap();
        verify(&store, &mut lives, round);
        store.close().await.unwrap();
    }
    assert!(crashed_while_opening > 0, "the beginning was hit too");
}
