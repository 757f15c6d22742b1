//! Service account tokens for pods: bound to the pod, asked of the API, renewed before they end.

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Tokens are renewed after a day even if they live longer.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenKey {
    pub namespace: String,
    pub service_account: String,
    pub pod_name: String,
    pub pod_uid: String,
    /// Empty: the API server's own.
    pub audience: String,
    pub expiration_seconds: i64,
}

#[derive(Debug, PartialEq)]
pub struct Token {
    pub token: String,
    pub refresh_at: Instant,
    expires_at: Instant,
}

/// Tokens in use.
pub struct Tokens {
    client: kube::Client,
    cache: Mutex<HashMap<TokenKey, Arc<Token>>>,
}

impl Tokens {
    pub fn new(client: kube::Client) -> Self {
        Self { client, cache: Mutex::default() }
    }

    /// A token that is not due for renewal; an older one that is still valid where the API does
    /// not answer.
    pub async fn get(&self, key: &TokenKey) -> Result<Arc<Token>, String> {
        let cached = self.cache.lock().get(key).cloned();
        let now = Instant::now();
        if let Some(token) = &cached
            && now < token.refresh_at
        {
            return Ok(token.clone());
        }
        match self.request(key).await {
            Ok(token) => {
                let token = Arc::new(token);
                self.cache.lock().insert(key.clone(), token.clone());
                Ok(token)
            }
            Err(error) => match cached.filter(|token| now < token.expires_at) {
                Some(token) => {
                    tracing::warn!(account = %key.service_account, namespace = %key.namespace, %error,
                        "renew a service account token: the old one is still valid");
                    let retry = Token {
                        token: token.token.clone(),
                        refresh_at: now + Duration::from_secs(30),
                        expires_at: token.expires_at,
                    };
                    Ok(Arc::new(retry))
                }
                None => Err(error),
            },
        }
    }

    async fn request(&self, key: &TokenKey) -> Result<Token, String> {
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: (!key.audience.is_empty()).then(|| vec![key.audience.clone()]),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: Some(key.pod_name.clone()),
                    uid: Some(key.pod_uid.clone()),
                }),
                expiration_seconds: Some(key.expiration_seconds),
            }),
            ..TokenRequest::default()
        };
        let body = serde_json::to_vec(&request).map_err(|error| error.to_string())?;
        let path = format!("/api/v1/namespaces/{}/serviceaccounts/{}/token", key.namespace, key.service_account);
        let request = http::Request::post(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|error| error.to_string())?;
        let asked = Instant::now();
        let reply: TokenRequest =
            self.client.request(request).await.map_err(|error| super::super::api_message(&error))?;
        let token = reply.status.and_then(|status| status.token).ok_or("the API server gave no token")?;
        let granted = reply.spec.and_then(|spec| spec.expiration_seconds);
        let seconds = granted.unwrap_or(key.expiration_seconds);
        let lifetime = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        Ok(Token { token, refresh_at: asked + (lifetime * 4 / 5).min(MAX_AGE), expires_at: asked + lifetime })
    }

    /// All are asked for anew; a pod keeps what it has until then.
    pub fn forget_all(&self) {
        self.cache.lock().clear();
    }

    /// Forget the tokens of a pod that is gone.
    pub fn forget(&self, pod_uid: &str) {
        self.cache.lock().retain(|key, _| key.pod_uid != pod_uid);
    }
}
