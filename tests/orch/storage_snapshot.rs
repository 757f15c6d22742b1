//! Snapshots: saved while the store works, restored elsewhere, started from after damage.

use crate::storage::{body, pod};
use orch::storage::snapshot::{EXTENSION, ExtraFile, Manifest, list, read_manifest, restore, salvage};
use orch::storage::{
    Durability, Error, Health, OpenError, Options, Prefix, Revision, SqliteStorage, Storage, Synchronous,
};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn quick() -> Options {
    Options { synchronous: Synchronous::Off, ballast_bytes: 0, ..Options::default() }
}

async fn filled(directory: &Path, objects: usize, options: Options) -> Arc<SqliteStorage> {
    let store = SqliteStorage::open(directory, options).await.unwrap();
    for number in 0..objects {
        let name = format!("pod-{number}");
        store.create(pod(&name), body(&name, &"x".repeat(number * 10)), Durability::Durable).await.unwrap();
    }
    store
}

fn names(store: &SqliteStorage) -> Vec<(String, Revision, Vec<u8>)> {
    let snapshot = store.snapshot();
    let entries = snapshot.range(&Prefix::all(), None);
    entries.map(|entry| (entry.key.name().to_owned(), entry.revision, entry.body.stored().to_vec())).collect()
}

/// Flips a bit in the middle of every body that is in the file.
fn damage(database: &Path) {
    let mut bytes = fs::read(database).unwrap();
    let mark = b"\"kind\":\"Pod\"";
    let at: Vec<usize> =
        bytes.windows(mark.len()).enumerate().filter(|(_, part)| part == mark).map(|(at, _)| at).collect();
    assert!(!at.is_empty());
    bytes[at[at.len() / 2] + 3] ^= 1;
    fs::write(database, bytes).unwrap();
}

