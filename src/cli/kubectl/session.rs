//! One run against one cluster: who asks, in which namespace, and where the output goes.
//!
//! Requests go as they are and answers come as JSON values, so that no field of a newer server is
//! lost; warnings of the server are shown as they come.

use super::failure::{Failure, Outcome};
use super::flags::{Flag, array, switch, text};
use crate::api::field::go_quote;
use crate::api::{Fields, Status};
use crate::client::Kind;
use anyhow::{Context, anyhow};
use bytes::Bytes;
use clap::ArgMatches;
use futures::AsyncBufRead;
use http::{Method, Request, Response, header};
use http_body_util::BodyExt;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

const AGENT: &str = concat!("orch/", env!("CARGO_PKG_VERSION"));
/// Where `orch server` writes the administrator's kubeconfig.
const SERVERS_OWN: &str = "/etc/orch/orch.yaml";
pub const JSON: &str = "application/json";
/// A Table where the server has one.
pub const TABLE: &str =
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";

/// Which cluster, as whom: the flags that stand behind every verb.
#[derive(Clone, Default)]
pub struct Connection(BTreeMap<&'static str, Vec<String>>);

/// Where a run reads and writes.
pub struct Streams {
    pub input: Box<dyn std::io::Read + Send>,
    pub out: Box<dyn Write + Send>,
    pub err: Box<dyn Write + Send>,
}

impl Streams {
    pub fn of_process() -> Self {
        Self { input: Box::new(std::io::stdin()), out: Box::new(std::io::stdout()), err: Box::new(std::io::stderr()) }
    }
}

/// Where a run reads and writes; every verb has it, also those that ask no server.
pub struct Terminal {
    pub streams: Mutex<Streams>,
}

impl Terminal {
    pub fn new(streams: Streams) -> Self {
        Self { streams: Mutex::new(streams) }
    }

    /// Write to standard output.
    pub async fn print(&self, text: &str) -> Outcome<()> {
        let mut streams = self.streams.lock().await;
        streams.out.write_all(text.as_bytes())?;
        Ok(streams.out.flush()?)
    }

    /// A line to standard error.
    pub async fn say(&self, text: &str) -> Outcome<()> {
        Ok(writeln!(self.streams.lock().await.err, "{text}")?)
    }

    /// One line of standard input; without waiting for more than that.
    pub async fn line(&self) -> Outcome<String> {
        let (mut line, mut byte) = (Vec::new(), [0]);
        let mut streams = self.streams.lock().await;
        while streams.input.read(&mut byte)? == 1 && byte[0] != b'\n' {
            line.push(byte[0]);
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// All of standard input.
    pub async fn input(&self) -> Outcome<Vec<u8>> {
        let mut bytes = Vec::new();
        self.streams.lock().await.input.read_to_end(&mut bytes).context("read standard input")?;
        Ok(bytes)
    }
}

pub struct Session {
    pub client: kube::Client,
    /// The one to work in.
    pub namespace: String,
    /// It was said on the command line: objects of a file must not name another.
    pub namespace_is_given: bool,
    /// As messages name it: `127.0.0.1:6443`.
    pub host: String,
    /// `https://127.0.0.1:6443`.
    pub url: String,
    pub terminal: Arc<Terminal>,
    timeout: Option<Duration>,
    warned: parking_lot::Mutex<Vec<String>>,
}

impl Connection {
    pub const FLAGS: &[Flag] = &[
        text(
            "kubeconfig",
            "FILE",
            "Kubeconfig to use; $KUBECONFIG, ~/.kube/config or /etc/orch/orch.yaml when not given",
        ),
        text("context", "NAME", "Context of the kubeconfig"),
        text("cluster", "NAME", "Cluster of the kubeconfig"),
        text("user", "NAME", "User of the kubeconfig"),
        text("namespace", "NAME", "Namespace to work in").short('n'),
        text("server", "URL", "Address of the API server").short('s'),
        text("token", "TOKEN", "Bearer token to show to the API server"),
        text("username", "NAME", "Name for basic authentication"),
        text("password", "PASSWORD", "Password for basic authentication"),
        text("client-certificate", "FILE", "Certificate to show to the API server"),
        text("client-key", "FILE", "Key of the certificate"),
        text("certificate-authority", "FILE", "File of the CA that the server's certificate is checked with"),
        text("tls-server-name", "NAME", "Name that the server's certificate must have"),
        switch("insecure-skip-tls-verify", "Do not check the server's certificate"),
        text("as", "USER", "User to act as"),
        array("as-group", "GROUP", "Group to act as; may be given several times"),
        text("as-uid", "UID", "UID to act with"),
        array("as-user-extra", "KEY=VALUE", "More about the user to act as; may be given several times"),
        switch("warnings-as-errors", "Warnings of the server are failures"),
        switch("match-server-version", "Only where the server has this version"),
        switch("disable-compression", "Answers are never compressed: this changes nothing"),
        text("cache-dir", "DIRECTORY", "Nothing is cached: this changes nothing"),
        text("kuberc", "FILE", "There are no preferences: this changes nothing"),
        text("profile", "NAME", "Nothing is measured: this changes nothing").default("none"),
        text("profile-output", "FILE", "Nothing is measured: this changes nothing"),
        text("v", "LEVEL", "There is no log: this changes nothing").short('v'),
        text("vmodule", "PATTERN", "There is no log: this changes nothing"),
        text("log-flush-frequency", "TIME", "There is no log: this changes nothing"),
        text("request-timeout", "DURATION", "How long to wait for an answer; 0: as long as it takes"),
    ];

    /// What stands on one level of the command line; flags of the verb's own do not count.
    pub fn of(matches: &ArgMatches, own: &[&str]) -> Self {
        let mut values = BTreeMap::new();
        for flag in Self::FLAGS.iter().filter(|flag| !own.contains(&flag.long)) {
            let given = matches.try_get_many::<String>(flag.long).ok().flatten();
            if let Some(given) = given {
                values.insert(flag.long, given.cloned().collect());
            }
        }
        Self(values)
    }

    /// What is not said here may be said there.
    pub fn or(mut self, other: Self) -> Self {
        for (name, values) in other.0 {
            self.0.entry(name).or_insert(values);
        }
        self
    }

    /// The value of a flag that was given, though it may be empty.
    pub fn given(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.last().map(String::as_str)
    }

    /// The value of a flag.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.given(name).filter(|text| !text.is_empty())
    }

    fn owned(&self, name: &str) -> Option<String> {
        self.get(name).map(str::to_owned)
    }

    pub async fn connect(&self, terminal: Arc<Terminal>) -> Outcome<Session> {
        let mut kubeconfig = self.read()?;
        self.adjust(&mut kubeconfig);
        self.check_names(&kubeconfig)?;
        let user = self.owned("user").unwrap_or_else(|| user_of(&kubeconfig, self.get("context")));
        let options = KubeConfigOptions {
            context: self.owned("context"),
            cluster: self.owned("cluster"),
            user: self.owned("user"),
        };
        let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .map_err(|error| anyhow!(error).context("invalid configuration"))?;
        if let Some(server) = self.get("server") {
            let url = if server.contains("://") { server.to_owned() } else { format!("https://{server}") };
            config.cluster_url = url.parse().with_context(|| format!("--server {server:?} is not a URL"))?;
        }
        if let Some(path) = self.get("certificate-authority") {
            let pem = std::fs::read(path).with_context(|| format!("read {path}"))?;
            let certificates = crate::net::tls::certificates(&String::from_utf8_lossy(&pem))
                .with_context(|| format!("--certificate-authority {path}"))?;
            config.root_cert = Some(certificates.iter().map(|certificate| certificate.to_vec()).collect());
        }
        config.accept_invalid_certs |= self.get("insecure-skip-tls-verify") == Some("true");
        if let Some(name) = self.owned("tls-server-name") {
            config.tls_server_name = Some(name);
        }
        if let Some(token) = self.owned("token") {
            // In place of every other way but a certificate.
            let own = std::mem::take(&mut config.auth_info);
            config.auth_info = kube::config::AuthInfo {
                token: Some(token.into()),
                client_certificate: own.client_certificate,
                client_certificate_data: own.client_certificate_data,
                client_key: own.client_key,
                client_key_data: own.client_key_data,
                ..Default::default()
            };
        }
        if let Some(name) = self.owned("username") {
            config.auth_info.username = Some(name);
            config.auth_info.password = self.owned("password").map(Into::into);
        }
        let groups = self.0.get("as-group").cloned().unwrap_or_default();
        if let Some(user) = self.owned("as") {
            config.auth_info.impersonate = Some(user);
            config.auth_info.impersonate_groups = Some(groups).filter(|groups| !groups.is_empty());
            self.impersonate_more(&mut config.headers)?;
        } else if !groups.is_empty() || self.get("as-uid").is_some() || self.get("as-user-extra").is_some() {
            let text = format!("requesting uid, groups or user-extra for {user} without impersonating a user");
            return Err(match self.get("namespace") {
                Some(_) => Failure::Said(format!("Error in configuration: {text}")),
                None => Failure::local(text),
            });
        }
        let host = config.cluster_url.authority().map(ToString::to_string).unwrap_or_default();
        let url = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let namespace = self.owned("namespace").unwrap_or_else(|| config.default_namespace.clone());
        let client = crate::client::from_config(config)?;
        let session = Session {
            host,
            url,
            namespace_is_given: self.get("namespace").is_some(),
            timeout: self.timeout()?,
            ..Session::on(client, &namespace, terminal)
        };
        if self.get("match-server-version") == Some("true") {
            let (server, own) = (session.get("/version", JSON).await?, crate::api::version::info());
            let [server, own] = [&server, &own].map(|info| info.str_at("gitVersion"));
            if server != own {
                return Err(Failure::local(format!("server version ({server}) differs from client version ({own})!")));
            }
        }
        Ok(session)
    }

    /// What the command line names is in the kubeconfig. kubectl says it otherwise where it has to look up
    /// the namespace first.
    fn check_names(&self, kubeconfig: &Kubeconfig) -> Outcome<()> {
        let is_unknown = |flag: &str, known: &[&str]| self.get(flag).filter(|name| !known.contains(name));
        let contexts: Vec<&str> = kubeconfig.contexts.iter().map(|context| context.name.as_str()).collect();
        let users: Vec<&str> = kubeconfig.auth_infos.iter().map(|user| user.name.as_str()).collect();
        let clusters: Vec<&str> = kubeconfig.clusters.iter().map(|cluster| cluster.name.as_str()).collect();
        let has_namespace = self.get("namespace").is_some();
        if let Some(name) = is_unknown("context", &contexts) {
            return Err(match has_namespace {
                true => Failure::local(format!("context {} does not exist", go_quote(name))),
                false => Failure::Said(format!(
                    "Error in configuration: context was not found for specified context: {name}"
                )),
            });
        }
        if let Some(name) = is_unknown("user", &users) {
            return Err(Failure::local(format!("auth info {} does not exist", go_quote(name))));
        }
        if let Some(name) = is_unknown("cluster", &clusters) {
            return Err(Failure::local(match has_namespace {
                true => format!("cluster {} does not exist", go_quote(name)),
                false => format!("no server found for cluster {}", go_quote(name)),
            }));
        }
        Ok(())
    }

    /// Headers of `--as-uid` and `--as-user-extra`.
    fn impersonate_more(&self, headers: &mut Vec<(header::HeaderName, header::HeaderValue)>) -> Outcome<()> {
        let mut add = |name: &str, value: &str| -> anyhow::Result<()> {
            headers.push((name.parse()?, value.parse()?));
            Ok(())
        };
        if let Some(uid) = self.get("as-uid") {
            add("impersonate-uid", uid).context("--as-uid")?;
        }
        for pair in self.0.get("as-user-extra").into_iter().flatten() {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(Failure::local(format!("--as-user-extra {pair:?} is not KEY=VALUE")));
            };
            let key = percent_encoding::utf8_percent_encode(key, percent_encoding::NON_ALPHANUMERIC).to_string();
            add(&format!("impersonate-extra-{}", key.replace("%2D", "-")), value).context("--as-user-extra")?;
        }
        Ok(())
    }

    /// Of `--request-timeout`: a bare number is seconds.
    fn timeout(&self) -> Outcome<Option<Duration>> {
        let Some(text) = self.get("request-timeout") else { return Ok(None) };
        let duration = super::delete::duration(text).map_err(|_| {
            Failure::local("Invalid timeout value. Timeout must be a single integer in seconds, or an integer followed by a corresponding time unit (e.g. 1s | 2m | 3h)")
        })?;
        Ok(Some(duration).filter(|duration| !duration.is_zero()))
    }

    /// The certificate of the command line in place of the kubeconfig's.
    fn adjust(&self, kubeconfig: &mut Kubeconfig) {
        for user in kubeconfig.auth_infos.iter_mut().filter_map(|user| user.auth_info.as_mut()) {
            if let Some(path) = self.given("client-certificate") {
                user.client_certificate = Some(path.to_owned()).filter(|path| !path.is_empty());
                user.client_certificate_data = None;
            }
            if let Some(path) = self.given("client-key") {
                user.client_key = Some(path.to_owned()).filter(|path| !path.is_empty());
                user.client_key_data = None;
            }
        }
    }

    /// The kubeconfig files that count; at least one, which need not be there.
    pub fn files(&self) -> Vec<PathBuf> {
        if let Some(path) = self.get("kubeconfig") {
            return vec![PathBuf::from(path)];
        }
        let named = std::env::var_os("KUBECONFIG").unwrap_or_default();
        let named: Vec<PathBuf> = std::env::split_paths(&named).filter(|path| !path.as_os_str().is_empty()).collect();
        if !named.is_empty() {
            return named;
        }
        let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".kube/config"));
        let own = PathBuf::from(SERVERS_OWN);
        match home {
            Some(path) if path.exists() || !own.exists() => vec![path],
            _ => vec![own],
        }
    }

    fn read(&self) -> anyhow::Result<Kubeconfig> {
        let read = crate::client::kubeconfig::read;
        if let Some(path) = self.get("kubeconfig") {
            return read(Path::new(path)).context("--kubeconfig");
        }
        // Several files, merged.
        if let Some(kubeconfig) = crate::client::kubeconfig::from_env().context("$KUBECONFIG")? {
            return Ok(kubeconfig);
        }
        let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".kube/config"));
        if let Some(path) = home.filter(|path| path.exists()) {
            return read(&path);
        }
        if Path::new(SERVERS_OWN).exists() {
            return read(Path::new(SERVERS_OWN));
        }
        if self.get("server").is_some() {
            return Ok(Kubeconfig::default());
        }
        anyhow::bail!(
            "no kubeconfig: neither $KUBECONFIG nor ~/.kube/config nor {SERVERS_OWN} is there; give --kubeconfig, or start \"orch server\", which writes one"
        )
    }
}

