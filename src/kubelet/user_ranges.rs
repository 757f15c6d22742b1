//! Host ids of pods with users of their own (`hostUsers: false`): a range for each, kept as long as
//! the pod's directory, over restarts of orch too.
//!
//! The record is Kubernetes's, `<root>/pods/<uid>/userns`; there is no other. Invariant: no two
//! directories name the same range.

use crate::api::cri::IdMapping;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Ids of one pod.
const LENGTH: u32 = 65_536;
/// The first range is the machine's own.
const RANGES: std::ops::Range<u32> = 1..u32::MAX / LENGTH;
const RECORD: &str = "userns";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    uid_mappings: Vec<Mapping>,
    gid_mappings: Vec<Mapping>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mapping {
    host_id: u32,
    container_id: u32,
    length: u32,
}

pub struct UserRanges {
    pods: PathBuf,
    /// One allocation after the other.
    turn: Mutex<()>,
}

impl UserRanges {
    /// `pods`: the directory with one directory for each pod.
    pub fn new(pods: PathBuf) -> Self {
        Self { pods, turn: Mutex::new(()) }
    }

    /// The pod's range, taken now if it has none.
    pub fn of(&self, uid: &str) -> Result<IdMapping, String> {
        let told = |error: io::Error| format!("allocate the users of pod {uid}: {error}");
        let _turn = self.turn.lock();
        let directory = self.pods.join(uid);
        if let Some(first) = read(&directory).map_err(told)? {
            return Ok(IdMapping { host_id: first, length: LENGTH });
        }
        let mut taken = BTreeSet::new();
        for entry in fs::read_dir(&self.pods).map_err(told)? {
            taken.extend(read(&entry.map_err(told)?.path()).map_err(told)?);
        }
        let free = RANGES.map(|range| range * LENGTH).find(|first| !taken.contains(first));
        let first = free.ok_or_else(|| format!("allocate the users of pod {uid}: all ranges are taken"))?;
        let mapping = vec![Mapping { host_id: first, container_id: 0, length: LENGTH }];
        let record = Record { uid_mappings: mapping.clone(), gid_mappings: mapping };
        let bytes = serde_json::to_vec(&record).map_err(|error| told(error.into()))?;
        let aside = directory.join("userns.new");
        fs::create_dir_all(&directory)
            .and_then(|()| fs::write(&aside, bytes))
            .and_then(|()| fs::rename(&aside, directory.join(RECORD)))
            .map_err(told)?;
        Ok(IdMapping { host_id: first, length: LENGTH })
    }
}

/// The first host id in a pod's record; None: it has none. One that cannot be read is an error, lest its
/// range be given away.
fn read(directory: &Path) -> io::Result<Option<u32>> {
    let path = directory.join(RECORD);
    let text = match fs::read(&path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        other => other?,
    };
    let named = |error: String| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()));
    let record: Record = serde_json::from_slice(&text).map_err(|error| named(error.to_string()))?;
    match record.uid_mappings.first() {
        Some(mapping) => Ok(Some(mapping.host_id)),
        None => Err(named("no mapping in it".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_kept_and_given_once() {
        let directory = tempfile::tempdir().unwrap();
        let ranges = UserRanges::new(directory.path().to_owned());
        let [a, b] = ["a", "b"].map(|uid| ranges.of(uid).unwrap().host_id);
        assert_eq!((a, b), (65_536, 131_072));
        // Another life of the kubelet.
        let again = UserRanges::new(directory.path().to_owned());
        assert_eq!(again.of("b").unwrap().host_id, b);
        assert_eq!(again.of("c").unwrap().host_id, 196_608);
        // A pod's range is free when its directory is gone.
        fs::remove_dir_all(directory.path().join("a")).unwrap();
        assert_eq!(again.of("d").unwrap().host_id, a);
    }

    #[test]
    fn a_damaged_record_is_named() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("a")).unwrap();
        fs::write(directory.path().join("a/userns"), "{").unwrap();
        let error = UserRanges::new(directory.path().to_owned()).of("b").unwrap_err();
        assert!(error.contains("a/userns"), "{error}");
    }
}
