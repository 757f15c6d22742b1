//! What an update may change of a pod: of the pod itself, by `ephemeralcontainers`, by `resize`.

use super::go_diff;
use super::pod::metadata_and_spec;
use super::pod_metadata;
use super::pod_spec::containers::{image_whitespace, is_sidecar};
use super::pod_spec::{Options, drop_disabled, placement, quality};
use crate::api::value::{equal, same};
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report, names};
use crate::resources::{Context, Strategy};
use serde_json::Value;

const METADATA: Path<'static> = Path::new("metadata");
const SPEC: Path<'static> = Path::new("spec");
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const CHANGEABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
const RESIZED: &[&str] = &["cpu", "memory"];

fn options(old: &Value) -> Options {
    Options::update(true, old.at("spec"), old.at("metadata").at("annotations"))
}

/// The errors of a pod that replaces `old`.
pub fn validate(object: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    shared(object, old, &mut errors);
    let (spec, old_spec) = (object.at("spec"), old.at("spec"));
    for field in ["containers", "initContainers"] {
        let list = SPEC.child(field);
        let containers = spec.list_at(field);
        if containers.len() != old_spec.list_at(field).len() {
            errors.forbidden(&list, "pod updates may not add or remove containers");
            return errors;
        }
        for (index, container) in containers.iter().enumerate() {
            let path = list.index(index);
            if container.str_at("image").is_empty() {
                errors.required(&path.child("image"), "");
            }
            image_whitespace(container, &path, &mut errors);
        }
    }
    if !deadline(spec, old_spec, &mut errors) {
        return errors;
    }
    tolerations(spec, old_spec, &mut errors);
    let gates = SPEC.child("schedulingGates");
    for (index, gate) in spec.list_at("schedulingGates").iter().enumerate() {
        let name = gate.str_at("name");
        if !old_spec.list_at("schedulingGates").iter().any(|old| old.str_at("name") == name) {
            let detail = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.forbidden(&gates.index(index).child("name"), detail);
        }
    }
    if !equal(spec, old_spec) {
        let masked = masked(spec, old_spec, &mut errors);
        if !equal(&masked, old_spec) {
            let difference = go_diff::difference(old_spec, &masked, go_diff::POD);
            errors.forbidden(&SPEC, format!("{CHANGEABLE}\n{difference}"));
        }
    }
    errors
}

fn shared(object: &Value, old: &Value, errors: &mut ErrorList) {
    let options = options(old);
    metadata_and_spec(object, &options, errors);
    annotations(object, old, &options, errors);
}

/// The annotations of a pod that replaces `old`, by whatever subresource.
pub fn annotations(object: &Value, old: &Value, options: &Options, errors: &mut ErrorList) {
    let (new, before) = (object.at("metadata").at("annotations"), old.at("metadata").at("annotations"));
    let path = METADATA.child("annotations");
    pod_metadata::validate_update(new, before, &path, errors);
    pod_metadata::validate(new, object.at("spec"), &path, options, errors);
}

/// False: there is no point in going on.
fn deadline(spec: &Value, old: &Value, errors: &mut ErrorList) -> bool {
    let path = SPEC.child("activeDeadlineSeconds");
    let before = old.optional_int("activeDeadlineSeconds");
    match (spec.optional_int("activeDeadlineSeconds"), before) {
        (Some(seconds), _) if !(0..=i64::from(i32::MAX)).contains(&seconds) => {
            errors.invalid(&path, seconds, names::inclusive_range(0, i64::from(i32::MAX)));
            false
        }
        (Some(seconds), Some(before)) if before < seconds => {
            errors.invalid(&path, seconds, "must be less than or equal to previous value");
            false
        }
        (None, Some(_)) => {
            errors.invalid(&path, Value::Null, "must not update from a positive integer to nil value");
            true
        }
        _ => true,
    }
}

fn tolerations(spec: &Value, old: &Value, errors: &mut ErrorList) {
    let path = SPEC.child("tolerations");
    let new = spec.list_at("tolerations");
    let but_seconds = |one: &Value, two: &Value| {
        ["key", "operator", "value", "effect"].iter().all(|field| one.str_at(field) == two.str_at(field))
    };
    for before in old.list_at("tolerations") {
        if !new.iter().any(|toleration| but_seconds(toleration, before)) {
            errors.forbidden(&path, "existing toleration can not be modified except its tolerationSeconds");
            return;
        }
    }
    placement::tolerations(new, &path, errors);
}

/// The new spec with what may change put back to what it was.
fn masked(spec: &Value, old: &Value, errors: &mut ErrorList) -> Value {
    let mut masked = spec.clone();
    for field in ["containers", "initContainers"] {
        for (container, before) in masked.items_mut(field).zip(old.list_at(field)) {
            container.copy("image", before);
        }
    }
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        masked.copy(field, old);
    }
    if old.int_at("terminationGracePeriodSeconds") < 0 && masked.int_at("terminationGracePeriodSeconds") == 1 {
        masked.copy("terminationGracePeriodSeconds", old);
    }
    if !old.list_at("schedulingGates").is_empty() {
        gated(&mut masked, old, errors);
    }
    masked
}

