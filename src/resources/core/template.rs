//! PodTemplateSpec: the pod that a workload makes.

use super::pod_metadata;
use super::pod_spec::{self, Options, defaults, warnings};
use crate::api::names;
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report};
use crate::resources::labels;
use serde_json::Value;

/// Defaults of the template in a field of `holder`.
pub fn default(holder: &mut Value, field: &str) {
    let template = holder.object_mut(field);
    template.set_default("metadata", serde_json::json!({}));
    defaults::spec(template.object_mut("spec"));
}

/// Removes fields whose feature is off; `old`: the template before.
pub fn drop_disabled(template: Option<&mut Value>, old: Option<&Value>) {
    if let Some(template) = template {
        pod_spec::drop_disabled(template.object_mut("spec"), old.map(|old| old.at("spec")));
    }
}

/// What an update of the template may keep.
pub fn options(old: Option<&Value>) -> Options {
    match old {
        Some(old) => Options::update(false, old.at("spec"), old.at("metadata").at("annotations")),
        None => Options::create(false),
    }
}

/// The labels and annotations of the pods.
pub fn metadata(template: &Value, path: &Path<'_>, options: &Options, errors: &mut ErrorList) {
    let (metadata, spec) = (template.at("metadata"), template.at("spec"));
    let annotations = metadata.at("annotations");
    labels::labels(metadata.at("labels"), &path.child("labels"), errors);
    labels::annotations(annotations, &path.child("annotations"), errors);
    pod_metadata::validate(annotations, spec, &path.child("annotations"), options, errors);
}

pub fn validate(template: &Value, path: &Path<'_>, options: &Options, errors: &mut ErrorList) {
    metadata(template, path, options, errors);
    let (annotations, spec) = (template.at("metadata").at("annotations"), template.at("spec"));
    let at_spec = path.child("spec");
    pod_spec::validate(spec, None, &at_spec, options, errors);
    pod_metadata::match_fields(annotations, spec, &at_spec, errors);
    if !spec.list_at("ephemeralContainers").is_empty() {
        errors.forbidden(&at_spec.child("ephemeralContainers"), "ephemeral containers not allowed in pod template");
    }
}

/// The template of a workload whose pods run for good. `selects`: whether its selector takes the
/// template's labels; `what`: the kind as errors name it.
pub fn validate_running(
    template: &Value,
    selects: bool,
    what: &str,
    path: &Path<'_>,
    options: &Options,
    errors: &mut ErrorList,
) {
    if !selects {
        let labels = template.at("metadata").at("labels").clone();
        let detail = "`selector` does not match template `labels`";
        errors.invalid(&path.child("metadata.labels"), labels, detail);
    }
    validate(template, path, options, errors);
    runs_for_good(template, what, path, errors);
}

/// Pods of such a workload never end.
pub fn runs_for_good(template: &Value, what: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let spec = template.at("spec");
    errors.one_of(&path.child("spec.restartPolicy"), spec.str_at("restartPolicy"), &["Always"]);
    if spec.has("activeDeadlineSeconds") {
        let detail = format!("activeDeadlineSeconds in {what} is not Supported");
        errors.forbidden(&path.child("spec.activeDeadlineSeconds"), detail);
    }
}

/// Warnings of a workload: of its name, which its pods' hostnames begin with, and of its template.
pub fn workload_warnings(object: &Value, old: Option<&Value>) -> Vec<String> {
    workload_warnings_of(object, old, |out, object| {
        warnings::template(object.at("spec").at("template"), &Path::new("spec").child("template"), out);
    })
}

/// As [`workload_warnings`], of a kind with more to say of its spec.
pub fn workload_warnings_of(
    object: &Value,
    old: Option<&Value>,
    of_spec: impl Fn(&mut Vec<String>, &Value),
) -> Vec<String> {
    let mut out = Vec::new();
    let generation = |object: &Value| object.at("metadata").int_at("generation");
    if old.is_some_and(|old| generation(old) == generation(object)) {
        return out;
    }
    if old.is_none() {
        let messages = names::dns_label(object.at("metadata").str_at("name"));
        if !messages.is_empty() {
            out.push(format!(
                "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [{}]",
                messages.join(" ")
            ));
        }
    }
    of_spec(&mut out, object);
    out
}

/// Warnings of a workload's template, where it can have changed.
pub fn template_warnings(object: &Value, old: Option<&Value>) -> Vec<String> {
    let mut out = Vec::new();
    let generation = |object: &Value| object.at("metadata").int_at("generation");
    if old.is_none_or(|old| generation(old) != generation(object)) {
        let spec = Path::new("spec");
        warnings::template(object.at("spec").at("template"), &spec.child("template"), &mut out);
    }
    out
}
