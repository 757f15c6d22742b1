//! Priority: the name of a pod's priority class becomes a number.

use super::{Attributes, Operation, Plugin, Sources, is_core, text};
use crate::api::{GroupResource, GroupVersionResource, Status};
use crate::apiserver::follow::{Projection, parse_json};
use crate::storage::{Key, Prefix, Storage};
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

const GROUP: &str = "scheduling.k8s.io";

pub struct Priority {
    storage: Arc<dyn Storage>,
    classes: Projection<Class>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Class {
    #[serde(default)]
    value: i64,
    #[serde(default)]
    global_default: bool,
    #[serde(default)]
    preemption_policy: Option<String>,
}

impl Priority {
    pub fn new(sources: &Sources) -> Self {
        Self { storage: sources.storage.clone(), classes: Projection::new(parse_json) }
    }

    fn class(&self, name: &str) -> Option<Arc<Class>> {
        self.classes.get(&*self.storage, &Key::new(&GroupResource::new(GROUP, "priorityclasses"), "", name))
    }

    /// The class of pods that name none: the lowest of those that want to be it.
    fn default_class(&self) -> Option<(String, Arc<Class>)> {
        let snapshot = self.storage.snapshot();
        let prefix = Prefix::resource(&GroupResource::new(GROUP, "priorityclasses"));
        snapshot
            .range(&prefix, None)
            .filter_map(|entry| Some((entry.key.name().to_owned(), self.classes.get(&*self.storage, &entry.key)?)))
            .filter(|(_, class)| class.global_default)
            .min_by_key(|(_, class)| class.value)
    }

    fn admit_pod(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let Some(pod) = attributes.object.as_deref() else { return Ok(()) };
        let mut name = text(pod, "/spec/priorityClassName").to_owned();
        let (value, policy) = if name.is_empty() {
            match self.default_class() {
                Some((default, class)) => {
                    name = default;
                    (class.value, class.preemption_policy.clone())
                }
                None => (0, Some("PreemptLowerPriority".to_owned())),
            }
        } else {
            let Some(class) = self.class(&name) else {
                return Err(attributes.forbidden(&format!("no PriorityClass with name {name} was found")));
            };
            (class.value, class.preemption_policy.clone())
        };
        if let Some(given) = pod["spec"]["priority"].as_i64()
            && given != value
        {
            return Err(attributes.forbidden(&format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission \
                 controller computed {value} from the given PriorityClass name"
            )));
        }
        if let (Some(given), Some(policy)) = (pod["spec"]["preemptionPolicy"].as_str(), &policy)
            && given != policy
        {
            return Err(attributes.forbidden(&format!(
                "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission \
                 controller computed {policy} from the given PriorityClass name"
            )));
        }
        let Some(pod) = attributes.object.as_deref_mut() else { return Ok(()) };
        if !name.is_empty() {
            pod["spec"]["priorityClassName"] = name.into();
        }
        pod["spec"]["priority"] = json!(value);
        if let Some(policy) = policy {
            pod["spec"]["preemptionPolicy"] = policy.into();
        }
        Ok(())
    }
}

/// What the pod was given stays, where a client's update leaves it out.
fn keep(attributes: &mut Attributes<'_>) {
    let (Some(pod), Some(old)) = (attributes.object.as_deref_mut(), attributes.old_object) else { return };
    for field in ["priority", "preemptionPolicy"] {
        if pod["spec"].get(field).is_none_or(Value::is_null)
            && let Some(value) = old["spec"].get(field)
        {
            pod["spec"][field] = value.clone();
        }
    }
}

#[async_trait]
impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn handles(&self, operation: Operation, resource: &GroupVersionResource, subresource: &str) -> bool {
        let class = resource.group == GROUP && resource.resource == "priorityclasses";
        matches!(operation, Operation::Create | Operation::Update)
            && subresource.is_empty()
            && (class || is_core(resource, "pods"))
    }

    async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        if attributes.is_core("pods") {
            if attributes.operation == Operation::Create {
                return self.admit_pod(attributes);
            }
            keep(attributes);
        }
        Ok(())
    }

    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        if attributes.is_core("pods") {
            return Ok(());
        }
        let wants = attributes.object.as_deref().is_some_and(|class| class["globalDefault"] == true);
        match self.default_class() {
            Some((default, _))
                if wants && (attributes.operation == Operation::Create || default != attributes.name) =>
            {
                Err(attributes.forbidden(&format!(
                    "PriorityClass {default} is already marked as default. Only one default can exist"
                )))
            }
            _ => Ok(()),
        }
    }
}
