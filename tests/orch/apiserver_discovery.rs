//! Discovery, version, health, metrics.

use crate::apiserver::{Api, CONFIG_MAPS};
use serde_json::json;

#[tokio::test]
async fn plain_discovery_lists_what_is_served() {
    let api = Api::new().await;
    assert_eq!(api.get("/api").await.ok()["versions"], json!(["v1"]));
    let groups = api.get("/apis").await.ok();
    let apps = groups["groups"].as_array().expect("groups").iter().find(|group| group["name"] == "apps").cloned();
    assert_eq!(apps.expect("apps")["preferredVersion"]["groupVersion"], "apps/v1");
    let list = api.get("/api/v1").await.ok();
    let find =
        |name: &str| list["resources"].as_array().expect("resources").iter().find(|r| r["name"] == name).cloned();
    assert_eq!(find("pods").expect("pods")["shortNames"], json!(["po"]));
    assert_eq!(find("pods/eviction").expect("eviction")["group"], "policy");
    assert_eq!(find("namespaces").expect("namespaces")["namespaced"], json!(false));
    assert_eq!(find("bindings").expect("bindings")["verbs"], json!(["create"]));
}

#[tokio::test]
async fn aggregated_discovery_is_cached_by_its_tag() {
    let api = Api::new().await;
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let answer = api.get_as("/apis", accept).await;
    let content_type = answer.headers["content-type"].to_str().expect("text").to_owned();
    assert_eq!(content_type, "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
    let tag = answer.headers["etag"].clone();
    let list = answer.ok();
    assert_eq!(
        (&list["kind"], &list["apiVersion"]),
        (&json!("APIGroupDiscoveryList"), &json!("apidiscovery.k8s.io/v2"))
    );
    let request = api.request(http::Method::GET, "/apis").header("accept", accept).header("if-none-match", tag);
    let again = api.answer(request.body(axum::body::Body::empty()).expect("a request")).await;
    assert_eq!((again.status.as_u16(), again.text.as_str()), (304, ""));
    let core = api.get_as("/api", accept).await.ok();
    let resources = core["items"][0]["versions"][0]["resources"].as_array().expect("resources").clone();
    let pods = resources.iter().find(|resource| resource["resource"] == "pods").expect("pods");
    assert_eq!(pods["responseKind"], json!({"group": "", "version": "v1", "kind": "Pod"}));
    assert_eq!(pods["scope"], "Namespaced");
}

#[tokio::test]
async fn version_and_health() {
    let api = Api::new().await;
    let version = api.get("/version").await.ok();
    assert_eq!((&version["major"], &version["minor"]), (&json!("1"), &json!("36")));
    assert!(version["gitVersion"].as_str().expect("text").starts_with("v1.36."));
    for path in ["/livez", "/readyz", "/healthz", "/livez/ping"] {
        let answer = api.get(path).await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, "ok"), "{path}");
    }
    assert!(api.get("/readyz?verbose").await.text.starts_with("[+]ping ok\n"));
    assert_eq!(api.get("/livez/nope").await.status, 404);
    let paths = api.get("/").await.ok();
    assert!(paths["paths"].as_array().expect("paths").contains(&json!("/apis/apps/v1")));
}

#[tokio::test]
async fn metrics_count_requests_under_kubernetes_names() {
    let api = Api::new().await;
    api.config_map("x", json!({})).await;
    api.get(CONFIG_MAPS).await.ok();
    let metrics = api.get("/metrics").await.text;
    let line = |start: &str| metrics.lines().find(|line| line.starts_with(start)).map(str::to_owned);
    let posts = line("apiserver_request_total{verb=\"POST\",group=\"\",version=\"v1\",resource=\"configmaps\"");
    assert!(posts.as_deref().is_some_and(|line| line.ends_with(" 1")), "{posts:?}");
    api.get(&format!("{CONFIG_MAPS}?watch=true&timeoutSeconds=1")).await.is(200);
    let answer = api.get("/metrics").await;
    assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let metrics = answer.text;
    for (line, value) in [
        ("apiserver_storage_objects{resource=\"configmaps\"} ", 1),
        ("apiserver_resource_objects{group=\"\",resource=\"configmaps\"} ", 1),
        ("etcd_requests_total{operation=\"create\",group=\"\",resource=\"configmaps\"} ", 1),
    ] {
        let wanted = format!("{line}{value}");
        assert!(metrics.lines().any(|line| line == wanted), "{wanted} is not in:\n{metrics}");
    }
    // Each family has its type under its own name, once, before its samples.
    let typed: Vec<&str> = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    for name in [
        "apiserver_request_total counter",
        "apiserver_request_duration_seconds histogram",
        "apiserver_response_sizes histogram",
        "apiserver_current_inflight_requests gauge",
        "apiserver_longrunning_requests gauge",
        "apiserver_watch_events_total counter",
        "apiserver_watch_events_sizes histogram",
        "authentication_attempts counter",
        "authentication_duration_seconds histogram",
        "authenticated_user_requests counter",
        "authorization_attempts_total counter",
        "authorization_duration_seconds histogram",
        "apiserver_flowcontrol_dispatched_requests_total counter",
        "etcd_request_duration_seconds histogram",
        "process_resident_memory_bytes gauge",
        "process_cpu_seconds_total counter",
        "kubernetes_build_info gauge",
    ] {
        assert_eq!(typed.iter().filter(|typed| **typed == name).count(), 1, "{name}: {typed:?}");
    }
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().expect("a name");
        let known = |typed: &&&str| {
            let family = typed.split(' ').next().expect("a name");
            let rest = name.strip_prefix(family);
            rest.is_some_and(|rest| ["", "_bucket", "_sum", "_count"].contains(&rest))
        };
        assert!(typed.iter().find(known).is_some(), "{line} has no type");
    }
}
