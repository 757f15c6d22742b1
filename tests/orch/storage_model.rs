//! The store against a model: random operations, every state in between, watches from every revision.

use crate::simulated_disk::{rounds, seeded};
use crate::storage::{body, pods};
use orch::api::GroupResource;
use orch::storage::{
    Change, Durability, Entry, Error, Key, Limits, Options, Prefix, Revision, Snapshot, SqliteStorage, Storage,
    Synchronous, Watch, WatchError,
};
use rand::RngExt;
use rand::rngs::SmallRng;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

/// Name and bytes by key, with the revision.
type State = BTreeMap<String, (u64, Vec<u8>)>;

/// Every state there ever was, by revision.
struct Model {
    states: BTreeMap<u64, State>,
}

impl Model {
    fn new(revision: u64) -> Self {
        Self { states: BTreeMap::from([(revision, State::new())]) }
    }

    fn now(&self) -> &State {
        self.states.values().next_back().unwrap()
    }

    fn revision(&self) -> u64 {
        *self.states.keys().next_back().unwrap()
    }

    fn change(&mut self, revision: Revision, change: impl FnOnce(&mut State)) {
        let mut state = self.now().clone();
        change(&mut state);
        assert_eq!(revision.0, self.revision() + 1, "one revision for every write");
        self.states.insert(revision.0, state);
    }
}

fn resources() -> [(GroupResource, &'static [&'static str]); 4] {
    let resource = |group: &str, name: &str| GroupResource::new(group, name);
    [
        (pods(), &["default", "default-2", "a"]),
        (resource("", "podtemplates"), &["default"]),
        (resource("", "nodes"), &[""]),
        (resource("apps", "deployments"), &["default", "z"]),
    ]
}

fn random_key(random: &mut SmallRng) -> Key {
    let all = resources();
    let (resource, namespaces) = &all[random.random_range(0..all.len())];
    let namespace = namespaces[random.random_range(0..namespaces.len())];
    Key::new(resource, namespace, &format!("n-{}", random.random_range(0..12)))
}

fn prefixes() -> Vec<Prefix> {
    let mut all = vec![Prefix::all()];
    for (resource, namespaces) in resources() {
        all.push(Prefix::resource(&resource));
        all.extend(namespaces.iter().filter(|name| !name.is_empty()).map(|name| Prefix::namespace(&resource, name)));
        all.push(Prefix::key(&Key::new(&resource, namespaces[0], "n-1")));
    }
    all.push(Prefix::namespace(&pods(), "nowhere"));
    all
}

/// The prefix, by its text alone.
fn below(prefix: &Prefix, key: &str) -> bool {
    let text = prefix.as_str();
    if text.is_empty() || text.ends_with('/') { key.starts_with(text) } else { key == text }
}

fn shown(entry: &Entry) -> (String, (u64, Vec<u8>)) {
    (entry.key.as_str().to_owned(), (entry.revision.0, entry.body.stored().to_vec()))
}

