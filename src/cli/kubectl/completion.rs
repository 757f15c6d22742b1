//! `kubectl completion`: the completion script of a shell.

use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Run, Verb};
use super::session::Terminal;
use clap_complete::Shell;
use std::sync::Arc;

pub(super) const VERB: Verb = Verb {
    name: "completion",
    about: "Print the completion script of a shell",
    usage: "kubectl completion SHELL",
    run: Run::Here(|arguments, _, terminal| Box::pin(run(arguments, terminal))),
    ..Verb::DEFAULT
};

async fn run(arguments: &Arguments, terminal: &Arc<Terminal>) -> Outcome<()> {
    let words = arguments.words();
    let shell = match words.as_slice() {
        [] => return Err(arguments.usage("Shell not specified.")),
        [shell] => shell,
        _ => return Err(arguments.usage("Too many arguments. Expected only the shell type.")),
    };
    let wrong = |_: String| arguments.usage(format!("Unsupported shell type {shell:?}."));
    let shell: Shell = shell.parse().map_err(wrong)?;
    let mut script = Vec::new();
    let mut command = <super::Args as clap::Args>::augment_args(clap::Command::new("kubectl"));
    clap_complete::generate(shell, &mut command, "kubectl", &mut script);
    let script = String::from_utf8(script).map_err(|error| Failure::Local(error.into()))?;
    terminal.print(&script).await
}
