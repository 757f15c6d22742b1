//! Annotations of pods that Kubernetes knows: mirror pods, deletion cost, the older forms of
//! security profiles.

use super::pod_spec::placement;
use super::pod_spec::volumes::local_descending_path;
use super::pod_spec::{self, Options};
use crate::api::field::go_quote;
use crate::api::{ErrorList, Fields, Path, Report};
use serde_json::Value;

const MIRROR: &str = "kubernetes.io/config.mirror";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const TOLERATIONS: &str = "scheduler.alpha.kubernetes.io/tolerations";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
pub const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const LOCALHOST: &str = "localhost/";

/// The annotations of a pod or template; `path` is theirs.
pub fn validate(annotations: &Value, spec: &Value, path: &Path<'_>, options: &Options, errors: &mut ErrorList) {
    if let Some(mirror) = annotations.optional_str(MIRROR)
        && spec.str_at("nodeName").is_empty()
    {
        let detail = "must set spec.nodeName if mirror pod annotation is set";
        errors.invalid(&path.key(MIRROR), mirror, detail);
    }
    let tolerations = annotations.str_at(TOLERATIONS);
    if !tolerations.is_empty() {
        match serde_json::from_str::<Vec<Value>>(tolerations) {
            Ok(list) => placement::tolerations(&list, &path.child(TOLERATIONS), errors),
            Err(error) => errors.invalid(path, TOLERATIONS, error.to_string()),
        }
    }
    if !options.keep_deletion_cost && !deletion_cost_is_valid(annotations) {
        let cost = annotations.str_at(DELETION_COST);
        errors.invalid(&path.key(DELETION_COST), cost, "must be a 32bit integer");
    }
    if let Some(profile) = annotations.optional_str(SECCOMP_POD) {
        seccomp(profile, &path.child(SECCOMP_POD), errors);
    }
    for (key, profile) in annotations.entries() {
        if key.starts_with(SECCOMP_CONTAINER) {
            seccomp(profile.as_str().unwrap_or_default(), &path.child(key), errors);
        }
    }
    for (key, profile) in annotations.entries() {
        let Some(name) = key.strip_prefix(APP_ARMOR) else { continue };
        if !pod_spec::containers(spec).any(|(_, container)| container.str_at("name") == name) {
            errors.invalid(&path.key(key), name, "container not found");
        }
        let profile = profile.as_str().unwrap_or_default();
        if !["", "runtime/default", "unconfined"].contains(&profile) && !profile.starts_with(LOCALHOST) {
            let detail = format!("invalid AppArmor profile name: {}", go_quote(profile));
            errors.invalid(&path.key(key), profile, detail);
        }
    }
}

/// Absent, or a 32-bit integer without a plus sign or leading zeros.
pub fn deletion_cost_is_valid(annotations: &Value) -> bool {
    annotations.optional_str(DELETION_COST).is_none_or(|cost| {
        let digits = cost.strip_prefix('-').unwrap_or(cost);
        let plain = cost == "0" || digits.starts_with(|c: char| ('1'..='9').contains(&c));
        plain && cost.parse::<i32>().is_ok()
    })
}

fn seccomp(profile: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if ["runtime/default", "docker/default", "unconfined"].contains(&profile) {
        return;
    }
    match profile.strip_prefix(LOCALHOST) {
        Some(file) => local_descending_path(file, path, errors),
        None => errors.invalid(path, profile, "must be a valid seccomp profile"),
    }
}

/// On update the annotations of AppArmor and of mirror pods stay.
pub fn validate_update(annotations: &Value, old: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    for (key, value) in old.entries() {
        if annotations.at(key) == value {
            continue;
        }
        if key.starts_with(APP_ARMOR) {
            errors.forbidden(&path.key(key), "may not remove or update AppArmor annotations");
        }
        if key == MIRROR {
            errors.forbidden(&path.key(key), "may not remove or update mirror pod annotation");
        }
    }
    for key in annotations.entries().keys().filter(|key| !old.entries().contains_key(*key)) {
        if key.starts_with(APP_ARMOR) {
            errors.forbidden(&path.key(key), "may not add AppArmor annotations");
        }
        if key == MIRROR {
            errors.forbidden(&path.key(key), "may not add mirror pod annotation");
        }
    }
}

/// Where an annotation and a field say the same, they say it alike.
pub fn match_fields(annotations: &Value, spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let pod = spec.at("securityContext");
    profile_matches(
        annotations.optional_str(SECCOMP_POD),
        pod.at("seccompProfile"),
        "seccomp",
        &path.child("securityContext.seccompProfile"),
        errors,
    );
    pod_spec::visit(spec, path, |container, path| {
        let annotation = annotations.optional_str(&format!("{SECCOMP_CONTAINER}{}", container.str_at("name")));
        let profile = container.at("securityContext").at("seccompProfile");
        profile_matches(annotation, profile, "seccomp", &path.child("securityContext.seccompProfile"), errors);
    });
    if spec.at("os").str_at("name") == "windows" {
        return;
    }
    pod_spec::visit(spec, path, |container, path| {
        let own = container.at("securityContext").at("appArmorProfile");
        let profile = if own.is_null() { pod.at("appArmorProfile") } else { own };
        let annotation = annotations.optional_str(&format!("{APP_ARMOR}{}", container.str_at("name")));
        profile_matches(annotation, profile, "apparmor", &path.child("securityContext.appArmorProfile"), errors);
    });
}

fn profile_matches(annotation: Option<&str>, profile: &Value, what: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(annotation) = annotation.filter(|_| !profile.is_null()) else { return };
    let matches = match profile.str_at("type") {
        "Unconfined" => annotation == "unconfined",
        "RuntimeDefault" => annotation == "runtime/default" || (what == "seccomp" && annotation == "docker/default"),
        "Localhost" => match annotation.strip_prefix(LOCALHOST) {
            None => false,
            Some(file) => {
                if profile.optional_str("localhostProfile") != Some(file) {
                    let detail = format!("{what} profile in annotation and field must match");
                    errors.forbidden(&path.child("localhostProfile"), detail);
                }
                true
            }
        },
        _ => true,
    };
    if !matches {
        errors.forbidden(&path.child("type"), format!("{what} type in annotation and field must match"));
    }
}

/// The AppArmor profile that an annotation stands for.
pub fn app_armor_field(annotation: &str) -> Option<Value> {
    match annotation {
        "unconfined" => Some(serde_json::json!({ "type": "Unconfined" })),
        "runtime/default" => Some(serde_json::json!({ "type": "RuntimeDefault" })),
        _ => annotation
            .strip_prefix(LOCALHOST)
            .filter(|profile| !profile.is_empty())
            .map(|profile| serde_json::json!({ "type": "Localhost", "localhostProfile": profile })),
    }
}
