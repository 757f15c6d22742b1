//! A request passed on to the server of its group, upgrades included.

use super::{Remote, connect};
use crate::api::UserInfo;
use crate::apiserver::authn::ConnectionInfo;
use crate::apiserver::respond::{self, Reply};
use crate::apiserver::state::State;
use crate::apiserver::subresources::connect::relay;
use axum::body::Body;
use http::header::{HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, Request, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

const PREFIX: &str = "x-remote-";
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What may stand in the name of a header as it is.
const KEY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'*')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// The answer of the extension server, or 503.
pub async fn serve(state: &State, remote: &Remote, user: &UserInfo, mut request: Request<Body>) -> Reply {
    if !remote.available {
        return unavailable("service unavailable");
    }
    if let Some(peer) = request.extensions().get::<ConnectionInfo>().and_then(|connection| connection.peer) {
        let peer = HeaderValue::from_str(&peer.ip().to_string()).expect("an address");
        request.headers_mut().append(FORWARDED_FOR, peer);
    }
    if let Err(what) = identify(request.headers_mut(), user) {
        return unavailable(&what);
    }
    let connection = match connect(&*state.storage, &state.webhooks, &remote.target).await {
        Ok(connection) => connection,
        Err(error) => return unavailable(&format!("error trying to reach service: {error}")),
    };
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    match relay(connection, request, &path, &remote.target.host()).await {
        Ok(reply) => reply,
        Err(status) => unavailable(&status.message),
    }
}

fn unavailable(text: &str) -> Reply {
    let mut reply = respond::text(StatusCode::SERVICE_UNAVAILABLE, format!("{text}\n"));
    reply.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}

/// Who it is, as a front proxy tells it; nothing that the client told stays.
pub fn identify(headers: &mut HeaderMap, user: &UserInfo) -> Result<(), String> {
    let told: Vec<HeaderName> = headers.keys().filter(|name| name.as_str().starts_with(PREFIX)).cloned().collect();
    for name in told {
        headers.remove(name);
    }
    let value = |text: &str| {
        HeaderValue::from_bytes(text.as_bytes()).map_err(|_| format!("user {text:?} cannot be told in a header"))
    };
    headers.insert("x-remote-user", value(&user.name)?);
    if !user.uid.is_empty() {
        headers.insert("x-remote-uid", value(&user.uid)?);
    }
    for group in &user.groups {
        headers.append("x-remote-group", value(group)?);
    }
    for (key, values) in &user.extra {
        let name = format!("{PREFIX}extra-{}", utf8_percent_encode(key, KEY)).to_ascii_lowercase();
        let name = HeaderName::try_from(name).map_err(|_| format!("extra {key:?} cannot be told in a header"))?;
        for one in values {
            headers.append(name.clone(), value(one)?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn only_what_is_proven_is_told() {
        let mut headers = HeaderMap::new();
        headers.insert("x-remote-user", HeaderValue::from_static("root"));
        headers.insert("x-remote-extra-scopes", HeaderValue::from_static("all"));
        let extra = BTreeMap::from([("example.com/a b".to_owned(), vec!["1".to_owned(), "2".to_owned()])]);
        let user = UserInfo { extra, uid: "u1".to_owned(), ..UserInfo::new("ann", &["team"]) };
        identify(&mut headers, &user).expect("can be told");
        let mut told: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("text"))).collect();
        told.sort();
        assert_eq!(
            told,
            [
                "x-remote-extra-example.com%2fa%20b: 1",
                "x-remote-extra-example.com%2fa%20b: 2",
                "x-remote-group: system:authenticated",
                "x-remote-group: team",
                "x-remote-uid: u1",
                "x-remote-user: ann",
            ]
        );
        let broken = UserInfo::new("a\nb", &[]);
        assert!(identify(&mut HeaderMap::new(), &broken).is_err());
    }
}
