//! `kubectl debug`: a container with tools beside those of a pod, a copy of a pod, or a pod on a node.

use super::attach;
use super::changes::difference;
use super::discovery::Discovery;
use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Run, Verb, array, slice, switch, text};
use super::manifest::{self, FileArguments};
use super::output::name_in;
use super::session::{JSON, Session, object_path};
use super::suffix;
use super::targets;
use crate::api::{Fields, FieldsMut};
use crate::client::kinds::PODS;
use http::Method;
use serde_json::{Value, json};

pub(super) const VERB: Verb = Verb {
    name: "debug",
    about: "Look into pods and nodes with tools of your own",
    usage: "kubectl debug (POD | TYPE/NAME) [ -- COMMAND [args...] ]",
    flags: &[
        manifest::FLAGS,
        &[
            text("image", "IMAGE", "Image with the tools"),
            text("image-pull-policy", "POLICY", "When the image is pulled"),
            text("container", "NAME", "Name of the new container").short('c'),
            text("target", "NAME", "Container whose processes it sees"),
            text("copy-to", "NAME", "Make a copy of the pod by this name"),
            switch("replace", "With --copy-to: delete the pod"),
            switch("same-node", "With --copy-to: on the same node"),
            switch("share-processes", "With --copy-to: containers see each other's processes").default("true"),
            slice("set-image", "CONTAINER=IMAGE", "With --copy-to: other images; * for all"),
            switch("keep-labels", "With --copy-to: keep the labels"),
            switch("keep-annotations", "With --copy-to: keep the annotations"),
            switch("keep-liveness", "With --copy-to: keep liveness probes"),
            switch("keep-readiness", "With --copy-to: keep readiness probes"),
            switch("keep-startup", "With --copy-to: keep startup probes"),
            switch("keep-init-containers", "With --copy-to: keep init containers").default("true"),
            array("env", "KEY=VALUE", "A variable of the container"),
            switch("stdin", "Keep its input open").short('i'),
            switch("tty", "Give it a terminal").short('t'),
            switch("attach", "Connect to it when it runs"),
            switch("arguments-only", "What stands behind -- are arguments, not the command"),
            switch("quiet", "Say only what the container says").short('q'),
            text("profile", "PROFILE", "What it may do: legacy, general, baseline, restricted, netadmin, sysadmin")
                .default("general"),
            text("custom", "FILE", "JSON of a container to add to what the profile makes"),
        ],
    ],
    run: Run::Cluster(|arguments, session| Box::pin(run(arguments, session))),
    ..Verb::DEFAULT
};

async fn run(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let mut words = arguments.words();
    let files = FileArguments::of(arguments);
    check(arguments, session, words.is_empty() && files.is_empty()).await?;
    let discovery = Discovery::fetch(session).await?;
    if !files.is_empty() {
        let (manifests, failures) = manifest::read(&files, session, &discovery).await?;
        Failure::all(failures)?;
        words.extend(manifests.iter().map(|one| name_in(&one.resource.kind, one.name())));
    }
    for word in &words {
        let (kind, name) = if word.contains('/') { targets::split(word)? } else { ("pods", word.as_str()) };
        let resource = discovery.resolve_one(kind)?;
        let object = session.object(&resource.kind, &session.namespace, name).await?;
        let debug = Debug { arguments, session };
        let (pod, container) = match (&*resource.kind.group, &*resource.kind.kind) {
            ("", "Node") => debug.node(&object).await?,
            ("", "Pod") if arguments.text_or_empty("copy-to").is_empty() => debug.beside(&object).await?,
            ("", "Pod") => debug.copy(&object).await?,
            (group, kind) => {
                let version = &resource.kind.version;
                return Err(Failure::local(format!("\"{group}/{version}, Kind={kind}\" not supported by debug")));
            }
        };
        let attach = if arguments.changed("attach") { arguments.on("attach") } else { arguments.on("stdin") };
        if attach && !container.is_empty() {
            debug.attach(&pod, &container).await?;
        }
    }
    Ok(())
}

