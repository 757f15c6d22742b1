//! `orch killall`: end this node and all its pods, and remove what they left in the kernel.

use super::node_arguments::DirectoryArguments;
use super::uninstall::UNITS;
use crate::cluster::stop;
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The one of the services that the installer makes.
const DATA_DIRECTORY: &str = "/var/lib/orch";

#[derive(clap::Args)]
pub(super) struct Args {
    /// Directory of the cluster's or the node's state
    #[arg(long, short = 'd', env = "ORCH_DATA_DIR", value_name = "DIR", default_value = DATA_DIRECTORY)]
    data_dir: PathBuf,
    #[command(flatten)]
    directories: DirectoryArguments,
}

pub(super) fn run(args: Args) -> Result<ExitCode> {
    require_root("killall")?;
    if args.data_dir == Path::new(DATA_DIRECTORY) {
        // Also one that systemd is about to start again, which holds no lock.
        for unit in UNITS {
            stop::service(unit, false);
        }
    }
    report(&crate::cluster::teardown::killall(&args.data_dir, &args.directories.into_options()))
}

pub(super) fn require_root(command: &str) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("{command} needs root: run it with sudo");
    }
    Ok(())
}

/// All errors, a line each; 1 when there is one.
pub(super) fn report(errors: &[anyhow::Error]) -> Result<ExitCode> {
    for error in errors {
        eprintln!("orch: {error:#}");
    }
    Ok(if errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
