//! Encryption at rest: nothing readable on disk, keys exchanged while the store works, and what a
//! lost key does to the API.

use crate::apiserver::{Answer, Api};
use crate::storage::body;
use http::{Method, StatusCode};
use orch::api::GroupResource;
use orch::storage::snapshot::{restore, salvage};
use orch::storage::{Body, Durability, Encryption, Health, Key, Options, SqliteStorage, Storage, Synchronous};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

const PLAIN: &str = "cGxhaW4tdGV4dC1wYXNzd29yZA";

/// Keys by name, the first seals; their bytes are made of the name.
fn encryption(keys: &[&str]) -> Arc<Encryption> {
    let keys: String = keys
        .iter()
        .map(|name| {
            let secret = format!("{}=", name.chars().next().expect("a name").to_string().repeat(43));
            // The last character before the padding has two bits only.
            let secret = format!("{}A=", &secret[..42]);
            format!("\n      - {{name: {name}, secret: {secret}}}")
        })
        .collect();
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers:\n  - aescbc:\n      keys:{keys}\n  - identity: {{}}\n"
    );
    Arc::new(Encryption::parse(&text).expect("a configuration"))
}

fn options(encryption: Arc<Encryption>) -> Options {
    Options { synchronous: Synchronous::Off, ballast_bytes: 0, encryption, ..Options::default() }
}

fn secret(name: &str) -> Key {
    Key::new(&GroupResource::new("", "secrets"), "default", name)
}

fn content(name: &str) -> Body {
    let object = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": { "name": name, "namespace": "default", "uid": name }, "data": { "password": PLAIN },
    });
    Body::from_value(&object, 0, None)
}

/// How often the text is in any file below the directory; snapshots are unpacked.
fn found(directory: &Path, text: &str) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            count += found(&path, text);
            continue;
        }
        let mut bytes = std::fs::read(&path).unwrap();
        if path.extension().is_some_and(|extension| extension == "orch-snapshot") {
            bytes = zstd::decode_all(&bytes[..]).unwrap();
        }
        count += bytes.windows(text.len()).filter(|part| *part == text.as_bytes()).count();
    }
    count
}

#[tokio::test]
async fn the_disk_holds_no_plain_text_and_keys_are_exchanged() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("db");
    // A store that was not encrypted, with earlier states of its secrets in the file.
    let store = SqliteStorage::open(&path, options(Arc::default())).await.unwrap();
    for number in 0..50 {
        let name = format!("s{number}");
        let made = store.create(secret(&name), content(&name), Durability::Durable).await.unwrap();
        store.update(secret(&name), made.revision, content(&name), Durability::Durable).await.unwrap();
    }
    let gone = store.get(&secret("s49")).unwrap();
    store.delete(secret("s49"), gone.revision).await.unwrap();
    store.create(crate::storage::pod("p"), body("p", "visible-text"), Durability::Durable).await.unwrap();
    assert!(found(&path, PLAIN) > 0);

    store.set_encryption(encryption(&["one"])).await.unwrap();
    assert_eq!(store.reencrypt().await.unwrap(), 49);
    assert_eq!(store.reencrypt().await.unwrap(), 0, "they are as they should be");
    store.rewrite().await.unwrap();
    let saved = home.path().join("saved.orch-snapshot");
    store.save_snapshot(&saved, Vec::new()).await.unwrap();
    store.create(secret("later"), content("later"), Durability::Lazy).await.unwrap();
    store.flush().await.unwrap();
    assert_eq!(found(home.path(), PLAIN), 0, "in the database, its WAL, and the snapshot");
    assert!(found(&path, "visible-text") > 0 && found(&path, "k8s:enc:aescbc:v1:one:") >= 50);

    // Another key; the store is read back with it alone.
    store.set_encryption(encryption(&["two", "one"])).await.unwrap();
    assert_eq!(store.reencrypt().await.unwrap(), 50);
    store.rewrite().await.unwrap();
    assert_eq!(found(&path, "k8s:enc:aescbc:v1:one:"), 0);
    let revision = store.revision();
    store.close().await.unwrap();
    let store = SqliteStorage::open(&path, options(encryption(&["two"]))).await.unwrap();
    assert_eq!((store.health(), store.unreadable()), (Health::Good, Vec::new()));
    assert!(store.recovery().is_none() && store.revision() >= revision);
    assert_eq!(store.get(&secret("s3")).unwrap().body.parse(), content("s3").parse());
    store.close().await.unwrap();

    // A snapshot keeps what is sealed as it is; its key opens it.
    restore(&saved, &path, |_| None).unwrap();
    let store = SqliteStorage::open(&path, options(encryption(&["two", "one"]))).await.unwrap();
    assert!(store.unreadable().is_empty());
    assert_eq!(store.get(&secret("s3")).unwrap().body.parse(), content("s3").parse());
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_lost_key_is_no_damage_and_may_come_back() {
    let home = tempfile::tempdir().unwrap();
    let store = SqliteStorage::open(home.path(), options(encryption(&["one"]))).await.unwrap();
    store.create(secret("a"), content("a"), Durability::Durable).await.unwrap();
    store.create(crate::storage::pod("p"), body("p", ""), Durability::Durable).await.unwrap();
    store.close().await.unwrap();

    let store = SqliteStorage::open(home.path(), options(encryption(&["two"]))).await.unwrap();
    assert_eq!(store.health(), Health::Good);
    assert!(store.recovery().is_none(), "it is no damage");
    let unreadable = store.unreadable();
    assert_eq!(unreadable.len(), 1);
    assert!(unreadable[0].0 == secret("a") && unreadable[0].1.contains("key \"one\" of aescbc"), "{unreadable:?}");
    // It is neither overwritten nor lost, whatever is done around it.
    assert_eq!(store.reencrypt().await.unwrap(), 0);
    store.rewrite().await.unwrap();
    store.create(secret("b"), content("b"), Durability::Durable).await.unwrap();
    store.close().await.unwrap();

    let store = SqliteStorage::open(home.path(), options(encryption(&["two"]))).await.unwrap();
    let revision = store.get(&secret("a")).unwrap().revision;
    store.set_encryption(encryption(&["two", "one"])).await.unwrap();
    let found = store.get(&secret("a")).unwrap();
    assert_eq!((found.body.parse(), found.revision), (content("a").parse(), revision));
    store.set_encryption(encryption(&["two"])).await.unwrap();
    assert!(store.get(&secret("a")).unwrap().body.unreadable().is_some());
    assert!(store.get(&secret("b")).unwrap().body.unreadable().is_none());
    store.close().await.unwrap();
    assert!(salvage(home.path()).unwrap_err().to_string().contains("not damaged"));
}

