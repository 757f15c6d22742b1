//! The checks of the Pod Security Standards: one function each, one row of [`CHECKS`] each.

mod container;
mod inherited;
mod pod;

use super::policy::{Level, LevelVersion};
use super::{items, text};
use serde_json::Value;

/// What a check has found.
#[derive(Debug, PartialEq, Eq)]
pub struct Violation {
    reason: String,
    /// Empty: the reason says it all.
    detail: String,
}

/// What a check looks at.
pub struct Pod<'a> {
    pub metadata: &'a Value,
    pub spec: &'a Value,
    /// The release whose rules hold.
    pub minor: u32,
}

type Check = fn(&Pod<'_>) -> Option<Violation>;

struct Row {
    /// Errors are in this order.
    id: &'static str,
    level: Level,
    /// The first release that has it.
    since: u32,
    /// A check that this one takes the place of.
    overrides: &'static str,
    check: Check,
}

const fn row(id: &'static str, level: Level, since: u32, overrides: &'static str, check: Check) -> Row {
    Row { id, level, since, overrides, check }
}

/// Baseline first, each level by id.
const CHECKS: &[Row] = &[
    row("appArmorProfile", Level::Baseline, 0, "", inherited::app_armor),
    row("capabilities_baseline", Level::Baseline, 0, "", container::capabilities_baseline),
    row("hostNamespaces", Level::Baseline, 0, "", pod::host_namespaces),
    row("hostPathVolumes", Level::Baseline, 0, "", pod::host_path_volumes),
    row("hostPorts", Level::Baseline, 0, "", container::host_ports),
    row("hostProbesAndHostLifecycle", Level::Baseline, 34, "", container::probe_hosts),
    row("privileged", Level::Baseline, 0, "", container::privileged),
    row("procMount", Level::Baseline, 0, "", container::proc_mount_baseline),
    row("seLinuxOptions", Level::Baseline, 0, "", inherited::selinux),
    row("seccompProfile_baseline", Level::Baseline, 0, "", inherited::seccomp_baseline),
    row("sysctls", Level::Baseline, 0, "", pod::sysctls),
    row("windowsHostProcess", Level::Baseline, 0, "", inherited::windows_host_process),
    row("allowPrivilegeEscalation", Level::Restricted, 8, "", container::privilege_escalation),
    row("capabilities_restricted", Level::Restricted, 22, "capabilities_baseline", container::capabilities_restricted),
    row("procMount_restricted", Level::Restricted, 35, "procMount", container::proc_mount),
    row("restrictedVolumes", Level::Restricted, 0, "hostPathVolumes", pod::restricted_volumes),
    row("runAsNonRoot", Level::Restricted, 0, "", inherited::run_as_non_root),
    row("runAsUser", Level::Restricted, 23, "", inherited::run_as_user),
    row("seccompProfile_restricted", Level::Restricted, 19, "seccompProfile_baseline", inherited::seccomp_restricted),
];

/// What a pod violates of a level.
pub fn evaluate(wanted: LevelVersion, metadata: &Value, spec: &Value) -> Vec<Violation> {
    let pod = Pod { metadata, spec, minor: wanted.version.minor() };
    let active = |row: &&Row| row.level <= wanted.level && row.since <= pod.minor;
    let overridden = |id: &str| CHECKS.iter().filter(active).any(|row| row.overrides == id);
    CHECKS.iter().filter(active).filter(|row| !overridden(row.id)).filter_map(|row| (row.check)(&pod)).collect()
}

/// `host namespaces (hostNetwork=true), privileged (…)`
pub fn details(found: &[Violation]) -> String {
    let texts: Vec<String> = found
        .iter()
        .map(|one| if one.detail.is_empty() { one.reason.clone() } else { format!("{} ({})", one.reason, one.detail) })
        .collect();
    texts.join(", ")
}

pub fn reasons(found: &[Violation]) -> String {
    found.iter().map(|one| one.reason.as_str()).collect::<Vec<_>>().join(", ")
}

impl Pod<'_> {
    /// All containers in Kubernetes's order.
    fn containers(&self) -> impl Iterator<Item = &Value> {
        ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(|list| items(&self.spec[list]))
    }

    /// The names of the containers that a test picks.
    fn bad(&self, mut test: impl FnMut(&Value) -> bool) -> Vec<String> {
        self.containers().filter(|one| test(one)).map(|one| text(one, "/name").to_owned()).collect()
    }

    fn is_windows(&self) -> bool {
        text(self.spec, "/os/name") == "windows"
    }

    /// In a user namespace root is nobody.
    fn is_in_user_namespace(&self) -> bool {
        self.spec["hostUsers"] == false
    }
}

fn violation(reason: &str, detail: String) -> Option<Violation> {
    Some(Violation { reason: reason.to_owned(), detail })
}

fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

/// `"a", "b"`
fn quoted<T: AsRef<str>>(list: impl IntoIterator<Item = T>) -> String {
    list.into_iter().map(|one| format!("\"{}\"", one.as_ref())).collect::<Vec<_>>().join(", ")
}

/// `containers "a", "b"`
fn containers(names: &[String]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names))
}

/// `pod and container "a"`: who has set something.
fn setters(pod: bool, names: &[String]) -> Option<String> {
    let mut list: Vec<String> = pod.then(|| "pod".to_owned()).into_iter().collect();
    if !names.is_empty() {
        list.push(containers(names));
    }
    (!list.is_empty()).then(|| list.join(" and "))
}

#[cfg(test)]
mod tests;
