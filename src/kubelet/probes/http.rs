//! HTTP and HTTPS GET for probes and lifecycle hooks: no certificate is asked for, redirects stay
//! on the host, replies are cut.

use super::Outcome;
use crate::net::tls::any_server;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::HTTPGetAction;
use rustls_pki_types::ServerName;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpStream;

const MAX_BODY: usize = 10 << 10;
const MAX_REDIRECTS: usize = 10;

pub struct Target {
    https: bool,
    host: String,
    port: u16,
    /// With its query.
    path: String,
    headers: Vec<(String, String)>,
}

impl Target {
    pub fn of(action: &HTTPGetAction, host: &str, port: u16) -> Self {
        let path = action.path.as_deref().unwrap_or("/");
        Self {
            https: action.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
            host: host.to_owned(),
            port,
            path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
            headers: action
                .http_headers
                .iter()
                .flatten()
                .map(|header| (header.name.clone(), header.value.clone()))
                .collect(),
        }
    }

    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    fn url(&self) -> String {
        format!("{}://{}{}", if self.https { "https" } else { "http" }, self.authority(), self.path)
    }
}

struct Reply {
    status: u16,
    body: String,
    location: Option<String>,
}

/// A connection, or Go's words for why there is none.
pub async fn connect(host: &str, port: u16, timeout: Duration) -> Result<TcpStream, String> {
    let shown = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    match tokio::time::timeout(timeout, TcpStream::connect((host, port))).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(format!("dial tcp {shown}: connect: {}", io_text(&error))),
        Err(_) => Err(format!("dial tcp {shown}: i/o timeout")),
    }
}

fn io_text(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => rustix::io::Errno::from_raw_os_error(code)
            .to_string()
            .split(" (os error")
            .next()
            .unwrap_or_default()
            .to_lowercase(),
        None => error.to_string(),
    }
}

