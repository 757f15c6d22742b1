//! `kubectl apply --prune`: what was applied once and is in no file any more is deleted.

use crate::api::Fields;
use crate::cli::kubectl::changes::{Change, DryRun};
use crate::cli::kubectl::delete;
use crate::cli::kubectl::discovery::{Discovery, Resource};
use crate::cli::kubectl::failure::{Failure, Outcome};
use crate::cli::kubectl::flags::{Arguments, Flag, array, switch};
use crate::cli::kubectl::last_applied;
use crate::cli::kubectl::objects::ALL;
use crate::cli::kubectl::output::take_items;
use crate::cli::kubectl::session::{JSON, Query, Session, object_path};
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;

pub const FLAGS: &[Flag] = &[ALL, switch("prune", "Delete what was applied once and is in no file any more"), ALLOW];
pub const ALLOW: Flag =
    array("prune-allowlist", "GROUP/VERSION/KIND", "Only of these kinds; may be given several times");

/// Group, version and kind of what may be deleted where nothing is said.
const KINDS: &[(&str, &str, &str)] = &[
    ("", "v1", "ConfigMap"),
    ("", "v1", "Endpoints"),
    ("", "v1", "Namespace"),
    ("", "v1", "PersistentVolumeClaim"),
    ("", "v1", "PersistentVolume"),
    ("", "v1", "Pod"),
    ("", "v1", "ReplicationController"),
    ("", "v1", "Secret"),
    ("", "v1", "Service"),
    ("batch", "v1", "Job"),
    ("batch", "v1", "CronJob"),
    ("networking.k8s.io", "v1", "Ingress"),
    ("apps", "v1", "DaemonSet"),
    ("apps", "v1", "Deployment"),
    ("apps", "v1", "ReplicaSet"),
    ("apps", "v1", "StatefulSet"),
];

pub fn check(arguments: &Arguments, server_side: bool) -> Outcome<()> {
    if !arguments.on("prune") {
        return Ok(());
    }
    if server_side {
        return Err(Failure::local(
            "--prune is in alpha and doesn't currently work on objects created by server-side apply",
        ));
    }
    if arguments.on("all") && !arguments.text_or_empty("selector").is_empty() {
        return Err(Failure::local("cannot set --all and --selector at the same time"));
    }
    if !arguments.on("all") && arguments.text_or_empty("selector").is_empty() {
        return Err(Failure::local(
            "all resources selected for prune without explicitly passing --all. To prune all resources, pass the --all flag. If you did not mean to prune all resources, specify a label selector",
        ));
    }
    Ok(())
}

/// Delete what [`pruned`] finds.
pub async fn run(
    arguments: &Arguments,
    session: &Session,
    change: &Change,
    discovery: &Discovery,
    applied: &[Value],
) -> Outcome<()> {
    for (resource, object) in pruned(arguments, session, discovery, applied).await? {
        let (kind, metadata) = (&resource.kind, object.at("metadata"));
        if change.dry_run != DryRun::Client {
            let mut options = json!({
                "apiVersion": "v1",
                "kind": "DeleteOptions",
                "propagationPolicy": delete::cascade(arguments.text_or_empty("cascade"))?,
                "preconditions": { "uid": metadata.str_at("uid") },
            });
            if change.dry_run == DryRun::Server {
                options["dryRun"] = json!(["All"]);
            }
            let path = object_path(kind, metadata.str_at("namespace"), metadata.str_at("name"));
            session.write(Method::DELETE, &path, JSON, &options).await?;
        }
        change.print_as(session, &object, "pruned").await?;
    }
    Ok(())
}

/// What apply made in these namespaces and is none of the applied objects, by UID.
pub async fn pruned<'a>(
    arguments: &Arguments,
    session: &Session,
    discovery: &'a Discovery,
    applied: &[Value],
) -> Outcome<Vec<(&'a Resource, Value)>> {
    let uids: BTreeSet<&str> = applied.iter().map(|object| object.at("metadata").str_at("uid")).collect();
    let namespaces: BTreeSet<&str> = applied.iter().map(|object| object.at("metadata").str_at("namespace")).collect();
    let mut query = Query::default();
    query.set("labelSelector", arguments.text_or_empty("selector"));
    let mut found = Vec::new();
    for resource in kinds(arguments, discovery)? {
        let kind = &resource.kind;
        let places: Vec<&str> = if kind.namespaced {
            namespaces.iter().copied().filter(|place| !place.is_empty()).collect()
        } else {
            vec![""]
        };
        for namespace in places {
            let items = take_items(session.list(kind, namespace, &query).await?, kind);
            // What apply did not make is not apply's to delete.
            let mine =
                |object: &Value| last_applied::is_there(object) && !uids.contains(object.at("metadata").str_at("uid"));
            found.extend(items.into_iter().filter(mine).map(|object| (resource, object)));
        }
    }
    Ok(found)
}

fn kinds<'a>(arguments: &Arguments, discovery: &'a Discovery) -> Outcome<Vec<&'a Resource>> {
    let listed = arguments.list("prune-allowlist");
    let find = |group: &str, version: &str, kind: &str| {
        discovery.of_object(&crate::api::gvk::join_api_version(group, version), kind)
    };
    if listed.is_empty() {
        return Ok(KINDS.iter().filter_map(|(group, version, kind)| find(group, version, kind)).collect());
    }
    let mut found = Vec::new();
    for text in &listed {
        let [group, version, kind] = text.split('/').collect::<Vec<_>>()[..] else {
            return Err(Failure::local(format!(
                "invalid GroupVersionKind format: {text}, please follow <group/version/kind>"
            )));
        };
        let group = if group == "core" { "" } else { group };
        found.push(find(group, version, kind).ok_or_else(|| {
            Failure::local(format!(
                "no matches for kind {kind:?} in version {:?}",
                crate::api::gvk::join_api_version(group, version)
            ))
        })?);
    }
    Ok(found)
}