#[tokio::test]
async fn the_api_names_what_it_cannot_read_and_serves_the_rest() {
    let storage = SqliteStorage::in_memory().await;
    let shared = storage.clone();
    let api = Api::with(|config| config.storage = shared).await;
    let path = "/api/v1/namespaces/default/secrets";
    storage.set_encryption(encryption(&["one"])).await.unwrap();
    let secret = |name: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": name, "labels": { "app": "x" } }, "stringData": { "a": PLAIN },
        })
    };
    let created = |answer: Answer| assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    created(api.post(path, secret("lost")).await);
    let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "c" } });
    created(api.post("/api/v1/namespaces/default/configmaps", map).await);
    storage.set_encryption(encryption(&["two"])).await.unwrap();
    created(api.post(path, secret("good")).await);

    let message = "Internal error occurred: unable to transform key \"/registry/secrets/default/lost\": no matching key was found for the provided AES transformer: it was encrypted with key \"one\" of aescbc";
    let one = format!("{path}/lost");
    let patch = json!({ "metadata": { "labels": { "b": "c" } } });
    let merge = "application/merge-patch+json";
    for answer in [
        api.get(&one).await,
        api.get(path).await,
        api.get("/api/v1/secrets?limit=500").await,
        api.get(&format!("{path}?labelSelector=app%3Dy")).await,
        api.get(&format!("{path}?watch=true&timeoutSeconds=1")).await,
        api.write(Method::PUT, &one, &secret("lost")).await,
        api.write_as(Method::PATCH, &one, merge, patch.to_string()).await,
        api.write(Method::DELETE, &one, &json!({})).await,
    ] {
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{}", answer.text);
        assert_eq!(answer.json()["message"], message);
    }
    let again = api.post(path, secret("lost")).await;
    assert_eq!((again.status, &again.json()["reason"]), (StatusCode::CONFLICT, &json!("AlreadyExists")));
    assert_eq!(api.get(&format!("{path}/good")).await.status, StatusCode::OK);
    assert_eq!(api.get("/api/v1/namespaces/default/configmaps").await.status, StatusCode::OK);

    // The key comes back; an update that changes nothing writes with the new one, the next one does not write.
    storage.set_encryption(encryption(&["two", "one"])).await.unwrap();
    let read = api.get(&one).await.json();
    assert!(read["data"]["a"].is_string(), "{read}");
    let put = async |object: &Value| api.write(Method::PUT, &one, object).await.json();
    let second = put(&read).await;
    assert_ne!(second["metadata"]["resourceVersion"], read["metadata"]["resourceVersion"]);
    assert_eq!(put(&second).await["metadata"]["resourceVersion"], second["metadata"]["resourceVersion"]);
    storage.set_encryption(encryption(&["two"])).await.unwrap();
    assert_eq!(api.get(path).await.status, StatusCode::OK);
}
