//! What a spec says of Windows, and what `spec.os` rules out.

use crate::api::names;
use crate::api::{ErrorList, Fields, Path, Report};
use serde_json::Value;

const CREDENTIAL_SPEC_LIMIT_KIB: usize = 64;
const DOMAIN_LIMIT: usize = 256;
const USER_LIMIT: usize = 104;

/// Fields of spec.securityContext that a Windows pod may not set; those of the spec itself with a
/// leading dot.
const NOT_WINDOWS_POD: &[&str] = &[
    "appArmorProfile",
    "seLinuxOptions",
    ".hostUsers",
    ".hostPID",
    ".hostIPC",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    ".shareProcessNamespace",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
    "seLinuxChangePolicy",
];
const NOT_WINDOWS_CONTAINER: &[&str] = &[
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];

/// `spec.os`, and what it forbids.
pub fn operating_system(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(system) = spec.get_set("os") else { return };
    match system.str_at("name") {
        "" => errors.required(&path.child("os.name"), ""),
        "linux" => linux(spec, path, errors),
        "windows" => windows(spec, path, errors),
        name => errors.not_supported(&path.child("os"), name, &["linux", "windows"]),
    }
}

fn linux(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    const FORBIDDEN: &str = "windows options cannot be set for a linux pod";
    if spec.at("securityContext").has("windowsOptions") {
        errors.forbidden(&path.child("securityContext.windowsOptions"), FORBIDDEN);
    }
    super::visit(spec, path, |container, path| {
        if container.at("securityContext").has("windowsOptions") {
            errors.forbidden(&path.child("securityContext.windowsOptions"), FORBIDDEN);
        }
    });
}

fn windows(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    const FORBIDDEN: &str = "cannot be set for a windows pod";
    let context = spec.at("securityContext");
    let at_context = path.child("securityContext");
    for field in NOT_WINDOWS_POD {
        match field.strip_prefix('.') {
            Some(flag @ ("hostPID" | "hostIPC")) if spec.bool_at(flag) => {
                errors.forbidden(&path.child(flag), FORBIDDEN)
            }
            Some("hostPID" | "hostIPC") => {}
            Some(field) if spec.has(field) => errors.forbidden(&path.child(field), FORBIDDEN),
            None if context.has(field) => errors.forbidden(&at_context.child(field), FORBIDDEN),
            _ => {}
        }
    }
    super::visit(spec, path, |container, path| {
        let path = path.child("securityContext");
        for field in NOT_WINDOWS_CONTAINER {
            if container.at("securityContext").has(field) {
                errors.forbidden(&path.child(field), FORBIDDEN);
            }
        }
    });
}

/// Either all containers are of the host or none, and then the network is too.
pub fn host_process(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let of = |holder: &Value| holder.at("securityContext").at("windowsOptions").optional_bool("hostProcess");
    let pod = of(spec);
    let (mut total, mut host) = (0, 0);
    super::visit(spec, path, |container, path| {
        total += 1;
        let own = of(container);
        if let (Some(pod), Some(own)) = (pod, own)
            && pod != own
        {
            let detail = format!("pod hostProcess value must be identical if both are specified, was {pod}");
            errors.invalid(&path.child("securityContext.windowsOptions.hostProcess"), own, detail);
        }
        host += usize::from(own.or(pod).unwrap_or_default());
    });
    if host == 0 {
        return;
    }
    if host != total {
        let detail = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.invalid(path, "", detail);
    }
    if !spec.bool_at("hostNetwork") {
        let detail = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.invalid(&path.child("hostNetwork"), false, detail);
    }
}

/// `windowsOptions` of a security context.
pub fn options(options: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(name) = options.optional_str("gmsaCredentialSpecName") {
        errors.check(&path.child("gmsaCredentialSpecName"), name, names::dns_subdomain(name));
    }
    if let Some(text) = options.optional_str("gmsaCredentialSpec") {
        let path = path.child("gmsaCredentialSpec");
        if text.is_empty() {
            errors.invalid(&path, text, "gmsaCredentialSpec cannot be an empty string");
        } else if text.len() > CREDENTIAL_SPEC_LIMIT_KIB << 10 {
            let detail = format!("gmsaCredentialSpec size must be under {CREDENTIAL_SPEC_LIMIT_KIB} KiB");
            errors.invalid(&path, text, detail);
        }
    }
    if let Some(name) = options.optional_str("runAsUserName") {
        user_name(name, &path.child("runAsUserName"), errors);
    }
}

fn user_name(name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let parts: Vec<&str> = name.split('\\').collect();
    let (domain, user) = match parts.as_slice() {
        _ if name.is_empty() => return errors.invalid(path, name, "runAsUserName cannot be an empty string"),
        _ if name.bytes().any(|c| c.is_ascii_control()) => {
            return errors.invalid(path, name, "runAsUserName cannot contain control characters");
        }
        [user] => (None, *user),
        [domain, user] => (Some(*domain), *user),
        _ => return errors.invalid(path, name, "runAsUserName cannot contain more than one backslash"),
    };
    if let Some(domain) = domain {
        if domain.len() >= DOMAIN_LIMIT {
            let detail = format!("runAsUserName's Domain length must be under {DOMAIN_LIMIT} characters");
            errors.invalid(path, name, detail);
        }
        if !is_net_bios(domain) && !is_dns(domain) {
            errors.invalid(path, name, "runAsUserName's Domain doesn't match the NetBios nor the DNS format");
        }
    }
    if user.is_empty() {
        errors.invalid(path, name, "runAsUserName's User cannot be empty");
    } else if user.len() > USER_LIMIT {
        let detail = format!("runAsUserName's User length must not be longer than {USER_LIMIT} characters");
        errors.invalid(path, name, detail);
    }
    if !user.is_empty() && user.chars().all(|c| matches!(c, '.' | ' ')) {
        errors.invalid(path, name, "runAsUserName's User cannot contain only periods or spaces");
    }
    if user.contains(['"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']']) {
        let detail = "runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]";
        errors.invalid(path, name, detail);
    }
}

fn is_net_bios(domain: &str) -> bool {
    let banned = ['\\', '/', ':', '*', '?', '"', '<', '>', '|'];
    (1..=15).contains(&domain.chars().count()) && !domain.starts_with('.') && !domain.contains(banned)
}

fn is_dns(domain: &str) -> bool {
    domain.split('.').all(|label| {
        let edge = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        (1..=63).contains(&label.len())
            && edge(label.bytes().next())
            && edge(label.bytes().last())
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
    })
}
