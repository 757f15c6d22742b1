//! `kubectl logs`: of one container or of many; with `-f`, as they are written.

use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Run, Verb, switch, text};
use super::pods::{self, CONTAINER_LISTS, container_names, name_of};
use super::session::{Query, Session, object_path};
use crate::api::field::go_quote;
use crate::client::kinds;
use futures::{AsyncBufReadExt, AsyncReadExt, StreamExt};
use serde_json::Value;
use std::io::Write;
use std::time::Duration;

/// Lines of each pod where a selector takes several and nothing else is said.
const TAIL_OF_SELECTED: i64 = 10;

pub(super) const VERB: Verb = Verb {
    name: "logs",
    about: "Print the logs of containers",
    usage: "kubectl logs [-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]",
    flags: &[&[
        text("container", "NAME", "Container, where there are several").short('c'),
        switch("follow", "Go on while the container writes").short('f'),
        switch("previous", "Of the container's previous run").short('p'),
        text("tail", "N", "Last lines to show; -1: all").default("-1"),
        text("since", "DURATION", "Not older than: 5s, 2m, 3h").default("0s"),
        text("since-time", "TIME", "Not older than a time: 2026-11-20T21:55:47Z"),
        switch("timestamps", "Show the time of each line"),
        text("limit-bytes", "N", "Most bytes to show").default("0"),
        text("selector", "SELECTOR", "Of the pods with these labels").short('l'),
        switch("all-containers", "Of all containers"),
        switch("all-pods", "Of all pods of TYPE/NAME"),
        switch("prefix", "Say before each line which container wrote it"),
        switch("ignore-errors", "Go on where one of several logs cannot be read"),
        text("max-log-requests", "N", "Most logs to follow at once").default("5"),
        text("pod-running-timeout", "DURATION", "How long to wait until a pod runs").default("20s"),
        switch("insecure-skip-tls-verify-backend", "Do not check the certificate of the node"),
    ]],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

const USAGE: &str = "expected 'logs [-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]'.\nPOD or TYPE/NAME is a required argument for the logs command";

struct Args {
    target: Option<String>,
    container: Option<String>,
    follow: bool,
    previous: bool,
    tail: Option<i64>,
    since: Option<Duration>,
    since_time: Option<jiff::Timestamp>,
    timestamps: bool,
    limit_bytes: Option<i64>,
    selector: Option<String>,
    all_containers: bool,
    all_pods: bool,
    prefix: bool,
    ignore_errors: bool,
    max_log_requests: usize,
    insecure: bool,
}

impl Args {
    fn of(arguments: &Arguments) -> Outcome<Self> {
        let given = |name: &str| arguments.text(name).filter(|text| !text.is_empty()).map(str::to_owned);
        let mut words = arguments.words().into_iter();
        let (target, word, more) = (words.next(), words.next(), words.next());
        let selector = given("selector");
        if more.is_some() || (target.is_none() && selector.is_none()) {
            return Err(arguments.usage(USAGE));
        }
        if word.is_some() && given("container").is_some() {
            return Err(Failure::local("only one of -c or an inline [CONTAINER] arg is allowed"));
        }
        if selector.is_some() && target.is_some() {
            return Err(arguments.usage("only a selector (-l) or a POD name is allowed"));
        }
        if arguments.duration("since")?.is_some_and(|duration| duration.is_negative()) {
            return Err(Failure::local("--since must be greater than 0"));
        }
        if let (true, Some(container)) = (arguments.on("all-containers"), given("container").or(word.clone())) {
            return Err(Failure::local(format!(
                "--all-containers=true should not be specified with container name {container}"
            )));
        }
        let since_time = given("since-time").map(|text| {
            text.parse().map_err(|error| {
                Failure::local(format!(
                    "--since-time {}: {error}: give a time such as 2026-11-20T21:55:47Z",
                    go_quote(&text)
                ))
            })
        });
        let since_time = since_time.transpose()?;
        let since = arguments.timeout("since")?;
        if since.is_some() && since_time.is_some() {
            return Err(Failure::local("at most one of `sinceTime` or `sinceSeconds` may be specified"));
        }
        Ok(Self {
            target,
            container: given("container").or(word),
            follow: arguments.on("follow"),
            previous: arguments.on("previous"),
            tail: if arguments.changed("tail") { arguments.int("tail")? } else { None },
            since,
            since_time,
            timestamps: arguments.on("timestamps"),
            limit_bytes: if arguments.changed("limit-bytes") { arguments.int("limit-bytes")? } else { None },
            selector,
            all_containers: arguments.on("all-containers"),
            all_pods: arguments.on("all-pods"),
            prefix: arguments.on("prefix"),
            ignore_errors: arguments.on("ignore-errors"),
            max_log_requests: arguments
                .int("max-log-requests")?
                .and_then(|most| usize::try_from(most).ok())
                .unwrap_or(5),
            insecure: arguments.on("insecure-skip-tls-verify-backend"),
        })
    }
}

/// One container's log.
struct Source {
    pod: String,
    container: String,
    query: Query,
}

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let mut args = Args::of(arguments)?;
    if args.tail.is_some_and(|tail| tail < -1) {
        return Err(Failure::local("--tail must be greater than or equal to -1"));
    }
    if args.limit_bytes.is_some_and(|bytes| bytes < 1) {
        return Err(Failure::local("--limit-bytes must be greater than 0"));
    }
    if args.all_pods {
        args.prefix = true;
    }
    let pods = find_pods(&args, session).await?;
    let mut sources = Vec::new();
    for pod in &pods {
        let containers = containers(&args, session, pod).await?;
        sources.extend(containers.into_iter().map(|container| Source {
            pod: name_of(pod).to_owned(),
            query: query(&args, &container),
            container,
        }));
    }
    if !args.follow || sources.len() < 2 {
        for source in &sources {
            let copied = copy(&args, session, source).await;
            if let Err(failure) = copied {
                skip(&args, session, source, failure, sources.len()).await?;
            }
        }
        return Ok(());
    }
    if sources.len() > args.max_log_requests {
        return Err(Failure::local(format!(
            "you are attempting to follow {} log streams, but maximum allowed concurrency is {}, use --max-log-requests to increase the limit",
            sources.len(),
            args.max_log_requests
        )));
    }
    let mut running: futures::stream::FuturesUnordered<_> =
        sources.iter().map(async |source| (source, copy(&args, session, source).await)).collect();
    while let Some((source, copied)) = running.next().await {
        if let Err(failure) = copied {
            skip(&args, session, source, failure, sources.len()).await?;
        }
    }
    Ok(())
}

