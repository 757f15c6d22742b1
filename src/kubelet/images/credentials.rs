//! Registry credentials from `imagePullSecrets`.

use crate::api::cri::RegistryAuth;
use base64::Engine as _;
use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize;
use std::collections::HashMap;

#[derive(Default, Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: HashMap<String, Entry>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Entry {
    username: String,
    password: String,
    auth: String,
    identitytoken: String,
    registrytoken: String,
}

/// Credentials for `image` in the secrets, the most specific first.
pub fn credentials<'a>(image: &str, secrets: impl Iterator<Item = &'a Secret>) -> Vec<RegistryAuth> {
    let target = location(image);
    let mut found: Vec<(usize, RegistryAuth)> = Vec::new();
    for secret in secrets {
        for (registry, entry) in entries(secret) {
            let pattern = normalise(&registry);
            if matches(&pattern, &target)
                && let Some(auth) = decode(&entry)
            {
                found.push((pattern.len(), auth));
            }
        }
    }
    found.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    found.into_iter().map(|(_, auth)| auth).collect()
}

fn entries(secret: &Secret) -> HashMap<String, Entry> {
    let data = |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.as_slice());
    match secret.type_.as_deref() {
        Some("kubernetes.io/dockerconfigjson") => data(".dockerconfigjson")
            .and_then(|bytes| serde_json::from_slice::<DockerConfig>(bytes).ok())
            .map(|config| config.auths)
            .unwrap_or_default(),
        Some("kubernetes.io/dockercfg") => {
            data(".dockercfg").and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default()
        }
        _ => HashMap::new(),
    }
}

fn decode(entry: &Entry) -> Option<RegistryAuth> {
    let mut auth = RegistryAuth {
        username: entry.username.clone(),
        password: entry.password.clone(),
        identity_token: entry.identitytoken.clone(),
        registry_token: entry.registrytoken.clone(),
    };
    if !entry.auth.is_empty() {
        let bytes = base64::engine::general_purpose::STANDARD.decode(&entry.auth).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (username, password) = text.split_once(':')?;
        auth.username = username.to_owned();
        auth.password = password.trim_end_matches('\0').to_owned();
    }
    (auth != RegistryAuth::default()).then_some(auth)
}

/// `nginx` is at `docker.io/library/nginx`.
fn location(image: &str) -> String {
    let name = image.split('@').next().unwrap_or(image);
    let (first, rest) = name.split_once('/').unwrap_or(("", name));
    let full = if first.contains('.') || first.contains(':') || first == "localhost" {
        name.to_owned()
    } else if first.is_empty() {
        format!("docker.io/library/{rest}")
    } else {
        format!("docker.io/{name}")
    };
    let slash = full.rfind('/').unwrap_or(0);
    match full[slash..].find(':') {
        Some(tag) => full[..slash + tag].to_owned(),
        None => full,
    }
}

/// A key of the configuration without scheme and API path; Docker Hub under its one name.
fn normalise(registry: &str) -> String {
    let bare = registry.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let bare = bare.strip_suffix("/v1").or_else(|| bare.strip_suffix("/v2")).unwrap_or(bare);
    match bare.split_once('/') {
        None if bare == "index.docker.io" => "docker.io".to_owned(),
        Some(("index.docker.io", path)) => format!("docker.io/{path}"),
        _ => bare.to_owned(),
    }
}

/// `*.example.com/team` against `eu.example.com/team/app`: host part by part, path by prefix.
fn matches(pattern: &str, target: &str) -> bool {
    let (pattern_host, pattern_path) = pattern.split_once('/').unwrap_or((pattern, ""));
    let (host, path) = target.split_once('/').unwrap_or((target, ""));
    let wanted: Vec<&str> = pattern_host.split('.').collect();
    let parts: Vec<&str> = host.split('.').collect();
    let host_matches = wanted.len() == parts.len()
        && wanted.iter().zip(&parts).all(|(wanted, part)| match wanted.strip_suffix('*') {
            Some(prefix) => part.starts_with(prefix),
            None => wanted == part,
        });
    let path_matches = pattern_path.is_empty()
        || path.strip_prefix(pattern_path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    host_matches && path_matches
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn secret(auths: serde_json::Value) -> Secret {
        let text = json!({"auths": auths}).to_string();
        let data = base64::engine::general_purpose::STANDARD.encode(text);
        serde_json::from_value(json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": data}}))
            .expect("a secret")
    }

    fn users(image: &str, auths: serde_json::Value) -> String {
        let secret = secret(auths);
        let found = credentials(image, std::iter::once(&secret));
        found.iter().map(|auth| format!("{}:{}", auth.username, auth.password)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_most_specific_first() {
        let auths = json!({
            "https://index.docker.io/v1/": {"auth": "aHViOng="},
            "registry.example:5000": {"username": "all", "password": "1"},
            "registry.example:5000/team": {"username": "team", "password": "2"},
            "*.wild.example": {"username": "wild", "password": "3"}});
        assert_eq!(users("nginx:1.27", auths.clone()), "hub:x");
        assert_eq!(users("registry.example:5000/team/app:1", auths.clone()), "team:2 all:1");
        assert_eq!(users("registry.example:5000/teams/app", auths.clone()), "all:1");
        assert_eq!(users("a.wild.example/x@sha256:00", auths.clone()), "wild:3");
        assert_eq!(users("other.example/x", auths), "");
    }
}
