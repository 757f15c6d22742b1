//! The volumes of a pod or of a pod template.

use super::flag;
use super::page::{Page, line};
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
        line!(page, 2, "ReadOnly:\t{}", flag(source, "readOnly"));
    }),
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
        let source = SOURCES.iter().find_map(|(field, what, print)| Some((volume.get_set(field)?, what, print)));
        match source {
            Some((source, what, print)) => {
                line!(page, 2, "Type:\t{what}");
                print(source, page);
            }
            None => line!(page, 1, "<unknown>"),
        }
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
            line!(page, 2, "SecretOptionalName:\t{}", set_or_nil(secret));
        } else if source.has("downwardAPI") {
            line!(page, 2, "DownwardAPI:\ttrue");
        } else if let Some(map) = source.get_set("configMap") {
            line!(page, 2, "ConfigMapName:\t{}", map.str_at("name"));
            line!(page, 2, "ConfigMapOptional:\t{}", set_or_nil(map));
        } else if let Some(token) = source.get_set("serviceAccountToken") {
            line!(page, 2, "TokenExpirationSeconds:\t{}", token.int_at("expirationSeconds"));
        }
    }
}

fn set_or_nil(source: &Value) -> &'static str {
    match source.optional_bool("optional") {
        None => "<nil>",
        Some(true) => "true",
        Some(false) => "false",
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
