//! Which pod and which of its containers a command is about: `web-1`, `deploy/web`, `-c app`.

use super::discovery::Discovery;
use super::failure::{Failure, Outcome};
use super::session::{Query, Session};
use super::targets;
use crate::api::Fields;
use crate::api::field::go_quote;
use crate::client::kinds;
use crate::resources::cells;
use serde_json::Value;
use std::cmp::Reverse;

const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
/// The lists of containers of a pod's spec, with what messages call them.
pub const CONTAINER_LISTS: &[(&str, &str)] =
    &[("containers", ""), ("initContainers", "init"), ("ephemeralContainers", "ephem")];

/// The pods that an argument means: one by its name, or those of what `TYPE/NAME` selects.
pub async fn find(session: &Session, argument: &str) -> Outcome<Vec<Value>> {
    let Some((word, name)) = argument.contains('/').then(|| targets::split(argument)).transpose()? else {
        return Ok(vec![session.object(&kinds::PODS, &session.namespace, argument).await?]);
    };
    let discovery = Discovery::fetch(session).await?;
    let resource = discovery.resolve_one(word)?;
    let object = session.object(&resource.kind, &session.namespace, name).await?;
    if resource.kind.kind == "Pod" {
        return Ok(vec![object]);
    }
    let spec = object.at("spec");
    let selector = match (&*resource.kind.kind, spec.at("selector")) {
        (_, selector) if selector.has("matchLabels") || selector.has("matchExpressions") => cells::selector(selector),
        // Services and ReplicationControllers.
        (_, selector) if !selector.entries().is_empty() => cells::labels(selector),
        (kind, _) => {
            return Err(Failure::local(format!(
                "cannot get the logs from *v1.{kind}: selector for *v1.{kind} not implemented"
            )));
        }
    };
    let mut pods = by_selector(session, &selector).await?;
    if pods.is_empty() {
        return Err(Failure::local(format!("no pods found for {argument}: its selector is {selector}")));
    }
    pods.sort_by_cached_key(preference);
    Ok(pods)
}

pub async fn by_selector(session: &Session, selector: &str) -> Outcome<Vec<Value>> {
    let mut query = Query::default();
    query.set("labelSelector", selector);
    let mut list = session.list(&kinds::PODS, &session.namespace, &query).await?;
    Ok(match list["items"].take() {
        Value::Array(items) => items,
        _ => Vec::new(),
    })
}

/// The first of several is the one to speak to: bound, running, ready, older.
fn preference(pod: &Value) -> impl Ord + use<> {
    let status = pod.at("status");
    let phase = match status.str_at("phase") {
        "Running" => 2,
        "Unknown" => 1,
        _ => 0,
    };
    let restarts: i64 = status.list_at("containerStatuses").iter().map(|one| one.int_at("restartCount")).sum();
    let bound = !pod.at("spec").str_at("nodeName").is_empty();
    let created = pod.at("metadata").str_at("creationTimestamp").to_owned();
    (Reverse(bound), Reverse(phase), Reverse(is_ready(pod)), restarts, created)
}

pub fn is_ready(pod: &Value) -> bool {
    let mut conditions = pod.at("status").list_at("conditions").iter();
    conditions.any(|condition| condition.str_at("type") == "Ready" && condition.str_at("status") == "True")
}

pub fn name_of(pod: &Value) -> &str {
    pod.at("metadata").str_at("name")
}

/// The names of a pod's containers; of one list or of all.
pub fn container_names<'a>(pod: &'a Value, list: &'a str) -> impl Iterator<Item = &'a str> {
    pod.at("spec").list_at(list).iter().map(|container| container.str_at("name"))
}

/// All containers of a pod, as messages list them.
fn all_names(pod: &Value) -> Vec<String> {
    CONTAINER_LISTS
        .iter()
        .flat_map(|(list, what)| {
            container_names(pod, list)
                .map(move |name| if what.is_empty() { name.to_owned() } else { format!("{name} ({what})") })
        })
        .collect()
}

/// That the pod has the container.
pub fn check_container(pod: &Value, name: &str) -> Outcome<()> {
    if CONTAINER_LISTS.iter().any(|(list, _)| container_names(pod, list).any(|other| other == name)) {
        return Ok(());
    }
    let (pod_name, all) = (name_of(pod), all_names(pod).join(", "));
    Err(Failure::local(format!("container {name} is not valid for pod {pod_name} out of: {all}")))
}

/// The container that is meant where none is named; tells the user where there is a choice.
pub async fn default_container(session: &Session, pod: &Value, quiet: bool) -> Outcome<String> {
    let named = pod.at("metadata").at("annotations").str_at(DEFAULT_CONTAINER);
    let known =
        |name: &str| CONTAINER_LISTS.iter().any(|(list, _)| container_names(pod, list).any(|other| other == name));
    if !named.is_empty() {
        if known(named) {
            return Ok(named.to_owned());
        }
        session.say(&format!("Default container name {} not found in pod {}", go_quote(named), name_of(pod))).await?;
    }
    let Some(first) = container_names(pod, "containers").next() else {
        return Err(Failure::local(format!("pod {} has no containers", name_of(pod))));
    };
    let all = all_names(pod);
    if all.len() > 1 && !quiet {
        session.say(&format!("Defaulted container {} out of: {}", go_quote(first), all.join(", "))).await?;
    }
    Ok(first.to_owned())
}
