//! Volumes: one table of sources, one check per source.

use super::{Options, environment, handlers, projected};
use crate::api::names;
use crate::api::{ErrorList, Fields, Path, Quantity, Report};
use crate::resources::core::persistent_volume_claim;
use crate::resources::labels;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

pub const FILE_MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const MORE_THAN_ONE: &str = "may not specify more than 1 volume type";
const PARTITION: &str = "must be between 1 and 255, inclusive";
const HOST_PATH_TYPES: &[&str] =
    &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
const ISCSI_NAME_LIMIT: usize = 64;
const ISCSI_NAME_TOO_LONG: &str = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
const DRIVER_LIMIT: usize = 63;

struct Source {
    field: &'static str,
    /// Where Kubernetes reports a second source, and where errors in this one.
    second: &'static str,
    path: &'static str,
    check: fn(&Value, &Path<'_>, &Options, &mut ErrorList),
}

const fn source(field: &'static str, check: fn(&Value, &Path<'_>, &Options, &mut ErrorList)) -> Source {
    Source { field, second: field, path: field, check }
}

/// In the order in which Kubernetes looks at them.
const SOURCES: &[Source] = &[
    source("emptyDir", empty_dir),
    source("hostPath", host_path),
    source("gitRepo", git_repo),
    Source { path: "persistentDisk", ..source("gcePersistentDisk", gce_disk) },
    source("awsElasticBlockStore", aws_disk),
    source("secret", |secret, path, _, errors| key_files(secret, "secretName", path, errors)),
    source("nfs", nfs),
    source("iscsi", iscsi),
    source("glusterfs", |volume, path, _, errors| needs(volume, &["endpoints", "path"], path, errors)),
    source("flocker", flocker),
    source("persistentVolumeClaim", |volume, path, _, errors| needs(volume, &["claimName"], path, errors)),
    source("rbd", |volume, path, _, errors| {
        needs_list(volume, "monitors", path, errors);
        needs(volume, &["image"], path, errors);
    }),
    source("cinder", |volume, path, _, errors| {
        needs(volume, &["volumeID"], path, errors);
        secret_name(volume, path, errors);
    }),
    Source {
        second: "cephFS",
        ..source("cephfs", |volume, path, _, errors| needs_list(volume, "monitors", path, errors))
    },
    source("quobyte", quobyte),
    Source { second: "downwarAPI", ..source("downwardAPI", downward_api) },
    source("fc", fibre_channel),
    source("flexVolume", flex),
    source("configMap", |volume, path, _, errors| key_files(volume, "name", path, errors)),
    source("azureFile", |volume, path, _, errors| needs(volume, &["secretName", "shareName"], path, errors)),
    source("vsphereVolume", |volume, path, _, errors| needs(volume, &["volumePath"], path, errors)),
    source("photonPersistentDisk", |volume, path, _, errors| needs(volume, &["pdID"], path, errors)),
    source("portworxVolume", |volume, path, _, errors| needs(volume, &["volumeID"], path, errors)),
    source("azureDisk", azure_disk),
    source("storageos", storage_os),
    source("projected", projected::validate),
    source("scaleIO", |volume, path, _, errors| needs(volume, &["gateway", "system", "volumeName"], path, errors)),
    source("csi", csi),
    source("ephemeral", ephemeral),
    source("image", |volume, path, options, errors| {
        if options.is_pod {
            needs(volume, &["reference"], path, errors);
        }
        handlers::pull_policy(volume, path, errors);
    }),
];

/// Whether the volume names a source at all.
pub fn has_source(volume: &Value) -> bool {
    SOURCES.iter().any(|source| volume.has(source.field))
}

/// Validates one source by the field it is in; false: there is no such source.
pub fn check_source(field: &str, value: &Value, path: &Path<'_>, errors: &mut ErrorList) -> bool {
    let Some(source) = SOURCES.iter().find(|source| source.field == field) else { return false };
    (source.check)(value, &path.child(source.path), &Options::create(false), errors);
    true
}

