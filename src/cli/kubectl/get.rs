//! `kubectl get`: objects as tables, or in any form of `-o`; with `-w`, as they change.

use super::discovery::Discovery;
use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Run, Verb, slice, switch, text};
use super::manifest::{self, FileArguments};
use super::objects::{ALL_NAMESPACES, FIELD_SELECTOR, SELECTOR, Selection};
use super::output::table::{self, TableOptions, TablePrinter};
use super::output::{self, Format, list_of, take_items, without_managed_fields};
use super::session::{JSON, Query, Session, TABLE, object_path};
use super::sort::Sort;
use super::targets::{self, Target};
use crate::api::{Fields, Status};
use anyhow::Context;
use futures::AsyncBufReadExt;
use serde_json::Value;

pub(super) const VERB: Verb = Verb {
    name: "get",
    about: "Show objects",
    usage: "kubectl get TYPE [NAME ...] | TYPE/NAME ...: pods, pods web-1, deploy/web svc/web, pods,services, all",
    flags: &[
        output::FLAGS,
        manifest::FLAGS,
        &[
            SELECTOR,
            FIELD_SELECTOR,
            ALL_NAMESPACES,
            switch("watch", "Go on and show changes").short('w'),
            switch("watch-only", "Show changes only, not what is there"),
            switch("output-watch-events", "Say of each change what it is"),
            switch("show-labels", "Show labels in the last column"),
            slice("label-columns", "LABEL", "Label to show in a column of its own; may be given several times")
                .short('L'),
            switch("show-kind", "Show each object's kind before its name"),
            switch("no-headers", "Leave the headers out"),
            text("sort-by", "PATH", "JSONPath to sort by: .metadata.creationTimestamp"),
            switch("ignore-not-found", "What is not there is no error"),
            text("chunk-size", "N", "Most objects to ask for at once; 0: all").default("500"),
            text("subresource", "NAME", "Subresource to get: status, scale"),
            switch("server-print", "Take the server's tables").default("true"),
            text("raw", "PATH", "Path to ask the server for, and print as it is"),
        ],
    ],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

struct Args {
    arguments: Vec<String>,
    files: FileArguments,
    selection: Selection,
    watch: bool,
    watch_only: bool,
    output_watch_events: bool,
    show_labels: bool,
    label_columns: Vec<String>,
    show_kind: bool,
    no_headers: bool,
    ignore_not_found: bool,
    chunk_size: i64,
    show_managed_fields: bool,
    server_print: bool,
    subresource: Option<String>,
}

impl Args {
    fn of(arguments: &Arguments) -> Outcome<Self> {
        Ok(Self {
            arguments: arguments.words(),
            files: FileArguments::of(arguments),
            selection: Selection::of(arguments),
            watch: arguments.on("watch"),
            watch_only: arguments.on("watch-only"),
            output_watch_events: arguments.on("output-watch-events"),
            show_labels: arguments.on("show-labels"),
            label_columns: arguments.list("label-columns"),
            show_kind: arguments.on("show-kind"),
            no_headers: arguments.on("no-headers"),
            ignore_not_found: arguments.on("ignore-not-found"),
            chunk_size: arguments.int("chunk-size")?.unwrap_or_default(),
            show_managed_fields: arguments.on("show-managed-fields"),
            server_print: arguments.on("server-print"),
            subresource: arguments.text("subresource").filter(|name| !name.is_empty()).map(str::to_owned),
        })
    }
}

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let args = Args::of(arguments)?;
    if let Some(path) = arguments.text("raw").filter(|path| !path.is_empty()) {
        if !args.arguments.is_empty() {
            return Err(Failure::local("arguments may not be passed when --raw is specified"));
        }
        if !args.selection.is_empty() || args.watch || args.watch_only || !args.label_columns.is_empty() {
            return Err(Failure::local(
                "--raw may not be specified with other flags that filter the server request or alter the output",
            ));
        }
        if !arguments.text_or_empty("output").is_empty() {
            return Err(Failure::local("--raw and --output are mutually exclusive"));
        }
        if !path.starts_with('/') {
            return Err(Failure::local(format!(
                "--raw must be a valid URL path: parse {path:?}: invalid URI for request"
            )));
        }
        return session.print(&session.text(path).await?).await;
    }
    if args.output_watch_events && !args.watch && !args.watch_only {
        return Err(Failure::local("--output-watch-events option can only be used with --watch or --watch-only"));
    }
    let format = Format::of(arguments)?;
    if args.show_labels && !format.is_table() {
        let name = arguments.text_or_empty("output").split('=').next().unwrap_or_default();
        return Err(Failure::local(format!("--show-labels option cannot be used with {name} printer")));
    }
    let sort = arguments.text("sort-by").filter(|path| !path.is_empty());
    let sort = sort.map(Sort::of).transpose()?;
    if args.arguments.is_empty() && args.files.is_empty() {
        session
            .say("You must specify the type of resource to get. Use \"kubectl api-resources\" for a complete list of supported resources.\n")
            .await?;
        return Err(arguments.usage(
            "Required resource not specified.\nUse \"kubectl explain <resource>\" for a detailed description of that resource (e.g. kubectl explain pods).",
        ));
    }
    let discovery = Discovery::fetch(session).await?;
    let wanted = Wanted::read(&args, session, &discovery).await?;
    let get = Get { args: &args, session, format: &format, sort: sort.as_ref() };
    if args.watch || args.watch_only {
        get.watch(&wanted).await
    } else if format.is_table() {
        get.tables(&wanted).await
    } else {
        get.objects(&wanted).await
    }
}

