//! Snapshots of a server: its database, certificates, keys and token in one file.
//!
//! A running server writes them itself, asked over its API ([`routes`]; by RBAC that is the
//! administrator's alone), into its own directory and nowhere else. [`restore`] works on a server
//! that does not run.

use super::files::Layout;
use crate::api::{Status, UserInfo};
use crate::apiserver::respond::{self, Reply};
use crate::apiserver::routes::Route;
use crate::storage::SqliteStorage;
use crate::storage::snapshot::{self, EXTENSION, ExtraFile, Manifest, Restored};
use anyhow::{Context, Result};
use async_trait::async_trait;
use axum::body::Body;
use http::{Method, Request, StatusCode};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a snapshot is asked for, by POST.
pub const PATH: &str = "/v1-orch/snapshots";

const LIMIT: usize = 4096;
const PKI: &str = "tls/";
const TOKEN: &str = "token";
/// Of those that a user asked for.
const PREFIX: &str = "on-demand";

/// What is asked for.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SaveRequest {
    /// The begin of the file's name; `on-demand` when empty.
    pub name: String,
}

/// What was written.
#[derive(Debug, Serialize, Deserialize)]
pub struct SaveReply {
    pub path: PathBuf,
    pub size: u64,
    pub manifest: Manifest,
}

pub fn routes(store: Arc<SqliteStorage>, layout: Layout) -> Vec<(&'static str, Arc<dyn Route>)> {
    vec![(PATH, Arc::new(Save { store, layout }))]
}

struct Save {
    store: Arc<SqliteStorage>,
    layout: Layout,
}

#[async_trait]
impl Route for Save {
    async fn serve(&self, user: &UserInfo, request: Request<Body>) -> Result<Reply, Status> {
        if request.method() != Method::POST {
            return Err(Status::failure(405, "MethodNotAllowed", "send a POST"));
        }
        let bytes = axum::body::to_bytes(request.into_body(), LIMIT)
            .await
            .map_err(|_| Status::request_entity_too_large(format!("a snapshot request has at most {LIMIT} bytes")))?;
        let request: SaveRequest = match bytes.len() {
            0 => SaveRequest::default(),
            _ => serde_json::from_slice(&bytes)
                .map_err(|error| Status::bad_request(format!("snapshot request: {error}")))?,
        };
        let name = if request.name.is_empty() { PREFIX } else { &request.name };
        if let Some(wrong) = crate::api::names::dns_subdomain(name).first() {
            return Err(Status::bad_request(format!("snapshot name {name:?}: {wrong}")));
        }
        let saved = save(&self.store, &self.layout, name).await;
        let saved = saved.map_err(|error| Status::internal(format!("save a snapshot: {error:#}")))?;
        tracing::info!(path = %saved.path.display(), revision = saved.manifest.revision, by = user.name, "snapshot saved");
        Ok(respond::json(StatusCode::CREATED, &saved))
    }
}

async fn save(store: &SqliteStorage, layout: &Layout, name: &str) -> Result<SaveReply> {
    let extra = extra_files(layout)?;
    let stamp = Timestamp::now().strftime("%Y%m%dT%H%M%S%3fZ");
    let path = layout.snapshots().join(format!("{name}-{stamp}.{EXTENSION}"));
    let manifest = store.save_snapshot(&path, extra).await?;
    let size = fs::metadata(&path).with_context(|| format!("read {}", path.display()))?.len();
    Ok(SaveReply { path, size, manifest })
}

