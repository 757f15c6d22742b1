//! Snapshots of a server: its database, certificates, keys (those of encryption at rest, too) and token in one file.
//!
//! A running server writes them itself, by the clock ([`keep`]) and asked over its API ([`routes`];
//! by RBAC that is the administrator's alone), into its own directory and nowhere else. [`restore`]
//! and [`salvage`] work on a server that does not run.

use super::files::Layout;
use crate::api::cron::Schedule;
use crate::api::{Status, UserInfo};
use crate::apiserver::respond::{self, Reply};
use crate::apiserver::routes::Route;
use crate::runtime::clock_steps::ClockSteps;
use crate::storage::SqliteStorage;
use crate::storage::snapshot::{self, AUTOMATIC, EXTENSION, ExtraFile, Manifest, Restored, Salvaged};
use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use axum::body::Body;
use http::{Method, Request, StatusCode};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Where a snapshot is asked for, by POST.
pub const PATH: &str = "/v1-orch/snapshots";

const LIMIT: usize = 4096;
const PKI: &str = "tls/";
const TOKEN: &str = "token";
const CREDENTIALS: &str = "cred/";
/// Of those that a user asked for.
pub const ON_DEMAND: &str = "on-demand";
/// How long a server runs before its first automatic snapshot, and between two that fail.
const SOON: Duration = Duration::from_secs(15 * 60);

/// Where snapshots are, and when the server makes one by itself.
#[derive(Clone, Debug)]
pub struct Options {
    /// None: in the data directory.
    pub directory: Option<PathBuf>,
    /// None: never.
    pub when: Option<When>,
    /// So many automatic ones stay.
    pub retention: usize,
}

/// When a server makes a snapshot by itself.
#[derive(Clone, Debug)]
pub enum When {
    Every(Duration),
    /// By the machine's wall clock.
    At(Schedule),
}

impl Options {
    pub fn directory(&self, layout: &Layout) -> PathBuf {
        self.directory.clone().unwrap_or_else(|| layout.snapshots())
    }
}

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

pub fn routes(store: Arc<SqliteStorage>, layout: Layout, directory: PathBuf) -> Vec<(&'static str, Arc<dyn Route>)> {
    vec![(PATH, Arc::new(Save { store, layout, directory }))]
}

struct Save {
    store: Arc<SqliteStorage>,
    layout: Layout,
    directory: PathBuf,
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
        let name = if request.name.is_empty() { ON_DEMAND } else { &request.name };
        if let Some(wrong) = crate::api::names::dns_subdomain(name).first() {
            return Err(Status::bad_request(format!("snapshot name {name:?}: {wrong}")));
        }
        if name == AUTOMATIC {
            return Err(Status::bad_request(format!("snapshot name {name:?}: the server's own snapshots have it")));
        }
        let saved = save(&self.store, &self.layout, &self.directory, name).await;
        let saved = saved.map_err(|error| Status::internal(format!("save a snapshot: {error:#}")))?;
        tracing::info!(path = %saved.path.display(), revision = saved.manifest.revision, by = user.name, "snapshot saved");
        Ok(respond::json(StatusCode::CREATED, &saved))
    }
}

async fn save(store: &SqliteStorage, layout: &Layout, directory: &Path, name: &str) -> Result<SaveReply> {
    let extra = extra_files(layout)?;
    let stamp = Timestamp::now().strftime("%Y%m%dT%H%M%S%3fZ");
    let path = directory.join(format!("{name}-{stamp}.{EXTENSION}"));
    let manifest = store.save_snapshot(&path, extra).await?;
    let size = fs::metadata(&path).with_context(|| format!("read {}", path.display()))?.len();
    Ok(SaveReply { path, size, manifest })
}