/// Validates all volumes; the valid ones by name.
pub fn validate<'a>(
    spec: &'a Value,
    pod_metadata: Option<&Value>,
    path: &Path<'_>,
    options: &Options,
    errors: &mut ErrorList,
) -> BTreeMap<&'a str, &'a Value> {
    let pod_name = pod_metadata.map(|metadata| metadata.str_at("name")).unwrap_or_default();
    let volumes = spec.list_at("volumes");
    let created: BTreeSet<String> = volumes
        .iter()
        .filter(|volume| !pod_name.is_empty() && volume.has("ephemeral"))
        .map(|volume| format!("{pod_name}-{}", volume.str_at("name")))
        .collect();
    let mut valid = BTreeMap::new();
    for (index, volume) in volumes.iter().enumerate() {
        let path = path.index(index);
        let at_name = path.child("name");
        let name = volume.str_at("name");
        let mut own = ErrorList::new();
        sources(volume, pod_name, &path, options, &mut own);
        match name {
            "" => own.required(&at_name, ""),
            _ => own.check(&at_name, name, names::dns_label(name)),
        }
        if valid.contains_key(name) {
            own.duplicate(&at_name, name);
        }
        if own.is_empty() {
            valid.insert(name, volume);
        } else {
            errors.append(&mut own);
        }
        let claim = volume.at("persistentVolumeClaim").str_at("claimName");
        if volume.has("persistentVolumeClaim") && created.contains(claim) {
            let detail = "must not reference a PVC that gets created for an ephemeral volume";
            errors.invalid(&path.child("persistentVolumeClaim.claimName"), claim, detail);
        }
    }
    valid
}

fn sources(volume: &Value, pod_name: &str, path: &Path<'_>, options: &Options, errors: &mut ErrorList) {
    let name = volume.str_at("name");
    let mut count = 0;
    for source in SOURCES {
        let Some(value) = volume.get_set(source.field) else { continue };
        if count > 0 && source.field != "emptyDir" {
            errors.forbidden(&path.child(source.second), MORE_THAN_ONE);
        } else {
            count += 1;
            (source.check)(value, &path.child(source.path), options, errors);
            if source.field == "ephemeral" && !pod_name.is_empty() && !name.is_empty() {
                let claim = format!("{pod_name}-{name}");
                for message in names::dns_subdomain(&claim) {
                    errors.invalid(&path.child("name"), name, format!("PVC name \"{claim}\": {message}"));
                }
            }
        }
        if source.field == "iscsi"
            && value.has("initiatorName")
            && name.len() + 1 + value.str_at("targetPortal").len() > ISCSI_NAME_LIMIT
        {
            errors.invalid(&path.child("name"), name, ISCSI_NAME_TOO_LONG);
        }
    }
    if count == 0 {
        errors.required(path, "must specify a volume type");
    }
}

fn needs(volume: &Value, fields: &[&str], path: &Path<'_>, errors: &mut ErrorList) {
    for field in fields {
        if volume.str_at(field).is_empty() {
            errors.required(&path.child(field), "");
        }
    }
}

fn needs_list(volume: &Value, field: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if volume.list_at(field).is_empty() {
        errors.required(&path.child(field), "");
    }
}

fn secret_name(volume: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if volume.get_set("secretRef").is_some_and(|secret| secret.str_at("name").is_empty()) {
        errors.required(&path.child("secretRef.name"), "");
    }
}

/// A file mode that may be left out.
pub fn mode(holder: &Value, field: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(mode) = holder.optional_int(field).filter(|mode| !(0..=0o777).contains(mode)) {
        errors.invalid(&path.child(field), mode, FILE_MODE);
    }
}

/// A secret or ConfigMap as files.
fn key_files(volume: &Value, name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    needs(volume, &[name], path, errors);
    mode(volume, "defaultMode", path, errors);
    let list = path.child("items");
    for (index, item) in volume.list_at("items").iter().enumerate() {
        key_to_path(item, &list.index(index), errors);
    }
}

pub fn key_to_path(item: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    needs(item, &["key", "path"], path, errors);
    local_path(item.str_at("path"), &path.child("path"), errors);
    mode(item, "mode", path, errors);
}

fn empty_dir(volume: &Value, path: &Path<'_>, _: &Options, errors: &mut ErrorList) {
    if Quantity::of(volume.at("sizeLimit")).is_negative() {
        errors.forbidden(&path.child("sizeLimit"), "SizeLimit field must be a valid resource quantity");
    }
}

