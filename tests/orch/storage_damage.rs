//! Disks that lie, fail or run full: damage is named and never served, and a full disk is left by deleting.

use crate::simulated_disk::{SimulatedDisk, rounds, seeded};
use crate::storage::{body, pod, pods};
use orch::storage::{
    Body, Durability, Error, Health, Options, Prefix, Revision, SqliteStorage, Storage, Synchronous, WatchError,
};
use rand::RngExt;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

const FILES: [&str; 3] = ["orch.db", "orch.db-wal", "orch.db-sequence"];

type Contents = BTreeMap<String, (Revision, Vec<u8>)>;
type Files = BTreeMap<&'static str, Vec<u8>>;

fn quick() -> Options {
    Options { synchronous: Synchronous::Off, ballast_bytes: 0, ..Options::default() }
}

fn contents(store: &SqliteStorage) -> Contents {
    let snapshot = store.snapshot();
    let entries = snapshot.range(&Prefix::all(), None);
    entries.map(|entry| (entry.key.as_str().to_owned(), (entry.revision, entry.body.stored().to_vec()))).collect()
}

fn read(directory: &Path) -> Files {
    FILES.iter().filter_map(|name| Some((*name, fs::read(directory.join(name)).ok()?))).collect()
}

fn write(directory: &Path, files: &Files) {
    fs::create_dir_all(directory).unwrap();
    for name in FILES {
        let path = directory.join(name);
        match files.get(name) {
            Some(bytes) => fs::write(&path, bytes).unwrap(),
            None => drop(fs::remove_file(&path)),
        }
    }
}

fn filler(number: usize) -> String {
    format!("{number:04}").repeat(150 + number % 7 * 200)
}

/// A store with some objects in the file and newer ones in the WAL only: its files and what it holds.
/// The last is what it held when the WAL was empty.
async fn sample() -> (Files, Contents, Contents) {
    let home = tempfile::tempdir().unwrap();
    let store = SqliteStorage::open(home.path(), quick()).await.unwrap();
    for number in 0..60 {
        let name = format!("old-{number}");
        store.create(pod(&name), body(&name, &filler(number)), Durability::Durable).await.unwrap();
    }
    let once = contents(&store);
    store.close().await.unwrap();
    let store = SqliteStorage::open(home.path(), quick()).await.unwrap();
    for number in 0..20 {
        let name = format!("new-{number}");
        store.create(pod(&name), body(&name, &filler(number)), Durability::Durable).await.unwrap();
    }
    let old = store.get(&pod("old-7")).unwrap();
    store.update(pod("old-7"), old.revision, body("old-7", "changed"), Durability::Durable).await.unwrap();
    let old = store.get(&pod("old-8")).unwrap();
    store.delete(pod("old-8"), old.revision).await.unwrap();
    let found = (read(home.path()), contents(&store), once);
    assert!(found.0["orch.db-wal"].len() > 20 * 4096);
    found
}

/// Opens damaged files: true when the damage was named. What is served is always what was written.
async fn is_named(files: &Files, truth: &Contents, what: &str) -> bool {
    names_it(files, truth, truth, what).await
}

/// `once`: what was true at an earlier commit, which a disk that lost later ones may still hold.
async fn names_it(files: &Files, truth: &Contents, once: &Contents, what: &str) -> bool {
    let home = tempfile::tempdir().unwrap();
    write(home.path(), files);
    let store = match SqliteStorage::open(home.path(), quick()).await {
        Ok(store) => store,
        Err(error) => {
            assert!(error.to_string().contains("orch.db"), "{what}: {error}");
            return true;
        }
    };
    let served = contents(&store);
    match store.health() {
        Health::Good => {
            assert_eq!(&served, truth, "{what}: served as if it were whole");
            let Some(recovery) = store.recovery() else { return false };
            assert_eq!(recovery.snapshot, None, "{what}: there is none");
            let kept = recovery.replaced.kept.as_ref().expect("the damaged file is kept");
            assert!(kept.join("orch.db").exists(), "{what}");
            true
        }
        Health::ReadOnly(reason) => {
            assert!(reason.contains("orch.db"), "{what}: {reason}");
            let refused = store.create(pod("late"), body("late", ""), Durability::Durable).await.unwrap_err();
            assert!(matches!(refused, Error::ReadOnly(_)), "{what}: {refused}");
            for (key, found) in &served {
                let known = [truth, once].iter().any(|state| state.get(key) == Some(found));
                assert!(known, "{what}: {key} was served as it never was");
            }
            store.close().await.unwrap();
            let kept = read(home.path());
            assert!(kept["orch.db"] == files["orch.db"], "{what}: the damaged file is kept as it is");
            true
        }
        other => panic!("{what}: {other:?}"),
    }
}

