//! A reverse proxy for one request over one connection, upgrades included.

use crate::api::Status;
use crate::apiserver::audit;
use crate::apiserver::respond::Reply;
use crate::apiserver::traces;
use crate::client::dialer::Connection;
use axum::body::Body;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri, Version};
use hyper_util::rt::TokioIo;

/// Headers of one hop.
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Headers that tell who the client is: not for those behind.
const CREDENTIALS: &[&str] = &["authorization"];

pub fn is_upgrade(headers: &HeaderMap) -> bool {
    let tokens = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    headers.contains_key(UPGRADE)
        && tokens.flat_map(|list| list.split(',')).any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
}

/// Send the request on with another path, and its answer back.
pub async fn relay(
    connection: Connection,
    mut request: Request<Body>,
    path_and_query: &str,
    host: &str,
) -> Result<Reply, Status> {
    let upgrade = is_upgrade(request.headers());
    let client_side = upgrade.then(|| hyper::upgrade::on(&mut request));
    let mut outgoing = outgoing(request, path_and_query, host, upgrade)?;
    let method = outgoing.method().clone();
    let mut call = traces::call(outgoing.headers_mut(), &method, host);
    let failed = |error: hyper::Error| Status::service_unavailable(format!("error trying to reach service: {error}"));
    let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(connection)).await.map_err(failed)?;
    // Ends with the body of the answer, or with the upgraded streams.
    tokio::spawn(async move {
        if let Err(error) = driver.with_upgrades().await {
            tracing::debug!(%error, "proxied connection ended");
        }
    });
    let mut answer = sender.send_request(outgoing).await.map_err(failed)?;
    call.iter_mut().for_each(|call| call.answered(answer.status().as_u16()));
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(client_side) = client_side
    {
        let server_side = hyper::upgrade::on(&mut answer);
        let hold = audit::hold();
        tokio::spawn(async move {
            let _hold = hold;
            let (client, server) = match tokio::try_join!(client_side, server_side) {
                Ok(sides) => sides,
                Err(error) => {
                    tracing::debug!(%error, "proxied upgrade failed");
                    return;
                }
            };
            let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
            if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut server).await {
                tracing::debug!(%error, "proxied stream ended");
            }
        });
    } else {
        for name in HOP_BY_HOP {
            answer.headers_mut().remove(*name);
        }
    }
    Ok(answer.map(Body::new))
}

fn outgoing(request: Request<Body>, path_and_query: &str, host: &str, upgrade: bool) -> Result<Request<Body>, Status> {
    let (mut parts, body) = request.into_parts();
    parts.uri = path_and_query
        .parse::<Uri>()
        .map_err(|error| Status::bad_request(format!("path {path_and_query}: {error}")))?;
    parts.version = Version::HTTP_11;
    parts.extensions = http::Extensions::new();
    let kept: Vec<(HeaderName, HeaderValue)> = [CONNECTION, UPGRADE]
        .into_iter()
        .filter(|_| upgrade)
        .filter_map(|name| Some((name.clone(), parts.headers.get(&name)?.clone())))
        .collect();
    for name in HOP_BY_HOP.iter().chain(CREDENTIALS) {
        parts.headers.remove(*name);
    }
    parts.headers.extend(kept);
    let host = HeaderValue::from_str(host).map_err(|error| Status::bad_request(format!("host {host}: {error}")))?;
    parts.headers.insert(HOST, host);
    Ok(Request::from_parts(parts, body))
}
