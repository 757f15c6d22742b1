//! `kubectl expose`: a Service for what runs pods.

use super::changes::{self, Change};
use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Run, Verb, text};
use super::manifest;
use super::objects::{self, Found};
use super::output;
use super::patch;
use super::pod_specs;
use super::session::Session;
use crate::api::{Fields, FieldsMut};
use crate::client::kinds::SERVICES;
use serde_json::{Value, json};

pub(super) const VERB: Verb = Verb {
    name: "expose",
    about: "Create a Service for a pod, a Deployment, a ReplicaSet or another Service",
    usage: "kubectl expose (-f FILE | TYPE NAME) [--port=port] [--protocol=TCP|UDP|SCTP] [--target-port=number-or-name] [--name=name] [--external-ip=external-ip-of-service] [--type=type]",
    flags: &[
        output::FLAGS,
        manifest::FLAGS,
        &[
            changes::DRY_RUN,
            changes::FIELD_MANAGER,
            changes::SAVE_CONFIG,
            text("name", "NAME", "Name of the Service; that of the object when not given"),
            text("port", "PORT", "Port of the Service; those of the containers when not given"),
            text("target-port", "PORT", "Number or name of the port in the pods"),
            text("protocol", "PROTOCOL", "TCP, UDP or SCTP; that of the containers when not given"),
            text("type", "TYPE", "ClusterIP, NodePort, LoadBalancer or ExternalName"),
            text("selector", "KEY=VALUE,…", "Labels of the pods; those of the object when not given"),
            text("labels", "KEY=VALUE,…", "Labels of the Service; those of the object when not given").short('l'),
            text("cluster-ip", "ADDRESS", "Address in the cluster, or None"),
            text("external-ip", "ADDRESS", "Further address of nodes to take connections on"),
            text("load-balancer-ip", "ADDRESS", "Address of the load balancer"),
            text("session-affinity", "KIND", "None or ClientIP"),
            text("overrides", "JSON", "What to change in the Service before it is created"),
            text("override-type", "TYPE", "What --overrides is: json, merge, strategic").default("merge"),
        ],
    ],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let change = Change::of(arguments, "exposed", "kubectl-expose")?;
    let found = objects::find(arguments, &arguments.words(), session).await?;
    found
        .each(async |found| {
            let mut service = patch::with_overrides(arguments, service(arguments, &found)?, "merge")?;
            if session.namespace_is_given {
                service.object_mut("metadata").set("namespace", session.namespace.as_str());
            }
            let service = change.configured(&service);
            let created = change.create(session, &SERVICES, &session.namespace, &service).await?;
            change.print(session, &created).await
        })
        .await
}

fn service(arguments: &Arguments, found: &Found) -> Outcome<Value> {
    let given = |flag: &str| arguments.text(flag).filter(|text| !text.is_empty());
    let kind = &found.resource.kind;
    if !matches!(
        (&*kind.group, &*kind.kind),
        ("", "Pod" | "Service" | "ReplicationController") | ("apps", "Deployment" | "ReplicaSet")
    ) {
        let dot = if kind.group.is_empty() { "" } else { "." };
        return Err(Failure::local(format!("cannot expose a {}{dot}{}", kind.kind, kind.group)));
    }
    let selector = match given("selector") {
        Some(text) => labels(text)?,
        None => selector(found).map_err(|why| {
            Failure::local(format!("couldn't retrieve selectors via --selector flag or introspection: {why}"))
        })?,
    };
    let labels = match given("labels") {
        Some(text) => labels(text)?,
        None => found.object.at("metadata").at("labels").clone(),
    };
    let name: String = given("name").map_or_else(|| found.name.chars().take(63).collect(), str::to_owned);
    let mut metadata = json!({ "name": name });
    if !labels.entries().is_empty() {
        metadata.set("labels", labels);
    }
    let mut spec = json!({});
    if !selector.entries().is_empty() {
        spec.set("selector", selector);
    }
    let ports = ports(arguments, found, given("cluster-ip") == Some("None"))?;
    if !ports.is_empty() {
        spec.set("ports", ports);
    }
    if let Some(address) = given("external-ip") {
        spec.set("externalIPs", json!([address]));
    }
    if let Some(affinity) = given("session-affinity") {
        if !matches!(affinity, "None" | "ClientIP") {
            return Err(Failure::local(format!("unknown session affinity: {affinity}")));
        }
        spec.set("sessionAffinity", affinity);
    }
    for (field, flag) in [("type", "type"), ("clusterIP", "cluster-ip")] {
        if let Some(text) = given(flag) {
            spec.set(field, text);
        }
    }
    if let (Some("LoadBalancer"), Some(address)) = (given("type"), given("load-balancer-ip")) {
        spec.set("loadBalancerIP", address);
    }
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": spec,
        "status": { "loadBalancer": {} },
    }))
}

