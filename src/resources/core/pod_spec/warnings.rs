//! Texts of `Warning:` headers: what is valid, but hardly meant.

use super::visit;
use crate::api::field::go_quote;
use crate::api::{Fields, Path, Quantity, ip};
use serde_json::Value;
use std::collections::BTreeMap;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const NO_SELECTOR: &str = "a null labelSelector results in matching no pod";
const SECCOMP: &str = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";

/// Labels that nodes have under a newer name.
const DEPRECATED_LABELS: &[(&str, &str)] = &[
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    ("failure-domain.beta.kubernetes.io/zone", "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"),
    ("beta.kubernetes.io/instance-type", "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    ("scheduler.alpha.kubernetes.io/preferAvoidPods", "deprecated since v1.22; use Taints and Tolerations instead"),
    ("node-role.kubernetes.io/master", "use \"node-role.kubernetes.io/control-plane\" instead"),
];
const DEPRECATED_ANNOTATIONS: &[(&str, &str)] = &[
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    ("security.alpha.kubernetes.io/unsafe-sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
];
const DEPRECATED_VOLUMES: &[(&str, &str, &str)] = &[
    ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// What to say of a node label that has a newer name.
pub fn deprecated_node_label(label: &str) -> Option<&'static str> {
    DEPRECATED_LABELS.iter().find(|(name, _)| *name == label).map(|(_, message)| *message)
}

/// Of a pod, at the root.
pub fn pod(object: &Value, path: &Path<'_>, out: &mut Vec<String>) {
    object_with_spec(object, path, false, out);
}

/// Of a template at `path`.
pub fn template(template: &Value, path: &Path<'_>, out: &mut Vec<String>) {
    object_with_spec(template, path, true, out);
}

fn object_with_spec(object: &Value, root: &Path<'_>, is_template: bool, out: &mut Vec<String>) {
    let (spec, annotations) = (object.at("spec"), object.at("metadata").at("annotations"));
    let path = root.child("spec");
    let at_annotations = root.child("metadata.annotations");
    labels_and_topology(spec, &path, out);
    for (key, message) in DEPRECATED_ANNOTATIONS {
        if annotations.has(key) {
            out.push(format!("{}: {message}", at_annotations.key(key)));
        }
    }
    deprecated_volumes(spec, &path, out);
    overlapping_files(spec, out);
    repeated(spec, "hostAliases", "ip", &path, out);
    repeated(spec, "imagePullSecrets", "name", &path, out);
    let secrets = path.child("imagePullSecrets");
    for (index, secret) in spec.list_at("imagePullSecrets").iter().enumerate() {
        if secret.str_at("name").is_empty() {
            out.push(format!("{}: invalid empty name \"\"", secrets.index(index).child("name")));
        }
    }
    fractional(spec.at("overhead"), &path.child("overhead"), out);
    if !spec.at("securityContext").has("seccompProfile") && annotations.has(SECCOMP_POD) {
        out.push(format!("{}: {SECCOMP}", at_annotations.key(SECCOMP_POD)));
    }
    let of_pod = spec.at("securityContext").at("appArmorProfile");
    visit(spec, &path, |container, path| {
        let name = container.str_at("name");
        let context = container.at("securityContext");
        let key = format!("{SECCOMP_CONTAINER}{name}");
        if !context.has("seccompProfile") && annotations.has(&key) {
            out.push(format!("{}: {SECCOMP}", at_annotations.key(&key)));
        }
        app_armor(annotations, name, context, of_pod, is_template, &at_annotations, out);
        for list in ["limits", "requests"] {
            fractional_of(container.at("resources").at(list), "memory", &path.child("resources").child(list), out);
        }
        for list in ["limits", "requests"] {
            let resources = container.at("resources").at(list);
            fractional_of(resources, "ephemeral-storage", &path.child("resources").child(list), out);
        }
        hidden_variables(container, path, out);
    });
    ports(spec, &path, out);
    if spec.int_at("terminationGracePeriodSeconds") < 0 {
        let detail = "must be >= 0; negative values are invalid and will be treated as 1";
        out.push(format!("{}: {detail}", path.child("terminationGracePeriodSeconds")));
    }
    pod_affinity(spec, &path, out);
    let nameservers = path.child("dnsConfig.nameservers");
    for (index, address) in spec.at("dnsConfig").strs_at("nameservers").enumerate() {
        out.extend(ip::ip_warning(&nameservers.index(index).to_string(), address));
    }
    let aliases = path.child("hostAliases");
    for (index, alias) in spec.list_at("hostAliases").iter().enumerate() {
        out.extend(ip::ip_warning(&aliases.index(index).child("ip").to_string(), alias.str_at("ip")));
    }
}

fn labels_and_topology(spec: &Value, path: &Path<'_>, out: &mut Vec<String>) {
    let selector = path.child("nodeSelector");
    for key in spec.map_at("nodeSelector").keys() {
        if let Some(message) = deprecated_node_label(key) {
            out.push(format!("{}: {message}", selector.key(key)));
        }
    }
    let affinity = spec.at("affinity").at("nodeAffinity");
    let terms = path.child("affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms");
    for (index, term) in affinity.at(REQUIRED).list_at("nodeSelectorTerms").iter().enumerate() {
        node_selector_term(term, false, &terms.index(index), out);
    }
    let terms = path.child("affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution");
    for (index, term) in affinity.list_at(PREFERRED).iter().enumerate() {
        node_selector_term(term.at("preference"), true, &terms.index(index).child("preference"), out);
    }
    let list = path.child("topologySpreadConstraints");
    for (index, constraint) in spec.list_at("topologySpreadConstraints").iter().enumerate() {
        let path = list.index(index);
        let key = constraint.str_at("topologyKey");
        if let Some(message) = deprecated_node_label(key) {
            out.push(format!("{}: {key} is {message}", path.child("topologyKey")));
        }
        if !constraint.has("labelSelector") {
            out.push(format!("{}: {NO_SELECTOR}", path.child("labelSelector")));
        }
    }
}

/// `weighted`: the term only prefers, so values that no label has are taken and told of.
pub fn node_selector_term(term: &Value, weighted: bool, path: &Path<'_>, out: &mut Vec<String>) {
    let list = path.child("matchExpressions");
    for (index, expression) in term.list_at("matchExpressions").iter().enumerate() {
        let path = list.index(index);
        let key = expression.str_at("key");
        if let Some(message) = deprecated_node_label(key) {
            out.push(format!("{}: {key} is {message}", path.child("key")));
        }
        if weighted {
            let values = path.child("values");
            for (index, value) in expression.strs_at("values").enumerate() {
                for message in crate::api::names::label_value(value) {
                    let place = values.index(index);
                    out.push(format!("{place}: {value} is invalid, {message}"));
                }
            }
        }
    }
}

fn deprecated_volumes(spec: &Value, path: &Path<'_>, out: &mut Vec<String>) {
    let list = path.child("volumes");
    for (index, volume) in spec.list_at("volumes").iter().enumerate() {
        let path = list.index(index);
        for (field, shown, message) in DEPRECATED_VOLUMES {
            if volume.has(field) {
                out.push(format!("{}: {message}", path.child(shown)));
            }
            if *field == "glusterfs"
                && let Some(template) = volume.at("ephemeral").get_set("volumeClaimTemplate")
            {
                storage_request(template.at("spec"), &path.child("ephemeral.volumeClaimTemplate.spec"), out);
            }
        }
    }
}

fn storage_request(spec: &Value, path: &Path<'_>, out: &mut Vec<String>) {
    let Some(amount) = spec.at("resources").at("requests").get_set("storage").map(Quantity::of) else { return };
    if amount.milli_value() % 1000 != 0 {
        let path = path.child("resources.requests");
        let amount = go_quote(&amount.to_string());
        out.push(format!("{}: fractional byte value {amount} is invalid, must be an integer", path.key("storage")));
    }
}

fn repeated(spec: &Value, field: &str, key: &str, path: &Path<'_>, out: &mut Vec<String>) {
    let list = path.child(field);
    let items = spec.list_at(field);
    for (index, item) in items.iter().enumerate() {
        let value = item.str_at(key);
        if items[..index].iter().any(|earlier| earlier.str_at(key) == value) {
            out.push(format!("{}: duplicate {key} {}", list.index(index).child(key), go_quote(value)));
        }
    }
}

fn fractional(list: &Value, path: &Path<'_>, out: &mut Vec<String>) {
    for name in ["memory", "ephemeral-storage"] {
        fractional_of(list, name, path, out);
    }
}

fn fractional_of(list: &Value, name: &str, path: &Path<'_>, out: &mut Vec<String>) {
    let Some(amount) = list.get_set(name).map(Quantity::of) else { return };
    if amount.milli_value() % 1000 != 0 {
        let amount = go_quote(&amount.to_string());
        out.push(format!("{}: fractional byte value {amount} is invalid, must be an integer", path.key(name)));
    }
}

/// An annotation that no field says too.
fn app_armor(
    annotations: &Value,
    name: &str,
    context: &Value,
    of_pod: &Value,
    is_template: bool,
    path: &Path<'_>,
    out: &mut Vec<String>,
) {
    use crate::resources::core::pod_metadata::{APP_ARMOR, app_armor_field};
    let key = format!("{APP_ARMOR}{name}");
    let Some(annotation) = annotations.optional_str(&key) else { return };
    let field = app_armor_field(annotation);
    // A pod's own annotations became fields before this is asked.
    let told = if is_template {
        !context.has("appArmorProfile") && (of_pod.is_null() || field.as_ref() != Some(of_pod))
    } else {
        field.is_none_or(|field| field != *of_pod)
    };
    if told {
        out.push(format!("{}: deprecated since v1.30; use the \"appArmorProfile\" field instead", path.key(&key)));
    }
}

fn hidden_variables(container: &Value, path: &Path<'_>, out: &mut Vec<String>) {
    let list = path.child("env");
    let variables = container.list_at("env");
    for (index, variable) in variables.iter().enumerate() {
        let name = variable.str_at("name");
        if !variables[..index].iter().any(|earlier| earlier.str_at("name") == name) {
            continue;
        }
        let reference = format!("$({name})");
        let value = variable.str_at("value");
        if variable.has("valueFrom") || value == reference || !value.contains(&reference) {
            let place = list.index(index);
            let name = go_quote(name);
            out.push(format!("{place}: hides previous definition of {name}, which may be dropped when using apply"));
        }
    }
}

struct Port<'a> {
    place: String,
    host_port: i64,
    host_ip: &'a str,
}

fn ports(spec: &Value, path: &Path<'_>, out: &mut Vec<String>) {
    let mut known: BTreeMap<String, Vec<Port>> = BTreeMap::new();
    visit(spec, path, |container, path| {
        let list = path.child("ports");
        for (index, port) in container.list_at("ports").iter().enumerate() {
            let place = list.index(index).to_string();
            let (host_ip, host_port) = (port.str_at("hostIP"), port.int_at("hostPort"));
            if !host_ip.is_empty() && host_port == 0 {
                out.push(format!(
                    "{place}: hostIP set without hostPort: {{Name:{} HostPort:0 ContainerPort:{} Protocol:{} HostIP:{host_ip}}}",
                    port.str_at("name"),
                    port.int_at("containerPort"),
                    port.str_at("protocol"),
                ));
            }
            let others =
                known.entry(format!("{}/{}", port.int_at("containerPort"), port.str_at("protocol"))).or_default();
            for other in others.iter() {
                let what = if host_ip == other.host_ip && host_port == other.host_port {
                    "duplicate port definition"
                } else if host_port == 0 || other.host_port == 0 {
                    "overlapping port definition"
                } else if host_port == other.host_port && host_ip.is_empty() != other.host_ip.is_empty() {
                    "dangerously ambiguous port definition"
                } else {
                    continue;
                };
                out.push(format!("{place}: {what} with {}", other.place));
            }
            others.push(Port { place, host_port, host_ip });
        }
    });
    let mut named: BTreeMap<&str, String> = BTreeMap::new();
    visit(spec, path, |container, path| {
        let list = path.child("ports");
        for (index, port) in container.list_at("ports").iter().enumerate() {
            let name = port.str_at("name");
            if name.is_empty() {
                continue;
            }
            let place = list.index(index).to_string();
            match named.get(name) {
                Some(other) => out.push(format!(
                    "{place}: duplicate port name {} with {other}, services and probes that select ports by name will use {other}",
                    go_quote(name)
                )),
                None => {
                    named.insert(name, place);
                }
            }
        }
    });
}

fn pod_affinity(spec: &Value, path: &Path<'_>, out: &mut Vec<String>) {
    let affinities = path.child("affinity");
    for field in ["podAffinity", "podAntiAffinity"] {
        let affinity = spec.at("affinity").at(field);
        let path = affinities.child(field);
        let list = path.child(REQUIRED);
        for (index, term) in affinity.list_at(REQUIRED).iter().enumerate() {
            if !term.has("labelSelector") {
                out.push(format!("{}: {NO_SELECTOR}", list.index(index).child("labelSelector")));
            }
        }
        let list = path.child(PREFERRED);
        for (index, weighted) in affinity.list_at(PREFERRED).iter().enumerate() {
            if !weighted.at("podAffinityTerm").has("labelSelector") {
                let place = list.index(index);
                out.push(format!("{}: {NO_SELECTOR}", place.child("podAffinityTerm.labelSelector")));
            }
        }
    }
}

/// A file of a volume and what it comes from.
#[derive(PartialEq)]
struct File<'a> {
    path: &'a str,
    source: String,
}

