//! Looks after APIServices: availability of the remote ones, local ones for custom resources, and
//! the ConfigMap that tells extension servers whom to trust.
//!
//! It looks when something of theirs has changed; at a remote one also every half minute, as
//! Kubernetes does, since a server can stop to answer while its pods are ready.

use super::availability::{self, Available, Told};
use super::{Aggregator, Remote, discovery};
use crate::api::{Fields, GroupResource, UserInfo, time};
use crate::apiserver::Server;
use crate::apiserver::follow::{Following, Update, follow};
use crate::apiserver::state::State;
use crate::storage::{Entry, Key, Prefix};
use axum::body::Body;
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tower::ServiceExt;

const LOOK_AGAIN: Duration = Duration::from_secs(30);
const API: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const AUTOMANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
const CONFIG_MAPS: &str = "/api/v1/namespaces/kube-system/configmaps";
const AUTHENTICATION: &str = "extension-apiserver-authentication";

type Of = fn(&mut super::Sources) -> &mut BTreeMap<String, Value>;

/// Follows from now on; ends with the server. Must be called on a tokio runtime.
pub fn start(state: &Arc<State>) {
    let followings = follow_all(state);
    let (aggregator, weak) = (state.aggregator.clone(), Arc::downgrade(state));
    let run = async move {
        let _followings = followings;
        let mut known: HashMap<String, Known> = HashMap::new();
        loop {
            let Some(state) = weak.upgrade() else { return };
            let result = look(&state, &mut known).await;
            drop(state);
            if let Err(error) = &result {
                tracing::warn!("keep APIServices: {error}");
            }
            let due = known.values().map(|known| known.due).min();
            let due = result.err().map(|_| Instant::now() + LOOK_AGAIN / 3).into_iter().chain(due).min();
            let wait = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = aggregator.changed.notified() => known.values_mut().for_each(|known| known.due = Instant::now()),
                () = wait => {}
            }
        }
    };
    let shutdown = state.shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = run => {}
        }
    });
}

fn follow_all(state: &Arc<State>) -> Vec<Following> {
    let objects = |group: &str, resource: &str, of: Of| {
        let aggregator = state.aggregator.clone();
        follow(state.storage.clone(), Prefix::resource(&GroupResource::new(group, resource)), move |update| {
            if aggregator.apply(update, of) {
                aggregator.changed.notify_one();
            }
        })
    };
    // Anything in a namespace where a remote's Service is.
    let trigger = |group: &str, resource: &str| {
        let aggregator = state.aggregator.clone();
        follow(state.storage.clone(), Prefix::resource(&GroupResource::new(group, resource)), move |update| {
            let remotes = aggregator.remotes();
            let near = |key: &Key| remotes.all.iter().any(|remote| remote.target.namespace == key.namespace());
            if match update {
                Update::Reset(_) => !remotes.all.is_empty(),
                Update::Put(entry) => near(&entry.key),
                Update::Delete(key) => near(key),
            } {
                aggregator.changed.notify_one();
            }
        })
    };
    let config_maps = {
        let aggregator = state.aggregator.clone();
        let prefix = Prefix::namespace(&GroupResource::new("", "configmaps"), "kube-system");
        follow(state.storage.clone(), prefix, move |update| {
            let ours = |key: &Key| key.name() == AUTHENTICATION;
            if match update {
                Update::Reset(_) => true,
                Update::Put(entry) => ours(&entry.key),
                Update::Delete(key) => ours(key),
            } {
                aggregator.changed.notify_one();
            }
        })
    };
    vec![
        objects("apiregistration.k8s.io", "apiservices", |sources| &mut sources.services),
        objects("apiextensions.k8s.io", "customresourcedefinitions", |sources| &mut sources.definitions),
        trigger("", "services"),
        trigger("discovery.k8s.io", "endpointslices"),
        config_maps,
    ]
}

impl Aggregator {
    /// Whether it matters: a status is written by the keeper itself.
    fn apply(&self, update: Update<'_>, of: Of) -> bool {
        let mut sources = self.sources.lock();
        let objects = of(&mut sources);
        let put = |objects: &mut BTreeMap<String, Value>, entry: &Entry| {
            let object = entry.body.parse();
            let (spec, labels) = (object.at("spec").clone(), object.at("metadata").at("labels").clone());
            let before = objects.insert(entry.key.name().to_owned(), object);
            before.is_none_or(|before| *before.at("spec") != spec || *before.at("metadata").at("labels") != labels)
        };
        match update {
            Update::Reset(entries) => {
                objects.clear();
                for entry in &entries {
                    put(objects, entry);
                }
                true
            }
            Update::Put(entry) => put(objects, entry),
            Update::Delete(key) => objects.remove(key.name()).is_some(),
        }
    }
}

