//! `kubectl port-forward`: ports of this machine that lead into a pod.
//!
//! Each connection is a stream of its own through the API server; the verb ends with the pod.

use super::discovery::Discovery;
use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Run, Verb, slice, text};
use super::following::{follow, within};
use super::pods::{self, name_of};
use super::session::Session;
use super::targets;
use crate::api::Fields;
use crate::client::kinds::PODS;
use futures::stream::{FuturesUnordered, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use tokio::net::{TcpListener, TcpStream};

pub(super) const VERB: Verb = Verb {
    name: "port-forward",
    about: "Let local ports lead into a pod",
    usage: "kubectl port-forward TYPE/NAME [options] [LOCAL_PORT:]REMOTE_PORT [...[LOCAL_PORT_N:]REMOTE_PORT_N]",
    flags: &[&[
        slice("address", "ADDRESS", "Addresses to listen on").default("localhost"),
        text("pod-running-timeout", "DURATION", "How long to wait until the pod runs").default("1m0s"),
    ]],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pair {
    /// 0: any that is free.
    local: u16,
    remote: u16,
}

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let words = arguments.words();
    let [target, ports @ ..] = words.as_slice() else {
        return Err(arguments.usage("TYPE/NAME and list of ports are required for port-forward"));
    };
    if ports.is_empty() {
        return Err(arguments.usage("TYPE/NAME and list of ports are required for port-forward"));
    }
    let (pod, service) = find(session, target).await?;
    let pairs: Vec<Pair> = ports.iter().map(|text| pair(text, &pod, service.as_ref())).collect::<Outcome<_>>()?;
    let name = name_of(&pod).to_owned();
    let timeout = arguments.timeout("pod-running-timeout")?;
    let kind = PODS;
    let running = follow(session, &kind, &session.namespace, &name, async |pod: Option<&Value>| {
        let phase = pod.map_or("", |pod| pod.at("status").str_at("phase"));
        match phase {
            "Running" => Ok(Some(())),
            "Succeeded" | "Failed" => Err(Failure::local(format!(
                "unable to forward port because pod is not running. Current status={phase}"
            ))),
            _ => Ok(None),
        }
    });
    within(timeout, running, || "unable to forward port because pod is not running. Current status=Pending".to_owned())
        .await?;
    let listeners = listen(session, &arguments.list("address"), &pairs).await?;
    let gone =
        super::following::gone(session, &kind, &session.namespace, &name, Some(pod.at("metadata").str_at("uid")), None);
    tokio::select! {
        ended = serve(session, &name, &listeners) => ended,
        ended = gone => {
            ended?;
            Err(Failure::local("lost connection to pod"))
        }
    }
}

/// The pod, and the Service that led to it.
async fn find(session: &Session, target: &str) -> Outcome<(Value, Option<Value>)> {
    let mut found = pods::find(session, target).await?;
    if found.is_empty() {
        return Err(Failure::local(format!("no pods found for {target}")));
    }
    let pod = found.swap_remove(0);
    let Some((word, name)) = target.contains('/').then(|| targets::split(target)).transpose()? else {
        return Ok((pod, None));
    };
    let discovery = Discovery::fetch(session).await?;
    let kind = &discovery.resolve_one(word)?.kind;
    let service = match (&*kind.group, &*kind.kind) {
        ("", "Service") => Some(session.object(kind, &session.namespace, name).await?),
        _ => None,
    };
    Ok((pod, service))
}

/// `8080:80`, `:80`, `80`, `8080:http`.
fn pair(text: &str, pod: &Value, service: Option<&Value>) -> Outcome<Pair> {
    let invalid = || Failure::local(format!("invalid port format '{text}'"));
    let (local, remote) = match text.split(':').collect::<Vec<_>>()[..] {
        [both] => (both, both),
        [local, remote] => (local, remote),
        _ => return Err(invalid()),
    };
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let wanted = match service {
        Some(service) => target_port(service, pod, remote)?,
        None => match number(remote) {
            Some(port) => port,
            None => named_port(pod, remote).ok_or_else(|| {
                Failure::local(format!("Pod '{}' does not have a named port '{remote}'", name_of(pod)))
            })?,
        },
    };
    let local = match (local, text.contains(':')) {
        ("", true) => 0,
        (local, true) => number(local).ok_or_else(|| {
            Failure::local(format!(
                "error parsing local port '{local}': strconv.ParseUint: parsing {local:?}: invalid syntax"
            ))
        })?,
        // A name alone is the same number here.
        (local, false) => number(local).unwrap_or(wanted),
    };
    Ok(Pair { local, remote: wanted })
}

fn named_port(pod: &Value, name: &str) -> Option<u16> {
    let containers = pod.at("spec").list_at("containers").iter();
    let mut ports = containers.flat_map(|container| container.list_at("ports"));
    let port = ports.find(|port| port.str_at("name") == name)?;
    u16::try_from(port.int_at("containerPort")).ok()
}

/// The port of the pod that a Service's port leads to.
fn target_port(service: &Value, pod: &Value, text: &str) -> Outcome<u16> {
    let spec = service.at("spec");
    let name = service.at("metadata").str_at("name");
    let number: Option<i64> = text.parse().ok();
    let mut ports = spec.list_at("ports").iter();
    let found = ports.find(|port| number.map_or(port.str_at("name") == text, |number| port.int_at("port") == number));
    let Some(port) = found else {
        return Err(Failure::local(match number {
            Some(_) => format!("Service {name} does not have a service port {text}"),
            None => format!("Service '{name}' does not have a named port '{text}'"),
        }));
    };
    if spec.str_at("clusterIP") == "None" {
        return u16::try_from(port.int_at("port")).map_err(|error| Failure::Local(error.into()));
    }
    let target = port.at("targetPort");
    let resolved = match target {
        Value::String(name) => named_port(pod, name),
        Value::Number(_) if target.as_i64() != Some(0) => target.as_i64().and_then(|port| u16::try_from(port).ok()),
        _ => u16::try_from(port.int_at("port")).ok(),
    };
    resolved.ok_or_else(|| Failure::local(format!("Pod '{}' does not have a named port '{target}'", name_of(pod))))
}

async fn listen(session: &Session, addresses: &[String], pairs: &[Pair]) -> Outcome<Vec<(TcpListener, Pair)>> {
    let mut hosts: Vec<IpAddr> = Vec::new();
    for address in addresses {
        match address.as_str() {
            "localhost" => hosts.extend([IpAddr::from([127, 0, 0, 1]), std::net::Ipv6Addr::LOCALHOST.into()]),
            address => hosts.push(address.parse().map_err(|_| Failure::local(format!("{address} is not a valid IP")))?),
        }
    }
    let only_local = addresses.iter().any(|address| address == "localhost");
    let mut listeners = Vec::new();
    for pair in pairs {
        let mut local = pair.local;
        let mut errors = Vec::new();
        for host in &hosts {
            match TcpListener::bind(SocketAddr::new(*host, local)).await {
                Ok(listener) => {
                    // All addresses have the port that was free on the first.
                    let bound = listener.local_addr()?;
                    local = bound.port();
                    session.print(&format!("Forwarding from {bound} -> {}\n", pair.remote)).await?;
                    listeners.push((listener, Pair { local, remote: pair.remote }));
                }
                Err(error) => {
                    let family = if host.is_ipv4() { "tcp4" } else { "tcp6" };
                    let why = super::create::sources::reason(&error).to_lowercase();
                    let why = why.split(" (os error").next().unwrap_or_default();
                    let place = SocketAddr::new(*host, local);
                    errors.push(format!("unable to create listener: Error listen {family} {place}: bind: {why}"));
                }
            }
        }
        let some = errors.len() < hosts.len();
        if !errors.is_empty() && !(some && only_local) {
            let text = format!(
                "Unable to listen on port {}: Listeners failed to create with the following errors: [{}]",
                pair.local,
                errors.join(" ")
            );
            session.say(&text).await?;
        }
    }
    if listeners.is_empty() {
        let all: Vec<String> = pairs.iter().map(|pair| format!("{{{} {}}}", pair.local, pair.remote)).collect();
        return Err(Failure::local(format!("unable to listen on any of the requested ports: [{}]", all.join(" "))));
    }
    Ok(listeners)
}

/// Take connections until something ends it from outside.
async fn serve(session: &Session, pod: &str, listeners: &[(TcpListener, Pair)]) -> Outcome<()> {
    let mut accepts: FuturesUnordered<_> = listeners.iter().map(accept).collect();
    let mut connections = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some((accepted, listener)) = accepts.next() => {
                accepts.push(accept(listener));
                let (socket, pair) = accepted?;
                session.print(&format!("Handling connection for {}\n", pair.local)).await?;
                connections.push(forward(session, pod, socket, pair));
            }
            Some(ended) = connections.next() => {
                if let Err((pair, failure)) = ended {
                    let failure: Failure = failure;
                    let pair: Pair = pair;
                    let why = failure.message();
                    let text = format!("error forwarding port {} to pod {pod}: {why}", pair.remote);
                    session.say(&text).await?;
                }
            }
        }
    }
}

