//! PodTemplate: a pod to be.

use super::template;
use crate::api::value::same;
use crate::api::{ErrorList, Fields, FieldsMut, Path};
use crate::resources::{Column, Context, Resource, Strategy, cells};
use serde_json::Value;
use std::sync::Arc;

pub fn resource() -> Resource {
    Resource {
        generation: true,
        columns: Column::strings(&["Containers", "Images", "Pod Labels"]),
        strategy: Arc::new(PodTemplate),
        ..Resource::new("", "v1", "PodTemplate", "podtemplates")
    }
}

struct PodTemplate;

const TEMPLATE: Path<'static> = Path::new("template");

impl Strategy for PodTemplate {
    fn default(&self, object: &mut Value) {
        template::default(object, "template");
    }

    fn prepare_create(&self, object: &mut Value, _: &Context) {
        template::drop_disabled(object.set_mut("template"), None);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        template::drop_disabled(object.set_mut("template"), Some(old.at("template")));
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        template::validate(object.at("template"), &TEMPLATE, &template::options(None), &mut errors);
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let options = template::options(Some(old.at("template")));
        template::validate(object.at("template"), &TEMPLATE, &options, &mut errors);
        errors
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let mut out = Vec::new();
        if old.is_none_or(|old| !same(old.at("template"), object.at("template"))) {
            super::pod_spec::warnings::template(object.at("template"), &TEMPLATE, &mut out);
        }
        out
    }

    fn cells(&self, object: &Value, _: &cells::Clock) -> Option<Vec<Value>> {
        let template = object.at("template");
        let [names, images] = cells::containers(template.at("spec"));
        let labels = cells::labels(template.at("metadata").at("labels"));
        Some(vec![cells::name(object), names, images, labels.into()])
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }
}
