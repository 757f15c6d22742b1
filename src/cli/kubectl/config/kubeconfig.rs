//! Kubeconfig files as values: read, merged, changed, and written back each to where it came from.
//!
//! The first file that has a name keeps it. What is new goes to the first file that there is.

use crate::api::{Fields, FieldsMut};
use crate::cli::kubectl::failure::{Failure, Outcome};
use crate::cli::kubectl::session::Connection;
use anyhow::Context;
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The lists of a kubeconfig.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entries {
    Clusters,
    Contexts,
    Users,
}

impl Entries {
    pub const ALL: [Self; 3] = [Self::Clusters, Self::Contexts, Self::Users];

    pub fn plural(self) -> &'static str {
        match self {
            Self::Clusters => "clusters",
            Self::Contexts => "contexts",
            Self::Users => "users",
        }
    }

    pub fn singular(self) -> &'static str {
        match self {
            Self::Clusters => "cluster",
            Self::Contexts => "context",
            Self::Users => "user",
        }
    }
}

struct File {
    path: PathBuf,
    content: Value,
    exists: bool,
    changed: bool,
}

pub struct Kubeconfig {
    /// At least one; the first that counts.
    files: Vec<File>,
    /// It was named on the command line.
    pub explicit: bool,
}

impl Kubeconfig {
    pub fn read(connection: &Connection) -> Outcome<Self> {
        let explicit = connection.get("kubeconfig").is_some();
        let mut files = Vec::new();
        for path in connection.files() {
            let (content, exists) = match std::fs::read_to_string(&path) {
                Ok(text) => {
                    let content = crate::schema::yaml::parse(text.as_bytes()).map_err(|error| {
                        Failure::local(format!("error loading config file \"{}\": {error}", path.display()))
                    })?;
                    (content, true)
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => (json!({}), false),
                Err(error) => return Err(anyhow::Error::new(error).context(format!("read {}", path.display())).into()),
            };
            let content = if content.is_object() { content } else { json!({}) };
            files.push(File { path, content, exists, changed: false });
        }
        Ok(Self { files, explicit })
    }

    /// As messages name it.
    pub fn file(&self) -> String {
        self.files[self.home()].path.display().to_string()
    }

    /// Where new entries go.
    fn home(&self) -> usize {
        self.files.iter().position(|file| file.exists).unwrap_or(self.files.len() - 1)
    }

    pub fn current(&self) -> &str {
        let mut names = self.files.iter().map(|file| file.content.str_at("current-context"));
        names.find(|name| !name.is_empty()).unwrap_or_default()
    }

    pub fn set_current(&mut self, name: &str) {
        let home = self.home();
        let at = self.files.iter().position(|file| !file.content.str_at("current-context").is_empty()).unwrap_or(home);
        self.files[at].content.set("current-context", name);
        self.files[at].changed = true;
    }

    /// The entry of this name, without the name.
    pub fn entry(&self, entries: Entries, name: &str) -> Option<&Value> {
        let all = self.files.iter().flat_map(|file| file.content.list_at(entries.plural()));
        let mut named = all.filter(|entry| entry.str_at("name") == name);
        named.next().map(|entry| entry.at(entries.singular()))
    }

    /// All names, sorted.
    pub fn names(&self, entries: Entries) -> Vec<String> {
        let all = self.files.iter().flat_map(|file| file.content.list_at(entries.plural()));
        let mut names: Vec<String> = all.map(|entry| entry.str_at("name").to_owned()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// The file that has the entry.
    fn place(&self, entries: Entries, name: &str) -> Option<usize> {
        let has = |file: &File| file.content.list_at(entries.plural()).iter().any(|entry| entry.str_at("name") == name);
        self.files.iter().position(has)
    }

    /// Where the file is that has the entry, or would have it: paths in it are relative to that.
    pub fn directory(&self, entries: Entries, name: &str) -> PathBuf {
        let at = self.place(entries, name).unwrap_or_else(|| self.home());
        self.files[at].path.parent().unwrap_or(Path::new("")).to_owned()
    }

    /// The entry for change, made where there is none.
    pub fn entry_mut(&mut self, entries: Entries, name: &str) -> &mut Value {
        let at = self.place(entries, name).unwrap_or_else(|| self.home());
        let file = &mut self.files[at];
        file.changed = true;
        let list = &mut file.content[entries.plural()];
        if !list.is_array() {
            *list = json!([]);
        }
        let items = list.as_array_mut().expect("it was made one");
        let index = items.iter().position(|entry| entry.str_at("name") == name).unwrap_or_else(|| {
            let mut entry = json!({ "name": name });
            entry.set(entries.singular(), json!({}));
            items.push(entry);
            items.len() - 1
        });
        items[index].object_mut(entries.singular())
    }

    /// False: there was none.
    pub fn remove(&mut self, entries: Entries, name: &str) -> bool {
        let Some(at) = self.place(entries, name) else { return false };
        let file = &mut self.files[at];
        file.changed = true;
        if let Some(items) = file.content.get_mut(entries.plural()).and_then(Value::as_array_mut) {
            items.retain(|entry| entry.str_at("name") != name);
        }
        true
    }

    pub fn rename(&mut self, entries: Entries, old: &str, new: &str) {
        let Some(at) = self.place(entries, old) else { return };
        let file = &mut self.files[at];
        file.changed = true;
        for entry in file.content.items_mut(entries.plural()) {
            if entry.str_at("name") == old {
                entry.set("name", new);
            }
        }
    }

    /// The value at the top, for change.
    pub fn top_mut(&mut self) -> &mut Value {
        let home = self.home();
        self.files[home].changed = true;
        &mut self.files[home].content
    }

    /// All files as one, sorted by names.
    pub fn merged(&self) -> Value {
        let mut whole = json!({ "apiVersion": "v1", "kind": "Config", "current-context": self.current() });
        for file in self.files.iter().rev() {
            for field in ["preferences", "extensions"] {
                if let Some(value) = file.content.get_set(field).filter(|value| !value.entries().is_empty()) {
                    whole.set(field, value.clone());
                }
            }
        }
        for entries in Entries::ALL {
            let list: Vec<Value> = self
                .names(entries)
                .iter()
                .map(|name| {
                    let mut entry = json!({ "name": name });
                    entry.set(entries.singular(), self.entry(entries, name).cloned().unwrap_or_default());
                    complete(entries, &mut entry);
                    entry
                })
                .collect();
            whole.set(entries.plural(), if list.is_empty() { Value::Null } else { list.into() });
        }
        whole
    }

    /// What was changed, each file at once or not at all.
    pub fn write(&self) -> Outcome<()> {
        for file in self.files.iter().filter(|file| file.changed) {
            let mut content = file.content.clone();
            for (field, value) in [("apiVersion", json!("v1")), ("kind", json!("Config"))] {
                content.set_default(field, value);
            }
            content.set_default("current-context", "");
            for entries in Entries::ALL {
                if let Some(items) = content.get_mut(entries.plural()).and_then(Value::as_array_mut) {
                    items.sort_by(|a, b| a.str_at("name").cmp(b.str_at("name")));
                    items.iter_mut().for_each(|entry| complete(entries, entry));
                }
                if content.list_at(entries.plural()).is_empty() {
                    content.set(entries.plural(), Value::Null);
                }
            }
            replace(&file.path, &crate::api::yaml::print(&content))?;
        }
        Ok(())
    }
}

/// Fields that are always written.
fn complete(entries: Entries, entry: &mut Value) {
    let fields: &[&str] = match entries {
        Entries::Clusters => &["server"],
        Entries::Contexts => &["cluster", "user"],
        Entries::Users => &[],
    };
    let value = entry.object_mut(entries.singular());
    fields.iter().for_each(|field| value.set_default(field, ""));
}

fn replace(path: &Path, text: &str) -> Outcome<()> {
    let named = || format!("write {}", path.display());
    // A link leads to the file that is meant.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory).with_context(named)?;
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(options.write(true).create(true).truncate(true), 0o600);
    let mut file = options.open(&beside).with_context(named)?;
    if let Ok(metadata) = std::fs::metadata(&path) {
        file.set_permissions(metadata.permissions()).with_context(named)?;
    }
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(named)?;
    Ok(std::fs::rename(&beside, &path).with_context(named)?)
}
