//! `Authorization: Bearer …`: the token is shown to each kind of token in turn.

use super::Authenticator;
use crate::api::{Status, UserInfo};
use async_trait::async_trait;
use base64::Engine;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use std::collections::HashMap;
use std::sync::Arc;

/// Longer tokens are nobody's.
const MAX_TOKEN_BYTES: usize = 32 << 10;

/// How a browser's WebSocket carries a token.
const WEBSOCKET_PREFIX: &str = "base64url.bearer.authorization.k8s.io.";

/// Whose a token is, and for which of the asked audiences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenUser {
    pub user: UserInfo,
    /// None: the token is not bound to audiences.
    pub audiences: Option<Vec<String>>,
}

/// One kind of token.
pub trait TokenAuthenticator: Send + Sync + 'static {
    /// `audiences` empty: those of the API server. `Ok(None)`: not this kind. `Err`: this kind, and
    /// why it is not good.
    fn authenticate(&self, token: &str, audiences: &[String]) -> Result<Option<TokenUser>, String>;
}

/// A kind of token that another server is asked about, after the others.
#[async_trait]
pub trait RemoteTokenAuthenticator: Send + Sync + 'static {
    /// As [`TokenAuthenticator::authenticate`].
    async fn authenticate(&self, token: &str, audiences: &[String]) -> Result<Option<TokenUser>, String>;
}

/// All kinds.
pub struct Tokens {
    kinds: Vec<Arc<dyn TokenAuthenticator>>,
    remote: Vec<Arc<dyn RemoteTokenAuthenticator>>,
}

impl Tokens {
    pub fn new(kinds: Vec<Arc<dyn TokenAuthenticator>>, remote: Vec<Arc<dyn RemoteTokenAuthenticator>>) -> Self {
        Self { kinds, remote }
    }

    /// `Err`: the text for a TokenReview.
    pub async fn authenticate(&self, token: &str, audiences: &[String]) -> Result<TokenUser, String> {
        const INVALID: &str = "invalid bearer token";
        let mut errors = vec![INVALID.to_owned()];
        if token.len() <= MAX_TOKEN_BYTES {
            let mut found = None;
            for kind in &self.kinds {
                match kind.authenticate(token, audiences) {
                    Ok(None) => {}
                    Ok(user) => {
                        found = user;
                        break;
                    }
                    Err(error) => errors.push(error),
                }
            }
            for kind in &self.remote {
                if found.is_some() {
                    break;
                }
                match kind.authenticate(token, audiences).await {
                    Ok(user) => found = user,
                    Err(error) => errors.push(error),
                }
            }
            if let Some(mut found) = found {
                super::add_authenticated(&mut found.user);
                return Ok(found);
            }
        }
        Err(if errors.len() == 1 { INVALID.to_owned() } else { format!("[{}]", errors.join(", ")) })
    }
}

/// Requests with a bearer token.
pub struct Bearer {
    tokens: Arc<Tokens>,
}

impl Bearer {
    pub fn new(tokens: Arc<Tokens>) -> Self {
        Self { tokens }
    }
}

#[async_trait]
impl Authenticator for Bearer {
    async fn authenticate(&self, request: &http::request::Parts) -> Result<Option<UserInfo>, Status> {
        let Some(token) = token_of(&request.headers) else { return Ok(None) };
        match self.tokens.authenticate(&token, &[]).await {
            Ok(found) => Ok(Some(found.user)),
            Err(error) => {
                tracing::debug!(error, "bearer token refused");
                Err(Status::unauthorized())
            }
        }
    }
}

fn token_of(headers: &http::HeaderMap) -> Option<String> {
    if let Some(value) = headers.get(AUTHORIZATION) {
        // Faster than `to_str`, which looks at each byte; what is not ASCII is nobody's token.
        let mut parts = std::str::from_utf8(value.as_bytes()).ok()?.trim().splitn(3, ' ');
        let (scheme, token) = (parts.next()?, parts.next()?);
        return (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned());
    }
    let protocols = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let encoded = protocols
        .flat_map(|list| list.split(','))
        .find_map(|protocol| protocol.trim().strip_prefix(WEBSOCKET_PREFIX))?;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(encoded).ok()?;
    String::from_utf8(bytes).ok().filter(|token| !token.is_empty())
}

/// Tokens that are known from the start.
pub struct StaticTokens {
    /// By SHA-256, so that a lookup's time tells nothing of a token.
    users: HashMap<[u8; 32], UserInfo>,
}

impl StaticTokens {
    pub fn new(tokens: Vec<(String, UserInfo)>) -> Self {
        Self { users: tokens.into_iter().map(|(token, user)| (digest(&token), user)).collect() }
    }
}

impl TokenAuthenticator for StaticTokens {
    fn authenticate(&self, token: &str, _audiences: &[String]) -> Result<Option<TokenUser>, String> {
        if self.users.is_empty() {
            return Ok(None);
        }
        Ok(self.users.get(&digest(token)).map(|user| TokenUser { user: user.clone(), audiences: None }))
    }
}

/// SHA-256 of a token.
pub fn digest(token: &str) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(token.as_bytes()).into()
}
