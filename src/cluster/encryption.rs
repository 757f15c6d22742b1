//! Encryption of Secrets at rest with keys of the server's own: `--secrets-encryption`, and their
//! exchange over the API ([`routes`]) while the server runs.
//!
//! The keys are in an EncryptionConfiguration in the data directory. An administrator's own file
//! (`--kube-apiserver-arg encryption-provider-config`) takes its place; it is only read.

use super::files::{self, Layout};
use super::options::EncryptionOptions;
use crate::api::{Status, UserInfo};
use crate::apiserver::respond::{self, Reply};
use crate::apiserver::routes::Route;
use crate::storage::{Encryption, SqliteStorage};
use anyhow::{Context, Result, anyhow, ensure};
use async_trait::async_trait;
use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request, StatusCode};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Mutex;

/// What is there by GET, and what is to be done by POST.
pub const PATH: &str = "/v1-orch/encryption";
const LIMIT: usize = 4096;
/// Providers that the server makes keys for.
pub const PROVIDERS: [&str; 2] = ["aescbc", "secretbox"];
const KEY_BYTES: usize = 32;

/// How far an exchange of keys is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    #[default]
    Start,
    /// There is a new key, which opens.
    Prepare,
    /// The new key seals.
    Rotate,
    ReencryptActive,
    /// Everything is sealed with it.
    ReencryptFinished,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Prepare => "prepare",
            Self::Rotate => "rotate",
            Self::ReencryptActive => "reencrypt_active",
            Self::ReencryptFinished => "reencrypt_finished",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    Enable,
    Disable,
    Prepare,
    Rotate,
    Reencrypt,
    RotateKeys,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    pub action: Action,
    /// Whatever the stage is.
    #[serde(default)]
    pub force: bool,
    /// Keep the old keys.
    #[serde(default)]
    pub skip: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// None: there are no keys.
    pub enabled: Option<bool>,
    pub stage: String,
    /// The first one seals.
    pub keys: Vec<ReportedKey>,
    /// An administrator's own file.
    pub external: Option<PathBuf>,
    /// Objects that were written anew.
    pub written: usize,
    /// Objects that no key opens.
    pub unreadable: usize,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ReportedKey {
    pub provider: String,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    provider: String,
    name: String,
    secret: String,
}

/// The keys in the data directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Keyring {
    enabled: bool,
    keys: Vec<Key>,
}

impl Keyring {
    fn add(&mut self, provider: &str, now: Timestamp) {
        let first = format!("{provider}key");
        let stamped = format!("{first}-{}", now.strftime("%Y%m%dT%H%M%SZ"));
        let mut names = std::iter::once(first)
            .chain(std::iter::once(stamped.clone()))
            .chain((2..).map(|number| format!("{stamped}-{number}")));
        let name = names.find(|name| self.keys.iter().all(|key| key.name != *name)).expect("numbers do not end");
        let secret: [u8; KEY_BYTES] = rand::random();
        self.keys.push(Key { provider: provider.to_owned(), name, secret: STANDARD.encode(secret) });
    }

    fn to_configuration(&self) -> Value {
        let mut providers: Vec<Value> = Vec::new();
        for key in &self.keys {
            let entry = json!({ "name": key.name, "secret": key.secret });
            match providers.last_mut().and_then(|last| last.get_mut(&key.provider)) {
                Some(provider) => {
                    provider["keys"].as_array_mut().expect("made below").push(entry);
                }
                None => providers.push(json!({ &key.provider: { "keys": [entry] } })),
            }
        }
        let at = if self.enabled { providers.len() } else { 0 };
        providers.insert(at, json!({ "identity": {} }));
        json!({
            "kind": "EncryptionConfiguration",
            "apiVersion": "apiserver.config.k8s.io/v1",
            "resources": [{ "resources": ["secrets"], "providers": providers }],
        })
    }

    fn from_configuration(configuration: &Value) -> Option<Self> {
        let providers = configuration["resources"][0]["providers"].as_array()?;
        let mut ring = Self { enabled: providers.first()?.get("identity").is_none(), keys: Vec::new() };
        for provider in providers {
            for (provider, settings) in provider.as_object()? {
                for key in settings["keys"].as_array().into_iter().flatten() {
                    let text = |name: &str| key[name].as_str().map(str::to_owned);
                    ring.keys.push(Key { provider: provider.clone(), name: text("name")?, secret: text("secret")? });
                }
            }
        }
        Some(ring)
    }