type Accepted<'a> = (std::io::Result<(TcpStream, Pair)>, &'a (TcpListener, Pair));

async fn accept(listener: &(TcpListener, Pair)) -> Accepted<'_> {
    (listener.0.accept().await.map(|(socket, _)| (socket, listener.1)), listener)
}

async fn forward(session: &Session, pod: &str, mut socket: TcpStream, pair: Pair) -> Result<(), (Pair, Failure)> {
    let api: Api<Pod> = Api::namespaced(session.client.clone(), &session.namespace);
    let opened = api.portforward(pod, &[pair.remote]).await.map_err(|error| (pair, session.unreachable(error)))?;
    let mut forwarder = opened;
    let Some(mut stream) = forwarder.take_stream(pair.remote) else {
        return Err((pair, Failure::local("the server gave no stream")));
    };
    let refused = forwarder.take_error(pair.remote);
    // Who closes the connection in the midst of it is no error.
    let copied = tokio::io::copy_bidirectional(&mut socket, &mut stream).await;
    drop(stream);
    if let Some(refused) = refused
        && let Some(text) = refused.await
    {
        return Err((pair, Failure::local(text)));
    }
    if let Err(error) = copied {
        tracing::debug!(%error, "a forwarded connection ended");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ports_are_found() {
        let pod = json!({ "metadata": { "name": "p" }, "spec": { "containers": [{ "ports": [{ "name": "http", "containerPort": 8080 }] }] } });
        let service = json!({ "metadata": { "name": "s" }, "spec": { "clusterIP": "10.0.0.1", "ports": [{ "name": "web", "port": 80, "targetPort": "http" }] } });
        let read = |text: &str, service| pair(text, &pod, service).map(|pair| (pair.local, pair.remote)).ok();
        assert_eq!(read("80", None), Some((80, 80)));
        assert_eq!(read("9000:80", None), Some((9000, 80)));
        assert_eq!(read(":80", None), Some((0, 80)));
        assert_eq!(read("http", None), Some((8080, 8080)));
        assert_eq!(read("80", Some(&service)), Some((80, 8080)));
        assert_eq!(read("5000:web", Some(&service)), Some((5000, 8080)));
        assert_eq!(read("81", Some(&service)), None);
        assert_eq!(read("x:80", None), None);
        assert_eq!(read("1:2:3", None), None);
        assert_eq!(read("bogus", None), None);
    }
}
