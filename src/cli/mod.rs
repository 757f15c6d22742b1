//! The commands: one file each. Parsing only; what a command does is in [`crate::cluster`] or in
//! the component it speaks to.
//!
//! To add a command: one file with an `Args` type and a `run` function, one variant in
//! [`Command`] with its arm in [`dispatch`].

mod administration;
mod agent;
mod check_config;
mod completion;
mod config_file;
mod ctr;
mod killall;
pub mod kubectl;
mod node_arguments;
mod secrets_encrypt;
mod server;
mod snapshot;
mod token;
mod uninstall;

use anyhow::Result;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// A whole Kubernetes in one binary.
#[derive(Parser)]
#[command(name = "orch", version = crate::api::version::LONG, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the control plane, and a node on this machine
    Server(Box<server::Args>),
    /// Run a node that joins a server
    Agent(Box<agent::Args>),
    /// Work with a cluster, as kubectl does
    Kubectl(Box<kubectl::Args>),
    /// Work with the images of this node
    Ctr(ctr::Args),
    /// Make, list and delete tokens that nodes join with
    Token(token::Args),
    /// Save, list, prune and restore the state of a server
    #[command(alias = "etcd-snapshot")]
    Snapshot(snapshot::Args),
    /// Exchange the keys that Secrets are encrypted with at rest
    SecretsEncrypt(secrets_encrypt::Args),
    /// Say whether this machine can run orch, and how to mend what is missing
    CheckConfig(check_config::Args),
    /// End this node and all its pods, and remove what they left in the kernel
    Killall(Box<killall::Args>),
    /// Remove orch and all its data from this machine
    Uninstall(Box<uninstall::Args>),
    /// Print the completion script of a shell
    Completion(completion::Args),
}

fn dispatch(command: Command) -> Result<ExitCode> {
    match command {
        Command::Server(args) => server::run(*args),
        Command::Agent(args) => agent::run(*args),
        Command::Kubectl(args) => kubectl::run(*args),
        Command::Ctr(args) => ctr::run(&args),
        Command::Token(args) => token::run(&args),
        Command::Snapshot(args) => snapshot::run(&args),
        Command::SecretsEncrypt(args) => secrets_encrypt::run(&args),
        Command::CheckConfig(args) => check_config::run(&args),
        Command::Killall(args) => killall::run(*args),
        Command::Uninstall(args) => uninstall::run(*args),
        Command::Completion(args) => completion::run(&args),
    }
}

const KUBECTL: &str = "kubectl";

/// A link to orch by the name of kubectl is kubectl.
fn called_as(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let name = arguments.first().map(Path::new).and_then(Path::file_name);
    if name.is_some_and(|name| name == KUBECTL) {
        arguments.insert(1, KUBECTL.into());
    }
    arguments
}

/// Parse and run; 2 for a wrong command line, 1 for a failed command.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let merged = match config_file::merge(called_as(arguments.into_iter().collect())) {
        Ok(merged) => merged,
        Err(error) => return fail(&error, 2),
    };
    let arguments = &merged.arguments;
    let is_kubectl = arguments.get(1).is_some_and(|command| command == KUBECTL);
    let parsed = Cli::command().try_get_matches_from(arguments).and_then(|matches| {
        let mut cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut Cli::command()))?;
        if let (Command::Server(args), Some((_, matches))) = (&mut cli.command, matches.subcommand()) {
            args.remember(matches);
        }
        Ok(cli)
    });
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            if let Some(refusal) = is_kubectl.then(|| kubectl::refusal(&error, arguments)).flatten() {
                eprintln!("{refusal}");
                return ExitCode::FAILURE;
            }
            // Help and version go to standard output and are no error; clap knows which is which.
            let code = match u8::try_from(error.exit_code()).unwrap_or(2) {
                // kubectl knows no other.
                1.. if is_kubectl => 1,
                code => code,
            };
            if error.print().is_err() {
                return ExitCode::FAILURE;
            }
            let said = error.to_string();
            eprint!("{}", merged.origins_in(said.split("\n\n").next().unwrap_or_default()));
            return ExitCode::from(code);
        }
    };
    match dispatch(cli.command) {
        Ok(code) => code,
        Err(error) => {
            let code = fail(&error, 1);
            eprint!("{}", merged.origins_in(&format!("{error:#}")));
            code
        }
    }
}

fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    eprintln!("orch: {error:#}");
    ExitCode::from(code)
}