#[tokio::test]
async fn a_flipped_bit_is_named_and_never_served() {
    let (files, truth, once) = sample().await;
    let mut random = seeded(2);
    let mut harmless = 0;
    let all = rounds(300);
    for _ in 0..all {
        let file = if random.random_ratio(1, 3) { "orch.db-wal" } else { "orch.db" };
        let mut damaged = files.clone();
        let bytes = damaged.get_mut(file).unwrap();
        let at = random.random_range(0..bytes.len());
        bytes[at] ^= 1 << random.random_range(0..8);
        let what = format!("{file} byte {at}");
        // A WAL is good up to the damage: the state before it may be read.
        let earlier = if file == "orch.db-wal" { &once } else { &truth };
        if !names_it(&damaged, &truth, earlier, &what).await {
            // The only bytes that nobody needs: the WAL has the page newer, so it is written anew.
            harmless += 1;
            let page = at / 4096 + 1;
            let frames = files["orch.db-wal"][32..].chunks(4096 + 24);
            let newer =
                frames.map(|frame| u32::from_be_bytes(frame[..4].try_into().unwrap())).any(|n| n as usize == page);
            assert!(file == "orch.db" && newer, "{what}");
        }
    }
    assert!(harmless < all / 4, "{harmless} of {all} were not noticed");
}

#[tokio::test]
async fn every_byte_of_an_object_is_guarded() {
    let (files, truth, _) = sample().await;
    let database = &files["orch.db"];
    for name in ["old-25", "old-35", "old-45"] {
        let key = format!("core/pods/default/{name}");
        let stored = &truth[&key].1[..100];
        let start = database.windows(stored.len()).position(|part| part == stored).expect("it is in the file");
        // From the key before the body to the first bytes of it.
        for at in start - key.len() - 12..start + 24 {
            let mut damaged = files.clone();
            damaged.get_mut("orch.db").unwrap()[at] ^= 0x10;
            assert!(
                is_named(&damaged, &truth, &format!("{name} byte {at}")).await,
                "{name} byte {at} of the file, body at {start}, around {:?}",
                &database[start - 48..start]
            );
        }
    }
}

#[tokio::test]
async fn a_wal_cut_short_is_noticed() {
    let (files, truth, once) = sample().await;
    let length = files["orch.db-wal"].len();
    for left in [0, 1, 32, 4152, length / 2, length - 4120, length - 1] {
        let mut damaged = files.clone();
        damaged.get_mut("orch.db-wal").unwrap().truncate(left);
        let named = names_it(&damaged, &truth, &once, &format!("{left} of {length} bytes left")).await;
        assert!(named, "{left} bytes left");
    }
    let mut damaged = files.clone();
    damaged.remove("orch.db-wal");
    assert!(names_it(&damaged, &truth, &once, "no WAL").await);
    damaged.remove("orch.db");
    let home = tempfile::tempdir().unwrap();
    write(home.path(), &damaged);
    let error = SqliteStorage::open(home.path(), quick()).await.err().expect("the database is gone").to_string();
    assert!(error.contains("is gone, but") && error.contains("restore a snapshot"), "{error}");
}

#[tokio::test]
async fn a_page_that_went_stale_is_noticed() {
    // Once with the tree of pages changed, once with only what is in them.
    stale_pages(&filler(1), &filler(3), true).await;
    stale_pages(&filler(1), &filler(8), false).await;
}