#[tokio::test]
async fn a_snapshot_is_restored_with_its_files_and_a_revision_far_ahead() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    fs::write(at("ca.key"), "secret").unwrap();
    fs::set_permissions(at("ca.key"), fs::Permissions::from_mode(0o400)).unwrap();
    let store = filled(&at("one"), 30, quick()).await;
    let lazy = store.create(pod("lazy"), body("lazy", ""), Durability::Lazy).await.unwrap();
    let extra = vec![ExtraFile { name: "pki/ca.key".to_owned(), path: at("ca.key") }];
    let file = at("saved.orch-snapshot");
    let manifest: Manifest = store.save_snapshot(&file, extra).await.unwrap();
    assert_eq!((manifest.objects, manifest.revision), (31, lazy.revision.0), "lazy writes are in it");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(read_manifest(&file).unwrap(), manifest);
    let truth = names(&store);
    let running = restore(&file, &at("one"), |_| None).unwrap_err();
    assert!(running.to_string().contains("is in use by process"), "{running}");
    store.create(pod("later"), body("later", ""), Durability::Durable).await.unwrap();
    let before = store.revision();
    store.close().await.unwrap();

    // Over the store it came from, and where there was none.
    for name in ["one", "two"] {
        let restored = restore(&file, &at(name), |file| Some(at(name).join("files").join(file))).unwrap();
        assert_eq!(restored.store.objects, 31);
        assert_eq!(restored.store.kept.is_some(), name == "one", "what was there is kept");
        let key = at(name).join("files/pki/ca.key");
        assert_eq!(restored.files, [key.clone()]);
        assert_eq!(fs::read(&key).unwrap(), b"secret");
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o400);
        let store = SqliteStorage::open(&at(name), quick()).await.unwrap();
        assert_eq!((store.health(), names(&store)), (Health::Good, truth.clone()));
        assert!(store.revision().0 > before.0 + 1_000_000, "{name}: {:?}", store.revision());
        let old = store.watch(Prefix::all(), before).err().expect("an old watch is refused");
        assert!(matches!(old, Error::Compacted { .. }), "{old}");
        let next = store.create(pod("next"), body("next", ""), Durability::Durable).await.unwrap();
        assert!(next.revision.0 > before.0 + 1_000_000);
        store.close().await.unwrap();
    }
    let first = SqliteStorage::open(&at("two"), quick()).await.unwrap();
    let before = first.revision();
    first.close().await.unwrap();
    restore(&file, &at("two"), |_| None).unwrap();
    let again = SqliteStorage::open(&at("two"), quick()).await.unwrap();
    assert!(again.revision().0 > before.0 + 1_000_000, "each restore jumps again");
    assert!(again.get(&pod("next")).is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_one_moment_of_a_store_at_work() {
    let home = tempfile::tempdir().unwrap();
    let store = filled(&home.path().join("live"), 0, quick()).await;
    // Two objects always change one after the other: a moment never has the second ahead.
    let writer = {
        let store = store.clone();
        tokio::spawn(async move {
            for round in 0..150 {
                let name = format!("{round:04}");
                store
                    .create(pod(&format!("a-{name}")), body("a", &"y".repeat(5000)), Durability::Durable)
                    .await
                    .unwrap();
                store.create(pod(&format!("b-{name}")), body("b", ""), Durability::Durable).await.unwrap();
            }
        })
    };
    let mut seen = Vec::new();
    for number in 0..6 {
        let file = home.path().join(format!("{number}.{EXTENSION}"));
        let manifest = store.save_snapshot(&file, Vec::new()).await.unwrap();
        let place = home.path().join(format!("restored-{number}"));
        restore(&file, &place, |_| None).unwrap();
        let restored = SqliteStorage::open(&place, quick()).await.unwrap();
        let found = names(&restored);
        assert_eq!(found.len() as u64, manifest.objects);
        let (a, b): (Vec<_>, Vec<_>) = found.iter().partition(|(name, ..)| name.starts_with("a-"));
        assert!(a.len() == b.len() || a.len() == b.len() + 1, "{} and {}", a.len(), b.len());
        seen.push(manifest.objects);
    }
    writer.await.unwrap();
    assert!(seen.is_sorted());
}

#[tokio::test]
async fn a_damaged_or_newer_snapshot_is_refused_and_nothing_is_touched() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    let store = filled(&at("store"), 20, quick()).await;
    let file = at("saved.orch-snapshot");
    store.save_snapshot(&file, Vec::new()).await.unwrap();
    let truth = names(&store);
    store.close().await.unwrap();
    let whole = fs::read(&file).unwrap();
    for at_byte in (0..whole.len()).step_by(whole.len() / 40) {
        let mut bytes = whole.clone();
        bytes[at_byte] ^= 4;
        fs::write(&file, &bytes).unwrap();
        match restore(&file, &at("store"), |_| None) {
            Err(error) => assert!(error.to_string().contains("saved.orch-snapshot"), "byte {at_byte}: {error}"),
            // Padding of the archive.
            Ok(restored) => assert_eq!(restored.store.objects, 20, "byte {at_byte}"),
        }
    }
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let cut = restore(&file, &at("store"), |_| None).unwrap_err().to_string();
    assert!(cut.contains("is damaged"), "{cut}");

    let mut manifest: serde_json::Value = {
        fs::write(&file, &whole).unwrap();
        serde_json::to_value(read_manifest(&file).unwrap()).unwrap()
    };
    manifest["format"] = 9.into();
    let bytes = serde_json::to_vec(&manifest).unwrap();
    let mut archive = tar::Builder::new(zstd::Encoder::new(fs::File::create(&file).unwrap(), 1).unwrap());
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, "manifest.json", &bytes[..]).unwrap();
    archive.into_inner().unwrap().finish().unwrap();
    let newer = restore(&file, &at("store"), |_| None).unwrap_err().to_string();
    assert!(newer.contains("has format 9, this orch knows up to 1"), "{newer}");
    let store = SqliteStorage::open(&at("store"), quick()).await.unwrap();
    assert_eq!(names(&store), truth);
}

#[tokio::test]
async fn a_damaged_store_starts_from_the_newest_automatic_snapshot_that_is_whole() {
    let home = tempfile::tempdir().unwrap();
    let (place, snapshots) = (home.path().join("db"), home.path().join("snapshots"));
    let options = Options { snapshots: Some(snapshots.clone()), ..quick() };
    let store = filled(&place, 10, options.clone()).await;
    let mut saved: Vec<PathBuf> = Vec::new();
    let mut states = Vec::new();
    for number in 0..4 {
        store.create(pod(&format!("extra-{number}")), body("extra", ""), Durability::Durable).await.unwrap();
        saved.push(store.save_automatic(&snapshots, 3, Vec::new()).await.unwrap());
        states.push(names(&store));
    }
    let listed: Vec<PathBuf> = list(&snapshots).unwrap().into_iter().map(|listed| listed.path).collect();
    assert_eq!(listed, [saved[3].clone(), saved[2].clone(), saved[1].clone()], "three are kept, newest first");
    store.create(pod("lost"), body("lost", ""), Durability::Durable).await.unwrap();
    let before = store.revision();
    store.close().await.unwrap();

    // The newest snapshot is damaged as well.
    let mut bytes = fs::read(&saved[3]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&saved[3], bytes).unwrap();
    damage(&place.join("orch.db"));
    let damaged = fs::read(place.join("orch.db")).unwrap();
    let store = SqliteStorage::open(&place, options).await.unwrap();
    assert_eq!(store.health(), Health::Good);
    let recovery = store.recovery().expect("it says what happened");
    assert!(recovery.reason.contains("does not match its checksum"), "{}", recovery.reason);
    assert_eq!(recovery.snapshot.as_ref(), Some(&saved[2]));
    let kept = recovery.replaced.kept.clone().expect("the damaged file is kept");
    assert!(fs::read(kept.join("orch.db")).unwrap() == damaged);
    assert_eq!(names(&store), states[2]);
    assert!(store.revision().0 > before.0 + 1_000_000);
    store.create(pod("new"), body("new", ""), Durability::Durable).await.expect("it takes writes");
    store.close().await.unwrap();
}

