//! What a newcomer types: kubectl's verbs against the running cluster, with the kubectl on PATH and with the
//! oldest one that is to work.

use crate::cluster::{Machine, both, wait};
use crate::need_machine;
use crate::space::{Space, check_all, pod, pod_with};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// Debian's kubectl, where scripts/test put it.
fn old_kubectl() -> PathBuf {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/kubectl-1.20/usr/bin/kubectl");
    std::env::var_os("ORCH_TEST_OLD_KUBECTL").map_or_else(default, PathBuf::from)
}

#[test]
fn kubectl_as_with_any_other_cluster() {
    need_machine!();
    let mut machine = Machine::new();
    machine.add_images(&["busybox", "nginx"]);
    machine.start(&[]);
    machine.wait_ready();
    check_all(
        &machine,
        &[
            ("deployments from first to last", deployments),
            ("manifests", manifests),
            ("streams", streams),
            ("access and discovery", access_and_discovery),
            ("watching", watching),
            ("verbs of newer clients", newer_verbs),
            ("the oldest kubectl", the_oldest_kubectl),
        ],
    );
    cordon(&Space::new(&machine, "cordon"));
}

fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

/// Run kubectl in the background, its output in a file, until the value goes.
struct Background {
    child: Child,
    output: PathBuf,
}

impl Background {
    fn start(space: &Space, name: &str, arguments: &[&str]) -> Self {
        let output = space.machine.path(&format!("{}-{name}.out", space.name));
        let file = fs::File::create(&output).expect("a file");
        let mut command = space.machine.command(&space.program);
        command.args(["-n", &space.name]).args(arguments);
        let child = command.stdout(file).stderr(Stdio::null()).spawn().expect("kubectl starts");
        Self { child, output }
    }

