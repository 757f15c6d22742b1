//! The containers of a pod or of a pod template.

use super::page::{Page, line, or_none, time};
use super::{flag, go_strings, quoted};
use crate::api::jsonpath::to_text;
use crate::api::{Fields, Quantity};
use serde_json::Value;

/// What fields of the pod say to its environment; those of a template say nothing.
pub struct PodValues<'a>(pub Option<&'a Value>);

impl PodValues<'_> {
    fn field(&self, path: &str) -> String {
        let Some(metadata) = self.0.map(|pod| pod.at("metadata")) else { return String::new() };
        for map in ["annotations", "labels"] {
            let key = path.strip_prefix("metadata.").and_then(|rest| rest.strip_prefix(map)?.strip_prefix("['"));
            if let Some(key) = key.and_then(|key| key.strip_suffix("']")) {
                return metadata.at(map).str_at(key).to_owned();
            }
        }
        match path {
            "metadata.name" | "metadata.namespace" | "metadata.uid" => {
                metadata.str_at(path.trim_start_matches("metadata.")).to_owned()
            }
            _ => String::new(),
        }
    }

    /// `limits.cpu` of a container, in units of the divisor.
    fn resource(&self, container: &Value, reference: &Value) -> String {
        let named = reference.str_at("containerName");
        let containers = self.0.map(|pod| pod.at("spec").list_at("containers")).unwrap_or_default();
        let other = containers.iter().find(|other| other.str_at("name") == named);
        let container = other.unwrap_or(container);
        let Some((kind, name)) = reference.str_at("resource").split_once('.') else { return String::new() };
        let Some(amount) = container.at("resources").at(kind).get_set(name) else { return "0".to_owned() };
        let amount = Quantity::of(amount);
        let divisor = reference.get_set("divisor").map(Quantity::of).filter(|divisor| !divisor.is_zero());
        let units = |quantity: &Quantity| if name == "cpu" { quantity.milli_value() } else { quantity.value() };
        let unit = divisor.as_ref().map_or(if name == "cpu" { 1000 } else { 1 }, units).max(1);
        units(&amount).unsigned_abs().div_ceil(unit.unsigned_abs()).to_string()
    }
}

/// `space`: of a template, whose containers stand one column further in.
pub fn print(title: &str, containers: &[Value], statuses: &[Value], values: &PodValues, space: &str, page: &mut Page) {
    if containers.is_empty() {
        line!(page, 0, "{space}{title}: <none>");
        return;
    }
    line!(page, 0, "{space}{title}:");
    let name_indent = if space.is_empty() { "" } else { " " };
    for container in containers {
        let name = container.str_at("name");
        let status = statuses.iter().find(|status| status.str_at("name") == name);
        line!(page, 1, "{name_indent}{name}:");
        basics(container, status, page);
        command(container, page);
        if let Some(status) = status {
            state(status, page);
        }
        resources(container.at("resources"), page);
        for (title, field) in
            [("Liveness", "livenessProbe"), ("Readiness", "readinessProbe"), ("Startup", "startupProbe")]
        {
            if let Some(probe) = container.get_set(field) {
                line!(page, 2, "{title}:\t{}", probe_text(probe));
            }
        }
        environment(container, values, page);
        mounts(container, page);
    }
}

fn basics(container: &Value, status: Option<&Value>, page: &mut Page) {
    if let Some(status) = status {
        line!(page, 2, "Container ID:\t{}", status.str_at("containerID"));
    }
    line!(page, 2, "Image:\t{}", container.str_at("image"));
    if let Some(status) = status {
        line!(page, 2, "Image ID:\t{}", status.str_at("imageID"));
    }
    let ports = container.list_at("ports");
    for (title, field) in [("Port", "containerPort"), ("Host Port", "hostPort")] {
        let text = |port: &Value| {
            let name = port.optional_str("name").map(|name| format!(" ({name})")).unwrap_or_default();
            format!("{}/{}{name}", port.int_at(field), port.str_at("protocol"))
        };
        let texts: Vec<String> = ports.iter().map(text).collect();
        let plural = if texts.len() > 1 { "s" } else { "" };
        line!(page, 2, "{title}{plural}:\t{}", or_none(&texts.join(", ")));
    }
    seccomp(container.at("securityContext"), 2, page);
}

