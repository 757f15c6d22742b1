//! `kubectl describe`: one object in detail, with what belongs to it and its events.
//!
//! [`DESCRIBERS`] has a row per kind: what else to ask the server for, and a pure function that
//! lays the page out. Kinds without a row are printed field by field ([`generic`]). To add a kind:
//! one file, one row.

mod access;
mod addresses;
mod autoscaler;
mod batch;
mod certificate_signing_request;
mod config;
mod containers;
mod endpoints;
mod events;
mod generic;
mod ingress;
mod limits;
mod namespace;
mod network_policy;
mod node;
mod page;
mod pod;
mod priority_class;
mod rows;
mod service;
mod storage;
mod volumes;
mod workload;

use super::discovery::{Discovery, Resource};
use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Run, Verb, switch, text};
use super::manifest::{self, FileArguments};
use super::objects::{ALL_NAMESPACES, SELECTOR, Selection};
use super::session::{Query, Session};
use super::targets;
use crate::api::Fields;
use crate::api::field::go_quote;
use crate::client::{Kind, kinds};
use page::Page;
use serde_json::Value;
use std::collections::HashMap;

pub(super) const VERB: Verb = Verb {
    name: "describe",
    about: "Show objects in detail, with their events",
    usage: "kubectl describe TYPE [NAME ...] | TYPE/NAME ...: pods, pod web-1, the beginning of a name",
    flags: &[
        manifest::FLAGS,
        &[
            SELECTOR,
            ALL_NAMESPACES,
            switch("show-events", "Show the events of each object").default("true"),
            text("chunk-size", "N", "Most objects to ask for at once; 0: all").default("500"),
        ],
    ],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

struct Args {
    arguments: Vec<String>,
    files: FileArguments,
    selection: Selection,
    show_events: bool,
}

/// A row: how a kind is described.
struct Describer {
    group: &'static str,
    kind: &'static str,
    /// Lists that the page needs beside the object.
    related: &'static [Related],
    print: fn(&Value, &Lists, &mut Page),
    events: bool,
}

/// A list of objects that belong to the one described.
struct Related {
    name: &'static str,
    kind: Kind,
    select: fn(&Value) -> Select,
}

/// Which objects belong to it.
#[derive(Default)]
struct Select {
    namespace: String,
    /// This one alone.
    name: String,
    labels: String,
    fields: String,
}

/// What was found of [`Related`], or why the server does not show it.
#[derive(Default)]
struct Lists(HashMap<&'static str, Result<Vec<Value>, String>>);

impl Lists {
    /// None: the user may not see it, or the server does not have it.
    fn get(&self, name: &str) -> Option<&[Value]> {
        self.0.get(name)?.as_deref().ok()
    }

    /// The server's words.
    fn refusal(&self, name: &str) -> &str {
        self.0.get(name).and_then(|list| list.as_ref().err()).map_or("", String::as_str)
    }

    fn items(&self, name: &str) -> &[Value] {
        self.get(name).unwrap_or_default()
    }
}

const fn row(group: &'static str, kind: &'static str, print: fn(&Value, &Lists, &mut Page)) -> Describer {
    Describer { group, kind, related: &[], print, events: true }
}

const RBAC: &str = "rbac.authorization.k8s.io";

const DESCRIBERS: &[Describer] = &[
    row("", "Pod", pod::print),
    Describer { related: node::RELATED, ..row("", "Node", node::print) },
    Describer { related: namespace::RELATED, events: false, ..row("", "Namespace", namespace::print) },
    Describer { related: service::RELATED, ..row("", "Service", service::print) },
    row("", "Endpoints", endpoints::print),
    row("discovery.k8s.io", "EndpointSlice", endpoints::print_slice),
    row("", "ConfigMap", config::print_config_map),
    Describer { events: false, ..row("", "ResourceQuota", limits::print_quota) },
    Describer { events: false, ..row("", "LimitRange", limits::print_limit_range) },
    row("", "PersistentVolume", storage::print_volume),
    Describer { related: storage::CLAIM_RELATED, ..row("", "PersistentVolumeClaim", storage::print_claim) },
    row("storage.k8s.io", "StorageClass", storage::print_class),
    row("storage.k8s.io", "VolumeAttributesClass", storage::print_attributes_class),
    row("storage.k8s.io", "CSINode", storage::print_csi_node),
    Describer { related: workload::PODS, ..row("", "ReplicationController", workload::print_replication_controller) },
    Describer { related: workload::PODS, ..row("apps", "DaemonSet", workload::print_daemon_set) },
    Describer { related: workload::PODS, ..row("apps", "StatefulSet", workload::print_stateful_set) },
    row("batch", "Job", batch::print_job),
    row("batch", "CronJob", batch::print_cron_job),
    row("autoscaling", "HorizontalPodAutoscaler", autoscaler::print),
    row("policy", "PodDisruptionBudget", limits::print_budget),
    Describer { related: ingress::RELATED, ..row("networking.k8s.io", "Ingress", ingress::print) },
    row("networking.k8s.io", "IngressClass", ingress::print_class),
    Describer { events: false, ..row("networking.k8s.io", "NetworkPolicy", network_policy::print) },
    Describer { events: false, ..row("", "Secret", config::print_secret) },
    row("", "ServiceAccount", config::print_service_account),
    Describer { related: workload::DEPLOYMENT_RELATED, ..row("apps", "Deployment", workload::print_deployment) },
    Describer { related: workload::PODS, ..row("apps", "ReplicaSet", workload::print_replica_set) },
    Describer { events: false, ..row(RBAC, "Role", access::print_role) },
    Describer { events: false, ..row(RBAC, "ClusterRole", access::print_role) },
    Describer { events: false, ..row(RBAC, "RoleBinding", access::print_binding) },
    Describer { events: false, ..row(RBAC, "ClusterRoleBinding", access::print_binding) },
    row("certificates.k8s.io", "CertificateSigningRequest", certificate_signing_request::print),
    row("networking.k8s.io", "IPAddress", addresses::print_ip_address),
    row("networking.k8s.io", "ServiceCIDR", addresses::print_service_cidr),
    row("scheduling.k8s.io", "PriorityClass", priority_class::print),
];

const GENERIC: Describer = row("", "", generic::print);

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let args = Args {
        arguments: arguments.words(),
        files: FileArguments::of(arguments),
        selection: Selection::of(arguments),
        show_events: arguments.on("show-events"),
    };
    if args.arguments.is_empty() && args.files.is_empty() {
        return Err(Failure::local(
            "You must specify the type of resource to describe. Use \"kubectl api-resources\" for a complete list of supported resources.",
        ));
    }
    let discovery = Discovery::fetch(session).await?;
    let (objects, failures) = find(&args, session, &discovery).await?;
    // Of several, or of one found by the beginning of its name, only where it is asked for.
    let alone = matches!(&objects[..], [one] if !one.by_prefix) && failures.is_empty();
    let show_events = args.show_events && (alone || arguments.changed("show-events"));
    for (at, Found { resource, object, by_prefix }) in objects.iter().enumerate() {
        let page = describe(session, &resource.kind, object, show_events).await?;
        let separator = if at == 0 || *by_prefix { "" } else { "\n\n" };
        let end = if *by_prefix { "\n" } else { "" };
        session.print(&format!("{separator}{page}{end}")).await?;
    }
    if objects.is_empty() && failures.is_empty() {
        let place =
            if args.selection.all_namespaces { String::new() } else { format!(" in {} namespace.", session.namespace) };
        session.say(&format!("No resources found{place}")).await?;
    }
    Failure::all(failures)
}

/// An object to describe.
struct Found {
    resource: Resource,
    object: Value,
    /// Only the beginning of its name was said.
    by_prefix: bool,
}

async fn find(args: &Args, session: &Session, discovery: &Discovery) -> Outcome<(Vec<Found>, Vec<Failure>)> {
    let selection = &args.selection;
    let mut found = Vec::new();
    let mut failures = Vec::new();
    if !args.files.is_empty() {
        let (manifests, wrong) = manifest::read(&args.files, session, discovery).await?;
        failures = wrong;
        for manifest in manifests {
            match session.object(&manifest.resource.kind, manifest.namespace(), manifest.name()).await {
                Ok(object) => found.push(Found { resource: manifest.resource, object, by_prefix: false }),
                Err(failure) => failures.push(failure),
            }
        }
        return Ok((found, failures));
    }
    for target in targets::read(&args.arguments, discovery)?.targets {
        let resource = target.resource;
        let namespace = selection.namespace(session);
        let Some(name) = target.name else {
            let mut query = selection.query();
            query.set("limit", "500");
            match session.list(&resource.kind, namespace, &query).await {
                Ok(list) => found.extend(own_items(list, &resource, false)),
                Err(failure) => failures.push(failure),
            }
            continue;
        };
        match session.object(&resource.kind, &session.namespace, &name).await {
            Ok(object) => found.push(Found { resource, object, by_prefix: false }),
            Err(failure) if failure.is_not_found() => {
                // The beginning of a name is enough.
                let list = session.list(&resource.kind, &session.namespace, &Query::default()).await;
                let mut starting = list.map(|list| own_items(list, &resource, true)).unwrap_or_default();
                starting.retain(|found| found.object.at("metadata").str_at("name").starts_with(&name));
                if starting.is_empty() {
                    failures.push(failure);
                }
                found.extend(starting);
            }
            Err(failure) => failures.push(failure),
        }
    }
    Ok((found, failures))
}

fn own_items(list: Value, resource: &Resource, by_prefix: bool) -> Vec<Found> {
    let objects = super::output::take_items(list, &resource.kind).into_iter();
    objects.map(|object| Found { resource: resource.clone(), object, by_prefix }).collect()
}

async fn describe(session: &Session, kind: &Kind, object: &Value, show_events: bool) -> Outcome<String> {
    let describer = DESCRIBERS.iter().find(|row| row.group == kind.group && row.kind == kind.kind).unwrap_or(&GENERIC);
    let mut lists = Lists::default();
    for related in describer.related {
        let select = (related.select)(object);
        lists.0.insert(related.name, list(session, &related.kind, &select).await?);
    }
    let mut page = Page::default();
    (describer.print)(object, &lists, &mut page);
    if describer.events && show_events {
        events::print(&find_events(session, kind, object).await?, &mut page, &crate::resources::cells::Clock::now());
    }
    Ok(page.finish())
}

/// A pod template alone, as it stands in the pages of workloads.
pub(super) fn pod_template(template: &Value) -> String {
    let mut page = Page::with_tabs();
    workload::template(template, &mut page);
    page.finish()
}

/// None: the user may not see them, or the server does not know the kind.
async fn list(session: &Session, kind: &Kind, select: &Select) -> Outcome<Result<Vec<Value>, String>> {
    let found = if select.name.is_empty() {
        let mut query = Query::default();
        query.set("labelSelector", &select.labels).set("fieldSelector", &select.fields);
        session.list(kind, &select.namespace, &query).await.map(|list| super::output::take_items(list, kind))
    } else {
        session.object(kind, &select.namespace, &select.name).await.map(|object| vec![object])
    };
    match found {
        Ok(items) => Ok(Ok(items)),
        Err(Failure::Status(status)) if matches!(status.code, 403 | 404) => Ok(Err(status.message)),
        Err(failure) => Err(failure),
    }
}

async fn find_events(session: &Session, kind: &Kind, object: &Value) -> Outcome<Vec<Value>> {
    let metadata = object.at("metadata");
    let (name, namespace) = (metadata.str_at("name"), metadata.str_at("namespace"));
    // The kubelet has no UID of its node at hand, and says its name.
    let uids = if kind.kind == "Node" { vec![metadata.str_at("uid"), name] } else { vec![metadata.str_at("uid")] };
    let mut events = Vec::new();
    for uid in uids {
        let mut fields =
            format!("involvedObject.name={name},involvedObject.kind={},involvedObject.uid={uid}", kind.kind);
        if !namespace.is_empty() {
            fields.push_str(&format!(",involvedObject.namespace={namespace}"));
        }
        let select = Select { namespace: namespace.to_owned(), fields, ..Select::default() };
        events.extend(list(session, &kinds::EVENTS, &select).await?.unwrap_or_default());
    }
    Ok(events)
}

/// `Kind/name` of the controller that owns the object.
fn controlled_by(object: &Value) -> Option<String> {
    let owner = object.at("metadata").list_at("ownerReferences").iter().find(|owner| owner.bool_at("controller"))?;
    Some(format!("{}/{}", owner.str_at("kind"), owner.str_at("name")))
}

/// Go's `%v` of a list of strings: `[a b]`.
fn go_strings<'a>(items: impl Iterator<Item = &'a str>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(" "))
}

/// `true` or `false`, where absent is false.
fn flag(object: &Value, name: &str) -> bool {
    object.bool_at(name)
}

/// A quoted path of a mount's flags.
fn quoted(text: &str) -> String {
    go_quote(text)
}
