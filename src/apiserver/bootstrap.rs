//! What a fresh cluster holds: namespaces, the default roles and bindings, priority classes, flow
//! schemas and priority levels, the local APIServices.
//!
//! [`reconcile`] runs at every start through the API itself. It adds what is missing and takes
//! nothing away; an object whose `autoupdate` annotation is `false` is left alone. The data in
//! `bootstrap/*.jsonl` are Kubernetes v1.36's defaults, one object a line, without the label and
//! the annotation that they all carry.

mod plan;

use crate::api::UserInfo;
use crate::api::user::SYSTEM_MASTERS;
use crate::apiserver::HealthCheck;
use crate::apiserver::authz::rbac::Rule;
use anyhow::{Context, Result, bail};
use axum::body::Body;
use futures::{StreamExt, TryStreamExt};
use http::{Method, Request, Response, StatusCode};
use plan::Step;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use tower::{Service, ServiceExt};

const RBAC: &str = include_str!("bootstrap/rbac.jsonl");

/// Flow schemas, priority levels and the local APIServices: `collection` and `object`.
const OBJECTS: &str = include_str!("bootstrap/objects.jsonl");

const FLOW_CONTROL: &str = "/apis/flowcontrol.apiserver.k8s.io/";
/// Whose its objects are, as in Kubernetes.
const FLOW_CONTROL_MANAGER: &str = "?fieldManager=api-priority-and-fairness-config-producer-v1";

const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// Writes under way at once: they share commits.
const CONCURRENCY: usize = 64;

const MAX_REPLY_BYTES: usize = 64 << 20;

/// One line of the data.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Default {
    resource: String,
    #[serde(default)]
    namespace: String,
    name: String,
    #[serde(default)]
    labels: serde_json::Map<String, Value>,
    #[serde(default)]
    rules: Option<Vec<Rule>>,
    #[serde(default)]
    aggregation_rule: Option<Value>,
    #[serde(default)]
    subjects: Option<Value>,
    #[serde(default)]
    role_ref: Option<Value>,
}

/// One line of the whole objects.
#[derive(Debug, Deserialize)]
struct Whole {
    collection: String,
    object: Value,
}

fn defaults() -> &'static [Default] {
    static DEFAULTS: OnceLock<Vec<Default>> = OnceLock::new();
    DEFAULTS.get_or_init(|| {
        RBAC.lines().map(|line| serde_json::from_str(line).expect("the default roles are JSON")).collect()
    })
}

/// The default objects of flow control, each with its collection.
pub fn flow_control() -> Vec<(String, Value)> {
    OBJECTS
        .lines()
        .filter(|line| line.contains("\"collection\":\"/apis/flowcontrol.apiserver.k8s.io/"))
        .map(|line| serde_json::from_str::<Whole>(line).expect("the default objects are JSON"))
        .map(|whole| (whole.collection, whole.object))
        .collect()
}

/// The rules of a default ClusterRole.
pub fn cluster_role_rules(name: &str) -> Vec<Rule> {
    defaults()
        .iter()
        .find(|object| object.resource == "clusterroles" && object.name == name)
        .and_then(|object| object.rules.clone())
        .unwrap_or_default()
}

impl Default {
    fn object(&self) -> Value {
        let kind = match self.resource.as_str() {
            "clusterroles" => "ClusterRole",
            "clusterrolebindings" => "ClusterRoleBinding",
            "roles" => "Role",
            _ => "RoleBinding",
        };
        let mut labels = self.labels.clone();
        labels.insert("kubernetes.io/bootstrapping".to_owned(), "rbac-defaults".into());
        let mut object = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": kind,
            "metadata": {
                "name": self.name,
                "labels": labels,
                "annotations": {plan::AUTOUPDATE: "true"},
            },
        });
        if !self.namespace.is_empty() {
            object["metadata"]["namespace"] = self.namespace.as_str().into();
        }
        if let Some(rules) = &self.rules {
            object["rules"] = json!(rules);
        }
        for (field, value) in
            [("aggregationRule", &self.aggregation_rule), ("subjects", &self.subjects), ("roleRef", &self.role_ref)]
        {
            if let Some(value) = value {
                object[field] = value.clone();
            }
        }
        object
    }

    fn collection(&self) -> String {
        let group = "/apis/rbac.authorization.k8s.io/v1";
        if self.namespace.is_empty() {
            format!("{group}/{}", self.resource)
        } else {
            format!("{group}/namespaces/{}/{}", self.namespace, self.resource)
        }
    }
}

/// Which of the default objects are there, as checks of health.
#[derive(Default)]
pub struct Progress {
    done: [AtomicBool; STEPS.len()],
}

/// The checks of each step, under the names of what does it in Kubernetes.
const STEPS: [&[&str]; 4] = [
    &["poststarthook/start-system-namespaces-controller"],
    &["poststarthook/scheduling/bootstrap-system-priority-classes"],
    &["poststarthook/priority-and-fairness-config-producer", "autoregister-completion"],
    &["poststarthook/rbac/bootstrap-roles"],
];

impl Progress {
    pub fn checks(self: &Arc<Self>) -> Vec<HealthCheck> {
        let check = |step: usize, name: &'static str| {
            let progress = self.clone();
            HealthCheck::new(name, move || match progress.done[step].load(Ordering::Acquire) {
                true => Ok(()),
                false => Err("not finished".to_owned()),
            })
        };
        let check = &check;
        STEPS.iter().enumerate().flat_map(|(step, names)| names.iter().map(move |name| check(step, name))).collect()
    }

    fn finish(&self, step: usize) {
        self.done[step].store(true, Ordering::Release);
    }
}

