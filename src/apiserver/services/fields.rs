//! The fields of a Service that allocation reads and fills in; pure.

use crate::api::{FieldError, GroupVersionKind, Path, Status};
use crate::resources::core::service_addresses;
use crate::resources::pipeline::metadata_str;
use serde_json::{Value, json};

/// A Service as allocation sees it.
pub struct Service<'a>(pub &'a Value);

pub fn service_kind() -> GroupVersionKind {
    GroupVersionKind::new("", "v1", "Service")
}

/// `nodePort` of an entry of `spec.ports`, as it was asked for; None: 0 or absent.
pub fn node_port(entry: &Value) -> Option<i64> {
    entry["nodePort"].as_i64().filter(|port| *port != 0)
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().map(|list| list.iter().filter_map(Value::as_str).map(str::to_owned).collect()).unwrap_or_default()
}

impl<'a> Service<'a> {
    fn spec(&self) -> &'a Value {
        &self.0["spec"]
    }

    /// Namespace and name.
    pub fn name(&self) -> (String, String) {
        (metadata_str(self.0, "namespace").to_owned(), metadata_str(self.0, "name").to_owned())
    }

    pub fn kind(&self) -> &'a str {
        self.spec()["type"].as_str().unwrap_or_default()
    }

    pub fn ports(&self) -> &'a [Value] {
        self.spec()["ports"].as_array().map(Vec::as_slice).unwrap_or_default()
    }

    pub fn cluster_ip(&self) -> &'a str {
        self.spec()["clusterIP"].as_str().unwrap_or_default()
    }

    pub fn cluster_ips(&self) -> Vec<String> {
        strings(&self.spec()["clusterIPs"])
    }

    pub fn families(&self) -> usize {
        self.spec()["ipFamilies"].as_array().map_or(0, Vec::len)
    }

    pub fn is_headless(&self) -> bool {
        self.cluster_ip() == "None"
    }

    pub fn needs_cluster_ip(&self) -> bool {
        matches!(self.kind(), "ClusterIP" | "NodePort" | "LoadBalancer")
    }

    /// Those that an IPAddress stands for.
    pub fn owned_ips(&self) -> Vec<String> {
        if !self.needs_cluster_ip() || self.is_headless() {
            return Vec::new();
        }
        let mut addresses = self.cluster_ips();
        if addresses.is_empty() {
            addresses.push(self.cluster_ip().to_owned());
        }
        addresses.retain(|address| !address.is_empty());
        addresses
    }

    pub fn needs_node_ports(&self) -> bool {
        matches!(self.kind(), "NodePort" | "LoadBalancer")
    }

    /// A LoadBalancer may do without.
    pub fn allocates_node_ports(&self) -> bool {
        match self.kind() {
            "NodePort" => true,
            "LoadBalancer" => self.spec()["allocateLoadBalancerNodePorts"].as_bool() != Some(false),
            _ => false,
        }
    }

    /// Each once.
    pub fn node_ports(&self) -> Vec<i64> {
        if !self.needs_node_ports() {
            return Vec::new();
        }
        let mut ports: Vec<i64> = self.ports().iter().filter_map(node_port).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    pub fn needs_health_check_port(&self) -> bool {
        self.kind() == "LoadBalancer" && self.spec()["externalTrafficPolicy"].as_str() == Some("Local")
    }

    pub fn health_check_port(&self) -> Option<i64> {
        if !self.needs_health_check_port() {
            return None;
        }
        self.spec()["healthCheckNodePort"].as_i64().filter(|port| *port != 0)
    }
}

/// What the client left out of an update stays as it was allocated.
pub fn keep_allocated(object: &mut Value, old: &Value) {
    let before = Service(old);
    if !object["spec"].is_object() {
        return;
    }
    let now = Service(object);
    let both_cluster_ips = now.needs_cluster_ip() && before.needs_cluster_ip();
    let both_node_ports = now.needs_node_ports() && before.needs_node_ports();
    let both_health = now.needs_health_check_port() && before.needs_health_check_port();
    let keep_ip = both_cluster_ips && now.cluster_ip().is_empty();
    let lost_health = both_health && now.health_check_port().is_none();
    if keep_ip && !before.cluster_ip().is_empty() {
        object["spec"]["clusterIP"] = json!(before.cluster_ip());
    }
    let same = Service(object).cluster_ip() == before.cluster_ip();
    if both_cluster_ips && Service(object).cluster_ips().is_empty() && same && !before.cluster_ips().is_empty() {
        object["spec"]["clusterIPs"] = json!(before.cluster_ips());
    }
    if both_node_ports {
        let now = Service(object).node_ports();
        let used: Vec<i64> = before.node_ports().into_iter().filter(|port| now.contains(port)).collect();
        let count = Service(object).ports().len();
        for index in 0..count {
            let entry = Service(object).ports()[index].clone();
            if node_port(&entry).is_some() {
                continue;
            }
            // By name: all else of the port may have changed.
            let name = |entry: &Value| entry["name"].as_str().unwrap_or_default().to_owned();
            let same = |other: &&Value| name(other) == name(&entry);
            if let Some(port) = before.ports().iter().rfind(same).and_then(node_port)
                && !used.contains(&port)
            {
                object["spec"]["ports"][index]["nodePort"] = json!(port);
            }
        }
    }
    if lost_health && let Some(port) = before.health_check_port() {
        object["spec"]["healthCheckNodePort"] = json!(port);
    }
}

