//! A watch over a WebSocket: one message per event.

use crate::api::Status;
use crate::apiserver::audit;
use crate::apiserver::respond::Reply;
use crate::apiserver::verbs::watch::Watcher;
use axum::body::Body;
use base64::Engine;
use futures::{SinkExt, StreamExt};
use http::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

/// Takes the connection over and sends the watch's events until either side ends it.
pub fn frames(mut request: Request<Body>, mut watcher: Watcher) -> Result<Reply, Status> {
    let key = request.headers().get(SEC_WEBSOCKET_KEY).map(|key| derive_accept_key(key.as_bytes()));
    let key = key.ok_or_else(|| Status::bad_request("missing Sec-WebSocket-Key header"))?;
    let base64 = request
        .headers()
        .get(http::header::SEC_WEBSOCKET_PROTOCOL)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|protocols| protocols.split(',').any(|protocol| protocol.trim().starts_with("base64.")));
    let upgrade = hyper::upgrade::on(&mut request);
    let hold = audit::hold();
    tokio::spawn(async move {
        let _hold = hold;
        let upgraded = match upgrade.await {
            Ok(upgraded) => upgraded,
            Err(error) => {
                tracing::debug!(%error, "a watch over WebSocket was not taken up");
                return;
            }
        };
        let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        loop {
            tokio::select! {
                frame = watcher.frame() => {
                    let Some(frame) = frame else { break };
                    let text = String::from_utf8_lossy(&frame).trim_end().to_owned();
                    let message = if base64 {
                        base64::engine::general_purpose::STANDARD.encode(text)
                    } else {
                        text
                    };
                    if socket.send(Message::text(message)).await.is_err() {
                        return;
                    }
                }
                // Nothing is expected from the client but its going away; pings are answered here.
                message = socket.next() => match message {
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                    Some(Ok(_)) => {}
                },
            }
        }
        if let Err(error) = socket.close(None).await {
            tracing::debug!(%error, "a watch over WebSocket was cut");
        }
    });
    let mut reply = Response::new(Body::empty());
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = reply.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&key).expect("base64"));
    Ok(reply)
}