/// A pod behind a gate may still be narrowed to fewer nodes.
fn gated(masked: &mut Value, old: &Value, errors: &mut ErrorList) {
    if !same(masked.at("nodeSelector"), old.at("nodeSelector")) {
        let new = masked.map_at("nodeSelector");
        if old.map_at("nodeSelector").iter().any(|(key, value)| new.get(key) != Some(value)) {
            let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
            errors.invalid(&SPEC.child("nodeSelector"), masked.at("nodeSelector").clone(), detail);
        }
        masked.copy("nodeSelector", old);
    }
    let before = old.at("affinity").at("nodeAffinity");
    let new = masked.at("affinity").at("nodeAffinity");
    if equal(new, before) {
        return;
    }
    let path = SPEC.child("affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms");
    let old_terms = before.at(REQUIRED).list_at("nodeSelectorTerms");
    let new_terms = new.at(REQUIRED).list_at("nodeSelectorTerms");
    if !old_terms.is_empty() && old_terms.len() != new_terms.len() {
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.invalid(&path, new_terms.to_vec(), detail);
    } else {
        for (index, (new, before)) in new_terms.iter().zip(old_terms).enumerate() {
            if !only_added(new, before) {
                let detail = "only additions are allowed (no mutations or deletions)";
                errors.invalid(&path.index(index), new.clone(), detail);
            }
        }
    }
    let others = ["podAffinity", "podAntiAffinity"].iter().any(|field| masked.at("affinity").has(field));
    if !old.has("affinity") && !others {
        masked.clear("affinity");
    } else {
        masked.object_mut("affinity").copy("nodeAffinity", old.at("affinity"));
    }
}

fn only_added(new: &Value, old: &Value) -> bool {
    let fields = ["matchExpressions", "matchFields"];
    if fields.iter().all(|field| old.list_at(field).is_empty()) {
        return fields.iter().all(|field| new.list_at(field).is_empty());
    }
    fields.iter().all(|field| new.list_at(field).starts_with(old.list_at(field)))
}

/// All but a part of the spec stays as it was, and of the metadata what clients may not touch here.
fn keep_all_but_spec(object: &mut Value, old: &Value) {
    object.copy("status", old);
    for field in
        ["deletionTimestamp", "deletionGracePeriodSeconds", "labels", "annotations", "finalizers", "ownerReferences"]
    {
        object.object_mut("metadata").copy(field, old.at("metadata"));
    }
}

/// The strategy of `pods/ephemeralcontainers`.
pub struct EphemeralContainers;

impl Strategy for EphemeralContainers {
    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        let mut spec = old.at("spec").clone();
        spec.copy("ephemeralContainers", object.at("spec"));
        object.set("spec", spec);
        keep_all_but_spec(object, old);
        drop_disabled(object.object_mut("spec"), Some(old.at("spec")));
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        shared(object, old, &mut errors);
        if old.at("metadata").at("annotations").has("kubernetes.io/config.mirror") {
            let mut errors = ErrorList::new();
            errors.forbidden(&Path::new(""), "static pods do not support ephemeral containers");
            return errors;
        }
        let path = SPEC.child("ephemeralContainers");
        let list = object.at("spec").list_at("ephemeralContainers");
        for before in old.at("spec").list_at("ephemeralContainers") {
            let name = before.str_at("name");
            match list.iter().find(|container| container.str_at("name") == name) {
                None => {
                    errors.forbidden(&path, format!("existing ephemeral containers \"{name}\" may not be removed\n"))
                }
                Some(container) if !equal(container, before) => {
                    let difference = go_diff::difference(before, container, go_diff::EPHEMERAL_CONTAINER);
                    let detail = format!("existing ephemeral containers \"{name}\" may not be changed\n{difference}");
                    errors.forbidden(&path, detail);
                }
                Some(_) => {}
            }
        }
        errors
    }
}

/// The strategy of `pods/resize`.
pub struct Resize;

