//! `kubectl create configmap`.

use super::{FLAGS, made, object, sources};
use crate::api::field::go_quote;
use crate::api::{Fields, FieldsMut};
use crate::cli::kubectl::content_hash;
use crate::cli::kubectl::failure::{Failure, Outcome};
use crate::cli::kubectl::flags::{Arguments, Run, Verb};
use crate::cli::kubectl::session::Session;
use crate::client::kinds::CONFIG_MAPS;
use base64::Engine;
use serde_json::Value;

pub const VERB: Verb = Verb {
    name: "configmap",
    aliases: &["cm"],
    about: "Create a ConfigMap of files, directories or literal values",
    usage: "kubectl create configmap NAME [--from-file=[key=]source] [--from-literal=key1=value1]",
    flags: &[FLAGS[0], FLAGS[1], sources::FLAGS],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let name = arguments.name()?;
    let mut map = object(&CONFIG_MAPS, &name);
    fill(&mut map, sources::read(arguments)?)?;
    if arguments.on("append-hash") {
        let hash = content_hash::of_config_map(&map);
        map.object_mut("metadata").set("name", format!("{name}-{hash}"));
    }
    made(arguments, session, &CONFIG_MAPS, map, "failed to create configmap:").await
}

/// Texts go into `data`, other bytes into `binaryData`.
pub fn fill(map: &mut Value, entries: Vec<sources::Entry>) -> Outcome<()> {
    let name = map.at("metadata").str_at("name").to_owned();
    for (key, value) in entries {
        if let Some(wrong) = sources::wrong_key(&key) {
            let text = format!("{} is not a valid key name for a ConfigMap: {}", go_quote(&key), wrong.join(","));
            return Err(Failure::local(text));
        }
        for (field, said) in [("data", "Data"), ("binaryData", "BinaryData")] {
            if map.at(field).has(&key) {
                return Err(Failure::local(format!(
                    "cannot add key {}, another key by that name already exists in {said} for ConfigMap {}",
                    go_quote(&key),
                    go_quote(&name)
                )));
            }
        }
        match String::from_utf8(value) {
            Ok(text) => map.object_mut("data").set(&key, text),
            Err(error) => {
                let encoded = base64::engine::general_purpose::STANDARD.encode(error.as_bytes());
                map.object_mut("binaryData").set(&key, encoded);
            }
        }
    }
    Ok(())
}
