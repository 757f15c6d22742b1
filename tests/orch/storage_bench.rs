//! How fast and how small the store is; run by hand, optimised:
//! `cargo test --release --test orch storage_bench -- --ignored --nocapture --test-threads 1`.

use crate::storage::{body, pods};
use orch::storage::{Durability, Key, Options, Prefix, SqliteStorage, Storage, Synchronous};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Creates of 1 KB a second, by so many callers at once.
async fn creates(store: &Arc<SqliteStorage>, callers: usize, each: usize) -> f64 {
    let since = Instant::now();
    let callers: Vec<_> = (0..callers)
        .map(|caller| {
            let (store, tag) = (store.clone(), format!("{}-{caller}", store.revision().0));
            tokio::spawn(async move {
                for number in 0..each {
                    let key = Key::new(&pods(), "default", &format!("{tag}-{number}"));
                    let body = body(key.name(), &"x".repeat(950));
                    store.create(key, body, Durability::Durable).await.unwrap();
                }
            })
        })
        .collect();
    let writes = callers.len() * each;
    for caller in callers {
        caller.await.unwrap();
    }
    writes as f64 / since.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a benchmark: cargo test --release --test orch storage_bench -- --ignored --nocapture"]
async fn durable_creates() {
    let home = tempfile::tempdir().unwrap();
    for (delay, each) in [(Duration::ZERO, 1000), (Duration::from_millis(30), 30)] {
        let options = Options { sync_delay: delay, ..Options::default() };
        let place = home.path().join(delay.as_millis().to_string());
        let store = SqliteStorage::open(&place, options).await.unwrap();
        for callers in [1, 32, 256] {
            let rate = creates(&store, callers, each).await;
            println!("{callers:>4} callers, {delay:?} added to a sync: {rate:.0} creates/s");
            let alone = 1.0 / delay.as_secs_f64().max(0.01);
            assert!(callers < 32 || rate > 4.0 * alone, "callers share commits");
        }
        store.close().await.unwrap();
    }
}

fn resident_megabytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() / 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a benchmark: cargo test --release --test orch storage_bench -- --ignored --nocapture"]
async fn a_hundred_thousand_objects() {
    let home = tempfile::tempdir().unwrap();
    let options = || Options { synchronous: Synchronous::Off, ..Options::default() };
    let store = SqliteStorage::open(home.path(), options()).await.unwrap();
    let callers: Vec<_> = (0..100)
        .map(|caller| {
            let store = store.clone();
            tokio::spawn(async move {
                for number in 0..1000 {
                    let key = Key::new(&pods(), &format!("ns-{}", caller % 20), &format!("{caller}-{number}"));
                    let length = if number % 10 == 0 { 5000 } else { 950 };
                    let body = body(key.name(), &"x".repeat(length));
                    store.create(key, body, Durability::Durable).await.unwrap();
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    println!("100,000 objects: {} MB resident", resident_megabytes());
    let since = Instant::now();
    assert_eq!(store.snapshot().count(&Prefix::resource(&pods())), 100_000);
    println!("counted in {:?}", since.elapsed());
    store.close().await.unwrap();
    drop(store);
    let since = Instant::now();
    let store = SqliteStorage::open(home.path(), options()).await.unwrap();
    println!("opened in {:?}: {} MB resident", since.elapsed(), resident_megabytes());
    assert_eq!(store.snapshot().count(&Prefix::all()), 100_000);
    assert!(resident_megabytes() < 500);
}
