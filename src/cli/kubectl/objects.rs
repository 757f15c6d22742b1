//! The objects that a command line means, one by one: by type and name, by selector, or by file.
//!
//! Verbs that change objects visit what [`find`] gives them; what is wrong with one does not keep the
//! others from being done.

use super::discovery::{Discovery, Resource};
use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Flag, switch, text};
use super::manifest::{self, FileArguments};
use super::output::take_items;
use super::session::{Query, Session};
use super::targets;
use crate::api::Fields;
use serde_json::Value;

pub const SELECTOR: Flag = text("selector", "SELECTOR", "Label selector: app=web,tier!=cache").short('l');
pub const FIELD_SELECTOR: Flag = text("field-selector", "SELECTOR", "Field selector: status.phase=Running");
pub const ALL_NAMESPACES: Flag = switch("all-namespaces", "In all namespaces").short('A');
pub const ALL: Flag = switch("all", "All objects of the types, in the namespace");
pub const LOCAL: Flag = switch("local", "Change the objects of the files, and do not ask the server for them");

/// Which objects of a kind.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    pub selector: Option<String>,
    pub field_selector: Option<String>,
    pub all_namespaces: bool,
}

impl Selection {
    pub fn of(arguments: &Arguments) -> Self {
        let given = |name: &str| arguments.text(name).filter(|text| !text.is_empty()).map(str::to_owned);
        Self {
            // That of expose is of something else.
            selector: given("selector").filter(|_| arguments.has_same(&SELECTOR)),
            field_selector: given("field-selector"),
            all_namespaces: arguments.on("all-namespaces"),
        }
    }

    pub fn query(&self) -> Query {
        let mut query = Query::default();
        query.set("labelSelector", self.selector.as_deref().unwrap_or_default());
        query.set("fieldSelector", self.field_selector.as_deref().unwrap_or_default());
        query
    }

    pub fn is_empty(&self) -> bool {
        self.selector.is_none() && self.field_selector.is_none()
    }

    /// To look in; empty: all.
    pub fn namespace<'a>(&self, session: &'a Session) -> &'a str {
        if self.all_namespaces { "" } else { &session.namespace }
    }
}

/// An object that was meant.
#[derive(Clone, Debug)]
pub struct Found {
    pub resource: Resource,
    pub namespace: String,
    pub name: String,
    /// As it is on the server; as the file has it where the server was not asked.
    pub object: Value,
}

/// What was meant.
#[derive(Default)]
pub struct Objects {
    pub found: Vec<Found>,
    pub failures: Vec<Failure>,
    /// One was named: what is said of it stands alone.
    pub single: bool,
}

impl Objects {
    /// Do something with each; all failures at the end.
    pub async fn each(self, work: impl AsyncFn(Found) -> Outcome<()>) -> Outcome<()> {
        let mut failures = self.failures;
        for found in self.found {
            failures.extend(work(found).await.err());
        }
        Failure::all(failures)
    }
}

pub const MISSING: &str = "You must provide one or more resources by argument or filename.
Example resource specifications include:
   '-f rsrc.yaml'
   '--filename=rsrc.json'
   '<resource> <name>'
   '<resource>'";

/// The objects that `words` and the flags of files and selectors mean.
pub async fn find(arguments: &Arguments, words: &[String], session: &Session) -> Outcome<Objects> {
    let discovery = Discovery::fetch(session).await?;
    find_in(arguments, words, session, &discovery).await
}

/// The same, but a type alone means all its objects.
pub async fn find_all(arguments: &Arguments, words: &[String], session: &Session) -> Outcome<Objects> {
    let discovery = Discovery::fetch(session).await?;
    look_up(arguments, words, session, &discovery, true).await
}

pub async fn find_in(
    arguments: &Arguments,
    words: &[String],
    session: &Session,
    discovery: &Discovery,
) -> Outcome<Objects> {
    look_up(arguments, words, session, discovery, arguments.on("all")).await
}

async fn look_up(
    arguments: &Arguments,
    words: &[String],
    session: &Session,
    discovery: &Discovery,
    all: bool,
) -> Outcome<Objects> {
    let files = FileArguments::of(arguments);
    let selection = Selection::of(arguments);
    let local = arguments.on("local");
    if files.is_empty() && words.is_empty() {
        return Err(Failure::local(MISSING));
    }
    if !files.is_empty() && !words.is_empty() {
        return Err(Failure::local(
            "when paths, URLs, or stdin is provided as input, you may not specify resource arguments as well",
        ));
    }
    let mut objects = Objects::default();
    if !files.is_empty() {
        let (manifests, failures) = manifest::read(&files, session, discovery).await?;
        objects.failures = failures;
        objects.single = manifests.len() == 1;
        for manifest in manifests {
            let (namespace, name) = (manifest.namespace().to_owned(), manifest.name().to_owned());
            let object = if local {
                Ok(manifest.object)
            } else {
                session.object(&manifest.resource.kind, &namespace, &name).await
            };
            let resource = manifest.resource;
            match object {
                Ok(object) => objects.found.push(Found { resource, namespace, name, object }),
                Err(failure) => objects.failures.push(failure),
            }
        }
        return Ok(objects);
    }
    let named = words.len() > 1 || words[0].contains('/');
    if named && !selection.is_empty() {
        return Err(Failure::local("name cannot be provided when a selector is specified"));
    }
    if named && selection.all_namespaces {
        return Err(Failure::local("a resource cannot be retrieved by name across all namespaces"));
    }
    if !named && !all && selection.is_empty() {
        return Err(Failure::local("resource(s) were provided, but no name was specified"));
    }
    let targets = targets::read(words, discovery)?.targets;
    objects.single = named && targets.len() == 1;
    for target in targets {
        let resource = target.resource;
        if let Some(name) = target.name {
            match session.object(&resource.kind, &session.namespace, &name).await {
                Ok(object) => objects.found.push(Found {
                    namespace: object.at("metadata").str_at("namespace").to_owned(),
                    resource,
                    name,
                    object,
                }),
                Err(failure) => objects.failures.push(failure),
            }
            continue;
        }
        let mut query = selection.query();
        query.set("limit", "500");
        match session.list(&resource.kind, selection.namespace(session), &query).await {
            Ok(list) => objects.found.extend(take_items(list, &resource.kind).into_iter().map(|object| Found {
                resource: resource.clone(),
                namespace: object.at("metadata").str_at("namespace").to_owned(),
                name: object.at("metadata").str_at("name").to_owned(),
                object,
            })),
            Err(failure) => objects.failures.push(failure),
        }
    }
    Ok(objects)
}
