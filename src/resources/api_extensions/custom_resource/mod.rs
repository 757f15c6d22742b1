//! The strategy of custom resources: what a definition says of its kind in one version.
//!
//! [`versions`] makes the rows that a definition adds to the registry. Pruning happens when a body is
//! decoded, defaulting here; validation is the schema's, in the order of Kubernetes: schema, scale,
//! embedded objects, lists, and at last rules.

mod cells;
mod scale;
mod served;

pub use served::versions;

use super::rules::Rules;
use crate::api::field::ErrorType;
use crate::api::{ErrorList, FieldError, Fields, FieldsMut, Path};
use crate::resources::pipeline::{generation, metadata, metadata_strings};
use crate::resources::{Context, Selectable, Strategy};
use crate::schema::custom::{Structural, embedded, lists, prune, validate};
use cells::Cell;
use scale::Scale;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One version of a custom resource.
pub struct CustomResource {
    schema: Arc<Structural>,
    rules: Arc<Rules>,
    /// Has a `status` subresource.
    status: bool,
    scale: Option<Scale>,
    cells: Vec<Cell>,
    selectable: Vec<Selectable>,
    /// Its definition is going away.
    terminating: Arc<AtomicBool>,
    status_strategy: Status,
}

const ROOT: Path<'static> = Path::root();
const STANDARD_FINALIZERS: &[&str] = &["orphan", "foregroundDeletion", "kubernetes"];

/// What keeps rules from being looked at.
const BLOCKING: &[ErrorType] =
    &[ErrorType::NotSupported, ErrorType::Required, ErrorType::TooLong, ErrorType::TooMany, ErrorType::TypeInvalid];

impl Strategy for CustomResource {
    fn default(&self, object: &mut Value) {
        prune::default(object, &self.schema);
    }

    fn prepare_create(&self, object: &mut Value, _: &Context) {
        if self.status {
            object.clear("status");
        }
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        let outside = |object: &Value| {
            let mut object = object.clone();
            object.clear("metadata");
            object
        };
        if outside(object) != outside(old) {
            metadata(object).insert("generation".to_owned(), json!(generation(old) + 1));
        }
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = validate::validate(object, &self.schema, &ROOT);
        self.check_scale(object, &mut errors);
        self.check_embedded(object, &mut errors);
        lists::validate(object, &self.schema, &ROOT, &mut errors);
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = validate::validate_update(object, old, &self.schema, &ROOT);
        self.check_scale(object, &mut errors);
        self.check_embedded(object, &mut errors);
        check_lists(&self.schema, object, old, &mut errors);
        errors
    }

    fn rules(&self, object: &Value, old: Option<&Value>, errors: &mut ErrorList) {
        check_rules(&self.rules, object, old, errors);
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let before = old.map(|old| metadata_strings(old, "finalizers")).unwrap_or_default();
        let mut added: Vec<&str> = metadata_strings(object, "finalizers");
        added.retain(|name| !before.contains(name));
        added.sort_unstable();
        added.dedup();
        added.into_iter().flat_map(finalizer_warnings).collect()
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn status(&self) -> Option<&dyn Strategy> {
        self.status.then_some(&self.status_strategy as &dyn Strategy)
    }

    fn selectable(&self) -> &[Selectable] {
        &self.selectable
    }

    fn cells(&self, object: &Value, now: &crate::resources::cells::Clock) -> Option<Vec<Value>> {
        let name = crate::resources::cells::name(object);
        Some(std::iter::once(name).chain(self.cells.iter().map(|cell| cell.of(object, now))).collect())
    }

    fn refuses_create(&self) -> Option<&'static str> {
        self.terminating
            .load(Ordering::Relaxed)
            .then_some("create not allowed while custom resource definition is terminating")
    }
}

impl CustomResource {
    fn check_scale(&self, object: &Value, errors: &mut ErrorList) {
        if let Some(scale) = &self.scale {
            scale.check_spec(object, errors);
            scale.check_status(object, errors);
        }
    }

    fn check_embedded(&self, object: &Value, errors: &mut ErrorList) {
        let metadata = crate::resources::pipeline::metadata::validate_embedded;
        embedded::validate(object, &self.schema, &ROOT, &metadata, errors);
    }
}

/// What was wrong before may stay wrong.
fn check_lists(schema: &Structural, object: &Value, old: &Value, errors: &mut ErrorList) {
    let mut found = ErrorList::new();
    lists::validate(object, schema, &ROOT, &mut found);
    let mut before = ErrorList::new();
    if !found.is_empty() {
        lists::validate(old, schema, &ROOT, &mut before);
    }
    if before.is_empty() {
        errors.append(&mut found);
    }
}

fn check_rules(rules: &Rules, object: &Value, old: Option<&Value>, errors: &mut ErrorList) {
    if !rules.exist() {
        return;
    }
    if errors.iter().any(|error| BLOCKING.contains(&error.kind)) {
        let detail = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
        errors.push(FieldError::invalid(&ROOT, Value::Null, detail));
        return;
    }
    rules.validate(object, old, &ROOT, errors);
}

fn finalizer_warnings(name: &str) -> Vec<String> {
    let told = |what: &str| format!("metadata.finalizers: {}: {what}", crate::api::field::go_quote(name));
    let mut warnings: Vec<String> =
        crate::api::names::qualified_name(name).iter().map(|message| told(message)).collect();
    if !name.contains('/') && !STANDARD_FINALIZERS.contains(&name) {
        warnings.push(told(if name.contains('.') {
            "prefer a domain-qualified finalizer name including a path (/) to avoid accidental conflicts with other finalizer writers"
        } else {
            "prefer a domain-qualified finalizer name to avoid accidental conflicts with other finalizer writers"
        }));
    }
    warnings
}

/// The status subresource: nothing else is written through it.
struct Status {
    schema: Arc<Structural>,
    rules: Arc<Rules>,
    scale: Option<Scale>,
}

impl Strategy for Status {
    fn reset_fields(&self) -> Option<&'static [&'static str]> {
        Some(&["metadata", "spec"])
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        let status = object.get("status").cloned();
        let managed = object.at("metadata").get("managedFields").cloned();
        let mut next = old.clone();
        match status {
            Some(status) => next.set("status", status),
            None => next.clear("status"),
        }
        let metadata = metadata(&mut next);
        match managed {
            Some(managed) => metadata.insert("managedFields".to_owned(), managed),
            None => metadata.remove("managedFields"),
        };
        *object = next;
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        if let (Some(status), Some(schema)) = (object.get("status"), self.schema.properties.get("status")) {
            let path = Path::new("status");
            errors = match old.get("status") {
                Some(old) => validate::validate_update(status, old, schema, &path),
                None => validate::validate(status, schema, &path),
            };
        }
        if let Some(scale) = &self.scale {
            scale.check_status(object, &mut errors);
        }
        check_lists(&self.schema, object, old, &mut errors);
        errors
    }

    fn rules(&self, object: &Value, old: Option<&Value>, errors: &mut ErrorList) {
        check_rules(&self.rules, object, old, errors);
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}