impl File<'_> {
    fn shown(&self) -> String {
        let path = go_quote(self.path);
        if self.source.is_empty() { path } else { format!("{path} ({})", self.source) }
    }

    fn overlaps(&self, other: &Self) -> bool {
        let below = |a: &str, b: &str| format!("{a}/").starts_with(&format!("{b}/"));
        !self.path.is_empty()
            && !other.path.is_empty()
            && (below(self.path, other.path) || below(other.path, self.path))
    }
}

fn overlapping_files(spec: &Value, out: &mut Vec<String>) {
    for volume in spec.list_at("volumes") {
        let name = go_quote(volume.str_at("name"));
        let mut tell = |what: String, files: Vec<File>| {
            for (index, file) in files.iter().enumerate() {
                for other in files[..index].iter().filter(|other| file.overlaps(other)) {
                    let (file, other) = (file.shown(), other.shown());
                    out.push(format!("volume {name} ({what}): overlapping paths: {file} with {other}"));
                }
            }
        };
        let config_map = volume.at("configMap");
        tell(format!("ConfigMap {}", go_quote(config_map.str_at("name"))), items(config_map, ""));
        let secret = volume.at("secret");
        tell(format!("Secret {}", go_quote(secret.str_at("secretName"))), items(secret, ""));
        tell("DownwardAPI".to_owned(), items(volume.at("downwardAPI"), ""));
        let projected = volume.at("projected");
        let files = projected.list_at("sources").iter().flat_map(projected_files).collect();
        tell("Projected".to_owned(), files);
        for source in projected.list_at("sources") {
            if !source.entries().values().any(|value| !value.is_null()) {
                out.push(format!("volume {name} (Projected) has no sources provided"));
            }
        }
    }
}

