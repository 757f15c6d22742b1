//! What it costs to read an object by its type, with everything that strict validation looks for, beside
//! a bare parse of its JSON: `scripts/bench strict`.

use orch::api::GroupVersionKind;
use orch::schema::{FieldValidation, MediaType, builtin_schema, decode_body};
use serde_json::{Value, json};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// A Deployment of about 5 KB, as users write them.
fn deployment() -> Value {
    let container = |name: String| {
        let environment: Vec<Value> = (0..8)
            .map(|at| json!({ "name": format!("SETTING_{at}"), "value": format!("value number {at} of {name}") }))
            .collect();
        json!({
            "name": name, "image": "registry.example.com/team/application:1.27.3", "args": ["--listen=:8080", "--verbose"],
            "ports": [{ "name": "http", "containerPort": 8080, "protocol": "TCP" }], "env": environment,
            "resources": { "requests": { "cpu": "100m", "memory": "64Mi" }, "limits": { "memory": "128Mi" } },
            "readinessProbe": { "httpGet": { "path": "/healthz", "port": "http" }, "periodSeconds": 5 },
            "volumeMounts": [{ "name": "settings", "mountPath": "/etc/application", "readOnly": true }],
            "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
        })
    };
    let containers: Vec<Value> = (0..4).map(|at| container(format!("container-{at}"))).collect();
    let labels = json!({ "app.kubernetes.io/name": "application", "app.kubernetes.io/part-of": "shop" });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "application", "namespace": "shop", "labels": labels },
        "spec": {
            "replicas": 3, "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": containers, "volumes": [{ "name": "settings", "configMap": { "name": "settings" } }] },
            },
        },
    })
}

/// The fastest of many runs.
fn fastest(mut work: impl FnMut()) -> Duration {
    let once = |work: &mut dyn FnMut()| {
        let since = Instant::now();
        (0..100).for_each(|_| work());
        since.elapsed() / 100
    };
    (0..200).map(|_| once(&mut work)).min().expect("it ran")
}

fn main() {
    let schema = builtin_schema(&GroupVersionKind::new("apps", "v1", "Deployment")).expect("a built-in kind");
    let text = deployment().to_string().into_bytes();
    let parse = fastest(|| {
        black_box(serde_json::from_slice::<Value>(black_box(&text)).expect("JSON"));
    });
    let strict = fastest(|| {
        black_box(decode_body(&schema, black_box(&text), MediaType::Json, FieldValidation::Strict).is_ok());
    });
    println!(
        "{} bytes: a parse takes {parse:?}, reading by the type with strict validation {strict:?}, {:.2} of it",
        text.len(),
        strict.as_secs_f64() / parse.as_secs_f64()
    );
}