pub async fn probe(target: &Target, timeout: Duration) -> Outcome {
    let url = target.url();
    match tokio::time::timeout(timeout, follow(target, timeout)).await {
        Ok(Ok(reply)) if (200..300).contains(&reply.status) => Outcome::Success,
        Ok(Ok(reply)) if (300..400).contains(&reply.status) => {
            Outcome::Warning(format!("Probe terminated redirects, Response body: {}", reply.body))
        }
        Ok(Ok(reply)) => Outcome::Failure(format!("HTTP probe failed with statuscode: {}", reply.status)),
        Ok(Err(error)) => Outcome::Failure(format!("Get \"{url}\": {error}")),
        Err(_) => Outcome::Failure(format!(
            "Get \"{url}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        )),
    }
}

/// A hook's request: only that it is answered counts.
pub async fn call(target: &Target, timeout: Duration) -> Result<(), String> {
    match tokio::time::timeout(timeout, get(target, &target.path, timeout)).await {
        Ok(Ok(reply)) if reply.status < 400 => Ok(()),
        Ok(Ok(reply)) => Err(format!("HTTP lifecycle hook ({}) failed with statuscode: {}", target.path, reply.status)),
        Ok(Err(error)) => Err(format!("Get \"{}\": {error}", target.url())),
        Err(_) => Err(format!("Get \"{}\": context deadline exceeded", target.url())),
    }
}

async fn follow(target: &Target, timeout: Duration) -> Result<Reply, String> {
    let mut path = target.path.clone();
    for _ in 0..=MAX_REDIRECTS {
        let reply = get(target, &path, timeout).await?;
        let redirect = matches!(reply.status, 301 | 302 | 303 | 307 | 308);
        match reply.location.as_deref().filter(|_| redirect).and_then(|location| local(target, location)) {
            Some(next) => path = next,
            None => return Ok(reply),
        }
    }
    Err(format!("stopped after {MAX_REDIRECTS} redirects"))
}

/// The path of a redirect that stays on the host; None: it leads elsewhere and is not followed.
fn local(target: &Target, location: &str) -> Option<String> {
    if location.starts_with('/') && !location.starts_with("//") {
        return Some(location.to_owned());
    }
    let uri: http::Uri = location.parse().ok()?;
    let same = uri.host() == Some(target.host.as_str())
        && uri.port_u16().unwrap_or(if target.https { 443 } else { 80 }) == target.port
        && uri.scheme_str() == Some(if target.https { "https" } else { "http" });
    same.then(|| uri.path_and_query().map_or("/", |path| path.as_str()).to_owned())
}

async fn get(target: &Target, path: &str, timeout: Duration) -> Result<Reply, String> {
    let mut request = http::Request::get(path);
    let has = |name: &str| target.headers.iter().any(|(header, _)| header.eq_ignore_ascii_case(name));
    if !has("host") {
        request = request.header("Host", target.authority());
    }
    if !has("user-agent") {
        request = request.header("User-Agent", "kube-probe/1.36");
    }
    if !has("accept") {
        request = request.header("Accept", "*/*");
    }
    for (name, value) in &target.headers {
        request = request.header(name, value);
    }
    let request =
        request.header("Connection", "close").body(Empty::<bytes::Bytes>::new()).map_err(|error| error.to_string())?;
    let stream = connect(&target.host, target.port, timeout).await?;
    if target.https {
        let name = ServerName::try_from(target.host.clone()).map_err(|error| error.to_string())?;
        let connector = tokio_rustls::TlsConnector::from(tls());
        let stream = connector.connect(name, stream).await.map_err(|error| error.to_string())?;
        exchange(stream, request).await
    } else {
        exchange(stream, request).await
    }
}

async fn exchange<S>(stream: S, request: http::Request<Empty<bytes::Bytes>>) -> Result<Reply, String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let text = |error: hyper::Error| if error.is_incomplete_message() { "EOF".to_owned() } else { error.to_string() };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
    let converse = async {
        let reply = sender.send_request(request).await.map_err(text)?;
        let status = reply.status().as_u16();
        let location = reply.headers().get(http::header::LOCATION);
        let location = location.and_then(|location| location.to_str().ok()).map(str::to_owned);
        // A longer body is cut, not an error: the status is what counts.
        let body = match Limited::new(reply.into_body(), MAX_BODY).collect().await {
            Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
            Err(_) => String::new(),
        };
        Ok(Reply { status, body, location })
    };
    tokio::pin!(converse, connection);
    loop {
        tokio::select! {
            reply = &mut converse => return reply,
            ended = &mut connection => {
                // The reply may be complete already.
                if let Err(error) = ended {
                    return Err(text(error));
                }
                return converse.await;
            }
        }
    }
}

/// Kubernetes's probes trust any certificate: they ask whether the server answers, not who it is.
fn tls() -> Arc<rustls::ClientConfig> {
    static CONFIG: OnceLock<Arc<rustls::ClientConfig>> = OnceLock::new();
    let make = || Arc::new(any_server().expect("ring supports the default versions"));
    CONFIG.get_or_init(make).clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// A server that gives these replies, one a connection, and tells the requests.
    async fn server(replies: Vec<&'static str>) -> (u16, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let task = tokio::spawn(async move {
            let mut seen = Vec::new();
            for reply in replies {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut buffer = vec![0; 4096];
                let read = stream.read(&mut buffer).await.expect("a request");
                seen.push(String::from_utf8_lossy(&buffer[..read]).into_owned());
                stream.write_all(reply.as_bytes()).await.expect("written");
            }
            seen
        });
        (port, task)
    }

    async fn check(replies: Vec<&'static str>) -> (Outcome, Vec<String>) {
        let (port, task) = server(replies).await;
        let action: HTTPGetAction = serde_json::from_value(serde_json::json!({"path": "/healthz?full=1", "port": 80,
            "httpHeaders": [{"name": "X-Custom", "value": "yes"}]}))
        .expect("an action");
        let outcome = probe(&Target::of(&action, "127.0.0.1", port), Duration::from_secs(5)).await;
        (outcome, task.await.expect("the server ran"))
    }

    #[tokio::test]
    async fn statuses() {
        let (outcome, seen) = check(vec!["HTTP/1.1 204 No Content\r\n\r\n"]).await;
        assert_eq!(outcome, Outcome::Success);
        assert!(seen[0].starts_with("GET /healthz?full=1 HTTP/1.1\r\n"), "{}", seen[0]);
        assert!(seen[0].to_lowercase().contains("x-custom: yes\r\n"), "{}", seen[0]);
        assert!(seen[0].contains("kube-probe/1.36"), "{}", seen[0]);
        let (outcome, _) = check(vec!["HTTP/1.1 503 No\r\nContent-Length: 3\r\n\r\nbad"]).await;
        assert_eq!(outcome, Outcome::Failure("HTTP probe failed with statuscode: 503".into()));
    }

    #[tokio::test]
    async fn redirects_stay_on_the_host() {
        let (outcome, seen) = check(vec![
            "HTTP/1.1 302 F\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        ])
        .await;
        assert_eq!(outcome, Outcome::Success);
        assert!(seen[1].starts_with("GET /other HTTP/1.1"));
        let (outcome, _) =
            check(vec!["HTTP/1.1 302 F\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n"]).await;
        assert!(matches!(outcome, Outcome::Warning(_)), "{outcome:?}");
    }

    #[tokio::test]
    async fn nobody_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let action = HTTPGetAction { path: Some("/".into()), ..HTTPGetAction::default() };
        let outcome = probe(&Target::of(&action, "127.0.0.1", port), Duration::from_secs(5)).await;
        let want = format!("Get \"http://127.0.0.1:{port}/\": dial tcp 127.0.0.1:{port}: connect: connection refused");
        assert_eq!(outcome, Outcome::Failure(want));
    }
}