/// The seccomp profile of a security context, where it has one.
pub fn seccomp(context: &Value, level: usize, page: &mut Page) {
    let Some(profile) = context.get_set("seccompProfile") else { return };
    line!(page, level, "SeccompProfile:\t{}", profile.str_at("type"));
    if profile.str_at("type") == "Localhost" {
        line!(page, level, "LocalhostProfile:\t{}", profile.str_at("localhostProfile"));
    }
}

fn command(container: &Value, page: &mut Page) {
    for (title, field) in [("Command", "command"), ("Args", "args")] {
        if container.list_at(field).is_empty() {
            continue;
        }
        line!(page, 2, "{title}:");
        for part in container.strs_at(field).flat_map(|part| part.split('\n')) {
            line!(page, 3, "{part}");
        }
    }
}

fn state(status: &Value, page: &mut Page) {
    one_state("State", status.at("state"), page);
    if status.at("lastState").has("terminated") {
        one_state("Last State", status.at("lastState"), page);
    }
    line!(page, 2, "Ready:\t{}", if status.bool_at("ready") { "True" } else { "False" });
    line!(page, 2, "Restart Count:\t{}", status.int_at("restartCount"));
}

fn one_state(title: &str, state: &Value, page: &mut Page) {
    let said = |object: &Value, field: &str, title: &str, page: &mut Page| {
        if !object.str_at(field).is_empty() {
            line!(page, 3, "{title}:\t{}", object.str_at(field));
        }
    };
    if let Some(running) = state.get_set("running") {
        line!(page, 2, "{title}:\tRunning");
        line!(page, 3, "Started:\t{}", time(running.str_at("startedAt")));
    } else if let Some(terminated) = state.get_set("terminated") {
        line!(page, 2, "{title}:\tTerminated");
        said(terminated, "reason", "Reason", page);
        said(terminated, "message", "Message", page);
        line!(page, 3, "Exit Code:\t{}", terminated.int_at("exitCode"));
        if terminated.int_at("signal") > 0 {
            line!(page, 3, "Signal:\t{}", terminated.int_at("signal"));
        }
        line!(page, 3, "Started:\t{}", time(terminated.str_at("startedAt")));
        line!(page, 3, "Finished:\t{}", time(terminated.str_at("finishedAt")));
    } else {
        line!(page, 2, "{title}:\tWaiting");
        said(state.at("waiting"), "reason", "Reason", page);
    }
}

fn resources(resources: &Value, page: &mut Page) {
    for (title, field) in [("Limits", "limits"), ("Requests", "requests")] {
        let amounts = resources.map_at(field);
        if amounts.is_empty() {
            continue;
        }
        line!(page, 2, "{title}:");
        for (name, amount) in amounts {
            line!(page, 3, "{name}:\t{}", to_text(amount));
        }
    }
}

fn probe_text(probe: &Value) -> String {
    let attributes = format!(
        "delay={}s timeout={}s period={}s #success={} #failure={}",
        probe.int_at("initialDelaySeconds"),
        probe.int_at("timeoutSeconds"),
        probe.int_at("periodSeconds"),
        probe.int_at("successThreshold"),
        probe.int_at("failureThreshold")
    );
    let port = |action: &Value| match action.at("port") {
        Value::String(name) => name.clone(),
        number => number.to_string(),
    };
    if let Some(exec) = probe.get_set("exec") {
        format!("exec {} {attributes}", go_strings(exec.strs_at("command")))
    } else if let Some(http) = probe.get_set("httpGet") {
        let scheme = http.str_at("scheme").to_lowercase();
        format!("http-get {scheme}://{}:{}{} {attributes}", http.str_at("host"), port(http), http.str_at("path"))
    } else if let Some(tcp) = probe.get_set("tcpSocket") {
        format!("tcp-socket {}:{} {attributes}", tcp.str_at("host"), port(tcp))
    } else if let Some(grpc) = probe.get_set("grpc") {
        format!("grpc <pod>:{} {} {attributes}", grpc.int_at("port"), grpc.str_at("service"))
    } else {
        format!("unknown {attributes}")
    }
}

