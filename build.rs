//! Build-time facts: when the source was last changed, and the descriptions of types and fields.

use flate2::Compression;
use flate2::write::ZlibEncoder;
use k8s_openapi::{api, apiextensions_apiserver, apimachinery, kube_aggregator};
use schemars::SchemaGenerator;
use serde_json::Value;
use std::env;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

const COLUMNS: &str = "src/resources/columns.txt";
const OPENAPI: &str = "src/schema/facts/openapi.txt";
const UNWIND_SCRIPT: &str = "packaging/no-unwind.ld";

fn main() {
    println!("cargo::rerun-if-changed=Cargo.toml");
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo::rustc-env=ORCH_BUILT_AT={}", built_at());
    let out = env::var_os("OUT_DIR").expect("cargo sets it");
    println!("cargo::rerun-if-changed={COLUMNS}");
    println!("cargo::rerun-if-changed={OPENAPI}");
    let definitions = definitions();
    write_descriptions(&definitions, &Path::new(&out).join("descriptions.z"));
    write_columns(&definitions, &Path::new(&out).join("columns.txt"));
    drop_unwind_tables();
}

/// A release never unwinds: the tables for it, an eighth of the binary, stay out of it. GNU ld, because
/// lld cannot keep those that the unwinder needs to find out that there is nothing to unwind.
fn drop_unwind_tables() {
    println!("cargo::rerun-if-changed={UNWIND_SCRIPT}");
    if env::var("PROFILE").as_deref() == Ok("release") {
        let tree = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
        println!("cargo::rustc-link-arg-bins=-fuse-ld=bfd");
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{tree}/{UNWIND_SCRIPT}");
    }
}

/// Reproducible builds give it; else the last commit; else now. Seconds since the epoch.
fn built_at() -> u64 {
    let given = env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok());
    let committed = || {
        let output = Command::new("git").args(["log", "-1", "--format=%ct"]).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse().ok()
    };
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map(|now| now.as_secs()).unwrap_or_default();
    given.or_else(committed).unwrap_or_else(now)
}

macro_rules! add {
    ($generator:ident, $($path:path { $($kind:ident)* })*) => { $($({
        use $path as versions;
        $generator.subschema_for::<versions::$kind>();
    })*)* };
}

type Definitions = serde_json::Map<String, Value>;

/// What the API says of its types.
fn definitions() -> Definitions {
    let mut generator = SchemaGenerator::default();
    add! { generator,
        api::admissionregistration::v1 { MutatingAdmissionPolicy MutatingAdmissionPolicyBinding MutatingWebhookConfiguration
            ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding ValidatingWebhookConfiguration }
        api::apps::v1 { ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet }
        api::authentication::v1 { SelfSubjectReview TokenRequest TokenReview }
        api::authorization::v1 { LocalSubjectAccessReview SelfSubjectAccessReview SelfSubjectRulesReview SubjectAccessReview }
        api::autoscaling::v1 { HorizontalPodAutoscaler Scale }
        api::autoscaling::v2 { HorizontalPodAutoscaler }
        api::batch::v1 { CronJob Job }
        api::certificates::v1 { CertificateSigningRequest }
        api::coordination::v1 { Lease }
        api::core::v1 { Binding ComponentStatus ConfigMap Endpoints Event LimitRange Namespace Node PersistentVolume
            PersistentVolumeClaim Pod PodTemplate ReplicationController ResourceQuota Secret Service ServiceAccount }
        api::discovery::v1 { EndpointSlice }
        api::events::v1 { Event }
        api::flowcontrol::v1 { FlowSchema PriorityLevelConfiguration }
        api::networking::v1 { IPAddress Ingress IngressClass NetworkPolicy ServiceCIDR }
        api::node::v1 { RuntimeClass }
        api::policy::v1 { Eviction PodDisruptionBudget }
        api::rbac::v1 { ClusterRole ClusterRoleBinding Role RoleBinding }
        api::resource::v1 { DeviceClass ResourceClaim ResourceClaimTemplate ResourceSlice }
        api::scheduling::v1 { PriorityClass }
        api::storage::v1 { CSIDriver CSINode CSIStorageCapacity StorageClass VolumeAttachment VolumeAttributesClass }
        apiextensions_apiserver::pkg::apis::apiextensions::v1 { CustomResourceDefinition }
        kube_aggregator::pkg::apis::apiregistration::v1 { APIService }
        apimachinery::pkg::apis::meta::v1 { APIGroup APIGroupList APIResourceList APIVersions DeleteOptions Status }
    }
    generator.definitions().clone()
}