/// The user of a context, or of the current one.
fn user_of(kubeconfig: &Kubeconfig, context: Option<&str>) -> String {
    let name = context.or(kubeconfig.current_context.as_deref()).unwrap_or_default();
    let context = kubeconfig.contexts.iter().find(|context| context.name == name);
    context.and_then(|context| context.context.as_ref()?.user.clone()).unwrap_or_default()
}

impl Session {
    pub fn new(client: kube::Client, namespace: &str, streams: Streams) -> Self {
        Self::on(client, namespace, Arc::new(Terminal::new(streams)))
    }

    fn on(client: kube::Client, namespace: &str, terminal: Arc<Terminal>) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
            namespace_is_given: false,
            host: "the server".to_owned(),
            url: String::new(),
            terminal,
            timeout: None,
            warned: parking_lot::Mutex::default(),
        }
    }

    /// Write to standard output.
    pub async fn print(&self, text: &str) -> Outcome<()> {
        self.terminal.print(text).await
    }

    /// A line to standard error.
    pub async fn say(&self, text: &str) -> Outcome<()> {
        self.terminal.say(text).await
    }

    /// The answer to a request; one that is no success is a failure.
    pub async fn send(&self, mut request: Request<Vec<u8>>) -> Outcome<Response<Body>> {
        request.headers_mut().entry(header::USER_AGENT).or_insert(header::HeaderValue::from_static(AGENT));
        let sent = self.client.send(request.map(Body::from));
        let response = match self.timeout {
            None => sent.await,
            Some(timeout) => tokio::time::timeout(timeout, sent).await.map_err(|_| {
                let text = "Unable to connect to the server: net/http: request canceled (Client.Timeout exceeded while awaiting headers)";
                Failure::Said(text.to_owned())
            })?,
        };
        let response = response.map_err(|error| self.unreachable(error))?;
        self.show_warnings(response.headers()).await?;
        if response.status().is_success() || response.status() == http::StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        let code = response.status();
        let bytes = self.collect(response).await?;
        Err(match serde_json::from_slice::<Status>(&bytes) {
            Ok(status) if status.status == "Failure" => status.into(),
            _ => {
                let text = String::from_utf8_lossy(&bytes).trim().to_owned();
                let text = match code.as_u16() {
                    404 => "the server could not find the requested resource".to_owned(),
                    405 => "the server does not allow this method on the requested resource".to_owned(),
                    _ if text.is_empty() => code.canonical_reason().unwrap_or_default().to_owned(),
                    _ => text,
                };
                let reason = match code.as_u16() {
                    401 => "Unauthorized",
                    403 => "Forbidden",
                    404 => "NotFound",
                    405 => "MethodNotAllowed",
                    503 => "ServiceUnavailable",
                    _ => "",
                };
                Status::failure(code.as_u16(), reason, text).into()
            }
        })
    }

    async fn collect(&self, response: Response<Body>) -> Outcome<Bytes> {
        let body = response.into_body().collect().await.context("read the server's answer")?;
        Ok(body.to_bytes())
    }

    /// Of the crate's error: the server does not answer, or not as it should.
    pub fn unreachable(&self, error: kube::Error) -> Failure {
        if let kube::Error::Api(status) = &error {
            let read = serde_json::to_value(status).and_then(serde_json::from_value::<Status>);
            return read.map_or_else(|_| Failure::local(status.message.clone()), Failure::from);
        }
        let error = anyhow!(error);
        let refused = error
            .chain()
            .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
            .any(|cause| cause.kind() == std::io::ErrorKind::ConnectionRefused);
        if refused {
            return Failure::Said(format!(
                "The connection to the server {} was refused - did you specify the right host or port?",
                self.host
            ));
        }
        let root = error.root_cause().to_string();
        Failure::Said(format!("Unable to connect to the server: {root}"))
    }

    /// With `--warnings-as-errors`, what the server warned of.
    pub fn count_warnings(&self, connection: &Connection) -> Outcome<()> {
        let count = self.warned.lock().len();
        if count == 0 || connection.get("warnings-as-errors") != Some("true") {
            return Ok(());
        }
        Err(Failure::local(format!("{count} warning{} received", if count == 1 { "" } else { "s" })))
    }

    /// `Warning: 299 - "text"`, each once.
    async fn show_warnings(&self, headers: &header::HeaderMap) -> Outcome<()> {
        for value in headers.get_all(header::WARNING) {
            let Some(text) = value.to_str().ok().and_then(warning_text) else { continue };
            let fresh = {
                let mut warned = self.warned.lock();
                let fresh = !warned.contains(&text);
                warned.push(text.clone());
                fresh
            };
            if fresh {
                self.say(&format!("Warning: {text}")).await?;
            }
        }
        Ok(())
    }

    pub async fn json(&self, request: Request<Vec<u8>>) -> Outcome<Value> {
        let bytes = self.collect(self.send(request).await?).await?;
        Ok(serde_json::from_slice(&bytes).context("read the server's answer")?)
    }

    pub async fn get(&self, path: &str, accept: &str) -> Outcome<Value> {
        self.json(request(Method::GET, path, accept, None)?).await
    }

    pub async fn text(&self, path: &str) -> Outcome<String> {
        let bytes = self.collect(self.send(request(Method::GET, path, "*/*", None)?).await?).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A body with the content type.
    pub async fn write(&self, method: Method, path: &str, content_type: &str, body: &Value) -> Outcome<Value> {
        self.json(request(method, path, JSON, Some((content_type, body)))?).await
    }

    /// A body as it is, and the answer as it comes.
    pub async fn write_text(&self, method: Method, path: &str, content_type: &str, body: &str) -> Outcome<String> {
        let mut request = request(method, path, "*/*", None)?;
        if !body.is_empty() {
            let value = header::HeaderValue::from_str(content_type).context("a content type")?;
            request.headers_mut().insert(header::CONTENT_TYPE, value);
            *request.body_mut() = body.as_bytes().to_vec();
        }
        let bytes = self.collect(self.send(request).await?).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Lines as they come: a watch, a log that is followed.
    pub async fn stream(&self, path: &str, accept: &str) -> Outcome<impl AsyncBufRead + Unpin + use<>> {
        use futures::{StreamExt, TryStreamExt};
        let response = self.send(request(Method::GET, path, accept, None)?).await?;
        let chunks = response.into_body().into_data_stream().map_err(std::io::Error::other);
        // What is not read to its end by then ends there.
        let timeout = self.timeout;
        let end = async move {
            match timeout {
                Some(timeout) => tokio::time::sleep(timeout).await,
                None => std::future::pending().await,
            }
        };
        Ok(chunks.take_until(end).boxed().into_async_read())
    }

    /// One object.
    pub async fn object(&self, kind: &Kind, namespace: &str, name: &str) -> Outcome<Value> {
        self.get(&object_path(kind, namespace, name), JSON).await
    }

    /// All objects that the selectors take; in pages, as one list.
    pub async fn list(&self, kind: &Kind, namespace: &str, query: &Query) -> Outcome<Value> {
        self.list_as(kind, namespace, query, JSON).await
    }

    pub async fn list_as(&self, kind: &Kind, namespace: &str, query: &Query, accept: &str) -> Outcome<Value> {
        let path = kind.path(namespace);
        let mut query = query.clone();
        let mut whole = self.get(&query.on(&path), accept).await.map_err(|failure| match failure {
            Failure::Status(mut status) if matches!(status.reason.as_str(), "BadRequest" | "NotFound") => {
                let resource = format!("{}/{}, Resource={}", kind.group, kind.version, kind.plural);
                let (labels, fields) = (query.get("labelSelector"), query.get("fieldSelector"));
                status.message = match labels.is_empty() && fields.is_empty() {
                    true => format!("Unable to list {resource:?}: {}", status.message),
                    false => format!(
                        "Unable to find {resource:?} that match label selector {labels:?}, field selector {fields:?}: {}",
                        status.message
                    ),
                };
                Failure::Status(status)
            }
            failure => failure,
        })?;
        loop {
            let token = whole.at("metadata").str_at("continue").to_owned();
            if token.is_empty() {
                return Ok(whole);
            }
            query.set("continue", &token);
            let mut page = self.get(&query.on(&path), accept).await?;
            for field in ["items", "rows"] {
                if let (Some(Value::Array(all)), Some(Value::Array(more))) = (whole.get_mut(field), page.get_mut(field))
                {
                    all.append(more);
                }
            }
            whole["metadata"] = page["metadata"].take();
        }
    }
}

/// The parameters of a request.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        self.0.retain(|(other, _)| other != name);
        if !value.is_empty() {
            self.0.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value)
    }

    pub fn on(&self, path: &str) -> String {
        if self.0.is_empty() {
            return path.to_owned();
        }
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.0).finish();
        format!("{path}?{query}")
    }
}