    fn wait_for(&self, part: &str) {
        wait(&format!("{part:?} is printed"), || self.text().contains(part));
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn deployments(space: &Space) {
    let said = space.kubectl(&["create", "deployment", "web", "--image=nginx:1.22", "--replicas=2", "--port=80"]);
    assert_eq!(said, "deployment.apps/web created\n");
    space.kubectl(&["wait", "--for=condition=Available", "deployment/web", "--timeout=60s"]);
    let said = space.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    has(&said, &["deployment \"web\" successfully rolled out"]);
    let wide = space.kubectl(&["get", "deployment", "web", "-o", "wide"]);
    has(&wide, &["READY", "2/2", "nginx:1.22", "app=web"]);
    has(
        &space.kubectl(&["get", "deploy,rs,pods"]),
        &["deployment.apps/web", "replicaset.apps/web-", "pod/web-", "1/1"],
    );
    has(&space.kubectl(&["get", "deployment", "web", "-o", "yaml"]), &["apiVersion: apps/v1", "  replicas: 2"]);

    assert_eq!(space.kubectl(&["scale", "deployment/web", "--replicas=3"]), "deployment.apps/web scaled\n");
    space.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    let replicas =
        |space: &Space| space.kubectl(&["get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}"]);
    assert_eq!(replicas(space), "3");
    // An editor like any other.
    let mut command = space.machine.command("env");
    command.args(["KUBE_EDITOR=sed -i s/replicas:.3/replicas:\\ 1/", &space.program, "-n", &space.name]);
    let output = command.args(["edit", "deployment", "web"]).output().expect("kubectl starts");
    assert_eq!(both(&output), "deployment.apps/web edited\n");
    wait("it has one replica", || replicas(space) == "1");

    space.kubectl(&["set", "env", "deployment/web", "COLOR=blue"]);
    space.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    assert_eq!(space.kubectl(&["rollout", "restart", "deployment/web"]), "deployment.apps/web restarted\n");
    space.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    let history = space.kubectl(&["rollout", "history", "deployment/web"]);
    has(&history, &["REVISION", "\n1 ", "\n2 ", "\n3 "]);
    space.kubectl(&["rollout", "undo", "deployment/web", "--to-revision=1"]);
    space.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    let env = space.kubectl(&["get", "deployment", "web", "-o", "jsonpath={.spec.template.spec.containers[0].env}"]);
    assert_eq!(env, "", "the first version had no variables");

    let said = space.kubectl(&["expose", "deployment", "web", "--type=NodePort", "--port=80"]);
    assert_eq!(said, "service/web exposed\n");
    let port = space.kubectl(&["get", "service", "web", "-o", "jsonpath={.spec.ports[0].nodePort}"]);
    wait("nginx answers", || {
        let (code, body) = space.machine.http("GET", &format!("http://{}:{port}/", space.machine.address), "");
        code == 200 && body.contains("Welcome to nginx")
    });
    has(
        &space.kubectl(&["describe", "deployment", "web"]),
        &[
            "StrategyType:",
            "RollingUpdate",
            "NewReplicaSet:",
            "ScalingReplicaSet",
            "1 desired | 1 updated | 1 total | 1 available",
        ],
    );
    has(&space.kubectl(&["describe", "service", "web"]), &["NodePort:", "Endpoints:", "10.42.0."]);
    let name = space.kubectl(&["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].metadata.name}"]);
    has(&space.kubectl(&["describe", "pod", &name]), &["Controlled By:", "Successfully assigned", "Container ID:"]);
    has(&space.kubectl(&["describe", "node", "n1"]), &["Capacity:", "Allocatable:", "Allocated resources:", "Ready"]);
    has(&space.kubectl(&["logs", "deployment/web", "--tail=1"]), &["GET / HTTP/1.1"]);

    space.kubectl(&["label", "pod", &name, "tier=front"]);
    has(&space.kubectl(&["get", "pods", "-l", "tier=front", "-o", "name"]), &[&name]);
    let output = space.try_kubectl(&["label", "pod", &name, "tier=back"]);
    has(&both(&output), &["already has a value (front), and --overwrite is false"]);
    space.kubectl(&["label", "pod", &name, "tier-"]);
    assert_eq!(space.kubectl(&["get", "pods", "-l", "tier", "-o", "name"]), "");
    space.kubectl(&["annotate", "pod", &name, "note=kept"]);
    let note = space.kubectl(&["get", "pod", &name, "-o", "jsonpath={.metadata.annotations.note}"]);
    assert_eq!(note, "kept");

    has(&space.kubectl(&["delete", "deployment,service", "web"]), &["deployment.apps \"web\" deleted"]);
    wait("the pods go with their owner", || space.kubectl(&["get", "pods", "-o", "name"]).is_empty());
}

const MANIFEST: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {color: red}
---
apiVersion: v1
kind: Service
metadata: {name: settings}
spec: {ports: [{port: 80}], selector: {app: settings}}
";

fn manifests(space: &Space) {
    let file = space.machine.path("manifest.yaml");
    let apply = |text: &str, more: &[&str]| {
        fs::write(&file, text).expect("written");
        let path = file.display().to_string();
        let mut arguments = vec!["apply", "-f", &path];
        arguments.extend(more);
        space.try_kubectl(&arguments)
    };
    has(&both(&apply(MANIFEST, &[])), &["configmap/settings created", "service/settings created"]);
    has(&both(&apply(MANIFEST, &[])), &["configmap/settings unchanged", "service/settings unchanged"]);
    let changed = MANIFEST.replace("color: red", "color: blue, size: large");
    fs::write(&file, &changed).expect("written");
    let difference = space.try_kubectl(&["diff", "-f", &file.display().to_string()]);
    has(&both(&difference), &["-  color: red", "+  color: blue", "+  size: large"]);
    assert_eq!(difference.status.code(), Some(1), "there is a difference");
    has(&both(&apply(&changed, &["--dry-run=server"])), &["configmap/settings configured (server dry run)"]);
    has(&both(&apply(&changed, &[])), &["configmap/settings configured", "service/settings unchanged"]);
    let data = |space: &Space| space.kubectl(&["get", "configmap", "settings", "-o", "jsonpath={.data}"]);
    assert_eq!(data(space), r#"{"color":"blue","size":"large"}"#);
    apply(MANIFEST, &[]);
    assert_eq!(data(space), r#"{"color":"red"}"#, "what the manifest leaves out goes");
    space.kubectl(&["patch", "configmap", "settings", "-p", r#"{"data":{"shape":"round"}}"#]);
    assert_eq!(data(space), r#"{"color":"red","shape":"round"}"#);
    space.kubectl(&[
        "patch",
        "configmap",
        "settings",
        "--type=json",
        "-p",
        r#"[{"op":"remove","path":"/data/shape"}]"#,
    ]);
    assert_eq!(data(space), r#"{"color":"red"}"#);
    // Another owner of a field, and the same one forced.
    let manager = ["--server-side", "--field-manager=other"];
    let said = both(&apply(&MANIFEST.replace("red", "green"), &manager));
    has(&said, &["conflict", "kubectl-client-side-apply", ".data.color"]);
    let said = both(&apply(
        &MANIFEST.replace("red", "green"),
        &["--server-side", "--field-manager=other", "--force-conflicts"],
    ));
    has(&said, &["configmap/settings serverside-applied"]);
    assert_eq!(data(space), r#"{"color":"green"}"#);
    space.kubectl(&["replace", "-f", &file.display().to_string()]);

    // Typing errors are refused, by name.
    for (wrong, told) in [
        (
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: typo}\nspec: {replcas: 2, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: main, image: nginx}]}}}\n",
            "replcas",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: typo}\nspec: {containers: [{name: main, imagee: nginx}]}\n",
            "imagee",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: Not_A_Name}\nspec: {containers: [{name: main, image: nginx}]}\n",
            "a lowercase RFC 1123 subdomain must consist of",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: typo}\nspec: {ports: [{port: 99999}]}\n",
            "must be between 1 and 65535",
        ),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: typo\n", "error parsing"),
    ] {
        let output = apply(wrong, &[]);
        assert!(!output.status.success(), "{wrong} is taken: {}", both(&output));
        has(&both(&output), &[told]);
    }
    fs::write(&file, MANIFEST).expect("written");
    has(&space.kubectl(&["delete", "-f", &file.display().to_string()]), &["configmap \"settings\" deleted"]);
    let said = both(&space.try_kubectl(&["get", "configmap", "settings"]));
    assert_eq!(said, "Error from server (NotFound): configmaps \"settings\" not found\n");
}

/// Logs, exec, terminals, files, ports.
fn streams(space: &Space) {
    let script = "echo first; i=0; while :; do [ -e /tmp/more ] && echo second && rm /tmp/more; sleep 0.1; done";
    space.apply(&pod("talker", script, ""));
    space.apply(&pod_with("reader", "while read line; do echo heard $line; done", r#"{"stdin": true}"#, "{}"));
    space.ready("talker");
    let follow = Background::start(space, "follow", &["logs", "-f", "talker"]);
    follow.wait_for("first\n");
    space.exec("talker", "touch /tmp/more");
    follow.wait_for("first\nsecond\n");
    drop(follow);
    assert_eq!(space.kubectl(&["logs", "talker", "--tail=1"]), "second\n");
    let stamped = space.kubectl(&["logs", "talker", "--timestamps"]);
    assert!(stamped.lines().all(|line| line.starts_with("20") && line.contains("Z ")), "{stamped}");

    let output = space.try_exec("talker", "echo out; echo err >&2; exit 7");
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(7), b"out\n".as_slice()));
    has(&String::from_utf8_lossy(&output.stderr), &["err\n", "command terminated with exit code 7"]);
    let mut all = vec!["-n", space.name.as_str()];
    all.extend(["exec", "-i", "talker", "--", "sh", "-c", "wc -c; echo done"]);
    let output = space.machine.pipe(&space.program, &all, &"x".repeat(1_000_000));
    // kubectl 1.32 complains now and then of the empty message that opens the first stream, as Kubernetes sends
    // it, too: when it has not made the stream yet.
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1000000\ndone\n", "a megabyte goes in");
    let big = space.kubectl(&["exec", "talker", "--", "sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' y"]);
    assert_eq!(big.len(), 1_000_000, "and comes out");

    // A terminal of 33 lines and 101 columns.
    let typed = format!(
        "stty rows 33 cols 101; {} -n {} exec -it talker -- sh -c 'tty; until stty size 2>&1 | grep -q 33; do sleep 0.05; done; stty size; exit 5'",
        space.program, space.name
    );
    let mut command = space.machine.command("script");
    command.args(["-qec", &typed, "/dev/null"]);
    let output = command.output().expect("script starts");
    has(&both(&output), &["/dev/pts/0", "33 101"]);
    assert_eq!(output.status.code(), Some(5));

    let mut attach = space.machine.command("timeout");
    attach.args(["60", &space.program, "-n", &space.name, "attach", "-i", "reader"]).stdin(Stdio::piped());
    space.ready("reader");
    let mut attached = attach.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("kubectl starts");
    std::io::Write::write_all(&mut attached.stdin.take().expect("an input"), b"hello\n").expect("it reads");
    wait("the container heard it", || space.kubectl(&["logs", "reader"]).contains("heard hello"));
    // It may go on to wait for the container.
    let _ = attached.kill();
    attached.wait().expect("it ended");

    let there = space.machine.path("there");
    fs::create_dir_all(there.join("deep")).expect("made");
    let content: String = (0..50_000).map(|number| format!("{number}\n")).collect();
    fs::write(there.join("deep/numbers"), &content).expect("written");
    space.kubectl(&["cp", &there.display().to_string(), "talker:/tmp/there"]);
    assert_eq!(space.exec("talker", "wc -l </tmp/there/deep/numbers").trim(), "50000");
    let back = space.machine.path("back");
    space.kubectl(&["cp", "talker:/tmp/there", &back.display().to_string()]);
    assert_eq!(fs::read_to_string(back.join("deep/numbers")).expect("copied"), content);

    space.kubectl(&["run", "server", "--image=nginx:1.22", "--port=80", "--expose"]);
    space.ready("server");
    for target in ["pod/server", "service/server"] {
        let (code, body) = space.forward(target, 80, |url| space.machine.http("GET", url, ""));
        assert_eq!(code, 200, "{target}");
        has(&body, &["Welcome to nginx"]);
    }
    let said = both(&space.try_kubectl(&["exec", "nobody", "--", "true"]));
    assert_eq!(said, "Error from server (NotFound): pods \"nobody\" not found\n");
    let said = both(&space.try_kubectl(&["exec", "talker", "--", "no-such-program"]));
    has(&said, &["no-such-program", "executable file not found in $PATH"]);
    let said = both(&space.try_kubectl(&["logs", "talker", "-c", "other"]));
    has(&said, &["container other is not valid for pod talker"]);
}

fn access_and_discovery(space: &Space) {
    has(
        &space.kubectl(&["explain", "deployment.spec.strategy"]),
        &["rollingUpdate", "RECREATE".to_lowercase().as_str()]
            .map(|part| if part == "recreate" { "Recreate" } else { part }),
    );
    has(&space.kubectl(&["explain", "pods"]), &["KIND:", "Pod", "spec", "status"]);
    let resources = space.kubectl(&["api-resources"]);
    has(&resources, &["deployments", "deploy", "apps/v1", "pods", "configmaps", "cm", "leases"]);
    has(&space.kubectl(&["api-versions"]), &["apps/v1\n", "v1\n", "rbac.authorization.k8s.io/v1\n"]);
    has(&space.kubectl(&["version"]), &["v1.36."]);
    has(&space.kubectl(&["cluster-info"]), &["https://127.0.0.1:6443"]);
    assert_eq!(space.kubectl(&["get", "--raw", "/readyz"]), "ok");

    assert_eq!(space.kubectl(&["auth", "can-i", "create", "pods"]), "yes\n");
    let account = format!("system:serviceaccount:{}:reader", space.name);
    let can = |verb: &str, what: &str| {
        let output = space.try_kubectl(&["auth", "can-i", verb, what, "--as", &account]);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(can("list", "pods"), "no");
    space.kubectl(&["create", "serviceaccount", "reader"]);
    space.kubectl(&["create", "role", "reader", "--verb=get,list", "--resource=pods"]);
    let subject = format!("--serviceaccount={}:reader", space.name);
    space.kubectl(&["create", "rolebinding", "reader", "--role=reader", &subject]);
    wait("the role holds", || can("list", "pods") == "yes");
    assert_eq!((can("delete", "pods"), can("list", "secrets")), ("no".to_owned(), "no".to_owned()));
    let said = both(&space.try_kubectl(&["get", "secrets", "--as", &account]));
    let told = format!(
        "User \"{account}\" cannot list resource \"secrets\" in API group \"\" in the namespace \"{}\"",
        space.name
    );
    has(&said, &["Error from server (Forbidden)", &told]);

    space.kubectl(&["create", "configmap", "settings", "--from-literal=color=red"]);
    space.kubectl(&["create", "secret", "generic", "password", "--from-literal=word=open"]);
    has(&space.kubectl(&["describe", "secret", "password"]), &["word:  4 bytes"]);
    has(
        &space.kubectl(&["get", "configmap,secret", "--show-labels"]),
        &["configmap/settings", "secret/password", "<none>"],
    );
    has(&space.kubectl(&["get", "configmap", "settings", "-o", "custom-columns=COLOR:.data.color"]), &["COLOR\nred\n"]);
    has(&space.kubectl(&["get", "namespaces", "--sort-by=.metadata.name"]), &["default", "kube-system", &space.name]);
}

fn watching(space: &Space) {
    // Once it shows what nobody places, it also sees what another pod begins with.
    space.apply(&pod_with("nobodys", "true", "", r#"{"schedulerName": "nobody"}"#));
    let watch = Background::start(space, "watch", &["get", "pods", "-w", "--no-headers"]);
    watch.wait_for("nobodys");
    space.apply(&pod_with("short", "sleep 0.2", "", r#"{"restartPolicy": "Never"}"#));
    watch.wait_for("Completed");
    let text: String =
        watch.text().lines().filter(|line| !line.starts_with("nobodys")).map(|line| format!("{line}\n")).collect();
    let states = ["Pending", "ContainerCreating", "Running", "Completed"];
    let places: Vec<_> = states.iter().map(|state| text.find(state)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{text}");
    space.kubectl(&["delete", "pod", "short", "nobodys"]);
    let watched = Background::start(
        space,
        "yaml",
        &["get", "configmaps", "-w", "-o", "jsonpath={.metadata.name}={.data.color} "],
    );
    watched.wait_for("kube-root-ca.crt=");
    space.kubectl(&["create", "configmap", "seen", "--from-literal=color=red"]);
    watched.wait_for("seen=red");
    space.kubectl(&["patch", "configmap", "seen", "-p", r#"{"data":{"color":"blue"}}"#]);
    watched.wait_for("seen=blue");
}

/// The minor version of a kubectl.
fn minor(space: &Space) -> u32 {
    let text = space.kubectl(&["version", "--client", "-o", "json"]);
    let version: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let minor = version["clientVersion"]["minor"].as_str().expect("a version");
    minor.trim_end_matches('+').parse().expect("a number")
}

fn newer_verbs(space: &Space) {
    let minor = minor(space);
    if minor < 32 {
        eprintln!(
            "SKIPPED {}: this kubectl is 1.{minor}, its verbs are tried; those since 1.32 are not",
            module_path!()
        );
        return;
    }
    has(&space.kubectl(&["auth", "whoami"]), &["system:admin", "system:masters"]);
    let token = space.kubectl(&["create", "token", "default", "--duration=10m"]);
    let said = space.kubectl(&["auth", "whoami", "--token", token.trim(), "--client-certificate=", "--client-key="]);
    has(&said, &["Username"]);
    space.apply(&pod("web", "exec sleep 1000000", ""));
    space.kubectl(&["wait", "--for=jsonpath={.status.phase}=Running", "pod/web", "--timeout=60s"]);
    let said = space.kubectl(&[
        "debug",
        "web",
        "--image=busybox:1.35",
        "--target=main",
        "--container=debugger",
        "--",
        "sh",
        "-c",
        "ps -o args; echo seen",
    ]);
    drop(said);
    wait("the debugger sees the container's processes", || {
        let said = both(&space.try_kubectl(&["logs", "web", "-c", "debugger"]));
        said.contains("sleep 1000000") && said.contains("seen")
    });
    has(&space.kubectl(&["events", "--for=pod/web"]), &["Scheduled", "Started"]);
    has(&space.kubectl(&["get", "pod", "web", "--subresource=status", "-o", "name"]), &["pod/web"]);
    space.kubectl(&["create", "deployment", "idle", "--image=busybox:1.35", "--replicas=0"]);
    space.kubectl(&["scale", "deployment", "idle", "--replicas=0", "--current-replicas=0"]);
    space.kubectl(&["delete", "pod", "web", "--wait=false"]);
    space.kubectl(&["wait", "--for=delete", "pod/web", "--timeout=60s"]);
}

fn the_oldest_kubectl(space: &Space) {
    let program = old_kubectl();
    if !program.exists() {
        eprintln!("SKIPPED {}: no {}: run scripts/test, which fetches it", module_path!(), program.display());
        return;
    }
    for (name, check) in
        [("old-deployments", deployments as fn(&Space)), ("old-streams", streams), ("old-watching", watching)]
    {
        let old = Space { program: program.display().to_string(), ..Space::new(space.machine, name) };
        check(&old);
    }
}

/// A node that is closed, and open again.
fn cordon(space: &Space) {
    assert_eq!(space.kubectl(&["cordon", "n1"]), "node/n1 cordoned\n");
    has(&space.kubectl(&["get", "node", "n1"]), &["Ready,SchedulingDisabled"]);
    space.apply(&pod("late", "exec sleep 1000000", ""));
    has(&space.event("late", "FailedScheduling"), &["0/1 nodes are available: 1 node(s) were unschedulable"]);
    assert_eq!(space.kubectl(&["uncordon", "n1"]), "node/n1 uncordoned\n");
    space.ready("late");
    space.kubectl(&["drain", "n1", "--ignore-daemonsets", "--force", "--delete-emptydir-data", "--timeout=60s"]);
    space.gone("late");
}
