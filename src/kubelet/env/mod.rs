//! The environment of a container: `env`, `envFrom` and the variables of Services.
//!
//! Entry: [`environment`]; pure given [`Lookup`]. Errors are Kubernetes's messages, shown as
//! `CreateContainerConfigError`.

mod expand;
pub mod fields;
mod services;

pub use expand::expand;
pub use services::{ServicePort, ServiceRecord, variables as service_variables};

use super::resources::ResourceList;
use fields::Addresses;
use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, Pod, Secret};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Why an object that a pod refers to cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// `configmap "x" not found`
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Failed(String),
}

/// ConfigMaps and Secrets of the pod's namespace.
pub trait Lookup: Send + Sync {
    fn config_map(&self, name: &str) -> Result<Arc<ConfigMap>, LookupError>;
    fn secret(&self, name: &str) -> Result<Arc<Secret>, LookupError>;
}

/// What an environment is made of besides the pod.
pub struct Sources<'a> {
    pub lookup: &'a dyn Lookup,
    pub addresses: &'a Addresses,
    pub allocatable: &'a ResourceList,
    /// Services of the pod's namespace, and `default/kubernetes`.
    pub services: &'a [ServiceRecord],
}

/// Variables by name.
pub fn environment(pod: &Pod, container: &Container, sources: &Sources) -> Result<BTreeMap<String, String>, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let links = pod.spec.as_ref().and_then(|spec| spec.enable_service_links).unwrap_or(true);
    let services = service_variables(sources.services, namespace, links);
    let mut variables = BTreeMap::new();
    for from in container.env_from.as_deref().unwrap_or_default() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        if let Some(reference) = &from.config_map_ref {
            let optional = reference.optional.unwrap_or(false);
            if let Some(config_map) = optionally(sources.lookup.config_map(&reference.name), optional)? {
                for (key, value) in config_map.data.iter().flatten() {
                    variables.insert(format!("{prefix}{key}"), value.clone());
                }
            }
        }
        if let Some(reference) = &from.secret_ref {
            let optional = reference.optional.unwrap_or(false);
            if let Some(secret) = optionally(sources.lookup.secret(&reference.name), optional)? {
                for (key, value) in secret.data.iter().flatten() {
                    variables.insert(format!("{prefix}{key}"), String::from_utf8_lossy(&value.0).into_owned());
                }
            }
        }
    }
    for variable in container.env.as_deref().unwrap_or_default() {
        let value = match (&variable.value_from, variable.value.as_deref()) {
            (_, Some(text)) if !text.is_empty() => {
                Some(expand(text, |name| variables.get(name).or_else(|| services.get(name)).cloned()))
            }
            (Some(source), _) => from_source(pod, container, source, sources)?,
            (None, _) => Some(String::new()),
        };
        if let Some(value) = value {
            variables.insert(variable.name.clone(), value);
        }
    }
    for (name, value) in services {
        variables.entry(name).or_insert(value);
    }
    Ok(variables)
}

