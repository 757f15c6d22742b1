//! `kubectl version`: of this program, and of the server.

use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Run, Verb, switch, text};
use super::output::Format;
use super::session::{Connection, JSON, Terminal};
use crate::api::{Fields, FieldsMut, version};
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
    let mut client = version::info();
    // What only a server has.
    for field in &FIELDS[2..6] {
        client.clear(field);
    }
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
        match output {
            "json" => text.push_str(&in_order(&all)),
            _ => text.push_str(&(Format::parse(Some(output), false)?.print(&all)? + "\n")),
        }
    }
    terminal.print(&text).await?;
    server.map(|_| ())
}

/// The fields of a version as Kubernetes orders them.
const FIELDS: &[&str] = &[
    "major",
    "minor",
    "emulationMajor",
    "emulationMinor",
    "minCompatibilityMajor",
    "minCompatibilityMinor",
    "gitVersion",
    "gitCommit",
    "gitTreeState",
    "buildDate",
    "goVersion",
    "compiler",
    "platform",
];

/// JSON, two spaces deep.
fn in_order(all: &Value) -> String {
    let part = |(name, value): (&String, &Value)| {
        let fields = FIELDS.iter().filter_map(|field| Some(format!("    \"{field}\": {}", value.get_set(field)?)));
        let fields: Vec<String> = fields.collect();
        if fields.is_empty() {
            format!("  \"{name}\": {value}")
        } else {
            format!("  \"{name}\": {{\n{}\n  }}", fields.join(",\n"))
        }
    };
    format!("{{\n{}\n}}\n", all.entries().iter().map(part).collect::<Vec<_>>().join(",\n"))
}

async fn of_server(connection: &Connection, terminal: &Arc<Terminal>) -> Outcome<Value> {
    connection.connect(terminal.clone()).await?.get("/version", JSON).await
}
