//! `orch killall`: end all pods of this node and remove what they left in the kernel.

use super::node_arguments::DirectoryArguments;
use anyhow::{Result, bail};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Directory of the cluster's or the node's state
    #[arg(long, short = 'd', env = "ORCH_DATA_DIR", value_name = "DIR", default_value = "/var/lib/orch")]
    data_dir: PathBuf,
    #[command(flatten)]
    directories: DirectoryArguments,
}

pub(super) fn run(args: Args) -> Result<ExitCode> {
    require_root("killall")?;
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
