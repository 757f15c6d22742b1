//! Webhooks that a file in the form of a kubeconfig names: its current context.

use super::Target;
use crate::api::Fields;
use crate::client::ClientCertificate;
use crate::net::tls;
use anyhow::{Context, Result, bail};
use base64::Engine;
use http::HeaderValue;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

/// A field's data, or the file that it names; paths are relative to the configuration.
fn read(holder: &Value, field: &str, beside: &Path) -> Result<Option<Vec<u8>>> {
    let data = holder.str_at(&format!("{field}-data"));
    if !data.is_empty() {
        let decoded = base64::engine::general_purpose::STANDARD.decode(data.trim());
        return Ok(Some(decoded.with_context(|| format!("{field}-data is not base64"))?));
    }
    let Some(file) = holder.optional_str(field).filter(|file| !file.is_empty()) else { return Ok(None) };
    let path = beside.join(file);
    Ok(Some(std::fs::read(&path).with_context(|| format!("read {}", path.display()))?))
}

fn named<'a>(config: &'a Value, list: &str, name: &str, what: &str) -> Option<&'a Value> {
    config.list_at(list).iter().find(|one| one.str_at("name") == name).map(|one| one.at(what))
}

impl Target {
    /// Of the server that the file's current context names.
    pub fn of_kubeconfig(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let beside = path.parent().unwrap_or(Path::new("/"));
        let config =
            crate::schema::yaml::parse(text.as_bytes()).map_err(|error| anyhow::anyhow!("not a kubeconfig: {error}"));
        config
            .and_then(|config| Self::of_config(&config, beside))
            .with_context(|| format!("webhook of {}", path.display()))
    }

    fn of_config(config: &Value, beside: &Path) -> Result<Self> {
        let current = config.str_at("current-context");
        let context = named(config, "contexts", current, "context").context("no context is current")?;
        let cluster = named(config, "clusters", context.str_at("cluster"), "cluster").context("no such cluster")?;
        let user = named(config, "users", context.str_at("user"), "user").unwrap_or(&Value::Null);
        let mut target = Self::of_url(cluster.str_at("server"), "").map_err(anyhow::Error::msg)?;
        let certificate = match (read(user, "client-certificate", beside)?, read(user, "client-key", beside)?) {
            (Some(chain), Some(key)) => Some(Arc::new(ClientCertificate::from_pem(&chain, &key)?).resolver()),
            (None, None) => None,
            _ => bail!("client-certificate and client-key belong together"),
        };
        let ca = read(cluster, "certificate-authority", beside)?.unwrap_or_default();
        let ca = String::from_utf8(ca).context("certificate-authority is not PEM")?;
        target.tls = Ok(tls::extension_client(&ca, cluster.bool_at("insecure-skip-tls-verify"), certificate)?);
        if let Some(name) = cluster.optional_str("tls-server-name") {
            target.server_name = name.to_owned();
        }
        let token = match user.optional_str("tokenFile") {
            Some(file) => {
                let path = beside.join(file);
                std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?
            }
            None => user.str_at("token").to_owned(),
        };
        if !token.trim().is_empty() {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim())).context("token")?;
            value.set_sensitive(true);
            target.authorization = Some(value);
        }
        Ok(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Target, String> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("webhook.yaml");
        std::fs::write(&path, text).expect("written");
        Target::of_kubeconfig(&path).map_err(|error| format!("{:#}", error.source().expect("a cause")))
    }

    #[test]
    fn the_current_context_says_who_is_asked() {
        let head = "clusters:\n- name: c\n  cluster: {server: 'https://auth.example.com/check'}\ncontexts:\n- name: x\n  context: {cluster: c, user: u}\n";
        let target =
            check(&format!("{head}current-context: x\nusers:\n- name: u\n  user: {{token: secret}}\n")).expect("good");
        assert_eq!(target.url, "https://auth.example.com/check");
        assert_eq!(target.authorization.expect("a token"), "Bearer secret");
        let wrong = |text: &str, wanted: &str| assert_eq!(check(text).err().as_deref(), Some(wanted));
        wrong(head, "no context is current");
        wrong(
            &format!("{head}current-context: x\nusers:\n- name: u\n  user: {{client-key-data: eA==}}\n"),
            "client-certificate and client-key belong together",
        );
    }
}
