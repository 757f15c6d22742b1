//! Environment variables and where their values come from.

use crate::api::names;
use crate::api::{ErrorList, Fields, Path, Quantity, Report};
use serde_json::Value;

/// Fields of the pod that a variable can take.
const VARIABLE_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields of the pod that a downward API file can take.
pub const FILE_FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
/// Fields of the pod that have a name in the downward API at all.
const POD_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCE_FIELDS: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const HUGE_PAGES: &[&str] = &["requests.hugepages-", "limits.hugepages-"];
const BYTE_DIVISORS: &[&str] = &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

pub fn variables(container: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    for (index, variable) in container.list_at("env").iter().enumerate() {
        let path = path.index(index);
        match variable.str_at("name") {
            "" => errors.required(&path.child("name"), ""),
            name => errors.check(&path.child("name"), name, names::environment_name(name)),
        }
        if let Some(source) = variable.get_set("valueFrom") {
            value_from(source, !variable.str_at("value").is_empty(), &path.child("valueFrom"), errors);
        }
    }
}

fn value_from(source: &Value, has_value: bool, path: &Path<'_>, errors: &mut ErrorList) {
    let mut count = 0;
    let mut each = |field: &str, check: &dyn Fn(&Value, &Path<'_>, &mut ErrorList), errors: &mut ErrorList| {
        if let Some(value) = source.get_set(field) {
            count += 1;
            check(value, &path.child(field), errors);
        }
    };
    each("fieldRef", &|value, path, errors| field_reference(value, VARIABLE_FIELDS, path, errors), errors);
    each("resourceFieldRef", &|value, path, errors| resource_reference(value, false, path, errors), errors);
    each("configMapKeyRef", &key_reference, errors);
    each("secretKeyRef", &key_reference, errors);
    each("fileKeyRef", &file_reference, errors);
    let detail = match count {
        0 => "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        _ if has_value => "may not be specified when `value` is not empty",
        2.. => "may not have more than one field specified at a time",
        _ => return,
    };
    errors.invalid(path, "", detail);
}

/// `metadata.labels['app']` into the path and the subscript.
fn subscripted(field: &str) -> Option<(&str, &str)> {
    field.strip_suffix("']")?.split_once("['").filter(|(path, _)| !path.is_empty())
}

/// A field of the pod, one of `allowed` or an entry of labels or annotations.
pub fn field_reference(reference: &Value, allowed: &[&str], path: &Path<'_>, errors: &mut ErrorList) {
    let version = reference.str_at("apiVersion");
    let field = reference.str_at("fieldPath");
    let at_field = path.child("fieldPath");
    if version.is_empty() {
        errors.required(&path.child("apiVersion"), "");
        return;
    }
    if field.is_empty() {
        errors.required(&at_field, "");
        return;
    }
    let problem = if version != "v1" {
        Some(format!("unsupported pod version: {version}"))
    } else {
        match subscripted(field) {
            Some(("metadata.annotations" | "metadata.labels", _)) => None,
            Some(_) => Some(format!("field label does not support subscript: {field}")),
            None if field == "spec.host" || POD_FIELDS.contains(&field) => None,
            None => Some(format!("field label not supported: {field}")),
        }
    };
    if let Some(problem) = problem {
        errors.invalid(&at_field, field, format!("error converting fieldPath: {problem}"));
        return;
    }
    match subscripted(field) {
        Some(("metadata.annotations", key)) => {
            errors.check(path, &key.to_lowercase(), names::qualified_name(&key.to_lowercase()))
        }
        Some((_, key)) => errors.check(path, key, names::qualified_name(key)),
        None => {
            let field = if field == "spec.host" { "spec.nodeName" } else { field };
            errors.one_of(&at_field, field, allowed);
        }
    }
}

