//! `orch snapshot`: save, list and restore the state of a server.

use super::administration::{ClusterArguments, size};
use crate::cluster::snapshots::{self, PATH, SaveReply, SaveRequest};
use anyhow::{Context, Result, anyhow, bail};
use http::Method;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: ClusterArguments,
    /// Directory of the server's state
    #[arg(
        long,
        short = 'd',
        env = "ORCH_DATA_DIR",
        value_name = "DIR",
        default_value = "/var/lib/orch",
        global = true
    )]
    data_dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Let the running server write a snapshot into <data-dir>/server/db/snapshots
    Save {
        /// Begin of the file's name; on-demand when not given
        #[arg(long, value_name = "NAME", default_value = "")]
        name: String,
    },
    /// List the snapshots of the data directory
    List,
    /// Put a snapshot in place of the server's state; the server must not run
    Restore {
        /// The file, or its name in the data directory
        snapshot: PathBuf,
    },
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    match &args.command {
        Command::Save { name } => save(&args.cluster, name)?,
        Command::List => list(&args.data_dir)?,
        Command::Restore { snapshot } => restore(&args.data_dir, snapshot)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn save(cluster: &ClusterArguments, name: &str) -> Result<()> {
    let request = serde_json::to_value(SaveRequest { name: name.to_owned() }).context("write the request")?;
    let reply = cluster.run(async |session| session.write(Method::POST, PATH, "application/json", &request).await)?;
    let saved: SaveReply = serde_json::from_value(reply).context("read the server's answer")?;
    let SaveReply { path, size: bytes, manifest } = saved;
    println!("{}: {} objects at revision {}, {}", path.display(), manifest.objects, manifest.revision, size(bytes));
    Ok(())
}

fn list(data: &Path) -> Result<()> {
    let found = snapshots::list(data)?;
    if found.is_empty() {
        eprintln!("no snapshots in {}", data.display());
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

fn restore(data: &Path, name: &Path) -> Result<()> {
    let path = snapshots::find(data, name);
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
    if let Some(kept) = &restored.store.kept {
        println!("what was there before is kept in {}", kept.display());
    }
    Ok(())
}
