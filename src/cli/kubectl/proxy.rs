//! `kubectl proxy`: the API server behind a local address, for programs that have no credentials.
//!
//! What it passes on is what the filters let through: by default anything asked of this machine by its
//! own names, but no way into containers.

use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Run, Verb, switch, text};
use super::session::Session;
use anyhow::Context;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use regex::Regex;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use tokio::net::{TcpListener, UnixListener, UnixStream};

pub(super) const VERB: Verb = Verb {
    name: "proxy",
    about: "Answer on this machine for the API server",
    usage: "kubectl proxy [--port=PORT] [--www=static-dir] [--www-prefix=prefix] [--api-prefix=prefix]",
    flags: &[&[
        text("port", "PORT", "Port to listen on; 0: any").short('p').default("8001"),
        text("address", "ADDRESS", "Address to listen on").default("127.0.0.1"),
        text("unix-socket", "PATH", "Unix socket to listen on").short('u'),
        text("www", "DIRECTORY", "Directory of files to serve as well").short('w'),
        text("www-prefix", "PATH", "Where the files are").short('P').default("/static/"),
        text("api-prefix", "PATH", "Where the API is").default("/"),
        switch("append-server-path", "The server's path stands before all paths: this changes nothing"),
        text("accept-paths", "PATTERNS", "Paths that may be asked for").default("^.*"),
        text("reject-paths", "PATTERNS", "Paths that may not").default("^/api/.*/pods/.*/exec,^/api/.*/pods/.*/attach"),
        text("accept-hosts", "PATTERNS", "Names of this machine that may be asked")
            .default("^localhost$,^127\\.0\\.0\\.1$,^\\[::1\\]$"),
        text("reject-methods", "PATTERNS", "Methods that may not be used").default("^$"),
        switch("disable-filter", "Pass on everything: whoever reaches the address has your rights"),
        text("keepalive", "DURATION", "Connections are kept as they are: this changes nothing").default("0s"),
    ]],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let port = arguments.int("port")?.unwrap_or_default();
    let port = u16::try_from(port).map_err(|_| Failure::local(format!("listen tcp: address {port}: invalid port")))?;
    let socket = arguments.text_or_empty("unix-socket");
    let www = arguments.text_or_empty("www");
    let proxy = Arc::new(Proxy {
        client: session.client.clone(),
        filter: if arguments.on("disable-filter") { None } else { Some(Filter::of(arguments)?) },
        api: slashed(arguments.text_or_empty("api-prefix")),
        files: (!www.is_empty()).then(|| (slashed(arguments.text_or_empty("www-prefix")), PathBuf::from(www))),
    });
    let (listener, place) = if socket.is_empty() {
        let address = arguments.text_or_empty("address");
        let listener =
            TcpListener::bind((address, port)).await.with_context(|| format!("listen on {address}:{port}"))?;
        let place = listener.local_addr()?.to_string();
        (Listener::Tcp(listener), place)
    } else {
        (Listener::Unix(UnixListener::bind(socket).with_context(|| format!("listen on {socket}"))?), socket.to_owned())
    };
    session.print(&format!("Starting to serve on {place}\n")).await?;
    let router = axum::Router::new().fallback(move |request: Request| async move { proxy.answer(request).await });
    Ok(axum::serve(listener, router).await?)
}

fn slashed(prefix: &str) -> String {
    if prefix.ends_with('/') { prefix.to_owned() } else { format!("{prefix}/") }
}

