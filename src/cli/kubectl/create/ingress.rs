//! `kubectl create ingress`.

use super::pod_disruption_budget::int_or_string;
use super::{FLAGS, made, object};
use crate::api::{Fields, FieldsMut};
use crate::cli::kubectl::failure::{Failure, Outcome};
use crate::cli::kubectl::flags::{Arguments, Run, Verb, array, text};
use crate::cli::kubectl::session::Session;
use crate::client::Kind;
use serde_json::{Value, json};

const KIND: Kind = Kind::namespaced("networking.k8s.io", "v1", "Ingress", "ingresses");

pub const VERB: Verb = Verb {
    name: "ingress",
    aliases: &["ing"],
    about: "Create an Ingress",
    usage: "kubectl create ingress NAME --rule=host/path=service:port[,tls[=secret]]",
    flags: &[
        FLAGS[0],
        FLAGS[1],
        &[
            text("class", "NAME", "IngressClass to use"),
            array("rule", "RULE", "host/path=service:port[,tls[=secret]]; a path that ends with * is a prefix"),
            text("default-backend", "SERVICE:PORT", "Where everything else goes"),
            array("annotation", "KEY=VALUE", "An annotation"),
        ],
    ],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

/// A `--rule`, taken apart.
struct Rule<'a> {
    host: &'a str,
    path: &'a str,
    backend: &'a str,
    /// None: without TLS; empty: with the controller's own certificate.
    secret: Option<&'a str>,
}

impl<'a> Rule<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (rule, tls) = match text.split_once(',') {
            Some((rule, tls)) => (rule, Some(tls)),
            None => (text, None),
        };
        let slash = rule.find('/')?;
        let (path, backend) = rule[slash..].rsplit_once('=')?;
        let (service, port) = backend.split_once(':')?;
        let is_word = |text: &str| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        };
        if !is_word(service) || !is_word(port) {
            return None;
        }
        let secret = tls.map(|tls| tls.split_once('=').map_or("", |(_, secret)| secret));
        Some(Self { host: &rule[..slash], path, backend, secret })
    }

    fn path(&self) -> Value {
        let (kind, path) = match self.path.strip_suffix('*') {
            Some(prefix) => ("Prefix", prefix),
            None => ("Exact", self.path),
        };
        json!({ "backend": backend(self.backend), "path": path, "pathType": kind })
    }
}

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let name = arguments.name()?;
    let (texts, fallback) = (arguments.list("rule"), arguments.text_or_empty("default-backend"));
    if texts.is_empty() && fallback.is_empty() {
        return Err(Failure::local(
            "not enough information provided: every ingress has to either specify a default-backend (which catches all traffic) or a list of rules (which catch specific paths)",
        ));
    }
    let mut rules = Vec::new();
    for text in &texts {
        rules.push(Rule::parse(text).ok_or_else(|| {
            Failure::local(format!(
                "rule {text} is invalid and should be in format host/path=svcname:svcport[,tls[=secret]]"
            ))
        })?);
    }
    let mut ingress = object(&KIND, &name);
    for annotation in arguments.list("annotation") {
        let Some((key, value)) = annotation.split_once('=') else {
            return Err(Failure::local(format!(
                "annotation {annotation} is invalid and should be in format key=[value]"
            )));
        };
        ingress.object_mut("metadata").object_mut("annotations").set(key, value);
    }
    if !fallback.is_empty() && fallback.split(':').count() != 2 {
        return Err(Failure::local("default-backend should be in format servicename:serviceport"));
    }
    let mut spec = json!({});
    if !fallback.is_empty() {
        spec.set("defaultBackend", backend(fallback));
    }
    if let Some(class) = arguments.text("class").filter(|class| !class.is_empty()) {
        spec.set("ingressClassName", class);
    }
    for (field, list) in [("rules", hosts(&rules)), ("tls", certificates(&rules))] {
        if !list.is_empty() {
            spec.set(field, list);
        }
    }
    ingress.set("spec", spec);
    ingress.set("status", json!({ "loadBalancer": {} }));
    made(arguments, session, &KIND, ingress, "failed to create ingress:").await
}

/// The paths of a host together.
fn hosts(rules: &[Rule]) -> Vec<Value> {
    let mut hosts: Vec<Value> = Vec::new();
    for rule in rules {
        let known = hosts.iter_mut().find(|host| host.str_at("host") == rule.host);
        if let Some(Value::Array(paths)) = known.and_then(|host| host.get_mut("http")?.get_mut("paths")) {
            paths.push(rule.path());
            continue;
        }
        let mut host = json!({ "http": { "paths": [rule.path()] } });
        if !rule.host.is_empty() {
            host.set("host", rule.host);
        }
        hosts.push(host);
    }
    hosts
}

/// The hosts of a secret together; each host once.
fn certificates(rules: &[Rule]) -> Vec<Value> {
    let mut certificates: Vec<Value> = Vec::new();
    let mut seen = Vec::new();
    for (rule, secret) in rules.iter().filter_map(|rule| Some((rule, rule.secret?))) {
        if seen.contains(&rule.host) {
            continue;
        }
        seen.push(rule.host);
        let known = certificates.iter_mut().find(|known| known.str_at("secretName") == secret);
        if let Some(Value::Array(hosts)) = known.and_then(|known| known.get_mut("hosts")) {
            hosts.push(rule.host.into());
            continue;
        }
        let mut certificate = json!({});
        if !rule.host.is_empty() {
            certificate.set("hosts", json!([rule.host]));
        }
        if !secret.is_empty() {
            certificate.set("secretName", secret);
        }
        if !certificate.entries().is_empty() {
            certificates.push(certificate);
        }
    }
    certificates
}

fn backend(text: &str) -> Value {
    let (service, port) = text.split_once(':').unwrap_or((text, ""));
    let port = match int_or_string(port) {
        Value::Number(number) => json!({ "number": number }),
        name => json!({ "name": name }),
    };
    json!({ "service": { "name": service, "port": port } })
}