/// Bring the default objects up to date. `service` is the API server's router.
pub async fn reconcile<S>(service: S, progress: &Progress) -> Result<()>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send,
    S::Error: std::error::Error + Send + Sync + 'static,
    S::Future: Send,
{
    let api = Api { service };
    let namespaces = NAMESPACES.map(|name| {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        ("/api/v1/namespaces".to_owned(), object)
    });
    api.create_missing("/api/v1/namespaces", namespaces.into()).await?;
    progress.finish(0);

    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let class = |name: &str, value: i64, what: &str| {
        let object = json!({
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
            "description": format!("Used for system critical pods that must {what}."),
        });
        (classes.to_owned(), object)
    };
    let wanted = vec![
        class("system-node-critical", 2_000_001_000, "not be moved from their current node"),
        class(
            "system-cluster-critical",
            2_000_000_000,
            "run in the cluster, but can be moved to another node if necessary",
        ),
    ];
    api.create_missing(classes, wanted).await?;
    progress.finish(1);

    let mut wanted: BTreeMap<String, Vec<(String, Value)>> = BTreeMap::new();
    for line in OBJECTS.lines() {
        let (collection, object) = serde_json::from_str::<Whole>(line).map(|whole| (whole.collection, whole.object))?;
        wanted.entry(collection.clone()).or_default().push((collection, object));
    }
    for (collection, objects) in wanted {
        api.create_missing(&collection, objects).await?;
    }
    progress.finish(2);

    // Roles before bindings: a binding's role is looked at when it is written.
    for resources in [["clusterroles", "roles"], ["clusterrolebindings", "rolebindings"]] {
        let mut steps = Vec::new();
        for resource in resources {
            let existing = api.list(&format!("/apis/rbac.authorization.k8s.io/v1/{resource}")).await?;
            for default in defaults().iter().filter(|default| default.resource == resource) {
                let current = existing.get(&(default.namespace.clone(), default.name.clone()));
                let collection = default.collection();
                steps.extend(plan::steps(current, default.object()).into_iter().map(|step| (collection.clone(), step)));
            }
        }
        api.run(steps).await?;
    }
    progress.finish(3);
    Ok(())
}

struct Api<S> {
    service: S,
}

impl<S> Api<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send,
    S::Error: std::error::Error + Send + Sync + 'static,
    S::Future: Send,
{
    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(StatusCode, Value)> {
        let mut request = Request::builder()
            .method(method.clone())
            .uri(path)
            .header("user-agent", "kube-apiserver")
            .header("content-type", "application/json")
            .body(body.map_or_else(Body::empty, |body| Body::from(body.to_string())))?;
        request.extensions_mut().insert(UserInfo::new("system:apiserver", &[SYSTEM_MASTERS]));
        let response = self.service.clone().oneshot(request).await?;
        let code = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), MAX_REPLY_BYTES).await?;
        let reply = serde_json::from_slice(&bytes).with_context(|| format!("{method} {path}: reply is not JSON"))?;
        Ok((code, reply))
    }

    /// By namespace and name.
    async fn list(&self, path: &str) -> Result<HashMap<(String, String), Value>> {
        let (code, mut reply) = self.call(Method::GET, path, None).await?;
        if !code.is_success() {
            bail!("list {path}: {}", reply["message"].as_str().unwrap_or(code.as_str()));
        }
        let Value::Array(items) = reply["items"].take() else { return Ok(HashMap::new()) };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(items
            .into_iter()
            .map(|item| ((text(&item["metadata"]["namespace"]), text(&item["metadata"]["name"])), item))
            .collect())
    }

    async fn create_missing(&self, list: &str, wanted: Vec<(String, Value)>) -> Result<()> {
        let existing = self.list(list).await?;
        let missing = wanted.into_iter().filter(|(_, object)| {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            !existing.contains_key(&(String::new(), name.to_owned()))
        });
        self.run(missing.map(|(collection, object)| (collection, Step::Create(object))).collect()).await
    }

    async fn run(&self, steps: Vec<(String, Step)>) -> Result<()> {
        futures::stream::iter(steps)
            .map(|(collection, step)| async move { self.step(&collection, step).await })
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await
    }

    async fn step(&self, collection: &str, step: Step) -> Result<()> {
        let (method, path, body) = match &step {
            Step::Create(object) => (Method::POST, collection.to_owned(), object),
            Step::Update(object) => (Method::PUT, plan::path(collection, object), object),
            Step::Recreate(object) => {
                let path = plan::path(collection, object);
                let (code, reply) = self.call(Method::DELETE, &path, None).await?;
                if !code.is_success() && code != StatusCode::NOT_FOUND {
                    bail!("delete {path}: {}", reply["message"].as_str().unwrap_or(code.as_str()));
                }
                (Method::POST, collection.to_owned(), object)
            }
        };
        let manager = if path.starts_with(FLOW_CONTROL) { FLOW_CONTROL_MANAGER } else { "" };
        let (code, reply) = self.call(method.clone(), &format!("{path}{manager}"), Some(body)).await?;
        // Another server of the cluster may be doing the same.
        if code.is_success() || code == StatusCode::CONFLICT {
            Ok(())
        } else {
            let name = body["metadata"]["name"].as_str().unwrap_or_default();
            bail!("{method} {path} {name}: {}", reply["message"].as_str().unwrap_or(code.as_str()))
        }
    }
}
