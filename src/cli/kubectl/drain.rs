//! `kubectl drain`: a node that is cordoned, and its pods evicted, as disruption budgets allow.

use super::changes::{self, Change, DryRun};
use super::cordon;
use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Run, Verb, switch, text};
use super::following::{self, within};
use super::objects::{Found, SELECTOR};
use super::output::take_items;
use super::session::{JSON, Query, Session, object_path};
use crate::api::Fields;
use crate::api::field::go_quote;
use crate::client::Kind;
use crate::client::kinds::{DAEMON_SETS, PODS};
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

pub(super) const VERB: Verb = Verb {
    name: "drain",
    about: "Cordon nodes and move their pods away",
    usage: "kubectl drain NODE",
    flags: &[&[
        changes::DRY_RUN,
        SELECTOR,
        switch("force", "Also pods that nothing would make again"),
        switch("ignore-daemonsets", "Leave pods of DaemonSets where they are"),
        switch("delete-emptydir-data", "Also pods whose data would be lost"),
        text("grace-period", "SECONDS", "How long pods have to end; -1: as they say").default("-1"),
        text("timeout", "DURATION", "How long to wait; 0: as long as it takes").default("0s"),
        text("pod-selector", "SELECTOR", "Only pods with these labels"),
        switch("disable-eviction", "Delete pods, whatever disruption budgets say"),
        text("skip-wait-for-delete-timeout", "SECONDS", "Do not wait for pods that are ending for longer than this")
            .default("0"),
        text("chunk-size", "N", "Most objects to ask for at once").default("500"),
    ]],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

/// A disruption budget that allows nothing now is asked again after this.
const AGAIN: Duration = Duration::from_secs(5);

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let selector = arguments.text_or_empty("pod-selector");
    if crate::api::selector::LabelSelector::parse(selector).is_err() {
        return Err(Failure::local("--pod-selector=<pod_selector> must be a valid label selector"));
    }
    let change = Change::of(arguments, "drained", "")?;
    let nodes = cordon::nodes(arguments, session).await?;
    Failure::all(nodes.failures)?;
    let drain = Drain {
        arguments,
        session,
        change: &change,
        grace: arguments.int("grace-period")?.unwrap_or(-1),
        timeout: arguments.timeout("timeout")?,
        skip: arguments.int("skip-wait-for-delete-timeout")?.unwrap_or_default(),
    };
    for node in &nodes.found {
        cordon::mark(session, &change, node, true).await?;
    }
    let mut failed: Vec<(&Found, Failure)> = Vec::new();
    for node in &nodes.found {
        match drain.node(node).await {
            Ok(()) => change.print(session, &node.object).await?,
            Err(failure) => {
                let (name, why) = (go_quote(&node.name), aggregate(&failure));
                let text = format!("error: unable to drain node {name} due to error: {why}, continuing command...");
                session.say(&text).await?;
                failed.push((node, failure));
            }
        }
    }
    if !failed.is_empty() {
        session.say("There are pending nodes to be drained:").await?;
        for (node, _) in &failed {
            session.say(&format!(" {}", node.name)).await?;
        }
    }
    let mut failures = Vec::new();
    for (_, failure) in failed {
        match failure {
            Failure::Several(several) => failures.extend(several),
            one => failures.push(one),
        }
    }
    Failure::all(failures)
}

/// As Go prints several errors in one.
fn aggregate(failure: &Failure) -> String {
    match failure {
        Failure::Several(several) => {
            let texts: Vec<String> = several.iter().map(Failure::message).collect();
            format!("[{}]", texts.join(", "))
        }
        one => one.message(),
    }
}

/// What becomes of a pod.
enum Fate {
    Goes,
    Stays,
    /// It goes, or not, and that is told.
    Warned(bool, String),
    Refused(String),
}

struct Drain<'a> {
    arguments: &'a Arguments,
    session: &'a Session,
    change: &'a Change,
    grace: i64,
    timeout: Option<Duration>,
    skip: i64,
}

