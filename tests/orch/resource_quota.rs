//! ResourceQuota, LimitRange and default classes: what a namespace may have, and what it gets.

use crate::admission_webhooks::until;
use crate::apiserver::Api;
use crate::custom_resources::{DEFINITIONS, WIDGETS, api, spec, widget, widgets};
use serde_json::{Value, json};

const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";
const PODS: &str = "/api/v1/namespaces/default/pods";

async fn quota(api: &Api, name: &str, spec: Value) {
    api.post(QUOTAS, json!({ "metadata": { "name": name }, "spec": spec })).await.ok();
    used(api, name, |used| !used.is_null()).await;
}

async fn used(api: &Api, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    until(|| async {
        let quota = api.get(&format!("{QUOTAS}/{name}")).await.ok();
        wanted(&quota["status"]["used"]).then(|| quota["status"].clone())
    })
    .await
}

fn pod(name: &str, cpu: &str) -> Value {
    let resources =
        json!({ "requests": { "cpu": cpu, "memory": "100Mi" }, "limits": { "cpu": cpu, "memory": "100Mi" } });
    json!({ "metadata": { "name": name }, "spec": { "containers": [{ "name": "c", "image": "i", "resources": resources }] } })
}

async fn with_account() -> Api {
    let api = api().await;
    api.post("/api/v1/namespaces/default/serviceaccounts", json!({ "metadata": { "name": "default" } })).await;
    api
}

#[tokio::test]
async fn the_life_of_a_pod_is_captured() {
    let api = with_account().await;
    quota(
        &api,
        "compute",
        json!({ "hard": { "pods": "2", "cpu": "1", "requests.memory": "500Mi", "limits.cpu": "2" } }),
    )
    .await;
    let status = used(&api, "compute", |_| true).await;
    assert_eq!(status["hard"], json!({ "pods": "2", "cpu": "1", "requests.memory": "500Mi", "limits.cpu": "2" }));
    assert_eq!(status["used"], json!({ "pods": "0", "cpu": "0", "requests.memory": "0", "limits.cpu": "0" }));

    api.post(PODS, pod("a", "600m")).await.ok();
    // Charged before the pod is there: no waiting.
    let status = api.get(&format!("{QUOTAS}/compute")).await.ok()["status"].clone();
    assert_eq!(status["used"], json!({ "pods": "1", "cpu": "600m", "requests.memory": "100Mi", "limits.cpu": "600m" }));
    let (code, message) = api.post(PODS, pod("b", "600m")).await.refused();
    assert_eq!(code, 403);
    assert_eq!(
        message,
        "pods \"b\" is forbidden: exceeded quota: compute, requested: cpu=600m, used: cpu=600m, limited: cpu=1"
    );
    let none = json!({ "metadata": { "name": "none" }, "spec": { "containers": [{ "name": "c", "image": "i" }] } });
    let (_, message) = api.post(PODS, none).await.refused();
    assert_eq!(
        message,
        "pods \"none\" is forbidden: failed quota: compute: must specify cpu for: c; limits.cpu for: c; requests.memory for: c"
    );
    api.delete(&format!("{PODS}/a"), Some(json!({ "gracePeriodSeconds": 0 }))).await.ok();
    used(&api, "compute", |used| used["pods"] == "0" && used["cpu"] == "0").await;
    api.post(PODS, pod("b", "600m")).await.ok();
    // One that is over is charged no more.
    api.merge(&format!("{PODS}/b/status"), json!({ "status": { "phase": "Succeeded" } })).await.ok();
    used(&api, "compute", |used| used["pods"] == "0").await;
    // A dry run takes nothing.
    api.post(&format!("{PODS}?dryRun=All"), pod("c", "1")).await.ok();
    used(&api, "compute", |used| used["cpu"] == "0").await;
}