async fn stale_pages(old: &str, new: &str, grows: bool) {
    assert_eq!(old.len() != new.len(), grows);
    let home = tempfile::tempdir().unwrap();
    let store = SqliteStorage::open(home.path(), quick()).await.unwrap();
    for number in 0..40 {
        let name = format!("pod-{number}");
        store.create(pod(&name), body(&name, &filler(1)), Durability::Durable).await.unwrap();
    }
    store.close().await.unwrap();
    let (before, once) = (read(home.path()), contents(&store));
    let store = SqliteStorage::open(home.path(), quick()).await.unwrap();
    for number in (0..40).step_by(3) {
        let key = pod(&format!("pod-{number}"));
        let revision = store.get(&key).unwrap().revision;
        store.update(key.clone(), revision, body(key.name(), new), Durability::Durable).await.unwrap();
    }
    let truth = contents(&store);
    store.close().await.unwrap();
    let after = read(home.path());
    let mut stale = 0;
    // Of the first page only a counter has changed, where the file has not grown.
    for page in usize::from(!grows)..before["orch.db"].len() / 4096 {
        let range = page * 4096..(page + 1) * 4096;
        if before["orch.db"][range.clone()] != after["orch.db"][range.clone()] {
            let mut damaged = after.clone();
            damaged.get_mut("orch.db").unwrap()[range.clone()].copy_from_slice(&before["orch.db"][range]);
            let named = names_it(&damaged, &truth, &once, &format!("stale page {page}")).await;
            assert!(named, "stale page {page}");
            stale += 1;
        }
    }
    assert!(stale > 3, "pages have changed");
    assert!(!is_named(&after, &truth, "nothing").await, "a whole file is not damaged");
}

#[tokio::test]
async fn a_failing_disk_leaves_the_outcome_open_and_ends_the_store() {
    let disk = SimulatedDisk::new();
    let home = tempfile::tempdir().unwrap();
    let options = Options { vfs: Some(disk.name()), ballast_bytes: 0, ..Options::default() };
    let store = SqliteStorage::open(home.path(), options).await.unwrap();
    let written = store.create(pod("a"), body("a", ""), Durability::Durable).await.unwrap();
    let mut watch = store.watch(Prefix::all(), written.revision).unwrap();
    disk.die_after(0);
    let unknown = store.create(pod("b"), body("b", ""), Durability::Durable).await.unwrap_err();
    assert!(matches!(unknown, Error::Unknown(_)), "{unknown}");
    assert!(store.get(&pod("b")).is_none(), "what may not be on disk is not shown");
    assert_eq!(store.revision(), written.revision);
    let reason = tokio::time::timeout(Duration::from_secs(5), store.failed()).await.expect("it says so");
    assert!(reason.contains("I/O"), "{reason}");
    let again = store.create(pod("c"), body("c", ""), Durability::Lazy).await.unwrap_err();
    assert!(matches!(again, Error::Unknown(_)), "{again}");
    assert!(matches!(watch.next().await, Err(WatchError::Closed)));
}

fn marked(name: &str, filler: &str) -> Body {
    let metadata = json!({"name": name, "deletionTimestamp": "2026-01-02T03:04:05Z", "deletionGracePeriodSeconds": 30});
    Body::from_value(&json!({"kind": "Pod", "metadata": metadata, "filler": filler}), 7, None)
}

