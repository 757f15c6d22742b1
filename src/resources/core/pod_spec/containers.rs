//! The three lists of containers.

use super::{Scope, environment, handlers, mounts, resource_requirements, security};
use crate::api::names;
use crate::api::{ErrorList, Fields, Path, Report};
use serde_json::Value;
use std::collections::BTreeSet;

pub const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];
const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const TERMINATION_MESSAGE_POLICIES: &[&str] = &["File", "FallbackToLogsOnError"];
const RESTART_POLICIES: &[&str] = &["Always", "Never", "OnFailure"];
const RESTART_ACTIONS: &[&str] = &["Restart", "RestartAllContainers"];
const RESTART_OPERATORS: &[&str] = &["In", "NotIn"];
const RESTART_RULES_LIMIT: usize = 20;
const EXIT_CODES_LIMIT: usize = 255;

/// Fields that an ephemeral container may not have, in the order of the Go type.
const NOT_EPHEMERAL: &[&str] = &[
    "ports",
    "resources",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
];

pub fn regular(scope: &Scope, path: &Path<'_>, errors: &mut ErrorList) {
    let containers = scope.spec.list_at("containers");
    if containers.is_empty() {
        errors.required(path, "");
        return;
    }
    let mut names = BTreeSet::new();
    for (index, container) in containers.iter().enumerate() {
        let path = path.index(index);
        shared(container, scope, &path, errors);
        if !names.insert(container.str_at("name")) {
            errors.duplicate(&path.child("name"), container.str_at("name"));
        }
        handlers::lifecycle(container, scope, &path, errors);
        handlers::probes(container, scope, &path, errors);
        restart_policy(container, &path, errors);
    }
    host_port_conflicts(containers.iter(), path, errors);
}

pub fn init(scope: &Scope, path: &Path<'_>, errors: &mut ErrorList) {
    const NEEDS_RESTART: &str = "may not be set for init containers without restartPolicy=Always";
    let mut names: BTreeSet<&str> =
        scope.spec.list_at("containers").iter().map(|container| container.str_at("name")).collect();
    let list = path;
    for (index, container) in scope.spec.list_at("initContainers").iter().enumerate() {
        let path = list.index(index);
        shared(container, scope, &path, errors);
        if container.has("restartPolicy") {
            restart_policy(container, &path, errors);
        } else if !container.list_at("restartPolicyRules").is_empty() {
            errors.required(&path.child("restartPolicy"), "must specify restartPolicy when restart rules are used");
        }
        let name = container.str_at("name");
        if names.contains(name) {
            errors.duplicate(&path.child("name"), name);
        } else if !name.is_empty() {
            names.insert(name);
        }
        host_port_conflicts(std::iter::once(container), list, errors);
        let sidecar = is_sidecar(container);
        if sidecar {
            handlers::lifecycle(container, scope, &path, errors);
            handlers::probes(container, scope, &path, errors);
        } else {
            for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
                if container.has(field) {
                    errors.forbidden(&path.child(field), NEEDS_RESTART);
                }
            }
            if !scope.options.keep_init_resize {
                let policies = path.child("resizePolicy");
                for (index, policy) in container.list_at("resizePolicy").iter().enumerate() {
                    if policy.str_at("restartPolicy") == "RestartContainer" {
                        let detail = "must not be set to 'RestartContainer' for non-sidecar initContainers";
                        errors.invalid(&policies.index(index).child("restartPolicy"), "RestartContainer", detail);
                    }
                }
            }
        }
    }
}

pub fn ephemeral(scope: &Scope, path: &Path<'_>, errors: &mut ErrorList) {
    const FORBIDDEN: &str = "cannot be set for an Ephemeral Container";
    let spec = scope.spec;
    let others: BTreeSet<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|field| spec.list_at(field).iter().map(|container| container.str_at("name")))
        .collect();
    let mut names = others.clone();
    for (index, container) in spec.list_at("ephemeralContainers").iter().enumerate() {
        let path = path.index(index);
        shared(container, scope, &path, errors);
        image_whitespace(container, &path, errors);
        if !names.insert(container.str_at("name")) {
            errors.duplicate(&path.child("name"), container.str_at("name"));
        }
        let target = container.str_at("targetContainerName");
        if !target.is_empty() && !others.contains(target) {
            errors.not_found(&path.child("targetContainerName"), target);
        }
        for field in NOT_EPHEMERAL {
            let value = container.at(field);
            if container.has(field)
                && !value.as_object().is_some_and(|fields| *field == "resources" && fields.is_empty())
            {
                errors.forbidden(&path.child(field), FORBIDDEN);
            }
        }
        let list = path.child("volumeMounts");
        for (index, mount) in container.list_at("volumeMounts").iter().enumerate() {
            for field in ["subPath", "subPathExpr"] {
                if !mount.str_at(field).is_empty() {
                    errors.forbidden(&list.index(index).child(field), FORBIDDEN);
                }
            }
        }
    }
}