/// What is remembered of a remote APIService.
struct Known {
    uid: String,
    spec: Value,
    due: Instant,
    failures: u32,
    available: Available,
    told: Told,
}

async fn look(state: &Arc<State>, known: &mut HashMap<String, Known>) -> Result<(), String> {
    let aggregator = &state.aggregator;
    let (services, definitions) = {
        let sources = aggregator.sources.lock();
        (sources.services.clone(), sources.definitions.clone())
    };
    let remote = |service: &&Value| service.at("spec").has("service");
    let uid = |service: &Value| service.at("metadata").str_at("uid").to_owned();
    known.retain(|name, known| services.get(name).is_some_and(|service| remote(&service) && uid(service) == known.uid));
    for service in services.values().filter(remote) {
        let (name, spec) = (service.at("metadata").str_at("name"), service.at("spec"));
        let known = known.entry(name.to_owned()).or_insert_with(|| Known {
            uid: uid(service),
            spec: spec.clone(),
            due: Instant::now(),
            failures: 0,
            available: Available { status: "Unknown", reason: "", message: String::new() },
            told: Told::default(),
        });
        // One that changed is what it was until it has been looked at.
        if known.spec != *spec {
            (known.spec, known.due, known.failures) = (spec.clone(), Instant::now(), 0);
        }
    }
    // Paths are theirs at once: until a new one has been looked at, the answer is 503.
    publish(aggregator, known);
    let due: Vec<(&String, &mut Known)> = known.iter_mut().filter(|(_, known)| known.due <= Instant::now()).collect();
    let checked = due.into_iter().map(|(_, known)| check(state, known));
    futures::future::join_all(checked).await;
    publish(aggregator, known);

    let mut writes = Vec::new();
    for (name, service) in &services {
        let available = match known.get(name) {
            Some(known) => known.available.clone(),
            None => Available::local(),
        };
        writes.extend(condition(name, service, &available));
    }
    writes.extend(local(&services, &definitions));
    writes.extend(authentication(state));
    for write in writes {
        send(state, write).await?;
    }
    Ok(())
}

async fn check(state: &State, known: &mut Known) {
    let (group, version) = (known.spec.str_at("group"), known.spec.str_at("version"));
    let target = state.aggregator.target(&known.spec);
    match availability::check(state, &target, group, version, &known.told).await {
        Ok(told) => {
            (known.available, known.told, known.failures) = (Available::yes(), told, 0);
            known.due = Instant::now() + LOOK_AGAIN;
        }
        Err(reason) => {
            known.available = reason;
            known.due = Instant::now() + Duration::from_secs(1 << known.failures.min(5)).min(LOOK_AGAIN);
            known.failures += 1;
        }
    }
}

fn publish(aggregator: &Aggregator, known: &HashMap<String, Known>) {
    let remotes: Vec<Arc<Remote>> = known
        .iter()
        .map(|(name, known)| {
            let (group, version) = (known.spec.str_at("group"), known.spec.str_at("version"));
            Arc::new(Remote {
                name: name.clone(),
                group: group.to_owned(),
                version: version.to_owned(),
                group_priority: known.spec.int_at("groupPriorityMinimum"),
                version_priority: known.spec.int_at("versionPriority"),
                spec: known.spec.clone(),
                target: aggregator.target(&known.spec),
                available: known.available.status == "True",
                resources: known.told.resources.is_object().then(|| known.told.resources.clone()),
                openapi: discovery::openapi_query(&known.told.openapi, group, version),
                swagger: known.told.swagger.clone(),
            })
        })
        .collect();
    let before = aggregator.remotes();
    let tag = |remote: &Remote| remote.swagger.as_ref().map(|swagger| swagger.tag.clone());
    let same = |remote: &Arc<Remote>| {
        before.all.iter().any(|other| {
            other.name == remote.name
                && other.spec == remote.spec
                && other.available == remote.available
                && other.resources == remote.resources
                && other.openapi == remote.openapi
                && tag(other) == tag(remote)
        })
    };
    if before.all.len() != remotes.len() || !remotes.iter().all(same) {
        aggregator.publish(remotes);
    }
}

struct Write {
    method: Method,
    path: String,
    content_type: &'static str,
    body: Value,
}