/// None: there is nothing, and that is allowed.
fn optionally<T>(found: Result<Arc<T>, LookupError>, optional: bool) -> Result<Option<Arc<T>>, String> {
    match found {
        Ok(object) => Ok(Some(object)),
        Err(LookupError::NotFound(_)) if optional => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

fn from_source(
    pod: &Pod,
    container: &Container,
    source: &EnvVarSource,
    sources: &Sources,
) -> Result<Option<String>, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(reference) = &source.field_ref {
        return fields::field(pod, &reference.field_path, sources.addresses).map(Some);
    }
    if let Some(selector) = &source.resource_field_ref {
        return fields::resource(pod, container, selector, sources.allocatable).map(Some);
    }
    if let Some(reference) = &source.config_map_key_ref {
        let optional = reference.optional.unwrap_or(false);
        let Some(config_map) = optionally(sources.lookup.config_map(&reference.name), optional)? else {
            return Ok(None);
        };
        return match config_map.data.as_ref().and_then(|data| data.get(&reference.key)) {
            Some(value) => Ok(Some(value.clone())),
            None if optional => Ok(None),
            None => Err(format!("couldn't find key {} in ConfigMap {namespace}/{}", reference.key, reference.name)),
        };
    }
    if let Some(reference) = &source.secret_key_ref {
        let optional = reference.optional.unwrap_or(false);
        let Some(secret) = optionally(sources.lookup.secret(&reference.name), optional)? else { return Ok(None) };
        return match secret.data.as_ref().and_then(|data| data.get(&reference.key)) {
            Some(value) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
            None if optional => Ok(None),
            None => Err(format!("couldn't find key {} in Secret {namespace}/{}", reference.key, reference.name)),
        };
    }
    if let Some(reference) = &source.file_key_ref {
        return Err(format!("fileKeyRef to volume {:?} is not supported by this kubelet", reference.volume_name));
    }
    Ok(Some(String::new()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    struct Objects;

    impl Lookup for Objects {
        fn config_map(&self, name: &str) -> Result<Arc<ConfigMap>, LookupError> {
            let data = match name {
                "settings" => json!({"data": {"level": "info", "size": "3"}}),
                _ => return Err(LookupError::NotFound(format!("configmap \"{name}\" not found"))),
            };
            Ok(Arc::new(serde_json::from_value(data).expect("a config map")))
        }

        fn secret(&self, name: &str) -> Result<Arc<Secret>, LookupError> {
            match name {
                "login" => {
                    Ok(Arc::new(serde_json::from_value(json!({"data": {"password": "aHVudGVy"}})).expect("a secret")))
                }
                _ => Err(LookupError::NotFound(format!("secret \"{name}\" not found"))),
            }
        }
    }

    fn check(container: serde_json::Value) -> Result<String, String> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"enableServiceLinks": false, "containers": [container]}}))
        .expect("a pod");
        let sources = Sources {
            lookup: &Objects,
            addresses: &Addresses { pod: vec!["10.42.0.2".into()], host: vec![] },
            allocatable: &ResourceList::new(),
            services: &[],
        };
        let variables = environment(&pod, &super::super::pod::regular_containers(&pod)[0], &sources)?;
        Ok(variables.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn everything_together() {
        let container = json!({"name": "c",
            "envFrom": [{"prefix": "S_", "configMapRef": {"name": "settings"}}, {"secretRef": {"name": "login"}},
                {"configMapRef": {"name": "none", "optional": true}}],
            "env": [
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "URL", "value": "http://$(IP)/$(S_level)/$(NONE)/$$(IP)"},
                {"name": "PASS", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}},
                {"name": "MAYBE", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "k", "optional": true}}},
                {"name": "S_size", "value": "4"}, {"name": "EMPTY"}]});
        expect_test::expect![
            "EMPTY= IP=10.42.0.2 PASS=hunter S_level=info S_size=4 URL=http://10.42.0.2/info/$(NONE)/$(IP) password=hunter"
        ]
        .assert_eq(&check(container).expect("an environment"));
    }

    #[test]
    fn messages_of_what_is_missing() {
        let key = |source: &str, name: &str| {
            json!({"name": "c", "env": [
            {"name": "A", "valueFrom": {source: {"name": name, "key": "nope"}}}]})
        };
        assert_eq!(check(key("configMapKeyRef", "none")), Err("configmap \"none\" not found".into()));
        assert_eq!(check(key("secretKeyRef", "none")), Err("secret \"none\" not found".into()));
        let text = "couldn't find key nope in ConfigMap shop/settings";
        assert_eq!(check(key("configMapKeyRef", "settings")), Err(text.into()));
        assert_eq!(check(key("secretKeyRef", "login")), Err("couldn't find key nope in Secret shop/login".into()));
        let from = json!({"name": "c", "envFrom": [{"secretRef": {"name": "none"}}]});
        assert_eq!(check(from), Err("secret \"none\" not found".into()));
    }
}
