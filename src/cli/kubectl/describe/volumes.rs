//! The volumes of a pod or of a pod template.

use super::flag;
use super::page::{Page, line};
use super::rows::Row;
use crate::api::Fields;
use crate::api::jsonpath::to_text;
use serde_json::Value;

type Print = fn(&Value, &mut Page);

/// The sources of volumes: the field, what it is, and what it says.
const SOURCES: &[(&str, &str, Print)] = &[
    ("hostPath", "HostPath (bare host directory volume)", host_path),
    ("emptyDir", "EmptyDir (a temporary directory that shares a pod's lifetime)", empty_dir),
    ("secret", "Secret (a volume populated by a Secret)", |source, page| {
        line!(page, 2, "SecretName:\t{}", source.str_at("secretName"));
        line!(page, 2, "Optional:\t{}", flag(source, "optional"));
    }),
    ("configMap", "ConfigMap (a volume populated by a ConfigMap)", |source, page| {
        line!(page, 2, "Name:\t{}", source.str_at("name"));
        line!(page, 2, "Optional:\t{}", flag(source, "optional"));
    }),
    ("projected", "Projected (a volume that contains injected data from multiple sources)", projected),
    ("downwardAPI", "DownwardAPI (a volume populated by information about the pod)", downward),
    (
        "persistentVolumeClaim",
        "PersistentVolumeClaim (a reference to a PersistentVolumeClaim in the same namespace)",
        |source, page| {
            line!(page, 2, "ClaimName:\t{}", source.str_at("claimName"));
            line!(page, 2, "ReadOnly:\t{}", flag(source, "readOnly"));
        },
    ),
    ("nfs", "NFS (an NFS mount that lasts the lifetime of a pod)", |source, page| {
        line!(page, 2, "Server:\t{}", source.str_at("server"));
        line!(page, 2, "Path:\t{}", source.str_at("path"));
        line!(page, 2, "ReadOnly:\t{}", flag(source, "readOnly"));
    }),
    ("csi", "CSI (a Container Storage Interface (CSI) volume source)", |source, page| {
        line!(page, 2, "Driver:\t{}", source.str_at("driver"));
        line!(page, 2, "FSType:\t{}", source.str_at("fsType"));
        // Only a PersistentVolume has one.
        if source.has("volumeHandle") {
            line!(page, 2, "VolumeHandle:\t{}", source.str_at("volumeHandle"));
        }
        line!(page, 2, "ReadOnly:\t{}", flag(source, "readOnly"));
        attributes(source.at("volumeAttributes"), page);
    }),
    ("local", "LocalVolume (a persistent volume backed by local storage on a node)", |source, page| {
        line!(page, 2, "Path:\t{}", source.str_at("path"));
    }),
    (
        "ephemeral",
        "EphemeralVolume (an inline specification for a volume that gets created and deleted with the pod)",
        |source, page| {
            let claim = source.at("volumeClaimTemplate");
            let (metadata, spec) = (claim.at("metadata"), claim.at("spec"));
            line!(page, 2, "StorageClass:\t{}", spec.str_at("storageClassName"));
            line!(page, 2, "Volume:\t{}", spec.str_at("volumeName"));
            page.labels("    Labels", metadata.at("labels"));
            page.annotations("    Annotations", metadata.at("annotations"));
            line!(page, 2, "Capacity:\t");
            line!(page, 2, "Access Modes:\t");
            page.rows(2, spec, &[Row::If("VolumeMode", "/volumeMode")]);
        },
    ),
    ("image", "Image (a container image or OCI artifact)", |source, page| {
        line!(page, 2, "Reference:\t{}", source.str_at("reference"));
        line!(page, 2, "PullPolicy:\t{}", source.str_at("pullPolicy"));
    }),
];

pub fn print(volumes: &[Value], space: &str, page: &mut Page) {
    if volumes.is_empty() {
        line!(page, 0, "{space}Volumes:\t<none>");
        return;
    }
    line!(page, 0, "{space}Volumes:");
    let name_indent = if space.is_empty() { "" } else { " " };
    for volume in volumes {
        line!(page, 1, "{name_indent}{}:", volume.str_at("name"));
        print_source(volume, page);
    }
}

/// Of a volume, or of the spec of a PersistentVolume.
pub fn print_source(volume: &Value, page: &mut Page) {
    let source = SOURCES.iter().find_map(|(field, what, print)| Some((volume.get_set(field)?, what, print)));
    match source {
        Some((source, what, print)) => {
            line!(page, 2, "Type:\t{what}");
            print(source, page);
        }
        None => line!(page, 1, "<unknown>"),
    }
}

/// In kubectl's own columns, where only the first line stands below its title.
fn attributes(attributes: &Value, page: &mut Page) {
    let lines: Vec<String> = attributes
        .entries()
        .iter()
        .map(|(key, value)| super::page::shorten(&format!("{key}={}", value.as_str().unwrap_or_default())))
        .collect();
    line!(page, 2, "VolumeAttributes:\t{}", lines.first().map_or("<none>", String::as_str));
    for text in lines.iter().skip(1) {
        line!(page, 2, "    \t    {text}");
    }
}

fn host_path(source: &Value, page: &mut Page) {
    line!(page, 2, "Path:\t{}", source.str_at("path"));
    // Set to nothing is not the same as not set.
    line!(page, 2, "HostPathType:\t{}", source.optional_str("type").unwrap_or("<none>"));
}

fn empty_dir(source: &Value, page: &mut Page) {
    line!(page, 2, "Medium:\t{}", source.str_at("medium"));
    let limit = source.get_set("sizeLimit").map(to_text).filter(|limit| limit != "0");
    line!(page, 2, "SizeLimit:\t{}", limit.as_deref().unwrap_or("<unset>"));
}

fn projected(source: &Value, page: &mut Page) {
    for source in source.list_at("sources") {
        if let Some(secret) = source.get_set("secret") {
            line!(page, 2, "SecretName:\t{}", secret.str_at("name"));
            line!(page, 2, "Optional:\t{}", flag(secret, "optional"));
        } else if source.has("downwardAPI") {
            line!(page, 2, "DownwardAPI:\ttrue");
        } else if let Some(map) = source.get_set("configMap") {
            line!(page, 2, "ConfigMapName:\t{}", map.str_at("name"));
            line!(page, 2, "Optional:\t{}", flag(map, "optional"));
        } else if let Some(token) = source.get_set("serviceAccountToken") {
            line!(page, 2, "TokenExpirationSeconds:\t{}", token.int_at("expirationSeconds"));
        }
    }
}

fn downward(source: &Value, page: &mut Page) {
    line!(page, 2, "Items:");
    for item in source.list_at("items") {
        let from = match item.get_set("fieldRef") {
            Some(field) => field.str_at("fieldPath"),
            None => item.at("resourceFieldRef").str_at("resource"),
        };
        line!(page, 3, "{from} -> {}", item.str_at("path"));
    }
}
