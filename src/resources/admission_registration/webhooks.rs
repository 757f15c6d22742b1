//! What both kinds of webhook configuration share.

use super::expressions::{self, Names};
use super::{matching, rules, webhook_client};
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report, names};
use crate::resources::{Column, Resource, Strategy, cells, labels};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

const WEBHOOKS: Path<'static> = Path::new("webhooks");
const REVIEW_VERSIONS: &[&str] = &["v1", "v1beta1"];
const SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun"];

pub fn resource(kind: &'static str, plural: &'static str, mutating: bool) -> Resource {
    Resource {
        categories: vec!["api-extensions".into()],
        namespaced: false,
        generation: true,
        columns: vec![Column::name(), Column::integer("Webhooks"), Column::string("Age")],
        strategy: Arc::new(Configuration { mutating }),
        ..Resource::new("admissionregistration.k8s.io", "v1", kind, plural)
    }
}

struct Configuration {
    mutating: bool,
}

impl Strategy for Configuration {
    fn checks_metadata_change(&self) -> bool {
        false
    }

    fn metadata_checks_on_update(&self) -> usize {
        1
    }

    fn default(&self, object: &mut Value) {
        for webhook in object.items_mut("webhooks") {
            webhook.set_default("failurePolicy", "Fail");
            webhook.set_default("matchPolicy", "Equivalent");
            webhook.object_mut("namespaceSelector");
            webhook.object_mut("objectSelector");
            webhook.set_default("timeoutSeconds", 10);
            if self.mutating {
                webhook.set_default("reinvocationPolicy", "Never");
            }
            if let Some(service) = webhook.object_mut("clientConfig").set_mut("service") {
                service.set_default("port", 443);
            }
            rules::default(webhook, "rules");
        }
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let mut known = BTreeSet::new();
        for (index, webhook) in object.list_at("webhooks").iter().enumerate() {
            let path = WEBHOOKS.index(index);
            validate(webhook, self.mutating, &path, &mut errors);
            review_versions(webhook, &path.child("admissionReviewVersions"), &mut errors);
            let name = webhook.str_at("name");
            if !name.is_empty() && !known.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
        }
        errors
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        Some(vec![cells::name(object), object.list_at("webhooks").len().into(), cells::age(object, now)])
    }
}

fn validate(webhook: &Value, mutating: bool, path: &Path<'_>, errors: &mut ErrorList) {
    fully_qualified(webhook.str_at("name"), &path.child("name"), errors);
    let list = path.child("rules");
    for (index, rule) in webhook.list_at("rules").iter().enumerate() {
        rules::validate(rule, &list.index(index), errors);
    }
    for (field, known) in [("failurePolicy", ["Fail", "Ignore"]), ("matchPolicy", ["Equivalent", "Exact"])] {
        if let Some(policy) = webhook.optional_str(field) {
            errors.one_of(&path.child(field), policy, &known);
        }
    }
    match webhook.optional_str("sideEffects") {
        None => errors.required(&path.child("sideEffects"), format!("must specify one of {}", SIDE_EFFECTS.join(", "))),
        Some(effects) => errors.one_of(&path.child("sideEffects"), effects, SIDE_EFFECTS),
    }
    if let Some(seconds) = webhook.optional_int("timeoutSeconds").filter(|seconds| !(1..=30).contains(seconds)) {
        let detail = "the timeout value must be between 1 and 30 seconds";
        errors.invalid(&path.child("timeoutSeconds"), seconds, detail);
    }
    for field in ["namespaceSelector", "objectSelector"] {
        labels::selector(webhook.at(field), false, &path.child(field), errors);
    }
    if let Some(policy) = webhook.optional_str("reinvocationPolicy").filter(|_| mutating) {
        errors.one_of(&path.child("reinvocationPolicy"), policy, &["IfNeeded", "Never"]);
    }
    webhook_client::validate(webhook.at("clientConfig"), &path.child("clientConfig"), errors);
    let environment = expressions::environment(Names { authorizer: true, ..Names::default() });
    matching::conditions(webhook.list_at("matchConditions"), &environment, &path.child("matchConditions"), errors);
}

/// A domain of three parts at least.
fn fully_qualified(name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if name.is_empty() {
        return errors.required(path, "");
    }
    let messages = names::dns_subdomain(name);
    if !messages.is_empty() {
        errors.invalid(path, name, messages.join(","));
    } else if name.split('.').count() < 3 {
        errors.invalid(path, name, "should be a domain with at least three segments separated by dots");
    }
}

fn review_versions(webhook: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let versions: Vec<&str> = webhook.strs_at("admissionReviewVersions").collect();
    let accepted = REVIEW_VERSIONS.join(", ");
    if versions.is_empty() {
        return errors.required(path, format!("must specify one of {accepted}"));
    }
    for (index, version) in versions.iter().enumerate() {
        if versions[..index].contains(version) {
            errors.invalid(&path.index(index), *version, "duplicate version");
        } else {
            errors.check(&path.index(index), version, names::dns_1035_label(version));
        }
    }
    if !versions.iter().any(|version| REVIEW_VERSIONS.contains(version)) {
        let shown = webhook.at("admissionReviewVersions").clone();
        errors.invalid(path, shown, format!("must include at least one of {accepted}"));
    }
}
