//! `kubectl version`: of this program, and of the server.

use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Run, Verb, switch, text};
use super::output::Format;
use super::session::{Connection, JSON, Terminal};
use crate::api::{Fields, version};
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) const VERB: Verb = Verb {
    name: "version",
    about: "Show the versions of kubectl and of the server",
    usage: "kubectl version",
    flags: &[&[
        switch("client", "Only of kubectl: no server is asked"),
        text("output", "FORMAT", "Form of the output: json, yaml").short('o'),
    ]],
    run: Run::Here(|arguments, connection, terminal| Box::pin(run(arguments, connection, terminal))),
    ..Verb::DEFAULT
};

/// The kustomize whose kustomizations are understood here.
const KUSTOMIZE: &str = "v5.8.1";

async fn run(arguments: &Arguments, connection: &Connection, terminal: &Arc<Terminal>) -> Outcome<()> {
    let words = arguments.words();
    if !words.is_empty() {
        return Err(Failure::local(format!("extra arguments: [{}]", words.join(" "))));
    }
    let output = arguments.text_or_empty("output");
    if !matches!(output, "" | "json" | "yaml") {
        return Err(Failure::local("--output must be 'yaml' or 'json'"));
    }
    let server = if arguments.on("client") { Ok(None) } else { of_server(connection, terminal).await.map(Some) };
    let client = version::info();
    let mut text = String::new();
    if output.is_empty() {
        text.push_str(&format!("Client Version: {}\n", client.str_at("gitVersion")));
        text.push_str(&format!("Kustomize Version: {KUSTOMIZE}\n"));
        if let Ok(Some(server)) = &server {
            text.push_str(&format!("Server Version: {}\n", server.str_at("gitVersion")));
        }
    } else {
        let mut all = json!({ "clientVersion": client, "kustomizeVersion": KUSTOMIZE });
        if let Ok(Some(server)) = &server {
            all["serverVersion"] = server.clone();
        }
        text.push_str(&Format::parse(Some(output), false)?.print(&all)?);
    }
    terminal.print(&text).await?;
    server.map(|_| ())
}

async fn of_server(connection: &Connection, terminal: &Arc<Terminal>) -> Outcome<Value> {
    connection.connect(terminal.clone()).await?.get("/version", JSON).await
}
