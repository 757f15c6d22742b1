//! House rules: imports go down only, files stay small, names say something.

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms from top to bottom; rooms in one row are siblings and never import each other.
const ROOMS: &[&[&str]] = &[
    &["cli"],
    &["cluster"],
    &["apiserver", "controllers", "scheduler", "kubelet", "container", "proxy", "dns"],
    &["runtime"],
    &["resources"],
    &["cel"],
    &["schema"],
    &["storage"],
    &["client"],
    &["net"],
    &["api"],
];

const HARD_BUDGET: usize = 800;

const EMPTY_NAMES: &[&str] =
    &["util", "utils", "common", "helper", "helpers", "manager", "managers", "misc", "type", "types"];

fn sources() -> Vec<PathBuf> {
    fn walk(directory: &Path, out: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).expect("src is readable") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                out.push(path.clone());
                walk(&path, out);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                out.push(path);
            }
        }
    }
    let mut out = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut out);
    assert!(out.len() > 20, "the walk found the tree");
    out
}

fn relative(path: &Path) -> String {
    path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).expect("below src").display().to_string()
}

/// The code of a file: without its unit tests, comments and blank lines.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n#[cfg(test)]")
        .next()
        .unwrap_or_default()
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("//"))
}

fn row(room: &str) -> Option<usize> {
    ROOMS.iter().position(|rooms| rooms.contains(&room))
}

#[test]
fn imports_go_down() {
    let mut wrong = Vec::new();
    for path in sources().iter().filter(|path| path.is_file()) {
        let name = relative(path);
        let Some((room, _)) = name.split_once('/') else { continue };
        let Some(own) = row(room) else {
            wrong.push(format!("{name}: room {room} is not in the map"));
            continue;
        };
        let text = fs::read_to_string(path).expect("readable");
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for rest in line.split("crate::").skip(1) {
                let target: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if target == room {
                    continue;
                }
                if row(&target).is_some_and(|target_row| target_row <= own) {
                    wrong.push(format!("{name}: imports {target}, which is not below {room}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "imports go down only:\n{}", wrong.join("\n"));
}

#[test]
fn files_stay_within_their_budget() {
    let mut wrong = Vec::new();
    for path in sources().iter().filter(|path| path.is_file()) {
        let text = fs::read_to_string(path).expect("readable");
        let lines = code(&text).count();
        if lines > HARD_BUDGET {
            wrong.push(format!("{}: {lines} lines of code, {HARD_BUDGET} are allowed", relative(path)));
        }
    }
    assert!(wrong.is_empty(), "split these:\n{}", wrong.join("\n"));
}

#[test]
fn names_say_something() {
    let wrong: Vec<String> = sources()
        .iter()
        .filter(|path| path.file_stem().and_then(|stem| stem.to_str()).is_some_and(|stem| EMPTY_NAMES.contains(&stem)))
        .map(|path| relative(path))
        .collect();
    assert!(wrong.is_empty(), "names that say nothing: {wrong:?}");
}

#[test]
fn modules_have_a_header() {
    let mut wrong = Vec::new();
    for path in sources().iter().filter(|path| path.is_file()) {
        let text = fs::read_to_string(path).expect("readable");
        let header = text.lines().take_while(|line| line.starts_with("//!")).count();
        if header == 0 {
            wrong.push(relative(path));
        }
    }
    assert!(wrong.is_empty(), "no //! header: {wrong:?}");
}