#[tokio::test]
async fn what_is_whole_of_a_damaged_store_can_be_salvaged() {
    let home = tempfile::tempdir().unwrap();
    let store = filled(home.path(), 40, quick()).await;
    let truth = names(&store);
    store.close().await.unwrap();
    damage(&home.path().join("orch.db"));
    let store = SqliteStorage::open(home.path(), quick()).await.unwrap();
    let Health::ReadOnly(reason) = store.health() else { panic!("{:?}", store.health()) };
    assert!(reason.contains("restore a snapshot, or salvage what is whole"), "{reason}");
    store.close().await.unwrap();
    let salvaged = salvage(home.path()).unwrap();
    assert_eq!(salvaged.store.objects, 39);
    assert!(salvaged.reason.contains("does not match its checksum"), "{}", salvaged.reason);
    let store = SqliteStorage::open(home.path(), quick()).await.unwrap();
    assert_eq!(store.health(), Health::Good);
    let left = names(&store);
    assert_eq!(left.len(), 39);
    assert!(left.iter().all(|object| truth.contains(object)));
    store.create(pod("new"), body("new", ""), Durability::Durable).await.expect("it takes writes");
    store.close().await.unwrap();
    let whole = salvage(home.path()).unwrap_err().to_string();
    assert!(whole.contains("is not damaged"), "{whole}");
    fs::write(home.path().join("orch.db"), "nothing of it is left").unwrap();
    let nothing = salvage(home.path()).unwrap_err().to_string();
    assert!(nothing.contains("no object in") && nothing.contains("restore a snapshot"), "{nothing}");
    assert_eq!(fs::read_to_string(home.path().join("orch.db")).unwrap(), "nothing of it is left", "it is left alone");
}

#[tokio::test]
async fn a_snapshot_that_a_user_asked_for_is_not_started_from_unasked() {
    let home = tempfile::tempdir().unwrap();
    let (place, snapshots) = (home.path().join("db"), home.path().join("snapshots"));
    let options = Options { snapshots: Some(snapshots.clone()), ..quick() };
    let store = filled(&place, 10, options.clone()).await;
    fs::create_dir(&snapshots).unwrap();
    let old = snapshots.join(format!("automatic-mine-20260101T000000Z.{EXTENSION}"));
    store.save_snapshot(&old, Vec::new()).await.unwrap();
    store.close().await.unwrap();
    damage(&place.join("orch.db"));
    let store = SqliteStorage::open(&place, options).await.unwrap();
    assert!(matches!(store.health(), Health::ReadOnly(_)), "{:?}", store.health());
}

#[tokio::test]
async fn another_format_is_refused_by_name() {
    let home = tempfile::tempdir().unwrap();
    filled(home.path(), 1, quick()).await.close().await.unwrap();
    let database = rusqlite::Connection::open(home.path().join("orch.db")).unwrap();
    database.execute_batch("PRAGMA user_version = 2").unwrap();
    drop(database);
    let newer = SqliteStorage::open(home.path(), quick()).await.err().expect("it is newer");
    assert!(matches!(newer, OpenError::Newer { found: 2, known: 1, .. }), "{newer}");

    let home = tempfile::tempdir().unwrap();
    let database = rusqlite::Connection::open(home.path().join("orch.db")).unwrap();
    database.execute_batch("CREATE TABLE kine (id INTEGER)").unwrap();
    drop(database);
    let foreign = SqliteStorage::open(home.path(), quick()).await.err().expect("it is not ours");
    assert!(matches!(foreign, OpenError::Foreign { .. }), "{foreign}");
}
