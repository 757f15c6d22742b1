//! What goes into a ConfigMap or a Secret: `--from-literal`, `--from-file`, `--from-env-file`.

use crate::api::field::go_quote;
use crate::api::names;
use crate::cli::kubectl::failure::{Failure, Outcome};
use crate::cli::kubectl::flags::{Arguments, Flag, array, slice, switch};
use std::io::ErrorKind;
use std::path::Path;

/// What can be read.
pub const FLAGS: &[Flag] = &[
    slice("from-file", "[KEY=]FILE", "File whose content is a value; its name is the key, or the files of a directory"),
    array("from-literal", "KEY=VALUE", "A key and its value"),
    slice("from-env-file", "FILE", "File with lines KEY=VALUE"),
    switch("append-hash", "Append a hash of the content to the name"),
];

/// A key and its value.
pub type Entry = (String, Vec<u8>);

/// What the flags say, in their order.
pub fn read(arguments: &Arguments) -> Outcome<Vec<Entry>> {
    let (files, literals, env_files) =
        (arguments.list("from-file"), arguments.list("from-literal"), arguments.list("from-env-file"));
    if !env_files.is_empty() && !(files.is_empty() && literals.is_empty()) {
        return Err(Failure::local("from-env-file cannot be combined with from-file or from-literal"));
    }
    let mut entries = Vec::new();
    for file in &files {
        from_file(file, Path::new(""), &mut entries)?;
    }
    for literal in &literals {
        entries.push(from_literal(literal)?);
    }
    for file in &env_files {
        from_env_file(file, Path::new(""), &mut entries)?;
    }
    Ok(entries)
}

/// `key=value`; quotes around the value go.
pub fn from_literal(text: &str) -> Outcome<Entry> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => {
            Ok((key.to_owned(), value.trim_matches(['"', '\'']).as_bytes().to_vec()))
        }
        _ => Err(Failure::local(format!("invalid literal source {text}, expected key=value"))),
    }
}

/// `path` or `key=path`, below a directory.
pub fn from_file(text: &str, below: &Path, out: &mut Vec<Entry>) -> Outcome<()> {
    let (key, path) = match text.split('=').collect::<Vec<_>>().as_slice() {
        [path] => (path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned(), *path),
        ["", path] => return Err(Failure::local(format!("key name for file path {path} missing"))),
        [key, ""] => return Err(Failure::local(format!("file path for key name {key} missing"))),
        [key, path] => ((*key).to_owned(), *path),
        _ => return Err(Failure::local("key names or file paths cannot contain '='")),
    };
    let whole = below.join(path);
    let metadata = std::fs::metadata(&whole).map_err(|error| unreadable(path, &error))?;
    if !metadata.is_dir() {
        out.push((key, read_file(&whole)?));
        return Ok(());
    }
    if text.contains('=') {
        return Err(Failure::local("cannot give a key name for a directory path"));
    }
    let listed = std::fs::read_dir(&whole).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut entries = listed.map_err(|error| Failure::local(format!("error listing files in {path}: {error}")))?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        if entry.file_type()?.is_file() {
            out.push((entry.file_name().to_string_lossy().into_owned(), read_file(&entry.path())?));
        }
    }
    Ok(())
}

fn read_file(path: &Path) -> Outcome<Vec<u8>> {
    std::fs::read(path).map_err(|error| Failure::local(format!("open {}: {}", path.display(), reason(&error))))
}

fn unreadable(path: &str, error: &std::io::Error) -> Failure {
    Failure::local(format!("error reading {path}: {}", reason(error)))
}

/// As the kernel says it, without the number.
pub fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "no such file or directory".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

/// Lines `KEY=VALUE`; a key alone takes its value from the environment.
pub fn from_env_file(path: &str, below: &Path, out: &mut Vec<Entry>) -> Outcome<()> {
    let whole = below.join(path);
    let metadata = std::fs::metadata(&whole).map_err(|error| unreadable(path, &error))?;
    if metadata.is_dir() {
        return Err(Failure::local("env config file cannot be a directory"));
    }
    let bytes = read_file(&whole)?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let Ok(line) = str::from_utf8(line) else {
            return Err(Failure::local(format!("env file {path} contains invalid utf8 bytes at line {}", at + 1)));
        };
        let line = line.strip_suffix('\r').unwrap_or(line).trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = match line.split_once('=') {
            Some((key, value)) => (key, value.to_owned()),
            None => (line, std::env::var(line).unwrap_or_default()),
        };
        environment_name(key)?;
        out.push((key.to_owned(), value.into_bytes()));
    }
    Ok(())
}

/// kubectl is stricter than the server: letters, digits, `_`, `-` and `.`, no digit first.
pub fn environment_name(name: &str) -> Outcome<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !name.is_empty() && name.chars().all(allowed) && !name.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok(());
    }
    Err(Failure::local(format!(
        "{} is not a valid key name: a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not start with a digit (e.g. 'my.env-name',  or 'MY_ENV.NAME',  or 'MyEnvName1', regex used for validation is '[-._a-zA-Z][-._a-zA-Z0-9]*')",
        go_quote(name)
    )))
}

/// Why a key is none.
pub fn wrong_key(key: &str) -> Option<Vec<String>> {
    let wrong: Vec<String> = names::config_map_key(key).iter().map(ToString::to_string).collect();
    (!wrong.is_empty()).then_some(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_files_are_parted() {
        assert_eq!(from_literal("a=b=c").expect("good"), ("a".to_owned(), b"b=c".to_vec()));
        assert_eq!(from_literal("a=\"b\"").expect("good"), ("a".to_owned(), b"b".to_vec()));
        assert!(from_literal("=b").is_err() && from_literal("a").is_err());
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("one"), "1").expect("written");
        std::fs::write(directory.path().join("env"), "# no\nA=1\r\n\n  B=x=y\n").expect("written");
        let mut entries = Vec::new();
        from_file("key=one", directory.path(), &mut entries).expect("good");
        from_file("one", directory.path(), &mut entries).expect("good");
        from_env_file("env", directory.path(), &mut entries).expect("good");
        let keys: Vec<(&str, &[u8])> = entries.iter().map(|(key, value)| (key.as_str(), value.as_slice())).collect();
        assert_eq!(keys, [("key", b"1".as_slice()), ("one", b"1"), ("A", b"1"), ("B", b"x=y")]);
        let error = from_file("none", directory.path(), &mut entries).expect_err("not there").to_string();
        assert_eq!(error, "error: error reading none: no such file or directory");
        assert!(from_file("a=b=c", directory.path(), &mut entries).is_err());
    }
}
