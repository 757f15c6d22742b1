//! Tests of remote commands over both transports.

use super::*;
use crate::net::streaming::spdy::Headers;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

fn options(tty: bool) -> RemoteCommandOptions {
    let query = if tty { "input=1&output=1&error=1&tty=1" } else { "stdin=true&stdout=true&stderr=true" };
    RemoteCommandOptions::from_query(query).unwrap()
}

#[test]
fn queries_say_which_streams() {
    let read = |query| {
        RemoteCommandOptions::from_query(query)
            .map(|options| (options.stdin, options.stdout, options.stderr, options.tty))
    };
    assert_eq!(read("output=1&command=ls&command=stdin").unwrap(), (false, true, false, false));
    assert_eq!(read("input=1&output=1&error=1&tty=1").unwrap(), (true, true, false, true));
    for query in ["", "command=ls", "stdout=0"] {
        let error = read(query).unwrap_err();
        assert_eq!(error.response().status(), StatusCode::BAD_REQUEST);
        assert_eq!(error.to_string(), "you must specify at least 1 of stdin, stdout, stderr");
    }
}

#[test]
fn protocols_are_negotiated_in_the_clients_order() {
    assert_eq!(
        socket_streams::negotiate(&["v5.channel.k8s.io", "v4.channel.k8s.io"]).unwrap().name,
        "v5.channel.k8s.io"
    );
    assert_eq!(socket_streams::negotiate(&["x", "channel.k8s.io"]).unwrap().name, "channel.k8s.io");
    assert_eq!(socket_streams::negotiate(&[]).unwrap().name, "");
    assert!(socket_streams::negotiate(&["x"]).is_err());
    assert_eq!(spdy_streams::negotiate(&["v9", "v3.channel.k8s.io"]).unwrap().name, "v3.channel.k8s.io");
    let error = spdy_streams::negotiate(&["v9"]).unwrap_err();
    assert_eq!(error.response().status(), StatusCode::FORBIDDEN);
    assert!(error.to_string().contains("client supports [v9], server accepts [v4.channel.k8s.io"), "{error}");
}

#[test]
fn a_request_without_an_upgrade_is_refused() {
    let mut request = http::Request::get("/exec").body(()).unwrap();
    let Err(error) = accept_remote_command(&mut request, options(false)) else { panic!("it was taken") };
    assert_eq!(error.response().status(), StatusCode::BAD_REQUEST);
}

async fn client(io: tokio::io::DuplexStream) -> WebSocketStream<tokio::io::DuplexStream> {
    WebSocketStream::from_raw_socket(io, Role::Client, None).await
}

