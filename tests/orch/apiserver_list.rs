//! LIST: selectors, pages, states, Tables and metadata alone.

use crate::apiserver::{Api, CONFIG_MAPS};
use orch::storage::{Limits, Options, SqliteStorage, Synchronous};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().expect("items");
    items.iter().map(|item| item["metadata"]["name"].as_str().expect("a name")).collect()
}

async fn five() -> Api {
    let api = Api::new().await;
    for (name, tier) in [("a", "front"), ("b", "back"), ("c", "front"), ("d", "back"), ("e", "front")] {
        api.config_map(name, json!({"tier": tier})).await;
    }
    api
}

#[tokio::test]
async fn selectors_choose() {
    let api = five().await;
    for (query, expected) in [
        ("labelSelector=tier%3Dfront", vec!["a", "c", "e"]),
        ("labelSelector=tier+notin+(front)", vec!["b", "d"]),
        ("labelSelector=!tier", vec![]),
        ("fieldSelector=metadata.name%3Db", vec!["b"]),
        ("fieldSelector=metadata.name!%3Db,metadata.namespace%3Da&labelSelector=tier%3Dback", vec!["d"]),
        ("fieldSelector=metadata.name%3Dnope", vec![]),
    ] {
        let list = api.get(&format!("{CONFIG_MAPS}?{query}")).await.ok();
        assert_eq!(names(&list), expected, "{query}");
        let across = api.get(&format!("/api/v1/configmaps?{query}")).await.ok();
        assert_eq!(names(&across), expected, "{query} in all namespaces");
    }
    let (code, message) = api.get(&format!("{CONFIG_MAPS}?fieldSelector=data.k%3Dv")).await.refused();
    assert_eq!(code, 400);
    assert_eq!(message, "\"data.k\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"");
}

#[tokio::test]
async fn items_of_built_in_lists_do_not_say_their_kind() {
    let api = five().await;
    let list = api.get(CONFIG_MAPS).await.ok();
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("ConfigMapList"), &json!("v1")));
    let mut one = api.get("/api/v1/namespaces/a/configmaps/a").await.ok();
    let fields = one.as_object_mut().expect("an object");
    fields.remove("kind");
    fields.remove("apiVersion");
    assert_eq!(list["items"][0], one);
}

#[tokio::test]
async fn pages_show_one_state() {
    let api = five().await;
    let first = api.get(&format!("{CONFIG_MAPS}?limit=2")).await.ok();
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], json!(3));
    api.delete("/api/v1/namespaces/a/configmaps/c", None).await.ok();
    api.config_map("bb", json!({})).await;
    let token = first["metadata"]["continue"].as_str().expect("a token");
    let second = api.get(&format!("{CONFIG_MAPS}?limit=2&continue={token}")).await.ok();
    assert_eq!(names(&second), ["c", "d"], "as it was when the list began");
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    assert_eq!(second["metadata"]["remainingItemCount"], json!(1));
    let token = second["metadata"]["continue"].as_str().expect("a token");
    let last = api.get(&format!("{CONFIG_MAPS}?limit=2&continue={token}")).await.ok();
    assert_eq!(names(&last), ["e"]);
    assert_eq!(last["metadata"].get("continue"), None);
    assert_eq!(names(&api.get(CONFIG_MAPS).await.ok()), ["a", "b", "bb", "d", "e"]);

    let (code, _) = api.get(&format!("{CONFIG_MAPS}?continue=x")).await.refused();
    assert_eq!(code, 400);
    let version = first["metadata"]["resourceVersion"].as_str().expect("a version");
    let (code, message) = api.get(&format!("{CONFIG_MAPS}?continue={token}&resourceVersion={version}")).await.refused();
    assert_eq!((code, message.as_str()), (400, "specifying resource version is not allowed when using continue"));
}

