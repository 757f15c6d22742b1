//! `orch agent`: a node that joins a server.

use super::node_arguments::NodeArguments;
use crate::cluster::options::AgentOptions;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Config file; its keys are these flags
    #[arg(long, short = 'c', env = "ORCH_CONFIG_FILE", value_name = "FILE", default_value = "/etc/orch/config.yaml")]
    config: PathBuf,
    /// Server to join
    #[arg(long, short = 's', env = "ORCH_URL", value_name = "URL")]
    server: String,
    /// Token of the server, from <data-dir>/server/token there
    #[arg(long, short = 't', env = "ORCH_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// File that holds the token
    #[arg(long, env = "ORCH_TOKEN_FILE", value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// Directory of the node's state
    #[arg(long, short = 'd', env = "ORCH_DATA_DIR", value_name = "DIR", default_value = "/var/lib/orch")]
    data_dir: PathBuf,
    #[command(flatten)]
    node: NodeArguments,
}

/// The token given, or the first line of the file.
pub(super) fn token(token: Option<String>, file: Option<&Path>) -> Result<Option<String>> {
    let Some(file) = file else { return Ok(token) };
    let text = fs::read_to_string(file).with_context(|| format!("read token file {}", file.display()))?;
    match text.lines().next().map(str::trim) {
        Some(line) if !line.is_empty() => Ok(Some(line.to_owned())),
        _ => bail!("token file {} is empty", file.display()),
    }
}

pub(super) fn run(args: Args) -> Result<ExitCode> {
    let token = token(args.token, args.token_file.as_deref())?.context(
        "no token: give --token, --token-file or ORCH_TOKEN; the server has it in /var/lib/orch/server/token",
    )?;
    let options =
        AgentOptions { data_directory: args.data_dir, server: args.server, token, node: args.node.into_options()? };
    crate::cluster::agent::run(options)
}
