//! Tests of port-forward over its transports.

use super::*;
use crate::net::streaming::spdy::Headers;
use crate::net::streaming::spdy::testing::{Client, Frame};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

const RST_STREAM: u16 = 3;

fn headers(kind: &str, port: &str, id: &str) -> Headers {
    Headers::from([("streamtype", kind), ("port", port), ("requestid", id)])
}

/// A server in the pod that answers in capitals.
async fn shout() -> std::io::Result<tokio::io::DuplexStream> {
    let (near, mut far) = tokio::io::duplex(1 << 16);
    tokio::spawn(async move {
        let mut text = String::new();
        far.read_to_string(&mut text).await.unwrap();
        far.write_all(text.to_uppercase().as_bytes()).await.unwrap();
    });
    Ok(near)
}

#[tokio::test]
async fn a_pair_of_streams_is_a_connection() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let options = PortForwardOptions::default();
    let mut forward = over_session(Session::start(near, options.idle_timeout), &options);
    let mut client = Client::new(far);
    client.open(1, &headers("error", "80", "0")).await;
    client.open(3, &headers("error", "81", "1")).await;
    client.open(5, &headers("data", "81", "1")).await;
    for stream in [1, 3, 5] {
        assert_eq!(client.next().await, Some(Frame::Reply(stream)));
    }
    let port = forward.next().await.unwrap();
    assert_eq!(port.port, 81, "the first has no data stream yet");
    let relay = tokio::spawn(async move { port.relay("web, uid 1", shout()).await });
    client.data(3, b"", true).await;
    client.data(5, b"hello", true).await;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.push(client.next().await.unwrap());
    }
    assert_eq!(seen[0], Frame::Data { stream: 5, bytes: b"HELLO".to_vec(), fin: false });
    assert!(seen.contains(&Frame::Data { stream: 5, bytes: vec![], fin: true }), "{seen:?}");
    assert!(seen.contains(&Frame::Data { stream: 3, bytes: vec![], fin: true }), "{seen:?}");
    relay.await.unwrap();
    drop(client);
    assert!(forward.next().await.is_none());
}

#[tokio::test]
async fn an_error_is_told() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let options = PortForwardOptions::default();
    let mut forward = over_session(Session::start(near, options.idle_timeout), &options);
    let mut client = Client::new(far);
    client.open(1, &headers("error", "80", "0")).await;
    client.open(3, &headers("data", "80", "0")).await;
    let port = forward.next().await.unwrap();
    let refused = async { Err::<tokio::io::DuplexStream, _>(ErrorKind::ConnectionRefused.into()) };
    port.relay("web, uid 1", refused).await;
    let mut text = None;
    while text.is_none() {
        if let Frame::Data { stream: 1, bytes, .. } = client.next().await.unwrap() {
            text = Some(String::from_utf8(bytes).unwrap());
        }
    }
    assert_eq!(text.unwrap(), "error forwarding port 80 to pod web, uid 1: connection refused");
}

#[tokio::test]
async fn wrong_streams_are_reset() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let options = PortForwardOptions::default();
    let _forward = over_session(Session::start(near, options.idle_timeout), &options);
    let mut client = Client::new(far);
    for (stream, headers) in [
        (1, headers("data", "0", "0")),
        (3, headers("data", "65536", "0")),
        (5, headers("other", "80", "0")),
        (7, Headers::from([("port", "80")])),
    ] {
        client.open(stream, &headers).await;
        assert_eq!(client.next().await, Some(Frame::Control(RST_STREAM, vec![stream, 1])));
    }
}

#[tokio::test]
async fn half_a_pair_is_not_waited_for_for_ever() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let options = PortForwardOptions { creation_timeout: Duration::from_millis(30), ..PortForwardOptions::default() };
    let _forward = over_session(Session::start(near, options.idle_timeout), &options);
    let mut client = Client::new(far);
    client.open(1, &headers("error", "80", "0")).await;
    assert_eq!(client.next().await, Some(Frame::Reply(1)));
    let Some(Frame::Data { stream: 1, bytes, .. }) = client.next().await else { panic!("no text") };
    assert_eq!(bytes, b"timed out waiting for streams");
}

