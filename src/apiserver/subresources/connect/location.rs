//! Where a pod's containers, a node or a Service's endpoint is.

use crate::api::{GroupResource, Status};
use crate::client::dialer::{Connection, Destination, Kubelet};
use crate::storage::{Key, Prefix, Storage};
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

const KUBELET_PORT: u16 = 10250;

pub struct Locator {
    pub kubelet: Kubelet,
    pub storage: Arc<dyn Storage>,
}

/// The kubelet that runs a pod.
pub struct NodeAddress {
    pub name: String,
    pub address: SocketAddr,
}

fn core(plural: &str) -> GroupResource {
    GroupResource::new("", plural)
}

/// The text at a path; empty: none.
pub fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

impl Locator {
    pub fn get(&self, plural: &str, namespace: &str, name: &str) -> Result<Value, Status> {
        let resource = core(plural);
        let entry = self.storage.get(&Key::new(&resource, namespace, name));
        Ok(entry.ok_or_else(|| Status::not_found(&resource, name))?.body.parse())
    }

    /// The address of a node's kubelet, by name.
    pub fn node(&self, name: &str) -> Result<NodeAddress, Status> {
        let node = self.get("nodes", "", name)?;
        let addresses = node["status"]["addresses"].as_array().map_or(&[][..], Vec::as_slice);
        let of = |kind: &str| {
            let found = addresses.iter().filter(|address| address["type"] == kind);
            found.filter_map(|address| text(address, "/address").parse::<IpAddr>().ok()).next()
        };
        let Some(ip) = of("InternalIP").or_else(|| of("ExternalIP")) else {
            return Err(Status::internal(format!("no preferred addresses found; known addresses: [] of node {name}")));
        };
        let port = node.pointer("/status/daemonEndpoints/kubeletEndpoint/Port").and_then(Value::as_u64);
        let port = port.and_then(|port| u16::try_from(port).ok()).filter(|&port| port > 0).unwrap_or(KUBELET_PORT);
        Ok(NodeAddress { name: name.to_owned(), address: SocketAddr::new(ip, port) })
    }

    /// The kubelet of a pod. `Ok(None)`: it is on no node yet.
    pub fn node_of(&self, pod: &Value) -> Result<Option<NodeAddress>, Status> {
        match text(pod, "/spec/nodeName") {
            "" => Ok(None),
            // Kubernetes names the node as if it were a pod.
            name => match self.node(name) {
                Err(status) if status.is_not_found() => Err(Status::not_found(&core("pods"), name)),
                found => found.map(Some),
            },
        }
    }

    pub async fn connect_kubelet(&self, node: &NodeAddress) -> Result<Connection, Status> {
        self.kubelet.connect(&node.name, node.address).await.map_err(|error| dial_error(node.address, &error))
    }

    pub async fn connect(&self, destination: &Destination) -> Result<Connection, Status> {
        let dialer = self.kubelet.dialer();
        dialer.dial(destination).await.map_err(|error| dial_error(destination.address, &error))
    }

    pub fn service_endpoint(&self, namespace: &str, name: &str, port: &str) -> Result<Destination, Status> {
        service_endpoint(&*self.storage, namespace, name, port)
    }
}

/// A ready endpoint of a Service's port (by name or number; empty: its only one).
pub fn service_endpoint(storage: &dyn Storage, namespace: &str, name: &str, port: &str) -> Result<Destination, Status> {
    let resource = core("services");
    let service = storage.get(&Key::new(&resource, namespace, name));
    let service = service.ok_or_else(|| Status::not_found(&resource, name))?.body.parse();
    let ports = service["spec"]["ports"].as_array().map_or(&[][..], Vec::as_slice);
    let wanted = match port {
        "" if ports.len() == 1 => ports.first(),
        "" => None,
        port => ports.iter().find(|one| text(one, "/name") == port || one["port"].to_string() == port),
    };
    let unavailable = |what: String| Status::service_unavailable(what);
    let Some(wanted) = wanted else {
        return Err(unavailable(format!(
            "no service port {} found for service {}",
            crate::api::field::go_quote(port),
            crate::api::field::go_quote(name)
        )));
    };
    let port_name = text(wanted, "/name");
    let slices = GroupResource::new("discovery.k8s.io", "endpointslices");
    let snapshot = storage.snapshot();
    for entry in snapshot.range(&Prefix::namespace(&slices, namespace), None) {
        let slice = entry.body.parse();
        if text(&slice, "/metadata/labels/kubernetes.io~1service-name") != name {
            continue;
        }
        let ports = slice["ports"].as_array().into_iter().flatten();
        let Some(port) = ports
            .filter(|one| text(one, "/name") == port_name)
            .find_map(|one| u16::try_from(one["port"].as_u64()?).ok())
        else {
            continue;
        };
        for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
            if endpoint["conditions"]["ready"] == false {
                continue;
            }
            let address = endpoint["addresses"][0].as_str().and_then(|address| address.parse::<IpAddr>().ok());
            if let Some(ip) = address {
                let node = text(endpoint, "/nodeName");
                return Ok(Destination {
                    node: (!node.is_empty()).then(|| node.to_owned()),
                    address: SocketAddr::new(ip, port),
                });
            }
        }
    }
    Err(unavailable(format!("no endpoints available for service {}", crate::api::field::go_quote(name))))
}

pub fn dial_error(address: SocketAddr, error: &std::io::Error) -> Status {
    let text = match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        _ => error.to_string(),
    };
    Status::service_unavailable(format!("error trying to reach service: dial tcp {address}: {text}"))
}

/// The container that is meant: the named one, or the only one.
pub fn container(pod: &Value, wanted: &str) -> Result<String, Status> {
    let list = |field: &str| -> Vec<&str> {
        let containers = pod["spec"][field].as_array().into_iter().flatten();
        containers.map(|container| text(container, "/name")).collect()
    };
    let mut all = list("initContainers");
    let regular = list("containers");
    all.extend(&regular);
    all.extend(list("ephemeralContainers"));
    let pod_name = text(pod, "/metadata/name");
    if !wanted.is_empty() {
        return if all.contains(&wanted) {
            Ok(wanted.to_owned())
        } else {
            Err(Status::bad_request(format!("container {wanted} is not valid for pod {pod_name}")))
        };
    }
    match regular.as_slice() {
        [one] => Ok((*one).to_owned()),
        [] => Err(Status::bad_request(format!("a container name must be specified for pod {pod_name}"))),
        _ => Err(Status::bad_request(format!(
            "a container name must be specified for pod {pod_name}, choose one of: [{}]",
            all.join(" ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_container_is_chosen_or_asked_for() {
        let pod = |containers: &[&str]| {
            let list: Vec<Value> = containers.iter().map(|name| json!({"name": name})).collect();
            json!({"metadata": {"name": "web"}, "spec": {"containers": list, "initContainers": [{"name": "i"}]}})
        };
        let check = |containers: &[&str], wanted: &str, result: Result<&str, &str>| {
            let found = container(&pod(containers), wanted);
            assert_eq!(found.as_deref().map_err(|status| status.message.as_str()), result);
        };
        check(&["a"], "", Ok("a"));
        check(&["a", "b"], "b", Ok("b"));
        check(&["a", "b"], "i", Ok("i"));
        check(&["a", "b"], "", Err("a container name must be specified for pod web, choose one of: [i a b]"));
        check(&["a", "b"], "c", Err("container c is not valid for pod web"));
        check(&[], "", Err("a container name must be specified for pod web"));
    }
}
