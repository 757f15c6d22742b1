//! What a service account token says.

use base64::Engine;
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime};

/// The registered claims and `kubernetes.io`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    #[serde(rename = "aud", default, deserialize_with = "one_or_many")]
    pub audiences: Vec<String>,
    exp: u64,
    #[serde(default)]
    iat: u64,
    #[serde(rename = "iss")]
    pub issuer: String,
    #[serde(rename = "jti", default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: Kubernetes,
    #[serde(default)]
    nbf: u64,
    #[serde(rename = "sub", default)]
    pub subject: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Kubernetes {
    pub namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Reference>,
    #[serde(rename = "serviceaccount")]
    pub service_account: Reference,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// What a token is to be bound to.
#[derive(Clone, Debug, Default)]
pub struct Bound {
    pub kubernetes: Kubernetes,
    /// The token is valid for longer than its holder knows: warn from here on.
    pub warn_after: Option<Duration>,
}

impl Claims {
    pub fn new(issuer: &str, audiences: &[String], bound: Bound, now: SystemTime, lifetime: Duration) -> Self {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut kubernetes = bound.kubernetes;
        kubernetes.warnafter = bound.warn_after.map(|after| (now + after).as_secs());
        Self {
            audiences: audiences.to_vec(),
            exp: (now + lifetime).as_secs(),
            iat: now.as_secs(),
            issuer: issuer.to_owned(),
            id: uuid::Uuid::new_v4().to_string(),
            subject: super::user_name(&kubernetes.namespace, &kubernetes.service_account.name),
            kubernetes,
            nbf: now.as_secs(),
        }
    }

    pub fn expires(&self) -> SystemTime {
        after_epoch(self.exp)
    }

    pub fn not_before(&self) -> SystemTime {
        after_epoch(self.nbf)
    }
}

/// Far ahead is far enough: no token of another makes the sum overflow.
fn after_epoch(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(1 << 40))
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audiences {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Audiences::deserialize(deserializer)? {
        Audiences::One(audience) => vec![audience],
        Audiences::Many(audiences) => audiences,
    })
}

/// The issuer that a token claims, before anything is checked: to tell whose it is.
pub fn unverified_issuer(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Issuer {
        iss: String,
    }
    let mut parts = token.split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).ok()?;
    Some(serde_json::from_slice::<Issuer>(&payload).ok()?.iss)
}
