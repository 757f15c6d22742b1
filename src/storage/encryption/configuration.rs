//! `EncryptionConfiguration` of apiserver.config.k8s.io/v1: read and checked with Kubernetes's texts.

use super::cipher::{Algorithm, Cipher};
use super::{Encryption, Provider, Resources, Rule};
use crate::api::{ErrorList, FieldError, Path, yaml};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

const API_VERSIONS: &[&str] = &["apiserver.config.k8s.io/v1", "v1"];
const KIND: &str = "EncryptionConfiguration";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    api_version: String,
    kind: String,
    #[serde(default)]
    resources: Vec<ResourceConfiguration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResourceConfiguration {
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    providers: Vec<ProviderConfiguration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProviderConfiguration {
    aescbc: Option<Keys>,
    aesgcm: Option<Keys>,
    secretbox: Option<Keys>,
    identity: Option<Identity>,
    kms: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    #[serde(default)]
    keys: Vec<Key>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    #[serde(default)]
    name: String,
    #[serde(default)]
    secret: String,
}

impl Encryption {
    /// From YAML or JSON. Err: every thing that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let document: Document = yaml::read::typed(text)?;
        if document.kind != KIND || !API_VERSIONS.contains(&document.api_version.as_str()) {
            return Err(format!(
                "no kind {:?} is known for version {:?}: write kind: {KIND} and apiVersion: {}",
                document.kind, document.api_version, API_VERSIONS[0]
            ));
        }
        let mut errors = ErrorList::new();
        let root = Path::new("resources");
        if document.resources.is_empty() {
            errors.push(FieldError::required(&root, "at least one resources is required"));
        }
        let mut rules = Vec::new();
        for (place, configuration) in document.resources.iter().enumerate() {
            let path = root.index(place);
            check_resources(&path.child("resources"), &configuration.resources, &mut errors);
            let providers = providers(&path.child("providers"), &configuration.providers, &mut errors);
            let resources = configuration.resources.iter().map(|name| Resources::parse(name)).collect();
            rules.push(Rule { resources, providers });
        }
        if errors.is_empty() {
            return Ok(Self { rules });
        }
        Err(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    }
}

fn check_resources(path: &Path<'_>, resources: &[String], errors: &mut ErrorList) {
    if resources.is_empty() {
        errors.push(FieldError::required(path, "at least one resources is required"));
    }
    for (place, name) in resources.iter().enumerate() {
        let path = path.index(place);
        let (resource, group) = name.split_once('.').unwrap_or((name, ""));
        let detail = if resources[..place].contains(name) {
            "the same resource cannot be specified multiple times"
        } else if name == "*" {
            "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources"
        } else if group == "extensions" {
            "'extensions' group has been removed and cannot be used for encryption"
        } else if group == "events.k8s.io" {
            "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the config file"
        } else if name.chars().any(char::is_uppercase) {
            "resource name should not contain capital letters"
        } else if resource.is_empty() || resource.contains('/') {
            "not a resource, such as secrets or deployments.apps"
        } else if masked(name, group, resources) {
            "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they will be masked"
        } else {
            continue;
        };
        errors.push(FieldError::invalid(&path, name.as_str(), detail));
    }
}

/// Whether a wildcard of the same list means it, too.
fn masked(name: &str, group: &str, resources: &[String]) -> bool {
    let of_group = format!("*.{group}");
    resources.iter().any(|other| other != name && (other == "*.*" || *other == of_group))
}

fn providers(path: &Path<'_>, configured: &[ProviderConfiguration], errors: &mut ErrorList) -> Vec<Provider> {
    if configured.is_empty() {
        errors.push(FieldError::required(path, "at least one providers is required"));
    }
    let mut providers = Vec::new();
    for (place, provider) in configured.iter().enumerate() {
        let path = path.index(place);
        let ProviderConfiguration { aescbc, aesgcm, secretbox, identity, kms } = provider;
        let given = [aescbc.is_some(), aesgcm.is_some(), secretbox.is_some(), identity.is_some(), kms.is_some()];
        match given.iter().filter(|given| **given).count() {
            0 => errors.push(FieldError::required(&path, "at least one provider is required")),
            1 => {}
            _ => {
                let detail =
                    "more than one provider specified in a single element, should split into different list elements";
                errors.push(FieldError::invalid_omitted(&path, detail));
            }
        }
        if kms.is_some() {
            let known = ["aescbc", "aesgcm", "identity", "secretbox"];
            errors.push(FieldError::not_supported(&path, "kms", &known));
        }
        if identity.is_some() {
            providers.push(Provider::Identity);
        }
        for (algorithm, keys) in Algorithm::ALL.into_iter().zip([aescbc, aesgcm, secretbox]) {
            let Some(keys) = keys else { continue };
            let path = path.child(algorithm.name());
            providers.push(Provider::Sealed { algorithm, keys: ciphers(&path.child("keys"), algorithm, keys, errors) });
        }
    }
    providers
}

fn ciphers(path: &Path<'_>, algorithm: Algorithm, keys: &Keys, errors: &mut ErrorList) -> Vec<(String, Cipher)> {
    if keys.keys.is_empty() {
        errors.push(FieldError::required(path, "at least one keys is required"));
    }
    let mut ciphers = Vec::new();
    for (place, key) in keys.keys.iter().enumerate() {
        let path = path.index(place);
        if key.name.is_empty() {
            errors.push(FieldError::required(&path.child("name"), "name is a mandatory field for a key"));
        }
        // What is wrong with it must not show it.
        let secret = path.child("secret");
        if key.secret.is_empty() {
            errors.push(FieldError::required(&secret, "secret is a mandatory field for a key"));
            continue;
        }
        match STANDARD.decode(&key.secret) {
            Err(_) => errors.push(FieldError::invalid(&secret, "REDACTED", "secrets must be base64 encoded")),
            Ok(bytes) => match Cipher::new(algorithm, &bytes) {
                Some(cipher) => ciphers.push((key.name.clone(), cipher)),
                None => {
                    let sizes = algorithm.key_sizes();
                    let detail =
                        format!("secret is not of the expected length, got {}, expected one of {sizes:?}", bytes.len());
                    errors.push(FieldError::invalid(&secret, "REDACTED", detail));
                }
            },
        }
    }
    ciphers
}