async fn skip(args: &Args, session: &Session, source: &Source, failure: Failure, logs: usize) -> Outcome<()> {
    if !args.ignore_errors || logs < 2 || matches!(failure, Failure::Exit(_)) {
        return Err(failure);
    }
    session.say(&format!("{}/{}: {failure}", source.pod, source.container)).await
}

async fn find_pods(args: &Args, session: &Session) -> Outcome<Vec<Value>> {
    if let Some(selector) = &args.selector {
        let pods = pods::by_selector(session, selector).await?;
        if pods.is_empty() {
            session.say(&format!("No resources found in {} namespace.", session.namespace)).await?;
        }
        return Ok(pods);
    }
    let Some(target) = &args.target else { return Ok(Vec::new()) };
    let mut found = pods::find(session, target).await.map_err(|failure| match failure {
        Failure::Status(status) if status.is_not_found() => {
            let (said, namespace) = (&status.message, go_quote(&session.namespace));
            Failure::local(format!("error from server (NotFound): {said} in namespace {namespace}"))
        }
        other => other,
    })?;
    if found.len() > 1 && !args.all_pods {
        session.say(&format!("Found {} pods, using pod/{}", found.len(), name_of(&found[0]))).await?;
        found.truncate(1);
    }
    Ok(found)
}

async fn containers(args: &Args, session: &Session, pod: &Value) -> Outcome<Vec<String>> {
    if args.all_containers {
        // In the order in which they run.
        let lists = ["initContainers", "containers", "ephemeralContainers"];
        debug_assert!(lists.iter().all(|list| CONTAINER_LISTS.iter().any(|(known, _)| known == list)));
        return Ok(lists.iter().flat_map(|list| container_names(pod, list)).map(str::to_owned).collect());
    }
    match &args.container {
        Some(name) => {
            pods::check_container(pod, name)?;
            Ok(vec![name.clone()])
        }
        None => Ok(vec![pods::default_container(session, pod, false).await?]),
    }
}

fn query(args: &Args, container: &str) -> Query {
    let mut query = Query::default();
    query.set("container", container);
    for (name, on) in [
        ("follow", args.follow),
        ("previous", args.previous),
        ("timestamps", args.timestamps),
        ("insecureSkipTLSVerifyBackend", args.insecure),
    ] {
        if on {
            query.set(name, "true");
        }
    }
    let selected = args.selector.is_some() && args.tail.is_none() && args.since.is_none() && args.since_time.is_none();
    let tail = if selected { Some(TAIL_OF_SELECTED) } else { args.tail };
    if let Some(tail) = tail.filter(|tail| *tail >= 0) {
        query.set("tailLines", &tail.to_string());
    }
    if let Some(since) = args.since {
        query.set("sinceSeconds", &(since.as_millis().div_ceil(1000)).to_string());
    }
    if let Some(time) = args.since_time {
        query.set("sinceTime", &crate::api::time::seconds(time));
    }
    if let Some(bytes) = args.limit_bytes {
        query.set("limitBytes", &bytes.to_string());
    }
    query
}

async fn copy(args: &Args, session: &Session, source: &Source) -> Outcome<()> {
    let path = format!("{}/log", object_path(&kinds::PODS, &session.namespace, &source.pod));
    let mut stream = session.stream(&source.query.on(&path), "*/*").await?;
    if !args.prefix {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let read = stream.read(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
            let mut streams = session.terminal.streams.lock().await;
            streams.out.write_all(&buffer[..read])?;
            streams.out.flush()?;
        }
    }
    let prefix = format!("[pod/{}/{}] ", source.pod, source.container);
    let mut line = Vec::new();
    loop {
        line.clear();
        if stream.read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        let mut streams = session.terminal.streams.lock().await;
        streams.out.write_all(prefix.as_bytes())?;
        streams.out.write_all(&line)?;
        streams.out.flush()?;
    }
}
