//! Tests of the relay: a client, the API server's part, and a kubelet, over pipes.

use super::relay::relay;
use crate::net::streaming::{Outcome, RemoteCommandOptions, accept_remote_command};
use axum::body::Body;
use futures::{SinkExt, StreamExt};
use http::{Request, Response, StatusCode};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

fn pipe() -> (DuplexStream, DuplexStream) {
    tokio::io::duplex(1 << 16)
}

/// Runs `cat`, and serves a page.
async fn kubelet(mut request: Request<Body>) -> Result<Response<Body>, Infallible> {
    if request.uri().path() == "/page" {
        let seen = format!("{} {:?}", request.uri(), request.headers().get("authorization"));
        return Ok(Response::new(Body::from(seen)));
    }
    let options = RemoteCommandOptions::from_query(request.uri().query().unwrap_or_default()).unwrap();
    let (response, streams) = accept_remote_command(&mut request, options).unwrap();
    tokio::spawn(async move {
        let command = streams.await.unwrap();
        let mut input = String::new();
        command.stdin.unwrap().read_to_string(&mut input).await.unwrap();
        command.stdout.unwrap().write_all(input.to_uppercase().as_bytes()).await.unwrap();
        command.completion.finish(Outcome::Success).await;
    });
    Ok(response)
}

/// A client's connection to a server that relays everything to the kubelet at `path`.
fn connect(path: &'static str) -> DuplexStream {
    let (client, server) = pipe();
    let relaying = service_fn(move |request: Request<hyper::body::Incoming>| async move {
        let (near, far) = pipe();
        tokio::spawn(async move {
            let service = service_fn(|request: Request<hyper::body::Incoming>| kubelet(request.map(Body::new)));
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(far), service)
                .with_upgrades()
                .await
                .unwrap();
        });
        let answer = relay(Box::new(near), request.map(Body::new), path, "n1").await;
        Ok::<_, Infallible>(answer.unwrap_or_else(|status| crate::apiserver::respond::status(&status)))
    });
    tokio::spawn(async move {
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), relaying);
        connection.with_upgrades().await.unwrap();
    });
    client
}

#[tokio::test]
async fn an_exec_goes_through_to_the_kubelet_and_back() {
    let client = connect("/exec/a/web/c?input=1&output=1&command=cat");
    let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(client)).await.unwrap();
    tokio::spawn(driver.with_upgrades());
    let request = Request::get("/api/v1/namespaces/a/pods/web/exec")
        .header("host", "x")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-protocol", "v5.channel.k8s.io, v4.channel.k8s.io")
        .body(Body::empty())
        .unwrap();
    let mut response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");
    assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    let upgraded = hyper::upgrade::on(&mut response).await.unwrap();
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await;
    socket.send(Message::binary(b"\x00hello".to_vec())).await.unwrap();
    socket.send(Message::binary(vec![255, 0])).await.unwrap();
    let mut seen = Vec::new();
    while let Some(Ok(Message::Binary(data))) = socket.next().await {
        seen.push(data.to_vec());
    }
    assert_eq!(
        seen,
        [b"\x01".to_vec(), b"\x01HELLO".to_vec(), b"\x03{\"metadata\":{},\"status\":\"Success\"}".to_vec()]
    );
}

#[tokio::test]
async fn a_page_is_passed_on_without_the_clients_credentials() {
    let client = connect("/page?a=b%2Fc");
    let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(client)).await.unwrap();
    tokio::spawn(driver);
    let request =
        Request::get("/x").header("host", "x").header("authorization", "Bearer secret").body(Body::empty()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let bytes = axum::body::to_bytes(Body::new(response.into_body()), 1 << 16).await.unwrap();
    assert_eq!(bytes, "/page?a=b%2Fc None");
}