#[tokio::test]
async fn a_full_disk_is_left_by_deleting() {
    const BALLAST: usize = 1 << 20;
    let disk = SimulatedDisk::new();
    let home = tempfile::tempdir().unwrap();
    let ballast = home.path().join("ballast");
    let options = Options { vfs: Some(disk.name()), ballast_bytes: BALLAST as u64, ..Options::default() };
    let store = SqliteStorage::open(home.path(), options.clone()).await.unwrap();
    assert_eq!(fs::metadata(&ballast).unwrap().len(), BALLAST as u64);
    // The WAL takes five of it.
    disk.set_quota(20 << 20, ballast.clone(), BALLAST);
    let filler = "x".repeat(8000);
    let mut names = Vec::new();
    let refused = loop {
        let name = format!("pod-{}", names.len());
        match store.create(pod(&name), body(&name, &filler), Durability::Durable).await {
            Ok(_) => names.push(name),
            Err(error) => break error,
        }
        assert!(names.len() < 4000, "the disk never runs full");
    };
    assert!(matches!(&refused, Error::Full(_)), "{refused}");
    assert!(refused.to_string().contains(&home.path().display().to_string()), "{refused}");
    assert!(matches!(store.health(), Health::Full(_)));
    assert!(!ballast.exists(), "the ballast is given up");
    assert!(names.len() > 1000);

    let revision = |name: &str| store.get(&pod(name)).unwrap().revision;
    let update = |name: &'static str, body: Body| store.update(pod(name), revision(name), body, Durability::Durable);
    let grown = update("pod-1", body("pod-1", &"x".repeat(8100))).await.unwrap_err();
    assert!(matches!(grown, Error::Full(_)), "{grown}");
    let event = store.create(pod("event"), body("event", ""), Durability::Lazy).await.unwrap_err();
    assert!(matches!(event, Error::Full(_)), "{event}");
    update("pod-1", body("pod-1", "less")).await.expect("a shrinking update passes");
    update("pod-2", marked("pod-2", &filler)).await.expect("a deletion may begin");

    for name in &names[..names.len() - 100] {
        store.delete(pod(name), revision(name)).await.expect("deletes pass");
    }
    let since = Instant::now();
    while let Err(error) = store.create(pod("after"), body("after", &filler), Durability::Durable).await {
        assert!(matches!(error, Error::Full(_)), "{error}");
        assert!(since.elapsed() < Duration::from_secs(20), "it never opens up again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(store.health(), Health::Good);
    assert!(ballast.exists(), "and is there for the next time");
    store.close().await.unwrap();
    drop(store);
    let store = SqliteStorage::open(home.path(), options).await.unwrap();
    assert_eq!((store.health(), store.recovery().is_some()), (Health::Good, false));
    for name in &names[names.len() - 100..] {
        assert!(store.get(&pod(name)).is_some(), "{name}");
    }
}

#[tokio::test]
async fn what_was_deleted_is_given_back() {
    let disk = SimulatedDisk::new();
    let home = tempfile::tempdir().unwrap();
    let options = Options { vfs: Some(disk.name()), ballast_bytes: 0, checkpoint_bytes: 1 << 20, ..Options::default() };
    let store = SqliteStorage::open(home.path(), options).await.unwrap();
    let filler = "x".repeat(100_000);
    for number in 0..200 {
        let name = format!("pod-{number}");
        store.create(pod(&name), body(&name, &filler), Durability::Durable).await.unwrap();
    }
    let full = disk.length("orch.db").unwrap();
    assert!(full > 19 << 20, "{full}");
    for number in 0..190 {
        let key = pod(&format!("pod-{number}"));
        let revision = store.get(&key).unwrap().revision;
        store.delete(key, revision).await.unwrap();
    }
    // As the work goes on: what a checkpoint gives back is bounded.
    for round in 0..200 {
        let key = pod("pod-195");
        let revision = store.get(&key).unwrap().revision;
        let filler = filler.replace('x', ["y", "z"][round % 2]);
        store.update(key, revision, body("pod-195", &filler), Durability::Durable).await.unwrap();
    }
    let left = disk.length("orch.db").unwrap();
    assert!(left < 7 << 20, "{left} of {full} bytes are still used");
    assert!(disk.longest_wal() < 8 << 20, "the WAL had {} bytes", disk.longest_wal());
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wal_stays_small_under_load_and_during_a_backup() {
    let disk = SimulatedDisk::new();
    let home = tempfile::tempdir().unwrap();
    let options = Options { vfs: Some(disk.name()), ballast_bytes: 0, ..Options::default() };
    let store = SqliteStorage::open(home.path(), options).await.unwrap();
    let load = |task: usize| {
        let store = store.clone();
        async move {
            for number in 0..40 {
                let name = format!("pod-{task}-{number}");
                let size = if number % 20 == 0 { 1 << 20 } else { 3000 };
                store.create(pod(&name), body(&name, &"x".repeat(size)), Durability::Durable).await.unwrap();
            }
        }
    };
    let writers: Vec<_> = (0..24).map(|task| tokio::spawn(load(task))).collect();
    let backup = {
        let (store, to) = (store.clone(), home.path().join("under-load.orch-snapshot"));
        tokio::spawn(async move { store.save_snapshot(&to, Vec::new()).await.unwrap() })
    };
    for writer in writers {
        writer.await.unwrap();
    }
    backup.await.unwrap();
    // 4 MB until it is moved into the file, and one batch of at most 4 MB and an object on top.
    let longest = disk.longest_wal();
    assert!((4 << 20..12 << 20).contains(&longest), "the WAL had {longest} bytes");
    assert_eq!(store.snapshot().count(&Prefix::resource(&pods())), 24 * 40);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_wal_that_grew_long_is_cut() {
    let disk = SimulatedDisk::new();
    let home = tempfile::tempdir().unwrap();
    let options = Options {
        vfs: Some(disk.name()),
        ballast_bytes: 0,
        checkpoint_bytes: 64 << 10,
        truncate_bytes: 256 << 10,
        ..Options::default()
    };
    let store = SqliteStorage::open(home.path(), options).await.unwrap();
    store.create(pod("big"), body("big", &"x".repeat(1 << 20)), Durability::Durable).await.unwrap();
    store.flush().await.unwrap();
    assert!(disk.longest_wal() > 1 << 20);
    assert_eq!(disk.length("-wal"), Some(0));
    store.close().await.unwrap();
}