async fn check(arguments: &Arguments, session: &Session, nothing: bool) -> Outcome<()> {
    let [image, container, copy_to, target] =
        ["image", "container", "copy-to", "target"].map(|flag| arguments.text_or_empty(flag));
    let (behind, set_images) = (arguments.behind(), arguments.list("set-image"));
    let wrong = |text: &str| Err(Failure::local(text));
    if arguments.changed("attach") && arguments.on("attach") && image.is_empty() && container.is_empty() {
        return wrong("you must specify --container or create a new container using --image in order to attach.");
    }
    if !copy_to.is_empty() {
        if image.is_empty() && set_images.is_empty() && behind.is_empty() {
            return wrong("you must specify --image, --set-image or command arguments.");
        }
        if !behind.is_empty() && container.is_empty() && image.is_empty() {
            return wrong("you must specify an existing container or a new image when specifying args.");
        }
    } else if arguments.on("replace") {
        return wrong("--replace may only be used with --copy-to.");
    } else if arguments.on("same-node") {
        return wrong("--same-node may only be used with --copy-to.");
    } else if !set_images.is_empty() {
        return wrong("--set-image may only be used with --copy-to.");
    } else if image.is_empty() {
        return wrong("you must specify --image when not using --copy-to.");
    }
    if image.contains(char::is_whitespace) {
        return Err(Failure::local(format!("invalid image name {image:?}: invalid reference format")));
    }
    if nothing {
        return wrong("NAME or filename is required for debug");
    }
    let policy = arguments.text_or_empty("image-pull-policy");
    if !matches!(policy, "" | "Always" | "IfNotPresent" | "Never") {
        return Err(Failure::local(format!("invalid image pull policy: {policy}")));
    }
    if !target.is_empty() {
        if !copy_to.is_empty() {
            return wrong("--target is incompatible with --copy-to. Use --share-processes instead.");
        }
        if !arguments.on("quiet") {
            session
                .print(&format!("Targeting container {target:?}. If you don't see processes from this container it may be because the container runtime doesn't support this feature.\n"))
                .await?;
        }
    }
    if arguments.on("tty") && !arguments.on("stdin") {
        return wrong("-i/--stdin is required for containers with -t/--tty=true");
    }
    let profile = arguments.text_or_empty("profile");
    if !PROFILES.contains(&profile) {
        return Err(Failure::local(format!("unknown profile: {profile}")));
    }
    if profile == "legacy" {
        session
            .say("--profile=legacy is deprecated and planned to be removed in v1.39. It is recommended to specify other profile, for example \"--profile=general\".")
            .await?;
    }
    Ok(())
}

const PROFILES: &[&str] = &["legacy", "general", "baseline", "restricted", "netadmin", "sysadmin"];

/// Where the container goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Node,
    Copy,
    Ephemeral,
}

struct Debug<'a> {
    arguments: &'a Arguments,
    session: &'a Session,
}