fn check_snapshot(snapshot: &dyn Snapshot, model: &State, random: &mut SmallRng) {
    for prefix in prefixes() {
        let expected: State = model
            .iter()
            .filter(|(key, _)| below(&prefix, key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let found: Vec<_> = snapshot.range(&prefix, None).map(|entry| shown(entry)).collect();
        assert_eq!(found.iter().cloned().collect::<State>(), expected, "{prefix:?}");
        assert_eq!(found.len(), expected.len(), "{prefix:?}: nothing comes twice");
        assert_eq!(snapshot.count(&prefix), expected.len(), "{prefix:?}");
        // Page by page it is the same, in the same order, whatever the size of a page.
        let limit = random.random_range(1..5);
        let (mut pages, mut after) = (Vec::new(), None::<Key>);
        loop {
            let page: Vec<_> = snapshot.range(&prefix, after.as_ref()).take(limit).collect();
            let Some(last) = page.last() else { break };
            after = Some(last.key.clone());
            pages.extend(page.into_iter().map(|entry| shown(entry)));
        }
        assert_eq!(pages, found, "{prefix:?} in pages of {limit}");
    }
    for (key, value) in model {
        let found = snapshot.get(&Key::from_stored(key)).expect("it is there");
        assert_eq!(shown(&found).1, *value);
    }
}

fn view(state: &State, prefix: &Prefix) -> State {
    state.iter().filter(|(key, _)| below(prefix, key)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Follows a watch to a revision: applied to the state at its start it gives every state after it.
async fn follow(watch: &mut Box<dyn Watch>, prefix: &Prefix, from: u64, to: u64, model: &Model) {
    let mut state = view(&model.states[&from], prefix);
    let mut last = from;
    while watch.progress().0 < to {
        let next = tokio::time::timeout(Duration::from_secs(10), watch.next()).await;
        let change = next.expect("a change is missing").expect("the history reaches back");
        apply(&change, &mut state, &mut last);
        assert_eq!(state, view(&model.states[&last], prefix), "{prefix:?} at {last}");
    }
    assert_eq!(state, view(&model.states[&to], prefix), "{prefix:?} from {from} to {to}");
}

fn apply(change: &Change, state: &mut State, last: &mut u64) {
    assert!(change.revision.0 > *last, "in order, each once");
    *last = change.revision.0;
    let key = change.key.as_str().to_owned();
    let old = change.old.as_ref().map(|old| shown(old).1);
    let before = match &change.new {
        Some(new) => {
            assert_eq!(new.revision, change.revision);
            state.insert(key, shown(new).1)
        }
        None => state.remove(&key),
    };
    assert_eq!(before, old, "the state before is part of the change");
}

async fn random_write(store: &SqliteStorage, model: &mut Model, random: &mut SmallRng) {
    let key = random_key(random);
    let name = key.as_str().to_owned();
    let durability = if random.random() { Durability::Durable } else { Durability::Lazy };
    let known = model.now().get(&name).map(|(revision, _)| Revision(*revision));
    let expected =
        if random.random_ratio(1, 6) { Revision(random.random_range(0..60)) } else { known.unwrap_or_default() };
    let body = body(key.name(), &"#".repeat(random.random_range(0..200)));
    let bytes = body.stored().to_vec();
    let wrong = match known {
        None => Some(Error::NotFound),
        Some(current) if current != expected => Some(Error::Conflict { current }),
        _ => None,
    };
    match random.random_range(0..3) {
        0 => match store.create(key, body, durability).await {
            Ok(entry) => {
                assert!(known.is_none());
                model.change(entry.revision, |state| drop(state.insert(name, (entry.revision.0, bytes))));
            }
            Err(error) => assert_eq!((error, known.is_some()), (Error::Exists, true)),
        },
        1 => match store.update(key, expected, body, durability).await {
            Ok(entry) => {
                assert_eq!(wrong, None);
                model.change(entry.revision, |state| drop(state.insert(name, (entry.revision.0, bytes))));
            }
            Err(error) => assert_eq!(Some(error), wrong),
        },
        _ => match store.delete(key, expected).await {
            Ok((entry, revision)) => {
                assert_eq!((wrong, Some(entry.revision)), (None, known));
                model.change(revision, |state| drop(state.remove(&name)));
            }
            Err(error) => assert_eq!(Some(error), wrong),
        },
    }
    assert_eq!(store.revision().0, model.revision());
}

#[tokio::test]
async fn random_operations_agree_with_a_map() {
    let mut random = seeded(3);
    let home = tempfile::tempdir().unwrap();
    let options = || Options { synchronous: Synchronous::Off, ballast_bytes: 0, ..Options::default() };
    for round in 0..rounds(12) {
        let place = home.path().join(round.to_string());
        let mut store = SqliteStorage::open(&place, options()).await.unwrap();
        let mut model = Model::new(1);
        let mut oldest = 1;
        let mut pinned: Vec<Arc<dyn Snapshot>> = Vec::new();
        for step in 0..300 {
            random_write(&store, &mut model, &mut random).await;
            if step % 30 == 0 {
                check_snapshot(&*store.snapshot(), model.now(), &mut random);
                pinned.push(store.snapshot());
                store.pin(pinned.last().unwrap());
            }
            if random.random_ratio(1, 150) {
                store.close().await.unwrap();
                store = SqliteStorage::open(&place, options()).await.unwrap();
                assert_eq!(store.revision().0, model.revision());
                oldest = model.revision();
                pinned.clear();
            }
        }
        check_snapshot(&*store.snapshot(), model.now(), &mut random);
        // Old states are what they were, from the pin and from the snapshot.
        for snapshot in &pinned {
            let state = &model.states[&snapshot.revision().0];
            check_snapshot(&*store.pinned(snapshot.revision()).expect("it is pinned"), state, &mut random);
            check_snapshot(&**snapshot, state, &mut random);
        }
        // So is every state that the history reaches back to, pinned or not.
        for revision in (oldest..=model.revision()).step_by(7) {
            let snapshot = store.pinned(Revision(revision)).expect("the history holds it");
            assert_eq!(snapshot.revision().0, revision);
            check_snapshot(&*snapshot, &model.states[&revision], &mut random);
        }
        // A watch from every revision there ever was.
        let end = model.revision();
        for from in 1..=end {
            let prefix = prefixes().swap_remove(random.random_range(0..prefixes().len()));
            match store.watch(prefix.clone(), Revision(from)) {
                Ok(mut watch) => {
                    assert!(from >= oldest);
                    follow(&mut watch, &prefix, from, end, &model).await;
                }
                Err(error) => {
                    let expected = Error::Compacted { requested: Revision(from), oldest: Revision(oldest) };
                    assert_eq!(error, expected, "watch from {from}");
                    assert!(from < oldest);
                }
            }
        }
        store.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_and_pages_are_consistent_while_many_write() {
    let store = SqliteStorage::in_memory().await;
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut random = seeded(100 + writer);
                for number in 0..400 {
                    // Each writer has its own keys, so its expectations hold.
                    let key = Key::new(&pods(), ["a", "b"][number % 2], &format!("w{writer}-{}", number % 9));
                    let body = body(key.name(), &number.to_string());
                    let durability = if random.random() { Durability::Durable } else { Durability::Lazy };
                    match store.get(&key) {
                        None => drop(store.create(key, body, durability).await.unwrap()),
                        Some(old) if random.random_ratio(1, 5) => drop(store.delete(key, old.revision).await.unwrap()),
                        Some(old) => drop(store.update(key, old.revision, body, durability).await.unwrap()),
                    }
                }
            })
        })
        .collect();
    // Watches that begin at any moment, each on the state of a snapshot.
    let mut watchers = Vec::new();
    for number in 0..30 {
        let prefix = prefixes().swap_remove(number % prefixes().len());
        let snapshot = store.snapshot();
        let from = snapshot.revision();
        let mut watch = store.watch(prefix.clone(), from).unwrap();
        let reader = store.clone();
        watchers.push(tokio::spawn(async move {
            let mut state: State = snapshot.range(&prefix, None).map(|entry| shown(entry)).collect();
            assert_eq!(snapshot.count(&prefix), state.len());
            let mut last = from.0;
            loop {
                match watch.next().await {
                    Ok(change) => {
                        apply(&change, &mut state, &mut last);
                        assert!(reader.revision() >= change.revision, "reads see what a watch has delivered");
                    }
                    Err(WatchError::Closed) => break,
                    Err(WatchError::Lagged) => panic!("the history is long enough"),
                }
            }
            let end: State = reader.snapshot().range(&prefix, None).map(|entry| shown(entry)).collect();
            assert_eq!(state, end, "{prefix:?} from {from:?}");
        }));
        // Pages of one state, while it changes.
        let before: Vec<_> = store.snapshot().range(&Prefix::all(), None).map(|entry| shown(entry)).collect();
        let snapshot = store.snapshot();
        let (mut pages, mut after) = (Vec::new(), None::<Key>);
        while let Some(page) = Some(snapshot.range(&Prefix::all(), after.as_ref()).take(7).cloned().collect::<Vec<_>>())
            && let Some(last) = page.last()
        {
            after = Some(last.key.clone());
            pages.extend(page.iter().map(|entry| shown(entry)));
            tokio::task::yield_now().await;
        }
        let again: Vec<_> = snapshot.range(&Prefix::all(), None).map(|entry| shown(entry)).collect();
        assert_eq!(pages, again);
        assert!(pages.len() + 200 > before.len());
    }
    for writer in writers {
        writer.await.unwrap();
    }
    store.close().await.unwrap();
    for watcher in watchers {
        watcher.await.unwrap();
    }
}

async fn with_history(limits: Limits) -> (tempfile::TempDir, Arc<SqliteStorage>) {
    let home = tempfile::tempdir().unwrap();
    let options = Options { history: limits, synchronous: Synchronous::Off, ballast_bytes: 0, ..Options::default() };
    let store = SqliteStorage::open(home.path(), options).await.unwrap();
    (home, store)
}

#[tokio::test]
async fn the_history_is_bounded_and_a_late_watch_is_told() {
    let (_home, store) = with_history(Limits { bytes: 64 << 10, age: Duration::from_secs(300) }).await;
    let key = Key::new(&pods(), "default", "busy");
    let quiet = Key::new(&pods(), "kube-system", "quiet");
    let first = store.create(key.clone(), body("busy", ""), Durability::Lazy).await.unwrap();
    let mut late = store.watch(Prefix::namespace(&pods(), "default"), first.revision).unwrap();
    let mut calm = store.watch(Prefix::namespace(&pods(), "kube-system"), first.revision).unwrap();
    let mut revision = first.revision;
    for number in 0..200 {
        let body = body("busy", &format!("{number}").repeat(300));
        revision = store.update(key.clone(), revision, body, Durability::Lazy).await.unwrap().revision;
    }
    assert!(matches!(late.next().await, Err(WatchError::Lagged)), "it missed changes");
    assert_eq!(calm.progress(), revision, "nothing it watches has changed: it misses nothing");
    store.create(quiet.clone(), body("quiet", ""), Durability::Lazy).await.unwrap();
    assert_eq!(calm.next().await.unwrap().key, quiet);
    let old = store.watch(Prefix::all(), first.revision).err().expect("it is too old");
    let Error::Compacted { oldest, .. } = old else { panic!("{old}") };
    assert!(oldest > first.revision);
    let mut watch = store.watch(Prefix::all(), oldest).unwrap();
    assert_eq!(watch.next().await.unwrap().revision.0, oldest.0 + 1, "from the oldest on it is whole");
}

#[tokio::test]
async fn the_history_and_pins_end_with_time() {
    let home = tempfile::tempdir().unwrap();
    let options = Options {
        history: Limits { bytes: 1 << 20, age: Duration::from_millis(20) },
        pin: Duration::from_millis(20),
        synchronous: Synchronous::Off,
        ballast_bytes: 0,
        ..Options::default()
    };
    let store = SqliteStorage::open(home.path(), options).await.unwrap();
    let start = store.snapshot();
    store.pin(&start);
    let a = store.create(Key::new(&pods(), "default", "a"), body("a", ""), Durability::Durable).await.unwrap();
    std::thread::sleep(Duration::from_millis(40));
    store.create(Key::new(&pods(), "default", "b"), body("b", ""), Durability::Durable).await.unwrap();
    assert!(matches!(store.watch(Prefix::all(), start.revision()), Err(Error::Compacted { .. })));
    assert!(store.watch(Prefix::all(), a.revision).is_ok());
    assert!(matches!(store.pinned(start.revision()), Err(Error::Compacted { .. })));
    assert_eq!(store.pinned(store.revision()).unwrap().revision(), store.revision(), "the state now needs no pin");
}

#[tokio::test]
async fn frames_are_made_once_and_shared() {
    let store = SqliteStorage::in_memory().await;
    let mut watches: Vec<_> = (0..3).map(|_| store.watch(Prefix::all(), Revision(1)).unwrap()).collect();
    store.create(Key::new(&pods(), "default", "a"), body("a", ""), Durability::Durable).await.unwrap();
    let mut made = 0;
    for watch in &mut watches {
        let change = watch.next().await.unwrap();
        let frame = change.frame(1, || {
            made += 1;
            "frame".into()
        });
        assert_eq!(&frame[..], b"frame");
        assert_eq!(&change.frame(2, || "other".into())[..], b"other");
    }
    assert_eq!(made, 1);
}

#[tokio::test]
async fn lazy_writes_are_flushed_in_time_or_with_the_next_durable_one() {
    let home = tempfile::tempdir().unwrap();
    let place = |name: &str| home.path().join(name);
    let options = || Options { lazy: Duration::from_millis(50), ..Options::default() };
    let store = SqliteStorage::open(&place("live"), options()).await.unwrap();
    let key = |name: &str| Key::new(&pods(), "default", name);
    let copy = |name: &'static str| {
        std::fs::create_dir(place(name)).unwrap();
        for file in ["orch.db", "orch.db-wal"] {
            std::fs::copy(place("live").join(file), place(name).join(file)).unwrap();
        }
        place(name)
    };
    // The first write after the start is always durable: it reserves revisions.
    store.create(key("first"), body("first", ""), Durability::Lazy).await.unwrap();
    let lazy = store.create(key("lazy"), body("lazy", ""), Durability::Lazy).await.unwrap();
    assert!(store.get(&key("lazy")).is_some(), "it is visible at once");
    store.create(key("durable"), body("durable", ""), Durability::Durable).await.unwrap();
    let crashed = SqliteStorage::open(&copy("rode"), options()).await.unwrap();
    assert!(crashed.get(&key("first")).is_some() && crashed.get(&key("lazy")).is_some());
    assert!(crashed.revision().0 > store.revision().0 + 1000, "the next block");
    let old = crashed.watch(Prefix::all(), lazy.revision).err().expect("from before the crash");
    assert!(matches!(old, Error::Compacted { .. }), "{old}");

    let length = || std::fs::metadata(place("live").join("orch.db-wal")).unwrap().len();
    let before = length();
    store.create(key("later"), body("later", ""), Durability::Lazy).await.unwrap();
    assert_eq!(length(), before, "nothing is written yet");
    let since = std::time::Instant::now();
    while length() == before {
        assert!(since.elapsed() < Duration::from_secs(10), "it is never flushed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let crashed = SqliteStorage::open(&copy("flushed"), options()).await.unwrap();
    assert!(crashed.get(&key("later")).is_some());
}

struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_change_wakes_only_the_watches_it_concerns() {
    let store = SqliteStorage::in_memory().await;
    let woken = Arc::new(Counter(AtomicUsize::new(0)));
    let waker = Waker::from(woken.clone());
    let mut context = Context::from_waker(&waker);
    let namespace = |number: usize| Prefix::namespace(&pods(), &format!("n{}", number % 100));
    let mut watches: Vec<_> = (0..1000).map(|number| store.watch(namespace(number), Revision(1)).unwrap()).collect();
    for watch in &mut watches {
        assert!(watch.poll_next(&mut context).is_pending());
        assert!(watch.poll_next(&mut context).is_pending(), "asking twice registers once");
    }
    let key = Key::new(&pods(), "n7", "a");
    store.create(key.clone(), body("a", ""), Durability::Durable).await.unwrap();
    assert_eq!(woken.0.load(Ordering::SeqCst), 10, "those of one namespace");
    for (number, watch) in watches.iter_mut().enumerate() {
        let ready = watch.poll_next(&mut context).is_ready();
        assert_eq!((ready, watch.progress()), (number % 100 == 7, Revision(2)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_share_a_commit() {
    const CALLERS: u32 = 32;
    const WRITES: u32 = 8;
    let delay = Duration::from_millis(10);
    let home = tempfile::tempdir().unwrap();
    let options = Options { sync_delay: delay, ballast_bytes: 0, ..Options::default() };
    let store = SqliteStorage::open(home.path(), options).await.unwrap();
    let since = std::time::Instant::now();
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let store = store.clone();
            tokio::spawn(async move {
                for number in 0..WRITES {
                    let key = Key::new(&pods(), "default", &format!("{caller}-{number}"));
                    store.create(key.clone(), body(key.name(), ""), Durability::Durable).await.unwrap();
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    assert!(since.elapsed() >= delay * WRITES, "each write waits for its sync");
    let one_by_one = delay * CALLERS * WRITES;
    assert!(since.elapsed() < one_by_one / 3, "{:?}, {one_by_one:?} one by one", since.elapsed());
    store.close().await.unwrap();
}
