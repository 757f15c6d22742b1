//! Objects in files: `-f file`, `-f directory` with `-R`, `-f https://…`, `-f -`; YAML or JSON, several per file,
//! lists taken apart.

use super::discovery::{Discovery, Resource};
use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Flag, slice, switch, text};
use super::session::Session;
use super::{address, kustomize};
use crate::api::field::go_quote;
use crate::api::{Fields, FieldsMut};
use anyhow::{Context, anyhow};
use serde_json::Value;
use std::path::{Path, PathBuf};

const EXTENSIONS: &[&str] = &["json", "yaml", "yml"];

/// The flags of verbs that read files.
pub const FLAGS: &[Flag] = &[
    slice("filename", "FILE", "File, directory or address with objects, or - for standard input").short('f'),
    text("kustomize", "DIRECTORY", "Directory with a kustomization").short('k'),
    switch("recursive", "Also the directories below").short('R'),
];

/// What they say.
#[derive(Clone, Debug, Default)]
pub struct FileArguments {
    pub files: Vec<String>,
    kustomize: Option<String>,
    recursive: bool,
}

impl FileArguments {
    pub fn of(arguments: &Arguments) -> Self {
        Self {
            files: arguments.list("filename"),
            kustomize: arguments.text("kustomize").filter(|path| !path.is_empty()).map(str::to_owned),
            recursive: arguments.on("recursive"),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.kustomize.is_none()
    }

    /// For verbs that take objects only from files.
    pub fn check(&self) -> Outcome<()> {
        if self.is_empty() {
            return Err(Failure::local("must specify one of -f and -k"));
        }
        if !self.files.is_empty() && self.kustomize.is_some() {
            return Err(Failure::local("only one of -f or -k can be specified"));
        }
        if self.recursive && self.kustomize.is_some() {
            return Err(Failure::local("the -k flag can't be used with -f or -R"));
        }
        Ok(())
    }
}

/// One object and where it stands.
#[derive(Clone, Debug)]
pub struct Manifest {
    pub object: Value,
    pub source: String,
    pub resource: Resource,
}

impl Manifest {
    pub fn name(&self) -> &str {
        self.object.at("metadata").str_at("name")
    }

    pub fn namespace(&self) -> &str {
        self.object.at("metadata").str_at("namespace")
    }
}

/// All objects of the files, with the namespace they go to. What is wrong with one does not keep
/// the others from being read.
pub async fn read(
    files: &FileArguments,
    session: &Session,
    discovery: &Discovery,
) -> Outcome<(Vec<Manifest>, Vec<Failure>)> {
    let mut manifests = Vec::new();
    let mut failures = Vec::new();
    if files.files.iter().filter(|file| *file == "-").count() > 1 {
        return Err(Failure::local("standard input cannot be used for multiple arguments"));
    }
    if let Some(directory) = &files.kustomize {
        let built = kustomize::build(directory)?;
        for warning in &built.warnings {
            session.say(warning).await?;
        }
        for object in built.objects {
            match place(object, directory, session, discovery) {
                Ok(manifest) => manifests.push(manifest),
                Err(failure) => failures.push(failure),
            }
        }
    }
    let absent = |file: &&String| *file != "-" && !address::is_one(file) && !Path::new(file.as_str()).exists();
    let absent = files.files.iter().filter(absent);
    Failure::all(absent.map(|file| Failure::local(format!("the path {} does not exist", go_quote(file)))).collect())?;
    for file in &files.files {
        for (source, text) in texts(file, files.recursive, session).await? {
            let objects = match parse(&text) {
                Ok(objects) => objects,
                Err(error) => {
                    failures.push(Failure::local(format!("error parsing {source}: {error}")));
                    continue;
                }
            };
            for object in objects {
                match place(object, &source, session, discovery) {
                    Ok(manifest) => manifests.push(manifest),
                    Err(failure) => failures.push(failure),
                }
            }
        }
    }
    Ok((manifests, failures))
}

/// Only those that the `--selector` takes.
pub fn select(manifests: &mut Vec<Manifest>, arguments: &Arguments) -> Outcome<()> {
    let Some(text) = arguments.text("selector").filter(|text| !text.is_empty()) else { return Ok(()) };
    let selector = crate::api::selector::LabelSelector::parse(text).map_err(Failure::local)?;
    manifests.retain(|manifest| {
        let labels = manifest.object.at("metadata").at("labels");
        selector.matches(|key| labels.optional_str(key))
    });
    Ok(())
}

async fn texts(file: &str, recursive: bool, session: &Session) -> Outcome<Vec<(String, String)>> {
    if file == "-" {
        let text = String::from_utf8(session.terminal.input().await?).context("read standard input")?;
        return Ok(vec![("STDIN".to_owned(), text)]);
    }
    if address::is_one(file) {
        return Ok(vec![(file.to_owned(), address::read(file, session).await?)]);
    }
    let path = Path::new(file);
    let mut paths = Vec::new();
    if path.is_dir() {
        walk(path, recursive, &mut paths)?;
        if paths.is_empty() {
            return Err(Failure::local(format!(
                "error reading [{}]: recognized file extensions are [.json .yaml .yml]",
                path.display()
            )));
        }
    } else {
        paths.push(path.to_owned());
    }
    paths
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            Ok((path.display().to_string(), text))
        })
        .collect()
}

