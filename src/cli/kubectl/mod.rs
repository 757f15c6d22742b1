//! `orch kubectl`: kubectl's verbs, flags and output, so that a box needs no second binary.
//!
//! To add a verb: one file with `Args` and `run`, one variant in [`Verb`] with its arm in
//! [`dispatch`]. A verb finds out what is meant ([`targets`], [`manifest`]), asks the server
//! ([`session`]) and prints ([`output`]); it knows no kinds. Those that only know some kinds keep
//! them in a table (`describe`). Errors are kubectl's own ([`failure`]), the exit code is 1.

mod apply;
mod delete;
mod describe;
mod discovery;
mod exec;
mod failure;
mod get;
mod last_applied;
mod logs;
mod manifest;
mod output;
mod pods;
mod session;
mod tab_writer;
mod targets;

pub use failure::{Failure, Outcome};
pub use session::{Session, Streams};

use anyhow::{Context, Result};
use clap::{ArgAction, CommandFactory, Parser, Subcommand};
use session::Connection;
use std::collections::HashSet;
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(disable_help_subcommand = true)]
pub(super) struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Show objects
    Get(Box<get::Args>),
    /// Show objects in detail, with their events
    Describe(describe::Args),
    /// Create objects from files, or change them to what the files say
    Apply(Box<apply::Args>),
    /// Delete objects
    Delete(Box<delete::Args>),
    /// Print the logs of containers
    Logs(Box<logs::Args>),
    /// Run a command in a container
    Exec(exec::Args),
}

async fn dispatch(verb: Verb, session: &Session) -> Outcome<()> {
    match verb {
        Verb::Get(args) => get::run(*args, session).await,
        Verb::Describe(args) => describe::run(args, session).await,
        Verb::Apply(args) => apply::run(*args, session).await,
        Verb::Delete(args) => delete::run(*args, session).await,
        Verb::Logs(args) => logs::run(*args, session).await,
        Verb::Exec(args) => exec::run(args, session).await,
    }
}

pub(super) fn run(args: Args) -> Result<ExitCode> {
    // Fails only where there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let result = runtime.block_on(async {
        let session = args.connection.connect(Streams::of_process()).await?;
        dispatch(args.verb, &session).await
    });
    // A read of standard input may still be under way.
    runtime.shutdown_background();
    Ok(match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let text = failure.to_string();
            if !text.is_empty() {
                // Nobody is left to be told where it fails.
                let _ = writeln!(std::io::stderr(), "{text}");
            }
            ExitCode::from(failure.code())
        }
    })
}

/// One command line against a given cluster: for tests.
pub async fn execute(arguments: &[&str], session: &Session) -> Outcome<()> {
    #[derive(Parser)]
    #[command(no_binary_name = true)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }
    let arguments = plain_flags(arguments.iter().map(OsString::from).collect(), &Line::command());
    let line = Line::try_parse_from(arguments).map_err(|error| Failure::Local(error.into()))?;
    dispatch(line.args.verb, session).await
}

/// kubectl takes `--all=true` and `--force=false` for every flag; clap only bare ones.
pub(super) fn plain_flags(arguments: Vec<OsString>, command: &clap::Command) -> Vec<OsString> {
    let mut switches = HashSet::new();
    collect_switches(command, &mut switches);
    let mut literal = false;
    let plain = arguments.into_iter().filter_map(|argument| {
        let Some(text) = argument.to_str().filter(|_| !literal) else { return Some(argument) };
        literal = text == "--";
        let Some((name, value)) = text.strip_prefix("--").and_then(|text| text.split_once('=')) else {
            return Some(argument);
        };
        match value {
            "true" if switches.contains(name) => Some(format!("--{name}").into()),
            "false" if switches.contains(name) => None,
            _ => Some(argument),
        }
    });
    plain.collect()
}

fn collect_switches(command: &clap::Command, into: &mut HashSet<String>) {
    for argument in command.get_arguments().filter(|argument| matches!(argument.get_action(), ArgAction::SetTrue)) {
        into.extend(argument.get_long().map(str::to_owned));
    }
    command.get_subcommands().for_each(|command| collect_switches(command, into));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_may_have_a_value() {
        let command = crate::cli::Cli::command();
        let kubectl = command.find_subcommand("kubectl").expect("it is there");
        let plain = |line: &[&str]| -> Vec<String> {
            let plain = plain_flags(line.iter().map(OsString::from).collect(), kubectl);
            plain.into_iter().map(|argument| argument.into_string().expect("text")).collect()
        };
        assert_eq!(plain(&["get", "pods", "--watch=true", "--no-headers=false"]), ["get", "pods", "--watch"]);
        assert_eq!(
            plain(&["delete", "--wait=false", "--", "--all=true"]),
            ["delete", "--wait=false", "--", "--all=true"]
        );
    }
}