impl Debug<'_> {
    fn container(&self, name: &str) -> Outcome<Value> {
        let mut container = json!({
            "name": name,
            "image": self.arguments.text_or_empty("image"),
            "terminationMessagePolicy": "File",
        });
        self.fill(&mut container)?;
        Ok(container)
    }

    /// What the flags say of a container that may be there already.
    fn fill(&self, container: &mut Value) -> Outcome<()> {
        let arguments = self.arguments;
        let behind = arguments.behind();
        if !behind.is_empty() {
            if arguments.on("arguments-only") {
                container.set("args", behind);
            } else {
                container.set("command", behind);
                container.clear("args");
            }
        }
        let mut env = Vec::new();
        for variable in arguments.list("env") {
            let Some((key, value)) = variable.split_once('=') else {
                return Err(Failure::local(format!("invalid env: {variable}")));
            };
            env.push(json!({ "name": key, "value": value }));
        }
        if !env.is_empty() {
            container.set("env", env);
        }
        for (field, flag) in [("image", "image"), ("imagePullPolicy", "image-pull-policy")] {
            if let Some(text) = arguments.text(flag).filter(|text| !text.is_empty()) {
                container.set(field, text);
            }
        }
        for field in ["stdin", "tty"] {
            match arguments.on(field) {
                true => container.set(field, true),
                false => container.clear(field),
            }
        }
        Ok(())
    }

    /// The given name, or one that is free.
    async fn name(&self, pod: &Value) -> Outcome<String> {
        let given = self.arguments.text_or_empty("container");
        if !given.is_empty() {
            return Ok(given.to_owned());
        }
        let spec = pod.at("spec");
        let lists = ["containers", "initContainers", "ephemeralContainers"];
        let name = loop {
            let name = format!("debugger-{}", suffix::random());
            if !lists.iter().flat_map(|list| spec.list_at(list)).any(|container| container.str_at("name") == name) {
                break name;
            }
        };
        if !self.arguments.on("quiet") {
            self.session.print(&format!("Defaulting debug container name to {name}.\n")).await?;
        }
        Ok(name)
    }

    async fn beside(&self, pod: &Value) -> Outcome<(Value, String)> {
        let name = self.name(pod).await?;
        let mut container = self.container(&name)?;
        if let Some(target) = self.arguments.text("target").filter(|target| !target.is_empty()) {
            container.set("targetContainerName", target);
        }
        let mut after = pod.clone();
        self.profile(Style::Ephemeral, &mut container, &mut after)?;
        container = self.custom(container)?;
        let mut all = pod.at("spec").list_at("ephemeralContainers").to_vec();
        all.push(container);
        after.object_mut("spec").set("ephemeralContainers", all);
        let (patch, content_type) = difference(&PODS, pod, pod, &after)?;
        let metadata = pod.at("metadata");
        let path = object_path(&PODS, metadata.str_at("namespace"), metadata.str_at("name"));
        let pod =
            self.session.write(Method::PATCH, &format!("{path}/ephemeralcontainers"), content_type, &patch).await?;
        Ok((pod, name))
    }

    async fn copy(&self, pod: &Value) -> Outcome<(Value, String)> {
        let arguments = self.arguments;
        let metadata = pod.at("metadata");
        let mut copy = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": arguments.text_or_empty("copy-to"), "namespace": metadata.str_at("namespace") },
            "spec": pod.at("spec"),
        });
        for field in ["labels", "annotations"] {
            copy.object_mut("metadata").copy(field, metadata);
        }
        let spec = copy.object_mut("spec");
        spec.clear("ephemeralContainers");
        if !arguments.on("same-node") {
            spec.clear("nodeName");
        }
        if arguments.changed("share-processes") {
            spec.set("shareProcessNamespace", arguments.on("share-processes"));
        }
        let images: Vec<String> = arguments.list("set-image");
        let images: Vec<(&str, &str)> = images.iter().filter_map(|pair| pair.split_once('=')).collect();
        for container in spec.items_mut("containers") {
            let name = container.str_at("name").to_owned();
            let image =
                images.iter().find(|(other, _)| *other == name).or(images.iter().find(|(other, _)| *other == "*"));
            if let Some((_, image)) = image {
                container.set("image", *image);
            }
        }
        let name = self.debugged(&mut copy, !images.is_empty()).await?;
        let created = self.session.write(Method::POST, &PODS.path(metadata.str_at("namespace")), JSON, &copy).await?;
        if arguments.on("replace") {
            let options = json!({ "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0 });
            let path = object_path(&PODS, metadata.str_at("namespace"), metadata.str_at("name"));
            self.session.write(Method::DELETE, &path, JSON, &options).await?;
        }
        Ok((created, name))
    }

    /// The container of a copy that is debugged: one of its own, or a new one. Empty: none.
    async fn debugged(&self, copy: &mut Value, only_images: bool) -> Outcome<String> {
        let given = self.arguments.text_or_empty("container");
        let known = |container: &&mut Value| !given.is_empty() && container.str_at("name") == given;
        if copy.object_mut("spec").items_mut("containers").any(|container| known(&container)) {
            self.strip(copy);
            if let Some(container) = copy.object_mut("spec").items_mut("containers").find(known) {
                self.fill(container)?;
                self.capabilities(Style::Copy, container);
                *container = self.custom(container.take())?;
            }
            return Ok(given.to_owned());
        }
        if self.arguments.text_or_empty("image").is_empty() {
            return match only_images {
                true => Ok(String::new()),
                false => Err(Failure::local("you must specify image when creating new container")),
            };
        }
        let name = self.name(copy).await?;
        let mut container = self.container(&name)?;
        self.strip(copy);
        self.profile(Style::Copy, &mut container, copy)?;
        container = self.custom(container)?;
        if let Some(Value::Array(containers)) = copy.object_mut("spec").get_mut("containers") {
            containers.push(container);
        }
        Ok(name)
    }

    async fn node(&self, node: &Value) -> Outcome<(Value, String)> {
        let node = node.at("metadata").str_at("name");
        let name = match self.arguments.text_or_empty("container") {
            "" => "debugger",
            name => name,
        };
        let pod_name = format!("node-debugger-{node}-{}", suffix::random());
        if !self.arguments.on("quiet") {
            let text = format!("Creating debugging pod {pod_name} with container {name} on node {node}.\n");
            self.session.print(&text).await?;
        }
        let mut container = self.container(name)?;
        let mut pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": pod_name, "labels": { "app.kubernetes.io/managed-by": "kubectl-debug" } },
            "spec": { "nodeName": node, "restartPolicy": "Never", "tolerations": [{ "operator": "Exists" }] },
        });
        self.profile(Style::Node, &mut container, &mut pod)?;
        container = self.custom(container)?;
        pod.object_mut("spec").set("containers", json!([container]));
        let created = self.session.write(Method::POST, &PODS.path(&self.session.namespace), JSON, &pod).await?;
        Ok((created, name.to_owned()))
    }

    /// What the profile lets the container do.
    fn profile(&self, style: Style, container: &mut Value, pod: &mut Value) -> Outcome<()> {
        let profile = self.arguments.text_or_empty("profile");
        if style == Style::Node && matches!(profile, "legacy" | "general" | "sysadmin") {
            let spec = pod.object_mut("spec");
            spec.set("volumes", json!([{ "name": "host-root", "hostPath": { "path": "/" } }]));
            container.set("volumeMounts", json!([{ "name": "host-root", "mountPath": "/host" }]));
        }
        if style == Style::Node && matches!(profile, "legacy" | "general" | "netadmin" | "sysadmin") {
            let spec = pod.object_mut("spec");
            for field in ["hostNetwork", "hostPID", "hostIPC"] {
                if profile != "netadmin" || field != "hostIPC" {
                    spec.set(field, true);
                }
            }
        }
        self.capabilities(style, container);
        Ok(())
    }

    /// What the profile adds to the container itself.
    fn capabilities(&self, style: Style, container: &mut Value) {
        let add = |container: &mut Value, capabilities: Value| {
            container.object_mut("securityContext").object_mut("capabilities").set("add", capabilities);
        };
        match self.arguments.text_or_empty("profile") {
            "general" if style != Style::Node => add(container, json!(["SYS_PTRACE"])),
            "netadmin" => add(container, json!(["NET_ADMIN", "NET_RAW"])),
            "sysadmin" => container.object_mut("securityContext").set("privileged", true),
            "restricted" => {
                let context = container.object_mut("securityContext");
                context.set("allowPrivilegeEscalation", false);
                context.set("capabilities", json!({ "drop": ["ALL"] }));
                context.set("runAsNonRoot", true);
                context.set("seccompProfile", json!({ "type": "RuntimeDefault" }));
            }
            _ => {}
        }
    }

    /// What the profile takes out of the copy of a pod.
    fn strip(&self, copy: &mut Value) {
        let arguments = self.arguments;
        let legacy = arguments.text_or_empty("profile") == "legacy";
        for (field, flag) in [("labels", "keep-labels"), ("annotations", "keep-annotations")] {
            let kept = if legacy { field == "annotations" } else { arguments.on(flag) };
            if !kept {
                copy.object_mut("metadata").clear(field);
            }
        }
        if legacy {
            return;
        }
        let spec = copy.object_mut("spec");
        spec.set_default("shareProcessNamespace", true);
        if !arguments.on("keep-init-containers") {
            spec.clear("initContainers");
        }
        for container in spec.items_mut("containers") {
            for (probe, flag) in [
                ("livenessProbe", "keep-liveness"),
                ("readinessProbe", "keep-readiness"),
                ("startupProbe", "keep-startup"),
            ] {
                if !arguments.on(flag) {
                    container.clear(probe);
                }
            }
        }
    }

    /// With what the file of `--custom` says, merged as a container of a pod.
    fn custom(&self, container: Value) -> Outcome<Value> {
        let path = self.arguments.text_or_empty("custom");
        if path.is_empty() {
            return Ok(container);
        }
        let text = std::fs::read_to_string(path).map_err(|error| {
            let why = super::create::sources::reason(&error);
            Failure::local(format!("must pass a container spec json file for custom profile: open {path}: {why}"))
        })?;
        let mut custom = crate::schema::yaml::parse(text.as_bytes())
            .map_err(|why| Failure::local(format!("{path} does not contain a valid container spec: {why}")))?;
        custom.copy("name", &container);
        let kind = crate::api::GroupVersionKind::new("", "v1", "Pod");
        let schema = crate::schema::builtin_schema(&kind).ok_or_else(|| Failure::local("no schema of pods"))?;
        let of = |container: Value| json!({ "spec": { "containers": [container] } });
        let mut merged = crate::schema::strategic_merge(&schema, of(container), of(custom))?;
        Ok(merged["spec"]["containers"][0].take())
    }

    async fn attach(&self, pod: &Value, container: &str) -> Outcome<()> {
        let arguments = self.arguments;
        let name = pod.at("metadata").str_at("name");
        let running = attach::started(self.session, name, container, None).await?;
        let status = running.at("status");
        let lists = ["containerStatuses", "ephemeralContainerStatuses", "initContainerStatuses"];
        let mut statuses = lists.iter().flat_map(|list| status.list_at(list));
        let state = statuses.find(|one| one.str_at("name") == container).map_or(&Value::Null, |one| one.at("state"));
        if state.has("terminated") {
            return attach::log(self.session, &running, container).await;
        }
        let (stdin, tty, quiet) = (arguments.on("stdin"), arguments.on("tty"), arguments.on("quiet"));
        if let Err(failure) = attach::to(self.session, &running, container, stdin, tty, quiet).await {
            let why = failure.message();
            let text = format!("warning: couldn't attach to pod/{name}, falling back to streaming logs: {why}");
            self.session.say(&text).await?;
            return attach::log(self.session, &running, container).await;
        }
        Ok(())
    }
}
