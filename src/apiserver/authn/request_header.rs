//! A front proxy that has authenticated the user already, and says who it is in headers.

use super::{Authenticator, ConnectionInfo, x509};
use crate::api::{Status, UserInfo};
use async_trait::async_trait;
use http::HeaderMap;
use percent_encoding::percent_decode_str;
use std::collections::BTreeMap;

const USER: &str = "x-remote-user";
const UID: &str = "x-remote-uid";
const GROUP: &str = "x-remote-group";
const EXTRA: &str = "x-remote-extra-";

pub struct FrontProxy {
    verifier: x509::Verifier,
    /// Empty: any.
    names: Vec<String>,
}

impl FrontProxy {
    pub fn new(verifier: x509::Verifier, names: Vec<String>) -> Self {
        Self { verifier, names }
    }
}

#[async_trait]
impl Authenticator for FrontProxy {
    async fn authenticate(&self, request: &http::request::Parts) -> Result<Option<UserInfo>, Status> {
        // Nothing else of a request is asked: most have no such header.
        let Some(user) = user_of(&request.headers) else { return Ok(None) };
        let Some(connection) = request.extensions.get::<ConnectionInfo>() else { return Ok(None) };
        let Some(leaf) = connection.certificates.first() else { return Ok(None) };
        // Without the proxy's certificate the headers are anybody's.
        if self.verifier.verify(&connection.certificates).is_err() {
            return Ok(None);
        }
        let known = |name: String| self.names.is_empty() || self.names.contains(&name);
        if x509::common_name(leaf).is_some_and(known) { Ok(Some(user)) } else { Err(Status::unauthorized()) }
    }
}

fn user_of(headers: &HeaderMap) -> Option<UserInfo> {
    let text = |value: &http::HeaderValue| value.to_str().ok().map(str::to_owned);
    let name = headers.get(USER).and_then(text).filter(|name| !name.is_empty())?;
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (header, value) in headers {
        if let Some(key) = header.as_str().strip_prefix(EXTRA) {
            let key = percent_decode_str(key).decode_utf8().map_or_else(|_| key.to_owned(), |key| key.to_lowercase());
            extra.entry(key).or_default().extend(text(value));
        }
    }
    Some(UserInfo {
        name,
        uid: headers.get(UID).and_then(text).unwrap_or_default(),
        groups: headers.get_all(GROUP).iter().filter_map(text).collect(),
        extra,
    })
}
