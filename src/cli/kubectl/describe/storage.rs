//! What storage is made of: volumes, claims, classes, and the drivers of a node.

use super::page::{Page, line, or_none};
use super::rows::Row::{self, Annotations, Flag, If, Labels, Or, Pairs, Text, Time};
use super::rows::{NAME, NAMESPACE};
use super::{Lists, Related, Select, volumes};
use crate::api::Fields;
use crate::client::kinds;
use crate::resources::cells::{Clock, since};
use serde_json::Value;

/// What named the class before there was a field.
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

fn class(object: &Value) -> &str {
    let old = object.at("metadata").at("annotations").str_at(OLD_CLASS);
    if old.is_empty() { object.at("spec").str_at("storageClassName") } else { old }
}

/// `RWO,ROX`.
fn access_modes(modes: &Value, field: &str) -> String {
    const SHORT: &[(&str, &str)] =
        &[("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let given: Vec<&str> = modes.strs_at(field).collect();
    let short = SHORT.iter().filter(|(mode, _)| given.contains(mode)).map(|(_, short)| *short);
    short.collect::<Vec<_>>().join(",")
}

fn status(object: &Value, page: &mut Page) {
    match object.at("metadata").str_at("deletionTimestamp") {
        "" => page.rows(0, object, &[Text("Status", "/status/phase")]),
        time => line!(page, 0, "Status:\tTerminating (lasts {})", since(time, &Clock::now())),
    }
}

fn finalizers(object: &Value, page: &mut Page) {
    line!(page, 0, "Finalizers:\t{}", super::go_strings(object.at("metadata").strs_at("finalizers")));
}

pub(super) fn print_volume(volume: &Value, _: &Lists, page: &mut Page) {
    let spec = volume.at("spec");
    page.rows(0, volume, &[NAME, Labels, Annotations]);
    finalizers(volume, page);
    line!(page, 0, "StorageClass:\t{}", class(volume));
    status(volume, page);
    let claim = spec.get_set("claimRef");
    let claim = claim.map(|claim| format!("{}/{}", claim.str_at("namespace"), claim.str_at("name")));
    line!(page, 0, "Claim:\t{}", claim.unwrap_or_default());
    page.rows(0, volume, &[Text("Reclaim Policy", "/spec/persistentVolumeReclaimPolicy")]);
    line!(page, 0, "Access Modes:\t{}", access_modes(spec, "accessModes"));
    page.rows(0, volume, &[If("VolumeMode", "/spec/volumeMode"), Or("Capacity", "/spec/capacity/storage", "0")]);
    match spec.at("nodeAffinity").get_set("required") {
        None => line!(page, 0, "Node Affinity:\t<none>"),
        Some(required) => {
            line!(page, 0, "Node Affinity:\t");
            let terms = required.list_at("nodeSelectorTerms");
            line!(page, 1, "Required Terms:\t{}", if terms.is_empty() { "<none>" } else { "" });
            print_terms(2, terms, "matchExpressions", page);
        }
    }
    page.rows(0, volume, &[Text("Message", "/status/message")]);
    line!(page, 0, "Source:");
    volumes::print_source(spec, page);
}

/// `Term 0:\tzone in [a, b]`, a line per requirement.
fn print_terms(level: usize, terms: &[Value], field: &str, page: &mut Page) {
    for (at, term) in terms.iter().enumerate() {
        let requirements = term.list_at(field);
        if requirements.is_empty() {
            line!(page, level, "Term {at}:\t<none>");
        }
        for (place, requirement) in requirements.iter().enumerate() {
            let title = if place == 0 { format!("Term {at}:") } else { String::new() };
            let operator = requirement.optional_str("operator").unwrap_or("In").to_lowercase();
            let values: Vec<&str> = requirement.strs_at("values").collect();
            let values = if values.is_empty() { String::new() } else { format!(" [{}]", values.join(", ")) };
            line!(page, level, "{title}\t{} {operator}{values}", requirement.str_at("key"));
        }
    }
}

pub(super) const CLAIM_RELATED: &[Related] = &[Related {
    name: "pods",
    kind: kinds::PODS,
    select: |claim| Select { namespace: claim.at("metadata").str_at("namespace").to_owned(), ..Select::default() },
}];

pub(super) fn print_claim(claim: &Value, lists: &Lists, page: &mut Page) {
    page.rows(0, claim, &[NAME, NAMESPACE]);
    line!(page, 0, "StorageClass:\t{}", class(claim));
    status(claim, page);
    page.rows(0, claim, &[Text("Volume", "/spec/volumeName"), Labels, Annotations]);
    finalizers(claim, page);
    let bound = !claim.at("spec").str_at("volumeName").is_empty();
    let capacity = claim.at("status").at("capacity").optional_str("storage").unwrap_or("0");
    line!(page, 0, "Capacity:\t{}", if bound { capacity } else { "" });
    let modes = if bound { access_modes(claim.at("status"), "accessModes") } else { String::new() };
    line!(page, 0, "Access Modes:\t{modes}");
    page.rows(0, claim, &[If("VolumeMode", "/spec/volumeMode")]);
    if let Some(source) = claim.at("spec").get_set("dataSource") {
        line!(page, 0, "DataSource:");
        page.rows(1, source, &[If("APIGroup", "/apiGroup"), Text("Kind", "/kind"), Text("Name", "/name")]);
    }
    let (name, metadata) = (claim.at("metadata").str_at("name"), claim.at("metadata"));
    let uses = |pod: &&Value| {
        let mut volumes = pod.at("spec").list_at("volumes").iter();
        let mut owners = metadata.list_at("ownerReferences").iter();
        volumes.any(|volume| volume.at("persistentVolumeClaim").str_at("claimName") == name)
            || owners
                .any(|owner| owner.str_at("kind") == "Pod" && owner.str_at("uid") == pod.at("metadata").str_at("uid"))
    };
    let mut pods: Vec<String> =
        lists.items("pods").iter().filter(uses).map(|pod| pod.at("metadata").str_at("name").to_owned()).collect();
    pods.sort();
    page.list("Used By", pods);
    let conditions = claim.at("status").list_at("conditions");
    if !conditions.is_empty() {
        line!(page, 0, "Conditions:");
        line!(page, 1, "Type\tStatus\tLastProbeTime\tLastTransitionTime\tReason\tMessage");
        line!(page, 1, "----\t------\t-----------------\t------------------\t------\t-------");
        for condition in conditions {
            let text = |field: &str| condition.str_at(field);
            let time = |field: &str| super::page::time(condition.str_at(field));
            line!(
                page,
                1,
                "{} \t{} \t{} \t{} \t{} \t{}",
                text("type"),
                text("status"),
                time("lastProbeTime"),
                time("lastTransitionTime"),
                text("reason"),
                text("message")
            );
        }
    }
}

/// The claims that a StatefulSet makes.
pub(super) fn claim_templates(templates: &[Value], page: &mut Page) {
    if templates.is_empty() {
        line!(page, 0, "Volume Claims:\t<none>");
        return;
    }
    line!(page, 0, "Volume Claims:");
    for claim in templates {
        let (metadata, spec) = (claim.at("metadata"), claim.at("spec"));
        page.rows(1, claim, &[NAME]);
        line!(page, 1, "StorageClass:\t{}", class(claim));
        page.labels("  Labels", metadata.at("labels"));
        page.labels("  Annotations", metadata.at("annotations"));
        page.rows(1, claim, &[Or("Capacity", "/spec/resources/requests/storage", "<default>")]);
        line!(page, 1, "Access Modes:\t{}", super::go_strings(spec.strs_at("accessModes")));
    }
}

pub(super) fn print_class(class: &Value, _: &Lists, page: &mut Page) {
    let annotations = class.at("metadata").at("annotations");
    let default = ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"]
        .iter()
        .any(|name| annotations.str_at(name) == "true");
    const ROWS: &[Row] = &[
        Pairs("Annotations", "/metadata/annotations"),
        Text("Provisioner", "/provisioner"),
        Pairs("Parameters", "/parameters"),
        Flag("AllowVolumeExpansion", "/allowVolumeExpansion"),
    ];
    page.rows(0, class, &[NAME]);
    line!(page, 0, "IsDefaultClass:\t{}", if default { "Yes" } else { "No" });
    page.rows(0, class, ROWS);
    let options: Vec<&str> = class.strs_at("mountOptions").collect();
    match options.as_slice() {
        [] => line!(page, 0, "MountOptions:\t<none>"),
        options => {
            line!(page, 0, "MountOptions:");
            options.iter().for_each(|option| line!(page, 1, "{option}"));
        }
    }
    page.rows(0, class, &[If("ReclaimPolicy", "/reclaimPolicy"), If("VolumeBindingMode", "/volumeBindingMode")]);
    if let Some(Value::Array(topologies)) = class.get("allowedTopologies") {
        line!(page, 0, "AllowedTopologies:\t{}", if topologies.is_empty() { "<none>" } else { "" });
        print_terms(1, topologies, "matchLabelExpressions", page);
    }
}

pub(super) fn print_attributes_class(class: &Value, _: &Lists, page: &mut Page) {
    const ROWS: &[Row] = &[
        NAME,
        Pairs("Annotations", "/metadata/annotations"),
        Text("DriverName", "/driverName"),
        Pairs("Parameters", "/parameters"),
    ];
    page.rows(0, class, ROWS);
}

pub(super) fn print_csi_node(node: &Value, _: &Lists, page: &mut Page) {
    page.rows(0, node, &[NAME, Labels, Annotations, Time("CreationTimestamp", "/metadata/creationTimestamp")]);
    line!(page, 0, "Spec:");
    let Some(drivers) = node.at("spec").get_set("drivers") else { return };
    line!(page, 1, "Drivers:");
    for driver in drivers.as_array().into_iter().flatten() {
        line!(page, 2, "{}:", or_none(driver.str_at("name")));
        page.rows(3, driver, &[Text("Node ID", "/nodeID")]);
        if driver.at("allocatable").has("count") {
            line!(page, 3, "Allocatables:");
            page.rows(4, driver, &[Text("Count", "/allocatable/count")]);
        }
        page.rows(3, driver, &[If("Topology Keys", "/topologyKeys")]);
    }
}
