//! Checks that share a cluster: each in a Kubernetes namespace of its own, several at once.

use crate::cluster::{self, Machine, both};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Output, Stdio};
use std::sync::Mutex;

/// What is checked, in words, and the check.
pub type Check = (&'static str, fn(&Space));

/// So many checks run at once: containers wait more than they work.
const AT_ONCE: usize = 4;

/// Run all checks, and fail with the names of those that failed.
pub fn check_all(machine: &Machine, checks: &[Check]) {
    let (next, failed) = (Mutex::new(checks.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some((what, check)) = next.lock().expect("no panic").next() else { return };
                    let space = Space::new(machine, what);
                    let begin = std::time::Instant::now();
                    let outcome = catch_unwind(AssertUnwindSafe(|| check(&space)));
                    eprintln!("{} {what} ({:.1?})", if outcome.is_ok() { "ok" } else { "FAILED" }, begin.elapsed());
                    if outcome.is_err() {
                        failed.lock().expect("no panic").push(*what);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("no panic");
    assert!(failed.is_empty(), "failed: {}", failed.join("; "));
}

/// A Kubernetes namespace.
pub struct Space<'a> {
    pub machine: &'a Machine,
    pub name: String,
    /// The kubectl that is used.
    pub program: String,
}

impl<'a> Space<'a> {
    pub fn new(machine: &'a Machine, what: &str) -> Self {
        let name: String = what.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(60).collect();
        let name = name.to_lowercase().trim_matches('-').to_owned();
        machine.kubectl(&["create", "namespace", &name]);
        // Pods are refused before the namespace has it.
        let path = format!("/api/v1/namespaces/{name}/serviceaccounts/default");
        cluster::wait("the default service account", || machine.api("GET", &path, &[]).0 == 200);
        Self { machine, name, program: "kubectl".to_owned() }
    }

    /// One that is there.
    pub fn again(machine: &'a Machine, name: &str) -> Self {
        Self { machine, name: name.to_owned(), program: "kubectl".to_owned() }
    }

    fn arguments<'b>(&'b self, arguments: &[&'b str]) -> Vec<&'b str> {
        let mut all = vec!["-n", self.name.as_str()];
        all.extend(arguments);
        all
    }

    pub fn try_kubectl(&self, arguments: &[&str]) -> Output {
        self.machine.try_program(&self.program, &self.arguments(arguments))
    }

    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.try_kubectl(arguments);
        assert!(output.status.success(), "{} {arguments:?}: {}", self.program, both(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Apply a manifest.
    pub fn apply(&self, manifest: &str) {
        let output = self.machine.pipe(&self.program, &self.arguments(&["apply", "-f", "-"]), manifest);
        assert!(output.status.success(), "{manifest}: {}", both(&output));
    }

    /// An object of the core group by its plural and name, or a list; Null when there is none.
    pub fn get(&self, path: &str) -> Value {
        self.machine.get(&format!("/api/v1/namespaces/{}/{path}", self.name))
    }

    /// Wait until an object of the core group is so; it is handed back.
    pub fn until(&self, path: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut object = Value::Null;
        cluster::wait(&format!("{path} in {}: {what}", self.name), || {
            object = self.get(path);
            is_so(&object)
        });
        object
    }

    /// Wait until a pod is ready.
    pub fn ready(&self, pod: &str) -> Value {
        self.until(&format!("pods/{pod}"), "is ready", |pod| cluster::condition(pod, "Ready") == "True")
    }

    /// Wait until a pod ended, one way or the other.
    pub fn ended(&self, pod: &str) -> Value {
        let is_over = |pod: &Value| matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        self.until(&format!("pods/{pod}"), "ended", is_over)
    }

    /// Wait until a pod is gone.
    pub fn gone(&self, pod: &str) {
        let path = format!("/api/v1/namespaces/{}/pods/{pod}", self.name);
        cluster::wait(&format!("pod {pod} is gone"), || self.machine.api("GET", &path, &[]).0 == 404);
    }

    /// What a script prints in the first container of a pod; it must succeed.
    pub fn exec(&self, pod: &str, script: &str) -> String {
        self.kubectl(&["exec", pod, "--", "sh", "-c", script])
    }

    /// The same, whatever becomes of it.
    pub fn try_exec(&self, pod: &str, script: &str) -> Output {
        self.try_kubectl(&["exec", pod, "--", "sh", "-c", script])
    }

    /// Do something while kubectl forwards a port of its choice to one of a pod or Service.
    pub fn forward<T>(&self, target: &str, port: u16, work: impl FnOnce(&str) -> T) -> T {
        let mut command = self.machine.command(&self.program);
        command.args(["-n", &self.name, "port-forward", target, &format!(":{port}")]).stdout(Stdio::piped());
        let mut forward = command.spawn().expect("kubectl starts");
        // It ends with the reader of its output.
        let mut output = BufReader::new(forward.stdout.take().expect("an output"));
        let mut said = String::new();
        output.read_line(&mut said).expect("a line");
        let address = said.strip_prefix("Forwarding from ").and_then(|rest| rest.split_whitespace().next());
        let outcome = work(&format!("http://{}/", address.unwrap_or_else(|| panic!("port-forward: {said}"))));
        forward.kill().expect("killed");
        forward.wait().expect("ended");
        outcome
    }

    /// Wait until an event with this reason tells of an object; its message.
    pub fn event(&self, object: &str, reason: &str) -> String {
        let mut message = String::new();
        cluster::wait(&format!("event {reason} of {object} in {}", self.name), || {
            let events = self.get("events");
            let found = events["items"].as_array().and_then(|all| {
                all.iter().find(|event| event["involvedObject"]["name"] == object && event["reason"] == reason)
            });
            message = found.and_then(|event| event["message"].as_str()).unwrap_or_default().to_owned();
            found.is_some()
        });
        message
    }
}

/// A pod of busybox that runs a script; `more` are further fields of its only container, as JSON.
pub fn pod(name: &str, script: &str, more: &str) -> String {
    pod_with(name, script, more, "{}")
}

/// The same with further fields of the pod's spec, as JSON.
pub fn pod_with(name: &str, script: &str, more: &str, spec: &str) -> String {
    let mut container: Value = serde_json::from_str(if more.is_empty() { "{}" } else { more }).expect("JSON");
    container["name"] = "main".into();
    if container["image"].is_null() {
        container["image"] = "busybox:1.35".into();
    }
    container["command"] = serde_json::json!(["sh", "-c", script]);
    let mut spec: Value = serde_json::from_str(spec).expect("JSON");
    spec["containers"] = serde_json::json!([container]);
    if spec["terminationGracePeriodSeconds"].is_null() {
        spec["terminationGracePeriodSeconds"] = 1.into();
    }
    let labels = serde_json::json!({ "app": name });
    serde_json::json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "labels": labels }, "spec": spec,
    })
    .to_string()
}

/// A script that serves a text over HTTP.
pub fn serve(port: u16, text: &str) -> String {
    format!("mkdir -p /tmp/www; echo {text} >/tmp/www/index.html; exec httpd -f -p {port} -h /tmp/www")
}

/// A script that asks for it: what the server says is printed, and it fails when there is none.
pub fn ask(address: &str, port: u16) -> String {
    format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {address} {port} | tail -n 1 | grep .")
}
