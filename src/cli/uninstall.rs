//! `orch uninstall`: remove orch and all its data from this machine.

use super::killall::{report, require_root};
use super::node_arguments::DirectoryArguments;
use crate::cluster::stop;
use anyhow::{Context, Result, bail};
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The services that the installer makes.
pub(super) const UNITS: &[&str] = &["orch", "orch-agent"];

#[derive(clap::Args)]
pub(super) struct Args {
    /// Directory of the cluster's or the node's state
    #[arg(long, short = 'd', env = "ORCH_DATA_DIR", value_name = "DIR", default_value = "/var/lib/orch")]
    data_dir: PathBuf,
    /// Do not ask
    #[arg(long, short = 'y')]
    yes: bool,
    #[command(flatten)]
    directories: DirectoryArguments,
}

pub(super) fn run(args: Args) -> Result<ExitCode> {
    require_root("uninstall")?;
    if !args.yes && !confirmed(&args.data_dir)? {
        bail!("nothing was removed");
    }
    for unit in UNITS {
        stop::service(unit, true);
    }
    let options = args.directories.into_options();
    let binary = std::env::current_exe().context("find the own binary")?;
    let mut others = vec![PathBuf::from("/etc/orch"), PathBuf::from("/var/log/containers")];
    others.extend(UNITS.iter().flat_map(|unit| {
        [format!("/etc/systemd/system/{unit}.service"), format!("/etc/init.d/{unit}")].map(PathBuf::from)
    }));
    others.push(binary);
    let others: Vec<&Path> = others.iter().map(PathBuf::as_path).collect();
    let errors = crate::cluster::teardown::uninstall(&args.data_dir, &options, &others);
    if errors.is_empty() {
        println!("orch is removed");
    }
    report(&errors)
}

fn confirmed(data: &Path) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("uninstall removes the cluster in {}: say --yes", data.display());
    }
    print!("Remove orch, the cluster in {} and all its pods? [y/N] ", data.display());
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).context("read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
