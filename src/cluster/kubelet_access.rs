//! Who may use the kubelet's HTTPS server: a certificate of the cluster's client CA, or a bearer
//! token that the API server knows; what they may, the API server says.
//!
//! Answers are remembered as Kubernetes's kubelet does: two minutes for a token, five for a yes,
//! half a minute for a no.

use crate::api::UserInfo;
use crate::apiserver::authn::Clock;
use crate::apiserver::authn::x509::{ClientCertificates, Verifier};
use crate::apiserver::authn::{Authenticator, ConnectionInfo};
use crate::kubelet::server::{Access, Authorizer, Caller, Refusal};
use anyhow::Result;
use async_trait::async_trait;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

const TOKEN: Duration = Duration::from_secs(120);
const ALLOWED: Duration = Duration::from_secs(300);
const DENIED: Duration = Duration::from_secs(30);

/// More answers than this are not remembered.
const REMEMBERED: usize = 256;

pub struct KubeletAccess {
    node: String,
    client: kube::Client,
    certificates: ClientCertificates,
    tokens: Mutex<Remembered<[u8; 32], UserInfo>>,
    decisions: Mutex<Remembered<(String, Vec<String>, &'static str, &'static str), Result<(), String>>>,
}

/// Answers until they are too old.
struct Remembered<K, V>(HashMap<K, (Instant, V)>);

impl<K: Hash + Eq, V: Clone> Remembered<K, V> {
    fn get(&self, key: &K) -> Option<V> {
        self.0.get(key).filter(|(until, _)| Instant::now() < *until).map(|(_, value)| value.clone())
    }

    fn put(&mut self, key: K, value: V, life: Duration) {
        let now = Instant::now();
        if self.0.len() >= REMEMBERED {
            self.0.retain(|_, (until, _)| now < *until);
        }
        if self.0.len() < REMEMBERED {
            self.0.insert(key, (now + life, value));
        }
    }
}

impl KubeletAccess {
    /// `client`: as the node itself; `client_authorities`: PEM.
    pub fn new(node: &str, client: kube::Client, client_authorities: &str) -> Result<Self> {
        let clock: Clock = Arc::new(SystemTime::now);
        Ok(Self {
            node: node.to_owned(),
            client,
            certificates: ClientCertificates::new(Verifier::new(client_authorities, clock)?),
            tokens: Mutex::new(Remembered(HashMap::new())),
            decisions: Mutex::new(Remembered(HashMap::new())),
        })
    }

    async fn token(&self, token: &str) -> Result<UserInfo, Refusal> {
        let key: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(user) = self.tokens.lock().get(&key) {
            return Ok(user);
        }
        let review = TokenReview {
            spec: TokenReviewSpec { token: token.to_owned(), audiences: None },
            ..TokenReview::default()
        };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let answer =
            api.create(&PostParams::default(), &review).await.map_err(|error| Refusal::Unknown(error.to_string()))?;
        let status = answer.status.unwrap_or_default();
        let Some(user) = status.user.filter(|_| status.authenticated == Some(true)) else {
            return Err(Refusal::Unauthenticated);
        };
        let user = UserInfo {
            name: user.username.unwrap_or_default(),
            uid: user.uid.unwrap_or_default(),
            groups: user.groups.unwrap_or_default(),
            extra: user.extra.unwrap_or_default(),
        };
        self.tokens.lock().put(key, user.clone(), TOKEN);
        Ok(user)
    }
}

#[async_trait]
impl Authorizer for KubeletAccess {
    async fn authenticate(&self, caller: &Caller) -> Result<UserInfo, Refusal> {
        if !caller.certificates.is_empty() {
            let mut request = http::Request::new(());
            request.extensions_mut().insert(ConnectionInfo::new(None, caller.certificates.clone().into()));
            let (parts, ()) = request.into_parts();
            let found = self.certificates.authenticate(&parts).await;
            return found.ok().flatten().ok_or(Refusal::Unauthenticated);
        }
        match &caller.bearer_token {
            Some(token) => self.token(token).await,
            None => Err(Refusal::Unauthenticated),
        }
    }

    async fn authorize(&self, user: &UserInfo, access: &Access) -> Result<(), Refusal> {
        let key = (user.name.clone(), user.groups.clone(), access.verb, access.subresource);
        if let Some(answer) = self.decisions.lock().get(&key) {
            return answer.map_err(Refusal::Forbidden);
        }
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.name.clone()),
                uid: Some(user.uid.clone()).filter(|uid| !uid.is_empty()),
                groups: Some(user.groups.clone()),
                extra: Some(user.extra.clone()),
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(access.verb.to_owned()),
                    version: Some("v1".to_owned()),
                    resource: Some("nodes".to_owned()),
                    subresource: Some(access.subresource.to_owned()),
                    name: Some(self.node.clone()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer =
            api.create(&PostParams::default(), &review).await.map_err(|error| Refusal::Unknown(error.to_string()))?;
        let status = answer.status.unwrap_or_default();
        let (answer, life) = if status.allowed {
            (Ok(()), ALLOWED)
        } else {
            let detail =
                format!("user={}, verb={}, resource=nodes, subresource={}", user.name, access.verb, access.subresource);
            (Err(format!("Forbidden ({detail})")), DENIED)
        };
        self.decisions.lock().put(key, answer.clone(), life);
        answer.map_err(Refusal::Forbidden)
    }
}