/// Makes a snapshot every so often, counted over restarts, so that there is one when the disk has lied.
pub async fn keep(
    store: Arc<SqliteStorage>,
    layout: Layout,
    when: When,
    options: Options,
    shutdown: CancellationToken,
) -> Result<()> {
    let directory = options.directory(&layout);
    let newest = snapshot::list(&directory)?.into_iter().filter(|listed| listed.is_called(AUTOMATIC));
    let mut newest = newest.filter_map(|listed| listed.manifest.ok()).map(|manifest| manifest.created).max();
    let mut steps = ClockSteps::new().context("follow the clock")?;
    let now = Timestamp::now();
    let mut at = when.first(newest, now, &TimeZone::system());
    let mut due = Instant::now() + between(now, at);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep_until(due) => {}
            step = steps.stepped() => {
                step.context("follow the clock")?;
                let now = Timestamp::now();
                at = when.first(newest, now, &TimeZone::system());
                due = Instant::now() + between(now, at);
                continue;
            }
        }
        let saved = async {
            let extra = extra_files(&layout)?;
            anyhow::Ok(store.save_automatic(&directory, options.retention, extra).await?)
        };
        let saved = saved.await;
        let now = Timestamp::now();
        // Two clocks never agree: what is due now may be so a moment early.
        let next = when.next(now.max(at), &TimeZone::system());
        at = match saved {
            Ok(path) => {
                tracing::info!(path = %path.display(), "snapshot saved");
                newest = Some(now);
                next
            }
            Err(error) => {
                tracing::error!("save a snapshot: {error:#}");
                next.min(later(now, SOON))
            }
        };
        due = Instant::now() + between(now, at);
    }
}

impl When {
    /// The first snapshot after the start of a server, or of a new time. What was missed meanwhile is made up for
    /// soon. A clock that was wrong makes it early, or late by one turn at the most.
    fn first(&self, newest: Option<Timestamp>, now: Timestamp, zone: &TimeZone) -> Timestamp {
        let newest = newest.filter(|newest| *newest <= now);
        let soon = |turn| later(now, SOON.min(turn));
        match self {
            Self::Every(interval) => newest.map_or(now, |newest| later(newest, *interval)).max(soon(*interval)),
            Self::At(_) => match newest.map(|newest| self.next(newest, zone)) {
                Some(missed) if missed <= now => soon(between(now, self.next(now, zone))),
                Some(coming) => coming,
                None => self.next(now, zone),
            },
        }
    }

