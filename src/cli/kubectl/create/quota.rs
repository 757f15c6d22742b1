//! `kubectl create quota`.

use super::{FLAGS, made, object};
use crate::api::{FieldsMut, Quantity};
use crate::cli::kubectl::failure::{Failure, Outcome};
use crate::cli::kubectl::flags::{Arguments, Run, Verb, text};
use crate::cli::kubectl::session::Session;
use crate::client::Kind;
use serde_json::{Value, json};

const KIND: Kind = Kind::namespaced("", "v1", "ResourceQuota", "resourcequotas");

pub const VERB: Verb = Verb {
    name: "quota",
    aliases: &["resourcequota"],
    about: "Create a ResourceQuota",
    usage: "kubectl create quota NAME [--hard=key1=value1,key2=value2] [--scopes=Scope1,Scope2]",
    flags: &[
        FLAGS[0],
        FLAGS[1],
        &[text("hard", "RESOURCE=QUANTITY,…", "The limits"), text("scopes", "SCOPE,…", "Which objects count")],
    ],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let mut quota = object(&KIND, &arguments.name()?);
    let mut spec = json!({});
    let hard = arguments.text_or_empty("hard");
    if !hard.is_empty() {
        spec["hard"] = quantities(hard)?;
    }
    let scopes = arguments.text_or_empty("scopes");
    if !scopes.is_empty() {
        if scopes.split(',').any(str::is_empty) {
            return Err(Failure::local("invalid resource quota scope \"\""));
        }
        spec["scopes"] = scopes.split(',').collect::<Vec<_>>().into();
    }
    quota.set("spec", spec);
    quota.set("status", json!({}));
    made(arguments, session, &KIND, quota, "failed to create quota:").await
}

/// `cpu=1,memory=1Gi` as a resource list.
pub fn quantities(text: &str) -> Outcome<Value> {
    let mut list = json!({});
    for pair in text.split(',') {
        let [resource, quantity] = pair.split('=').collect::<Vec<_>>()[..] else {
            return Err(Failure::local(format!("Invalid argument syntax {pair}, expected <resource>=<value>")));
        };
        let quantity = Quantity::parse(quantity).map_err(|error| Failure::local(error.to_string()))?;
        list.set(resource, quantity.to_string());
    }
    Ok(list)
}