#[tokio::test]
async fn a_command_runs_over_a_websocket() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let protocol = socket_streams::negotiate(&["v5.channel.k8s.io"]).unwrap();
    let server = tokio::spawn(async move {
        let mut command = socket_streams::open(near, protocol, &options(true)).await;
        let size = command.resize.as_mut().unwrap().recv().await.unwrap();
        let mut input = String::new();
        command.stdin.unwrap().read_to_string(&mut input).await.unwrap();
        let mut stdout = command.stdout.unwrap();
        stdout.write_all(format!("{}x{} {input}", size.width, size.height).as_bytes()).await.unwrap();
        stdout.shutdown().await.unwrap();
        assert!(command.stderr.is_none(), "a terminal has no stderr");
        command.completion.finish(Outcome::ExitCode(3)).await;
    });
    let mut client = client(far).await;
    assert_eq!(client.next().await.unwrap().unwrap(), Message::binary(vec![1]), "the connection stands");
    client.send(Message::binary(b"\x04{\"Width\":80,\"Height\":24}".to_vec())).await.unwrap();
    client.send(Message::Ping("are you there".into())).await.unwrap();
    client.send(Message::binary(b"\x00hel".to_vec())).await.unwrap();
    client.send(Message::binary(b"\x00lo".to_vec())).await.unwrap();
    client.send(Message::binary(vec![255, 0])).await.unwrap();
    let (mut out, mut error, mut pong) = (Vec::new(), Vec::new(), false);
    while let Some(Ok(message)) = client.next().await {
        match message {
            Message::Binary(data) if data[0] == 1 => out.extend_from_slice(&data[1..]),
            Message::Binary(data) if data[0] == 3 => error.extend_from_slice(&data[1..]),
            Message::Pong(data) => pong = &data[..] == b"are you there",
            Message::Close(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(String::from_utf8(out).unwrap(), "80x24 hello");
    assert!(pong);
    let status: serde_json::Value = serde_json::from_slice(&error).unwrap();
    assert_eq!(status["reason"], "NonZeroExitCode");
    assert_eq!(status["details"]["causes"][0]["message"], "3");
    server.await.unwrap();
}

#[tokio::test]
async fn the_old_protocol_in_base64_says_failures_in_words() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let protocol = socket_streams::negotiate(&["base64.channel.k8s.io"]).unwrap();
    let server = tokio::spawn(async move {
        let command = socket_streams::open(near, protocol, &options(false)).await;
        command.stderr.unwrap().write_all(b"oh").await.unwrap();
        command.completion.finish(Outcome::Failure("no".to_owned())).await;
    });
    let mut client = client(far).await;
    let mut seen = Vec::new();
    while let Some(Ok(Message::Text(text))) = client.next().await {
        seen.push(text.to_string());
    }
    assert_eq!(seen, ["1", "2b2g=", "3bm8="]);
    drop(client);
    server.await.unwrap();
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let protocol = socket_streams::negotiate(&[]).unwrap();
    let command = socket_streams::open(near, protocol, &options(false)).await;
    let gone = command.completion.gone();
    assert!(!gone.is_cancelled());
    drop(far);
    gone.cancelled().await;
    assert_eq!(command.stdin.unwrap().read(&mut [0; 4]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_command_runs_over_spdy() {
    use crate::net::streaming::spdy::testing::{Client, Frame};
    let (near, far) = tokio::io::duplex(1 << 16);
    let version = spdy_streams::negotiate(&["v4.channel.k8s.io"]).unwrap();
    let server = tokio::spawn(async move {
        let command = spdy_streams::open(near, version, &options(true)).await.unwrap();
        let size = command.resize.unwrap().recv().await.unwrap();
        let mut input = String::new();
        command.stdin.unwrap().read_to_string(&mut input).await.unwrap();
        command.stdout.unwrap().write_all(format!("{} {input}", size.width).as_bytes()).await.unwrap();
        command.completion.finish(Outcome::Success).await;
    });
    let mut client = Client::new(far);
    for (stream, name) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "resize")] {
        client.open(stream, &Headers::from([("streamtype", name)])).await;
        assert_eq!(client.next().await, Some(Frame::Reply(stream)));
    }
    client.data(7, b"{\"Width\":80,\"Height\":24}\n", false).await;
    client.data(3, b"hello", true).await;
    let (mut out, mut error, mut ended) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(frame) = client.next().await {
        match frame {
            Frame::Data { stream, bytes, fin } => {
                match stream {
                    5 => out.extend(bytes),
                    1 => error.extend(bytes),
                    other => assert_eq!((other, bytes.len()), (other, 0)),
                }
                if fin {
                    ended.push(stream);
                }
            }
            Frame::Control(7, _) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(String::from_utf8(out).unwrap(), "80 hello");
    let status: serde_json::Value = serde_json::from_slice(&error).unwrap();
    assert_eq!(status, serde_json::json!({"metadata": {}, "status": "Success"}));
    assert_eq!(ended, [5, 1]);
    drop(client);
    server.await.unwrap();
}

#[tokio::test]
async fn a_client_that_opens_no_streams_is_cut_off() {
    let (near, _far) = tokio::io::duplex(1 << 16);
    let version = spdy_streams::negotiate(&["v4.channel.k8s.io"]).unwrap();
    let options = RemoteCommandOptions { creation_timeout: Duration::from_millis(30), ..options(false) };
    let Err(error) = spdy_streams::open(near, version, &options).await else { panic!("it was served") };
    assert!(matches!(error, StreamError::CreationTimeout), "{error}");
}