    fn next(&self, after: Timestamp, zone: &TimeZone) -> Timestamp {
        match self {
            Self::Every(interval) => later(after, *interval),
            Self::At(schedule) => schedule.next(after, zone).unwrap_or(Timestamp::MAX),
        }
    }
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

fn between(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or_default()
}

/// Everything beside the database that a cluster is made of: without its keys the database is that
/// of a cluster that nobody can log in to.
fn extra_files(layout: &Layout) -> Result<Vec<ExtraFile>> {
    let mut files = vec![ExtraFile { name: TOKEN.to_owned(), path: layout.token() }];
    for (prefix, directory) in [(PKI, layout.pki()), (CREDENTIALS, layout.credentials())] {
        let named = || format!("read {}", directory.display());
        for entry in fs::read_dir(&directory).with_context(named)? {
            let path = entry.with_context(named)?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if path.is_file() {
                files.push(ExtraFile { name: format!("{prefix}{name}"), path });
            }
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
    let place = |name: &str| match name.split_once('/') {
        Some(("tls", file)) if !file.contains('/') => Some(layout.pki().join(file)),
        Some(("cred", file)) if !file.contains('/') => Some(layout.credentials().join(file)),
        None if name == TOKEN => Some(layout.token()),
        _ => None,
    };
    Ok(snapshot::restore(path, &layout.store(), place)?)
}

/// Make a damaged database writable with what is whole of it. The server must not run.
pub fn salvage(data_directory: &Path) -> Result<Salvaged> {
    Ok(snapshot::salvage(&Layout::new(data_directory).store())?)
}

/// Where the snapshots of a data directory are when nothing else was said.
pub fn default_directory(data_directory: &Path) -> PathBuf {
    Layout::new(data_directory).snapshots()
}

/// A snapshot by its path, or by the name of its file in a directory.
pub fn find(directory: &Path, name: &Path) -> PathBuf {
    if name.exists() || name.components().count() > 1 {
        return name.to_owned();
    }
    let plain = directory.join(name);
    if plain.exists() { plain } else { directory.join(format!("{}.{EXTENSION}", name.display())) }
}

/// Remove a snapshot from a directory by the name of its file.
pub fn delete(directory: &Path, name: &Path) -> Result<PathBuf> {
    let path = find(directory, name);
    if path.extension().is_none_or(|extension| extension != EXTENSION) {
        bail!("{} is not a snapshot: its name does not end in .{EXTENSION}", path.display());
    }
    fs::remove_file(&path).with_context(|| format!("delete {}", path.display()))?;
    Ok(path)
}

/// Put a snapshot into another directory, which may be on another disk; where it is then.
pub fn move_to(path: &Path, directory: &Path) -> Result<PathBuf> {
    let name = path.file_name().with_context(|| format!("{} is no file", path.display()))?;
    let target = directory.join(name);
    if target.exists() {
        // Each has a name of its own, so it is there already: the server's directory is this one.
        return Ok(target);
    }
    let partial = directory.join(format!("{}.partial", name.display()));
    let moved = || -> std::io::Result<()> {
        fs::create_dir_all(directory)?;
        // Only the owner may read what is in it; a copy has the permissions of the original.
        fs::copy(path, &partial)?;
        fs::File::open(&partial)?.sync_all()?;
        fs::rename(&partial, &target)?;
        fs::File::open(directory)?.sync_all()
    };
    moved().with_context(|| format!("move {} to {}", path.display(), target.display())).inspect_err(|_| {
        // What is left of a copy is no snapshot; it may not even be there.
        let _ = fs::remove_file(&partial);
    })?;
    fs::remove_file(path).with_context(|| format!("remove {}", path.display()))?;
    Ok(target)
}

/// What to type when the database cannot be used.
pub fn mend(data_directory: &Path, directory: &Path) -> String {
    let data = format!("--data-dir {}", data_directory.display());
    let whole = snapshot::list(directory).unwrap_or_default().into_iter().find(|listed| listed.manifest.is_ok());
    let restore = match whole {
        Some(newest) => format!("orch snapshot restore {data} {}", newest.path.display()),
        None => format!("orch snapshot restore {data} <file> (there is none in {})", directory.display()),
    };
    format!(
        "to go back to a snapshot: {restore}; to go on with the objects that are whole: orch snapshot salvage {data}"
    )
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
        let saved = save(&store, &layout, &layout.snapshots(), ON_DEMAND).await.expect("saved");
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
        let restored = restore(directory.path(), &find(&layout.snapshots(), Path::new(name))).expect("restored");
        assert_eq!(restored.files.len(), 2);
        let read = |path: PathBuf| fs::read_to_string(path).expect("it is there");
        assert_eq!(
            (read(layout.token()), read(layout.pki().join("server-ca.key"))),
            ("the token\n".into(), "the key\n".into())
        );
        let (store, _) = server(directory.path()).await;
        assert!(store.get(&key("before")).is_some() && store.get(&key("after")).is_none());
        assert!(store.revision() > revision, "{:?} after {revision:?}", store.revision());
        assert_eq!(snapshot::list(&layout.snapshots()).expect("listed").len(), 1);
        let elsewhere = move_to(&saved.path, &directory.path().join("else/where")).expect("moved");
        assert_eq!(fs::metadata(&elsewhere).expect("it is there").permissions().mode() & 0o777, 0o600);
        assert!(!saved.path.exists());
        move_to(&elsewhere, &layout.snapshots()).expect("moved back");
        store.close().await.expect("closed");
        let told = mend(directory.path(), &layout.snapshots());
        assert!(told.contains(&format!("orch snapshot restore --data-dir {}", directory.path().display())), "{told}");
        assert!(told.contains(&saved.path.display().to_string()) && told.contains("orch snapshot salvage"), "{told}");
        assert!(delete(&layout.snapshots(), &layout.token()).is_err());
        delete(&layout.snapshots(), Path::new(name)).expect("deleted");
        assert!(!saved.path.exists() && delete(&layout.snapshots(), Path::new(name)).is_err());
    }

    #[test]
    fn the_interval_counts_over_restarts() {
        let hours = |count: u64| Duration::from_secs(count * 3600);
        let now: Timestamp = "2026-11-20T10:00:00Z".parse().expect("a time");
        let wait = |newest: Option<&str>, interval| {
            let newest = newest.map(|text| text.parse().expect("a time"));
            between(now, When::Every(interval).first(newest, now, &TimeZone::UTC))
        };
        assert_eq!(wait(None, hours(12)), SOON);
        assert_eq!(wait(Some("2026-11-20T07:00:00Z"), hours(12)), hours(9));
        assert_eq!(wait(Some("2026-11-01T07:00:00Z"), hours(12)), SOON);
        assert_eq!(wait(Some("2027-01-01T00:00:00Z"), hours(12)), SOON, "the clock was wrong");
        assert_eq!(wait(None, Duration::from_secs(1)), Duration::from_secs(1));
        assert!(wait(Some("2026-11-20T07:00:00Z"), Duration::MAX) > hours(24 * 365), "as good as never");
    }

    #[test]
    fn what_a_schedule_missed_is_made_up_for() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let first = |schedule: &str, newest: Option<&str>| {
            let when = When::At(Schedule::parse(schedule).expect("a schedule"));
            when.first(newest.map(at), at("2026-11-20T10:00:00Z"), &TimeZone::UTC).to_string()
        };
        assert_eq!(first("0 0 * * *", None), "2026-11-21T00:00:00Z", "the first of all");
        assert_eq!(first("0 0 * * *", Some("2026-11-20T00:00:01Z")), "2026-11-21T00:00:00Z");
        assert_eq!(first("0 0 * * *", Some("2026-11-19T00:00:01Z")), "2026-11-20T10:15:00Z", "it was off at midnight");
        assert_eq!(first("* * * * *", Some("2026-11-19T00:00:01Z")), "2026-11-20T10:01:00Z");
        assert_eq!(first("0 0 * * *", Some("2027-01-01T00:00:00Z")), "2026-11-21T00:00:00Z", "the clock was wrong");
    }

    #[tokio::test(start_paused = true)]
    async fn snapshots_come_by_themselves_and_the_old_ones_go() {
        let home = tempfile::tempdir().expect("a directory");
        let (store, layout) = server(home.path()).await;
        super::super::files::write(&layout.token(), "the token\n", 0o600).expect("written");
        let directory = home.path().join("elsewhere");
        let when = When::Every(Duration::from_secs(3600));
        let options = Options { directory: Some(directory.clone()), when: Some(when.clone()), retention: 2 };
        let shutdown = CancellationToken::new();
        let kept = tokio::spawn(keep(store.clone(), layout.clone(), when, options, shutdown.clone()));
        let count = || snapshot::list(&directory).expect("listed").len();
        for number in 1..=4 {
            create(&store, &format!("object-{number}")).await;
            let want = store.revision().0;
            let is_newest = |listed: &snapshot::Listed| listed.manifest.as_ref().expect("whole").revision == want;
            while !snapshot::list(&directory).expect("listed").first().is_some_and(is_newest) {
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
        }
        shutdown.cancel();
        kept.await.expect("no panic").expect("no error");
        assert_eq!(count(), 2);
    }
}
