//! `kubectl config view`: all files as one, without the secrets.

use super::kubeconfig::{Entries, Kubeconfig};
use crate::api::{Fields, FieldsMut};
use crate::cli::kubectl::failure::{Failure, Outcome};
use crate::cli::kubectl::flags::{Arguments, Run, Verb, switch};
use crate::cli::kubectl::output::{self, Format};
use crate::cli::kubectl::session::{Connection, Terminal};
use base64::Engine;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

pub const VERB: Verb = Verb {
    name: "view",
    about: "Show the kubeconfig",
    usage: "kubectl config view [--raw] [--minify] [--flatten]",
    flags: &[
        output::FLAGS,
        &[
            switch("merge", "All files as one").default("true"),
            switch("raw", "With the secrets"),
            switch("flatten", "With the content of the files that it names"),
            switch("minify", "Only what the current context needs"),
        ],
    ],
    run: Run::Here(|arguments, connection, terminal| Box::pin(run(arguments, connection, terminal))),
    ..Verb::DEFAULT
};

/// Certificates and keys, and what names their files.
const DATA: &[(Entries, &str, &str)] = &[
    (Entries::Clusters, "certificate-authority-data", "certificate-authority"),
    (Entries::Users, "client-certificate-data", "client-certificate"),
    (Entries::Users, "client-key-data", "client-key"),
];

async fn run(arguments: &Arguments, connection: &Connection, terminal: &Arc<Terminal>) -> Outcome<()> {
    arguments.no_words()?;
    let config = Kubeconfig::read(connection)?;
    if !arguments.on("merge") && !config.explicit {
        return Err(Failure::local("if merge==false a precise file must be specified"));
    }
    let mut whole = config.merged();
    if arguments.on("minify") {
        minify(&mut whole, connection.get("context"))?;
    }
    if arguments.on("flatten") {
        flatten(&config, &mut whole)?;
    } else if !arguments.on("raw") {
        redact(&mut whole);
    }
    let text = match Format::of(arguments)? {
        Format::Default => Format::Yaml.print(&whole)?,
        format => format.print(&whole)?,
    };
    terminal.print(&text).await
}

fn minify(whole: &mut Value, context: Option<&str>) -> Outcome<()> {
    if let Some(name) = context {
        whole.set("current-context", name);
    }
    let name = whole.str_at("current-context").to_owned();
    if name.is_empty() {
        return Err(Failure::local("current-context must exist in order to minify"));
    }
    let mut contexts = whole.list_at("contexts").iter();
    let Some(context) = contexts.find(|context| context.str_at("name") == name) else {
        return Err(Failure::local(format!("cannot locate context {name}")));
    };
    let context = context.at("context").clone();
    let keep =
        [("contexts", name.as_str()), ("clusters", context.str_at("cluster")), ("users", context.str_at("user"))];
    for (field, name) in keep {
        let singular = field.trim_end_matches('s');
        if !name.is_empty() && !whole.list_at(field).iter().any(|entry| entry.str_at("name") == name) {
            return Err(Failure::local(format!("cannot locate {singular} {name}")));
        }
        if let Some(items) = whole.get_mut(field).and_then(Value::as_array_mut) {
            items.retain(|entry| entry.str_at("name") == name);
        }
    }
    Ok(())
}

fn redact(whole: &mut Value) {
    for (entries, data, _) in DATA {
        for entry in whole.items_mut(entries.plural()) {
            if entry.at(entries.singular()).has(data) {
                entry.object_mut(entries.singular()).set(data, "DATA+OMITTED");
            }
        }
    }
    for entry in whole.items_mut("users") {
        let user = entry.object_mut("user");
        for field in ["token", "password"] {
            if !user.str_at(field).is_empty() {
                user.set(field, "REDACTED");
            }
        }
    }
}

fn flatten(config: &Kubeconfig, whole: &mut Value) -> Outcome<()> {
    for (entries, data, file) in DATA {
        for entry in whole.items_mut(entries.plural()) {
            let path = entry.at(entries.singular()).str_at(file).to_owned();
            if path.is_empty() {
                continue;
            }
            let name = entry.str_at("name").to_owned();
            let path = config.directory(*entries, &name).join(Path::new(&path));
            let bytes =
                std::fs::read(&path).map_err(|error| Failure::local(format!("read {}: {error}", path.display())))?;
            let value = entry.object_mut(entries.singular());
            value.clear(file);
            value.set(data, base64::engine::general_purpose::STANDARD.encode(bytes));
        }
    }
    Ok(())
}
