//! `kubectl attach`: the input and output of a container's own process.

use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Run, Verb, switch, text};
use super::following::{follow, within};
use super::manifest;
use super::pods::{self, name_of};
use super::process;
use super::session::{Query, Session, object_path};
use crate::api::Fields;
use crate::api::field::go_quote;
use crate::client::kinds::PODS;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::Value;
use std::time::Duration;

pub(super) const VERB: Verb = Verb {
    name: "attach",
    about: "Connect to the process of a container",
    usage: "kubectl attach (POD | TYPE/NAME) -c CONTAINER",
    flags: &[
        manifest::FLAGS,
        &[
            text("container", "NAME", "Container, where there are several").short('c'),
            switch("stdin", "Pass standard input on").short('i'),
            switch("tty", "Standard input is a terminal").short('t'),
            switch("quiet", "Say only what the process says").short('q'),
            text("pod-running-timeout", "DURATION", "How long to wait until a pod runs").default("1m0s"),
        ],
    ],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let words = arguments.words();
    let target = match words.as_slice() {
        [target] => target,
        [] => return Err(Failure::local("at least 1 argument is required for attach")),
        _ => {
            return Err(Failure::local(format!(
                "expected POD, TYPE/NAME, or TYPE NAME, (at most 2 arguments) saw {}: [{}]",
                words.len(),
                words.join(" ")
            )));
        }
    };
    let found = pods::find(session, target).await?;
    let pod = found.first().ok_or_else(|| Failure::local(format!("no pods found for {target}")))?;
    let container = match arguments.text("container").filter(|name| !name.is_empty()) {
        Some(name) => {
            pods::check_container(pod, name)
                .map_err(|failure| Failure::local(format!("cannot attach to the container: {}", failure.message())))?;
            name.to_owned()
        }
        None => pods::default_container(session, pod, arguments.on("quiet")).await?,
    };
    to(session, pod, &container, arguments.on("stdin"), arguments.on("tty"), arguments.on("quiet")).await
}

/// Attach to a container of a pod until its process ends.
pub(super) async fn to(
    session: &Session,
    pod: &Value,
    container: &str,
    stdin: bool,
    tty: bool,
    quiet: bool,
) -> Outcome<()> {
    if let "Succeeded" | "Failed" = pod.at("status").str_at("phase") {
        return Err(Failure::local(format!(
            "cannot attach a container in a completed pod; current phase is {}",
            pod.at("status").str_at("phase")
        )));
    }
    let lists = ["containers", "initContainers", "ephemeralContainers"];
    let spec = pod.at("spec");
    let mut all = lists.iter().flat_map(|list| spec.list_at(list));
    let Some(described) = all.find(|one| one.str_at("name") == container) else {
        return Err(Failure::local(format!("container {container} not found in pod {}", name_of(pod))));
    };
    let mut tty = tty;
    if tty && !described.bool_at("tty") {
        tty = false;
        if !quiet {
            session.say(&format!("error: Unable to use a TTY - container {container} did not allocate one")).await?;
        }
    } else if !tty && described.bool_at("tty") {
        // What it writes is meant for one.
        tty = stdin && std::io::IsTerminal::is_terminal(&std::io::stdin());
    }
    let parameters = process::parameters(session, container, stdin, tty).await?;
    let api: Api<Pod> = Api::namespaced(session.client.clone(), &session.namespace);
    if !quiet {
        session
            .say("All commands and output from this session will be recorded in container logs, including credentials and sensitive information passed through the command prompt.\nIf you don't see a command prompt, try pressing enter.")
            .await?;
    }
    let process = api.attach(name_of(pod), &parameters).await.map_err(|error| session.unreachable(error))?;
    process::attend(process, session, parameters.tty).await?;
    if stdin && parameters.tty && spec.str_at("restartPolicy") == "Always" {
        let name = name_of(pod);
        let text = format!(
            "Session ended, resume using 'kubectl attach {name} -c {container} -i -t' command when the pod is running"
        );
        session.print(&format!("{text}\n")).await?;
    }
    Ok(())
}

/// Wait until a container of a pod runs, or is over; the pod as it is then.
pub(super) async fn started(
    session: &Session,
    name: &str,
    container: &str,
    timeout: Option<Duration>,
) -> Outcome<Value> {
    let kind = PODS;
    let running = follow(session, &kind, &session.namespace, name, async |pod: Option<&Value>| {
        let Some(pod) = pod else {
            return Err(Failure::Status(Box::new(crate::api::Status::not_found(
                &crate::api::GroupResource::new("", "pods"),
                name,
            ))));
        };
        let status = pod.at("status");
        if matches!(status.str_at("phase"), "Succeeded" | "Failed") {
            return Ok(Some(pod.clone()));
        }
        let lists = ["containerStatuses", "ephemeralContainerStatuses", "initContainerStatuses"];
        let mut statuses = lists.iter().flat_map(|list| status.list_at(list));
        let state = statuses.find(|one| one.str_at("name") == container).map(|one| one.at("state"));
        Ok(state.filter(|state| state.has("running") || state.has("terminated")).map(|_| pod.clone()))
    });
    within(timeout, running, || "timed out waiting for the condition".to_owned()).await
}

/// The log of a container, for one that ended before anybody could attach.
pub(super) async fn log(session: &Session, pod: &Value, container: &str) -> Outcome<()> {
    let mut query = Query::default();
    query.set("container", container);
    let path = format!("{}/log", object_path(&PODS, &session.namespace, name_of(pod)));
    session.print(&session.text(&query.on(&path)).await?).await
}

/// The exit code of a pod that is over, as an error where it is not 0.
pub(super) fn ended(pod: &Value) -> Outcome<()> {
    let metadata = pod.at("metadata");
    let name = format!("{}/{}", metadata.str_at("namespace"), metadata.str_at("name"));
    match pod.at("status").str_at("phase") {
        "Succeeded" => Ok(()),
        "Failed" => {
            let statuses = pod.at("status").list_at("containerStatuses");
            let state = statuses.first().map_or(&Value::Null, |status| status.at("state").at("terminated"));
            match u8::try_from(state.int_at("exitCode")) {
                Ok(code) if code != 0 => {
                    let text =
                        format!("pod {name} terminated ({})\n{}", state.str_at("reason"), state.str_at("message"));
                    Err(Failure::Ended(text.trim_end_matches('\n').to_owned(), code))
                }
                _ => Err(Failure::local(format!("pod {name} failed with unknown exit code"))),
            }
        }
        phase => Err(Failure::local(format!("pod {name} left in phase {}", go_quote(phase).trim_matches('"')))),
    }
}
