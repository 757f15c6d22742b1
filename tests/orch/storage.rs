//! The store as its callers see it: writes, conflicts, snapshots, watches, restarts.

use orch::api::GroupResource;
use orch::storage::{
    Body, Durability, Error, Health, Key, OpenError, Options, Prefix, Revision, SqliteStorage, Storage, Watch,
    WatchError,
};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

pub fn pods() -> GroupResource {
    GroupResource { group: String::new(), resource: "pods".to_owned() }
}

pub fn pod(name: &str) -> Key {
    Key::new(&pods(), "default", name)
}

pub fn body(name: &str, filler: &str) -> Body {
    Body::from_value(&json!({"kind": "Pod", "metadata": {"name": name}, "filler": filler}), 7, None)
}

async fn next(watch: &mut Box<dyn Watch>) -> Result<Arc<orch::storage::Change>, WatchError> {
    tokio::time::timeout(Duration::from_secs(10), watch.next()).await.expect("a change comes")
}

#[tokio::test]
async fn writes_check_the_revision_they_replace() {
    let store = SqliteStorage::in_memory().await;
    let key = pod("web");
    assert_eq!(store.revision(), Revision(1));
    let created = store.create(key.clone(), body("web", "a"), Durability::Durable).await.unwrap();
    assert_eq!((created.revision, created.created), (Revision(2), Revision(2)));
    let again = store.create(key.clone(), body("web", "a"), Durability::Durable).await;
    assert_eq!(again.unwrap_err(), Error::Exists);
    let stale = store.update(key.clone(), Revision(1), body("web", "b"), Durability::Durable).await;
    assert_eq!(stale.unwrap_err(), Error::Conflict { current: Revision(2) });
    let updated = store.update(key.clone(), Revision(2), body("web", "b"), Durability::Durable).await.unwrap();
    assert_eq!((updated.revision, updated.created), (Revision(3), Revision(2)));
    assert_eq!(store.delete(key.clone(), Revision(2)).await.unwrap_err(), Error::Conflict { current: Revision(3) });
    let (gone, revision) = store.delete(key.clone(), Revision(3)).await.unwrap();
    assert_eq!((gone.revision, revision), (Revision(3), Revision(4)));
    assert_eq!(store.delete(key.clone(), Revision(3)).await.unwrap_err(), Error::NotFound);
    assert!(store.get(&key).is_none());
    assert_eq!(store.revision(), Revision(4));
}

#[tokio::test]
async fn a_watch_sees_every_change_below_its_prefix_in_order() {
    let store = SqliteStorage::in_memory().await;
    let mut everything = store.watch(Prefix::all(), Revision(1)).unwrap();
    let mut one = store.watch(Prefix::key(&pod("b")), Revision(1)).unwrap();
    for name in ["a", "b", "c"] {
        store.create(pod(name), body(name, ""), Durability::Durable).await.unwrap();
    }
    for expected in 2..=4 {
        assert_eq!(next(&mut everything).await.unwrap().revision, Revision(expected));
    }
    assert_eq!(next(&mut one).await.unwrap().key, pod("b"));
    assert_eq!(one.progress(), Revision(4), "nothing else concerns it");
    let mut late = store.watch(Prefix::namespace(&pods(), "default"), Revision(3)).unwrap();
    assert_eq!(next(&mut late).await.unwrap().revision, Revision(4));
    assert!(matches!(store.watch(Prefix::all(), Revision(9)), Err(Error::Future { .. })));
    store.close().await.unwrap();
    assert!(matches!(next(&mut late).await, Err(WatchError::Closed)));
}

#[tokio::test]
async fn a_store_is_found_again_as_it_was_left() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStorage::open(directory.path(), Options::default()).await.unwrap();
    let created = store.create(pod("a"), body("a", "x"), Durability::Durable).await.unwrap();
    store.create(pod("b"), body("b", "y"), Durability::Lazy).await.unwrap();
    let second = SqliteStorage::open(directory.path(), Options::default()).await.err().expect("it is in use");
    assert!(matches!(second, OpenError::Locked { .. }), "{second}");
    assert!(second.to_string().contains("is in use by process"), "{second}");
    store.close().await.unwrap();
    let store = SqliteStorage::open(directory.path(), Options::default()).await.unwrap();
    assert_eq!(store.health(), Health::Good);
    assert_eq!(store.revision(), Revision(3), "closed in order: no revision is skipped");
    let found = store.get(&pod("a")).unwrap();
    assert_eq!((found.revision, found.created), (created.revision, created.created));
    assert_eq!(found.body.stored(), created.body.stored());
    assert_eq!(found.body.schema, 7);
    assert!(store.get(&pod("b")).is_some());
    assert!(matches!(store.watch(Prefix::all(), Revision(2)), Err(Error::Compacted { .. })));
    assert!(store.watch(Prefix::all(), Revision(3)).is_ok());
}
