//! Values that a pod may know of itself: `fieldRef` and `resourceFieldRef`, for environment
//! variables and downward API files.

use crate::kubelet::pod;
use crate::kubelet::resources::{self, ResourceList};
use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Addresses that are known only once the sandbox runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    pub pod: Vec<String>,
    pub host: Vec<String>,
}

/// The value at `path`, or Kubernetes's message of why there is none.
pub fn field(pod: &Pod, path: &str, addresses: &Addresses) -> Result<String, String> {
    let metadata = &pod.metadata;
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => &metadata.labels,
            "metadata.annotations" => &metadata.annotations,
            _ => return Err(format!("fieldPath {path:?} does not support subscript")),
        };
        return Ok(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    let first = |list: &[String]| list.first().cloned().unwrap_or_default();
    let spec = pod.spec.as_ref();
    Ok(match path {
        "metadata.name" => metadata.name.clone().unwrap_or_default(),
        "metadata.namespace" => metadata.namespace.clone().unwrap_or_default(),
        "metadata.uid" => metadata.uid.clone().unwrap_or_default(),
        "metadata.labels" => format_map(metadata.labels.as_ref()),
        "metadata.annotations" => format_map(metadata.annotations.as_ref()),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default(),
        "status.hostIP" => first(&addresses.host),
        "status.hostIPs" => addresses.host.join(","),
        "status.podIP" => first(&addresses.pod),
        "status.podIPs" => addresses.pod.join(","),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

/// `metadata.labels['key']` into its parts.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// One `key="value"` a line, sorted, as the downward API writes maps.
fn format_map(map: Option<&BTreeMap<String, String>>) -> String {
    let mut out = String::new();
    for (key, value) in map.into_iter().flatten() {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(key);
        out.push('=');
        quote(value, &mut out);
    }
    out
}

/// A double-quoted string with Go's escapes.
fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// The value of a `resourceFieldRef`. A limit that is not set is what the node can allocate.
pub fn resource(
    pod: &Pod,
    own: &Container,
    selector: &ResourceFieldSelector,
    allocatable: &ResourceList,
) -> Result<String, String> {
    let named = match selector.container_name.as_deref().filter(|name| !name.is_empty()) {
        None => None,
        Some(name) => {
            let found = pod::find_container(pod, name);
            Some(found.ok_or_else(|| format!("container {name} not found"))?.1.into_owned())
        }
    };
    let container = named.as_ref().unwrap_or(own);
    let unsupported = || format!("unsupported container resource : {}", selector.resource);
    let (kind, name) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    let quantity = match kind {
        "limits" => resources::limit(container, name).or_else(|| {
            matches!(name, "cpu" | "memory" | "ephemeral-storage").then(|| allocatable.get(name)).flatten()
        }),
        "requests" => resources::request(container, name),
        _ => return Err(unsupported()),
    };
    let Some(quantity) = quantity else { return Ok("0".to_owned()) };
    let amount = resources::milli_value(quantity);
    let divisor = selector.divisor.as_ref().map(resources::milli_value).filter(|&divisor| divisor > 0).unwrap_or(1000);
    // Whole units before the division, except for CPU: that is how the API defines it.
    let amount = if name == "cpu" { amount } else { resources::value(quantity).saturating_mul(1000) };
    Ok(((i128::from(amount) + i128::from(divisor) - 1) / i128::from(divisor)).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
    use serde_json::json;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "u1",
                "labels": {"b": "2", "a": "1 \"x\"\n"}, "annotations": {"k.io/n": "v"}},
            "spec": {"nodeName": "n1", "serviceAccountName": "sa", "containers": [
                {"name": "c", "resources": {"limits": {"cpu": "1500m", "memory": "64Mi"}, "requests": {"cpu": "250m"}}},
                {"name": "d"}]}}))
        .expect("a pod")
    }

    #[test]
    fn fields() {
        let pod = pod();
        let addresses = Addresses { pod: vec!["10.42.0.9".into(), "fd00::9".into()], host: vec!["192.0.2.1".into()] };
        for (path, want) in [
            ("metadata.name", "web"),
            ("metadata.labels", "a=\"1 \\\"x\\\"\\n\"\nb=\"2\""),
            ("metadata.labels['b']", "2"),
            ("metadata.annotations['k.io/n']", "v"),
            ("metadata.annotations['none']", ""),
            ("spec.serviceAccountName", "sa"),
            ("status.podIP", "10.42.0.9"),
            ("status.podIPs", "10.42.0.9,fd00::9"),
            ("status.hostIP", "192.0.2.1"),
        ] {
            assert_eq!(field(&pod, path, &addresses).as_deref(), Ok(want), "{path}");
        }
        assert!(field(&pod, "spec.volumes", &addresses).is_err());
    }

    #[test]
    fn resource_values_round_up_and_fall_back_to_the_node() {
        let pod = pod();
        let containers = pod::regular_containers(&pod);
        let allocatable = ResourceList::from([("memory".to_owned(), Quantity("1Gi".to_owned()))]);
        let value = |container: usize, resource_name: &str, divisor: Option<&str>| {
            let selector = ResourceFieldSelector {
                container_name: None,
                divisor: divisor.map(|divisor| Quantity(divisor.to_owned())),
                resource: resource_name.to_owned(),
            };
            resource(&pod, &containers[container], &selector, &allocatable).expect("a value")
        };
        assert_eq!(value(0, "limits.cpu", None), "2");
        assert_eq!(value(0, "limits.cpu", Some("1m")), "1500");
        assert_eq!(value(0, "limits.memory", Some("1Mi")), "64");
        assert_eq!(value(0, "requests.cpu", Some("1m")), "250");
        assert_eq!(value(1, "limits.memory", None), "1073741824");
        assert_eq!(value(1, "requests.memory", None), "0");
    }
}