impl Drain<'_> {
    async fn node(&self, node: &Found) -> Outcome<()> {
        let (pods, warnings) = self.pods(&node.name).await?;
        if !warnings.is_empty() {
            self.session.say(&format!("Warning: {warnings}")).await?;
        }
        if self.change.dry_run == DryRun::Client {
            for pod in &pods {
                self.session.print(&format!("evicting pod {} (dry run)\n", full_name(pod))).await?;
            }
            return Ok(());
        }
        let work = async {
            let moves = pods.iter().map(|pod| self.remove(pod));
            let failures = futures::future::join_all(moves).await.into_iter().filter_map(Result::err).collect();
            Failure::all(failures)
        };
        let done = within(self.timeout, work, || "global timeout reached".to_owned()).await;
        let Err(failure) = done else { return Ok(()) };
        let failure = match (self.timeout, failure.message().as_str()) {
            (Some(timeout), "global timeout reached") => Failure::all(
                self.pods(&node.name)
                    .await
                    .map(|(left, _)| left)
                    .unwrap_or_default()
                    .iter()
                    .map(|pod| {
                        let metadata = pod.at("metadata");
                        Failure::local(format!(
                            "error when evicting pods/{} -n {}: global timeout reached: {}",
                            go_quote(metadata.str_at("name")),
                            go_quote(metadata.str_at("namespace")),
                            go_duration(timeout)
                        ))
                    })
                    .collect(),
            )
            .err()
            .unwrap_or(failure),
            _ => failure,
        };
        let left = self.pods(&node.name).await.map(|(left, _)| left).unwrap_or_default();
        if !left.is_empty() {
            let why = aggregate(&failure);
            self.session
                .say(&format!("There are pending pods in node {} when an error occurred: {why}", go_quote(&node.name)))
                .await?;
            for pod in &left {
                self.session.say(&format!("pod/{}", pod.at("metadata").str_at("name"))).await?;
            }
        }
        Err(failure)
    }

    /// Those that are to go, and what is to be told of them.
    async fn pods(&self, node: &str) -> Outcome<(Vec<Value>, String)> {
        let mut query = Query::default();
        query.set("fieldSelector", &format!("spec.nodeName={node}"));
        query.set("labelSelector", self.arguments.text_or_empty("pod-selector"));
        query.set("limit", self.arguments.text_or_empty("chunk-size"));
        let pods = take_items(self.session.list(&PODS, "", &query).await?, &PODS);
        let mut going = Vec::new();
        let (mut warned, mut refused): (BTreeMap<String, Vec<String>>, BTreeMap<String, Vec<String>>) =
            Default::default();
        for pod in pods {
            let name = full_name(&pod);
            match self.fate(&pod).await? {
                Fate::Goes => going.push(pod),
                Fate::Stays => {}
                Fate::Warned(goes, text) => {
                    warned.entry(text).or_default().push(name);
                    going.extend(goes.then_some(pod));
                }
                Fate::Refused(text) => refused.entry(text).or_default().push(name),
            }
        }
        let failures =
            refused.iter().map(|(text, names)| Failure::local(format!("cannot delete {text}: {}", names.join(", "))));
        Failure::all(failures.collect())?;
        let warnings: Vec<String> =
            warned.iter().map(|(text, names)| format!("{text}: {}", names.join(", "))).collect();
        Ok((going, warnings.join("; ")))
    }

    async fn fate(&self, pod: &Value) -> Outcome<Fate> {
        let metadata = pod.at("metadata");
        if self.is_ending_long(metadata) {
            return Ok(Fate::Stays);
        }
        let over = matches!(pod.at("status").str_at("phase"), "Succeeded" | "Failed");
        let mut owners = metadata.list_at("ownerReferences").iter();
        let controller = owners.find(|owner| owner.bool_at("controller"));
        let mut fate = Fate::Goes;
        if let Some(owner) = controller.filter(|owner| owner.str_at("kind") == "DaemonSet" && !over) {
            fate = self.of_daemon_set(metadata.str_at("namespace"), owner.str_at("name")).await;
            if !matches!(fate, Fate::Warned(true, _)) {
                return Ok(fate);
            }
        }
        if metadata.at("annotations").has("kubernetes.io/config.mirror") {
            return Ok(Fate::Stays);
        }
        let keeps_data = pod.at("spec").list_at("volumes").iter().any(|volume| volume.has("emptyDir"));
        if keeps_data && !over {
            if !self.arguments.on("delete-emptydir-data") {
                return Ok(Fate::Refused(
                    "Pods with local storage (use --delete-emptydir-data to override)".to_owned(),
                ));
            }
            fate = Fate::Warned(true, "deleting Pods with local storage".to_owned());
        }
        if controller.is_none() && !over {
            if !self.arguments.on("force") {
                return Ok(Fate::Refused("Pods that declare no controller (use --force to override)".to_owned()));
            }
            fate = Fate::Warned(true, "deleting Pods that declare no controller".to_owned());
        }
        Ok(fate)
    }

    async fn of_daemon_set(&self, namespace: &str, name: &str) -> Fate {
        match self.session.object(&DAEMON_SETS, namespace, name).await {
            Ok(_) if self.arguments.on("ignore-daemonsets") => {
                Fate::Warned(false, "ignoring DaemonSet-managed Pods".to_owned())
            }
            Ok(_) => Fate::Refused("DaemonSet-managed Pods (use --ignore-daemonsets to ignore)".to_owned()),
            Err(failure) if failure.is_not_found() && self.arguments.on("force") => {
                Fate::Warned(true, failure.message())
            }
            Err(failure) => Fate::Refused(failure.message()),
        }
    }

    fn is_ending_long(&self, metadata: &Value) -> bool {
        let Ok(since) = metadata.str_at("deletionTimestamp").parse::<jiff::Timestamp>() else { return false };
        self.skip > 0 && jiff::Timestamp::now().duration_since(since).as_secs() > self.skip
    }

    /// Evict a pod, or delete it, and wait until it is gone.
    async fn remove(&self, pod: &Value) -> Outcome<()> {
        let metadata = pod.at("metadata");
        let (namespace, name) = (metadata.str_at("namespace"), metadata.str_at("name"));
        let mut options = json!({ "apiVersion": "v1", "kind": "DeleteOptions" });
        if self.grace >= 0 {
            options["gracePeriodSeconds"] = self.grace.into();
        }
        if self.change.dry_run == DryRun::Server {
            options["dryRun"] = json!(["All"]);
        }
        let path = object_path(&PODS, namespace, name);
        let evict = !self.arguments.on("disable-eviction");
        if !evict {
            match self.session.write(Method::DELETE, &path, JSON, &options).await {
                Ok(_) => {}
                Err(failure) if failure.is_not_found() => return Ok(()),
                Err(failure) => return Err(failure),
            }
        }
        while evict {
            let suffix = self.change.dry_run.suffix();
            self.session.print(&format!("evicting pod {namespace}/{name}{suffix}\n")).await?;
            let eviction = json!({
                "apiVersion": "policy/v1",
                "kind": "Eviction",
                "metadata": { "name": name, "namespace": namespace },
                "deleteOptions": options,
            });
            let evicted = self.session.write(Method::POST, &format!("{path}/eviction"), JSON, &eviction).await;
            let named = format!("pods/{} -n {}", go_quote(name), go_quote(namespace));
            match evicted {
                Ok(_) => break,
                Err(failure) if failure.is_not_found() => return Ok(()),
                Err(Failure::Status(status)) if status.code == 429 => {
                    let why = &status.message;
                    let text = format!("error when evicting {named} (will retry after {}): {why}", go_duration(AGAIN));
                    self.session.say(&text).await?;
                    tokio::time::sleep(AGAIN).await;
                }
                Err(failure) => {
                    return Err(Failure::local(format!("error when evicting {named}: {}", failure.message())));
                }
            }
        }
        if self.change.dry_run == DryRun::Server {
            return Ok(());
        }
        self.gone(&PODS, namespace, name, metadata.str_at("uid")).await.map_err(|failure| {
            let (name, namespace) = (go_quote(name), go_quote(namespace));
            Failure::local(format!(
                "error when waiting for pod {name} in namespace {namespace} to terminate: {}",
                failure.message()
            ))
        })?;
        self.change.print_as(self.session, pod, if evict { "evicted" } else { "deleted" }).await
    }

    async fn gone(&self, kind: &Kind, namespace: &str, name: &str, uid: &str) -> Outcome<()> {
        if self.skip == 0 {
            return following::gone(self.session, kind, namespace, name, Some(uid), None).await;
        }
        following::follow(self.session, kind, namespace, name, async |object: Option<&Value>| {
            let metadata = object.map(|object| object.at("metadata"));
            let over = metadata.is_none_or(|metadata| metadata.str_at("uid") != uid || self.is_ending_long(metadata));
            Ok(over.then_some(()))
        })
        .await
    }
}

fn full_name(pod: &Value) -> String {
    let metadata = pod.at("metadata");
    format!("{}/{}", metadata.str_at("namespace"), metadata.str_at("name"))
}

/// `1m30s`.
fn go_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}