/// Everything beside the database that a cluster is made of: without its keys the database is that
/// of a cluster that nobody can log in to.
fn extra_files(layout: &Layout) -> Result<Vec<ExtraFile>> {
    let directory = layout.pki();
    let named = || format!("read {}", directory.display());
    let mut files = vec![ExtraFile { name: TOKEN.to_owned(), path: layout.token() }];
    for entry in fs::read_dir(&directory).with_context(named)? {
        let path = entry.with_context(named)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if path.is_file() {
            files.push(ExtraFile { name: format!("{PKI}{name}"), path });
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// Put a snapshot in place of the state in the data directory. The server must not run.
pub fn restore(data_directory: &Path, path: &Path) -> Result<Restored> {
    // All of it is checked before anything is changed.
    snapshot::read_manifest(path)?;
    let layout = Layout::new(data_directory);
    layout.create()?;
    let place = |name: &str| match name.strip_prefix(PKI) {
        Some(file) if !file.contains('/') => Some(layout.pki().join(file)),
        None if name == TOKEN => Some(layout.token()),
        _ => None,
    };
    Ok(snapshot::restore(path, &layout.store(), place)?)
}

/// The snapshots of the data directory, newest state first.
pub fn list(data_directory: &Path) -> Result<Vec<snapshot::Listed>> {
    Ok(snapshot::list(&Layout::new(data_directory).snapshots())?)
}

/// A snapshot by its path, or by the name of its file in the data directory.
pub fn find(data_directory: &Path, name: &Path) -> PathBuf {
    if name.exists() || name.components().count() > 1 {
        return name.to_owned();
    }
    let directory = Layout::new(data_directory).snapshots();
    let plain = directory.join(name);
    if plain.exists() { plain } else { directory.join(format!("{}.{EXTENSION}", name.display())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::GroupResource;
    use crate::storage::{self, Body as Stored, Durability, Key, Storage};
    use std::os::unix::fs::PermissionsExt;

    async fn server(directory: &Path) -> (Arc<SqliteStorage>, Layout) {
        let layout = Layout::new(directory);
        layout.create().expect("directories");
        let store = SqliteStorage::open(&layout.store(), storage::Options::default()).await.expect("a store");
        (store, layout)
    }

    fn key(name: &str) -> Key {
        Key::new(&GroupResource::new("", "configmaps"), "default", name)
    }

    async fn create(store: &SqliteStorage, name: &str) {
        let body = Stored::from_value(&serde_json::json!({ "metadata": { "name": name } }), 0, None);
        store.create(key(name), body, Durability::Durable).await.expect("created");
    }

    #[tokio::test]
    async fn a_cluster_comes_back_with_its_keys_and_a_higher_revision() {
        let directory = tempfile::tempdir().expect("a directory");
        let (store, layout) = server(directory.path()).await;
        super::super::files::write(&layout.token(), "the token\n", 0o600).expect("written");
        super::super::files::write(&layout.pki().join("server-ca.key"), "the key\n", 0o600).expect("written");
        create(&store, "before").await;
        let saved = save(&store, &layout, PREFIX).await.expect("saved");
        assert_eq!(fs::metadata(&saved.path).expect("it is there").permissions().mode() & 0o777, 0o600);
        assert!(saved.path.starts_with(layout.snapshots()) && saved.manifest.objects == 1);
        create(&store, "after").await;
        let revision = store.revision();

        // While the server runs its data is its own.
        assert!(restore(directory.path(), &saved.path).is_err());
        store.close().await.expect("closed");
        drop(store);

        fs::write(layout.token(), "another\n").expect("written");
        fs::remove_file(layout.pki().join("server-ca.key")).expect("removed");
        let name = saved.path.file_stem().expect("a name");
        let restored = restore(directory.path(), &find(directory.path(), Path::new(name))).expect("restored");
        assert_eq!(restored.files.len(), 2);
        let read = |path: PathBuf| fs::read_to_string(path).expect("it is there");
        assert_eq!(
            (read(layout.token()), read(layout.pki().join("server-ca.key"))),
            ("the token\n".into(), "the key\n".into())
        );
        let (store, _) = server(directory.path()).await;
        assert!(store.get(&key("before")).is_some() && store.get(&key("after")).is_none());
        assert!(store.revision() > revision, "{:?} after {revision:?}", store.revision());
        assert_eq!(list(directory.path()).expect("listed").len(), 1);
    }
}
