//! APIService: who serves a version of an API group.

use crate::api::names;
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report, time};
use crate::resources::{Column, Context, Resource, Strategy, Subresource, cells};
use serde_json::{Value, json};
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        categories: vec!["api-extensions".into()],
        namespaced: false,
        status: true,
        subresources: vec![Subresource::status()],
        columns: Column::strings(&["Service", "Available", "Age"]),
        strategy: Arc::new(ApiService),
        ..Resource::new("apiregistration.k8s.io", "v1", "APIService", "apiservices")
    }
}

struct ApiService;

const SPEC: Path<'static> = Path::new("spec");
const GROUP_PRIORITY_LIMIT: i64 = 20000;
const VERSION_PRIORITY_LIMIT: i64 = 1000;

impl Strategy for ApiService {
    fn metadata_checks_on_update(&self) -> usize {
        1
    }

    fn default(&self, object: &mut Value) {
        if let Some(service) = object.object_mut("spec").set_mut("service") {
            service.set_default("port", 443);
        }
    }

    fn prepare_create(&self, object: &mut Value, context: &Context) {
        let local = !object.at("spec").has("service");
        object.set("status", json!({}));
        if local {
            let condition = json!({
                "type": "Available",
                "status": "True",
                "lastTransitionTime": time::seconds(context.now),
                "reason": "Local",
                "message": "Local APIServices are always available",
            });
            object.set("status", json!({ "conditions": [condition] }));
        }
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("status", old);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = object.at("spec");
        validate(spec, &mut errors);
        errors
    }

    fn validate_name(&self, name: &str, _: bool) -> names::Messages {
        names::path_segment(name)
    }

    fn validate_name_of(&self, object: &Value, name: &str, _: bool) -> names::Messages {
        let spec = object.at("spec");
        let wanted = format!("{}.{}", spec.str_at("version"), spec.str_at("group"));
        let mut messages = names::path_segment(name);
        if messages.is_empty() && name != wanted {
            messages.push(format!("must be `spec.version+\".\"+spec.group`: \"{wanted}\"").into());
        }
        messages
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn status(&self) -> Option<&dyn Strategy> {
        Some(&Status)
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        let service = object.at("spec").get_set("service");
        let service = service.map(|service| format!("{}/{}", service.str_at("namespace"), service.str_at("name")));
        let conditions = object.at("status").list_at("conditions").iter();
        let mut available = conditions.filter(|condition| condition.str_at("type") == "Available");
        let available = available.next().map(|condition| match condition.str_at("status") {
            "True" => "True".to_owned(),
            status => format!("{status} ({})", condition.str_at("reason")),
        });
        Some(vec![
            cells::name(object),
            service.unwrap_or_else(|| "Local".to_owned()).into(),
            available.unwrap_or_else(|| "Unknown".to_owned()).into(),
            cells::age(object, now),
        ])
    }
}

struct Status;

impl Strategy for Status {
    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("spec", old);
        for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
            object.object_mut("metadata").copy(field, old.at("metadata"));
        }
    }

    fn validate_update(&self, object: &Value, _: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let list = Path::new("status");
        let list = list.child("conditions");
        for (index, condition) in object.at("status").list_at("conditions").iter().enumerate() {
            let path = list.index(index);
            errors.one_of(&path.child("status"), condition.str_at("status"), &["True", "False", "Unknown"]);
        }
        errors
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

fn validate(spec: &Value, errors: &mut ErrorList) {
    let (group, version) = (spec.str_at("group"), spec.str_at("version"));
    let path = SPEC.child("group");
    if group.is_empty() && version != "v1" {
        errors.required(&path, "only v1 may have an empty group and it better be legacy kube");
    }
    if !group.is_empty() {
        errors.check(&path, group, names::dns_subdomain(group));
    }
    errors.check(&SPEC.child("version"), version, names::dns_1035_label(version));
    for (field, limit) in [("groupPriorityMinimum", GROUP_PRIORITY_LIMIT), ("versionPriority", VERSION_PRIORITY_LIMIT)]
    {
        let priority = spec.int_at(field);
        if !(1..=limit).contains(&priority) {
            errors.invalid(&SPEC.child(field), priority, format!("must be positive and less than {limit}"));
        }
    }
    let (insecure, bundle) = (spec.bool_at("insecureSkipTLSVerify"), spec.str_at("caBundle"));
    let at_insecure = SPEC.child("insecureSkipTLSVerify");
    let Some(service) = spec.get_set("service") else {
        if !bundle.is_empty() {
            let shown = format!("{} bytes", bundle.len() / 4 * 3 - bundle.matches('=').count());
            errors.invalid(&SPEC.child("caBundle"), shown, "local APIServices may not have a caBundle");
        }
        if insecure {
            errors.invalid(&at_insecure, true, "local APIServices may not have insecureSkipTLSVerify");
        }
        return;
    };
    let path = SPEC.child("service");
    for field in ["namespace", "name"] {
        if service.str_at(field).is_empty() {
            errors.required(&path.child(field), "");
        }
    }
    let port = service.int_at("port");
    let messages = names::port_number(port);
    if !messages.is_empty() {
        errors.invalid(&path.child("port"), port, format!("port is not valid: {}", messages.join(", ")));
    }
    if insecure && !bundle.is_empty() {
        errors.invalid(&at_insecure, true, "may not be true if caBundle is present");
    }
}
