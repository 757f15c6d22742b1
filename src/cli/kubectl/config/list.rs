//! `kubectl config get-contexts`, `get-clusters`, `get-users`.

use super::kubeconfig::{Entries, Kubeconfig};
use crate::api::Fields;
use crate::cli::kubectl::failure::{Failure, Outcome};
use crate::cli::kubectl::flags::{Arguments, Run, Verb, switch, text};
use crate::cli::kubectl::session::{Connection, Terminal};
use crate::cli::kubectl::tab_writer::TabWriter;
use std::sync::Arc;

pub const GET_CONTEXTS: Verb = Verb {
    name: "get-contexts",
    about: "Show the contexts",
    usage: "kubectl config get-contexts [(-o|--output=)name)]",
    flags: &[&[
        text("output", "FORMAT", "Form of the output: name").short('o'),
        switch("no-headers", "Leave the headers out"),
    ]],
    run: Run::Here(|arguments, connection, terminal| Box::pin(contexts(arguments, connection, terminal))),
    ..Verb::DEFAULT
};

pub const GET_CLUSTERS: Verb = Verb {
    name: "get-clusters",
    about: "Show the clusters",
    usage: "kubectl config get-clusters",
    run: Run::Here(|_, connection, terminal| Box::pin(names(connection, terminal, Entries::Clusters))),
    ..Verb::DEFAULT
};

pub const GET_USERS: Verb = Verb {
    name: "get-users",
    about: "Show the users",
    usage: "kubectl config get-users",
    run: Run::Here(|_, connection, terminal| Box::pin(names(connection, terminal, Entries::Users))),
    ..Verb::DEFAULT
};

async fn names(connection: &Connection, terminal: &Arc<Terminal>, entries: Entries) -> Outcome<()> {
    let names: String = Kubeconfig::read(connection)?.names(entries).iter().map(|name| format!("{name}\n")).collect();
    terminal.print(&format!("NAME\n{names}")).await
}

async fn contexts(arguments: &Arguments, connection: &Connection, terminal: &Arc<Terminal>) -> Outcome<()> {
    let only_names = match arguments.text_or_empty("output") {
        "" => false,
        "name" => true,
        other => {
            return Err(Failure::local(format!(
                "--output {other} is not available in kubectl config get-contexts; resetting to default output format"
            )));
        }
    };
    let config = Kubeconfig::read(connection)?;
    let mut failures = Vec::new();
    let mut names = arguments.words();
    if names.is_empty() {
        names = config.names(Entries::Contexts);
    }
    names.sort();
    names.retain(|name| {
        let known = config.entry(Entries::Contexts, name).is_some();
        if !known {
            failures.push(Failure::local(format!("context {name} not found")));
        }
        known
    });
    let mut table = TabWriter::table();
    if !only_names && !arguments.on("no-headers") {
        table.line("CURRENT\tNAME\tCLUSTER\tAUTHINFO\tNAMESPACE");
    }
    for name in &names {
        if only_names {
            table.line(name);
            continue;
        }
        let Some(context) = config.entry(Entries::Contexts, name) else { continue };
        let mark = if config.current() == name { "*" } else { " " };
        let [cluster, user, namespace] = ["cluster", "user", "namespace"].map(|field| context.str_at(field));
        table.line(&format!("{mark}\t{name}\t{cluster}\t{user}\t{namespace}"));
    }
    terminal.print(&table.flush()).await?;
    Failure::all(failures)
}
