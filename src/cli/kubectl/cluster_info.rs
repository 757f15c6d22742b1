//! `kubectl cluster-info`: where the control plane and the services of the cluster answer; `dump`:
//! the state of its workloads, for who looks for a fault.

use super::failure::Outcome;
use super::flags::{Arguments, Run, Verb, slice, switch, text};
use super::output::{Format, take_items, without_managed_fields};
use super::session::{Query, Session, object_path};
use crate::api::Fields;
use crate::client::Kind;
use crate::client::kinds::{DAEMON_SETS, DEPLOYMENTS, EVENTS, NAMESPACES, NODES, PODS, REPLICA_SETS, SERVICES};
use serde_json::{Value, json};
use std::path::Path;

pub(super) const VERB: Verb = Verb {
    name: "cluster-info",
    about: "Show where the cluster answers",
    usage: "kubectl cluster-info [dump]",
    verbs: &[&DUMP],
    run: Run::Cluster(|_, session| Box::pin(run(session))),
    ..Verb::DEFAULT
};

const DUMP: Verb = Verb {
    name: "dump",
    about: "Show the state of the cluster's workloads",
    usage: "kubectl cluster-info dump",
    flags: &[&[
        text("output", "FORMAT", "Form of the output: json, yaml").short('o').default("json"),
        text("output-directory", "DIRECTORY", "Where to write it; - for standard output"),
        slice("namespaces", "NAME", "Of these namespaces"),
        switch("all-namespaces", "Of all namespaces").short('A'),
    ]],
    run: Run::Cluster(|arguments, session| Box::pin(dump(arguments, session))),
    ..Verb::DEFAULT
};

async fn run(session: &Session) -> Outcome<()> {
    let namespace = if session.namespace_is_given { &session.namespace } else { "kube-system" };
    let mut query = Query::default();
    query.set("labelSelector", "kubernetes.io/cluster-service=true");
    let services = session.list(&SERVICES, namespace, &query).await?;
    let mut text = format!("Kubernetes control plane is running at {}\n", session.url);
    for service in services.list_at("items") {
        let metadata = service.at("metadata");
        let name = match metadata.at("labels").str_at("kubernetes.io/name") {
            "" => metadata.str_at("name"),
            name => name,
        };
        text.push_str(&format!("{name} is running at {}\n", link(session, service)));
    }
    text.push_str("\nTo further debug and diagnose cluster problems, use 'kubectl cluster-info dump'.\n");
    session.print(&text).await
}

/// Its load balancer, or the API server's proxy.
fn link(session: &Session, service: &Value) -> String {
    let ports = service.at("spec").list_at("ports");
    if let Some(ingress) = service.at("status").at("loadBalancer").list_at("ingress").first() {
        let host = match ingress.str_at("ip") {
            "" => ingress.str_at("hostname"),
            ip => ip,
        };
        return ports.iter().map(|port| format!("http://{host}:{} ", port.int_at("port"))).collect();
    }
    let metadata = service.at("metadata");
    let mut name = metadata.str_at("name").to_owned();
    if let Some(port) = ports.first() {
        let port_name = port.str_at("name");
        let secure = port_name == "https" || port.int_at("port") == 443;
        name = match (secure, port_name) {
            (true, _) => format!("https:{name}:{port_name}"),
            (false, "") => name,
            (false, port_name) => format!("{name}:{port_name}"),
        };
    }
    format!("{}/api/v1/namespaces/{}/services/{name}/proxy", session.url, metadata.str_at("namespace"))
}

const REPLICATION_CONTROLLERS: Kind = Kind::namespaced("", "v1", "ReplicationController", "replicationcontrollers");
/// What is shown of a namespace, with the file that it goes to.
const KINDS: &[(&Kind, &str)] = &[
    (&EVENTS, "events"),
    (&REPLICATION_CONTROLLERS, "replication-controllers"),
    (&SERVICES, "services"),
    (&DAEMON_SETS, "daemonsets"),
    (&DEPLOYMENTS, "deployments"),
    (&REPLICA_SETS, "replicasets"),
    (&PODS, "pods"),
];

async fn dump(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let output = arguments.text_or_empty("output");
    let format = Format::parse(Some(output), false)?;
    let target = Target { session, directory: arguments.text_or_empty("output-directory"), extension: output };
    let nodes = session.list(&NODES, "", &Query::default()).await?;
    target.write("nodes", true, &format.print(&typed(nodes, &NODES))?).await?;
    let mut namespaces = arguments.list("namespaces");
    if arguments.on("all-namespaces") {
        let all = session.list(&NAMESPACES, "", &Query::default()).await?;
        let names = all.list_at("items").iter().map(|namespace| namespace.at("metadata").str_at("name").to_owned());
        namespaces = names.collect();
    } else if namespaces.is_empty() {
        namespaces = vec!["kube-system".to_owned(), session.namespace.clone()];
    }
    for namespace in namespaces {
        for (kind, file) in KINDS {
            let list = session.list(kind, &namespace, &Query::default()).await?;
            target.write(&format!("{namespace}/{file}"), true, &format.print(&typed(list, kind))?).await?;
        }
        let pods = take_items(session.list(&PODS, &namespace, &Query::default()).await?, &PODS);
        for pod in &pods {
            let name = pod.at("metadata").str_at("name");
            let spec = pod.at("spec");
            for container in spec.list_at("initContainers").iter().chain(spec.list_at("containers")) {
                let container = container.str_at("name");
                let mut query = Query::default();
                query.set("container", container);
                let path = query.on(&format!("{}/log", object_path(&PODS, &namespace, name)));
                let log = match session.text(&path).await {
                    Ok(log) => log,
                    Err(failure) => format!("Request log error: {failure}\n"),
                };
                let title = format!("==== START logs for container {container} of pod {namespace}/{name} ====\n");
                let end = format!("==== END logs for container {container} of pod {namespace}/{name} ====\n");
                target.write(&format!("{namespace}/{name}/logs"), false, &format!("{title}{log}{end}")).await?;
            }
        }
    }
    if !matches!(target.directory, "" | "-") {
        session.print(&format!("Cluster info dumped to {}\n", target.directory)).await?;
    }
    Ok(())
}

fn typed(mut list: Value, kind: &Kind) -> Value {
    let name = format!("{}List", kind.kind);
    list["kind"] = json!(name);
    if let Some(items) = list.get_mut("items") {
        match items.as_array_mut() {
            // As Go prints a list that is not there.
            Some(all) if all.is_empty() => *items = Value::Null,
            all => all.into_iter().flatten().for_each(without_managed_fields),
        }
    }
    list["apiVersion"] = json!(kind.api_version());
    list
}

struct Target<'a> {
    session: &'a Session,
    directory: &'a str,
    extension: &'a str,
}

impl Target<'_> {
    async fn write(&self, name: &str, object: bool, text: &str) -> Outcome<()> {
        if matches!(self.directory, "" | "-") {
            let apart = if object && self.extension == "yaml" && name != "nodes" { "---\n" } else { "" };
            return self.session.print(&format!("{apart}{text}")).await;
        }
        let extension = if object { self.extension } else { "txt" };
        let path = Path::new(self.directory).join(format!("{name}.{extension}"));
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new(self.directory)))?;
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.create(true).append(!object).write(true).truncate(object).open(path)?;
        Ok(std::io::Write::write_all(&mut file, text.as_bytes())?)
    }
}
