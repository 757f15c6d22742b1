//! Plugins: programs on `$PATH` whose names begin with `kubectl-`. `kubectl foo bar` runs
//! `kubectl-foo-bar`, or `kubectl-foo` with `bar`, where kubectl itself has no such verb.

use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Run, Verb, switch};
use super::session::Terminal;
use crate::api::field::go_quote;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) const VERB: Verb =
    Verb { name: "plugin", about: "Show plugins", usage: "kubectl plugin list", verbs: &[&LIST], ..Verb::DEFAULT };

const LIST: Verb = Verb {
    name: "list",
    about: "Show the plugins on the path",
    usage: "kubectl plugin list",
    flags: &[&[switch("name-only", "Show names, and no paths")]],
    run: Run::Here(|arguments, _, terminal| Box::pin(list(arguments, terminal))),
    ..Verb::DEFAULT
};

const PREFIX: &str = "kubectl-";

async fn list(arguments: &Arguments, terminal: &Arc<Terminal>) -> Outcome<()> {
    let mut seen: Vec<PathBuf> = Vec::new();
    let mut warnings = 0;
    for directory in path() {
        let Ok(read) = std::fs::read_dir(&directory) else { continue };
        let mut files: Vec<PathBuf> = read.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.retain(|file| name(file).starts_with(PREFIX) && !file.is_dir());
        files.sort();
        for file in files {
            if seen.is_empty() {
                terminal.print("The following compatible plugins are available:\n\n").await?;
            }
            let name = name(&file);
            let shown = if arguments.on("name-only") { name.clone() } else { file.display().to_string() };
            terminal.print(&format!("{shown}\n")).await?;
            for problem in problems(&file, &name, &seen) {
                warnings += 1;
                terminal.say(&format!("  - warning: {problem}")).await?;
            }
            seen.push(file);
        }
    }
    match (seen.len(), warnings) {
        (0, _) => Err(Failure::local("unable to find any kubectl plugins in your PATH")),
        (_, 0) => Ok(()),
        (_, 1) => Err(Failure::local("one plugin warning was found")),
        (_, count) => Err(Failure::local(format!("{count} plugin warnings were found"))),
    }
}

fn path() -> Vec<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect()
}

fn name(file: &Path) -> String {
    file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn is_program(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

fn problems(file: &Path, name: &str, seen: &[PathBuf]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut verbs = super::VERBS;
    let mut command = "kubectl".to_owned();
    for word in name.split('-').skip(1) {
        let Some(verb) = verbs.iter().find(|verb| verb.name == word) else { break };
        command = format!("{command} {word}");
        verbs = verb.verbs;
    }
    if command != "kubectl" {
        problems.push(format!("{name} overwrites existing command: {}", go_quote(&command)));
    }
    if !is_program(file) {
        problems.push(format!("{} identified as a kubectl plugin, but it is not executable", file.display()));
    } else if let Some(first) = seen.iter().find(|other| self::name(other) == name) {
        problems.push(format!("{} is overshadowed by a similarly named plugin: {}", file.display(), first.display()));
    }
    problems
}

/// Become the plugin that the words mean; returns only where there is none, or it does not start.
pub(super) fn run(words: &[OsString]) -> Option<Failure> {
    let texts: Vec<String> = words
        .iter()
        .map_while(|word| word.to_str().filter(|word| !word.starts_with('-')))
        .map(|word| word.replace('-', "_"))
        .collect();
    let directories = path();
    for count in (1..=texts.len()).rev() {
        let name = format!("{PREFIX}{}", texts[..count].join("-"));
        if let Some(file) = directories.iter().map(|directory| directory.join(&name)).find(|file| is_program(file)) {
            let error = std::process::Command::new(&file).args(&words[count..]).exec();
            return Some(Failure::local(format!("{}: {error}", file.display())));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_of_plugins_are_told() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("kubectl-create-role-x");
        std::fs::write(&file, "").expect("written");
        let said = problems(&file, "kubectl-create-role-x", &[]);
        assert_eq!(said[0], "kubectl-create-role-x overwrites existing command: \"kubectl create role\"");
        assert!(said[1].ends_with("identified as a kubectl plugin, but it is not executable"));
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).expect("changed");
        assert!(problems(&file, "kubectl-foo", &[]).is_empty());
        assert!(run(&["no-such-plugin".into()]).is_none());
    }
}
