//! The config file: `key: value` for each flag, as k3s users know it.
//!
//! `/etc/orch/config.yaml`, then `config.yaml.d/*.yaml` in name order. A later file replaces a
//! key; `key+` appends to it. The command line wins over all of them. `server` and `agent` read it;
//! keys of the other command are skipped, unknown ones are an error that names the file. Commands
//! that work on the same directories ([`FOLLOWERS`]) take these from it.

use super::Cli;
use crate::api::yaml;
use anyhow::{Context, Result, anyhow, bail};
use clap::CommandFactory;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

const DEFAULT_PATH: &str = "/etc/orch/config.yaml";
const PATH_VARIABLE: &str = "ORCH_CONFIG_FILE";

/// Commands that find a server or a node where its config file says that it is.
const FOLLOWERS: &[&str] = &["ctr", "token", "snapshot", "check-config", "killall", "uninstall"];
/// What such a command calls otherwise.
const OTHER_NAMES: &[(&str, &str)] = &[("write-kubeconfig", "kubeconfig"), ("snapshot-dir", "dir")];

/// A config file is no bigger than this: bytes.
const LIMIT: u64 = 1 << 20;

/// The settings of all files: flag name to values, and the file that said it last.
type Settings = BTreeMap<String, (Vec<String>, PathBuf)>;

/// A command line, and which file each flag is from that nobody typed.
#[derive(Debug, Default)]
pub(super) struct Merged {
    pub(super) arguments: Vec<OsString>,
    origins: Vec<(String, PathBuf)>,
}

impl Merged {
    /// A line for each flag of a file that an error speaks of.
    pub(super) fn origins_in(&self, error: &str) -> String {
        let ends = |rest: &str| !rest.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '-');
        let named = |flag: &str| error.match_indices(flag).any(|(at, _)| ends(&error[at + flag.len()..]));
        let told = self.origins.iter().filter(|(flag, _)| named(flag));
        told.map(|(flag, file)| format!("  {flag} is set in {}\n", file.display())).collect()
    }
}

/// The command line with the files' settings inserted behind the command.
pub(super) fn merge(arguments: Vec<OsString>) -> Result<Merged> {
    let cli = Cli::command();
    let typed = arguments.get(1).and_then(|name| name.to_str());
    let Some(own) = typed.and_then(|name| cli.find_subcommand(name)) else {
        return Ok(Merged { arguments, origins: Vec::new() });
    };
    let command = own.get_name().to_owned();
    let follows = FOLLOWERS.contains(&command.as_str());
    if !follows && !matches!(command.as_str(), "server" | "agent") {
        return Ok(Merged { arguments, origins: Vec::new() });
    }
    let given: Vec<String> = arguments[2..].iter().filter_map(|argument| flag_name(argument.to_str()?, own)).collect();
    let (path, required) = path(if follows { &[] } else { &arguments[2..] });
    let settings = match read(&path, required) {
        // Who is not root may still work with a cluster by a kubeconfig of one's own.
        Err(error) if follows && is_denied(&error) => Settings::new(),
        settings => settings?,
    };
    let mut merged = Merged { arguments: arguments[..2].to_vec(), origins: Vec::new() };
    for (argument, file) in as_arguments(&command, &settings, &given)? {
        let flag = argument.split('=').next().unwrap_or_default().to_owned();
        merged.arguments.push(argument.into());
        merged.origins.push((flag, file));
    }
    merged.origins.dedup();
    merged.arguments.extend_from_slice(&arguments[2..]);
    Ok(merged)
}

fn is_denied(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    causes.any(|cause| cause.kind() == std::io::ErrorKind::PermissionDenied)
}

/// A command's flag by its long name or another one.
fn find_flag<'a>(command: &'a clap::Command, name: &str) -> Option<&'a clap::Arg> {
    command.get_arguments().find(|flag| {
        flag.get_long() == Some(name) || flag.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
    })
}

/// The long name of the flag that an argument gives: `--data-dir=x`, `-d`.
fn flag_name(argument: &str, command: &clap::Command) -> Option<String> {
    let flag = match argument.strip_prefix("--") {
        Some(name) => find_flag(command, name.split('=').next().unwrap_or(name)),
        None => {
            let short = argument.strip_prefix('-')?.chars().next()?;
            command.get_arguments().find(|flag| flag.get_short() == Some(short))
        }
    };
    flag?.get_long().map(str::to_owned)
}

