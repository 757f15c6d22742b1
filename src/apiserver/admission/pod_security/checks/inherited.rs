//! Checks of what a pod says and its containers may say otherwise.

use super::{Pod, Violation, containers, plural, quoted, setters, text, violation};
use serde_json::Value;
use std::collections::BTreeSet;

fn context(object: &Value) -> &Value {
    &object["securityContext"]
}

/// Who sets a type to something that is not allowed: the pod, containers, and the values.
fn bad_types(pod: &Pod<'_>, path: &str, allowed: &[&str]) -> (bool, Vec<String>, BTreeSet<String>) {
    let mut values = BTreeSet::new();
    let mut is_bad = |object: &Value| {
        let Some(profile) = context(object).pointer(path).filter(|profile| profile.is_object()) else { return false };
        let kind = text(profile, "/type");
        let bad = !allowed.contains(&kind);
        if bad {
            values.insert(kind.to_owned());
        }
        bad
    };
    let own = is_bad(pod.spec);
    let bad = pod.bad(is_bad);
    (own, bad, values)
}

const APP_ARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

pub fn app_armor(pod: &Pod<'_>) -> Option<Violation> {
    let (own, bad, values) = bad_types(pod, "/appArmorProfile", &["RuntimeDefault", "Localhost"]);
    let mut values: Vec<String> = values.into_iter().collect();
    let mut who: Vec<String> = setters(own, &bad).into_iter().collect();
    let annotations = pod.metadata["annotations"].as_object();
    let mut forbidden: Vec<String> = annotations
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key, value.as_str()?)))
        .filter(|(key, value)| {
            let allowed = value.is_empty() || *value == "runtime/default" || value.starts_with("localhost/");
            key.starts_with(APP_ARMOR_ANNOTATION) && !allowed
        })
        .map(|(key, value)| format!("{key}={}", crate::api::field::go_quote(value)))
        .collect();
    if !forbidden.is_empty() {
        forbidden.sort_unstable();
        who.push(plural("annotation", "annotations", forbidden.len()).to_owned());
        values.extend(forbidden);
    }
    if who.is_empty() {
        return None;
    }
    let reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", values.len());
    violation(reason, format!("{} must not set AppArmor profile type to {}", who.join(" and "), quoted(&values)))
}

pub fn selinux(pod: &Pod<'_>) -> Option<Violation> {
    let allowed: &[&str] = if pod.minor >= 31 {
        &["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"]
    } else {
        &["", "container_t", "container_init_t", "container_kvm_t"]
    };
    let (mut types, mut user, mut role) = (BTreeSet::new(), false, false);
    let mut is_bad = |object: &Value| {
        let options = &context(object)["seLinuxOptions"];
        let kind = text(options, "/type");
        let bad_type = !allowed.contains(&kind);
        if bad_type {
            types.insert(kind.to_owned());
        }
        let (sets_user, sets_role) = (!text(options, "/user").is_empty(), !text(options, "/role").is_empty());
        user |= sets_user;
        role |= sets_role;
        bad_type || sets_user || sets_role
    };
    let own = is_bad(pod.spec);
    let bad = pod.bad(is_bad);
    let who = setters(own, &bad)?;
    let mut what = Vec::new();
    if !types.is_empty() {
        what.push(format!("{} {}", plural("type", "types", types.len()), quoted(&types)));
    }
    if user {
        what.push("user may not be set".to_owned());
    }
    if role {
        what.push("role may not be set".to_owned());
    }
    let detail = format!("{who} set forbidden securityContext.seLinuxOptions: {}", what.join("; "));
    violation("seLinuxOptions", detail)
}

const SECCOMP_ALLOWED: &[&str] = &["Localhost", "RuntimeDefault"];

fn seccomp_bad(pod: &Pod<'_>) -> Option<Violation> {
    let (own, bad, values) = bad_types(pod, "/seccompProfile", SECCOMP_ALLOWED);
    let who = setters(own, &bad)?;
    violation(
        "seccompProfile",
        format!("{who} must not set securityContext.seccompProfile.type to {}", quoted(&values)),
    )
}

pub fn seccomp_baseline(pod: &Pod<'_>) -> Option<Violation> {
    if pod.minor >= 19 { seccomp_bad(pod) } else { seccomp_annotations(pod) }
}

/// Before there were fields.
fn seccomp_annotations(pod: &Pod<'_>) -> Option<Violation> {
    let names = pod.containers().map(|container| text(container, "/name"));
    let keys = std::iter::once("seccomp.security.alpha.kubernetes.io/pod".to_owned())
        .chain(names.map(|name| format!("container.seccomp.security.alpha.kubernetes.io/{name}")));
    let forbidden: BTreeSet<String> = keys
        .filter_map(|key| Some((pod.metadata["annotations"].get(&key)?.as_str()?, key)))
        .filter(|(value, _)| {
            !matches!(*value, "runtime/default" | "docker/default") && !value.starts_with("localhost/")
        })
        .map(|(value, key)| format!("{key}={}", crate::api::field::go_quote(value)))
        .collect();
    if forbidden.is_empty() {
        return None;
    }
    let list = forbidden.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let what = plural("annotation", "annotations", forbidden.len());
    violation("seccompProfile", format!("forbidden {what} {list}"))
}

pub fn seccomp_restricted(pod: &Pod<'_>) -> Option<Violation> {
    if pod.minor >= 25 && pod.is_windows() {
        return None;
    }
    if let Some(found) = seccomp_bad(pod) {
        return Some(found);
    }
    if context(pod.spec)["seccompProfile"].is_object() {
        return None;
    }
    let missing = pod.bad(|container| !context(container)["seccompProfile"].is_object());
    if missing.is_empty() {
        return None;
    }
    let detail = format!(
        "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
        containers(&missing)
    );
    violation("seccompProfile", detail)
}

pub fn windows_host_process(pod: &Pod<'_>) -> Option<Violation> {
    let is_bad = |object: &Value| context(object)["windowsOptions"]["hostProcess"] == true;
    let who = setters(is_bad(pod.spec), &pod.bad(is_bad))?;
    violation("hostProcess", format!("{who} must not set securityContext.windowsOptions.hostProcess=true"))
}

pub fn run_as_non_root(pod: &Pod<'_>) -> Option<Violation> {
    if pod.minor >= 35 && pod.is_in_user_namespace() {
        return None;
    }
    const REASON: &str = "runAsNonRoot != true";
    let set = |object: &Value| context(object)["runAsNonRoot"].as_bool();
    let bad = pod.bad(|container| set(container) == Some(false));
    if let Some(who) = setters(set(pod.spec) == Some(false), &bad) {
        return violation(REASON, format!("{who} must not set securityContext.runAsNonRoot=false"));
    }
    if set(pod.spec) == Some(true) {
        return None;
    }
    let missing = pod.bad(|container| set(container).is_none());
    if missing.is_empty() {
        return None;
    }
    violation(REASON, format!("pod or {} must set securityContext.runAsNonRoot=true", containers(&missing)))
}

pub fn run_as_user(pod: &Pod<'_>) -> Option<Violation> {
    if pod.minor >= 35 && pod.is_in_user_namespace() {
        return None;
    }
    let is_root = |object: &Value| context(object)["runAsUser"].as_i64() == Some(0);
    let who = setters(is_root(pod.spec), &pod.bad(is_root))?;
    violation("runAsUser=0", format!("{who} must not set runAsUser=0"))
}
