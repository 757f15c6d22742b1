//! `kubectl top`: what nodes and pods use, where the metrics API is served.

use super::discovery::Discovery;
use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Flag, Run, Verb, switch, text};
use super::objects::{ALL_NAMESPACES, FIELD_SELECTOR, SELECTOR, Selection};
use super::session::{JSON, Session};
use super::tab_writer::TabWriter;
use crate::api::{Fields, Quantity};
use crate::client::kinds::NODES;
use serde_json::Value;
use std::cmp::Reverse;

pub(super) const VERB: Verb = Verb {
    name: "top",
    about: "Show what nodes and pods use",
    usage: "kubectl top (node | pod)",
    verbs: &[&NODE, &POD],
    ..Verb::DEFAULT
};

const SORT: Flag = text("sort-by", "COLUMN", "What to sort by: cpu, memory");
const NO_HEADERS: Flag = switch("no-headers", "Leave the headers out");

const NODE: Verb = Verb {
    name: "node",
    aliases: &["nodes", "no"],
    about: "Show what nodes use",
    usage: "kubectl top node [NAME | -l label]",
    flags: &[&[
        SELECTOR,
        SORT,
        NO_HEADERS,
        PROTOBUF,
        switch("show-capacity", "Of the capacity, not of what pods may use"),
    ]],
    run: Run::Cluster(|arguments, session| Box::pin(nodes(arguments, session))),
    ..Verb::DEFAULT
};

const PROTOBUF: Flag =
    switch("use-protocol-buffers", "Metrics are always asked for as JSON: this changes nothing").default("true");

const POD: Verb = Verb {
    name: "pod",
    aliases: &["pods", "po"],
    about: "Show what pods use",
    usage: "kubectl top pod [NAME | -l label]",
    flags: &[&[
        SELECTOR,
        FIELD_SELECTOR,
        ALL_NAMESPACES,
        SORT,
        NO_HEADERS,
        switch("containers", "Show each container"),
        PROTOBUF,
        switch("sum", "Show the sum below"),
    ]],
    run: Run::Cluster(|arguments, session| Box::pin(pods(arguments, session))),
    ..Verb::DEFAULT
};

const API: &str = "metrics.k8s.io/v1beta1";

async fn check(arguments: &Arguments, session: &Session) -> Outcome<Option<String>> {
    let sort = arguments.text_or_empty("sort-by");
    if !matches!(sort, "" | "cpu" | "memory") {
        return Err(Failure::local("--sort-by accepts only cpu or memory"));
    }
    let mut words = arguments.words();
    if words.len() > 1 {
        let verb = arguments.path.rsplit(' ').next().unwrap_or_default();
        return Err(arguments.usage(format!("{verb} [NAME | -l label]")));
    }
    if !words.is_empty() && !arguments.text_or_empty("selector").is_empty() {
        return Err(Failure::local("only one of NAME or selector can be provided"));
    }
    if !Discovery::fetch(session).await?.versions.iter().any(|version| version == API) {
        return Err(Failure::local("Metrics API not available"));
    }
    Ok(words.pop())
}

/// One object, or all that the selectors take.
async fn metrics(arguments: &Arguments, session: &Session, path: &str, name: Option<&str>) -> Outcome<Vec<Value>> {
    match name {
        Some(name) => Ok(vec![session.get(&format!("{path}/{name}"), JSON).await?]),
        None => {
            let query = Selection::of(arguments).query();
            Ok(session.get(&query.on(path), JSON).await?.list_at("items").to_vec())
        }
    }
}

fn quantity(usage: &Value, resource: &str) -> Quantity {
    Quantity::of(usage.at(resource))
}

fn cells(cpu: &Quantity, memory: &Quantity) -> (String, String) {
    (format!("{}m", cpu.milli_value()), format!("{}Mi", memory.value() / (1024 * 1024)))
}