/// Where the config file is, and whether the user named it (then it must exist).
fn path(arguments: &[OsString]) -> (PathBuf, bool) {
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let Some(text) = argument.to_str() else { continue };
        if let Some(path) = text.strip_prefix("--config=") {
            return (path.into(), true);
        }
        if (text == "--config" || text == "-c")
            && let Some(path) = arguments.next()
        {
            return (path.into(), true);
        }
    }
    match std::env::var_os(PATH_VARIABLE) {
        Some(path) => (path.into(), true),
        None => (DEFAULT_PATH.into(), false),
    }
}

fn read(path: &Path, required: bool) -> Result<Settings> {
    let mut settings = Settings::new();
    if required || path.exists() {
        read_file(path, &mut settings)?;
    }
    let mut directory = path.as_os_str().to_owned();
    directory.push(".d");
    let directory = PathBuf::from(directory);
    if directory.is_dir() {
        let entries = fs::read_dir(&directory).with_context(|| format!("read {}", directory.display()))?;
        let mut files = Vec::new();
        for entry in entries {
            let file = entry.with_context(|| format!("read {}", directory.display()))?.path();
            if file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
                files.push(file);
            }
        }
        files.sort();
        for file in files {
            read_file(&file, &mut settings)?;
        }
    }
    Ok(settings)
}

fn read_file(path: &Path, settings: &mut Settings) -> Result<()> {
    let size = fs::metadata(path).with_context(|| format!("read config file {}", path.display()))?.len();
    if size > LIMIT {
        bail!("config file {}: {size} bytes, at most {LIMIT} are allowed", path.display());
    }
    let text = fs::read_to_string(path).with_context(|| format!("read config file {}", path.display()))?;
    let entries = yaml::read::literals(&text).map_err(|error| anyhow!("config file {}: {error}", path.display()))?;
    for (key, values) in entries {
        let (name, append) = match key.strip_suffix('+') {
            Some(name) => (name.to_owned(), true),
            None => (key, false),
        };
        let slot = settings.entry(name).or_insert_with(|| (Vec::new(), path.to_owned()));
        if !append {
            slot.0.clear();
        }
        slot.0.extend(values);
        slot.1 = path.to_owned();
    }
    Ok(())
}

