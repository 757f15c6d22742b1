//! The commands of `orch` against a real cluster; where stock kubectl does the same, its output.

use crate::cluster::{Machine, ORCH};
use crate::need_machine;
use std::io::{Read, Write};
use std::process::{Output, Stdio};

/// A workload with something of everything that `describe` tells.
const WORKLOAD: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, labels: {app: web}}
data: {title: "Hello", tab: "x\ty", number: "1e3", long: "words that go on and on until the line is longer than what a printer puts into a single line: truly"}
---
apiVersion: v1
kind: Secret
metadata: {name: password}
stringData: {password: s3cret}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}, annotations: {note: "hello there"}}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      initContainers: [{name: first, image: "busybox:1.35", command: [echo, begun]}]
      containers:
      - name: main
        image: busybox:1.35
        command: [sh, -c, "echo one; echo two; exec sleep 1000"]
        ports: [{containerPort: 8080}, {containerPort: 9090, protocol: UDP}]
        resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {memory: 64Mi}}
        readinessProbe: {exec: {command: ["true"]}, periodSeconds: 7}
        env:
        - {name: A, value: "1"}
        - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory}}}
        - {name: PASSWORD, valueFrom: {secretKeyRef: {name: password, key: password}}}
        envFrom: [{configMapRef: {name: settings, optional: true}}]
        volumeMounts: [{name: settings, mountPath: /settings, readOnly: true}]
      - {name: side, image: "busybox:1.35", command: [sh, -c, "echo aside; exec sleep 1000"]}
      volumes:
      - {name: settings, configMap: {name: settings}}
      - {name: scratch, emptyDir: {sizeLimit: 1Mi}}
      - {name: host, hostPath: {path: /etc}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
"#;

fn orch(machine: &Machine, arguments: &[&str]) -> Output {
    machine.command("timeout").arg("120").arg(ORCH).args(arguments).output().expect("orch starts")
}

/// `orch kubectl`, whatever becomes of it.
fn own(machine: &Machine, arguments: &[&str]) -> Output {
    orch(machine, &[&["kubectl"], arguments].concat())
}

/// `orch …`, which must succeed; its output.
fn must(machine: &Machine, arguments: &[&str]) -> String {
    let output = orch(machine, arguments);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "orch {arguments:?}: {out}{err}");
    out
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Ages go on between two runs.
fn without_ages(output: &Output) -> (String, String, Option<i32>) {
    let plain = |bytes: &[u8]| {
        let text = text(bytes);
        let words = text.split_inclusive([' ', '\n', '(', ')']).map(|word| {
            let bare = word.trim_end_matches([' ', '\n', '(', ')']);
            let age = bare.ends_with(['s', 'm', 'h']) && bare.starts_with(|c: char| c.is_ascii_digit());
            if age && bare.chars().all(|c| c.is_ascii_digit() || "smhd".contains(c)) { "<age> " } else { word }
        });
        // The columns move with them.
        words.collect::<String>().split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    };
    (plain(&output.stdout), plain(&output.stderr), output.status.code())
}

fn with_workload() -> Machine {
    let mut machine = Machine::new();
    machine.add_images(&["busybox"]);
    machine.start(&[]);
    machine.wait_ready();
    std::fs::write(machine.path("workload.yaml"), WORKLOAD).expect("a file");
    let file = machine.path("workload.yaml").display().to_string();
    let applied = must(&machine, &["kubectl", "apply", "-f", &file]);
    assert_eq!(
        applied,
        "configmap/settings created\nsecret/password created\ndeployment.apps/web created\nservice/web created\n"
    );
    machine.kubectl(&["rollout", "status", "--timeout=90s", "deployment/web"]);
    machine
}

#[test]
fn kubectl_prints_and_does_what_stock_kubectl_does() {
    need_machine!();
    let machine = with_workload();
    let pod = machine.kubectl(&["get", "pods", "-o", "jsonpath={.items[0].metadata.name}"]);
    // Stock kubectl finds what was applied its own.
    let file = machine.path("workload.yaml").display().to_string();
    let again = machine.kubectl(&["apply", "-f", &file]);
    assert!(again.contains("configmap/settings unchanged") && again.contains("service/web unchanged"), "{again}");
    let same: &[&[&str]] = &[
        &["get", "pods"],
        &["get", "pods", "-o", "wide"],
        &["get", "pods", "-A", "--show-labels", "-L", "app"],
        &["get", "all"],
        &["get", "deploy/web", "svc/web"],
        &["get", "cm", "settings", "-o", "yaml"],
        &["get", "cm", "settings", "-o", "json"],
        &["get", "deploy", "web", "-o", "yaml", "--show-managed-fields"],
        &["get", "pods", "-o", "yaml"],
        &["get", "pods,svc", "-o", "name"],
        &["get", "pods", "-o", "jsonpath={range .items[*]}{.metadata.name}{\"\\t\"}{.status.phase}{\"\\n\"}{end}"],
        &["get", "pods", "-o", "custom-columns=N:.metadata.name,I:.spec.containers[*].image,X:.nope"],
        &["get", "pods", "--field-selector=status.phase=Failed"],
        &["get", "pods", "nobody"],
        &["get", "nonsense"],
        &["get", "clusterroles", "--sort-by=.metadata.name"],
        &["get", "nodes", "-o", "yaml"],
        &["get", "--raw", "/version"],
        &["describe", "deployment", "web"],
        &["describe", "endpoints", "web"],
        &["describe", "namespace", "default"],
        &["describe", "secret", "password"],
        &["describe", "clusterrole", "admin", "system:node"],
        &["describe", "clusterrolebinding", "cluster-admin"],
        &["describe", "leases", "-n", "kube-node-lease"],
        &["describe", "pod", "nobody"],
        &["logs", &pod],
        &["logs", &pod, "-c", "first"],
        &["logs", &pod, "--tail=1", "--all-containers", "--prefix"],
        &["logs", "deploy/web"],
        &["logs", "-l", "app=web", "-c", "side"],
        &["logs", &pod, "--previous"],
        &["logs", "nobody"],
        &["exec", &pod, "--", "echo", "hello"],
        &["exec", "deploy/web", "-c", "side", "--", "sh", "-c", "echo out; echo err >&2; exit 7"],
        &["exec", &pod, "--", "nonesuch"],
    ];
    // What older ones word differently.
    let newer: &[&[&str]] = &[
        &["describe", "pod", &pod],
        &["describe", "replicasets"],
        &["describe", "services"],
        &["describe", "endpointslices"],
        &["describe", "node", "n1"],
        &["describe", "serviceaccount", "default"],
        &["describe", "events"],
        &["exec", &pod, "-c", "nobody", "--", "true"],
    ];
    let version = machine.kubectl(&["version", "--client"]);
    let newer = if version.contains("Client Version: v1.36") {
        newer
    } else {
        eprintln!(
            "SKIPPED {}: {} lines: {} says them otherwise than 1.36, whose recorded answers own_kubectl compares",
            module_path!(),
            newer.len(),
            version.lines().next().unwrap_or_default()
        );
        &[]
    };
    for line in same.iter().chain(newer) {
        // Heartbeats change some objects: a difference counts when it is there each time.
        let differs = (0..4).all(|_| without_ages(&own(&machine, line)) != without_ages(&machine.try_kubectl(line)));
        if differs {
            let (ours, stock) = (own(&machine, line), machine.try_kubectl(line));
            panic!(
                "{line:?}\n----- ours\n{}{}\n----- stock\n{}{}",
                text(&ours.stdout),
                text(&ours.stderr),
                text(&stock.stdout),
                text(&stock.stderr)
            );
        }
    }

    // Input goes in and comes back whole, and an exit code is the command's.
    let bytes: Vec<u8> = (0..2_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut child = machine.command(ORCH);
    let mut child = child
        .args(["kubectl", "exec", "-i", &pod, "-c", "main", "--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("orch starts");
    let (mut input, mut output) = (child.stdin.take().expect("an input"), child.stdout.take().expect("an output"));
    let sent = bytes.clone();
    let writer = std::thread::spawn(move || input.write_all(&sent).expect("it reads"));
    let mut back = Vec::new();
    output.read_to_end(&mut back).expect("it writes");
    writer.join().expect("all is written");
    assert!(child.wait().expect("it ends").success());
    assert!(back == bytes, "{} of {} bytes come back", back.len(), bytes.len());

    // A terminal has the size of ours.
    let terminal = "stty rows 33 cols 99; exec \"$0\" kubectl exec -it \"$1\" -c main -- sh -c 'sleep 1; stty size'";
    let quoted = format!("sh -c '{}' {ORCH} {pod}", terminal.replace('\'', "'\\''"));
    let output = machine.command("script").args(["-qec", &quoted, "/dev/null"]).output().expect("script starts");
    assert!(text(&output.stdout).contains("33 99"), "{}{}", text(&output.stdout), text(&output.stderr));

    // A watch shows what changes, and a followed log what is written.
    let mut watch = machine.command(ORCH);
    let mut watch = watch
        .args(["kubectl", "get", "cm", "settings", "-w", "-o", "jsonpath={.data.title}{\"\\n\"}"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("orch starts");
    let mut shown = std::io::BufReader::new(watch.stdout.take().expect("an output"));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut shown, &mut line).expect("a line");
    machine.kubectl(&["patch", "cm", "settings", "-p", r#"{"data":{"title":"Renamed"}}"#]);
    std::io::BufRead::read_line(&mut shown, &mut line).expect("a line");
    watch.kill().expect("it runs");
    watch.wait().expect("it ends");
    assert_eq!(line, "Hello\nRenamed\n");

    let deleted = must(&machine, &["kubectl", "delete", "-f", &file]);
    assert_eq!(
        deleted,
        "configmap \"settings\" deleted from default namespace\nsecret \"password\" deleted from default namespace\ndeployment.apps \"web\" deleted from default namespace\nservice \"web\" deleted from default namespace\n"
    );
    machine.wait("the pod is gone", || machine.kubectl(&["get", "pods", "-o", "name"]).is_empty());
}

/// `orch …`, which must fail with 1; what it says.
fn refused(machine: &Machine, arguments: &[&str]) -> String {
    let output = orch(machine, arguments);
    assert_eq!(output.status.code(), Some(1), "orch {arguments:?}: {}", text(&output.stdout));
    text(&output.stderr)
}

fn wait_api(machine: &Machine) {
    machine.wait("the API answers", || machine.try_kubectl(&["get", "--raw", "/readyz"]).status.success());
}

#[test]
fn a_snapshot_brings_a_cluster_back() {
    need_machine!();
    let mut machine = Machine::new();
    machine.start(&["--disable-agent"]);
    wait_api(&machine);
    let data = format!("--data-dir={}", machine.path("data").display());
    machine.kubectl(&["create", "configmap", "before", "--from-literal=a=1"]);
    let uid = machine.kubectl(&["get", "cm", "before", "-o", "jsonpath={.metadata.uid}"]);
    let saved = must(&machine, &["snapshot", "save", "--name=mine"]);
    let (path, _) = saved.split_once(": ").expect("a path");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).expect("it is there").permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert!(must(&machine, &["snapshot", "list", &data]).contains(path));
    assert!(must(&machine, &["etcd-snapshot", "ls", &data]).contains(path), "as users of k3s call it");
    the_directory_of_snapshots(&machine, path);
    machine.kubectl(&["create", "configmap", "after"]);
    machine.kubectl(&["delete", "configmap", "before"]);
    let version = |name: &str| -> u64 {
        machine.kubectl(&["get", "cm", name, "-o", "jsonpath={.metadata.resourceVersion}"]).parse().expect("a number")
    };
    let revision = version("after");

    // Only the administrator may have the cluster's keys written anywhere.
    let other = machine.try_kubectl(&["create", "--raw", "/v1-orch/snapshots", "-f", "/dev/null", "--as=ann"]);
    assert!(text(&other.stderr).contains("forbidden"), "{}", text(&other.stderr));
    // A server that runs keeps its data.
    let locked = refused(&machine, &["snapshot", "restore", path, &data]);
    assert!(locked.contains("restore") && locked.contains("stop"), "{locked}");
    let nowhere = refused(&machine, &["snapshot", "restore", "nonesuch", &data]);
    assert!(nowhere.contains("no such snapshot") && nowhere.contains("snapshot list"), "{nowhere}");

    machine.kill();
    std::fs::remove_dir_all(machine.path("data/server/tls")).expect("removed");
    let name = std::path::Path::new(path).file_stem().expect("a name").to_str().expect("text");
    let restored = must(&machine, &["snapshot", "restore", name, &data]);
    assert!(restored.contains("start orch to go on from there"), "{restored}");
    machine.start(&["--disable-agent"]);
    wait_api(&machine);
    // The old kubeconfig's authority is back, too: the file was written anew, so ask with it.
    let back = machine.kubectl(&["get", "cm", "before", "-o", "jsonpath={.metadata.uid} {.data.a}"]);
    assert_eq!(back, format!("{uid} 1"));
    assert!(!machine.try_kubectl(&["get", "cm", "after"]).status.success());
    machine.kubectl(&["create", "configmap", "later"]);
    let later: u64 = machine
        .kubectl(&["get", "cm", "later", "-o", "jsonpath={.metadata.resourceVersion}"])
        .parse()
        .expect("a number");
    assert!(later > revision, "{later} after {revision}");
}

fn the_directory_of_snapshots(machine: &Machine, path: &str) {
    let other = machine.path("other").display().to_string();
    let there = |arguments: &[&str]| must(machine, &[&["snapshot"], arguments, &["--dir", &other]].concat());
    let listed =
        || -> Vec<serde_json::Value> { serde_json::from_str(&there(&["list", "-o", "json"])).expect("a list in JSON") };
    for name in ["nightly", "nightly", "nightly", "nightly-2"] {
        let saved = there(&["save", &format!("--name={name}")]);
        assert!(saved.starts_with(&format!("{other}/{name}-")), "{saved}");
    }
    let files: Vec<_> = listed().iter().map(|one| one["path"].as_str().expect("a path").to_owned()).collect();
    assert_eq!(files.len(), 4, "{files:?}");
    assert!(std::fs::exists(path).expect("it can be looked at"), "the others stay where they were");
    let pruned = there(&["prune", "--name=nightly", "--snapshot-retention=1"]);
    assert_eq!(pruned.matches(" deleted\n").count(), 2, "{pruned}");
    assert!(!pruned.contains("nightly-2-"), "another name: {pruned}");
    let left = listed();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left.iter().all(|one| one["manifest"]["objects"].as_u64() > Some(0)), "{left:?}");
    let name = std::path::Path::new(left[0]["path"].as_str().expect("a path")).file_name().expect("a name");
    there(&["delete", name.to_str().expect("text")]);
    assert_eq!(listed().len(), 1);
    let gone = refused(machine, &["snapshot", "delete", name.to_str().expect("text"), "--dir", &other]);
    assert!(gone.contains("snapshot list") && gone.contains("delete"), "{gone}");
    let own = refused(machine, &["snapshot", "save", "--name=automatic"]);
    assert!(own.contains("the server's own snapshots have it"), "{own}");
}

#[test]
fn images_are_imported_listed_pulled_and_removed() {
    need_machine!();
    let mut machine = Machine::new();
    let run = format!("--run-dir={}", machine.path("run").display());
    let nobody = refused(&machine, &["ctr", "images", "list", &run]);
    assert!(nobody.contains("images.sock") && nobody.contains("start orch"), "{nobody}");

    machine.start(&[]);
    machine.wait_ready();
    let ctr = |arguments: &[&str]| must(&machine, &[&["ctr", &run, "images"], arguments].concat());
    assert_eq!(ctr(&["list", "-q"]), "");
    let archive = crate::cluster::images().join("busybox.tar");
    let archive = archive.display().to_string();
    let imported = orch(&machine, &["ctr", &run, "images", "import", &archive]);
    assert_eq!(text(&imported.stdout), "docker.io/library/busybox:1.35\n");
    assert_eq!(text(&imported.stderr), "", "no progress where no terminal is");
    assert_eq!(ctr(&["ls", "-q"]), "docker.io/library/busybox:1.35\n");
    let table = ctr(&["ls"]);
    assert!(table.starts_with("IMAGE") && table.contains("MiB"), "{table}");
    let mode = std::fs::metadata(machine.path("run/images.sock")).expect("a socket").permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);

    // The image is a real one: a pod runs from it without a registry.
    machine.kubectl(&[
        "run",
        "one",
        "--image=busybox:1.35",
        "--image-pull-policy=Never",
        "--restart=Never",
        "--",
        "true",
    ]);
    machine.kubectl(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s", "pod/one"]);
    machine.kubectl(&["delete", "pod", "one"]);

    let bytes = std::fs::read(&archive).expect("the archive");
    std::fs::write(machine.path("cut.tar"), &bytes[..bytes.len() / 2]).expect("a file");
    let cut = refused(&machine, &["ctr", &run, "images", "import", &machine.path("cut.tar").display().to_string()]);
    assert!(cut.contains("cut.tar") && cut.contains("cut short"), "{cut}");
    let missing = refused(&machine, &["ctr", &run, "images", "import", "/nonexistent.tar"]);
    assert!(missing.contains("/nonexistent.tar"), "{missing}");
    let pull = refused(&machine, &["ctr", &run, "images", "pull", "192.168.77.1:1/nothing:1"]);
    assert!(pull.contains("192.168.77.1:1/nothing:1"), "{pull}");

    assert_eq!(ctr(&["rm", "busybox:1.35"]), "busybox:1.35\n");
    assert_eq!(ctr(&["list", "-q"]), "");
    let gone = refused(&machine, &["ctr", &run, "images", "remove", "busybox:1.35"]);
    assert!(gone.contains("image busybox:1.35 is not here"), "{gone}");
}

/// Ended with the test, however that ends.
struct Agent(std::process::Child);

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_agent(machine: &Machine, node: &str, token: &str) -> Agent {
    let mut command = machine.command("unshare");
    command.args(["--mount", "--propagation", "private", ORCH, "agent", "--config=/dev/null", "--node-name", node]);
    command.args(["--server=https://192.168.77.1:6443", "--token", token]);
    for flag in ["data-dir", "run-dir", "kubelet-dir", "pod-log-dir"] {
        command.arg(format!("--{flag}={}", machine.path(&format!("{node}/{flag}")).display()));
    }
    let log = std::fs::File::create(machine.path("agent.log")).expect("a log");
    Agent(command.stdout(Stdio::null()).stderr(log).spawn().expect("orch starts"))
}

#[test]
fn nodes_join_with_tokens_that_expire_and_can_be_deleted() {
    need_machine!();
    let mut machine = Machine::new();
    machine.start(&["--disable-agent"]);
    wait_api(&machine);
    let data = format!("--data-dir={}", machine.path("data").display());
    let token = must(&machine, &["token", "create", &data, "--description=for n2", "--ttl=1h"]);
    let token = token.trim_end();
    let (authority, secret) = token.rsplit_once("::").expect("an authority");
    let own = std::fs::read_to_string(machine.path("data/server/token")).expect("the server's token");
    assert!(own.starts_with(&format!("{authority}::")), "{token} {own}");
    let id = secret.split('.').next().expect("an id");
    let listed = must(&machine, &["token", "list"]);
    assert!(listed.lines().any(|line| line.starts_with(id) && line.ends_with("for n2")), "{listed}");
    assert!(!listed.contains(secret), "{listed}");

    let joined = || std::fs::read_to_string(machine.path("agent.log")).is_ok_and(|log| log.contains("this node runs"));
    let agent = start_agent(&machine, "n2", token);
    machine.wait("the agent's node is ready", || {
        let output = machine.try_kubectl(&["get", "node", "n2", "--no-headers"]);
        text(&output.stdout).contains(" Ready ")
    });
    drop(agent);

    assert_eq!(must(&machine, &["token", "delete", token]), format!("token {id} deleted\n"));
    let again = refused(&machine, &["token", "delete", id]);
    assert!(again.contains(&format!("there is no token {id}")) && again.contains("token list"), "{again}");
    let mut late = start_agent(&machine, "n3", token);
    assert_eq!(late.0.wait().expect("it ends").code(), Some(1));
    let said = std::fs::read_to_string(machine.path("agent.log")).expect("a log");
    assert!(said.contains("the token is not one of this cluster, or has expired"), "{said}");

    // The node that did join has a certificate of its own by now, and needs no token.
    let agent = start_agent(&machine, "n2", token);
    machine.wait("the node joins again", joined);
    drop(agent);

    // One that expires is not good any more, and goes by itself.
    let short = must(&machine, &["token", "create", &data, "--ttl=1s"]);
    let id = short.trim_end().rsplit("::").next().and_then(|rest| rest.split('.').next()).expect("an id").to_owned();
    machine.wait("the expired token is gone", || !must(&machine, &["token", "list"]).contains(&id));
    let mut late = start_agent(&machine, "n3", short.trim_end());
    assert_eq!(late.0.wait().expect("it ends").code(), Some(1));
}

#[test]
fn help_and_completion_know_every_command() {
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(ORCH).args(arguments).output().expect("orch starts");
        assert!(output.status.success(), "orch {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    let help = run(&["--help"]);
    for command in
        ["server", "agent", "kubectl", "ctr", "token", "snapshot", "check-config", "killall", "uninstall", "completion"]
    {
        assert!(help.contains(&format!("  {command} ")), "{command} in\n{help}");
        assert_eq!(run(&["help", command]), run(&[command, "--help"]), "{command}");
    }
    assert_eq!(run(&["kubectl", "help", "get"]), run(&["kubectl", "get", "--help"]));
    for command in ["killall", "uninstall"] {
        assert!(!run(&[command, "--help"]).contains("--node-label"), "{command} starts no node");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completion", shell]);
        for word in ["kubectl", "describe", "snapshot", "restore", "images"] {
            assert!(script.contains(word), "{word} for {shell}");
        }
    }
    // A mistake is told with what would be right, and is no crash.
    for line in [&["snapshot", "--bogus"][..], &["ctr", "images", "import"], &["token", "create", "--ttl=x"]] {
        let output = std::process::Command::new(ORCH).args(line).output().expect("orch starts");
        assert_eq!(output.status.code(), Some(2), "{line:?}");
        assert!(text(&output.stderr).contains("--help"), "{line:?}: {}", text(&output.stderr));
    }
    // What is kubectl's own, kubectl says.
    let output = std::process::Command::new(ORCH).args(["kubectl", "got"]).output().expect("orch starts");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        "error: unknown command \"got\" for \"kubectl\"\n\nDid you mean this?\n\tset\n\tget\n\ttop\n"
    );
}
