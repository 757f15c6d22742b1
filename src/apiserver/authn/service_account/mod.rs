//! Service account tokens: signed statements, bound to objects that must still be there.
//!
//! [`Tokens`] issues and judges them. The signature of a token is checked once and remembered; the
//! objects it is bound to are looked up in the store each time, and read only when they changed.

mod claims;
mod keys;

pub use claims::{Bound, Claims, Kubernetes, Reference, unverified_issuer};
pub use keys::{KeyError, Keys};

use super::Clock;
use super::bearer::{TokenAuthenticator, TokenUser, digest};
use super::x509::CREDENTIAL_ID;
use crate::api::{GroupResource, UserInfo};
use crate::apiserver::audit;
use crate::apiserver::follow::{Projection, parse_json};
use crate::storage::{Key, Storage};
use parking_lot::Mutex;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Clocks may differ, and deletions take a moment, by this much.
const LEEWAY: Duration = Duration::from_secs(60);

/// In the record of the request that a token is issued to.
const ISSUED_CREDENTIAL_ID: &str = "authentication.kubernetes.io/issued-credential-id";

/// Remembered signatures: bounded.
const MAX_REMEMBERED: usize = 4096;

/// The issuer and judge of service account tokens.
pub struct Tokens {
    keys: Keys,
    issuer: String,
    /// What the API server itself is called.
    audiences: Vec<String>,
    storage: Arc<dyn Storage>,
    objects: Projection<Object>,
    remembered: Mutex<HashMap<[u8; 32], Arc<Claims>>>,
    clock: Clock,
}

/// What matters of an object that a token is bound to.
#[derive(Deserialize)]
struct Object {
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    uid: String,
    #[serde(default)]
    deletion_timestamp: Option<jiff::Timestamp>,
}

impl Tokens {
    /// `issuer`: `https://kubernetes.default.svc.cluster.local`, also the default audience.
    pub fn new(keys: Keys, issuer: &str, storage: Arc<dyn Storage>, clock: Clock) -> Self {
        Self {
            keys,
            issuer: issuer.to_owned(),
            audiences: vec![issuer.to_owned()],
            storage,
            objects: Projection::new(parse_json),
            remembered: Mutex::default(),
            clock,
        }
    }

    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    pub fn now(&self) -> SystemTime {
        (self.clock)()
    }

    /// A token for a service account, bound as `claims` say; `audiences` empty: the API server.
    pub fn issue(
        &self,
        bound: Bound,
        audiences: &[String],
        lifetime: Duration,
    ) -> Result<(String, SystemTime), KeyError> {
        let now = self.now();
        let audiences = if audiences.is_empty() { &self.audiences } else { audiences };
        let claims = Claims::new(&self.issuer, audiences, bound, now, lifetime);
        let expires = claims.expires();
        audit::annotate(ISSUED_CREDENTIAL_ID, credential_id(&claims));
        Ok((self.keys.sign(&claims)?, expires))
    }

    /// `/openid/v1/jwks`
    pub fn key_set(&self) -> serde_json::Value {
        self.keys.key_set()
    }

    /// `/.well-known/openid-configuration`
    pub fn discovery(&self) -> serde_json::Value {
        serde_json::json!({
            "issuer": self.issuer,
            "jwks_uri": format!("{}/openid/v1/jwks", self.issuer),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [keys::ALGORITHM_NAME],
        })
    }

    /// The claims of a token of ours; the signature is checked once.
    fn claims(&self, token: &str) -> Result<Option<Arc<Claims>>, String> {
        let key = digest(token);
        if let Some(claims) = self.remembered.lock().get(&key) {
            return Ok(Some(claims.clone()));
        }
        if unverified_issuer(token).as_deref() != Some(&self.issuer) {
            return Ok(None);
        }
        let claims = Arc::new(self.keys.verify(token).map_err(|error| error.to_string())?);
        if claims.issuer != self.issuer {
            return Err(format!("token issuer {} is invalid", crate::api::field::go_quote(&claims.issuer)));
        }
        let mut remembered = self.remembered.lock();
        if remembered.len() >= MAX_REMEMBERED {
            let now = self.now();
            remembered.retain(|_, claims| claims.expires() > now);
            if remembered.len() >= MAX_REMEMBERED {
                remembered.clear();
            }
        }
        remembered.insert(key, claims.clone());
        Ok(Some(claims))
    }