#[test]
fn ports_of_a_query() {
    assert_eq!(channels::ports("ports=80&ports=443,8080").unwrap(), [80, 443, 8080]);
    for (query, text) in [
        ("", "query parameter \"port\" is required"),
        ("ports=", "query parameter \"port\" cannot be empty"),
        ("ports=0", "port \"0\" must be > 0"),
        ("ports=x", "unable to parse \"x\" as a port: invalid digit found in string"),
    ] {
        assert_eq!(channels::ports(query).unwrap_err().to_string(), text);
    }
    let many = (1..=65).map(|port| port.to_string()).collect::<Vec<_>>().join(",");
    assert!(channels::ports(&format!("ports={many}")).is_err());
}

#[tokio::test]
async fn channels_of_a_websocket_are_connections() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let (_, coding) = channels::negotiate(&["v4.channel.k8s.io"]).unwrap();
    let options = PortForwardOptions::default();
    let server = tokio::spawn(async move {
        let mut forward = channels::open(near, coding, vec![80], &options).await;
        let mut port = forward.next().await.unwrap();
        let mut data = [0; 5];
        port.data.read_exact(&mut data).await.unwrap();
        port.data.write_all(&data.to_ascii_uppercase()).await.unwrap();
        drop(port);
        assert!(forward.next().await.is_none());
        // The socket closes with its last connection.
        forward.gone.cancelled().await;
    });
    let mut client = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
    client.send(Message::binary(b"\x00hello".to_vec())).await.unwrap();
    let mut seen = Vec::new();
    while let Some(Ok(Message::Binary(data))) = client.next().await {
        seen.push(data.to_vec());
    }
    assert_eq!(seen, [b"\x00\x50\x00".to_vec(), b"\x01\x50\x00".to_vec(), b"\x00HELLO".to_vec()]);
    drop(client);
    server.await.unwrap();
}

/// Channels have no end of their own: a client that waits for one, as Python's, waits for the socket's.
#[tokio::test]
async fn over_channels_the_pods_end_is_the_end() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let (_, coding) = channels::negotiate(&["v4.channel.k8s.io"]).unwrap();
    let mut forward = channels::open(near, coding, vec![80], &PortForwardOptions::default()).await;
    let port = forward.next().await.unwrap();
    let (to_relay, mut pod) = tokio::io::duplex(1 << 16);
    let relay = tokio::spawn(async move { port.relay("web, uid 1", async { Ok(to_relay) }).await });
    let mut client = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
    client.send(Message::binary(b"\x00hello".to_vec())).await.unwrap();
    let mut request = [0; 5];
    pod.read_exact(&mut request).await.unwrap();
    pod.write_all(&request.to_ascii_uppercase()).await.unwrap();
    drop(pod);
    relay.await.unwrap();
    assert!(forward.next().await.is_none());
    let finish = tokio::spawn(forward.finish());
    let mut seen = Vec::new();
    while let Some(Ok(Message::Binary(data))) = client.next().await {
        seen.push(data.to_vec());
    }
    assert_eq!(seen, [b"\x00\x50\x00".to_vec(), b"\x01\x50\x00".to_vec(), b"\x00HELLO".to_vec()]);
    drop(client);
    finish.await.unwrap();
}

#[tokio::test]
async fn spdy_goes_through_a_websocket() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let options = PortForwardOptions::default();
    let socket = websocket::server(near).await;
    let mut forward = over_session(Session::start(websocket::ByteStream::new(socket), options.idle_timeout), &options);
    let socket = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
    let (mut inner, outer) = tokio::io::duplex(1 << 16);
    let pump = tokio::spawn(async move {
        let mut socket = websocket::ByteStream::new(socket);
        tokio::io::copy_bidirectional(&mut inner, &mut socket).await
    });
    let mut client = Client::new(outer);
    client.open(1, &headers("error", "80", "0")).await;
    client.open(3, &headers("data", "80", "0")).await;
    let port = forward.next().await.unwrap();
    let relay = tokio::spawn(async move { port.relay("web, uid 1", shout()).await });
    client.data(3, b"hello", true).await;
    let mut text = None;
    while text.is_none() {
        if let Frame::Data { stream: 3, bytes, fin: false } = client.next().await.unwrap() {
            text = Some(bytes);
        }
    }
    assert_eq!(text.unwrap(), b"HELLO");
    relay.await.unwrap();
    drop(client);
    assert!(forward.next().await.is_none());
    pump.abort();
}
