//! Bootstrap tokens: `<id>.<secret>` of a Secret `kube-system/bootstrap-token-<id>`.

use super::Clock;
use super::bearer::{TokenAuthenticator, TokenUser};
use crate::api::{GroupResource, UserInfo};
use crate::apiserver::follow::{Projection, parse_json};
use crate::storage::{Key, Storage};
use base64::Engine;
use serde::Deserialize;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
const GROUP: &str = "system:bootstrappers";

pub struct BootstrapTokens {
    storage: Arc<dyn Storage>,
    secrets: Projection<Secret>,
    clock: Clock,
}

#[derive(Deserialize)]
struct Secret {
    metadata: Metadata,
    #[serde(default, rename = "type")]
    kind: String,
    /// Base64.
    #[serde(default)]
    data: HashMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    deletion_timestamp: Option<String>,
}

impl Secret {
    fn get(&self, key: &str) -> Option<String> {
        let bytes = base64::engine::general_purpose::STANDARD.decode(self.data.get(key)?).ok()?;
        String::from_utf8(bytes).ok()
    }
}

impl BootstrapTokens {
    pub fn new(storage: Arc<dyn Storage>, clock: Clock) -> Self {
        Self { storage, secrets: Projection::new(parse_json), clock }
    }
}

/// `[a-z0-9]{6}` and `[a-z0-9]{16}`.
fn split(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let fits =
        |text: &str, length| text.len() == length && text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    (fits(id, 6) && fits(secret, 16)).then_some((id, secret))
}

/// `system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]`
fn is_extra_group(group: &str) -> bool {
    let Some(name) = group.strip_prefix("system:bootstrappers:") else { return false };
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= 256
        && name.bytes().all(|c| plain(c) || matches!(c, b':' | b'-'))
        && name.bytes().next_back().is_some_and(plain)
}

impl TokenAuthenticator for BootstrapTokens {
    fn authenticate(&self, token: &str, _audiences: &[String]) -> Result<Option<TokenUser>, String> {
        let Some((id, presented)) = split(token) else { return Ok(None) };
        let key = Key::new(&GroupResource::new("", "secrets"), "kube-system", &format!("bootstrap-token-{id}"));
        let Some(secret) = self.secrets.get(&*self.storage, &key) else { return Ok(None) };
        let expired = || match secret.get("expiration") {
            None => false,
            Some(text) => match text.parse::<jiff::Timestamp>() {
                Ok(time) => (self.clock)() >= SystemTime::from(time),
                // Nobody can tell: it is not good.
                Err(_) => true,
            },
        };
        let good = secret.metadata.deletion_timestamp.is_none()
            && secret.kind == SECRET_TYPE
            && secret.get("token-id").as_deref() == Some(id)
            && secret
                .get("token-secret")
                .is_some_and(|stored| super::bearer::digest(&stored) == super::bearer::digest(presented))
            && secret.get("usage-bootstrap-authentication").as_deref() == Some("true")
            && !expired();
        if !good {
            return Ok(None);
        }
        let more = secret.get("auth-extra-groups").unwrap_or_default();
        let more: BTreeSet<&str> = more.split(',').filter(|_| !more.is_empty()).collect();
        // A token with a group that is not below its own name is no good for any.
        if !more.iter().all(|group| is_extra_group(group)) {
            return Ok(None);
        }
        let groups = [GROUP].into_iter().chain(more).map(str::to_owned).collect();
        let user = UserInfo { name: format!("system:bootstrap:{id}"), groups, ..UserInfo::default() };
        Ok(Some(TokenUser { user, audiences: None }))
    }
}