fn environment(container: &Value, values: &PodValues, page: &mut Page) {
    let sources = container.list_at("envFrom");
    if !sources.is_empty() {
        line!(page, 2, "Environment Variables from:");
    }
    for source in sources {
        let (reference, what) = match source.get_set("configMapRef") {
            Some(reference) => (reference, "ConfigMap"),
            None => (source.at("secretRef"), "Secret"),
        };
        let prefix = match source.str_at("prefix") {
            "" => String::new(),
            prefix => format!(" with prefix '{prefix}'"),
        };
        let optional = flag(reference, "optional");
        line!(page, 3, "{}\t{what}{prefix}\tOptional: {optional}", reference.str_at("name"));
    }
    let variables = container.list_at("env");
    line!(page, 2, "Environment:{}", if variables.is_empty() { "\t<none>" } else { "" });
    for variable in variables {
        let name = variable.str_at("name");
        let Some(from) = variable.get_set("valueFrom") else {
            for (at, part) in variable.str_at("value").split('\n').enumerate() {
                let title = if at == 0 { format!("{name}:") } else { String::new() };
                line!(page, 3, "{title}\t{part}");
            }
            continue;
        };
        if let Some(field) = from.get_set("fieldRef") {
            let (version, path) = (field.str_at("apiVersion"), field.str_at("fieldPath"));
            line!(page, 3, "{name}:\t{} ({version}:{path})", values.field(path));
        } else if let Some(resource) = from.get_set("resourceFieldRef") {
            line!(page, 3, "{name}:\t{} ({})", values.resource(container, resource), resource.str_at("resource"));
        } else if let Some(secret) = from.get_set("secretKeyRef") {
            let (key, of, optional) = (secret.str_at("key"), secret.str_at("name"), flag(secret, "optional"));
            line!(page, 3, "{name}:\t<set to the key '{key}' in secret '{of}'>\tOptional: {optional}");
        } else if let Some(map) = from.get_set("configMapKeyRef") {
            let (key, of, optional) = (map.str_at("key"), map.str_at("name"), flag(map, "optional"));
            line!(page, 3, "{name}:\t<set to the key '{key}' of config map '{of}'>\tOptional: {optional}");
        }
    }
}

fn mounts(container: &Value, page: &mut Page) {
    let mut mounts: Vec<&Value> = container.list_at("volumeMounts").iter().collect();
    mounts.sort_by_key(|mount| mount.str_at("mountPath"));
    line!(page, 2, "Mounts:{}", if mounts.is_empty() { "\t<none>" } else { "" });
    for mount in mounts {
        let mut flags = if mount.bool_at("readOnly") { "ro".to_owned() } else { "rw".to_owned() };
        if !mount.str_at("subPath").is_empty() {
            flags.push_str(&format!(",path={}", quoted(mount.str_at("subPath"))));
        }
        line!(page, 3, "{} from {} ({flags})", mount.str_at("mountPath"), mount.str_at("name"));
    }
    let devices = container.list_at("volumeDevices");
    if !devices.is_empty() {
        line!(page, 2, "Devices:");
        let mut devices: Vec<&Value> = devices.iter().collect();
        devices.sort_by_key(|device| device.str_at("devicePath"));
        for device in devices {
            line!(page, 3, "{} from {}", device.str_at("devicePath"), device.str_at("name"));
        }
    }
}
