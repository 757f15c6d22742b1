//! OpenID Connect: ID tokens of one issuer, as `--oidc-*` names it.
//!
//! The issuer's keys are read when its first token comes, and again when a token names a key that
//! is not known; not more often than every ten seconds.

use super::Clock;
use super::bearer::{RemoteTokenAuthenticator, TokenUser};
use super::service_account::unverified_issuer;
use crate::api::{Fields, UserInfo};
use crate::apiserver::webhook::{self, Target};
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    self, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Mutex;

/// Keys are not asked for more often.
const REFRESH: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(10);

/// `--oidc-…`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub issuer_url: String,
    pub client_id: String,
    pub username_claim: String,
    /// None: the issuer and `#`, but for `email`; `-`: none.
    pub username_prefix: Option<String>,
    pub groups_claim: String,
    pub groups_prefix: String,
    pub required_claims: Vec<(String, String)>,
    /// PEM; empty: what the machine trusts.
    pub ca_pem: String,
    pub signing_algorithms: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            issuer_url: String::new(),
            client_id: String::new(),
            username_claim: "sub".to_owned(),
            username_prefix: None,
            groups_claim: String::new(),
            groups_prefix: String::new(),
            required_claims: Vec::new(),
            ca_pem: String::new(),
            signing_algorithms: vec!["RS256".to_owned()],
        }
    }
}

/// What `--oidc-signing-algs` may name.
pub const ALGORITHMS: &[&str] = &["ES256", "ES384", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"];

pub struct Oidc {
    options: Options,
    client: Arc<webhook::Client>,
    clock: Clock,
    keys: Mutex<Keys>,
}

#[derive(Default)]
struct Keys {
    all: Vec<Value>,
    asked: Option<Instant>,
}

impl Oidc {
    pub fn new(options: Options, client: Arc<webhook::Client>, clock: Clock) -> Self {
        Self { options, client, clock, keys: Mutex::default() }
    }

    async fn get(&self, url: &str) -> Result<Value, String> {
        let target = Target::of_url(url, &self.options.ca_pem)?;
        self.client.get(&target, TIMEOUT).await
    }

    /// The key of a token, from the issuer where it is not known yet.
    async fn key(&self, id: &str) -> Result<Value, String> {
        let find = |keys: &[Value]| keys.iter().find(|key| id.is_empty() || key.str_at("kid") == id).cloned();
        let mut keys = self.keys.lock().await;
        if let Some(key) = find(&keys.all) {
            return Ok(key);
        }
        if keys.asked.is_none_or(|asked| asked.elapsed() >= REFRESH) {
            keys.asked = Some(Instant::now());
            let base = self.options.issuer_url.trim_end_matches('/');
            let provider = self.get(&format!("{base}/.well-known/openid-configuration")).await?;
            let issuer = provider.str_at("issuer");
            if issuer != self.options.issuer_url {
                return Err(format!(
                    "oidc: issuer did not match the issuer returned by provider, expected {} got {}",
                    crate::api::field::go_quote(&self.options.issuer_url),
                    crate::api::field::go_quote(issuer)
                ));
            }
            keys.all = self.get(provider.str_at("jwks_uri")).await?.list_at("keys").to_vec();
        }
        find(&keys.all).ok_or_else(|| "failed to verify signature: no matching key".to_owned())
    }

    async fn user(&self, token: &str) -> Result<UserInfo, String> {
        let (signed, signature) = token.rsplit_once('.').ok_or("oidc: malformed jwt")?;
        let (header, payload) = signed.split_once('.').ok_or("oidc: malformed jwt")?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| "oidc: malformed jwt".to_owned());
        let parse = |part: &str| -> Result<Value, String> {
            serde_json::from_slice(&decode(part)?).map_err(|_| "oidc: malformed jwt".to_owned())
        };
        let (header, claims) = (parse(header)?, parse(payload)?);
        let algorithm = header.str_at("alg");
        if !self.options.signing_algorithms.iter().any(|known| known == algorithm) {
            return Err(format!(
                "oidc: id token signed with unsupported algorithm, expected {} got {}",
                crate::api::field::go_list(self.options.signing_algorithms.iter().map(String::as_str)),
                crate::api::field::go_quote(algorithm)
            ));
        }
        let key = self.key(header.str_at("kid")).await?;
        verify(&key, algorithm, signed.as_bytes(), &decode(signature)?)?;
        self.judge(&claims, (self.clock)())
    }

    /// Whom the claims name; the signature was good.
    fn judge(&self, claims: &Value, now: SystemTime) -> Result<UserInfo, String> {
        let options = &self.options;
        let audience = claims.at("aud");
        if audience != options.client_id.as_str() && !claims.list_at("aud").iter().any(|one| *one == options.client_id)
        {
            let audiences: Vec<&str> = match audience.as_str() {
                Some(one) => vec![one],
                None => claims.strs_at("aud").collect(),
            };
            return Err(format!(
                "oidc: verify token: oidc: expected audience {} got {}",
                crate::api::field::go_quote(&options.client_id),
                crate::api::field::go_list(audiences.into_iter())
            ));
        }
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        match claims.at("exp").as_f64() {
            Some(expires) if seconds < expires => {}
            _ => return Err("oidc: verify token: oidc: token is expired".to_owned()),
        }
        // Clocks differ.
        if claims.at("nbf").as_f64().is_some_and(|from| seconds + 300.0 < from) {
            return Err("oidc: verify token: oidc: current time before the nbf (not before) time".to_owned());
        }
        let name = self.name(claims)?;
        let mut groups: Vec<String> = Vec::new();
        if !options.groups_claim.is_empty() {
            match claims.at(&options.groups_claim) {
                Value::Null => {}
                Value::String(group) => groups.push(group.clone()),
                Value::Array(list) if list.iter().all(Value::is_string) => {
                    groups.extend(claims.strs_at(&options.groups_claim).map(str::to_owned));
                }
                _ => {
                    let claim = crate::api::field::go_quote(&options.groups_claim);
                    return Err(format!("oidc: parse groups claim {claim}: neither a string nor a list of strings"));
                }
            }
        }
        for (claim, wanted) in &options.required_claims {
            let found = claims.optional_str(claim);
            if found != Some(wanted) {
                let claim = crate::api::field::go_quote(claim);
                return Err(match found {
                    None => format!("oidc: required claim {claim} not present in ID token"),
                    Some(found) => format!(
                        "oidc: required claim {claim} value does not match. Got = {}, want = {}",
                        crate::api::field::go_quote(found),
                        crate::api::field::go_quote(wanted)
                    ),
                });
            }
        }
        let groups = groups.iter().map(|group| format!("{}{group}", options.groups_prefix)).collect();
        Ok(UserInfo { name, groups, ..UserInfo::default() })
    }

    fn name(&self, claims: &Value) -> Result<String, String> {
        let options = &self.options;
        let claim = &options.username_claim;
        let Some(name) = claims.optional_str(claim) else {
            return Err(format!(
                "oidc: parse username claims {}: claim not present",
                crate::api::field::go_quote(claim)
            ));
        };
        if claim == "email" && claims.has("email_verified") && !claims.bool_at("email_verified") {
            return Err("oidc: email not verified".to_owned());
        }
        let prefix = match options.username_prefix.as_deref() {
            Some("-") => String::new(),
            Some(prefix) if !prefix.is_empty() => prefix.to_owned(),
            _ if claim == "email" => String::new(),
            _ => format!("{}#", options.issuer_url),
        };
        Ok(format!("{prefix}{name}"))
    }
}