async fn nodes(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let name = check(arguments, session).await?;
    let mut found = metrics(arguments, session, &format!("/apis/{API}/nodes"), name.as_deref()).await?;
    if found.is_empty() {
        return Err(Failure::local("metrics not available yet"));
    }
    sort(arguments, &mut found, |node| (quantity(node.at("usage"), "cpu"), quantity(node.at("usage"), "memory")));
    let limits = if arguments.on("show-capacity") { "capacity" } else { "allocatable" };
    let mut table = TabWriter::table();
    if !arguments.on("no-headers") {
        table.line("NAME\tCPU(cores)\tCPU(%)\tMEMORY(bytes)\tMEMORY(%)\t");
    }
    for node in &found {
        let name = node.at("metadata").str_at("name");
        let live = session.object(&NODES, "", name).await?;
        let limits = live.at("status").at(limits);
        let (cpu, memory) = (quantity(node.at("usage"), "cpu"), quantity(node.at("usage"), "memory"));
        let share = |used: &Quantity, resource: &str| {
            let all = quantity(limits, resource).approximate();
            let percent = if all > 0.0 { used.approximate() / all * 100.0 } else { 0.0 };
            format!("{}%", percent.trunc())
        };
        let (cores, bytes) = cells(&cpu, &memory);
        table.line(&format!("{name}\t{cores}\t{}\t{bytes}\t{}\t", share(&cpu, "cpu"), share(&memory, "memory")));
    }
    session.print(&table.flush()).await
}

/// The greatest first; by name where nothing is said.
fn sort(arguments: &Arguments, found: &mut [Value], used: impl Fn(&Value) -> (Quantity, Quantity)) {
    let name = |one: &Value| {
        let metadata = one.at("metadata");
        (metadata.str_at("namespace").to_owned(), metadata.str_at("name").to_owned())
    };
    match arguments.text_or_empty("sort-by") {
        "cpu" => found.sort_by_key(|one| Reverse(used(one).0)),
        "memory" => found.sort_by_key(|one| Reverse(used(one).1)),
        _ => found.sort_by_key(name),
    }
}

fn of_pod(pod: &Value) -> (Quantity, Quantity) {
    let (mut cpu, mut memory) = (quantity(&Value::Null, ""), quantity(&Value::Null, ""));
    for container in pod.list_at("containers") {
        cpu.add(&quantity(container.at("usage"), "cpu"));
        memory.add(&quantity(container.at("usage"), "memory"));
    }
    (cpu, memory)
}

async fn pods(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let name = check(arguments, session).await?;
    let (all, containers) = (arguments.on("all-namespaces"), arguments.on("containers"));
    let path = match all {
        true => format!("/apis/{API}/pods"),
        false => format!("/apis/{API}/namespaces/{}/pods", session.namespace),
    };
    let mut found = metrics(arguments, session, &path, name.as_deref()).await?;
    if found.is_empty() {
        let place = if all { String::new() } else { format!(" in {} namespace.", session.namespace) };
        return session.say(&format!("No resources found{place}")).await;
    }
    sort(arguments, &mut found, of_pod);
    let before = |namespace: &str, pod: &str| {
        let namespace = if all { format!("{namespace}\t") } else { String::new() };
        let pod = if containers { format!("{pod}\t") } else { String::new() };
        format!("{namespace}{pod}")
    };
    let mut table = TabWriter::table();
    if !arguments.on("no-headers") {
        table.line(&format!("{}NAME\tCPU(cores)\tMEMORY(bytes)\t", before("NAMESPACE", "POD")));
    }
    let (mut cpu_sum, mut memory_sum) = of_pod(&Value::Null);
    for pod in &found {
        let metadata = pod.at("metadata");
        let (cpu, memory) = of_pod(pod);
        cpu_sum.add(&cpu);
        memory_sum.add(&memory);
        let before = before(metadata.str_at("namespace"), metadata.str_at("name"));
        if !containers {
            let (cores, bytes) = cells(&cpu, &memory);
            table.line(&format!("{before}{}\t{cores}\t{bytes}\t", metadata.str_at("name")));
            continue;
        }
        for container in pod.list_at("containers") {
            let usage = container.at("usage");
            let (cores, bytes) = cells(&quantity(usage, "cpu"), &quantity(usage, "memory"));
            table.line(&format!("{before}{}\t{cores}\t{bytes}\t", container.str_at("name")));
        }
    }
    if arguments.on("sum") {
        let empty = "\t".repeat(1 + usize::from(all) + usize::from(containers));
        let (cores, bytes) = cells(&cpu_sum, &memory_sum);
        table.line(&format!("{empty}________\t________\t"));
        table.line(&format!("{empty}{cores}\t{bytes}\t"));
    }
    session.print(&table.flush()).await
}
