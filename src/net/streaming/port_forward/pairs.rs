//! A forwarded connection is a pair of streams with the same request id: `error` and `data`.

use super::ForwardedPort;
use crate::net::streaming::spdy::{Headers, Session, Stream};
use std::collections::HashMap;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::time::Instant;

struct Half {
    error: Option<Stream>,
    data: Option<Stream>,
    due: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Error,
    Data,
}

/// Until the client is gone.
pub async fn run(mut session: Session, complete: mpsc::Sender<ForwardedPort>, timeout: Duration) {
    let gone = session.gone();
    let mut halves: HashMap<String, Half> = HashMap::new();
    loop {
        let due = halves.values().map(|half| half.due).min();
        let overdue = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let stream = tokio::select! {
            stream = session.next() => stream,
            () = overdue => {
                let now = Instant::now();
                let late: Vec<String> =
                    halves.iter().filter(|(_, half)| half.due <= now).map(|(id, _)| id.clone()).collect();
                for id in late {
                    if let Some(Half { error: Some(mut error), .. }) = halves.remove(&id) {
                        // The client may be gone by now.
                        let _ = error.write_all(b"timed out waiting for streams").await;
                        let _ = error.shutdown().await;
                    }
                }
                continue;
            }
        };
        let Some(stream) = stream else { return };
        let Some((kind, port)) = kind_and_port(&stream.headers) else {
            stream.refuse().await;
            continue;
        };
        let id = request_id(&stream.headers, stream.id(), kind);
        let half =
            halves.entry(id.clone()).or_insert_with(|| Half { error: None, data: None, due: Instant::now() + timeout });
        let slot = if kind == Kind::Error { &mut half.error } else { &mut half.data };
        if slot.is_some() {
            stream.refuse().await;
            continue;
        }
        *slot = Some(stream.accept().await);
        if half.error.is_some()
            && half.data.is_some()
            && let Some(Half { error: Some(error), data: Some(data), .. }) = halves.remove(&id)
        {
            let port = ForwardedPort {
                port,
                data: Box::new(data),
                error: Box::new(error),
                half_closes: true,
                gone: gone.clone(),
                _alive: None,
            };
            if complete.send(port).await.is_err() {
                return;
            }
        }
    }
}

fn kind_and_port(headers: &Headers) -> Option<(Kind, u16)> {
    let kind = match headers.get("streamtype")? {
        "error" => Kind::Error,
        "data" => Kind::Data,
        _ => return None,
    };
    let port = headers.get("port")?.parse().ok().filter(|&port| port > 0)?;
    Some((kind, port))
}

/// Old clients give none, but open the error stream first and the data stream right after it.
fn request_id(headers: &Headers, stream: u32, kind: Kind) -> String {
    match headers.get("requestid") {
        Some(id) if !id.is_empty() => id.to_owned(),
        _ if kind == Kind::Error => stream.to_string(),
        _ => stream.saturating_sub(2).to_string(),
    }
}
