//! Which objects a patch or a replacement means.

use super::resource::Resource;
use crate::api::Fields;
use crate::api::selector::LabelSelector;
use crate::cli::kubectl::failure::{Failure, Outcome};
use regex::Regex;
use serde_json::Value;

pub struct Selector {
    group: Option<Regex>,
    version: Option<Regex>,
    kind: Option<Regex>,
    name: Option<Regex>,
    namespace: Option<Regex>,
    labels: Option<LabelSelector>,
    annotations: Option<LabelSelector>,
}

impl Selector {
    pub fn parse(value: &Value) -> Outcome<Self> {
        let pattern = |field: &str| match value.str_at(field) {
            "" => Ok(None),
            // The whole of it.
            text => Regex::new(&format!("^(?:{text})$"))
                .map(Some)
                .map_err(|error| Failure::local(format!("target {field} {text:?} is no pattern: {error}"))),
        };
        let labels = |field: &str| match value.str_at(field) {
            "" => Ok(None),
            text => LabelSelector::parse(text).map(Some).map_err(Failure::local),
        };
        Ok(Self {
            group: pattern("group")?,
            version: pattern("version")?,
            kind: pattern("kind")?,
            name: pattern("name")?,
            namespace: pattern("namespace")?,
            labels: labels("labelSelector")?,
            annotations: labels("annotationSelector")?,
        })
    }

    pub fn takes(&self, resource: &Resource) -> bool {
        let fits = |pattern: &Option<Regex>, text: &str| pattern.as_ref().is_none_or(|pattern| pattern.is_match(text));
        let metadata = resource.object.at("metadata");
        let has = |selector: &Option<LabelSelector>, field: &str| {
            let values = metadata.at(field);
            selector.as_ref().is_none_or(|selector| selector.matches(|key| values.optional_str(key)))
        };
        fits(&self.group, resource.group())
            && fits(&self.version, resource.version())
            && fits(&self.kind, resource.kind())
            && resource
                .identities()
                .any(|identity| fits(&self.name, &identity.name) && fits(&self.namespace, &identity.namespace))
            && has(&self.labels, "labels")
            && has(&self.annotations, "annotations")
    }
}
