//! `registries.yaml`: mirrors, credentials and TLS settings of registries, in the form that k3s users
//! know. A file that does not exist means no settings; one that does not parse is an error.

use crate::api::yaml;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registries {
    mirrors: BTreeMap<String, Mirror>,
    configs: BTreeMap<String, Settings>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Mirror {
    endpoint: Vec<String>,
    /// Prefixes of repositories to what takes their place.
    rewrite: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub auth: Option<Auth>,
    pub tls: Tls,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    pub username: String,
    pub password: String,
    /// base64 of `username:password`.
    pub auth: String,
    pub identity_token: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    pub ca_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    pub insecure_skip_verify: bool,
}

/// One place to pull from.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// Host and, if not the usual one, port.
    pub host: String,
    /// Plain HTTP: only where the configuration says `http://`.
    pub plain: bool,
    pub repository: String,
    pub settings: Settings,
}

impl Registries {
    pub fn read(path: &Path) -> Result<Self> {
        match fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
            Ok(text) => Self::parse(&text).with_context(|| format!("registries file {}", path.display())),
        }
    }

    fn parse(text: &str) -> Result<Self> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let registries: Self = yaml::read::typed(text).map_err(anyhow::Error::msg)?;
        for (host, settings) in &registries.configs {
            if settings.tls.cert_file.is_some() || settings.tls.key_file.is_some() {
                bail!("configs.{host}.tls: client certificates (cert_file, key_file) are not supported: remove them");
            }
        }
        for endpoint in registries.mirrors.values().flat_map(|mirror| &mirror.endpoint) {
            split(endpoint)?;
        }
        Ok(registries)
    }

    /// Where to look for a repository: the registry's mirrors in order, then itself.
    pub fn endpoints(&self, registry: &str, repository: &str) -> Result<Vec<Endpoint>> {
        let mirror = self.mirrors.get(registry).or_else(|| self.mirrors.get("*"));
        let mut list = Vec::new();
        for endpoint in mirror.iter().flat_map(|mirror| &mirror.endpoint) {
            let (host, plain) = split(endpoint)?;
            let repository = mirror.map_or(repository.to_owned(), |mirror| rewrite(repository, &mirror.rewrite));
            list.push(Endpoint { settings: self.settings(&host), host, plain, repository });
        }
        if !list.iter().any(|endpoint| endpoint.host == registry) {
            list.push(Endpoint {
                host: registry.to_owned(),
                plain: false,
                repository: repository.to_owned(),
                settings: self.settings(registry),
            });
        }
        Ok(list)
    }

    fn settings(&self, host: &str) -> Settings {
        self.configs.get(host).cloned().unwrap_or_default()
    }
}

/// Host and whether it is plain HTTP.
fn split(endpoint: &str) -> Result<(String, bool)> {
    let (rest, plain) = match (endpoint.strip_prefix("https://"), endpoint.strip_prefix("http://")) {
        (Some(rest), _) => (rest, false),
        (None, Some(rest)) => (rest, true),
        (None, None) if !endpoint.contains("://") => (endpoint, false),
        _ => bail!("mirror endpoint {endpoint:?} is neither http:// nor https://"),
    };
    let rest = rest.trim_end_matches('/');
    let host = rest.strip_suffix("/v2").unwrap_or(rest);
    if host.is_empty() || host.contains('/') {
        bail!("mirror endpoint {endpoint:?} has a path: only /v2 is possible");
    }
    Ok((host.to_owned(), plain))
}

/// `^library/(.*)` to `mirror/library/$1`, and plain prefixes. The patterns that k3s users write: a
/// begin, and at most one `(.*)` at the end.
fn rewrite(repository: &str, rules: &BTreeMap<String, String>) -> String {
    for (pattern, replacement) in rules {
        let pattern = pattern.trim_start_matches('^').trim_end_matches('$');
        let (prefix, captures) = match pattern.strip_suffix("(.*)") {
            Some(prefix) => (prefix, true),
            None => (pattern, false),
        };
        if let Some(rest) = repository.strip_prefix(prefix) {
            return match captures {
                true => replacement.replace("$1", rest),
                false => format!("{replacement}{rest}"),
            };
        }
    }
    repository.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
mirrors:
  docker.io:
    endpoint: ["https://mirror.example:5000", "http://plain.example/v2"]
    rewrite:
      "^library/(.*)": "docker/library/$1"
  "*":
    endpoint: ["https://everything.example"]
configs:
  "mirror.example:5000":
    auth:
      username: reader
      password: secret
    tls:
      ca_file: /etc/ssl/mirror.pem
"#;

    #[test]
    fn mirrors_come_before_the_registry() {
        let registries = Registries::parse(FILE).expect("parses");
        let list = |registry: &str| -> Vec<String> {
            let endpoints = registries.endpoints(registry, "library/nginx").expect("endpoints");
            endpoints
                .iter()
                .map(|endpoint| {
                    format!("{}{} {}", if endpoint.plain { "http:" } else { "" }, endpoint.host, endpoint.repository)
                })
                .collect()
        };
        assert_eq!(
            list("docker.io"),
            [
                "mirror.example:5000 docker/library/nginx",
                "http:plain.example docker/library/nginx",
                "docker.io library/nginx",
            ]
        );
        assert_eq!(list("quay.io"), ["everything.example library/nginx", "quay.io library/nginx"]);
        let first = &registries.endpoints("docker.io", "x").expect("endpoints")[0];
        assert_eq!(first.settings.auth.as_ref().expect("credentials").username, "reader");
    }

    #[test]
    fn http_is_used_only_where_it_is_configured() {
        let registries = Registries::default();
        assert!(registries.endpoints("localhost:5000", "x").expect("endpoints").iter().all(|endpoint| !endpoint.plain));
        let plain = Registries::parse("mirrors:\n  'localhost:5000':\n    endpoint: ['http://localhost:5000']\n")
            .expect("parses");
        let endpoints = plain.endpoints("localhost:5000", "x").expect("endpoints");
        assert!(endpoints.len() == 1 && endpoints[0].plain);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, named) in [
            ("mirrors: [", ""),
            ("mirors: {}", "mirors"),
            ("mirrors: {x: {endpoint: ['ftp://y']}}", "ftp://y"),
            ("mirrors: {x: {endpoint: ['https://y/z']}}", "path"),
            ("configs: {x: {tls: {cert_file: /a}}}", "client certificates"),
        ] {
            let error = format!("{:#}", Registries::parse(text).expect_err(text));
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