/// clusterIP and clusterIPs say the same: what a client changed wins.
pub fn normalize_cluster_ips(object: &mut Value, old: Option<&Value>) {
    let now = Service(object);
    let (ip, mut ips) = (now.cluster_ip().to_owned(), now.cluster_ips());
    let given = ips.clone();
    match old {
        None => {
            if !ip.is_empty() && ips.is_empty() {
                ips = vec![ip];
            }
        }
        Some(old) => {
            let before = Service(old);
            let (old_ip, old_ips) = (before.cluster_ip(), before.cluster_ips());
            if ip.is_empty() && !old_ip.is_empty() && ips == old_ips {
                ips = Vec::new();
            } else if ip != old_ip && ips == old_ips {
                if ips.is_empty() {
                    ips.push(ip);
                } else {
                    ips[0] = ip;
                }
            }
        }
    }
    if ips == given {
        return;
    }
    if let Some(spec) = object["spec"].as_object_mut() {
        if ips.is_empty() {
            spec.remove("clusterIPs");
        } else {
            spec.insert("clusterIPs".to_owned(), json!(ips));
        }
    }
}

/// ipFamilyPolicy and ipFamilies of a cluster with IPv4 Services only.
pub fn default_families(object: &mut Value, old: Option<&Value>) -> Result<(), Status> {
    let service = Service(object);
    if service.kind() == "ExternalName" || !object["spec"].is_object() {
        return Ok(());
    }
    let kept = old.map(|old| &old["spec"]).filter(|spec| spec["type"].as_str() != Some("ExternalName"));
    for name in ["ipFamilyPolicy", "ipFamilies"] {
        if object["spec"][name].is_null()
            && let Some(value) = kept.map(|spec| &spec[name]).filter(|value| !value.is_null())
        {
            object["spec"][name] = value.clone();
        }
    }
    let service = Service(object);
    let (_, name) = service.name();
    let mut errors = Vec::new();
    service_addresses::validate(object, old, &mut errors);
    if !errors.is_empty() {
        return Err(Status::invalid(&service_kind(), &name, &errors));
    }
    let root = Path::new("spec");
    let headless_free =
        service.is_headless() && object["spec"]["selector"].as_object().is_none_or(serde_json::Map::is_empty);
    let families = strings(&object["spec"]["ipFamilies"]);
    if headless_free {
        // Whoever writes the endpoints chooses the families: nothing is allocated for them.
        if object["spec"]["ipFamilyPolicy"].is_null() {
            object["spec"]["ipFamilyPolicy"] = json!("RequireDualStack");
        }
        let first = families.first().map_or("IPv4", String::as_str).to_owned();
        if families.is_empty() {
            object["spec"]["ipFamilies"] = json!([first]);
        }
        if families.len() < 2 && object["spec"]["ipFamilyPolicy"] != "SingleStack" {
            let second = if first == "IPv4" { "IPv6" } else { "IPv4" };
            object["spec"]["ipFamilies"] = json!([first, second]);
        }
        return Ok(());
    }
    if object["spec"]["ipFamilyPolicy"] == "RequireDualStack" {
        let detail = "this cluster is not configured for dual-stack services";
        errors.push(FieldError::invalid(&root.child("ipFamilyPolicy"), "RequireDualStack", detail));
    }
    if families.len() > 1 && object["spec"]["ipFamilyPolicy"] == "SingleStack" {
        let detail = "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified";
        errors.push(FieldError::invalid(&root.child("ipFamilyPolicy"), "SingleStack", detail));
        return Err(Status::invalid(&service_kind(), &name, &errors));
    }
    for (index, family) in families.iter().enumerate().filter(|(_, family)| *family == "IPv6") {
        let list = root.child("ipFamilies");
        errors.push(FieldError::invalid(&list.index(index), family.as_str(), "not configured on this cluster"));
    }
    if !errors.is_empty() {
        return Err(Status::invalid(&service_kind(), &name, &errors));
    }
    if object["spec"]["ipFamilyPolicy"].is_null() {
        object["spec"]["ipFamilyPolicy"] = json!("SingleStack");
    }
    if families.is_empty() {
        object["spec"]["ipFamilies"] = json!(["IPv4"]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_keeps_what_was_allocated() {
        let old = json!({"spec": {
            "type": "NodePort", "clusterIP": "10.43.0.7", "clusterIPs": ["10.43.0.7"],
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30001}]
        }});
        let mut new = json!({"spec": {
            "type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}, {"name": "b", "port": 81, "protocol": "TCP"}]
        }});
        keep_allocated(&mut new, &old);
        normalize_cluster_ips(&mut new, Some(&old));
        assert_eq!(new["spec"]["clusterIPs"], json!(["10.43.0.7"]));
        assert_eq!(Service(&new).node_ports(), [30001]);
    }

    #[test]
    fn a_changed_cluster_ip_changes_the_list() {
        let old = json!({"spec": {"type": "ClusterIP", "clusterIP": "10.43.0.7", "clusterIPs": ["10.43.0.7"]}});
        let mut new = json!({"spec": {"type": "ClusterIP", "clusterIP": "10.43.0.8", "clusterIPs": ["10.43.0.7"]}});
        normalize_cluster_ips(&mut new, Some(&old));
        assert_eq!(new["spec"]["clusterIPs"], json!(["10.43.0.8"]));
    }

    #[test]
    fn families_of_a_single_stack_cluster() {
        let mut service = json!({"metadata": {"name": "s"}, "spec": {"type": "ClusterIP"}});
        default_families(&mut service, None).expect("fits");
        assert_eq!(
            service["spec"],
            json!({"type": "ClusterIP", "ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"]})
        );
        let mut dual =
            json!({"metadata": {"name": "s"}, "spec": {"type": "ClusterIP", "ipFamilyPolicy": "RequireDualStack"}});
        assert_eq!(default_families(&mut dual, None).expect_err("not dual").code, 422);
    }
}
