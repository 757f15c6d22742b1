//! CSIDriver: how Kubernetes talks to a storage driver.

use crate::api::value::same;
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report};
use crate::resources::{Column, Context, Resource, Strategy, cells};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        namespaced: false,
        columns: vec![
            Column::name(),
            Column::boolean("AttachRequired"),
            Column::boolean("PodInfoOnMount"),
            Column::boolean("StorageCapacity"),
            Column::string("TokenRequests"),
            Column::boolean("RequiresRepublish"),
            Column::string("Modes"),
            Column::string("Age"),
        ],
        strategy: Arc::new(CsiDriver),
        ..Resource::new("storage.k8s.io", "v1", "CSIDriver", "csidrivers")
    }
}

struct CsiDriver;

const SPEC: Path<'static> = Path::new("spec");
const TOKEN_SECONDS: i64 = 600;
const UPDATE_SECONDS: i64 = 10;
/// Behind a feature that is off unless it is asked for.
const NOT_SERVED: &str = "preventPodSchedulingIfMissing";
const TOKENS_IN_SECRETS: &str = "serviceAccountTokenInSecrets";

impl Strategy for CsiDriver {
    fn default(&self, object: &mut Value) {
        let spec = object.object_mut("spec");
        spec.set_default("attachRequired", true);
        spec.set_default("fsGroupPolicy", "ReadWriteOnceWithFSType");
        for field in ["podInfoOnMount", "requiresRepublish", "seLinuxMount", "storageCapacity"] {
            spec.set_default(field, false);
        }
        if spec.list_at("volumeLifecycleModes").is_empty() {
            spec.set("volumeLifecycleModes", json!(["Persistent"]));
        }
    }

    fn prepare_create(&self, object: &mut Value, _: &Context) {
        object.object_mut("spec").clear(NOT_SERVED);
    }

    /// The first generation is not numbered.
    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        if !old.at("spec").has(NOT_SERVED) {
            object.object_mut("spec").clear(NOT_SERVED);
        }
        if !same(object.at("spec"), old.at("spec")) {
            let generation = old.at("metadata").int_at("generation") + 1;
            object.object_mut("metadata").set("generation", generation);
        }
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        validate(object.at("spec"), &mut errors);
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(object);
        let (new, before) = (object.at("spec"), old.at("spec"));
        errors.immutable(&SPEC.child("attachedRequired"), new.at("attachRequired"), before.at("attachRequired"));
        let modes = "volumeLifecycleModes";
        errors.immutable(&SPEC.child(modes), new.at(modes), before.at(modes));
        errors
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let spec = object.at("spec");
        let requests = spec.at("tokenRequests");
        let changed = old.is_none_or(|old| !same(requests, old.at("spec").at("tokenRequests")));
        if !changed || requests.items().is_empty() || spec.has(TOKENS_IN_SECRETS) {
            return Vec::new();
        }
        let advice = "set to true to prevent possible logging of tokens in volume attributes";
        vec![format!("spec.{TOKENS_IN_SECRETS} is unset; if supported by this CSI driver, {advice}")]
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        let spec = object.at("spec");
        let audiences: Vec<&str> =
            spec.list_at("tokenRequests").iter().map(|request| request.str_at("audience")).collect();
        let audiences = if spec.has("tokenRequests") { audiences.join(",") } else { "<unset>".to_owned() };
        let modes: Vec<&str> = spec.strs_at("volumeLifecycleModes").collect();
        Some(vec![
            cells::name(object),
            spec.bool_at("attachRequired").into(),
            spec.bool_at("podInfoOnMount").into(),
            spec.bool_at("storageCapacity").into(),
            audiences.into(),
            spec.bool_at("requiresRepublish").into(),
            modes.join(",").into(),
            cells::age(object, now),
        ])
    }
}

fn validate(spec: &Value, errors: &mut ErrorList) {
    for (field, name) in [
        ("attachRequired", "attachedRequired"),
        ("podInfoOnMount", "podInfoOnMount"),
        ("storageCapacity", "storageCapacity"),
    ] {
        if !spec.has(field) {
            errors.required(&SPEC.child(name), "");
        }
    }
    match spec.optional_str("fsGroupPolicy") {
        None => errors.required(&SPEC.child("fsGroupPolicy"), ""),
        Some(policy) => {
            let known = &["File", "None", "ReadWriteOnceWithFSType"];
            errors.one_of(&SPEC.child("fsGroupPolicy"), policy, known);
        }
    }
    let list = SPEC.child("tokenRequests");
    let mut audiences = BTreeSet::new();
    for (index, request) in spec.list_at("tokenRequests").iter().enumerate() {
        let path = list.index(index);
        let audience = request.str_at("audience");
        if !audiences.insert(audience) {
            errors.duplicate(&path.child("audience"), audience);
            continue;
        }
        let path = path.child("expirationSeconds");
        match request.optional_int("expirationSeconds") {
            Some(seconds) if seconds < TOKEN_SECONDS => {
                errors.invalid(&path, seconds, "may not specify a duration less than 10 minutes");
            }
            Some(seconds) if seconds > 1 << 32 => {
                errors.invalid(&path, seconds, "may not specify a duration larger than 2^32 seconds");
            }
            _ => {}
        }
    }
    for mode in spec.strs_at("volumeLifecycleModes") {
        errors.one_of(&SPEC.child("volumeLifecycleModes"), mode, &["Persistent", "Ephemeral"]);
    }
    if !spec.has("seLinuxMount") {
        errors.required(&SPEC.child("seLinuxMount"), "");
    }
    if let Some(seconds) = spec.optional_int("nodeAllocatableUpdatePeriodSeconds").filter(|s| *s < UPDATE_SECONDS) {
        let detail = "must be greater than or equal to 10 seconds";
        errors.invalid(&SPEC.child("nodeAllocatableUpdatePeriodSeconds"), seconds, detail);
    }
    if spec.has(TOKENS_IN_SECRETS) && spec.list_at("tokenRequests").is_empty() {
        let detail = format!("{TOKENS_IN_SECRETS} is set but no tokenRequests are specified");
        errors.invalid(&SPEC.child(TOKENS_IN_SECRETS), spec.at(TOKENS_IN_SECRETS).clone(), detail);
    }
}
