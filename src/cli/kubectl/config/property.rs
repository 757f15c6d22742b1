//! `kubectl config set` and `unset`: one value by its path, such as `clusters.mine.server`.

use super::kubeconfig::{Entries, Kubeconfig};
use crate::api::field::go_quote;
use crate::api::{Fields, FieldsMut};
use crate::cli::kubectl::failure::{Failure, Outcome};
use crate::cli::kubectl::flags::{Arguments, Run, Verb, switch};
use crate::cli::kubectl::session::{Connection, Terminal};
use base64::Engine;
use serde_json::Value;
use std::sync::Arc;

pub const SET: Verb = Verb {
    name: "set",
    about: "Set a value of the kubeconfig",
    usage: "kubectl config set PROPERTY_NAME PROPERTY_VALUE",
    flags: &[&[switch("set-raw-bytes", "The value of a -data field is not in base64 yet")]],
    run: Run::Here(|arguments, connection, terminal| Box::pin(set(arguments, connection, terminal))),
    ..Verb::DEFAULT
};

pub const UNSET: Verb = Verb {
    name: "unset",
    about: "Take a value out of the kubeconfig",
    usage: "kubectl config unset PROPERTY_NAME",
    run: Run::Here(|arguments, connection, terminal| Box::pin(unset(arguments, connection, terminal))),
    ..Verb::DEFAULT
};

/// Where a path leads.
enum Place {
    Top(String),
    /// All entries of a list.
    All(Entries),
    Entry(Entries, String),
    Field(Entries, String, Vec<String>),
}

fn parse(config: &Kubeconfig, path: &str) -> Outcome<Place> {
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    let Some(entries) = Entries::ALL.into_iter().find(|entries| entries.plural() == first) else {
        if rest.is_empty() && matches!(first, "current-context" | "kind" | "apiVersion") {
            return Ok(Place::Top(first.to_owned()));
        }
        return Err(Failure::local(format!("unable to parse {path} after [] at api.Config")));
    };
    if rest.is_empty() {
        return Ok(Place::All(entries));
    }
    // Names may have dots.
    let known = config
        .names(entries)
        .into_iter()
        .filter(|name| rest.strip_prefix(name.as_str()).is_some_and(|tail| tail.is_empty() || tail.starts_with('.')));
    let name = known.max_by_key(String::len);
    let name = name.unwrap_or_else(|| rest.rsplit_once('.').map_or(rest, |(name, _)| name).to_owned());
    match rest[name.len()..].trim_start_matches('.') {
        "" => Ok(Place::Entry(entries, name)),
        fields => Ok(Place::Field(entries, name, fields.split('.').map(str::to_owned).collect())),
    }
}

async fn set(arguments: &Arguments, connection: &Connection, terminal: &Arc<Terminal>) -> Outcome<()> {
    let words = arguments.words();
    let [path, value] = words.as_slice() else {
        return Err(Failure::local(format!("Unexpected args: [{}]", words.join(" "))));
    };
    if value.is_empty() {
        return Err(Failure::local("you cannot use set to unset a property"));
    }
    let mut config = Kubeconfig::read(connection)?;
    match parse(&config, path)? {
        Place::Top(field) if field == "current-context" => config.set_current(value),
        Place::Top(field) => config.top_mut().set(&field, value.as_str()),
        Place::All(_) | Place::Entry(..) => {
            return Err(Failure::local(format!("can't set a map to a value: {path}")));
        }
        Place::Field(entries, name, fields) => {
            let value =
                typed(fields.last().map(String::as_str).unwrap_or_default(), value, arguments.on("set-raw-bytes"))?;
            let entry = config.entry_mut(entries, &name);
            let (last, above) = fields.split_last().expect("there is one");
            above.iter().fold(entry, |entry, field| entry.object_mut(field)).set(last, value);
        }
    }
    config.write()?;
    terminal.print(&format!("Property {} set.\n", go_quote(path))).await
}

/// Flags are flags, and data is base64.
fn typed(field: &str, text: &str, raw: bool) -> Outcome<Value> {
    if matches!(field, "insecure-skip-tls-verify" | "disable-compression") {
        return match text {
            "true" => Ok(true.into()),
            "false" => Ok(false.into()),
            other => Err(Failure::local(format!("strconv.ParseBool: parsing {}: invalid syntax", go_quote(other)))),
        };
    }
    if field.ends_with("-data") {
        let engine = base64::engine::general_purpose::STANDARD;
        if raw {
            return Ok(engine.encode(text).into());
        }
        engine.decode(text).map_err(|error| Failure::local(format!("error decoding input value: {error}")))?;
    }
    Ok(text.into())
}

async fn unset(arguments: &Arguments, connection: &Connection, terminal: &Arc<Terminal>) -> Outcome<()> {
    let words = arguments.words();
    let [path] = words.as_slice() else {
        return Err(Failure::local(format!("Unexpected args: [{}]", words.join(" "))));
    };
    let mut config = Kubeconfig::read(connection)?;
    match parse(&config, path)? {
        Place::Top(field) if field == "current-context" => config.set_current(""),
        Place::Top(field) => config.top_mut().clear(&field),
        Place::All(entries) => config.names(entries).iter().for_each(|name| {
            config.remove(entries, name);
        }),
        Place::Entry(entries, name) => {
            config.remove(entries, &name);
        }
        Place::Field(entries, name, fields) => {
            if config.entry(entries, &name).is_none() {
                return Err(Failure::local(format!("current map key `{name}` is invalid")));
            }
            let (last, above) = fields.split_last().expect("there is one");
            let entry = config.entry_mut(entries, &name);
            if above.is_empty() || entry.at(&above[0]).is_object() {
                above.iter().fold(entry, |entry, field| entry.object_mut(field)).clear(last);
            }
        }
    }
    config.write()?;
    terminal.print(&format!("Property {} unset.\n", go_quote(path))).await
}