/// One thing to ask for.
struct Item {
    target: Target,
    namespace: String,
}

struct Wanted {
    items: Vec<Item>,
    several_kinds: bool,
    /// One named object, which stands for itself and not in a list.
    single: bool,
    failures: Vec<Failure>,
}

impl Wanted {
    async fn read(args: &Args, session: &Session, discovery: &Discovery) -> Outcome<Self> {
        if !args.files.is_empty() && !args.arguments.is_empty() {
            return Err(Failure::local(
                "when paths, URLs, or stdin is provided as input, you may not specify resource arguments as well",
            ));
        }
        if !args.files.is_empty() {
            let (manifests, failures) = manifest::read(&args.files, session, discovery).await?;
            let items: Vec<Item> = manifests
                .into_iter()
                .map(|manifest| Item {
                    namespace: manifest.namespace().to_owned(),
                    target: Target { name: Some(manifest.name().to_owned()), resource: manifest.resource },
                })
                .collect();
            let several_kinds =
                items.windows(2).any(|pair| pair[0].target.resource.kind != pair[1].target.resource.kind);
            return Ok(Self { single: items.len() == 1, items, several_kinds, failures });
        }
        let found = targets::read(&args.arguments, discovery)?;
        if args.subresource.is_some() && found.targets.iter().any(|target| target.name.is_none()) {
            return Err(Failure::local("subresource cannot be used when bulk resources are specified"));
        }
        let named = found.targets.iter().any(|target| target.name.is_some());
        if named && !args.selection.is_empty() {
            return Err(Failure::local("name cannot be provided when a selector is specified"));
        }
        if named && args.selection.all_namespaces {
            return Err(Failure::local("a resource cannot be retrieved by name across all namespaces"));
        }
        let namespace = args.selection.namespace(session);
        let items: Vec<Item> =
            found.targets.into_iter().map(|target| Item { target, namespace: namespace.to_owned() }).collect();
        Ok(Self { single: named && items.len() == 1, items, several_kinds: found.several_kinds, failures: Vec::new() })
    }
}

struct Get<'a> {
    args: &'a Args,
    session: &'a Session,
    format: &'a Format,
    sort: Option<&'a Sort>,
}