/// Connections are all of one type: a second would be a second HTTP server in the binary.
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl axum::serve::Listener for Listener {
    type Io = UnixStream;
    type Addr = ();

    async fn accept(&mut self) -> (UnixStream, ()) {
        loop {
            let stream = match self {
                Self::Unix(listener) => UnixListener::accept(listener).await.map(|(stream, _)| stream),
                Self::Tcp(listener) => match TcpListener::accept(listener).await {
                    Ok((mut outside, _)) => UnixStream::pair().map(|(mut near, far)| {
                        tokio::spawn(async move {
                            // One side goes away: so does the other.
                            let _ = tokio::io::copy_bidirectional(&mut outside, &mut near).await;
                        });
                        far
                    }),
                    Err(error) => Err(error),
                },
            };
            match stream {
                Ok(stream) => return (stream, ()),
                // Out of file descriptors, most likely: others end.
                Err(_) => tokio::time::sleep(std::time::Duration::from_secs(1)).await,
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Proxy {
    client: kube::Client,
    /// None: everything passes.
    filter: Option<Filter>,
    api: String,
    /// A prefix of paths, and the directory behind it.
    files: Option<(String, PathBuf)>,
}

impl Proxy {
    async fn answer(&self, request: Request) -> Response {
        let path = request.uri().path();
        if let Some((prefix, directory)) = &self.files
            && let Some(name) = path.strip_prefix(prefix.as_str())
        {
            return file(directory, name).await;
        }
        let Some(path) = path.strip_prefix(&self.api).map(|rest| format!("/{rest}")) else {
            return (StatusCode::NOT_FOUND, "404 page not found\n").into_response();
        };
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        if self.filter.as_ref().is_some_and(|filter| !filter.accepts(request.method().as_str(), &path, host)) {
            return (StatusCode::FORBIDDEN, "Forbidden").into_response();
        }
        let target = match request.uri().query() {
            Some(query) => format!("{path}?{query}"),
            None => path,
        };
        self.pass(request, &target).await.unwrap_or_else(|error| {
            let text = format!("Error while proxying request: {error:#}\n");
            (StatusCode::BAD_GATEWAY, text).into_response()
        })
    }

    async fn pass(&self, request: Request, target: &str) -> anyhow::Result<Response> {
        let (mut parts, body) = request.into_parts();
        parts.uri = target.parse().context("read the path")?;
        own_hop(&mut parts.headers);
        let body = axum::body::to_bytes(body, LONGEST).await.context("read the body")?;
        let request = http::Request::from_parts(parts, kube::client::Body::from(body));
        let mut response = self.client.send(request).await?;
        own_hop(response.headers_mut());
        Ok(response.map(Body::new))
    }
}

/// Of a body: the API server takes less.
const LONGEST: usize = 16 << 20;

/// What is of one connection only.
fn own_hop(headers: &mut HeaderMap) {
    for name in [header::HOST, header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE] {
        headers.remove(name);
    }
}

async fn file(directory: &Path, name: &str) -> Response {
    let relative = Path::new(name);
    let inside = relative.components().all(|part| matches!(part, Component::Normal(_)));
    let mut path = directory.join(relative);
    if path.is_dir() {
        path.push("index.html");
    }
    match tokio::fs::read(&path).await {
        Ok(bytes) if inside => {
            let html = path.extension().is_some_and(|extension| extension == "html");
            let kind = if html { "text/html; charset=utf-8" } else { "application/octet-stream" };
            ([(header::CONTENT_TYPE, kind)], bytes).into_response()
        }
        _ => (StatusCode::NOT_FOUND, "404 page not found\n").into_response(),
    }
}

struct Filter {
    paths: Vec<Regex>,
    no_paths: Vec<Regex>,
    hosts: Vec<Regex>,
    no_methods: Vec<Regex>,
}

impl Filter {
    fn of(arguments: &Arguments) -> Outcome<Self> {
        let patterns = |flag: &str| -> Outcome<Vec<Regex>> {
            let parts = arguments.text_or_empty(flag).split(',');
            let all: Result<_, _> = parts.map(Regex::new).collect();
            Ok(all.with_context(|| format!("--{flag}"))?)
        };
        Ok(Self {
            paths: patterns("accept-paths")?,
            no_paths: patterns("reject-paths")?,
            hosts: patterns("accept-hosts")?,
            no_methods: patterns("reject-methods")?,
        })
    }

    fn accepts(&self, method: &str, path: &str, host: &str) -> bool {
        let any = |patterns: &[Regex], text: &str| patterns.iter().any(|pattern| pattern.is_match(text));
        // Without the port; an address in brackets has colons of its own.
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        !any(&self.no_methods, method) && !any(&self.no_paths, path) && any(&self.paths, path) && any(&self.hosts, name)
    }
}