/// The texts of `kubectl explain`, compressed into the binary: lines of `T<definition>\t<text>` and `F<field>\t<text>`; a line break in a text is `\x01`.
/// Enumerations are `T<type>\t` and `F<value>\t<text>`, what schemas have
/// besides is `T@<definition>[/<field>]\t<JSON>`, a blank line more before values `T+<definition>/<field>\t\x01`.
fn write_descriptions(definitions: &Definitions, path: &Path) {
    let mut text = String::new();
    let mut line = |mark: char, name: &str, schema: &Value| {
        if let Some(description) = schema.get("description").and_then(Value::as_str) {
            text.push_str(&format!("{mark}{name}\t{}\n", description.replace('\n', "\x01")));
        } else if mark == 'T' {
            text.push_str(&format!("T{name}\t\n"));
        }
    };
    for (name, schema) in definitions {
        line('T', name, schema);
        for (field, schema) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            line('F', field, schema);
        }
    }
    for line in std::fs::read_to_string(OPENAPI).expect("it is in the tree").lines() {
        let line = line.replace("\\n", "\x01");
        if let Some(field) = line.strip_prefix(' ') {
            text.push_str(&format!("F{field}\n"));
        } else if let Some(definition) = line.strip_prefix("define ") {
            text.push_str(&format!("T{definition}\n"));
        } else if let Some(kind) = line.strip_prefix("enum ") {
            text.push_str(&format!("T{kind}\t\n"));
        } else if let Some(schema) = line.strip_prefix("extend ") {
            text.push_str(&format!("T@{schema}\n"));
        } else if let Some(field) = line.strip_prefix("gap ") {
            text.push_str(&format!("T+{field}\t\x01\n"));
        }
    }
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text.as_bytes()).expect("a Vec takes it");
    std::fs::write(path, encoder.finish().expect("a Vec takes it")).expect("OUT_DIR is writable");
}

/// The texts of the columns of Tables, with what the API says of a field in the place of its name.
fn write_columns(definitions: &Definitions, path: &Path) {
    let table = std::fs::read_to_string(COLUMNS).expect("it is in the tree");
    let mut text = String::new();
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        match line.split_once("\t@") {
            None => text.push_str(line),
            Some((column, field)) => {
                let (definition, name) = field.rsplit_once('.').expect("a definition and a field");
                let property = definitions
                    .get(&format!("io.k8s.{definition}"))
                    .and_then(|schema| schema.pointer(&format!("/properties/{name}/description")));
                let said = property.and_then(Value::as_str).unwrap_or_else(|| panic!("{COLUMNS}: no field {field}"));
                text.push_str(&format!("{column}\t{}", as_documentation(said)));
            }
        }
        text.push('\n');
    }
    std::fs::write(path, text).expect("OUT_DIR is writable");
}

/// Lines run on; paragraphs and lines that are set in stay; `\n` is written out.
fn as_documentation(description: &str) -> String {
    let mut text = String::new();
    for line in description.lines() {
        let line = line.trim_end();
        if line.is_empty() {
            text.pop();
            text.push_str("\n\n");
        } else if line.starts_with([' ', '\t']) {
            // Its own line: in the place of the blank or the end of the line before.
            text.pop();
            text.push_str(&format!("\n{line}\n"));
        } else {
            text.push_str(line);
            text.push(' ');
        }
    }
    text.trim_end().replace('\n', "\\n")
}