/// However often it is used; what it is answered then goes on in the newest state.
#[tokio::test]
async fn a_token_dies_in_time() {
    let directory = tempfile::tempdir().expect("a directory");
    let short = Duration::from_millis(200);
    let history = Limits { age: short, ..Options::default().history };
    let options = Options { synchronous: Synchronous::Off, history, pin: short, ..Options::default() };
    let storage = SqliteStorage::open(directory.path(), options).await.expect("a store");
    let api = Api::with(|config| config.storage = storage).await;
    for name in ["a", "b", "c", "d", "e"] {
        api.config_map(name, json!({})).await;
    }
    let first = api.get(&format!("{CONFIG_MAPS}?limit=2")).await.ok();
    let path = |list: &Value| {
        format!("{CONFIG_MAPS}?limit=2&continue={}", list["metadata"]["continue"].as_str().expect("a token"))
    };
    let die = async {
        loop {
            api.merge(&format!("{CONFIG_MAPS}/e"), json!({ "data": { "now": format!("{:?}", Instant::now()) } }))
                .await
                .ok();
            let answer = api.get(&path(&first)).await;
            if answer.status == 410 {
                return answer.json();
            }
            assert_eq!(names(&answer.ok()), ["c", "d"]);
            tokio::time::sleep(short / 8).await;
        }
    };
    let gone = tokio::time::timeout(Duration::from_secs(20), die).await.expect("it dies although it is used");
    assert_eq!(gone["reason"], "Expired");
    let rest = api.get(&path(&gone)).await.ok();
    assert_eq!(names(&rest), ["c", "d"]);
    assert_ne!(rest["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    assert_eq!(rest["metadata"]["remainingItemCount"], 1);
}

#[tokio::test]
async fn an_exact_version_is_the_state_of_then() {
    let api = five().await;
    let before = api.get(CONFIG_MAPS).await.ok();
    let version = before["metadata"]["resourceVersion"].as_str().expect("a version");
    let name = before["items"][0]["metadata"]["name"].as_str().expect("a name");
    api.merge(&format!("{CONFIG_MAPS}/{name}"), json!({"data": {"k": "changed"}})).await.ok();
    api.config_map("later", json!({})).await;
    let exact = format!("{CONFIG_MAPS}?resourceVersion={version}&resourceVersionMatch=Exact");
    assert_eq!(api.get(&exact).await.ok(), before);
    api.delete(&format!("{CONFIG_MAPS}/{name}"), None).await.ok();
    assert_eq!(api.get(&exact).await.ok(), before);
    let newer = format!("{CONFIG_MAPS}?resourceVersion={version}&resourceVersionMatch=NotOlderThan");
    assert_eq!(api.get(&newer).await.ok()["items"].as_array().map(Vec::len), Some(5));
}

#[tokio::test]
async fn states_that_are_not_there() {
    let api = five().await;
    let (code, message) = api.get(&format!("{CONFIG_MAPS}?resourceVersion=999999999")).await.refused();
    assert_eq!(code, 504);
    assert!(message.starts_with("Timeout: Too large resource version: 999999999, current: "), "{message}");
    for (query, code) in [
        ("resourceVersion=x", 400),
        ("limit=x", 400),
        ("resourceVersionMatch=Exact", 422),
        ("resourceVersion=0&resourceVersionMatch=Exact", 422),
        ("resourceVersion=1&resourceVersionMatch=Bogus", 422),
        ("sendInitialEvents=true", 422),
    ] {
        assert_eq!(api.get(&format!("{CONFIG_MAPS}?{query}")).await.refused().0, code, "{query}");
    }
}

#[tokio::test]
async fn tables_and_metadata_alone() {
    let api = five().await;
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let table = api.get_as(&format!("{CONFIG_MAPS}?limit=1"), accept).await.ok();
    assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");
    assert_eq!(table["rows"][0]["cells"][0], "a");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(table["rows"][0]["object"]["metadata"]["name"], "a");
    assert!(table["metadata"]["continue"].is_string());
    let whole = api.get_as(&format!("{CONFIG_MAPS}/a?includeObject=Object"), accept).await.ok();
    assert_eq!(whole["rows"][0]["object"], api.get(&format!("{CONFIG_MAPS}/a")).await.ok());
    let none = api.get_as(&format!("{CONFIG_MAPS}/a?includeObject=None"), accept).await.ok();
    assert_eq!(none["rows"][0]["object"], Value::Null);

    let accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let list = api.get_as(CONFIG_MAPS, accept).await.ok();
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["items"][4]["metadata"], api.get(&format!("{CONFIG_MAPS}/e")).await.ok()["metadata"]);
    assert_eq!(list["items"][4].get("data"), None);

    let yaml = api.get_as(&format!("{CONFIG_MAPS}/a"), "application/yaml").await;
    assert!(yaml.text.starts_with("apiVersion: v1\ndata:\n  k: v\nkind: ConfigMap\n"), "{}", yaml.text);
    let (code, _) = api.get_as(CONFIG_MAPS, "text/plain").await.refused();
    assert_eq!(code, 406);
}

/// An Event is selected by the names of the version that is asked.
#[tokio::test]
async fn events_are_selected_by_either_name() {
    let api = crate::custom_resources::api().await;
    let (new, old) = ("/apis/events.k8s.io/v1/namespaces/default/events", "/api/v1/namespaces/default/events");
    let event = |name: &str, reporter: &str| {
        json!({
            "metadata": { "name": name }, "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": reporter,
            "reportingInstance": "i", "action": "Do", "reason": "Done", "type": "Normal",
            "regarding": { "kind": "Pod", "name": name, "namespace": "default" },
        })
    };
    for (name, reporter) in [("one", "a-controller"), ("two", "another")] {
        api.post(new, event(name, reporter)).await.ok();
    }
    for (path, selector, found) in [
        (new, "reportingController=another", "two"),
        (new, "regarding.name=one,type=Normal", "one"),
        (old, "source=another", "two"),
        (old, "reportingComponent=a-controller", "one"),
        (old, "involvedObject.name=two", "two"),
    ] {
        let list = api.get(&format!("{path}?fieldSelector={}", selector.replace('=', "%3D"))).await.ok();
        let names: Vec<&Value> =
            list["items"].as_array().expect("items").iter().map(|item| &item["metadata"]["name"]).collect();
        assert_eq!(names, [found], "{path} {selector}");
    }
    for (path, selector) in [(new, "involvedObject.name=one"), (new, "source=another"), (old, "regarding.name=one")] {
        let (code, _) = api.get(&format!("{path}?fieldSelector={}", selector.replace('=', "%3D"))).await.refused();
        assert_eq!(code, 400, "{path} {selector}");
    }
}