pub fn object_path(kind: &Kind, namespace: &str, name: &str) -> String {
    let name = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string();
    // What may stand in a path stays readable.
    let name = name.replace("%2D", "-").replace("%2E", ".").replace("%5F", "_").replace("%7E", "~").replace("%3A", ":");
    format!("{}/{name}", kind.path(namespace))
}

fn request(method: Method, path: &str, accept: &str, body: Option<(&str, &Value)>) -> Outcome<Request<Vec<u8>>> {
    let mut request = Request::builder().method(method).uri(path).header(header::ACCEPT, accept);
    let bytes = match body {
        None => Vec::new(),
        Some((content_type, body)) => {
            request = request.header(header::CONTENT_TYPE, content_type);
            serde_json::to_vec(body).context("write the request")?
        }
    };
    Ok(request.body(bytes).with_context(|| format!("make a request for {path}"))?)
}

/// The text of `299 - "text"`.
fn warning_text(header: &str) -> Option<String> {
    let quoted = header.strip_prefix("299 ")?.split_once(" \"")?.1.strip_suffix('"')?;
    let mut text = String::new();
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        text.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_parameters_are_escaped() {
        let kind = crate::client::kinds::PODS;
        assert_eq!(object_path(&kind, "a", "web-1.x"), "/api/v1/namespaces/a/pods/web-1.x");
        assert_eq!(object_path(&kind, "a", "../x?y"), "/api/v1/namespaces/a/pods/..%2Fx%3Fy");
        let mut query = Query::default();
        query.set("labelSelector", "a in (b,c)").set("limit", "500").set("limit", "5").set("continue", "");
        assert_eq!(query.on("/x"), "/x?labelSelector=a+in+%28b%2Cc%29&limit=5");
        assert_eq!(Query::default().on("/x"), "/x");
    }

    #[test]
    fn warnings_are_unquoted() {
        assert_eq!(warning_text(r#"299 - "a \"b\" c""#).as_deref(), Some(r#"a "b" c"#));
        assert_eq!(warning_text("199 x"), None);
    }
}