    fn read(layout: &Layout) -> Result<Option<Self>> {
        let path = layout.encryption();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        let damaged = || format!("{} is damaged: restore it from a snapshot", path.display());
        let configuration = serde_json::from_str(&text).with_context(damaged)?;
        Self::from_configuration(&configuration).with_context(damaged).map(Some)
    }

    fn write(&self, layout: &Layout) -> Result<Encryption> {
        let text = serde_json::to_string(&self.to_configuration()).context("print the keys")?;
        let encryption = Encryption::parse(&text).map_err(|error| anyhow!(error))?;
        files::write(&layout.encryption(), &text, 0o600)?;
        Ok(encryption)
    }
}

/// What the store is opened with.
pub fn of_disk(options: &EncryptionOptions, layout: &Layout) -> Result<Encryption> {
    let path = match &options.file {
        Some(file) => {
            ensure!(
                !options.secrets,
                "--secrets-encryption and --kube-apiserver-arg encryption-provider-config exclude each other"
            );
            file.clone()
        }
        None if Keyring::read(layout)?.is_none() => return Ok(Encryption::default()),
        None => layout.encryption(),
    };
    let parse = || {
        let text = std::fs::read_to_string(&path)?;
        Encryption::parse(&text).map_err(|error| anyhow!(error))
    };
    parse().with_context(|| {
        format!("error while parsing encryption provider configuration file {:?}", path.display().to_string())
    })
}

/// Makes the first key where one is wanted, and says what cannot be read.
pub async fn begin(options: &EncryptionOptions, layout: &Layout, store: &SqliteStorage) -> Result<()> {
    let unreadable = store.unreadable();
    if let Some((key, reason)) = unreadable.first() {
        let others = unreadable.len() - 1;
        tracing::error!(
            "{key:?} and {others} other objects cannot be decrypted: {reason}: put the key back, or delete them from a server that has it"
        );
    }
    if !options.secrets || Keyring::read(layout)?.is_some() {
        return Ok(());
    }
    if !unreadable.is_empty() {
        // With a new key there, the old one would not be put back.
        tracing::error!("{} is gone: restore it from a snapshot; no new key is made", layout.encryption().display());
        return Ok(());
    }
    let mut ring = Keyring { enabled: true, keys: Vec::new() };
    ring.add(&options.provider, Timestamp::now());
    let encryption = ring.write(layout)?;
    store.set_encryption(Arc::new(encryption)).await.context("encrypt with the new key")
}

pub fn routes(
    store: Arc<SqliteStorage>,
    layout: Layout,
    options: EncryptionOptions,
) -> Vec<(&'static str, Arc<dyn Route>)> {
    let exchange = Exchange { store, layout, options, busy: Mutex::new(()) };
    vec![(PATH, Arc::new(Keys { exchange: Arc::new(exchange) }))]
}

struct Keys {
    exchange: Arc<Exchange>,
}

struct Exchange {
    store: Arc<SqliteStorage>,
    layout: Layout,
    options: EncryptionOptions,
    busy: Mutex<()>,
}

#[async_trait]
impl Route for Keys {
    async fn serve(&self, user: &UserInfo, request: Request<Body>) -> Result<Reply, Status> {
        match *request.method() {
            Method::GET => {
                let report = self.exchange.report(0).map_err(|error| Status::internal(format!("{error:#}")))?;
                return Ok(respond::json(StatusCode::OK, &report));
            }
            Method::POST => {}
            _ => return Err(Status::failure(405, "MethodNotAllowed", "send a GET or a POST")),
        }
        let bytes = axum::body::to_bytes(request.into_body(), LIMIT)
            .await
            .map_err(|_| Status::request_entity_too_large(format!("a request has at most {LIMIT} bytes")))?;
        let command: Command = serde_json::from_slice(&bytes)
            .map_err(|error| Status::bad_request(format!("encryption request: {error}")))?;
        tracing::info!(action = ?command.action, by = user.name, "secrets-encrypt");
        // It goes on when the caller goes away: half of it is of no use to anybody.
        let exchange = self.exchange.clone();
        let done = tokio::spawn(async move { exchange.run(&command).await }).await;
        let report = done.map_err(|error| Status::internal(error.to_string()))?;
        let report = report.map_err(|error| Status::bad_request(format!("{error:#}")))?;
        Ok(respond::json(StatusCode::OK, &report))
    }
}