/// The status of an APIService, where it is not that yet.
fn condition(name: &str, service: &Value, available: &Available) -> Option<Write> {
    let conditions = service.at("status").list_at("conditions");
    let now = conditions.iter().find(|condition| condition.str_at("type") == "Available");
    let is = |field: &str, text: &str| now.is_some_and(|now| now.str_at(field) == text);
    if is("status", available.status) && is("reason", available.reason) && is("message", &available.message) {
        return None;
    }
    let since = now.filter(|_| is("status", available.status)).map(|now| now.at("lastTransitionTime").clone());
    let mut all: Vec<Value> =
        conditions.iter().filter(|condition| condition.str_at("type") != "Available").cloned().collect();
    all.push(json!({
        "type": "Available",
        "status": available.status,
        "lastTransitionTime": since.unwrap_or_else(|| time::seconds(jiff::Timestamp::now()).into()),
        "reason": available.reason,
        "message": available.message,
    }));
    Some(Write {
        method: Method::PATCH,
        path: format!("{API}/{name}/status"),
        content_type: "application/merge-patch+json",
        body: json!({ "status": { "conditions": all } }),
    })
}

/// A local APIService per version of a group that custom resources have.
fn local(services: &BTreeMap<String, Value>, definitions: &BTreeMap<String, Value>) -> Vec<Write> {
    let mut wanted: BTreeMap<String, (String, String)> = BTreeMap::new();
    for definition in definitions.values() {
        let spec = definition.at("spec");
        let served = spec.list_at("versions").iter().filter(|version| version.bool_at("served"));
        for version in served.map(|version| version.str_at("name")) {
            let group = spec.str_at("group");
            wanted.insert(format!("{version}.{group}"), (group.to_owned(), version.to_owned()));
        }
    }
    let mut writes = Vec::new();
    for (name, (group, version)) in wanted.iter().filter(|(name, _)| !services.contains_key(*name)) {
        writes.push(Write {
            method: Method::POST,
            path: API.to_owned(),
            content_type: "application/json",
            body: json!({
                "apiVersion": "apiregistration.k8s.io/v1",
                "kind": "APIService",
                "metadata": { "name": name, "labels": { AUTOMANAGED: "true" } },
                "spec": { "group": group, "version": version, "groupPriorityMinimum": 1000, "versionPriority": 100 },
            }),
        });
    }
    for (name, service) in services {
        let metadata = service.at("metadata");
        if metadata.at("labels").str_at(AUTOMANAGED) == "true" && !wanted.contains_key(name) {
            writes.push(Write {
                method: Method::DELETE,
                path: format!("{API}/{name}"),
                content_type: "application/json",
                body: json!({ "preconditions": { "uid": metadata.str_at("uid") } }),
            });
        }
    }
    writes
}

/// Whom extension servers trust.
fn authentication(state: &State) -> Option<Write> {
    let wanted = &state.aggregator.options.authentication;
    let storage = &state.storage;
    let there = |resource: &str, namespace: &str, name: &str| {
        storage.get(&Key::new(&GroupResource::new("", resource), namespace, name))
    };
    if wanted.is_empty() || there("namespaces", "", "kube-system").is_none() {
        return None;
    }
    let Some(live) = there("configmaps", "kube-system", AUTHENTICATION) else {
        return Some(Write {
            method: Method::POST,
            path: CONFIG_MAPS.to_owned(),
            content_type: "application/json",
            body: json!({
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": { "name": AUTHENTICATION, "namespace": "kube-system" },
                "data": wanted,
            }),
        });
    };
    let live = live.body.parse();
    let is = |(key, value): (&String, &String)| live.at("data").str_at(key) == value;
    (!wanted.iter().all(is)).then(|| Write {
        method: Method::PATCH,
        path: format!("{CONFIG_MAPS}/{AUTHENTICATION}"),
        content_type: "application/merge-patch+json",
        body: json!({ "data": wanted }),
    })
}

async fn send(state: &Arc<State>, write: Write) -> Result<(), String> {
    let what = format!("{} {}", write.method, write.path);
    let request = Request::builder()
        .method(write.method)
        .uri(&write.path)
        .header(http::header::CONTENT_TYPE, write.content_type)
        .header(http::header::USER_AGENT, "kube-apiserver")
        .extension(UserInfo::new("system:apiserver", &[crate::api::user::SYSTEM_MASTERS]))
        .body(Body::from(write.body.to_string()))
        .map_err(|error| format!("{what}: {error}"))?;
    let Ok(reply) = Server { state: state.clone() }.oneshot(request).await;
    let status = reply.status();
    // Written or deleted by another meanwhile: that change is on its way here.
    if status.is_success() || matches!(status, StatusCode::CONFLICT | StatusCode::NOT_FOUND) {
        return Ok(());
    }
    let text = axum::body::to_bytes(reply.into_body(), 1 << 20).await.unwrap_or_default();
    Err(format!("{what}: {status}: {}", String::from_utf8_lossy(&text)))
}