impl Get<'_> {
    fn query(&self, target: &Target) -> Query {
        let mut query = self.args.selection.query();
        if target.name.is_none() && self.args.chunk_size > 0 {
            query.set("limit", &self.args.chunk_size.to_string());
        }
        query
    }

    async fn ask(&self, item: &Item, query: &mut Query, accept: &str) -> Outcome<Value> {
        let kind = &item.target.resource.kind;
        match &item.target.name {
            None => self.session.list_as(kind, &item.namespace, query, accept).await,
            Some(name) => {
                let mut path = object_path(kind, &item.namespace, name);
                if let Some(subresource) = &self.args.subresource {
                    path = format!("{path}/{subresource}");
                }
                query.set("limit", "");
                self.session.get(&query.on(&path), accept).await
            }
        }
    }

    /// The failures that count.
    fn keep(&self, failure: Failure, failures: &mut Vec<Failure>) {
        if !(self.args.ignore_not_found && failure.is_not_found()) {
            failures.push(failure);
        }
    }

    fn printer(&self, wanted: &Wanted) -> TablePrinter {
        TablePrinter::new(TableOptions {
            wide: matches!(self.format, Format::Wide),
            no_headers: self.args.no_headers,
            with_namespace: self.args.selection.all_namespaces,
            with_kind: self.args.show_kind || wanted.several_kinds,
            show_labels: self.args.show_labels,
            label_columns: self.args.label_columns.clone(),
        })
    }

    /// As a Table; what else the server answers becomes one.
    async fn table(&self, item: &Item, query: &mut Query) -> Outcome<Value> {
        if self.sort.is_some() {
            query.set("includeObject", "Object");
        }
        let accept = if self.args.server_print { TABLE } else { JSON };
        let answer = self.ask(item, query, accept).await?;
        Ok(as_table(answer, item))
    }

    async fn tables(&self, wanted: &Wanted) -> Outcome<()> {
        let mut printer = self.printer(wanted);
        let mut failures = Vec::new();
        let mut tables: Vec<(&Item, Value)> = Vec::new();
        for item in &wanted.items {
            match self.table(item, &mut self.query(&item.target)).await {
                Ok(table) => tables.push((item, table)),
                Err(failure) => self.keep(failure, &mut failures),
            }
        }
        if let Some(sort) = self.sort {
            join_same_kinds(&mut tables);
            for (_, table) in &mut tables {
                let Some(Value::Array(rows)) = table.get_mut("rows") else { continue };
                sort.apply(rows, |row| row.at("object"), "[][][]reflect.Value")?;
            }
        }
        let mut out = String::new();
        for (item, table) in &tables {
            out.push_str(&printer.add(&item.target.resource.kind, table));
        }
        out.push_str(&printer.flush());
        self.session.print(&out).await?;
        failures.splice(0..0, self.read_failures(wanted));
        if !printer.has_written() && failures.is_empty() && !self.args.ignore_not_found {
            let in_namespace = wanted.items.iter().all(|item| item.target.resource.kind.namespaced)
                && !self.args.selection.all_namespaces;
            let place = if in_namespace { format!(" in {} namespace.", self.session.namespace) } else { String::new() };
            self.session.say(&format!("No resources found{place}")).await?;
        }
        Failure::all(failures)
    }

    /// Of files; each is told once.
    fn read_failures(&self, wanted: &Wanted) -> Vec<Failure> {
        wanted.failures.iter().map(|failure| Failure::Said(failure.to_string())).collect()
    }

    async fn objects(&self, wanted: &Wanted) -> Outcome<()> {
        let mut failures = Vec::new();
        let mut objects = Vec::new();
        for item in &wanted.items {
            let kind = &item.target.resource.kind;
            match self.ask(item, &mut self.query(&item.target), JSON).await {
                Ok(list) if item.target.name.is_none() => objects.extend(take_items(list, kind)),
                Ok(object) => objects.push(object),
                Err(failure) => self.keep(failure, &mut failures),
            }
        }
        if let Some(sort) = self.sort.filter(|_| !wanted.single) {
            sort.apply(&mut objects, |object| object, "*unstructured.Unstructured")?;
        }
        if !self.args.show_managed_fields {
            objects.iter_mut().for_each(without_managed_fields);
        }
        failures.splice(0..0, self.read_failures(wanted));
        let nothing = objects.is_empty() && (!failures.is_empty() || self.args.ignore_not_found);
        if !nothing {
            let whole = if wanted.single { objects.into_iter().next().unwrap_or_default() } else { list_of(objects) };
            self.session.print(&self.format.print(&whole)?).await?;
        }
        Failure::all(failures)
    }

    async fn watch(&self, wanted: &Wanted) -> Outcome<()> {
        let [item] = wanted.items.as_slice() else {
            return Err(Failure::local("you may only watch a single resource or type of resource at a time"));
        };
        if self.sort.is_some() {
            self.session.say("warning: --watch requested, --sort-by will be ignored for watch events received").await?;
        }
        let kind = &item.target.resource.kind;
        let accept = if self.format.is_table() { TABLE } else { JSON };
        let mut watcher = Watcher { get: self, printer: self.printer(wanted), documents: 0, item };
        let first = self.ask(item, &mut self.query(&item.target), accept).await?;
        let mut query = self.args.selection.query();
        match &item.target.name {
            // From now on, with the object itself as the first event.
            Some(name) => query.set("fieldSelector", &format!("metadata.name={name}")).set("resourceVersion", "0"),
            None => query.set("resourceVersion", first.at("metadata").str_at("resourceVersion")),
        };
        query.set("watch", "true");
        let mut lines = self.session.stream(&query.on(&kind.path(&item.namespace)), accept).await?.lines();
        if item.target.name.is_none() && !self.args.watch_only {
            watcher.show_list(first).await?;
        }
        // What is there already is the first event of a single object.
        let mut skip = item.target.name.is_some() && self.args.watch_only;
        while let Some(line) = futures::StreamExt::next(&mut lines).await {
            let line = line.context("read the watch")?;
            let mut event: Value = serde_json::from_str(&line).context("read the watch")?;
            let object = event["object"].take();
            match event.str_at("type") {
                "BOOKMARK" => {}
                "ERROR" => {
                    let status: Status = serde_json::from_value(object).context("read the watch")?;
                    return Err(status.into());
                }
                _ if std::mem::take(&mut skip) => {}
                kind => watcher.show(kind, object).await?,
            }
        }
        Ok(())
    }
}

