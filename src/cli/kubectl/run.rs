//! `kubectl run`: a pod of one image; with `-i`, and the user at its input.

use super::attach;
use super::changes::{self, Change, DryRun};
use super::delete;
use super::expose;
use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Run, Verb, array, switch, text};
use super::following::{follow, within};
use super::output;
use super::patch;
use super::session::{JSON, Session, object_path};
use crate::api::field::go_quote;
use crate::api::{Fields, FieldsMut};
use crate::client::kinds::{PODS, SERVICES};
use http::Method;
use serde_json::{Value, json};

pub(super) const VERB: Verb = Verb {
    name: "run",
    about: "Run an image in a pod",
    usage: "kubectl run NAME --image=image [--env=\"key=value\"] [--port=port] [--dry-run=server|client] [--overrides=inline-json] [--command] -- [COMMAND] [args...]",
    flags: &[
        output::FLAGS,
        &[
            changes::DRY_RUN,
            changes::FIELD_MANAGER,
            changes::SAVE_CONFIG,
            text("image", "IMAGE", "Image to run"),
            text("image-pull-policy", "POLICY", "When the image is pulled"),
            array("env", "KEY=VALUE", "A variable of the container"),
            text("port", "PORT", "Port that the container opens"),
            text("labels", "KEY=VALUE,…", "Labels of the pod").short('l'),
            array("annotations", "KEY=VALUE", "An annotation of the pod"),
            text("restart", "POLICY", "When the container is started again: Always, OnFailure, Never")
                .default("Always"),
            switch("expose", "Also create a Service for --port"),
            switch("command", "What stands behind -- is the command, not its arguments"),
            switch("privileged", "Run it privileged"),
            switch("stdin", "Keep its input open").short('i'),
            switch("tty", "Give it a terminal").short('t'),
            switch("attach", "Connect to it when it runs"),
            switch("leave-stdin-open", "Leave its input open behind the first attach"),
            switch("rm", "Delete the pod when it is over"),
            switch("quiet", "Say only what the container says").short('q'),
            text("overrides", "JSON", "What to change in the pod before it is created"),
            text("override-type", "TYPE", "What --overrides is: json, merge, strategic").default("merge"),
            text("pod-running-timeout", "DURATION", "How long to wait until it runs").default("1m0s"),
            text("grace-period", "SECONDS", "With --rm: how long it has to end").default("-1"),
            switch("force", "With --rm: forget it at once"),
        ],
    ],
    required: &["image"],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let words = arguments.words();
    let Some((name, more)) = words.split_first() else {
        return Err(arguments.usage("NAME is required for run"));
    };
    let change = Change::of(arguments, "created", "kubectl-run")?;
    let (stdin, tty) = (arguments.on("stdin"), arguments.on("tty"));
    let attach = if arguments.changed("attach") { arguments.on("attach") } else { stdin };
    let image = arguments.text_or_empty("image");
    if image.is_empty() {
        return Err(Failure::local("--image is required"));
    }
    if image.contains(char::is_whitespace)
        || image.bytes().any(|byte| byte.is_ascii_uppercase()) && !image.contains([':', '/'])
    {
        return Err(Failure::local(format!("Invalid image name {}: invalid reference format", go_quote(image))));
    }
    if tty && !stdin {
        return Err(arguments.usage("-i/--stdin is required for containers with -t/--tty=true"));
    }
    if arguments.on("expose") && arguments.text_or_empty("port").is_empty() {
        return Err(arguments.usage("--port must be set when exposing a service"));
    }
    if !attach && arguments.on("rm") {
        return Err(arguments.usage("--rm should only be used for attached containers"));
    }
    if attach && change.dry_run != DryRun::None {
        return Err(arguments.usage(
            "--dry-run=[server|client] can't be used with attached containers options (--attach, --stdin, or --tty)",
        ));
    }
    let command = [more, &arguments.behind()].concat();
    let pod = patch::with_overrides(arguments, pod(arguments, name, &command)?, "merge")?;
    let pod = placed(session, &change, pod);
    let created = change.create(session, &PODS, &session.namespace, &change.configured(&pod)).await?;
    let mut exposed = false;
    if arguments.on("expose") {
        let service = placed(session, &change, service(arguments, name)?);
        let service = change.create(session, &SERVICES, &session.namespace, &service).await?;
        change.print(session, &service).await?;
        if matches!(change.format, output::Format::Yaml) {
            session.print("---\n").await?;
        }
        exposed = true;
    }
    if attach {
        let attached = attended(arguments, session, &created, stdin, tty).await;
        if arguments.on("rm") {
            remove(arguments, session, name, exposed).await?;
        }
        return attached;
    }
    change.print(session, &created).await
}

fn placed(session: &Session, change: &Change, mut object: Value) -> Value {
    if change.only_says() && session.namespace_is_given {
        object.object_mut("metadata").set("namespace", session.namespace.as_str());
    }
    object
}

