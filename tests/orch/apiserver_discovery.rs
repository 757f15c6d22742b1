//! Discovery, version, health, metrics.

use crate::apiserver::{Api, CONFIG_MAPS};
use http::Method;
use orch::api::UserInfo;
use orch::apiserver::HealthCheck;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
    // A group and version that are the resource's own are left out.
    assert_eq!(pods["responseKind"], json!({"group": "", "version": "", "kind": "Pod"}));
    let of = |name: &str| {
        let subresources = pods["subresources"].as_array().expect("subresources").iter();
        subresources.clone().find(|found| found["subresource"] == name).expect(name)["responseKind"].clone()
    };
    assert_eq!(of("eviction"), json!({"group": "policy", "version": "v1", "kind": "Eviction"}));
    assert_eq!(of("status"), json!({"group": "", "version": "", "kind": "Pod"}));
    assert_eq!(core["items"][0]["metadata"], json!({}));
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
    assert_eq!(api.get("/livez/nope").await.status, 404);
    let paths = api.get("/").await.ok();
    let paths = paths["paths"].as_array().expect("paths");
    for path in ["/apis/apps/v1", "/livez/log", "/readyz/shutdown", "/metrics/slis", "/statusz", "/flagz"] {
        assert!(paths.contains(&json!(path)), "{path}");
    }
    assert_eq!(api.get_as("/version", "application/yaml").await.status, 406);
}

/// One whose store is not well as long as the flag says so, beside a hook that only readiness asks for.
async fn ailing(ill: &Arc<AtomicBool>) -> Api {
    let ill = ill.clone();
    let store = move || if ill.load(Ordering::SeqCst) { Err("no space".to_owned()) } else { Ok(()) };
    Api::with(|config| {
        config.about.checks =
            vec![HealthCheck::new("etcd", store), HealthCheck::of_readiness("informer-sync", || Ok(()))];
        config.about.components = vec![("scheduler", Arc::new(|| Err("it does not run".to_owned())))];
        config.about.address = Some(Arc::new(|| Some("10.0.0.7:6443".parse().expect("an address"))));
        config.about.flags =
            vec![("data-dir".to_owned(), "/data".to_owned()), ("bind-address".to_owned(), String::new())];
    })
    .await
}

#[tokio::test]
async fn health_says_what_is_wrong_to_who_may_know() {
    let ill = Arc::new(AtomicBool::new(false));
    let api = ailing(&ill).await;
    let text = async |path: &str| {
        let answer = api.get(path).await;
        (answer.status.as_u16(), answer.text)
    };
    let all = "[+]ping ok\n[+]log ok\n[+]etcd ok\n";
    for (path, end) in [
        ("/livez?verbose", "livez check passed\n"),
        ("/healthz?verbose=1", "healthz check passed\n"),
        ("/readyz?verbose", "[+]informer-sync ok\n[+]shutdown ok\nreadyz check passed\n"),
        (
            "/livez?verbose&exclude=x&exclude=informer-sync",
            "warn: some health checks cannot be excluded: no matches for \"informer-sync\",\"x\"\nlivez check passed\n",
        ),
    ] {
        assert_eq!(text(path).await, (200, format!("{all}{end}")), "{path}");
    }
    assert_eq!(text("/livez/informer-sync").await.0, 404);
    assert_eq!(text("/livez/etcd").await, (200, "ok".to_owned()));
    ill.store(true, Ordering::SeqCst);
    let failed = "[+]ping ok\n[+]log ok\n[-]etcd failed: reason withheld\nlivez check failed\n";
    assert_eq!(text("/livez").await, (500, failed.to_owned()));
    assert_eq!(text("/livez/etcd").await, (500, "internal server error: no space\n".to_owned()));
    assert_eq!(text("/livez?exclude=etcd").await, (200, "ok".to_owned()));
    let indicators = api.get("/metrics/slis").await.text;
    for line in [
        "# TYPE kubernetes_healthcheck gauge",
        "kubernetes_healthcheck{name=\"etcd\",type=\"livez\"} 0",
        "kubernetes_healthcheck{name=\"etcd\",type=\"readyz\"} 1",
        "kubernetes_healthchecks_total{name=\"etcd\",status=\"error\",type=\"livez\"} 1",
        "kubernetes_healthchecks_total{name=\"etcd\",status=\"success\",type=\"livez\"} 2",
        "kubernetes_healthchecks_total{name=\"ping\",status=\"success\",type=\"livez\"} 4",
    ] {
        assert!(indicators.lines().any(|found| found == line), "{line} is not in:\n{indicators}");
    }
}