fn host_path(volume: &Value, path: &Path<'_>, _: &Options, errors: &mut ErrorList) {
    let target = volume.str_at("path");
    if target.is_empty() {
        return errors.required(&path.child("path"), "");
    }
    no_backsteps(target, &path.child("path"), errors);
    if let Some(kind) = volume.optional_str("type") {
        errors.one_of(&path.child("type"), kind, HOST_PATH_TYPES);
    }
}

fn git_repo(volume: &Value, path: &Path<'_>, _: &Options, errors: &mut ErrorList) {
    needs(volume, &["repository"], path, errors);
    local_descending_path(volume.str_at("directory"), &path.child("directory"), errors);
}

fn gce_disk(volume: &Value, path: &Path<'_>, _: &Options, errors: &mut ErrorList) {
    needs(volume, &["pdName"], path, errors);
    partition(volume, path, errors);
}

fn aws_disk(volume: &Value, path: &Path<'_>, _: &Options, errors: &mut ErrorList) {
    needs(volume, &["volumeID"], path, errors);
    partition(volume, path, errors);
}

fn partition(volume: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let partition = volume.int_at("partition");
    if !(0..=255).contains(&partition) {
        errors.invalid(&path.child("partition"), partition, PARTITION);
    }
}

fn nfs(volume: &Value, path: &Path<'_>, _: &Options, errors: &mut ErrorList) {
    needs(volume, &["server", "path"], path, errors);
    let target = volume.str_at("path");
    if !target.starts_with('/') {
        errors.invalid(&path.child("path"), target, "must be an absolute path");
    }
}

fn iscsi(volume: &Value, path: &Path<'_>, _: &Options, errors: &mut ErrorList) {
    iscsi_of(volume, None, path, errors);
}

/// The same of a PersistentVolume.
pub fn persistent_iscsi(volume: &Value, name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    iscsi_of(volume, Some(name), path, errors);
}

/// `persistent`: the name of the PersistentVolume that it is in.
fn iscsi_of(volume: &Value, persistent: Option<&str>, path: &Path<'_>, errors: &mut ErrorList) {
    needs(volume, &["targetPortal"], path, errors);
    let portal = volume.str_at("targetPortal");
    let too_long = |name: &str| name.len() + 1 + portal.len() > ISCSI_NAME_LIMIT;
    if volume.has("initiatorName") && persistent.is_some_and(too_long) {
        errors.invalid(&path.child("targetportal"), portal, ISCSI_NAME_TOO_LONG);
    }
    let unknown = match persistent {
        Some(_) => "must be valid format",
        None => "must be valid format starting with iqn, eui, or naa",
    };
    match volume.str_at("iqn") {
        "" => errors.required(&path.child("iqn"), ""),
        name => iscsi_name(name, unknown, &path.child("iqn"), errors),
    }
    let lun = volume.int_at("lun");
    errors.check_number(&path.child("lun"), lun, names::in_range(lun, 0, 255));
    if (volume.bool_at("chapAuthDiscovery") || volume.bool_at("chapAuthSession")) && !volume.has("secretRef") {
        errors.required(&path.child("secretRef"), "");
    }
    if persistent.is_some() {
        secret_name(volume, path, errors);
    }
    if let Some(name) = volume.optional_str("initiatorName") {
        iscsi_name(name, unknown, &path.child("initiatorname"), errors);
    }
}

fn iscsi_name(name: &str, unknown: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let alphanumeric =
        |text: &str, length: usize| text.len() == length && text.bytes().all(|c| c.is_ascii_alphanumeric());
    let valid = match name.get(..3) {
        Some("iqn") => is_qualified_iscsi(name),
        Some("eui") => name.len() > 4 && alphanumeric(&name[4..], 16),
        Some("naa") => name.len() > 4 && alphanumeric(&name[4..], 32),
        _ => return errors.invalid(path, name, unknown),
    };
    if !valid {
        errors.invalid(path, name, "must be valid format");
    }
}

