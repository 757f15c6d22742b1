//! `orch check-config`: can this machine run orch, and what mends it.

use crate::cluster::preflight::{CHECKS, Machine, Outcome};
use anyhow::Result;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Directory of the cluster's state
    #[arg(long, short = 'd', env = "ORCH_DATA_DIR", value_name = "DIR", default_value = "/var/lib/orch")]
    data_dir: PathBuf,
}

/// 0 when a node can run, 1 when something must be mended first.
pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let machine = Machine { data_directory: args.data_dir.clone() };
    let color = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut failed = 0;
    for check in CHECKS {
        let (word, code, found, mend) = match (check.run)(&machine) {
            Outcome::Pass(found) => ("ok", 32, found, None),
            Outcome::Warn { found, mend } => ("warning", 33, found, Some(mend)),
            Outcome::Fail { found, mend } => {
                failed += 1;
                ("missing", 31, found, Some(mend))
            }
        };
        let word = if color { format!("\x1b[{code}m{word:<8}\x1b[0m") } else { format!("{word:<8}") };
        println!("{word} {}: {found}", check.name);
        if let Some(mend) = mend {
            println!("         mend: {mend}");
        }
    }
    if failed == 0 {
        println!("this machine can run orch");
        Ok(ExitCode::SUCCESS)
    } else {
        println!("{failed} to mend before orch can run");
        Ok(ExitCode::FAILURE)
    }
}