fn items<'a>(source: &'a Value, name: &str) -> Vec<File<'a>> {
    let file = |item: &'a Value| File { path: item.str_at("path").trim_end_matches('/'), source: name.to_owned() };
    source.list_at("items").iter().map(file).collect()
}

fn projected_files(source: &Value) -> Vec<File<'_>> {
    let one = |path: &'static str, holder: &str, what: String| {
        let path = source.at(holder).str_at(path).trim_end_matches('/');
        if path.is_empty() { None } else { Some(File { path, source: what }) }
    };
    let named = |what: &str, holder: &str| format!("{what} {}", go_quote(source.at(holder).str_at("name")));
    if source.has("configMap") {
        items(source.at("configMap"), &named("ConfigMap", "configMap"))
    } else if source.has("secret") {
        items(source.at("secret"), &named("Secret", "secret"))
    } else if source.has("downwardAPI") {
        items(source.at("downwardAPI"), "DownwardAPI")
    } else if source.has("serviceAccountToken") {
        one("path", "serviceAccountToken", "ServiceAccountToken".to_owned()).into_iter().collect()
    } else if source.has("clusterTrustBundle") {
        let bundle = source.at("clusterTrustBundle");
        let name = bundle.optional_str("name").unwrap_or_else(|| bundle.str_at("signerName"));
        one("path", "clusterTrustBundle", format!("ClusterTrustBundle {}", go_quote(name))).into_iter().collect()
    } else {
        [
            ("certificateChainPath", "PodCertificate chain"),
            ("keyPath", "PodCertificate key"),
            ("credentialBundlePath", "PodCertificate credential bundle"),
        ]
        .into_iter()
        .filter_map(|(path, what)| one(path, "podCertificate", what.to_owned()))
        .collect()
    }
}