/// `iqn.2001-04.com.example:storage.disk`
fn is_qualified_iscsi(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("iqn.") else { return false };
    let digits = |text: &str, length: usize| text.len() == length && text.bytes().all(|c| c.is_ascii_digit());
    let Some((date, rest)) = rest.split_once('.') else { return false };
    let Some((authority, suffix)) = rest.split_once(':') else { return false };
    date.split_once('-').is_some_and(|(year, month)| digits(year, 4) && digits(month, 2))
        && !authority.is_empty()
        && authority.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.'))
        && !suffix.is_empty()
        && !suffix.contains(|c: char| c.is_whitespace() || "^,;*&$|".contains(c))
}

fn flocker(volume: &Value, path: &Path<'_>, _: &Options, errors: &mut ErrorList) {
    let (name, uuid) = (volume.str_at("datasetName"), volume.str_at("datasetUUID"));
    if name.is_empty() && uuid.is_empty() {
        errors.required(path, "one of datasetName and datasetUUID is required");
    }
    if !name.is_empty() && !uuid.is_empty() {
        errors.invalid(path, "resource", "datasetName and datasetUUID can not be specified simultaneously");
    }
    if name.contains('/') {
        errors.invalid(&path.child("datasetName"), name, "must not contain '/'");
    }
}

fn quobyte(volume: &Value, path: &Path<'_>, _: &Options, errors: &mut ErrorList) {
    const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
    let registry = volume.str_at("registry");
    if registry.is_empty() {
        errors.required(&path.child("registry"), PAIRS);
    } else if volume.str_at("tenant").len() >= 65 {
        errors.required(&path.child("tenant"), "must be a UUID and may not exceed a length of 64 characters");
    } else {
        for pair in registry.split(',') {
            let bracketed = pair.strip_prefix('[').and_then(|rest| rest.split_once("]:"));
            let plain = pair.rsplit_once(':').filter(|(host, _)| !host.contains([':', '[', ']']));
            if bracketed.or(plain).is_none() {
                errors.invalid(&path.child("registry"), registry, PAIRS);
            }
        }
    }
    needs(volume, &["volume"], path, errors);
}

fn downward_api(volume: &Value, path: &Path<'_>, _: &Options, errors: &mut ErrorList) {
    mode(volume, "defaultMode", path, errors);
    for file in volume.list_at("items") {
        downward_api_file(file, path, errors);
    }
}

pub fn downward_api_file(file: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    needs(file, &["path"], path, errors);
    local_path(file.str_at("path"), &path.child("path"), errors);
    match (file.get_set("fieldRef"), file.get_set("resourceFieldRef")) {
        (Some(field), resource) => {
            environment::field_reference(field, environment::FILE_FIELDS, &path.child("fieldRef"), errors);
            if resource.is_some() {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.invalid(path, "resource", detail);
            }
        }
        (None, Some(resource)) => {
            environment::resource_reference(resource, true, &path.child("resourceFieldRef"), errors);
        }
        (None, None) => errors.required(path, "one of fieldRef and resourceFieldRef is required"),
    }
    mode(file, "mode", path, errors);
}

fn fibre_channel(volume: &Value, path: &Path<'_>, _: &Options, errors: &mut ErrorList) {
    let (targets, ids) = (volume.list_at("targetWWNs"), volume.list_at("wwids"));
    let at_targets = path.child("targetWWNs");
    if targets.is_empty() && ids.is_empty() {
        errors.required(&at_targets, "must specify either targetWWNs or wwids, but not both");
    }
    if !targets.is_empty() && !ids.is_empty() {
        let detail = "targetWWNs and wwids can not be specified simultaneously";
        errors.invalid(&at_targets, volume.at("targetWWNs").clone(), detail);
    }
    if !targets.is_empty() {
        match volume.optional_int("lun") {
            None => errors.required(&path.child("lun"), "lun is required if targetWWNs is specified"),
            Some(lun) => errors.check_number(&path.child("lun"), lun, names::in_range(lun, 0, 255)),
        }
    }
}