#[tokio::test]
async fn components_are_looked_at_when_asked_for() {
    let ill = Arc::new(AtomicBool::new(false));
    let api = ailing(&ill).await;
    let path = "/api/v1/componentstatuses";
    let condition =
        |status: &str, field: &str, text: &str| json!([{ "type": "Healthy", "status": status, field: text }]);
    let (well, not) = (condition("True", "message", "ok"), condition("False", "error", "it does not run"));
    let items = json!([
        { "metadata": { "name": "scheduler" }, "conditions": not },
        { "metadata": { "name": "etcd-0" }, "conditions": well },
    ]);
    let list = json!({ "kind": "ComponentStatusList", "apiVersion": "v1", "metadata": {}, "items": items });
    assert_eq!(api.get(path).await.ok(), list);
    let selected = api.get(&format!("{path}?fieldSelector=metadata.name%3Detcd-0")).await.ok();
    assert_eq!(selected["items"], json!([items[1]]));
    assert_eq!(api.get(&format!("{path}?labelSelector=a")).await.ok()["items"], json!([]));
    let table = api.get_as(path, "application/json;as=Table;v=v1;g=meta.k8s.io").await.ok();
    assert_eq!(table["rows"][0]["cells"], json!(["scheduler", "Unhealthy", "", "it does not run"]));
    assert_eq!(table["columnDefinitions"][1]["description"], "Status of the component conditions");
    let one = api.get(&format!("{path}/etcd-0")).await.ok();
    assert_eq!((&one["kind"], &one["conditions"]), (&json!("ComponentStatus"), &well));
    ill.store(true, Ordering::SeqCst);
    let one = api.get(&format!("{path}/etcd-0")).await.ok();
    assert_eq!(one["conditions"], condition("False", "error", "no space"));
    assert_eq!(api.get(&format!("{path}/x")).await.refused(), (404, "componentstatus \"x\" not found".to_owned()));
    let watch = api.get(&format!("{path}?watch=true")).await.refused();
    assert_eq!(watch, (405, "watch is not supported on resources of kind \"componentstatuses\"".to_owned()));
    api.post(path, json!({})).await.is(405);
}

#[tokio::test]
async fn pages_about_the_server_are_text_or_what_is_asked_for() {
    let api = ailing(&Arc::default()).await;
    let head = "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.";
    let flags = api.get("/flagz").await;
    assert_eq!(flags.headers["content-type"], "text/plain; charset=utf-8");
    assert_eq!(flags.text, format!("\napiserver flagz\n{head}\nbind-address:\ndata-dir:/data\n"));
    let form = "application/json;g=config.k8s.io;v=v1beta1;as=Flagz";
    let flags = api.get_as("/flagz", form).await;
    assert_eq!(flags.headers["content-type"], form);
    assert_eq!(
        flags.ok(),
        json!({ "kind": "Flagz", "apiVersion": "config.k8s.io/v1beta1", "metadata": { "name": "apiserver" },
            "flags": { "bind-address": "", "data-dir": "/data" } })
    );
    let status = api.get("/statusz").await.text;
    assert!(status.starts_with(&format!("\napiserver statusz\n{head}\n\nStarted: ")), "{status}");
    assert!(status.ends_with("Paths: /flagz /healthz /livez /metrics /readyz /statusz /version\n"), "{status}");
    let form = "application/json;g=config.k8s.io;v=v1alpha1;as=Statusz";
    let status = api.get_as("/statusz", form).await;
    let warning = "299 - \"This version of the statusz endpoint is deprecated. Please use a newer version.\"";
    assert_eq!(status.headers["warning"], warning);
    let status = status.ok();
    assert_eq!((&status["binaryVersion"], &status["emulationVersion"]), (&json!("1.36.0"), &json!("1.36")));
    assert!(status["uptimeSeconds"].as_i64().is_some_and(|up| (0..3600).contains(&up)), "{status}");
    let wrong = api.get_as("/statusz", "application/json").await.refused();
    assert_eq!(
        wrong,
        (406, "only the following media types are accepted: application/json, application/yaml, text/plain".to_owned())
    );
}