#[tokio::test]
async fn objects_of_any_kind_are_counted() {
    let api = with_account().await;
    let existing = json!({ "metadata": { "name": "before" } });
    api.post("/api/v1/namespaces/default/configmaps", existing).await.ok();
    let hard = json!({
        "configmaps": "2", "count/secrets": "1", "count/deployments.apps": "0", "services": "2",
        "services.nodeports": "1", "services.loadbalancers": "0", "resourcequotas": "1",
        "requests.storage": "10Gi", "gold.storageclass.storage.k8s.io/requests.storage": "1Gi",
    });
    quota(&api, "objects", json!({ "hard": hard })).await;
    let status = used(&api, "objects", |_| true).await;
    assert_eq!((&status["used"]["configmaps"], &status["used"]["resourcequotas"]), (&json!("1"), &json!("1")));
    let post = |plural: &'static str, object: Value| {
        let api = &api;
        async move { api.post(&format!("/api/v1/namespaces/default/{plural}"), object).await }
    };
    let named = |name: &str| json!({ "metadata": { "name": name } });
    post("configmaps", named("a")).await.ok();
    let (_, message) = post("configmaps", named("b")).await.refused();
    assert_eq!(
        message,
        "configmaps \"b\" is forbidden: exceeded quota: objects, requested: configmaps=1, used: configmaps=2, limited: configmaps=2"
    );
    post("secrets", named("s")).await.ok();
    let (_, message) = post("secrets", named("t")).await.refused();
    assert!(
        message.contains("requested: count/secrets=1, used: count/secrets=1, limited: count/secrets=1"),
        "{message}"
    );
    let service = |name: &str, kind: &str| json!({ "metadata": { "name": name }, "spec": { "type": kind, "ports": [{ "port": 80 }] } });
    let made = post("services", service("one", "ClusterIP")).await.ok();
    let (_, message) = post("services", service("two", "LoadBalancer")).await.refused();
    assert!(message.contains("services.loadbalancers=1"), "{message}");
    let mut update = made;
    update["spec"]["type"] = json!("NodePort");
    api.put("/api/v1/namespaces/default/services/one", &update).await.ok();
    let (_, message) = post("services", service("two", "NodePort")).await.refused();
    assert!(message.contains("requested: services.nodeports=1, used: services.nodeports=1"), "{message}");
    let (_, message) =
        post("resourcequotas", json!({ "metadata": { "name": "more" }, "spec": { "hard": { "pods": "1" } } }))
            .await
            .refused();
    assert!(message.contains("exceeded quota: objects, requested: resourcequotas=1"), "{message}");
    let claim = json!({ "metadata": { "name": "c" }, "spec": { "storageClassName": "gold", "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "2Gi" } } } });
    let (_, message) = post("persistentvolumeclaims", claim).await.refused();
    assert!(message.contains("requested: gold.storageclass.storage.k8s.io/requests.storage=2Gi"), "{message}");
    api.delete("/api/v1/namespaces/default/configmaps/a", None).await.ok();
    used(&api, "objects", |used| used["configmaps"] == "1").await;
    post("configmaps", named("b")).await.ok();
}

#[tokio::test]
async fn custom_resources_are_counted() {
    let api = api().await;
    let count = "count/widgets.example.com";
    // The quota may be there before the kind is.
    quota(&api, "few", json!({ "hard": { count: "1" } })).await;
    api.post(DEFINITIONS, widgets(spec(json!({})))).await.ok();
    api.post(WIDGETS, widget("a", json!({}))).await.ok();
    used(&api, "few", |used| used[count] == "1").await;
    let refused = api.post(WIDGETS, widget("b", json!({}))).await.refused();
    let text = "widgets.example.com \"b\" is forbidden: exceeded quota: few, requested: count/widgets.example.com=1, \
                used: count/widgets.example.com=1, limited: count/widgets.example.com=1";
    assert_eq!(refused, (403, text.to_owned()));
    api.delete(&format!("{WIDGETS}/a"), None).await.ok();
    used(&api, "few", |used| used[count] == "0").await;
    api.post(WIDGETS, widget("b", json!({}))).await.ok();
    // The kind goes, and its objects with it.
    api.delete(&format!("{DEFINITIONS}/widgets.example.com"), None).await.ok();
    used(&api, "few", |used| used[count] == "0").await;
}

#[tokio::test]
async fn scopes_choose_the_pods() {
    let api = with_account().await;
    let pods = json!({ "pods": "5" });
    for (name, scope) in
        [("best", "BestEffort"), ("not-best", "NotBestEffort"), ("ends", "Terminating"), ("stays", "NotTerminating")]
    {
        quota(&api, name, json!({ "hard": pods, "scopes": [scope] })).await;
    }
    api.post(PODS, pod("burst", "100m")).await.ok();
    let mut best = json!({ "metadata": { "name": "best" }, "spec": { "activeDeadlineSeconds": 60, "containers": [{ "name": "c", "image": "i" }] } });
    best["spec"]["priorityClassName"] = json!("");
    api.post(PODS, best).await.ok();
    for name in ["best", "not-best", "ends", "stays"] {
        used(&api, name, |used| used["pods"] == "1").await;
    }
    api.delete(&format!("{PODS}/best"), Some(json!({ "gracePeriodSeconds": 0 }))).await.ok();
    used(&api, "best", |used| used["pods"] == "0").await;
    used(&api, "ends", |used| used["pods"] == "0").await;
    used(&api, "not-best", |used| used["pods"] == "1").await;
    api.delete(&format!("{QUOTAS}/best"), None).await.ok();
}

#[tokio::test]
async fn the_last_place_is_taken_once() {
    let api = with_account().await;
    quota(&api, "last", json!({ "hard": { "count/configmaps": "5" } })).await;
    let attempts = (0..20).map(|number| {
        let api = api.clone();
        tokio::spawn(async move {
            let object = json!({ "metadata": { "name": format!("m{number}") } });
            api.post("/api/v1/namespaces/default/configmaps", object).await.status.is_success()
        })
    });
    let mut made = 0;
    for attempt in attempts.collect::<Vec<_>>() {
        made += usize::from(attempt.await.expect("no panic"));
    }
    assert_eq!(made, 5);
}

#[tokio::test]
async fn limits_are_filled_in_and_kept() {
    let api = with_account().await;
    let limits = json!([
        {
            "type": "Container", "default": { "cpu": "500m", "memory": "500Mi" }, "defaultRequest": { "cpu": "100m", "memory": "200Mi" },
            "min": { "cpu": "50m" }, "max": { "cpu": "500m" }, "maxLimitRequestRatio": { "memory": "4" },
        },
        { "type": "Pod", "max": { "memory": "1Gi" } },
        { "type": "PersistentVolumeClaim", "min": { "storage": "1Gi" }, "max": { "storage": "2Gi" } },
    ]);
    api.post(
        "/api/v1/namespaces/default/limitranges",
        json!({ "metadata": { "name": "l" }, "spec": { "limits": limits } }),
    )
    .await
    .ok();
    let bare = json!({ "metadata": { "name": "bare" }, "spec": { "containers": [{ "name": "c", "image": "i", "resources": { "requests": { "cpu": "200m" } } }] } });
    let made = api.post(PODS, bare).await.ok();
    assert_eq!(
        made["spec"]["containers"][0]["resources"],
        json!({ "requests": { "cpu": "200m", "memory": "200Mi" }, "limits": { "cpu": "500m", "memory": "500Mi" } })
    );
    assert_eq!(
        made["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: memory request for container c; cpu, memory limit for container c"
    );
    for (resources, reason) in [
        (
            json!({ "requests": { "cpu": "10m" } }),
            "pods \"p\" is forbidden: minimum cpu usage per Container is 50m, but request is 10m",
        ),
        (
            json!({ "limits": { "cpu": "2" } }),
            "pods \"p\" is forbidden: maximum cpu usage per Container is 500m, but limit is 2",
        ),
        (
            json!({ "requests": { "memory": "100Mi" } }),
            "pods \"p\" is forbidden: memory max limit to request ratio per Container is 4, but provided ratio is 5.000000",
        ),
        (
            json!({ "limits": { "memory": "2Gi" }, "requests": { "memory": "2Gi" } }),
            "pods \"p\" is forbidden: maximum memory usage per Pod is 1Gi, but limit is 2Gi",
        ),
    ] {
        let pod = json!({ "metadata": { "name": "p" }, "spec": { "containers": [{ "name": "c", "image": "i", "resources": resources }] } });
        let (code, message) = api.post(PODS, pod).await.refused();
        assert_eq!(code, 403);
        assert_eq!(message, reason);
    }
    let claim = |storage: &str| json!({ "metadata": { "name": "c" }, "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": storage } } } });
    let (_, message) = api.post("/api/v1/namespaces/default/persistentvolumeclaims", claim("5Gi")).await.refused();
    assert_eq!(
        message,
        "persistentvolumeclaims \"c\" is forbidden: maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 5Gi"
    );

    // Classes that are the default are filled in, the newest first; a claim grows only where its class allows it.
    let class = |name: &str| json!({ "metadata": { "name": name, "annotations": { "storageclass.kubernetes.io/is-default-class": "true" } }, "provisioner": "x/y" });
    api.post("/apis/storage.k8s.io/v1/storageclasses", class("gold")).await.ok();
    let mut made = api.post("/api/v1/namespaces/default/persistentvolumeclaims", claim("1Gi")).await.ok();
    assert_eq!(made["spec"]["storageClassName"], "gold");
    made["spec"]["resources"]["requests"]["storage"] = json!("2Gi");
    let (_, message) = api.put("/api/v1/namespaces/default/persistentvolumeclaims/c", &made).await.refused();
    assert_eq!(
        message,
        "PersistentVolumeClaim \"c\" is invalid: spec: Forbidden: spec is immutable after creation except \
         resources.requests and volumeAttributesClassName for bound claims\n@@ -6,7 +6,7 @@\n  \"Resources\": {\n   \
         \"Limits\": null,\n   \"Requests\": {\n-   \"storage\": \"1Gi\"\n+   \"storage\": \"2Gi\"\n   }\n  },\n  \
         \"VolumeName\": \"\",\n"
    );

    let ingress_class = json!({ "metadata": { "name": "front", "annotations": { "ingressclass.kubernetes.io/is-default-class": "true" } }, "spec": { "controller": "x/y" } });
    api.post("/apis/networking.k8s.io/v1/ingressclasses", ingress_class).await.ok();
    let ingress = json!({ "metadata": { "name": "i" }, "spec": { "defaultBackend": { "service": { "name": "s", "port": { "number": 80 } } } } });
    let made = api.post("/apis/networking.k8s.io/v1/namespaces/default/ingresses", ingress).await.ok();
    assert_eq!(made["spec"]["ingressClassName"], "front");
}
