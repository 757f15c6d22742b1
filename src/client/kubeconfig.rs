//! Kubeconfig files, as kubectl reads them: several documents and several files become one, and the
//! paths in a file are relative to it.
//!
//! YAML becomes JSON first: typed readers for both would cost the binary more than they are worth.

use crate::api::yaml;
use anyhow::Context;
use kube::config::Kubeconfig;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Where paths are, below `clusters` and `users`.
const PATHS: &[(&str, &str)] = &[
    ("clusters", "/cluster/certificate-authority"),
    ("users", "/user/client-certificate"),
    ("users", "/user/client-key"),
    ("users", "/user/tokenFile"),
];
const COMMAND: &str = "/user/exec/command";

/// A kubeconfig file.
pub fn read(path: &Path) -> anyhow::Result<Kubeconfig> {
    let read = || {
        let directory = std::path::absolute(path)?.parent().unwrap_or(Path::new("/")).to_owned();
        parse(&std::fs::read_to_string(path)?, &directory)
    };
    read().with_context(|| format!("read kubeconfig {}", path.display()))
}

/// The files that `$KUBECONFIG` names, merged; those that do not exist are left out. None: it names none.
pub fn from_env() -> anyhow::Result<Option<Kubeconfig>> {
    let Some(list) = std::env::var_os("KUBECONFIG") else { return Ok(None) };
    let paths: Vec<PathBuf> = std::env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()).collect();
    match paths.as_slice() {
        [] => return Ok(None),
        [one] => return read(one).map(Some),
        _ => {}
    }
    let files = paths.iter().filter(|path| path.exists()).map(|path| read(path));
    merge(files).map(Some)
}

/// The text of a file in `directory`.
pub fn parse(text: &str, directory: &Path) -> anyhow::Result<Kubeconfig> {
    let documents = yaml::read::documents(text).map_err(anyhow::Error::msg)?;
    merge(documents.into_iter().filter(|document| !document.is_null()).map(|mut document| {
        resolve(&mut document, directory);
        Ok(serde_json::from_str(&document.to_string())?)
    }))
}

/// What comes first counts.
fn merge(all: impl Iterator<Item = anyhow::Result<Kubeconfig>>) -> anyhow::Result<Kubeconfig> {
    let mut merged = Kubeconfig::default();
    for one in all {
        merged = merged.merge(one?)?;
    }
    Ok(merged)
}

fn resolve(document: &mut Value, directory: &Path) {
    let absolute = |value: &mut Value| {
        if let Some(path) = value.as_str().filter(|path| !path.is_empty()) {
            *value = directory.join(path).to_string_lossy().into_owned().into();
        }
    };
    for (list, pointer) in PATHS {
        let entries = document.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        entries.filter_map(|entry| entry.pointer_mut(pointer)).for_each(absolute);
    }
    // A command without a slash is looked up in $PATH.
    let users = document.get_mut("users").and_then(Value::as_array_mut).into_iter().flatten();
    let commands = users.filter_map(|user| user.pointer_mut(COMMAND));
    commands.filter(|command| command.as_str().is_some_and(|command| command.contains('/'))).for_each(absolute);
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r"
apiVersion: v1
kind: Config
current-context: a
clusters: [{name: c, cluster: {server: 'https://x', certificate-authority: ca.crt}}]
contexts: [{name: a, context: {cluster: c, user: u}}]
---
apiVersion: v1
kind: Config
current-context: b
users:
- {name: u, user: {client-certificate: /etc/u.crt, client-key: keys/u.key, tokenFile: token, exec: {command: ./login}}}
- {name: v, user: {exec: {command: login}}}
";

    #[test]
    fn paths_are_relative_to_the_file_and_documents_are_one() {
        let config = parse(FILE, Path::new("/home/u")).expect("a kubeconfig");
        assert_eq!(config.current_context.as_deref(), Some("a"));
        let cluster = config.clusters[0].cluster.as_ref().expect("a cluster");
        assert_eq!(cluster.certificate_authority.as_deref(), Some("/home/u/ca.crt"));
        let user = |at: usize| config.auth_infos[at].auth_info.as_ref().expect("a user");
        assert_eq!(user(0).client_certificate.as_deref(), Some("/etc/u.crt"));
        assert_eq!(user(0).client_key.as_deref(), Some("/home/u/keys/u.key"));
        assert_eq!(user(0).token_file.as_deref(), Some("/home/u/token"));
        let command = |at: usize| user(at).exec.as_ref().and_then(|exec| exec.command.as_deref());
        assert_eq!((command(0), command(1)), (Some("/home/u/./login"), Some("login")));
    }

    #[test]
    fn what_is_no_kubeconfig_is_refused() {
        assert!(parse("clusters: 5", Path::new("/")).is_err());
        assert!(parse("", Path::new("/")).expect("an empty one").clusters.is_empty());
    }
}
