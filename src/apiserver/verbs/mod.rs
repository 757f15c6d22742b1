//! One handler per verb, for every row of the registry.

pub mod create;
pub mod delete;
mod get;
mod list;
pub mod patch;
pub mod selection;
pub mod update;
pub mod watch;
pub mod write;

use super::definitions::Definitions;
use super::request::{Query, RequestInfo};
use super::respond::{self, Reply};
use super::state::State;
use super::{audit, negotiate, no_such_resource, no_such_verb, subresources};
use crate::api::{Status, UserInfo};
use crate::resources::{Row, SubresourceHandler, Verb};
use axum::body::Body;
use http::{HeaderMap, Method, Request};
use std::sync::Arc;

/// One request for a resource, on its way to a handler.
pub struct Call<'a> {
    pub state: &'a Arc<State>,
    pub info: &'a RequestInfo,
    pub query: &'a Query,
    pub row: &'a Arc<Row>,
    pub user: &'a UserInfo,
    pub request: Request<Body>,
}

impl Call<'_> {
    pub fn headers(&self) -> &HeaderMap {
        self.request.headers()
    }
}

fn served_verb(verb: &str) -> Option<Verb> {
    Some(match verb {
        "create" => Verb::Create,
        "delete" => Verb::Delete,
        "deletecollection" => Verb::DeleteCollection,
        "get" => Verb::Get,
        "list" => Verb::List,
        "patch" => Verb::Patch,
        "update" => Verb::Update,
        "watch" => Verb::Watch,
        _ => return None,
    })
}

/// The verb of a request; None: one that no resource has.
pub fn served_verb_of(info: &RequestInfo) -> Option<Verb> {
    served_verb(info.verb)
}

/// To the handler of the verb, or of the subresource.
pub async fn route(call: Call<'_>) -> Result<Reply, Status> {
    if Definitions::are(call.row) && !matches!(call.info.verb, "get" | "list" | "watch") {
        // Who defined something finds it served.
        let state = call.state.clone();
        let result = dispatch(call).await;
        state.definitions.settled().await;
        return result;
    }
    let served = call.info.subresource.is_empty() || call.row.subresource(&call.info.subresource).is_some();
    let Some(text) = call.row.deprecated.clone().filter(|_| served) else { return dispatch(call).await };
    let (state, info) = (call.state.clone(), call.info);
    let mut reply = match dispatch(call).await {
        Ok(reply) => reply,
        // It did not get to the resource.
        Err(status) if matches!(status.code, 405 | 406 | 415) => return Err(status),
        Err(status) => respond::status(&status),
    };
    audit::annotate("k8s.io/deprecated", "true");
    state.metrics.deprecated(info);
    respond::warn_first(&mut reply, &text);
    Ok(reply)
}

/// Whether the path names an object; a list of one name does not.
fn has_name(call: &Call<'_>) -> bool {
    !call.info.name.is_empty() && !matches!(call.info.verb, "list" | "watch")
}

/// What is built in is not asked for its head: only custom resources are.
fn is_routed(call: &Call<'_>) -> bool {
    call.row.custom || *call.request.method() != Method::HEAD
}

/// Built-in resources answer in the forms of their route before they look at anything else.
fn check_accepted(call: &Call<'_>) -> Result<(), Status> {
    let own_form = matches!(&*call.info.subresource, "log" | "exec" | "attach" | "portforward" | "proxy");
    if call.row.custom || own_form { Ok(()) } else { negotiate::routed(call.headers()) }
}

async fn dispatch(call: Call<'_>) -> Result<Reply, Status> {
    let info = call.info;
    if !info.subresource.is_empty() {
        return subresource(call).await;
    }
    // Objects of a namespaced resource are reached through their namespace only; lists need none.
    let across = call.row.namespaced && info.namespace.is_empty();
    let on_namespace = info.resource == "namespaces" && call.row.group.is_empty();
    if !call.row.namespaced && !info.namespace.is_empty() && !on_namespace || across && has_name(&call) {
        return Err(no_such_resource());
    }
    let verb = served_verb(info.verb).filter(|_| is_routed(&call)).ok_or_else(no_such_verb)?;
    let handler = call.row.strategy.handler().unwrap_or(&call.row.plural);
    if let Some(handler) = call.state.handlers.get(handler).cloned() {
        if verb == Verb::Watch && !info.watch_prefix && !call.row.verbs.contains(&verb) {
            return Err(Status::method_not_supported(&call.row.group_resource, "watch"));
        }
        if !call.row.verbs.contains(&verb) {
            return Err(no_such_verb());
        }
        return handler.handle(call).await;
    }
    let needs_name = matches!(verb, Verb::Get | Verb::Update | Verb::Patch | Verb::Delete);
    let misplaced = needs_name && info.name.is_empty()
        || verb == Verb::Create && (across || !info.name.is_empty())
        || matches!(verb, Verb::DeleteCollection | Verb::Update | Verb::Patch) && across;
    if misplaced || !call.row.verbs.contains(&verb) {
        return Err(no_such_verb());
    }
    match verb {
        Verb::List | Verb::Watch if !call.row.custom => negotiate::routed_list(call.headers())?,
        _ => check_accepted(&call)?,
    }
    match verb {
        Verb::Get if call.query.flag("watch") == Some(true) => watch::watch(call).await,
        Verb::Get => get::get(call).await,
        Verb::List => list::list(call).await,
        Verb::Watch => watch::watch(call).await,
        Verb::Create => create::create(call).await,
        Verb::Update => update::update(call).await,
        Verb::Patch => patch::patch(call).await,
        Verb::Delete => delete::delete(call).await,
        Verb::DeleteCollection => delete::delete_collection(call).await,
    }
}

async fn subresource(call: Call<'_>) -> Result<Reply, Status> {
    let info = call.info;
    let Some(subresource) = call.row.subresource(&info.subresource).cloned() else {
        return Err(match call.row.custom && !info.name.is_empty() {
            true => Status::not_found(&call.row.group_resource, &info.name),
            false => no_such_resource(),
        });
    };
    if info.name.is_empty() || call.row.namespaced == info.namespace.is_empty() && &*call.row.plural != "namespaces" {
        return Err(no_such_resource());
    }
    let name = format!("{}/{}", call.row.plural, subresource.name);
    let handler = call.state.handlers.get(name.as_str()).cloned();
    if let Some(handler) = &handler
        && handler.passes_on()
        && *call.request.method() == Method::OPTIONS
    {
        return handler.handle(call).await;
    }
    let passes_on = handler.as_ref().is_some_and(|handler| handler.passes_on());
    if !info.rest.is_empty() && !passes_on {
        return Err(no_such_resource());
    }
    let verb = served_verb(info.verb).filter(|_| passes_on || is_routed(&call)).ok_or_else(no_such_verb)?;
    if let Some(handler) = handler {
        if !subresource.verbs.contains(&verb) {
            return Err(no_such_verb());
        }
        return handler.handle(call).await;
    }
    if !subresource.verbs.contains(&verb) {
        return Err(match call.row.custom {
            true => Status::method_not_supported(&call.row.group_resource, info.verb),
            false => no_such_verb(),
        });
    }
    check_accepted(&call)?;
    if let SubresourceHandler::Scale { .. } = &subresource.handler {
        return subresources::scale::handle(call).await;
    }
    // The parent's kind, written with rules of its own.
    match verb {
        Verb::Get => get::get(call).await,
        Verb::Update => update::update(call).await,
        Verb::Patch => patch::patch(call).await,
        _ => Err(no_such_verb()),
    }
}