fn pod(arguments: &Arguments, name: &str, command: &[String]) -> Outcome<Value> {
    let labels = match arguments.text_or_empty("labels") {
        "" => json!({ "run": name }),
        text => expose::labels(text)?,
    };
    let mut container = json!({ "image": arguments.text_or_empty("image"), "name": name, "resources": {} });
    if !command.is_empty() {
        container.set(if arguments.on("command") { "command" } else { "args" }, command.to_vec());
    }
    let policy = arguments.text_or_empty("image-pull-policy");
    match policy {
        "" => {}
        "Always" | "IfNotPresent" | "Never" => container.set("imagePullPolicy", policy),
        other => return Err(arguments.usage(format!("invalid image pull policy: {other}"))),
    }
    let mut env = Vec::new();
    for variable in arguments.list("env") {
        let Some((key, value)) = variable.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(Failure::local(format!("invalid env: {variable}")));
        };
        let mut entry = json!({ "name": key });
        if !value.is_empty() {
            entry.set("value", value);
        }
        env.push(entry);
    }
    if !env.is_empty() {
        container.set("env", env);
    }
    if let Some(port) = arguments.int("port")? {
        container.set("ports", json!([{ "containerPort": port }]));
    }
    if arguments.on("privileged") {
        container.set("securityContext", json!({ "privileged": true }));
    }
    for (field, on) in [
        ("stdin", arguments.on("stdin")),
        ("stdinOnce", arguments.on("stdin") && !arguments.on("leave-stdin-open")),
        ("tty", arguments.on("tty")),
    ] {
        if on {
            container.set(field, true);
        }
    }
    let restart = arguments.text_or_empty("restart");
    if !matches!(restart, "Always" | "OnFailure" | "Never") {
        return Err(arguments.usage(format!("invalid restart policy: {restart}")));
    }
    let mut metadata = json!({ "labels": labels, "name": name });
    for annotation in arguments.list("annotations") {
        let Some((key, value)) = annotation.split_once('=') else {
            return Err(Failure::local(format!("unexpected annotation: {annotation}")));
        };
        metadata.object_mut("annotations").set(key, value);
    }
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": { "containers": [container], "dnsPolicy": "ClusterFirst", "restartPolicy": restart },
        "status": {},
    }))
}

/// Of `--expose`.
fn service(arguments: &Arguments, name: &str) -> Outcome<Value> {
    let port = arguments.int("port")?.unwrap_or_default();
    let mut metadata = json!({ "name": name });
    let mut selector = json!({ "run": name });
    let labels = arguments.text_or_empty("labels");
    if !labels.is_empty() {
        selector = expose::labels(labels)?;
        metadata.set("labels", selector.clone());
    }
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": { "ports": [{ "port": port, "protocol": "TCP", "targetPort": port }], "selector": selector },
        "status": { "loadBalancer": {} },
    }))
}

/// Stay with the pod until it is over.
async fn attended(arguments: &Arguments, session: &Session, pod: &Value, stdin: bool, tty: bool) -> Outcome<()> {
    let name = pod.at("metadata").str_at("name");
    let container = pod.at("spec").list_at("containers").first().map_or("", |container| container.str_at("name"));
    let timeout = arguments.timeout("pod-running-timeout")?;
    let running = attach::started(session, name, container, timeout).await?;
    if matches!(running.at("status").str_at("phase"), "Succeeded" | "Failed") {
        attach::log(session, &running, container).await?;
    } else if let Err(failure) = attach::to(session, &running, container, stdin, tty, arguments.on("quiet")).await {
        let why = failure.message();
        let text = format!("warning: couldn't attach to pod/{name}, falling back to streaming logs: {why}");
        session.say(&text).await?;
        attach::log(session, &running, container).await?;
    }
    let restart = arguments.text_or_empty("restart");
    if arguments.on("leave-stdin-open") || restart == "Always" {
        return Ok(());
    }
    let kind = PODS;
    let over = follow(session, &kind, &session.namespace, name, async |pod: Option<&Value>| {
        let Some(pod) = pod else {
            return Err(crate::api::Status::not_found(&crate::api::GroupResource::new("", "pods"), name).into());
        };
        let phase = pod.at("status").str_at("phase");
        let over = phase == "Succeeded" || (phase == "Failed" && restart == "Never");
        Ok(over.then(|| pod.clone()))
    });
    attach::ended(&within(timeout, over, || "timed out waiting for the condition".to_owned()).await?)
}

/// `--rm`.
async fn remove(arguments: &Arguments, session: &Session, name: &str, exposed: bool) -> Outcome<()> {
    let mut options = json!({ "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background" });
    let grace = arguments.int("grace-period")?.unwrap_or(-1);
    let force = arguments.on("force");
    if force || grace >= 0 {
        options["gracePeriodSeconds"] = if force { 0 } else { grace }.into();
    }
    for kind in [&PODS, &SERVICES].into_iter().take(if exposed { 2 } else { 1 }) {
        match session.write(Method::DELETE, &object_path(kind, &session.namespace, name), JSON, &options).await {
            Ok(_) if arguments.on("quiet") => {}
            Ok(_) => session.print(&delete::said(kind, &session.namespace, name, force, "")).await?,
            Err(failure) if failure.is_not_found() => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}
