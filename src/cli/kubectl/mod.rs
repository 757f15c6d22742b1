//! `orch kubectl`: kubectl's verbs, flags and output, so that a box needs no second binary.
//!
//! To add a verb: one file with its [`Verb`] (flags as a table, and what it runs), one row in
//! [`VERBS`]. A verb finds out what is meant ([`objects`], [`manifest`]), asks the server
//! ([`session`]), changes ([`changes`]) and prints ([`output`]); it knows no kinds. Those that only
//! know some kinds keep them in a table (`describe`, `create`). Errors are kubectl's own
//! ([`failure`]), the exit code is 1.

mod address;
mod annotate;
mod api_resources;
mod api_versions;
mod apply;
mod attach;
mod auth;
mod autoscale;
mod certificate;
mod changes;
mod cluster_info;
mod completion;
mod config;
mod content_hash;
mod cordon;
mod cp;
mod create;
mod debug;
mod delete;
mod describe;
mod diff;
mod discovery;
mod drain;
mod edit;
mod events;
mod exec;
mod explain;
mod expose;
mod failure;
mod flags;
mod following;
mod get;
mod kustomize;
mod label;
mod last_applied;
mod logs;
mod manifest;
mod marks;
mod objects;
mod options;
mod output;
mod pairs;
mod patch;
mod plugin;
mod pod_specs;
mod pods;
mod port_forward;
mod process;
mod proxy;
mod replace;
mod rollout;
mod run;
mod scale;
mod session;
mod set;
mod sort;
mod suffix;
mod suggestions;
mod tab_writer;
mod taint;
mod targets;
mod top;
mod version;
mod wait;

pub use failure::{Failure, Outcome};
pub use session::{Session, Streams};

use anyhow::{Context, Result};
use clap::{ArgMatches, Command, FromArgMatches};
use flags::{Arguments, Run, Verb};
use session::Terminal;
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

/// In kubectl's order: of help, and of what may have been meant.
const VERBS: &[&Verb] = &[
    &create::VERB,
    &expose::VERB,
    &run::VERB,
    &set::VERB,
    &explain::VERB,
    &get::VERB,
    &edit::VERB,
    &delete::VERB,
    &rollout::VERB,
    &scale::VERB,
    &autoscale::VERB,
    &certificate::VERB,
    &cluster_info::VERB,
    &top::VERB,
    &cordon::CORDON,
    &cordon::UNCORDON,
    &drain::VERB,
    &taint::VERB,
    &describe::VERB,
    &logs::VERB,
    &attach::VERB,
    &exec::VERB,
    &port_forward::VERB,
    &proxy::VERB,
    &cp::VERB,
    &auth::VERB,
    &debug::VERB,
    &events::VERB,
    &diff::VERB,
    &apply::VERB,
    &patch::VERB,
    &replace::VERB,
    &wait::VERB,
    &kustomize::VERB,
    &label::VERB,
    &annotate::VERB,
    &completion::VERB,
    &config::VERB,
    &plugin::VERB,
    &version::VERB,
    &api_versions::VERB,
    &api_resources::VERB,
    &options::VERB,
];

/// A command line behind `orch kubectl`.
pub(super) struct Args(ArgMatches);

impl clap::Args for Args {
    fn augment_args(command: Command) -> Command {
        static GROUP: Verb = Verb { verbs: VERBS, ..Verb::DEFAULT };
        GROUP.extend(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Args {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(matches.clone()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0 = matches.clone();
        Ok(())
    }
}

pub(super) fn run(args: Args) -> Result<ExitCode> {
    // Fails only where there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let result = runtime.block_on(async {
        let (verb, arguments, connection) = Arguments::of(VERBS, &args.0)?;
        let terminal = Arc::new(Terminal::new(Streams::of_process()));
        match verb.run {
            Run::Cluster(run) => {
                let session = connection.connect(terminal).await?;
                run(&arguments, &session).await?;
                session.count_warnings(&connection)
            }
            Run::Here(run) => run(&arguments, &connection, &terminal).await,
            Run::Group => Err(arguments.usage("a verb is needed")),
        }
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
    let command = <Args as clap::Args>::augment_args(Command::new("kubectl").no_binary_name(true));
    let matches =
        command.try_get_matches_from(arguments).map_err(|error| wrong_line(&error, arguments.iter().copied()))?;
    let (verb, arguments, connection) = Arguments::of(VERBS, &matches)?;
    match verb.run {
        Run::Cluster(run) => run(&arguments, session).await,
        Run::Here(run) => run(&arguments, &connection, &session.terminal).await,
        Run::Group => Err(arguments.usage("a verb is needed")),
    }
}

/// What is said of a command line that does not parse, in kubectl's words; None: clap's own, which
/// is help or nothing that kubectl knows.
pub(super) fn refusal(error: &clap::Error, arguments: &[OsString]) -> Option<String> {
    use clap::error::ErrorKind::{
        DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion, MissingSubcommand,
    };
    if matches!(
        error.kind(),
        DisplayHelp | DisplayVersion | DisplayHelpOnMissingArgumentOrSubcommand | MissingSubcommand
    ) {
        return None;
    }
    let mut words = arguments.iter().filter_map(|argument| argument.to_str());
    let verb = words.nth(2).unwrap_or_default();
    let known = VERBS.iter().any(|known| known.name == verb || known.aliases.contains(&verb));
    if !verb.is_empty()
        && !verb.starts_with('-')
        && !known
        && let Some(failure) = plugin::run(&arguments[2..])
    {
        return Some(failure.to_string());
    }
    let words = arguments.iter().filter_map(|argument| argument.to_str());
    Some(wrong_line(error, words.skip(2)).to_string())
}

fn wrong_line<'a>(error: &clap::Error, words: impl Iterator<Item = &'a str>) -> Failure {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    let (mut path, mut verbs) = ("kubectl".to_owned(), VERBS);
    let mut last = "";
    for word in words {
        last = word;
        if let Some(verb) = verbs.iter().find(|verb| verb.name == word || verb.aliases.contains(&word)) {
            path = format!("{path} {}", verb.name);
            verbs = verb.verbs;
        }
    }
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let argument = context(ContextKind::InvalidArg);
    let flag = argument.split([' ', '=']).next().unwrap_or_default();
    let text = match error.kind() {
        ErrorKind::UnknownArgument if !flag.starts_with('-') => return unknown(&path, flag),
        ErrorKind::UnknownArgument if flag.starts_with("--") => format!("unknown flag: {flag}"),
        ErrorKind::UnknownArgument => {
            format!("unknown shorthand flag: '{0}' in -{0}", flag.trim_start_matches('-'))
        }
        ErrorKind::InvalidSubcommand => return unknown(&path, context(ContextKind::InvalidSubcommand)),
        ErrorKind::InvalidValue | ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues | ErrorKind::NoEquals => {
            match last.strip_prefix('-').filter(|short| !short.starts_with('-')).and_then(|short| short.chars().last())
            {
                Some(short) => format!("flag needs an argument: '{short}' in {last}"),
                None => format!("flag needs an argument: {flag}"),
            }
        }
        _ => error.to_string().trim_start_matches("error: ").trim_end().to_owned(),
    };
    Failure::local(format!("{text}\nSee '{path} --help' for usage."))
}

fn unknown(path: &str, word: &str) -> Failure {
    Failure::local(match path {
        "kubectl" => format!("unknown command {word:?} for {path:?}{}", suggestions::of(word, VERBS)),
        path => format!("unknown command {word:?}\nSee '{path} -h' for help and examples"),
    })
}