fn walk(directory: &Path, recursive: bool, out: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let named = || format!("read {}", directory.display());
    let mut entries: Vec<PathBuf> = std::fs::read_dir(directory)
        .with_context(named)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .with_context(named)?;
    entries.sort();
    for path in entries {
        if path.is_dir() {
            if recursive {
                walk(&path, recursive, out)?;
            }
        } else if path.extension().and_then(|extension| extension.to_str()).is_some_and(|one| EXTENSIONS.contains(&one))
        {
            out.push(path);
        }
    }
    Ok(())
}

/// The objects of a text; the items of a list each on its own.
pub fn parse(text: &str) -> anyhow::Result<Vec<Value>> {
    let mut objects = Vec::new();
    if text.trim_start().starts_with('{') {
        for value in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
            flatten(value?, &mut objects);
        }
        return Ok(objects);
    }
    for document in documents(text) {
        let value = crate::schema::yaml::parse(document.as_bytes())
            .map_err(|error| anyhow!("error converting YAML to JSON: {error}"))?;
        flatten(value, &mut objects);
    }
    Ok(objects)
}

/// The documents of a YAML stream, without those that hold nothing.
fn documents(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in text.lines() {
        if line.starts_with("---") {
            documents.push(String::new());
        } else if let Some(document) = documents.last_mut() {
            document.push_str(line);
            document.push('\n');
        }
    }
    let says_something =
        |document: &String| document.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
    documents.retain(says_something);
    documents
}

fn flatten(value: Value, out: &mut Vec<Value>) {
    let is_list = value.str_at("kind").ends_with("List") && value.at("items").is_array();
    match value {
        Value::Null => {}
        Value::Object(mut fields) if is_list => {
            // Items of a list of one kind need not say it.
            let kind = value_of(&fields, "kind").trim_end_matches("List").to_owned();
            let version = value_of(&fields, "apiVersion").to_owned();
            if let Some(Value::Array(items)) = fields.remove("items") {
                for mut item in items {
                    if let (Some(own), false) = (item.as_object_mut(), kind.is_empty()) {
                        own.entry("apiVersion").or_insert_with(|| version.clone().into());
                        own.entry("kind").or_insert_with(|| kind.clone().into());
                    }
                    flatten(item, out);
                }
            }
        }
        value => out.push(value),
    }
}

fn value_of<'a>(fields: &'a serde_json::Map<String, Value>, name: &str) -> &'a str {
    fields.get(name).and_then(Value::as_str).unwrap_or_default()
}

pub fn place(mut object: Value, source: &str, session: &Session, discovery: &Discovery) -> Outcome<Manifest> {
    if !object.is_object() {
        return Err(Failure::local(format!("{source}: it is not an object")));
    }
    let (api_version, kind) = (object.str_at("apiVersion").to_owned(), object.str_at("kind").to_owned());
    let missing: Vec<&str> = [(&api_version, "apiVersion not set"), (&kind, "kind not set")]
        .into_iter()
        .filter_map(|(text, problem)| text.is_empty().then_some(problem))
        .collect();
    if !missing.is_empty() {
        let what = if missing.len() == 1 { missing[0].to_owned() } else { format!("[{}]", missing.join(", ")) };
        return Err(Failure::local(format!(
            "error validating {}: error validating data: {what}; if you choose to ignore these errors, turn validation off with --validate=false",
            go_quote(source)
        )));
    }
    let metadata = object.at("metadata");
    let (name, namespace) = (metadata.str_at("name").to_owned(), metadata.str_at("namespace").to_owned());
    let Some(resource) = discovery.of_object(&api_version, &kind) else {
        return Err(Failure::local(format!(
            "resource mapping not found for name: {} namespace: {} from {}: no matches for kind {} in version {}\nensure CRDs are installed first",
            go_quote(&name),
            go_quote(&namespace),
            go_quote(source),
            go_quote(&kind),
            go_quote(&api_version)
        )));
    };
    if resource.kind.namespaced {
        if namespace.is_empty() {
            object.object_mut("metadata").set("namespace", session.namespace.as_str());
        } else if session.namespace_is_given && namespace != session.namespace {
            return Err(Failure::local(format!(
                "the namespace from the provided object {} does not match the namespace {}. You must pass '--namespace={namespace}' to perform this operation.",
                go_quote(&namespace),
                go_quote(&session.namespace)
            )));
        }
    }
    Ok(Manifest { object, source: source.to_owned(), resource: resource.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn documents_and_lists_are_taken_apart() {
        let text = "# a comment\n---\nkind: A\n--- # more\nkind: List\nitems:\n- kind: B\n- kind: CList\n  items: [{kind: C}]\n---\n\n# nothing\n";
        let kinds = |text: &str| -> Vec<String> {
            parse(text).expect("objects").iter().map(|object| object.str_at("kind").to_owned()).collect()
        };
        assert_eq!(kinds(text), ["A", "B", "C"]);
        assert_eq!(kinds("{\"kind\": \"A\"}\n{\"kind\": \"B\"}"), ["A", "B"]);
        assert!(kinds("").is_empty());
        assert!(parse("a: [").is_err());
        assert_eq!(parse("text: |\n  a\n  --- b\n").expect("one"), [json!({"text": "a\n--- b\n"})]);
    }
}
