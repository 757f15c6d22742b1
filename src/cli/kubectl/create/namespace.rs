//! `kubectl create namespace`.

use super::{FLAGS, made, object};
use crate::api::FieldsMut;
use crate::cli::kubectl::flags::{Run, Verb};
use crate::client::kinds::NAMESPACES;
use serde_json::json;

pub const VERB: Verb = Verb {
    name: "namespace",
    aliases: &["ns"],
    about: "Create a namespace",
    usage: "kubectl create namespace NAME",
    flags: FLAGS,
    run: Run::Cluster(|arguments, session| {
        Box::pin(async {
            let mut namespace = object(&NAMESPACES, &arguments.name()?);
            namespace.set("spec", json!({}));
            namespace.set("status", json!({}));
            made(arguments, session, &NAMESPACES, namespace, "").await
        })
    }),
    ..Verb::DEFAULT
};
