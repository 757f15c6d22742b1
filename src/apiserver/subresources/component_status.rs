//! `componentstatuses`: the store under its name in Kubernetes, and what the composition told of.

use super::Handler;
use crate::api::{Fields, Status};
use crate::apiserver::negotiate::{self, Allows};
use crate::apiserver::options::ListOptions;
use crate::apiserver::respond::{self, Reply};
use crate::apiserver::state::State;
use crate::apiserver::verbs::Call;
use crate::apiserver::verbs::selection::Selection;
use async_trait::async_trait;
use http::StatusCode;
use serde_json::{Value, json};

/// Who keeps the objects, as clients know it.
const STORE: &str = "etcd-0";

pub struct ComponentStatuses;

fn status(name: &str, health: Result<(), String>) -> Value {
    let condition = match health {
        Ok(()) => json!({ "type": "Healthy", "status": "True", "message": "ok" }),
        Err(error) => json!({ "type": "Healthy", "status": "False", "error": error }),
    };
    json!({ "kind": "ComponentStatus", "apiVersion": "v1", "metadata": { "name": name }, "conditions": [condition] })
}

fn all(state: &State) -> Vec<Value> {
    let store = state.about.checks.iter().find(|check| check.name == "etcd").map(|check| (STORE, &check.run));
    let components = state.about.components.iter().map(|(name, check)| (*name, check));
    components.chain(store).map(|(name, check)| status(name, check())).collect()
}

#[async_trait]
impl Handler for ComponentStatuses {
    async fn handle(&self, call: Call<'_>) -> Result<Reply, Status> {
        let output = negotiate::output(call.headers(), call.query, Allows::Transforms)?;
        let mut statuses = all(call.state);
        if call.info.verb == "get" {
            let name = &call.info.name;
            let found = statuses.iter().find(|status| status.at("metadata").str_at("name") == name);
            let missing = || Status::not_found(&crate::api::GroupResource::new("", "componentstatus"), name);
            return Ok(respond::object(StatusCode::OK, output, call.row, found.ok_or_else(missing)?));
        }
        let options = Selection::new(&call, ListOptions::parse(call.query, false)?)?.options;
        statuses.retain(|status| {
            options.labels.matches(|_| None)
                && options.fields.matches(|path| match path {
                    "metadata.name" => Some(status.at("metadata").str_at("name")),
                    "metadata.namespace" => Some(""),
                    _ => None,
                })
        });
        Ok(respond::list(output, call.row, &statuses))
    }
}