/// The labels that the object's pods have.
fn selector(found: &Found) -> Result<Value, String> {
    let object = &found.object;
    let spec = object.at("spec");
    let (labels, missing) = match &*found.resource.kind.kind {
        "Pod" => (object.at("metadata").at("labels"), "the pod has no labels and cannot be exposed"),
        "Service" => (spec.at("selector"), "the service has no pod selector set"),
        "ReplicationController" => {
            (spec.at("selector"), "invalid replication controller: no selectors, therefore cannot be exposed")
        }
        kind => {
            let selector = spec.at("selector");
            if !selector.list_at("matchExpressions").is_empty() {
                let expressions = Value::from(selector.list_at("matchExpressions"));
                return Err(format!("couldn't convert expressions - \"{expressions}\" to map-based selector format"));
            }
            let missing = if kind == "Deployment" {
                "invalid deployment: no selectors, therefore cannot be exposed"
            } else {
                "invalid replicaset: no selectors, therefore cannot be exposed"
            };
            (selector.at("matchLabels"), missing)
        }
    };
    if labels.entries().is_empty() { Err(missing.to_owned()) } else { Ok(labels.clone()) }
}

/// Number and protocol of the ports that the object opens.
fn known_ports(found: &Found) -> Vec<(i64, String)> {
    let protocol = |port: &Value| match port.str_at("protocol") {
        "" => "TCP".to_owned(),
        protocol => protocol.to_owned(),
    };
    if found.resource.kind.kind == "Service" {
        let ports = found.object.at("spec").list_at("ports").iter();
        return ports.map(|port| (port.int_at("port"), protocol(port))).collect();
    }
    let spec = pod_specs::spec(&found.resource.kind, &found.object).unwrap_or(&Value::Null);
    let ports = spec.list_at("containers").iter().flat_map(|container| container.list_at("ports"));
    ports.map(|port| (port.int_at("containerPort"), protocol(port))).collect()
}

fn ports(arguments: &Arguments, found: &Found, headless: bool) -> Outcome<Vec<Value>> {
    let given = |flag: &str| arguments.text(flag).filter(|text| !text.is_empty());
    let known = known_ports(found);
    let mut numbers: Vec<i64> = match given("port") {
        Some(text) => text
            .split(',')
            .map(|port| {
                port.parse().map_err(|_| {
                    let quoted = crate::api::field::go_quote(port);
                    Failure::local(format!("strconv.Atoi: parsing {quoted}: invalid syntax"))
                })
            })
            .collect::<Outcome<_>>()?,
        None => known.iter().map(|(number, _)| *number).collect(),
    };
    numbers.dedup();
    if numbers.is_empty() && !headless {
        return Err(Failure::local("couldn't find port via --port flag or introspection"));
    }
    let several = numbers.len() > 1;
    let mut ports = Vec::new();
    for (at, number) in numbers.into_iter().enumerate() {
        let protocols: Vec<&str> = match given("protocol") {
            Some(protocol) => vec![protocol],
            None => known.iter().filter(|(known, _)| *known == number).map(|(_, protocol)| protocol.as_str()).collect(),
        };
        let protocols = if protocols.is_empty() { vec!["TCP"] } else { protocols };
        for protocol in &protocols {
            let target = given("target-port").map_or_else(
                || Value::from(number),
                |text| text.parse::<i32>().map_or_else(|_| Value::from(text), Value::from),
            );
            let mut port = json!({ "port": number, "protocol": protocol, "targetPort": target });
            if protocols.len() > 1 {
                port.set("name", format!("port-{}-{}", at + 1, protocol.to_lowercase()));
            } else if several {
                port.set("name", format!("port-{}", at + 1));
            }
            ports.push(port);
        }
    }
    Ok(ports)
}

/// `a=b,c=d`.
pub(super) fn labels(text: &str) -> Outcome<Value> {
    let mut labels = json!({});
    for pair in text.split(',') {
        match pair.split('=').collect::<Vec<_>>()[..] {
            ["", _] => return Err(Failure::local("unexpected empty label key")),
            [key, value] => labels.set(key, value),
            _ => return Err(Failure::local(format!("unexpected label spec: {pair}"))),
        }
    }
    Ok(labels)
}