/// `--flag=value` for each setting that the command knows and the command line does not give.
fn as_arguments(command: &str, settings: &Settings, given: &[String]) -> Result<Vec<(String, PathBuf)>> {
    let cli = Cli::command();
    let knows = |command: &str, name: &str| find_flag(cli.find_subcommand(command)?, name);
    let mut arguments = Vec::new();
    for (name, (values, file)) in settings {
        let renamed = OTHER_NAMES.iter().find(|(key, own)| key == name && knows(command, own).is_some());
        let name = match renamed {
            // A variable of the environment is nearer than a file.
            Some((_, "kubeconfig")) if std::env::var_os("KUBECONFIG").is_some() => continue,
            Some((_, own)) => &(*own).to_owned(),
            None => name,
        };
        let Some(flag) = knows(command, name) else {
            if knows("server", name).is_some() || knows("agent", name).is_some() {
                continue;
            }
            bail!(
                "config file {}: unknown key {name:?}; keys are the flags of \"orch {command} --help\" without dashes",
                file.display()
            );
        };
        if given.iter().any(|given| flag.get_long() == Some(given)) {
            continue;
        }
        // Errors speak of a flag by its own name.
        let name = flag.get_long().unwrap_or(name);
        let takes_value = flag.get_action().takes_values();
        for value in values {
            match (takes_value, value.as_str()) {
                (true, value) => arguments.push((format!("--{name}={value}"), file.clone())),
                (false, "true" | "yes" | "on") => arguments.push((format!("--{name}"), file.clone())),
                (false, "false" | "no" | "off") => {}
                (false, other) => bail!("config file {}: {name}: {other:?} is not true or false", file.display()),
            }
        }
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(files: &[(&str, &str)], line: &[&str]) -> Result<Vec<String>> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("config.yaml");
        fs::create_dir(directory.path().join("config.yaml.d"))?;
        for (name, text) in files {
            fs::write(directory.path().join(name), text)?;
        }
        let mut arguments: Vec<OsString> = vec!["orch".into(), line[0].into(), "--config".into(), path.into()];
        arguments.extend(line[1..].iter().map(OsString::from));
        let merged = merge(arguments)?;
        let own = merged.arguments.iter().filter_map(|argument| argument.to_str()).map(ToOwned::to_owned);
        Ok(own.filter(|argument| argument.starts_with("--") && argument != "--config").collect())
    }

    #[test]
    fn later_files_replace_and_plus_appends() {
        let files = [
            ("config.yaml", "node-label: [a=1]\ncluster-cidr: 10.1.0.0/16\ndisable-agent: true\n"),
            ("config.yaml.d/10.yaml", "node-label+: [b=2]\n"),
            ("config.yaml.d/20.yaml", "cluster-cidr: 10.2.0.0/16\n"),
        ];
        let arguments = merged(&files, &["server"]).unwrap();
        assert_eq!(
            arguments,
            ["--cluster-cidr=10.2.0.0/16", "--disable-agent", "--node-label=a=1", "--node-label=b=2"]
        );
    }

    #[test]
    fn the_command_line_wins() {
        let files = [("config.yaml", "node-label: [a=1]\n")];
        assert_eq!(merged(&files, &["server", "--node-label=z=9"]).unwrap(), ["--node-label=z=9"]);
        let files = [("config.yaml", "data-dir: /srv\ndisable-agent: true\n")];
        assert_eq!(merged(&files, &["server", "-d", "/other"]).unwrap(), ["--disable-agent"]);
    }

    #[test]
    fn an_unknown_key_names_the_file_and_the_mend() {
        let error = merged(&[("config.yaml", "clutser-cidr: 10.1.0.0/16\n")], &["server"]).unwrap_err().to_string();
        assert!(error.contains("config.yaml: unknown key \"clutser-cidr\""), "{error}");
        assert!(error.contains("orch server --help"), "{error}");
    }

    #[test]
    fn values_are_the_texts_that_are_written() {
        let files = [("config.yaml", "write-kubeconfig-mode: 0644\ntoken: 00123\ndisable-agent: yes\n")];
        assert_eq!(
            merged(&files, &["server"]).unwrap(),
            ["--disable-agent", "--token=00123", "--write-kubeconfig-mode=0644"]
        );
        let twice = merged(&[("config.yaml", "disable-agent: true\ntoken: a\ntoken: b\n")], &["server"]).unwrap_err();
        let (file, error) = twice.to_string().split_once(": ").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        assert!(file.ends_with("/config.yaml"), "{file}");
        assert_eq!(error, "token is there twice, again at line 3, column 1");
    }

    #[test]
    fn an_error_of_a_flag_names_the_file_that_sets_it() {
        let origin = |flag: &str| (flag.to_owned(), PathBuf::from("/etc/orch/config.yaml"));
        let merged = Merged { arguments: Vec::new(), origins: vec![origin("--token"), origin("--node-label")] };
        let line = "  --node-label is set in /etc/orch/config.yaml\n";
        assert_eq!(merged.origins_in("--node-label a b=c: no"), line);
        assert_eq!(merged.origins_in("invalid value 'x' for '--node-label <KEY=VALUE>': y"), line);
        assert_eq!(merged.origins_in("--token-file x: --node-labels"), "");
    }

    #[test]
    fn keys_of_the_server_are_skipped_by_the_agent() {
        assert!(merged(&[("config.yaml", "cluster-cidr: 10.1.0.0/16\n")], &["agent"]).unwrap().is_empty());
    }

    #[test]
    fn commands_find_the_server_where_its_file_says() {
        let settings = Settings::from(
            [("data-dir", "/srv/orch"), ("write-kubeconfig", "/srv/k"), ("cluster-cidr", "10.1.0.0/16")]
                .map(|(key, value)| (key.to_owned(), (vec![value.to_owned()], PathBuf::new()))),
        );
        let of = |command: &str, given: &[String]| {
            let all = as_arguments(command, &settings, given).expect("arguments");
            all.into_iter().map(|(argument, _)| argument).collect::<Vec<_>>()
        };
        assert_eq!(of("killall", &[]), ["--data-dir=/srv/orch"]);
        assert_eq!(of("killall", &["data-dir".to_owned()]), Vec::<String>::new());
        assert_eq!(of("ctr", &[]), Vec::<String>::new());
        if std::env::var_os("KUBECONFIG").is_none() {
            assert_eq!(of("token", &[]), ["--data-dir=/srv/orch", "--kubeconfig=/srv/k"]);
        }
        let settings =
            Settings::from([("etcd-snapshot-dir".to_owned(), (vec!["/snapshots".to_owned()], PathBuf::new()))]);
        let of = |given: &[String]| as_arguments("snapshot", &settings, given).expect("arguments");
        assert_eq!(of(&[]), [("--dir=/snapshots".to_owned(), PathBuf::new())]);
        assert!(of(&["dir".to_owned()]).is_empty());
    }

    #[test]
    fn a_file_that_is_no_map_and_one_that_is_missing_are_errors() {
        assert!(merged(&[("config.yaml", "- a\n")], &["server"]).unwrap_err().to_string().contains("must be a map"));
        assert!(format!("{:#}", merged(&[], &["server"]).unwrap_err()).contains("read config file"));
    }
}
