//! Cluster IPs and node ports: taken, kept, given back.

use crate::apiserver::Api;
use serde_json::{Value, json};

const SERVICES: &str = "/api/v1/namespaces/a/services";

fn service(name: &str, kind: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "type": kind, "selector": {"app": "web"}, "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        "sessionAffinity": "None"
    }})
}

async fn addresses(api: &Api) -> Vec<String> {
    let list = api.get("/apis/networking.k8s.io/v1/ipaddresses").await.ok();
    let items = list["items"].as_array().expect("items").clone();
    items.iter().map(|item| item["metadata"]["name"].as_str().expect("a name").to_owned()).collect()
}

#[tokio::test]
async fn an_address_is_owned_through_an_object() {
    let api = Api::new().await;
    let made = api.post(SERVICES, service("s", "ClusterIP")).await.ok();
    let ip = made["spec"]["clusterIP"].as_str().expect("an address").to_owned();
    assert!(ip.starts_with("10.43."), "{ip}");
    assert_eq!(made["spec"]["clusterIPs"], json!([ip]));
    assert_eq!(made["spec"]["ipFamilies"], json!(["IPv4"]));
    assert_eq!(addresses(&api).await, [ip.clone()]);

    let mut wanted = service("t", "ClusterIP");
    wanted["spec"]["clusterIP"] = json!(ip);
    let (code, message) = api.post(SERVICES, wanted.clone()).await.refused();
    assert_eq!(code, 422);
    assert!(message.contains(&format!("failed to allocate IP {ip}: provided IP is already allocated")), "{message}");
    wanted["spec"]["clusterIP"] = json!("192.0.2.1");
    assert_eq!(api.post(SERVICES, wanted).await.refused().0, 422);

    // An update that leaves the address out keeps it.
    let kept = api.merge(&format!("{SERVICES}/s"), json!({"spec": {"clusterIP": null, "clusterIPs": null}})).await.ok();
    assert_eq!(kept["spec"]["clusterIP"], json!(ip));
    api.delete(&format!("{SERVICES}/s"), None).await.ok();
    assert!(addresses(&api).await.is_empty());
}

#[tokio::test]
async fn nothing_is_kept_by_a_write_that_fails_or_a_dry_run() {
    let api = Api::new().await;
    api.post(&format!("{SERVICES}?dryRun=All"), service("s", "NodePort")).await.ok();
    assert!(addresses(&api).await.is_empty());
    let mut bad = service("Bad_Name", "NodePort");
    bad["spec"]["ports"][0]["nodePort"] = json!(30500);
    assert_eq!(api.post(SERVICES, bad).await.refused().0, 422);
    assert!(addresses(&api).await.is_empty());
    let mut good = service("good", "NodePort");
    good["spec"]["ports"][0]["nodePort"] = json!(30500);
    api.post(SERVICES, good).await.ok();
}

#[tokio::test]
async fn node_ports_are_unique_and_come_back() {
    let api = Api::new().await;
    let first = api.post(SERVICES, service("a", "NodePort")).await.ok();
    let port = first["spec"]["ports"][0]["nodePort"].as_u64().expect("a port");
    assert!((30000..=32767).contains(&port), "{port}");
    let mut same = service("b", "NodePort");
    same["spec"]["ports"][0]["nodePort"] = json!(port);
    let (code, message) = api.post(SERVICES, same.clone()).await.refused();
    assert_eq!(code, 422);
    assert!(message.contains("spec.ports[0].nodePort"), "{message}");
    assert!(message.ends_with("provided port is already allocated"), "{message}");
    let mut outside = service("c", "NodePort");
    outside["spec"]["ports"][0]["nodePort"] = json!(80);
    let (_, message) = api.post(SERVICES, outside).await.refused();
    assert!(message.ends_with("The range of valid ports is 30000-32767"), "{message}");
    api.delete(&format!("{SERVICES}/a"), None).await.ok();
    api.post(SERVICES, same).await.ok();
}

#[tokio::test]
async fn headless_services_have_none() {
    let api = Api::new().await;
    let mut headless = service("h", "ClusterIP");
    headless["spec"]["clusterIP"] = json!("None");
    let made = api.post(SERVICES, headless).await.ok();
    assert_eq!(made["spec"]["clusterIPs"], json!(["None"]));
    assert!(addresses(&api).await.is_empty());
}