#[tokio::test]
async fn discovery_has_every_form() {
    let api = ailing(&Arc::default()).await;
    let versions = api.get("/api").await.ok();
    assert_eq!(
        versions["serverAddressByClientCIDRs"],
        json!([{ "clientCIDR": "0.0.0.0/0", "serverAddress": "10.0.0.7:6443" }])
    );
    let protobuf = "application/vnd.kubernetes.protobuf";
    // What each says, and of which version: the oldest do not say theirs.
    for (path, version, kind, inside) in [
        ("/api", "", "APIVersions", "10.0.0.7:6443"),
        ("/apis", "v1", "APIGroupList", "apps/v1"),
        ("/apis/apps", "v1", "APIGroup", "apps/v1"),
        ("/apis/apps/v1", "v1", "APIResourceList", "deployments"),
        ("/api/v1", "", "APIResourceList", "configmaps"),
    ] {
        let answer = api.get_as(path, protobuf).await;
        assert_eq!(answer.headers["content-type"], protobuf, "{path}");
        let length = (version.len() + kind.len() + 4) as u8 as char;
        let head = format!(
            "k8s\0\n{length}\n{}{version}\x12{}{kind}\x12",
            version.len() as u8 as char,
            kind.len() as u8 as char
        );
        assert!(answer.text.starts_with(&head), "{path}: {:?}", &answer.text[..40]);
        assert!(answer.text.contains(inside), "{path}: {:?}", answer.text);
    }
    let aggregated = "g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let as_json = api.get_as("/apis", &format!("application/json;{aggregated}")).await;
    let as_protobuf = api.get_as("/apis", &format!("{protobuf};{aggregated}")).await;
    assert_eq!(as_protobuf.headers["content-type"], format!("{protobuf};{aggregated}"));
    assert_eq!(as_protobuf.headers["etag"], as_json.headers["etag"]);
    assert!(as_protobuf.text.starts_with("k8s\0\n/\n\x16apidiscovery.k8s.io/v2\x12\x15APIGroupDiscoveryList"));
    let as_yaml = api.get_as("/apis", &format!("application/yaml;{aggregated}")).await;
    assert!(as_yaml.text.starts_with("apiVersion: apidiscovery.k8s.io/v2\n"), "{}", as_yaml.text);
    // One that is not known is not taken for another.
    let unknown = "application/json;g=apidiscovery.k8s.io;v=v3;as=APIGroupDiscoveryList";
    assert_eq!(api.get_as("/apis", unknown).await.status, 406);
    // Routes of what is built in say what they give as a whole; the rest is negotiated. Both for people.
    for (path, text) in
        [("/api/v1", "406: Not Acceptable\n\nAvailable representations: "), ("/apis", "only the following ")]
    {
        let answer = api.get_as(path, "text/html").await;
        assert!(answer.text.starts_with("{\n  \""), "{}", answer.text);
        let (code, message) = answer.refused();
        assert_eq!(code, 406);
        assert!(message.starts_with(text), "{path}: {message}");
    }
}

#[tokio::test]
async fn errors_are_indented_for_people() {
    let api = Api::new().await;
    let missing = format!("{CONFIG_MAPS}/x");
    let request = api.request(http::Method::GET, &missing).header("user-agent", "curl/8.0");
    let answer = api.answer(request.body(axum::body::Body::empty()).expect("a request")).await;
    assert!(answer.text.starts_with("{\n  \""), "{}", answer.text);
    assert!(api.get(&format!("{missing}?pretty=1")).await.text.starts_with("{\n  \""));
    assert!(api.get(&missing).await.text.starts_with("{\""));
}

