//! `metrics.k8s.io`: what nodes and pods use, measured when it is asked for.
//!
//! A kubelet counts; a rate is between two looks at its `/metrics/resource`. The last two of each
//! node are kept: who asks every now and then gets the mean since the last time, who asks for the
//! first time waits a second for the next look. Nothing happens while nobody asks.

mod scrape;

use super::location::Locator;
use super::relay::relay;
use crate::api::quantity::{Format, Quantity};
use crate::api::{Fields, GroupResource, Status, time};
use crate::apiserver::negotiate::{self, Allows, Output};
use crate::apiserver::no_such_resource;
use crate::apiserver::options::ListOptions;
use crate::apiserver::request::{Query, RequestInfo};
use crate::apiserver::respond::{self, Reply};
use crate::apiserver::subresources::Handler;
use crate::apiserver::verbs::Call;
use crate::resources::Row;
use crate::storage::Prefix;
use async_trait::async_trait;
use axum::body::Body;
use futures::future::join_all;
use http::{Request, StatusCode};
use jiff::Timestamp;
use parking_lot::Mutex;
use scrape::{Counter, Sample};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// What was seen so lately is not looked at again.
const FRESH: Duration = Duration::from_secs(5);
/// A mean over longer says nothing about now.
const STALE: Duration = Duration::from_secs(180);
/// The first time.
const BETWEEN: Duration = Duration::from_secs(1);
/// A kubelet that takes longer is left out.
const TIMEOUT: Duration = Duration::from_secs(10);
const LIMIT: usize = 32 << 20;

pub struct Usage {
    locator: Arc<Locator>,
    nodes: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Option<Looks>>>>>,
}

/// Two looks at one kubelet.
#[derive(Clone)]
struct Looks {
    before: Arc<Sample>,
    last: Arc<Sample>,
}

/// Whose usage is asked for.
#[derive(Clone, Copy)]
pub enum Of {
    Nodes,
    Pods,
}

pub struct Metrics {
    pub usage: Arc<Usage>,
    pub of: Of,
}

impl Usage {
    pub fn new(locator: Arc<Locator>) -> Self {
        Self { locator, nodes: Mutex::default() }
    }

    async fn scrape(&self, node: &str) -> Result<Sample, Status> {
        let address = self.locator.node(node)?;
        let connection = self.locator.connect_kubelet(&address).await?;
        let answer = relay(connection, Request::new(Body::empty()), "/metrics/resource", node).await?;
        let code = answer.status();
        let bytes = axum::body::to_bytes(answer.into_body(), LIMIT).await;
        let text = bytes.map_err(|error| Status::service_unavailable(format!("kubelet of {node}: {error}")))?;
        let text = String::from_utf8_lossy(&text);
        if !code.is_success() {
            return Err(Status::service_unavailable(format!("kubelet of {node}: {code}: {text}")));
        }
        Ok(Sample::parse(&text, Timestamp::now().as_millisecond()))
    }

    async fn look(&self, node: &str) -> Result<Looks, Status> {
        let scrape = async || match tokio::time::timeout(TIMEOUT, self.scrape(node)).await {
            Ok(sample) => sample.map(Arc::new),
            Err(_) => Err(Status::service_unavailable(format!("kubelet of {node}: no answer in time"))),
        };
        let known = self.nodes.lock().entry(node.to_owned()).or_default().clone();
        // Who asks meanwhile takes what the first one finds.
        let mut known = known.lock().await;
        let now = Timestamp::now().as_millisecond();
        let age = |sample: &Sample| Duration::from_millis(u64::try_from(now - sample.at).unwrap_or(u64::MAX));
        if let Some(looks) = known.as_ref().filter(|looks| age(&looks.last) < FRESH) {
            return Ok(looks.clone());
        }
        let before = match known.as_ref().filter(|looks| age(&looks.last) < STALE) {
            Some(looks) => looks.last.clone(),
            None => {
                let first = scrape().await?;
                tokio::time::sleep(BETWEEN).await;
                first
            }
        };
        let looks = Looks { before, last: scrape().await? };
        *known = Some(looks.clone());
        Ok(looks)
    }

    /// Of each of the nodes that answers.
    async fn look_at(&self, nodes: Vec<String>) -> HashMap<String, Looks> {
        let look = async |node: String| match self.look(&node).await {
            Ok(looks) => Some((node, looks)),
            Err(status) => {
                tracing::warn!(node, "its usage is not known: {}", status.message);
                None
            }
        };
        join_all(nodes.into_iter().map(look)).await.into_iter().flatten().collect()
    }