impl Strategy for Resize {
    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        let lists = ["containers", "initContainers"];
        let same_length = |field: &&str| object.at("spec").list_at(field).len() == old.at("spec").list_at(field).len();
        if !lists.iter().all(|field| same_length(&field)) {
            return;
        }
        let mut spec = old.at("spec").clone();
        spec.copy("resources", object.at("spec"));
        for field in lists {
            let renamed = |(new, old): (&Value, &Value)| new.str_at("name") != old.str_at("name");
            let (new, before) = (object.at("spec").list_at(field), old.at("spec").list_at(field));
            if new.iter().zip(before).any(renamed) {
                spec.copy(field, object.at("spec"));
                continue;
            }
            for (container, new) in spec.items_mut(field).zip(new) {
                container.copy("resources", new);
                container.copy("resizePolicy", new);
            }
        }
        object.set("spec", spec);
        keep_all_but_spec(object, old);
        drop_disabled(object.object_mut("spec"), Some(old.at("spec")));
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        metadata_and_spec(object, &options(old), &mut errors);
        let (spec, before) = (object.at("spec"), old.at("spec"));
        let refused = if old.at("metadata").at("annotations").has("kubernetes.io/config.mirror") {
            Some("static pods cannot be resized")
        } else {
            (before.at("os").str_at("name") == "windows").then_some("windows pods cannot be resized")
        };
        if let Some(refused) = refused {
            let mut errors = ErrorList::new();
            errors.forbidden(&Path::new(""), refused);
            return errors;
        }
        let class = old.at("status").str_at("qosClass");
        let class = if class.is_empty() { quality::class(before) } else { class };
        if class != quality::class(spec) {
            let detail = "Pod QOS Class may not change as a result of resizing";
            errors.invalid(&SPEC, object.at("status").str_at("qosClass"), detail);
        }
        let mut running = old.at("status").list_at("containerStatuses").iter();
        if running.find(|status| status.at("state").has("running")).is_some_and(|status| !status.has("resources")) {
            errors.forbidden(&SPEC, "Pod running on node without support for resize");
        }
        resized(spec, before, &mut errors);
        errors
    }
}

fn resized(spec: &Value, old: &Value, errors: &mut ErrorList) {
    let mut masked = spec.clone();
    pod_level(&mut masked, old, errors);
    let count = errors.len();
    for field in ["containers", "initContainers"] {
        let list = SPEC.child(field);
        let (new, before) = (spec.list_at(field), old.list_at(field));
        if new.len() != before.len() {
            errors.forbidden(&list, format!("{field} may not be added or removed on resize"));
        } else {
            for (index, (new, before)) in new.iter().zip(before).enumerate() {
                if new.str_at("name") != before.str_at("name") {
                    let detail = format!("{field} may not be renamed or reordered on resize");
                    errors.forbidden(&list.index(index).child("name"), detail);
                }
            }
        }
    }
    if errors.len() > count {
        return;
    }
    for field in ["initContainers", "containers"] {
        let list = SPEC.child(field);
        for (index, (new, before)) in spec.list_at(field).iter().zip(old.list_at(field)).enumerate() {
            if field == "initContainers" && !is_sidecar(before) {
                continue;
            }
            let path = list.index(index);
            removed(new.at("resources"), before.at("resources"), &path.child("resources"), "resource", errors);
        }
    }
    for (container, before) in masked.items_mut("containers").zip(old.list_at("containers")) {
        mask(container.object_mut("resources"), before.at("resources"));
        if !equal(container, before) {
            errors.forbidden(&SPEC, "only cpu and memory resources are mutable");
        }
    }
    let list = SPEC.child("initContainers");
    for (index, (container, before)) in
        masked.items_mut("initContainers").zip(old.list_at("initContainers")).enumerate()
    {
        if !is_sidecar(container) {
            if !equal(container, before) {
                errors.forbidden(&SPEC, "resources for non-sidecar init containers are immutable");
            }
            continue;
        }
        mask(container.object_mut("resources"), before.at("resources"));
        if !equal(container, before) {
            let detail = "only cpu and memory resources for init or sidecar containers are mutable";
            errors.forbidden(&list.index(index), detail);
        }
    }
    if errors.is_empty() && !equal(&masked, old) {
        errors.forbidden(&SPEC, "only cpu and memory resources are mutable");
    }
}

fn pod_level(masked: &mut Value, old: &Value, errors: &mut ErrorList) {
    let path = SPEC.child("resources");
    match (masked.has("resources"), old.has("resources")) {
        (false, true) => errors.forbidden(&path, "pod-level resources cannot be removed"),
        (false, false) => {}
        (true, before) => {
            if before {
                removed(masked.at("resources"), old.at("resources"), &path, "pod-level resource", errors);
            }
            mask(masked.object_mut("resources"), old.at("resources"));
            let left = masked.at("resources");
            if !before && ["limits", "requests"].iter().all(|list| left.map_at(list).is_empty()) {
                masked.clear("resources");
            }
            if !same(masked.at("resources"), old.at("resources")) {
                errors.forbidden(&SPEC, "only cpu and memory resources are mutable at pod-level");
            }
        }
    }
}

fn removed(new: &Value, old: &Value, path: &Path<'_>, what: &str, errors: &mut ErrorList) {
    for list in ["requests", "limits"] {
        let kept = new.map_at(list);
        if old.map_at(list).keys().any(|name| !kept.contains_key(name)) {
            errors.forbidden(&path.child(list), format!("{what} {list} cannot be removed"));
        }
    }
}

/// Puts CPU and memory back to what they were.
fn mask(resources: &mut Value, old: &Value) {
    for list in ["requests", "limits"] {
        for name in RESIZED {
            match old.at(list).get_set(name) {
                Some(amount) => resources.object_mut(list).set(name, amount.clone()),
                None => {
                    if let Some(list) = resources.set_mut(list) {
                        list.clear(name);
                    }
                }
            }
        }
        // A list of nothing else is as absent as it was.
        if resources.map_at(list).is_empty() {
            resources.clear(list);
        }
    }
}
