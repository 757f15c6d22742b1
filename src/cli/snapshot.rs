//! `orch snapshot`: save, list, prune and restore the state of a server.

use super::administration::{ClusterArguments, DataArguments, size};
use crate::cluster::snapshots::{self, ON_DEMAND, PATH, SaveReply, SaveRequest};
use crate::storage::snapshot::{self, Listed};
use anyhow::{Context, Result, anyhow, bail};
use http::Method;
use serde_json::json;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: ClusterArguments,
    #[command(flatten)]
    data: DataArguments,
    /// Directory of the snapshots; <data-dir>/server/db/snapshots when not given
    #[arg(long, aliases = ["snapshot-dir", "etcd-snapshot-dir"], value_name = "DIR", global = true)]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Let the running server save a snapshot; with --dir it is moved there
    Save {
        /// Begin of the file's name
        #[arg(long, value_name = "NAME", default_value = ON_DEMAND)]
        name: String,
    },
    /// List the snapshots
    #[command(visible_alias = "ls")]
    List {
        #[arg(long, short = 'o', value_enum, value_name = "FORMAT", default_value = "table")]
        output: Output,
    },
    /// Delete snapshots
    Delete {
        /// The names of their files
        #[arg(required = true, value_name = "SNAPSHOT")]
        snapshots: Vec<PathBuf>,
    },
    /// Delete the snapshots of a name but for the newest
    Prune {
        /// Begin of the files' names
        #[arg(long, value_name = "NAME", default_value = ON_DEMAND)]
        name: String,
        /// How many stay
        #[arg(long, value_name = "NUMBER", default_value = "5")]
        snapshot_retention: NonZeroUsize,
    },
    /// Put a snapshot in place of the server's state; the server must not run
    Restore {
        /// The file, or its name in the directory of the snapshots
        snapshot: PathBuf,
    },
    /// Go on with the objects of a damaged database that are whole; the server must not run
    Salvage,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Table,
    Json,
}

impl Args {
    fn directory(&self) -> PathBuf {
        self.dir.clone().unwrap_or_else(|| snapshots::default_directory(&self.data.data_dir))
    }
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let (directory, data) = (args.directory(), &args.data.data_dir);
    match &args.command {
        Command::Save { name } => save(&args.cluster, name, args.dir.as_deref())?,
        Command::List { output } => list(&directory, *output)?,
        Command::Delete { snapshots } => delete(&directory, snapshots)?,
        Command::Prune { name, snapshot_retention } => prune(&directory, name, snapshot_retention.get())?,
        Command::Restore { snapshot } => restore(data, &directory, snapshot)?,
        Command::Salvage => salvage(data)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn save(cluster: &ClusterArguments, name: &str, directory: Option<&Path>) -> Result<()> {
    let request = serde_json::to_value(SaveRequest { name: name.to_owned() }).context("write the request")?;
    let reply = cluster.run(async |session| session.write(Method::POST, PATH, "application/json", &request).await)?;
    let saved: SaveReply = serde_json::from_value(reply).context("read the server's answer")?;
    let SaveReply { path, size: bytes, manifest } = saved;
    let path = match directory {
        Some(directory) => snapshots::move_to(&path, directory)
            .with_context(|| format!("the snapshot stays in {}: run this on the server", path.display()))?,
        None => path,
    };
    println!("{}: {} objects at revision {}, {}", path.display(), manifest.objects, manifest.revision, size(bytes));
    Ok(())
}

fn list(directory: &Path, output: Output) -> Result<()> {
    let found = snapshot::list(directory)?;
    if output == Output::Json {
        let items: Vec<_> = found.iter().map(described).collect();
        println!("{}", serde_json::to_string_pretty(&items).context("write the list")?);
        return Ok(());
    }
    if found.is_empty() {
        eprintln!("no snapshots in {}", directory.display());
        return Ok(());
    }
    println!("{:<10} {:<21} {:<9} {:<11} FILE", "REVISION", "CREATED", "OBJECTS", "SIZE");
    for snapshot in found {
        let (path, bytes) = (snapshot.path.display(), size(snapshot.size));
        match snapshot.manifest {
            Ok(manifest) => {
                let created = crate::api::time::seconds(manifest.created);
                println!("{:<10} {created:<21} {:<9} {bytes:<11} {path}", manifest.revision, manifest.objects);
            }
            Err(error) => println!("{:<10} {:<21} {:<9} {bytes:<11} {path}: {error}", "-", "-", "-"),
        }
    }
    Ok(())
}

fn described(snapshot: &Listed) -> serde_json::Value {
    let (path, size) = (&snapshot.path, snapshot.size);
    match &snapshot.manifest {
        Ok(manifest) => json!({ "path": path, "size": size, "manifest": manifest }),
        Err(error) => json!({ "path": path, "size": size, "error": error.to_string() }),
    }
}

fn delete(directory: &Path, names: &[PathBuf]) -> Result<()> {
    for name in names {
        let gone = snapshots::delete(directory, name).context("\"orch snapshot list\" shows those that are there")?;
        println!("{} deleted", gone.display());
    }
    Ok(())
}

fn prune(directory: &Path, name: &str, keep: usize) -> Result<()> {
    let gone = snapshot::prune(directory, name, keep)?;
    gone.iter().for_each(|path| println!("{} deleted", path.display()));
    Ok(())
}

fn restore(data: &Path, directory: &Path, name: &Path) -> Result<()> {
    let path = snapshots::find(directory, name);
    if !path.exists() {
        bail!("{}: no such snapshot: \"orch snapshot list\" shows those that are there", path.display());
    }
    let restored = snapshots::restore(data, &path)
        .map_err(|error| anyhow!("{error:#}"))
        .with_context(|| format!("restore {}", path.display()))?;
    let manifest = &restored.manifest;
    println!(
        "{} objects of revision {} ({}) and {} files are in {}; start orch to go on from there",
        manifest.objects,
        manifest.revision,
        crate::api::time::seconds(manifest.created),
        restored.files.len(),
        data.display()
    );
    kept(restored.store.kept.as_deref());
    Ok(())
}

fn salvage(data: &Path) -> Result<()> {
    let salvaged = snapshots::salvage(data)?;
    println!("what is not whole is left out: {}", salvaged.reason);
    println!("{} objects are in {}; start orch to go on from there", salvaged.store.objects, data.display());
    kept(salvaged.store.kept.as_deref());
    Ok(())
}

fn kept(directory: Option<&Path>) {
    if let Some(directory) = directory {
        println!("what was there before is kept in {}", directory.display());
    }
}
