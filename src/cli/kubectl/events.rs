//! `kubectl events`.

use super::changes::Change;
use super::discovery::Discovery;
use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Run, Verb, slice, switch, text};
use super::objects::ALL_NAMESPACES;
use super::output::{self, Format, take_items};
use super::session::{JSON, Query, Session};
use super::tab_writer::TabWriter;
use crate::api::Fields;
use crate::client::kinds::EVENTS;
use crate::resources::cells;
use anyhow::Context;
use futures::{AsyncBufReadExt, StreamExt};
use serde_json::{Value, json};

pub(super) const VERB: Verb = Verb {
    name: "events",
    about: "Show what happened",
    usage: "kubectl events [(-o|--output=)json|yaml|name|jsonpath] [--for TYPE/NAME] [--watch] [--types=Normal,Warning]",
    flags: &[
        output::FLAGS,
        &[
            ALL_NAMESPACES,
            switch("watch", "Go on and show what happens").short('w'),
            text("for", "TYPE/NAME", "Only what happened to this object"),
            slice("types", "TYPE", "Only Normal or Warning events"),
            switch("no-headers", "Leave the headers out"),
            text("chunk-size", "N", "Most objects to ask for at once").default("500"),
        ],
    ],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let types = arguments.list("types");
    if types.iter().any(|name| !name.eq_ignore_ascii_case("normal") && !name.eq_ignore_ascii_case("warning")) {
        return Err(Failure::local("valid --types are Normal or Warning"));
    }
    let change = Change::of(arguments, "", "")?;
    let all = arguments.on("all-namespaces");
    let mut query = Query::default();
    if let Some(text) = arguments.text("for").filter(|text| !text.is_empty()) {
        query.set("fieldSelector", &fields(session, text).await?);
    }
    let namespace = if all { "" } else { session.namespace.as_str() };
    let taken =
        |event: &Value| types.is_empty() || types.iter().any(|name| name.eq_ignore_ascii_case(event.str_at("type")));
    let mut table = Table { writer: TabWriter::table(), with_namespace: all, headers: !arguments.on("no-headers") };
    if arguments.on("watch") {
        query.set("watch", "true");
        let mut lines = session.stream(&query.on(&EVENTS.path(namespace)), JSON).await?.lines();
        while let Some(line) = lines.next().await {
            let mut change_event: Value = serde_json::from_str(&line?).context("read the watch")?;
            let event = change_event["object"].take();
            if !matches!(change_event.str_at("type"), "ADDED" | "MODIFIED") || !taken(&event) {
                continue;
            }
            if matches!(change.format, Format::Default) {
                session.print(&table.rows(std::slice::from_ref(&event))).await?;
            } else {
                change.print(session, &event).await?;
            }
        }
        return Ok(());
    }
    query.set("limit", arguments.text_or_empty("chunk-size"));
    let mut events = take_items(session.list(&EVENTS, namespace, &query).await?, &EVENTS);
    events.retain(taken);
    if events.is_empty() {
        let place = if all { ".".to_owned() } else { format!(" in {namespace} namespace.") };
        return session.say(&format!("No events found{place}")).await;
    }
    events.sort_by_key(|event| time(event).to_owned());
    if matches!(change.format, Format::Default) {
        return session.print(&table.rows(&events)).await;
    }
    let list = json!({ "apiVersion": "v1", "items": events, "kind": "EventList", "metadata": {} });
    change.print(session, &list).await
}

/// The events of an object.
async fn fields(session: &Session, text: &str) -> Outcome<String> {
    let (word, name) = match text.split('/').collect::<Vec<_>>()[..] {
        [word, name] => (word, name),
        [_] => return Err(Failure::local("--for must be in resource/name form")),
        _ => return Err(Failure::local("arguments in resource/name form may not have more than one slash")),
    };
    let discovery = Discovery::fetch(session).await?;
    let kind = &discovery.resolve_one(word)?.kind;
    Ok(format!(
        "involvedObject.kind={},involvedObject.apiVersion={},involvedObject.name={name}",
        kind.kind,
        kind.api_version()
    ))
}

/// When it happened last.
fn time(event: &Value) -> &str {
    let series = event.at("series");
    if !series.is_null() {
        return series.str_at("lastObservedTime");
    }
    match event.str_at("lastTimestamp") {
        "" => event.str_at("eventTime"),
        time => time,
    }
}

fn interval(event: &Value, now: &cells::Clock) -> String {
    let since = |time: &str| if time.is_empty() { "<unknown>".to_owned() } else { cells::since(time, now) };
    let first = match event.str_at("eventTime") {
        "" => since(event.str_at("firstTimestamp")),
        time => since(time),
    };
    let (series, count) = (event.at("series"), event.int_at("count"));
    if !series.is_null() {
        let last = since(series.str_at("lastObservedTime"));
        return format!("{last} (x{} over {first})", series.int_at("count"));
    }
    if count > 1 {
        return format!("{} (x{count} over {first})", since(event.str_at("lastTimestamp")));
    }
    first
}

struct Table {
    writer: TabWriter,
    with_namespace: bool,
    headers: bool,
}

impl Table {
    fn rows(&mut self, events: &[Value]) -> String {
        let namespace = |text: &str| if self.with_namespace { format!("{text}\t") } else { String::new() };
        let mut lines = Vec::new();
        if self.headers {
            lines.push(format!("{}LAST SEEN\tTYPE\tREASON\tOBJECT\tMESSAGE", namespace("NAMESPACE")));
        }
        let now = &cells::Clock::now();
        for event in events {
            let object = event.at("involvedObject");
            lines.push(format!(
                "{}{}\t{}\t{}\t{}/{}\t{}",
                namespace(event.at("metadata").str_at("namespace")),
                interval(event, now),
                event.str_at("type"),
                event.str_at("reason"),
                object.str_at("kind"),
                object.str_at("name"),
                event.str_at("message").trim()
            ));
        }
        self.headers = false;
        lines.iter().for_each(|line| self.writer.line(line));
        self.writer.flush()
    }
}