    fn forget_all_but(&self, nodes: &[Value]) {
        self.nodes.lock().retain(|name, _| nodes.iter().any(|node| node.at("metadata").str_at("name") == name));
    }
}

/// `cpu` and `memory` between two looks; None: it is not known yet, or started anew meanwhile.
fn used(before: Option<&Counter>, last: &Counter) -> Option<(Value, i64)> {
    let began = match before {
        Some(before) if before.cpu <= last.cpu && before.started == last.started => (before.at, before.cpu),
        // Since it was started: from nothing.
        _ => (last.started?, 0.0),
    };
    let milliseconds = last.at - began.0;
    if milliseconds < 500 {
        return None;
    }
    let nanocores = (last.cpu - began.1) * 1e12 / milliseconds as f64;
    let memory = Quantity::new(i64::try_from(last.memory).unwrap_or(i64::MAX), Format::BinarySi);
    Some((json!({ "cpu": format!("{}n", nanocores.round() as i64), "memory": memory.to_string() }), milliseconds))
}

fn stamp(milliseconds: i64) -> Value {
    time::seconds(Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH)).into()
}

/// `15.204s`
fn window(milliseconds: i64) -> Value {
    format!("{}s", milliseconds as f64 / 1e3).into()
}

fn metadata(object: &Value, at: i64) -> Value {
    let of = object.at("metadata");
    let mut metadata = json!({ "name": of.at("name"), "creationTimestamp": stamp(at) });
    for field in ["namespace", "labels"] {
        if of.has(field) {
            metadata[field] = of.at(field).clone();
        }
    }
    metadata
}

fn node_metrics(node: &Value, looks: &Looks) -> Option<Value> {
    let last = looks.last.node.as_ref()?;
    let (usage, milliseconds) = used(looks.before.node.as_ref(), last)?;
    Some(json!({
        "kind": "NodeMetrics",
        "apiVersion": "metrics.k8s.io/v1beta1",
        "metadata": metadata(node, last.at),
        "timestamp": stamp(last.at),
        "window": window(milliseconds),
        "usage": usage,
    }))
}

/// None: not every container of it is measured, so it would seem to use less than it does.
fn pod_metrics(pod: &Value, looks: &Looks) -> Option<Value> {
    let of = pod.at("metadata");
    let key = (of.str_at("namespace").to_owned(), of.str_at("name").to_owned());
    let mut containers = Vec::new();
    let (mut at, mut longest) = (0, 0);
    let before = looks.before.pods.get(&key);
    for (name, last) in looks.last.pods.get(&key)? {
        let (usage, milliseconds) = used(before.and_then(|before| before.get(name)), last)?;
        (at, longest) = (at.max(last.at), longest.max(milliseconds));
        containers.push(json!({ "name": name, "usage": usage }));
    }
    Some(json!({
        "kind": "PodMetrics",
        "apiVersion": "metrics.k8s.io/v1beta1",
        "metadata": metadata(pod, at),
        "timestamp": stamp(at),
        "window": window(longest),
        "containers": containers,
    }))
}

impl Metrics {
    fn resource(&self) -> GroupResource {
        GroupResource::new(
            "",
            match self.of {
                Of::Nodes => "nodes",
                Of::Pods => "pods",
            },
        )
    }

    fn measured(&self, object: &Value, looks: &HashMap<String, Looks>) -> Option<Value> {
        match self.of {
            Of::Nodes => node_metrics(object, looks.get(object.at("metadata").str_at("name"))?),
            Of::Pods => pod_metrics(object, looks.get(object.at("spec").str_at("nodeName"))?),
        }
    }

    /// The nodes that run what is asked for.
    fn nodes(&self, objects: &[Value]) -> Vec<String> {
        let mut nodes: Vec<String> = objects
            .iter()
            .map(|object| match self.of {
                Of::Nodes => object.at("metadata").str_at("name"),
                Of::Pods => object.at("spec").str_at("nodeName"),
            })
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        nodes.sort();
        nodes.dedup();
        nodes
    }

    async fn get(&self, info: &RequestInfo, row: &Row, output: Output) -> Result<Reply, Status> {
        let (namespace, name) = (&info.namespace, &info.name);
        let missing = || Status::not_found(&row.group_resource, name);
        let resource = self.resource();
        let object =
            self.usage.locator.get(&resource.resource, namespace, name).map_err(|status| match status.code {
                404 => missing(),
                _ => status,
            })?;
        let looks = self.usage.look_at(self.nodes(std::slice::from_ref(&object))).await;
        let measured = self.measured(&object, &looks).ok_or_else(missing)?;
        Ok(respond::object(StatusCode::OK, output, row, &measured))
    }

