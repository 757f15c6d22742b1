//! Port-forward over plain WebSocket channels: two for each port, data and error.

use super::{ForwardedPort, PortForward, PortForwardOptions};
use crate::net::streaming::StreamError;
use crate::net::streaming::socket::{Coding, Socket, inbox};
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// More do not fit into the channels' byte.
const MAX_PORTS: usize = 64;

const PROTOCOLS: &[(&str, bool)] = &[("v4.channel.k8s.io", false), ("v4.base64.channel.k8s.io", true)];

/// The name to answer with, and how messages are written.
pub fn negotiate(offered: &[&str]) -> Result<(&'static str, Coding), StreamError> {
    let coding = |base64| Coding { base64, closes: false, channels: true };
    if offered.is_empty() {
        return Ok(("", coding(false)));
    }
    let known = offered.iter().find_map(|name| PROTOCOLS.iter().find(|(known, _)| known == name));
    known.map(|&(name, base64)| (name, coding(base64))).ok_or_else(|| {
        let message = format!("unable to upgrade: the client offers {}", offered.join(" "));
        StreamError::Refused(StatusCode::FORBIDDEN, message)
    })
}

/// `ports=80&ports=443,8080`
pub fn ports(query: &str) -> Result<Vec<u16>, StreamError> {
    let mut ports = Vec::new();
    for (_, list) in form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| matches!(&**name, "ports" | "port")) {
        if list.is_empty() {
            return Err(StreamError::bad_request("query parameter \"port\" cannot be empty"));
        }
        for text in list.split(',') {
            match text.parse::<u16>() {
                Ok(0) => return Err(StreamError::bad_request(format!("port {list:?} must be > 0"))),
                Ok(port) => ports.push(port),
                Err(error) => {
                    return Err(StreamError::bad_request(format!("unable to parse {list:?} as a port: {error}")));
                }
            }
        }
    }
    match ports.len() {
        0 => Err(StreamError::bad_request("query parameter \"port\" is required")),
        1..=MAX_PORTS => Ok(ports),
        _ => Err(StreamError::bad_request(format!("more than {MAX_PORTS} ports"))),
    }
}

pub async fn open<T>(io: T, coding: Coding, ports: Vec<u16>, options: &PortForwardOptions) -> PortForward
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut inboxes = Vec::new();
    let mut inputs = Vec::new();
    for _ in &ports {
        let (sender, input) = inbox();
        inboxes.extend([Some(sender), None]);
        inputs.push(input);
    }
    let socket = Socket::start(io, coding, inboxes, options.idle_timeout).await;
    let gone = socket.gone();
    let (sender, incoming) = mpsc::channel(ports.len());
    let (alive, mut all_ended) = mpsc::channel(1);
    for ((at, port), input) in (0_u8..).zip(ports).zip(inputs) {
        let (data, error) = (at * 2, at * 2 + 1);
        // Each channel starts with its port.
        socket.send(data, &port.to_le_bytes()).await;
        socket.send(error, &port.to_le_bytes()).await;
        let forwarded = ForwardedPort {
            port,
            data: Box::new(tokio::io::join(input, socket.output(data))),
            error: socket.output(error),
            half_closes: false,
            gone: gone.clone(),
            _alive: Some(alive.clone()),
        };
        // There is room for all of them.
        let _ = sender.try_send(forwarded);
    }
    drop((sender, alive));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let gone = socket.gone();
        tokio::select! {
            () = gone.cancelled() => {}
            _ = all_ended.recv() => socket.close().await,
        }
    });
    PortForward { incoming, gone, tasks }
}