/// What holds for every container.
fn shared(container: &Value, scope: &Scope, path: &Path<'_>, errors: &mut ErrorList) {
    match container.str_at("name") {
        "" => errors.required(&path.child("name"), ""),
        name => errors.check(&path.child("name"), name, names::dns_label(name)),
    }
    if container.str_at("image").is_empty() {
        errors.required(&path.child("image"), "");
    }
    super::one_of_required(container, "terminationMessagePolicy", TERMINATION_MESSAGE_POLICIES, path, errors);
    ports(container, &path.child("ports"), errors);
    environment::variables(container, &path.child("env"), errors);
    environment::sources(container, &path.child("envFrom"), errors);
    mounts::mounts(container, scope, &path.child("volumeMounts"), errors);
    mounts::devices(container, scope, &path.child("volumeDevices"), errors);
    super::one_of_required(container, "imagePullPolicy", PULL_POLICIES, path, errors);
    let resources = container.at("resources");
    resource_requirements::container(resources, &scope.claims, &path.child("resources"), scope.options, errors);
    resize_policy(container, scope.spec, &path.child("resizePolicy"), errors);
    security::container(container.at("securityContext"), scope.spec, &path.child("securityContext"), errors);
}

fn ports(container: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let mut names = BTreeSet::new();
    for (index, port) in container.list_at("ports").iter().enumerate() {
        let path = path.index(index);
        let name = port.str_at("name");
        if !name.is_empty() {
            let messages = names::port_name(name);
            if !messages.is_empty() {
                errors.check(&path.child("name"), name, messages);
            } else if !names.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
        }
        match port.int_at("containerPort") {
            0 => errors.required(&path.child("containerPort"), ""),
            number => errors.check_number(&path.child("containerPort"), number, names::port_number(number)),
        }
        let host_port = port.int_at("hostPort");
        if host_port != 0 {
            errors.check_number(&path.child("hostPort"), host_port, names::port_number(host_port));
        }
        super::one_of_required(port, "protocol", PROTOCOLS, &path, errors);
    }
}

fn host_port_conflicts<'a>(containers: impl Iterator<Item = &'a Value>, path: &Path<'_>, errors: &mut ErrorList) {
    let mut taken = BTreeSet::new();
    for (index, container) in containers.enumerate() {
        let path = path.index(index);
        let list = path.child("ports");
        for (index, port) in container.list_at("ports").iter().enumerate() {
            let number = port.int_at("hostPort");
            if number == 0 {
                continue;
            }
            let key = format!("{}/{}/{number}", port.str_at("protocol"), port.str_at("hostIP"));
            if taken.contains(&key) {
                errors.duplicate(&list.index(index).child("hostPort"), key);
            } else {
                taken.insert(key);
            }
        }
    }
}

fn resize_policy(container: &Value, spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (index, policy) in container.list_at("resizePolicy").iter().enumerate() {
        let resource = policy.str_at("resourceName");
        if !seen.insert(resource) {
            errors.duplicate(&path.index(index), resource);
        }
        match resource {
            "" => errors.required(path, ""),
            _ => errors.one_of(path, resource, &["cpu", "memory"]),
        }
        let restart = policy.str_at("restartPolicy");
        match restart {
            "" => errors.required(path, ""),
            _ => errors.one_of(path, restart, &["NotRequired", "RestartContainer"]),
        }
        if spec.str_at("restartPolicy") == "Never" && restart != "NotRequired" {
            errors.invalid(path, restart, "must be 'NotRequired' when pod `restartPolicy` is 'Never'");
        }
    }
}

fn restart_policy(container: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let rules = container.list_at("restartPolicyRules");
    match container.optional_str("restartPolicy") {
        None if rules.is_empty() => return,
        None => errors.required(&path.child("restartPolicy"), "must specify restartPolicy when restart rules are used"),
        Some(policy) => errors.one_of(&path.child("restartPolicy"), policy, RESTART_POLICIES),
    }
    let list = path.child("restartPolicyRules");
    if rules.len() > RESTART_RULES_LIMIT {
        errors.too_many(&list, rules.len(), RESTART_RULES_LIMIT as i64);
    }
    for (index, rule) in rules.iter().enumerate() {
        let path = list.index(index);
        errors.one_of(&path.child("action"), rule.str_at("action"), RESTART_ACTIONS);
        let exit_codes = path.child("exitCodes");
        match rule.get_set("exitCodes") {
            None => errors.required(&exit_codes, "must be specified"),
            Some(codes) => {
                errors.one_of(&exit_codes.child("operator"), codes.str_at("operator"), RESTART_OPERATORS);
                let count = codes.list_at("values").len();
                if count > EXIT_CODES_LIMIT {
                    errors.too_many(&exit_codes.child("values"), count, EXIT_CODES_LIMIT as i64);
                }
            }
        }
    }
}

/// An init container that goes on beside the regular ones.
pub fn is_sidecar(container: &Value) -> bool {
    container.str_at("restartPolicy") == "Always"
}

/// Pods, unlike templates, take no image with space around it.
pub fn image_whitespace(container: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let image = container.str_at("image");
    if image.trim().len() != image.len() {
        errors.invalid(&path.child("image"), image, "must not have leading or trailing whitespace");
    }
}

/// An init container that is no sidecar asks for a restart on resize.
pub fn init_restarts_on_resize(spec: &Value) -> bool {
    spec.list_at("initContainers").iter().filter(|container| !is_sidecar(container)).any(|container| {
        container.list_at("resizePolicy").iter().any(|policy| policy.str_at("restartPolicy") == "RestartContainer")
    })
}