/// Prints what a watch brings.
struct Watcher<'a> {
    get: &'a Get<'a>,
    printer: TablePrinter,
    documents: usize,
    item: &'a Item,
}

impl Watcher<'_> {
    async fn show_list(&mut self, list: Value) -> Outcome<()> {
        if self.get.format.is_table() {
            return self.show_table("ADDED", as_table(list, self.item)).await;
        }
        for object in take_items(list, &self.item.target.resource.kind) {
            self.show("ADDED", object).await?;
        }
        Ok(())
    }

    async fn show(&mut self, event: &str, mut object: Value) -> Outcome<()> {
        if self.get.format.is_table() {
            return self.show_table(event, as_table(object, self.item)).await;
        }
        let events = self.get.args.output_watch_events;
        if events && matches!(self.get.format, Format::Json) {
            let text = super::output::escape_html(&object.to_string());
            return self.get.session.print(&format!("{{\"type\":\"{event}\",\"object\":{text}}}\n")).await;
        }
        if !self.get.args.show_managed_fields && !events {
            without_managed_fields(&mut object);
        }
        if events {
            object = serde_json::json!({ "type": event, "object": object });
        }
        let separator = if matches!(self.get.format, Format::Yaml) && self.documents > 0 { "---\n" } else { "" };
        self.documents += 1;
        let mut text = format!("{separator}{}", self.get.format.print(&object)?);
        if self.documents > 1 && matches!(self.get.format, Format::Columns(_)) {
            // The headers stand once.
            text = text.split_once('\n').map(|(_, rows)| rows.to_owned()).unwrap_or_default();
        }
        self.get.session.print(&text).await
    }

    async fn show_table(&mut self, event: &str, mut table: Value) -> Outcome<()> {
        if self.get.args.output_watch_events {
            with_event(&mut table, event);
        }
        let out = self.printer.add(&self.item.target.resource.kind, &table);
        let rest = self.printer.flush();
        self.get.session.print(&format!("{out}{rest}")).await
    }
}

/// A first column that says what happened.
fn with_event(table: &mut Value, event: &str) {
    if let Some(columns) =
        table.get_mut("columnDefinitions").and_then(Value::as_array_mut).filter(|all| !all.is_empty())
    {
        columns.insert(0, serde_json::json!({ "name": "Event", "type": "string", "priority": 0 }));
    }
    for row in table.get_mut("rows").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(cells) = row.get_mut("cells").and_then(Value::as_array_mut) {
            cells.insert(0, event.into());
        }
    }
}

fn as_table(answer: Value, item: &Item) -> Value {
    if answer.str_at("kind") == "Table" {
        return answer;
    }
    match answer.at("items").is_array() {
        true => table::of_objects(&take_items(answer, &item.target.resource.kind)),
        false => table::of_objects(&[answer]),
    }
}

/// Tables of one kind become one, so that they are sorted together.
fn join_same_kinds(tables: &mut Vec<(&Item, Value)>) {
    let mut joined: Vec<(&Item, Value)> = Vec::new();
    for (item, mut table) in tables.drain(..) {
        let same = joined.iter_mut().find(|(other, _)| other.target.resource.kind == item.target.resource.kind);
        match same.and_then(|(_, whole)| whole.get_mut("rows")?.as_array_mut()) {
            Some(rows) => {
                if let Some(Value::Array(more)) = table.get_mut("rows") {
                    rows.append(more);
                }
            }
            None => joined.push((item, table)),
        }
    }
    *tables = joined;
}