#[async_trait]
impl RemoteTokenAuthenticator for Oidc {
    async fn authenticate(&self, token: &str, audiences: &[String]) -> Result<Option<TokenUser>, String> {
        // It is for this server, and for nobody else.
        if !audiences.is_empty() || unverified_issuer(token).as_deref() != Some(&self.options.issuer_url) {
            return Ok(None);
        }
        Ok(Some(TokenUser { user: self.user(token).await?, audiences: None }))
    }
}

/// Whether a JSON Web Key signed it so.
fn verify(key: &Value, algorithm: &str, message: &[u8], signature: &[u8]) -> Result<(), String> {
    const FAILED: &str = "failed to verify signature: failed to verify id token signature";
    let part = |name: &str| URL_SAFE_NO_PAD.decode(key.str_at(name)).map_err(|_| format!("key {name}: not base64"));
    let rsa = |parameters: &'static RsaParameters| {
        let key = RsaPublicKeyComponents { n: part("n")?, e: part("e")? };
        key.verify(parameters, message, signature).map_err(|_| FAILED.to_owned())
    };
    let ecdsa = |algorithm: &'static dyn signature::VerificationAlgorithm| {
        let point = [vec![4], part("x")?, part("y")?].concat();
        UnparsedPublicKey::new(algorithm, point).verify(message, signature).map_err(|_| FAILED.to_owned())
    };
    match (key.str_at("kty"), algorithm) {
        ("RSA", "RS256") => rsa(&RSA_PKCS1_2048_8192_SHA256),
        ("RSA", "RS384") => rsa(&RSA_PKCS1_2048_8192_SHA384),
        ("RSA", "RS512") => rsa(&RSA_PKCS1_2048_8192_SHA512),
        ("RSA", "PS256") => rsa(&RSA_PSS_2048_8192_SHA256),
        ("RSA", "PS384") => rsa(&RSA_PSS_2048_8192_SHA384),
        ("RSA", "PS512") => rsa(&RSA_PSS_2048_8192_SHA512),
        ("EC", "ES256") => ecdsa(&ECDSA_P256_SHA256_FIXED),
        ("EC", "ES384") => ecdsa(&ECDSA_P384_SHA384_FIXED),
        _ => Err(FAILED.to_owned()),
    }
}