/// What each request is counted as; what no route took is nobody's.
#[tokio::test]
async fn requests_are_counted_by_what_they_are() {
    let api = Api::new().await;
    api.config_map("x", json!({})).await;
    let one = format!("{CONFIG_MAPS}/x");
    api.get(&one).await.is(200);
    api.get(&format!("{CONFIG_MAPS}/none")).await.is(404);
    api.get_as(&one, "text/foo").await.is(406);
    api.get("/api/v1/namespaces/a/foos").await.is(404);
    api.get("/api/v1/namespaces/a/pods/p/made-up?watch=1").await.is(404);
    api.get("/api/v1/namespaces/a/pods/none/log").await.is(404);
    api.get("/readyz").await;
    api.get("/version").await.is(200);
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n".to_owned();
    api.write_as(Method::PATCH, &format!("{one}?fieldManager=m&dryRun=All"), "application/apply-patch+yaml", text)
        .await
        .is(200);
    api.delete(CONFIG_MAPS, None).await.is(200);
    let nobody = Api { user: UserInfo::new("ann", &[]), ..api.clone() };
    nobody.get(CONFIG_MAPS).await.is(403);
    nobody.get("/openapi/v3").await.is(403);
    api.get(&format!("{CONFIG_MAPS}?fieldSelector=metadata.name%3Dx")).await.is(200);
    api.get("/api/v1/namespaces/a/endpoints").await.is(200);
    let text = api.get("/metrics").await.text;
    let label = |line: &str, name: &str| {
        line.split(&format!("{name}=\"")).nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default().to_owned()
    };
    let mut counted: Vec<String> = text
        .lines()
        .filter(|line| line.starts_with("apiserver_request_total{"))
        .map(|line| {
            ["verb", "resource", "subresource", "scope", "component", "dry_run", "code"]
                .map(|name| label(line, name))
                .join(" ")
        })
        .collect();
    counted.sort();
    let readyz = counted.iter().position(|line| line.starts_with("GET  /readyz   ")).expect("counted");
    counted.remove(readyz);
    assert_eq!(
        counted,
        [
            "APPLY configmaps  resource apiserver All 200",
            "CONNECT pods log resource apiserver  404",
            "DELETE configmaps  namespace apiserver  200",
            "GET configmaps  resource apiserver  200",
            "GET configmaps  resource apiserver  404",
            "LIST configmaps  namespace apiserver  200",
            "LIST endpoints  namespace apiserver  200",
            "POST configmaps  resource apiserver  201",
        ]
    );
    for wanted in [
        "apiserver_requested_deprecated_apis{group=\"\",version=\"v1\",resource=\"endpoints\",subresource=\"\",removed_release=\"\"} 1",
        "authorization_attempts_total{result=\"no-opinion\"} 2",
    ] {
        assert!(text.lines().any(|line| line == wanted), "{wanted}");
    }
    let durations =
        |name: &str, verb: &str| text.lines().any(|line| line.starts_with(&format!("{name}_count{{verb=\"{verb}\"")));
    assert!(
        durations("apiserver_request_duration_seconds", "APPLY")
            && !durations("apiserver_request_sli_duration_seconds", "APPLY")
    );
    assert!(durations("apiserver_response_sizes", "GET") && !durations("apiserver_response_sizes", "POST"));
    assert!(!text.contains("made-up"), "a client makes no series");
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
    assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8; escaping=underscores");
    let metrics = answer.text;
    for (line, value) in [
        ("apiserver_storage_objects{resource=\"configmaps\"} ", 1),
        ("apiserver_resource_objects{group=\"\",resource=\"configmaps\"} ", 1),
        ("etcd_requests_total{operation=\"create\",group=\"\",resource=\"configmaps\"} ", 1),
    ] {
        let wanted = format!("{line}{value}");
        assert!(metrics.lines().any(|line| line == wanted), "{wanted} is not in:\n{metrics}");
    }
    // Labels and what a family is for are Kubernetes's, so that its dashboards and alerts find them.
    for head in [
        "apiserver_request_sli_duration_seconds [ALPHA] Response latency distribution (not counting webhook duration and priority & fairness queue wait times) in seconds for each verb, group, version, resource, subresource, scope and component.",
        "apiserver_request_total [STABLE] Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code.",
        "apiserver_audit_event_total [ALPHA] Counter of audit events generated and sent to the audit backend.",
        "aggregator_unavailable_apiservice [ALPHA] Gauge of APIServices which are marked as unavailable broken down by APIService name.",
    ] {
        assert!(metrics.contains(&format!("# HELP {head}\n")), "{head}");
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
