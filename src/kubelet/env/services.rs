//! Environment variables of Services: `REDIS_SERVICE_HOST` and the older link form.

use std::collections::BTreeMap;

/// What the variables need of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceRecord {
    pub namespace: String,
    pub name: String,
    pub cluster_ip: String,
    pub ports: Vec<ServicePort>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServicePort {
    pub name: String,
    pub port: i32,
    /// `TCP`, `UDP`, `SCTP`.
    pub protocol: String,
}

/// Variables for the Services of `namespace` (where `links`) and for `default/kubernetes`.
pub fn variables(services: &[ServiceRecord], namespace: &str, links: bool) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let own = |service: &&ServiceRecord| links && service.namespace == namespace;
    let api = |service: &&ServiceRecord| service.namespace == "default" && service.name == "kubernetes";
    // A Service `kubernetes` of the pod's own namespace comes before the API's.
    let chosen = services.iter().filter(api).chain(services.iter().filter(own));
    for service in chosen {
        if service.cluster_ip.is_empty() || service.cluster_ip == "None" {
            continue;
        }
        add(service, &mut out);
    }
    out
}

fn add(service: &ServiceRecord, out: &mut BTreeMap<String, String>) {
    let name = service.name.to_uppercase().replace('-', "_");
    let Some(first) = service.ports.first() else { return };
    let host = &service.cluster_ip;
    let in_url = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    out.insert(format!("{name}_SERVICE_HOST"), host.clone());
    out.insert(format!("{name}_SERVICE_PORT"), first.port.to_string());
    for port in service.ports.iter().filter(|port| !port.name.is_empty()) {
        let port_name = port.name.to_uppercase().replace('-', "_");
        out.insert(format!("{name}_SERVICE_PORT_{port_name}"), port.port.to_string());
    }
    for (index, port) in service.ports.iter().enumerate() {
        let protocol = if port.protocol.is_empty() { "TCP" } else { &port.protocol };
        let lower = protocol.to_lowercase();
        let url = format!("{lower}://{in_url}:{}", port.port);
        if index == 0 {
            out.insert(format!("{name}_PORT"), url.clone());
        }
        let prefix = format!("{name}_PORT_{}_{}", port.port, protocol.to_uppercase());
        out.insert(format!("{prefix}_PROTO"), lower);
        out.insert(format!("{prefix}_PORT"), port.port.to_string());
        out.insert(format!("{prefix}_ADDR"), host.clone());
        out.insert(prefix, url);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(namespace: &str, name: &str, ip: &str) -> ServiceRecord {
        let ports = vec![ServicePort { name: "db".into(), port: 6379, protocol: "TCP".into() }];
        ServiceRecord { namespace: namespace.into(), name: name.into(), cluster_ip: ip.into(), ports }
    }

    #[test]
    fn link_variables() {
        let services = [
            service("shop", "redis-main", "10.43.0.5"),
            service("shop", "headless", "None"),
            service("other", "far", "10.43.0.7"),
            service("default", "kubernetes", "10.43.0.1"),
        ];
        let with_links = variables(&services, "shop", true);
        let text: Vec<String> = with_links
            .iter()
            .filter(|(name, _)| name.starts_with("REDIS"))
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        expect_test::expect![[r#"
            REDIS_MAIN_PORT=tcp://10.43.0.5:6379
            REDIS_MAIN_PORT_6379_TCP=tcp://10.43.0.5:6379
            REDIS_MAIN_PORT_6379_TCP_ADDR=10.43.0.5
            REDIS_MAIN_PORT_6379_TCP_PORT=6379
            REDIS_MAIN_PORT_6379_TCP_PROTO=tcp
            REDIS_MAIN_SERVICE_HOST=10.43.0.5
            REDIS_MAIN_SERVICE_PORT=6379
            REDIS_MAIN_SERVICE_PORT_DB=6379"#]]
        .assert_eq(&text.join("\n"));
        assert!(with_links.contains_key("KUBERNETES_SERVICE_HOST"));
        assert!(!with_links.keys().any(|name| name.starts_with("FAR") || name.starts_with("HEADLESS")));
        let without = variables(&services, "shop", false);
        assert!(without.keys().all(|name| name.starts_with("KUBERNETES")), "{without:?}");
    }
}
