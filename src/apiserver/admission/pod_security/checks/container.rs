//! Checks of what each container says.

use super::{Pod, Violation, containers, items, plural, quoted, text, violation};
use serde_json::Value;
use std::collections::BTreeSet;

fn context(container: &Value) -> &Value {
    &container["securityContext"]
}

const DEFAULT_CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// The containers that add a capability which is not allowed, and which ones those are.
fn added(pod: &Pod<'_>, allowed: &[&str]) -> (Vec<String>, BTreeSet<String>) {
    let mut forbidden = BTreeSet::new();
    let bad = pod.bad(|container| {
        let mut found = false;
        for capability in items(&context(container)["capabilities"]["add"]).iter().filter_map(Value::as_str) {
            if !allowed.contains(&capability) {
                found = true;
                forbidden.insert(capability.to_owned());
            }
        }
        found
    });
    (bad, forbidden)
}

pub fn capabilities_baseline(pod: &Pod<'_>) -> Option<Violation> {
    let (bad, forbidden) = added(pod, DEFAULT_CAPABILITIES);
    if bad.is_empty() {
        return None;
    }
    let detail =
        format!("{} must not include {} in securityContext.capabilities.add", containers(&bad), quoted(&forbidden));
    violation("non-default capabilities", detail)
}

pub fn capabilities_restricted(pod: &Pod<'_>) -> Option<Violation> {
    if pod.minor >= 25 && pod.is_windows() {
        return None;
    }
    let missing =
        pod.bad(|container| !items(&context(container)["capabilities"]["drop"]).iter().any(|dropped| dropped == "ALL"));
    let (adding, forbidden) = added(pod, &["NET_BIND_SERVICE"]);
    let mut details = Vec::new();
    if !missing.is_empty() {
        details.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", containers(&missing)));
    }
    if !adding.is_empty() {
        details.push(format!(
            "{} must not include {} in securityContext.capabilities.add",
            containers(&adding),
            quoted(&forbidden)
        ));
    }
    if details.is_empty() { None } else { violation("unrestricted capabilities", details.join("; ")) }
}

pub fn host_ports(pod: &Pod<'_>) -> Option<Violation> {
    let mut ports = BTreeSet::new();
    let bad = pod.bad(|container| {
        let own: Vec<String> = items(&container["ports"])
            .iter()
            .filter_map(|port| port["hostPort"].as_i64())
            .filter(|&port| port != 0)
            .map(|port| port.to_string())
            .collect();
        let found = !own.is_empty();
        ports.extend(own);
        found
    });
    if bad.is_empty() {
        return None;
    }
    let list = ports.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let detail = format!(
        "{} {} {} {list}",
        containers(&bad),
        plural("uses", "use", bad.len()),
        plural("hostPort", "hostPorts", ports.len())
    );
    violation("hostPort", detail)
}

const HANDLERS: &[&str] =
    &["/livenessProbe", "/readinessProbe", "/startupProbe", "/lifecycle/postStart", "/lifecycle/preStop"];

pub fn probe_hosts(pod: &Pod<'_>) -> Option<Violation> {
    let mut hosts = BTreeSet::new();
    let bad: BTreeSet<String> = pod
        .bad(|container| {
            let own: Vec<String> = HANDLERS
                .iter()
                .filter_map(|path| container.pointer(path))
                .flat_map(|handler| [text(handler, "/httpGet/host"), text(handler, "/tcpSocket/host")])
                .filter(|host| !host.is_empty())
                .map(str::to_owned)
                .collect();
            let found = !own.is_empty();
            hosts.extend(own);
            found
        })
        .into_iter()
        .collect();
    if bad.is_empty() {
        return None;
    }
    let names: Vec<String> = bad.into_iter().collect();
    let detail = format!(
        "{} {} {} {}",
        containers(&names),
        plural("uses", "use", names.len()),
        plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len()),
        quoted(&hosts)
    );
    violation("probe or lifecycle host", detail)
}

pub fn privileged(pod: &Pod<'_>) -> Option<Violation> {
    let bad = pod.bad(|container| context(container)["privileged"] == true);
    if bad.is_empty() {
        return None;
    }
    violation("privileged", format!("{} must not set securityContext.privileged=true", containers(&bad)))
}

pub fn proc_mount_baseline(pod: &Pod<'_>) -> Option<Violation> {
    if pod.minor >= 35 && pod.is_in_user_namespace() { None } else { proc_mount(pod) }
}

pub fn proc_mount(pod: &Pod<'_>) -> Option<Violation> {
    let mut kinds = BTreeSet::new();
    let bad = pod.bad(|container| match context(container)["procMount"].as_str() {
        None | Some("Default") => false,
        Some(kind) => {
            kinds.insert(kind.to_owned());
            true
        }
    });
    if bad.is_empty() {
        return None;
    }
    let detail = format!("{} must not set securityContext.procMount to {}", containers(&bad), quoted(&kinds));
    violation("procMount", detail)
}

pub fn privilege_escalation(pod: &Pod<'_>) -> Option<Violation> {
    if pod.minor >= 25 && pod.is_windows() {
        return None;
    }
    let bad = pod.bad(|container| context(container)["allowPrivilegeEscalation"] != false);
    if bad.is_empty() {
        return None;
    }
    let detail = format!("{} must set securityContext.allowPrivilegeEscalation=false", containers(&bad));
    violation("allowPrivilegeEscalation != false", detail)
}
