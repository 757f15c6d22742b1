//! What others need to verify service account tokens: the issuer's description and its keys.

use super::Route;
use crate::api::{Status, UserInfo};
use crate::apiserver::authn::service_account::Tokens;
use crate::apiserver::negotiate;
use crate::apiserver::respond::{self, Reply};
use async_trait::async_trait;
use axum::body::Body;
use http::header::CACHE_CONTROL;
use http::{HeaderValue, Method, Request, StatusCode};
use std::sync::Arc;

#[derive(Clone, Copy)]
enum Document {
    Discovery,
    Keys,
}

struct OpenId {
    tokens: Arc<Tokens>,
    document: Document,
}

/// `/.well-known/openid-configuration` and `/openid/v1/jwks`.
pub fn routes(tokens: &Arc<Tokens>) -> Vec<(&'static str, Arc<dyn Route>)> {
    let route = |document| Arc::new(OpenId { tokens: tokens.clone(), document });
    vec![("/.well-known/openid-configuration", route(Document::Discovery)), ("/openid/v1/jwks", route(Document::Keys))]
}

#[async_trait]
impl Route for OpenId {
    async fn serve(&self, _user: &UserInfo, request: Request<Body>) -> Result<Reply, Status> {
        if *request.method() != Method::GET {
            return Err(crate::apiserver::no_such_verb());
        }
        let (content_type, media, value) = match self.document {
            Document::Discovery => ("application/json", ("application", "json"), self.tokens.discovery()),
            Document::Keys => ("application/jwk-set+json", ("application", "jwk-set+json"), self.tokens.key_set()),
        };
        negotiate::routed_in(request.headers(), &[media])?;
        let mut reply = respond::bytes(StatusCode::OK, HeaderValue::from_static(content_type), value.to_string());
        reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
        Ok(reply)
    }
}