impl Exchange {
    async fn run(&self, command: &Command) -> Result<Report> {
        let _one_at_a_time = self.busy.lock().await;
        if let Some(file) = &self.options.file {
            ensure!(
                command.action == Action::Reencrypt,
                "the keys are those of {}: edit it and start orch again",
                file.display()
            );
            return self.report(self.rewrite().await?);
        }
        let mut ring = Keyring::read(&self.layout)?;
        let stage = self.stage()?;
        let allow = |stages: &[Stage]| {
            let names: Vec<&str> = stages.iter().map(|stage| stage.name()).collect();
            ensure!(
                command.force || stages.contains(&stage),
                "the stage is {}, and it has to be {}: finish what was begun, or use --force",
                stage.name(),
                names.join(" or ")
            );
            Ok(())
        };
        let mut written = 0;
        match (command.action, &mut ring) {
            (Action::Enable, ring) => {
                let ring = ring.get_or_insert_default();
                ring.enabled = true;
                if ring.keys.is_empty() {
                    ring.add(&self.options.provider, Timestamp::now());
                }
                self.put(ring, Stage::Start).await?;
            }
            (_, None) => return Err(anyhow!("there are no keys: run \"orch secrets-encrypt enable\" first")),
            (Action::Disable, Some(ring)) => {
                ring.enabled = false;
                self.put(ring, Stage::Start).await?;
            }
            (Action::Prepare, Some(ring)) => {
                allow(&[Stage::Start, Stage::ReencryptFinished])?;
                enabled(ring)?;
                ring.add(&self.options.provider, Timestamp::now());
                self.put(ring, Stage::Prepare).await?;
            }
            (Action::Rotate, Some(ring)) => {
                allow(&[Stage::Prepare])?;
                enabled(ring)?;
                ring.keys.rotate_right(1);
                self.put(ring, Stage::Rotate).await?;
            }
            (Action::Reencrypt, Some(ring)) => {
                allow(&[Stage::Rotate, Stage::ReencryptActive])?;
                written = self.reencrypt(ring, command.skip).await?;
            }
            (Action::RotateKeys, Some(ring)) => {
                allow(&[Stage::Start, Stage::ReencryptFinished])?;
                enabled(ring)?;
                ring.add(&self.options.provider, Timestamp::now());
                ring.keys.rotate_right(1);
                self.put(ring, Stage::Rotate).await?;
                written = self.reencrypt(ring, false).await?;
            }
        }
        self.report(written)
    }

    async fn reencrypt(&self, ring: &mut Keyring, skip: bool) -> Result<usize> {
        self.put_stage(Stage::ReencryptActive)?;
        let written = self.rewrite().await?;
        if !skip && ring.enabled {
            let unreadable = self.store.unreadable();
            if let Some((key, reason)) = unreadable.first() {
                // Their key may be among the old ones under another name, or come back.
                return Err(anyhow!("{key:?} cannot be decrypted: {reason}: the old keys stay"));
            }
            ring.keys.truncate(1);
        }
        self.put(ring, Stage::ReencryptFinished).await?;
        Ok(written)
    }

    async fn rewrite(&self) -> Result<usize> {
        let written = self.store.reencrypt().await.context("write the objects anew")?;
        self.store.rewrite().await?;
        Ok(written)
    }

    /// On disk first: what is sealed with a key must find it there after a crash.
    async fn put(&self, ring: &Keyring, stage: Stage) -> Result<()> {
        let encryption = ring.write(&self.layout)?;
        self.put_stage(stage)?;
        self.store.set_encryption(Arc::new(encryption)).await.context("use the new keys")
    }

    fn put_stage(&self, stage: Stage) -> Result<()> {
        files::write(&self.layout.encryption_state(), &json!({ "stage": stage }).to_string(), 0o600)
    }

    fn stage(&self) -> Result<Stage> {
        let path = self.layout.encryption_state();
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let state: Value = serde_json::from_str(&text).with_context(|| format!("read {}", path.display()))?;
                serde_json::from_value(state["stage"].clone()).with_context(|| format!("read {}", path.display()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Stage::Start),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    fn report(&self, written: usize) -> Result<Report> {
        let external = self.options.file.clone();
        let ring = if external.is_some() { None } else { Keyring::read(&self.layout)? };
        let keys = ring.iter().flat_map(|ring| &ring.keys);
        Ok(Report {
            enabled: ring.as_ref().map(|ring| ring.enabled),
            stage: self.stage()?.name().to_owned(),
            keys: keys.map(|key| ReportedKey { provider: key.provider.clone(), name: key.name.clone() }).collect(),
            external,
            written,
            unreadable: self.store.unreadable().len(),
        })
    }
}

fn enabled(ring: &Keyring) -> Result<()> {
    ensure!(ring.enabled, "secrets-encryption is disabled: run \"orch secrets-encrypt enable\" first");
    Ok(())
}
