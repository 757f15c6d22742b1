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
        ports: [{name: http, containerPort: 8080}, {containerPort: 9090, protocol: UDP}]
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
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}
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
        &["describe", "pod", &pod],
        &["describe", "deployment", "web"],
        &["describe", "replicasets"],
        &["describe", "services"],
        &["describe", "endpoints", "web"],
        &["describe", "endpointslices"],
        &["describe", "node", "n1"],
        &["describe", "namespace", "default"],
        &["describe", "secret", "password"],
        &["describe", "serviceaccount", "default"],
        &["describe", "clusterrole", "admin", "system:node"],
        &["describe", "clusterrolebinding", "cluster-admin"],
        &["describe", "servicecidrs"],
        &["describe", "leases", "-n", "kube-node-lease"],
        &["describe", "events"],
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
        &["exec", &pod, "-c", "nobody", "--", "true"],
    ];
    for line in same {
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
        "configmap \"settings\" deleted\nsecret \"password\" deleted\ndeployment.apps \"web\" deleted\nservice \"web\" deleted\n"
    );
    machine.wait("the pod is gone", || machine.kubectl(&["get", "pods", "-o", "name"]).is_empty());
}
