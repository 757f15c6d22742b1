//! One attempt of a probe, by its kind of handler.

use super::{grpc, http};
use crate::api::cri::CriError;
use crate::kubelet::worker::Shared;
use k8s_openapi::api::core::v1::{Container, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::time::Duration;

/// Bytes of a probe's output that an event shows.
const MAX_OUTPUT: usize = 10 << 10;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// Good, but there is something to tell.
    Warning(String),
    Failure(String),
    /// The probe could not be made.
    Error(String),
}

/// The number of a port that may be given by name.
pub fn port_number(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|port| port.name.as_deref() == Some(name));
            match named {
                Some(port) => port.container_port,
                None => name.parse().map_err(|_| format!("couldn't find port: {name}"))?,
            }
        }
    };
    u16::try_from(number).ok().filter(|&number| number > 0).ok_or_else(|| format!("invalid port number: {number}"))
}

pub async fn attempt(shared: &Shared, container: &Container, id: &str, probe: &Probe) -> Outcome {
    let timeout = Duration::from_secs(u64::try_from(probe.timeout_seconds.unwrap_or(1)).unwrap_or(1).max(1));
    let pod_ip = || shared.addresses().pod.into_iter().next();
    if let Some(exec) = &probe.exec {
        let lookup = |name: &str| {
            container.env.iter().flatten().find(|variable| variable.name == name).and_then(|v| v.value.clone())
        };
        let command: Vec<String> =
            exec.command.iter().flatten().map(|part| crate::kubelet::env::expand(part, lookup)).collect();
        return exec_probe(shared, id, &command, timeout).await;
    }
    if let Some(action) = &probe.http_get {
        let host = action.host.clone().filter(|host| !host.is_empty()).or_else(pod_ip);
        let (Some(host), port) = (host, port_number(&action.port, container)) else {
            return Outcome::Error("the pod has no address".to_owned());
        };
        let port = match port {
            Ok(port) => port,
            Err(error) => return Outcome::Error(error),
        };
        return http::probe(&http::Target::of(action, &host, port), timeout).await;
    }
    if let Some(action) = &probe.tcp_socket {
        let host = action.host.clone().filter(|host| !host.is_empty()).or_else(pod_ip);
        let Some(host) = host else { return Outcome::Error("the pod has no address".to_owned()) };
        return match port_number(&action.port, container) {
            Ok(port) => tcp(&host, port, timeout).await,
            Err(error) => Outcome::Error(error),
        };
    }
    if let Some(action) = &probe.grpc {
        let (Some(host), Ok(port)) = (pod_ip(), u16::try_from(action.port)) else {
            return Outcome::Error("the pod has no address".to_owned());
        };
        return grpc::probe(&host, port, action.service.as_deref().unwrap_or_default(), timeout).await;
    }
    Outcome::Error("missing probe handler".to_owned())
}

async fn exec_probe(shared: &Shared, id: &str, command: &[String], timeout: Duration) -> Outcome {
    match shared.context.runtime.exec_sync(id, command, timeout).await {
        Ok(output) => {
            let mut text = output.stdout;
            text.extend_from_slice(&output.stderr);
            text.truncate(MAX_OUTPUT);
            if output.exit_code == 0 {
                Outcome::Success
            } else {
                Outcome::Failure(String::from_utf8_lossy(&text).into_owned())
            }
        }
        Err(CriError::DeadlineExceeded(_)) => {
            let command: Vec<String> = command.iter().map(|part| format!("{part:?}")).collect();
            let timeout = timeout.as_secs();
            Outcome::Failure(format!("command timed out: {} timed out after {timeout}s", command.join(" ")))
        }
        Err(error) => Outcome::Error(error.to_string()),
    }
}

async fn tcp(host: &str, port: u16, timeout: Duration) -> Outcome {
    match http::connect(host, port, timeout).await {
        Ok(_) => Outcome::Success,
        Err(error) => Outcome::Failure(error),
    }
}