/// A request or limit of a container; a file must name the container.
pub fn resource_reference(reference: &Value, file: bool, path: &Path<'_>, errors: &mut ErrorList) {
    let resource = reference.str_at("resource");
    if file && reference.str_at("containerName").is_empty() {
        errors.required(&path.child("containerName"), "");
    } else if resource.is_empty() {
        errors.required(&path.child("resource"), "");
    } else if !HUGE_PAGES.iter().any(|prefix| resource.starts_with(prefix)) {
        errors.one_of(&path.child("resource"), resource, RESOURCE_FIELDS);
    }
    let divisor = Quantity::of(reference.at("divisor"));
    if divisor.is_zero() {
        return;
    }
    let (allowed, what): (&[&str], &str) = match resource {
        "limits.cpu" | "requests.cpu" => (&["1m", "1"], "1m and 1 are supported with the cpu resource"),
        "limits.memory" | "requests.memory" => (BYTE_DIVISORS, "memory"),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => (BYTE_DIVISORS, "local ephemeral storage"),
        _ if HUGE_PAGES.iter().any(|prefix| resource.starts_with(prefix)) => (BYTE_DIVISORS, "hugepages"),
        _ => return,
    };
    if !allowed.contains(&divisor.to_string().as_str()) {
        let detail = if allowed == BYTE_DIVISORS {
            format!("only divisor's values {} are supported with the {what} resource", BYTE_DIVISORS.join(", "))
        } else {
            format!("only divisor's values {what}")
        };
        errors.invalid(&path.child("divisor"), resource, detail);
    }
}

/// A key of a ConfigMap or Secret.
fn key_reference(reference: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let name = reference.str_at("name");
    errors.check(&path.child("name"), name, names::dns_subdomain(name));
    match reference.str_at("key") {
        "" => errors.required(&path.child("key"), ""),
        key => errors.check(&path.child("key"), key, names::config_map_key(key)),
    }
}

/// A key of a file in an emptyDir.
fn file_reference(reference: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    match reference.str_at("key") {
        "" => errors.required(&path.child("key"), ""),
        key => errors.check(&path.child("key"), key, names::environment_name(key)),
    }
    match reference.str_at("volumeName") {
        "" => errors.required(&path.child("volumeName"), ""),
        name => errors.check(&path.child("volumeName"), name, names::dns_label(name)),
    }
    match reference.str_at("path") {
        "" => errors.required(&path.child("path"), ""),
        file => super::volumes::no_backsteps(file, &path.child("path"), errors),
    }
}

pub fn sources(container: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let list = path;
    for (index, source) in container.list_at("envFrom").iter().enumerate() {
        let path = list.index(index);
        let prefix = source.str_at("prefix");
        if !prefix.is_empty() {
            errors.check(&path.child("prefix"), prefix, names::environment_name(prefix));
        }
        let mut count = 0;
        for field in ["configMapRef", "secretRef"] {
            let Some(reference) = source.get_set(field) else { continue };
            count += 1;
            let path = path.child(field);
            match reference.str_at("name") {
                "" => errors.required(&path.child("name"), ""),
                name => {
                    let messages = names::dns_subdomain(&names::mask_trailing_dash(name));
                    errors.check(&path.child("name"), name, messages);
                }
            }
        }
        match count {
            0 => errors.invalid(list, "", "must specify one of: `configMapRef` or `secretRef`"),
            2.. => errors.invalid(list, "", "may not have more than one field specified at a time"),
            _ => {}
        }
    }
}

/// Variables from files take them from an emptyDir of the pod.
pub fn file_volumes(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    super::visit(spec, path, |container, path| {
        let list = path.child("env");
        for (index, variable) in container.list_at("env").iter().enumerate() {
            let Some(reference) = variable.at("valueFrom").get_set("fileKeyRef") else { continue };
            let name = reference.str_at("volumeName");
            let path = list.index(index);
            let path = path.child("valueFrom.fileKeyRef.volumeName");
            match spec.list_at("volumes").iter().rfind(|volume| volume.str_at("name") == name) {
                None => errors.not_found(&path, name),
                Some(volume) if !volume.has("emptyDir") => {
                    errors.invalid(&path, name, "referenced volume must be of type emptyDir");
                }
                Some(_) => {}
            }
        }
    });
}
