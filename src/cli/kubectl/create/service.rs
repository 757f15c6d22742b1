//! `kubectl create service clusterip | nodeport | loadbalancer | externalname`.

use super::{FLAGS, made, object};
use crate::api::{FieldsMut, names};
use crate::cli::kubectl::failure::{Failure, Outcome};
use crate::cli::kubectl::flags::{Arguments, Flag, Run, Verb, slice, text};
use crate::cli::kubectl::session::Session;
use crate::client::kinds::SERVICES;
use serde_json::{Value, json};

pub const VERB: Verb = Verb {
    name: "service",
    aliases: &["svc"],
    about: "Create a Service",
    usage: "kubectl create service (clusterip | externalname | loadbalancer | nodeport)",
    verbs: &[&CLUSTER_IP, &EXTERNAL_NAME, &LOAD_BALANCER, &NODE_PORT],
    ..Verb::DEFAULT
};

const TCP: Flag = slice("tcp", "PORT:TARGET", "A port, and the one that it leads to");

const CLUSTER_IP: Verb = Verb {
    name: "clusterip",
    about: "Create a Service with an address in the cluster",
    usage: "kubectl create service clusterip NAME [--tcp=<port>:<targetPort>]",
    flags: &[FLAGS[0], FLAGS[1], &[TCP, text("clusterip", "ADDRESS", "The address, or None for a headless Service")]],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session, "ClusterIP"))),
    ..Verb::DEFAULT
};

const NODE_PORT: Verb = Verb {
    name: "nodeport",
    about: "Create a Service with a port on each node",
    usage: "kubectl create service nodeport NAME [--tcp=port:targetPort]",
    flags: &[FLAGS[0], FLAGS[1], &[TCP, text("node-port", "PORT", "The port on the nodes").default("0")]],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session, "NodePort"))),
    ..Verb::DEFAULT
};

const LOAD_BALANCER: Verb = Verb {
    name: "loadbalancer",
    about: "Create a Service with a load balancer before it",
    usage: "kubectl create service loadbalancer NAME [--tcp=port:targetPort]",
    flags: &[FLAGS[0], FLAGS[1], &[TCP]],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session, "LoadBalancer"))),
    ..Verb::DEFAULT
};

const EXTERNAL_NAME: Verb = Verb {
    name: "externalname",
    about: "Create a Service that is another name of something outside",
    usage: "kubectl create service externalname NAME --external-name external.name",
    flags: &[FLAGS[0], FLAGS[1], &[TCP, text("external-name", "NAME", "The name outside")]],
    required: &["external-name"],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session, "ExternalName"))),
    ..Verb::DEFAULT
};

async fn run(arguments: &Arguments, session: &Session, kind: &str) -> Outcome<()> {
    let name = arguments.name()?;
    let (address, outside) = (arguments.text_or_empty("clusterip"), arguments.text_or_empty("external-name"));
    let tcp = arguments.list("tcp");
    if address != "None" && tcp.is_empty() && kind != "ExternalName" {
        return Err(Failure::local("at least one tcp port specifier must be provided"));
    }
    if kind == "ExternalName" && !names::dns_subdomain(outside).is_empty() {
        return Err(Failure::local(format!("invalid service external name {outside}")));
    }
    let node_port = arguments.int("node-port")?.unwrap_or_default();
    let mut ports = Vec::new();
    for text in &tcp {
        let mut port = port(text)?;
        if node_port > 0 {
            port.set("nodePort", node_port);
        }
        ports.push(port);
    }
    let mut service = object(&SERVICES, &name);
    service.object_mut("metadata").set("labels", json!({ "app": name }));
    let mut spec = json!({ "selector": { "app": name }, "type": kind });
    for (field, value) in [("clusterIP", address), ("externalName", outside)] {
        if !value.is_empty() {
            spec.set(field, value);
        }
    }
    if !ports.is_empty() {
        spec.set("ports", ports);
    }
    service.set("spec", spec);
    service.set("status", json!({ "loadBalancer": {} }));
    made(arguments, session, &SERVICES, service, &format!("failed to create {kind} service:")).await
}

/// `80:8080`, `80:http`, `80`.
fn port(text: &str) -> Outcome<Value> {
    let (port, target) = text.split_once(':').unwrap_or((text, text));
    let said = |wrong: names::Messages| {
        let wrong: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        if wrong.is_empty() { Ok(()) } else { Err(Failure::local(wrong.join(","))) }
    };
    let number: u16 = port.parse().map_err(|_| {
        let why = if port.parse::<u64>().is_ok() { "value out of range" } else { "invalid syntax" };
        Failure::local(format!("strconv.ParseUint: parsing {}: {why}", crate::api::field::go_quote(port)))
    })?;
    let target = match target.parse::<i64>() {
        Ok(number) => {
            said(names::port_number(number))?;
            Value::from(number)
        }
        Err(_) => {
            said(names::port_name(target))?;
            Value::from(target)
        }
    };
    Ok(json!({ "name": text.replace(':', "-"), "port": number, "protocol": "TCP", "targetPort": target }))
}