fn flex(volume: &Value, path: &Path<'_>, _: &Options, errors: &mut ErrorList) {
    needs(volume, &["driver"], path, errors);
    let options = path.child("options");
    for key in volume.map_at("options").keys() {
        let domain = key.split_once('/').map_or(key.as_str(), |(domain, _)| domain);
        let domain = format!(".{}", domain.to_lowercase());
        if domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io") {
            errors.invalid(&options.key(key), key.as_str(), "kubernetes.io and k8s.io namespaces are reserved");
        }
    }
}

fn azure_disk(volume: &Value, path: &Path<'_>, _: &Options, errors: &mut ErrorList) {
    const MANAGED: &str =
        "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
    const BLOB: &str = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";
    needs(volume, &["diskName", "diskURI"], path, errors);
    if let Some(caching) = volume.optional_str("cachingMode") {
        errors.one_of(&path.child("cachingMode"), caching, &["None", "ReadOnly", "ReadWrite"]);
    }
    let Some(kind) = volume.optional_str("kind") else { return };
    errors.one_of(&path.child("kind"), kind, &["Dedicated", "Managed", "Shared"]);
    let uri = volume.str_at("diskURI");
    let (start, form) = if kind == "Managed" { ("/subscriptions/", MANAGED) } else { ("https://", BLOB) };
    if !uri.starts_with(start) {
        errors.not_supported(&path.child("diskURI"), uri, &[form]);
    }
}

fn storage_os(volume: &Value, path: &Path<'_>, _: &Options, errors: &mut ErrorList) {
    storage_os_names(volume, path, errors);
    secret_name(volume, path, errors);
}

pub fn storage_os_names(volume: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    match volume.str_at("volumeName") {
        "" => errors.required(&path.child("volumeName"), ""),
        name => errors.check(&path.child("volumeName"), name, names::dns_label(name)),
    }
    let namespace = volume.str_at("volumeNamespace");
    if !namespace.is_empty() {
        errors.check(&path.child("volumeNamespace"), namespace, names::dns_label(namespace));
    }
}

fn csi(volume: &Value, path: &Path<'_>, _: &Options, errors: &mut ErrorList) {
    csi_driver_name(volume.str_at("driver"), &path.child("driver"), errors);
    if let Some(secret) = volume.get_set("nodePublishSecretRef") {
        match secret.str_at("name") {
            "" => errors.required(&path.child("nodePublishSecretRef.name"), ""),
            name => errors.check(&path.child("name"), name, names::dns_subdomain(name)),
        }
    }
}

pub fn csi_driver_name(name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if name.is_empty() {
        return errors.required(path, "");
    }
    if name.len() > DRIVER_LIMIT {
        errors.too_long(path, DRIVER_LIMIT as i64);
    }
    errors.check(path, name, names::dns_subdomain(&name.to_lowercase()));
}

fn ephemeral(volume: &Value, path: &Path<'_>, _: &Options, errors: &mut ErrorList) {
    let path = path.child("volumeClaimTemplate");
    let Some(template) = volume.get_set("volumeClaimTemplate") else { return errors.required(&path, "") };
    labels::template(template.at("metadata"), &path.child("metadata"), errors);
    persistent_volume_claim::validate_spec(template.at("spec"), &path.child("spec"), errors);
}

/// No element of the path is `..`.
pub fn no_backsteps(target: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if target.split('/').any(|part| part == "..") {
        errors.invalid(path, target, "must not contain '..'");
    }
}

/// A relative path without `..`.
pub fn local_descending_path(target: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if target.starts_with('/') {
        errors.invalid(path, target, "must be a relative path");
    }
    no_backsteps(target, path, errors);
}

/// A relative path whose first element does not even start with `..`.
pub fn local_path(target: &str, path: &Path<'_>, errors: &mut ErrorList) {
    local_descending_path(target, path, errors);
    if target.starts_with("..") && !target.starts_with("../") {
        errors.invalid(path, target, "must not start with '..'");
    }
}

/// A projected token goes where a new one may not.
pub fn has_non_local_token_path(spec: &Value) -> bool {
    let root = Path::root();
    let mut errors = ErrorList::new();
    for volume in spec.list_at("volumes") {
        for source in volume.at("projected").list_at("sources") {
            if let Some(token) = source.get_set("serviceAccountToken") {
                local_path(token.str_at("path"), &root, &mut errors);
            }
        }
    }
    !errors.is_empty()
}