    async fn list(&self, info: &RequestInfo, query: &Query, row: &Row, output: Output) -> Result<Reply, Status> {
        let options = ListOptions::parse(query, false)?;
        let (resource, namespace) = (self.resource(), &info.namespace);
        let prefix = match namespace.is_empty() {
            true => Prefix::resource(&resource),
            false => Prefix::namespace(&resource, namespace),
        };
        let snapshot = self.usage.locator.storage.snapshot();
        let mut objects: Vec<Value> = snapshot.range(&prefix, None).map(|entry| entry.body.parse()).collect();
        if let Of::Nodes = self.of {
            self.usage.forget_all_but(&objects);
        }
        objects.retain(|object| {
            let metadata = object.at("metadata");
            options.labels.matches(|key| metadata.at("labels").optional_str(key))
                && options.fields.matches(|path| match path {
                    "metadata.name" => Some(metadata.str_at("name")),
                    "metadata.namespace" => Some(metadata.str_at("namespace")),
                    _ => None,
                })
        });
        let looks = self.usage.look_at(self.nodes(&objects)).await;
        let items: Vec<Value> = objects.iter().filter_map(|object| self.measured(object, &looks)).collect();
        Ok(respond::list(output, row, &items))
    }
}

#[async_trait]
impl Handler for Metrics {
    async fn handle(&self, call: Call<'_>) -> Result<Reply, Status> {
        let output = negotiate::output(call.headers(), call.query, Allows::Transforms)?;
        let Call { info, query, row, .. } = call;
        let in_namespace = !info.namespace.is_empty();
        match (info.verb, self.of) {
            (_, Of::Nodes) if in_namespace => Err(no_such_resource()),
            ("get", Of::Pods) if !in_namespace => Err(no_such_resource()),
            ("get", _) => self.get(info, row, output).await,
            _ => self.list(info, query, row, output).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(before: &str, last: &str) -> Looks {
        let sample = |text: &str, at| Arc::new(Sample::parse(text, at));
        Looks { before: sample(before, 10_000), last: sample(last, 20_000) }
    }

    const OF_A: &str = "{container=\"a\",namespace=\"default\",pod=\"p\"}";

    #[test]
    fn usage_is_the_mean_between_two_looks() {
        let text = |cpu: &str, memory: u64, node: &str| {
            format!(
                "container_cpu_usage_seconds_total{OF_A} {cpu} 12000\ncontainer_memory_working_set_bytes{OF_A} {memory} 12000\n\
                 container_start_time_seconds{OF_A} 1\nnode_cpu_usage_seconds_total {node}\nnode_memory_working_set_bytes 2147483648\n"
            )
        };
        // Each counter has a time of its own, where it says so.
        let looks = looks(&text("5", 1, "100"), &text("6.25", 4096, "120").replace("12000", "17000"));
        let pod = json!({ "metadata": { "name": "p", "namespace": "default", "labels": { "app": "x" } } });
        let found = pod_metrics(&pod, &looks).expect("measured");
        assert_eq!(found["containers"], json!([{ "name": "a", "usage": { "cpu": "250000000n", "memory": "4Ki" } }]));
        assert_eq!((&found["window"], &found["timestamp"]), (&json!("5s"), &json!("1970-01-01T00:00:17Z")));
        assert_eq!(found["metadata"]["labels"], json!({ "app": "x" }));
        let node = node_metrics(&json!({ "metadata": { "name": "n" } }), &looks).expect("measured");
        assert_eq!(node["usage"], json!({ "cpu": "2000000000n", "memory": "2Gi" }));
        assert_eq!(node["window"], "10s");
        assert!(pod_metrics(&json!({ "metadata": { "name": "q", "namespace": "default" } }), &looks).is_none());
    }

    #[test]
    fn a_container_that_started_meanwhile_is_measured_since_then() {
        let text = |cpu: f64, started: f64| {
            format!("container_cpu_usage_seconds_total{OF_A} {cpu}\ncontainer_start_time_seconds{OF_A} {started}\n")
        };
        let pod = json!({ "metadata": { "name": "p", "namespace": "default" } });
        let usage = |looks: &Looks| Some(pod_metrics(&pod, looks)?["containers"][0]["usage"]["cpu"].clone());
        assert_eq!(usage(&looks("", &text(3.0, 14.0))), Some(json!("500000000n")));
        assert_eq!(usage(&looks(&text(50.0, 1.0), &text(3.0, 14.0))), Some(json!("500000000n")), "it started anew");
        assert_eq!(usage(&looks("", &text(0.1, 19.9))), None, "too short to say");
    }
}