    fn object(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.objects.get(&*self.storage, &Key::new(&GroupResource::new("", resource), namespace, name))
    }

    /// The service account, and what the token is bound to, are still the same and there.
    fn check_objects(&self, claims: &Kubernetes, now: SystemTime) -> Result<(), String> {
        let gone = |object: &Object| {
            object.metadata.deletion_timestamp.is_some_and(|time| SystemTime::from(time) + LEEWAY < now)
        };
        let (namespace, account) = (&claims.namespace, &claims.service_account);
        let Some(object) = self.object("serviceaccounts", namespace, &account.name) else {
            return Err(format!("serviceaccounts {} not found", crate::api::field::go_quote(&account.name)));
        };
        if gone(&object) {
            return Err(format!("service account {namespace}/{} has been deleted", account.name));
        }
        if object.metadata.uid != account.uid {
            return Err(format!(
                "service account UID ({}) does not match claim ({})",
                object.metadata.uid, account.uid
            ));
        }
        // A pod's token carries its node, too; only one that is bound to the node alone ends with it.
        let node = if claims.pod.is_none() { claims.node.as_ref() } else { None };
        for (resource, what, reference, namespace) in [
            ("secrets", "secret", claims.secret.as_ref(), namespace.as_str()),
            ("pods", "pod", claims.pod.as_ref(), namespace.as_str()),
            ("nodes", "node", node, ""),
        ] {
            let Some(reference) = reference else { continue };
            match self.object(resource, namespace, &reference.name) {
                Some(object) if gone(&object) => return Err("service account token has been invalidated".to_owned()),
                None => return Err("service account token has been invalidated".to_owned()),
                Some(object) if object.metadata.uid != reference.uid => {
                    return Err(format!(
                        "{what} UID ({}) does not match service account {what} ref claim ({})",
                        object.metadata.uid, reference.uid
                    ));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

impl TokenAuthenticator for Tokens {
    fn authenticate(&self, token: &str, audiences: &[String]) -> Result<Option<TokenUser>, String> {
        let Some(claims) = self.claims(token)? else { return Ok(None) };
        let wanted = if audiences.is_empty() { &self.audiences } else { audiences };
        let common: Vec<String> =
            claims.audiences.iter().filter(|audience| wanted.contains(audience)).cloned().collect();
        if common.is_empty() {
            let list = |items: &[String]| crate::api::field::go_list(items.iter().map(String::as_str));
            return Err(format!(
                "token audiences {} is invalid for the target audiences {}",
                list(&claims.audiences),
                list(wanted)
            ));
        }
        let now = self.now();
        if claims.expires() + LEEWAY < now {
            return Err("service account token has expired".to_owned());
        }
        if claims.not_before() > now + LEEWAY {
            return Err("service account token is not valid yet".to_owned());
        }
        self.check_objects(&claims.kubernetes, now)?;
        Ok(Some(TokenUser { user: user_of(&claims), audiences: Some(common) }))
    }
}

/// Names a token in the extras of its user, and where it was issued.
fn credential_id(claims: &Claims) -> String {
    format!("JTI={}", claims.id)
}

fn user_of(claims: &Claims) -> UserInfo {
    let kubernetes = &claims.kubernetes;
    let mut extra = BTreeMap::new();
    let mut add = |key: &str, value: &str| {
        extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
    };
    if let Some(pod) = &kubernetes.pod {
        add("pod-name", &pod.name);
        add("pod-uid", &pod.uid);
    }
    if let Some(node) = &kubernetes.node {
        add("node-name", &node.name);
        if !node.uid.is_empty() {
            add("node-uid", &node.uid);
        }
    }
    if !claims.id.is_empty() {
        extra.insert(CREDENTIAL_ID.to_owned(), vec![credential_id(claims)]);
    }
    UserInfo {
        name: user_name(&kubernetes.namespace, &kubernetes.service_account.name),
        uid: kubernetes.service_account.uid.clone(),
        groups: groups(&kubernetes.namespace),
        extra,
    }
}

/// `system:serviceaccount:default:builder`
pub fn user_name(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

/// The groups of every service account of a namespace.
pub fn groups(namespace: &str) -> Vec<String> {
    vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")]
}

/// The namespace and name of a service account's user name.
pub fn split_user_name(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    let valid =
        crate::api::names::dns_subdomain(name).is_empty() && crate::api::names::dns_subdomain(namespace).is_empty();
    (valid && !namespace.contains('.')).then_some((namespace, name))
}
