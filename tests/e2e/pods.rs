//! What the kubelet does with pods, as the API shows it.

use crate::cluster::{Machine, both, condition, wait};
use crate::need_machine;
use crate::space::{Check, Space, check_all, pod, pod_with, serve};
use serde_json::{Value, json};
use std::fs;

const CHECKS: &[Check] = &[
    ("a crash loop", a_crash_loop),
    ("init containers and sidecars", init_containers_and_sidecars),
    ("probes", probes),
    ("hooks and grace", hooks_and_grace),
    ("the environment", the_environment),
    ("volumes live", volumes_live),
    ("out of memory", out_of_memory),
    ("confined by default", confined_by_default),
    ("reasons for waiting", reasons_for_waiting),
    ("the network of the node", the_network_of_the_node),
    ("the account of the pod", the_account_of_the_pod),
    ("static pods", static_pods),
    ("logs are set aside", logs_are_set_aside),
];

#[test]
fn pods_as_kubernetes_runs_them() {
    need_machine!();
    let mut machine = Machine::new();
    machine.add_images(&["busybox", "python"]);
    machine.start(&["--kubelet-arg=container-log-max-size=64Ki", "--kubelet-arg=container-log-max-files=3"]);
    machine.wait_ready();
    check_all(&machine, CHECKS);
}

/// The status of a pod's container by its place.
fn container(pod: &Value, index: usize) -> &Value {
    &pod["status"]["containerStatuses"][index]
}

fn waits_for(space: &Space, pod: &str, reason: &str) -> Value {
    let object = space.until(&format!("pods/{pod}"), &format!("waits for {reason}"), |pod| {
        container(pod, 0)["state"]["waiting"]["reason"] == reason
    });
    container(&object, 0)["state"]["waiting"].clone()
}

fn a_crash_loop(space: &Space) {
    space.apply(&pod("crashes", "echo round; exit 3", ""));
    let waiting = waits_for(space, "crashes", "CrashLoopBackOff");
    let message = waiting["message"].as_str().expect("a message");
    assert!(message.starts_with("back-off 10s restarting failed container=main pod=crashes_"), "{message}");
    let object = space.get("pods/crashes");
    let last = &container(&object, 0)["lastState"]["terminated"];
    assert_eq!((&last["exitCode"], &last["reason"]), (&json!(3), &json!("Error")), "{object}");
    assert_eq!(container(&object, 0)["restartCount"], 1);
    assert_eq!(object["status"]["phase"], "Running");
    let shown = space.kubectl(&["get", "pod", "crashes"]);
    assert!(shown.contains("CrashLoopBackOff") && shown.contains("0/1"), "{shown}");
    assert_eq!(space.kubectl(&["logs", "crashes", "--previous"]), "round\n");
    let said = space.event("crashes", "BackOff");
    assert!(said.starts_with("Back-off restarting failed container main in pod crashes_"), "{said}");

    for (name, policy, script, phase, code) in [
        ("never", "Never", "exit 4", "Failed", 4),
        ("well", "OnFailure", "exit 0", "Succeeded", 0),
        ("last-words", "Never", "printf broken >/dev/termination-log; exit 1", "Failed", 1),
    ] {
        space.apply(&pod_with(name, script, "", &json!({ "restartPolicy": policy }).to_string()));
        let ended = space.ended(name);
        assert_eq!(ended["status"]["phase"], phase, "{name}");
        let terminated = &container(&ended, 0)["state"]["terminated"];
        assert_eq!(terminated["exitCode"], code, "{name}");
        assert_eq!(container(&ended, 0)["restartCount"], 0, "{name}");
        if name == "last-words" {
            assert_eq!(terminated["message"], "broken");
        }
    }
    // It fails once, and then it does not.
    let script = "if [ -e /data/again ]; then exit 0; fi; touch /data/again; exit 1";
    let spec = json!({ "restartPolicy": "OnFailure", "volumes": [{ "name": "data", "emptyDir": {} }] });
    let more = r#"{"volumeMounts": [{"name": "data", "mountPath": "/data"}]}"#;
    space.apply(&pod_with("twice", script, more, &spec.to_string()));
    let ended = space.ended("twice");
    assert_eq!((&ended["status"]["phase"], &container(&ended, 0)["restartCount"]), (&json!("Succeeded"), &json!(1)));
}

fn init_containers_and_sidecars(space: &Space) {
    let mounts = json!([{ "name": "data", "mountPath": "/data" }]);
    let step = |name: &str, script: &str| json!({ "name": name, "image": "busybox:1.35", "command": ["sh", "-c", script], "volumeMounts": mounts });
    let mut sidecar =
        step("sidecar", "trap 'echo sidecar ends >>/data/order; exit 0' TERM; while :; do sleep 0.1; done");
    sidecar["restartPolicy"] = "Always".into();
    let spec = json!({
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 5,
        "volumes": [{ "name": "data", "emptyDir": {} }],
        "initContainers": [step("one", "echo one >>/data/order"), sidecar, step("two", "echo two >>/data/order")],
    });
    let more = json!({ "volumeMounts": mounts }).to_string();
    space.apply(&pod_with("ordered", "cat /data/order; echo main", &more, &spec.to_string()));
    let ended = space.ended("ordered");
    assert_eq!(ended["status"]["phase"], "Succeeded", "{ended}");
    assert_eq!(space.kubectl(&["logs", "ordered", "-c", "main"]), "one\ntwo\nmain\n");
    let inits = ended["status"]["initContainerStatuses"].as_array().expect("a list");
    let reasons: Vec<_> = inits.iter().map(|status| &status["state"]["terminated"]["reason"]).collect();
    assert_eq!(reasons, ["Completed", "Completed", "Completed"]);

    let failing = json!({ "restartPolicy": "Never", "initContainers": [step("one", "exit 9")],
        "volumes": [{ "name": "data", "emptyDir": {} }] });
    space.apply(&pod_with("failing", "echo never", "", &failing.to_string()));
    let ended = space.ended("failing");
    assert_eq!(ended["status"]["phase"], "Failed");
    assert_eq!(container(&ended, 0)["state"]["waiting"]["reason"], "PodInitializing");
    assert!(space.kubectl(&["get", "pod", "failing"]).contains("Init:Error"));
}

fn probes(space: &Space) {
    let exec = json!({ "readinessProbe": {
        "exec": { "command": ["test", "-e", "/tmp/ready"] }, "periodSeconds": 1, "failureThreshold": 1,
    } });
    space.apply(&pod("exec", "exec sleep 1000000", &exec.to_string()));
    space.until("pods/exec", "runs", |pod| pod["status"]["phase"] == "Running");
    assert_eq!(condition(&space.get("pods/exec"), "Ready"), "False");
    space.exec("exec", "touch /tmp/ready");
    space.ready("exec");
    space.exec("exec", "rm /tmp/ready");
    let object = space.until("pods/exec", "is not ready", |pod| condition(pod, "Ready") == "False");
    assert_eq!(container(&object, 0)["restartCount"], 0);
    assert!(space.event("exec", "Unhealthy").starts_with("Readiness probe failed: "));

    let http = json!({
        "startupProbe": { "tcpSocket": { "port": 8080 }, "periodSeconds": 1 },
        "livenessProbe": { "httpGet": { "port": 8080, "path": "/" }, "periodSeconds": 1, "failureThreshold": 2 },
        "readinessProbe": { "httpGet": { "port": 8080, "path": "/" }, "periodSeconds": 1 },
    });
    space.apply(&pod("http", &serve(8080, "well"), &http.to_string()));
    space.ready("http");
    space.exec("http", "rm /tmp/www/index.html");
    space.until("pods/http", "is started anew", |pod| container(pod, 0)["restartCount"] == 1);
    space.ready("http");
    let said = space.event("http", "Killing");
    assert_eq!(said, "Container main failed liveness probe, will be restarted");
    let said = space.event("http", "Unhealthy");
    assert!(said.contains("probe failed: "), "{said}");
}

fn hooks_and_grace(space: &Space) {
    let shared = space.machine.path("hooks");
    fs::create_dir_all(&shared).expect("made");
    let write = |text: &str| json!({ "exec": { "command": ["sh", "-c", format!("echo {text} >>/shared/order")] } });
    let more = json!({
        "lifecycle": { "postStart": write("post"), "preStop": write("pre") },
        "volumeMounts": [{ "name": "shared", "mountPath": "/shared" }],
    });
    let spec = json!({
        "terminationGracePeriodSeconds": 30,
        "volumes": [{ "name": "shared", "hostPath": { "path": shared.display().to_string(), "type": "Directory" } }],
    });
    let script = "trap 'echo term >>/shared/order; exit 0' TERM; while :; do sleep 0.05; done";
    space.apply(&pod_with("polite", script, &more.to_string(), &spec.to_string()));
    space.ready("polite");
    space.kubectl(&["delete", "pod", "polite"]);
    assert_eq!(fs::read_to_string(shared.join("order")).expect("written"), "post\npre\nterm\n");

    space.apply(&pod_with(
        "deaf",
        "trap '' TERM; while :; do sleep 0.05; done",
        "",
        r#"{"terminationGracePeriodSeconds": 1}"#,
    ));
    space.ready("deaf");
    let begin = std::time::Instant::now();
    space.kubectl(&["delete", "pod", "deaf", "--wait=false"]);
    let object = space.get("pods/deaf");
    assert!(object["metadata"]["deletionTimestamp"].is_string() || object.is_null(), "{object}");
    space.gone("deaf");
    assert!(begin.elapsed().as_secs() >= 1, "it had its second");
}

fn the_environment(space: &Space) {
    space.kubectl(&["create", "configmap", "settings", "--from-literal=color=red", "--from-literal=size=big"]);
    space.kubectl(&["create", "secret", "generic", "password", "--from-literal=word=open"]);
    space.kubectl(&["create", "service", "clusterip", "db", "--tcp=5432:5432"]);
    let field = |path: &str| json!({ "fieldRef": { "fieldPath": path } });
    let more = json!({
        "env": [
            { "name": "PLAIN", "value": "plain" },
            { "name": "EXPANDED", "value": "$(PLAIN)-$$(PLAIN)-$(NONE)" },
            { "name": "COLOR", "valueFrom": { "configMapKeyRef": { "name": "settings", "key": "color" } } },
            { "name": "WORD", "valueFrom": { "secretKeyRef": { "name": "password", "key": "word" } } },
            { "name": "ABSENT", "valueFrom": { "secretKeyRef": { "name": "none", "key": "word", "optional": true } } },
            { "name": "POD", "valueFrom": field("metadata.name") },
            { "name": "SPACE", "valueFrom": field("metadata.namespace") },
            { "name": "NODE", "valueFrom": field("spec.nodeName") },
            { "name": "HOST", "valueFrom": field("status.hostIP") },
            { "name": "OWN", "valueFrom": field("status.podIP") },
            { "name": "LABEL", "valueFrom": field("metadata.labels['app']") },
            { "name": "MEMORY", "valueFrom": { "resourceFieldRef": { "resource": "limits.memory", "divisor": "1Mi" } } },
        ],
        "envFrom": [{ "prefix": "ALL_", "configMapRef": { "name": "settings" } }],
        "resources": { "limits": { "memory": "64Mi" } },
    });
    space.apply(&pod_with("shows", "env", &more.to_string(), r#"{"restartPolicy": "Never"}"#));
    let ended = space.ended("shows");
    let shown = space.kubectl(&["logs", "shows"]);
    let address = ended["status"]["podIP"].as_str().unwrap_or_default().to_owned();
    let service = space.get("services/db")["spec"]["clusterIP"].as_str().expect("an address").to_owned();
    for (name, value) in [
        ("PLAIN", "plain"),
        ("EXPANDED", "plain-$(PLAIN)-$(NONE)"),
        ("COLOR", "red"),
        ("WORD", "open"),
        ("POD", "shows"),
        ("SPACE", &space.name),
        ("NODE", "n1"),
        ("HOST", &space.machine.address),
        ("LABEL", "shows"),
        ("MEMORY", "64"),
        ("ALL_color", "red"),
        ("ALL_size", "big"),
        ("DB_SERVICE_HOST", &service),
        ("DB_PORT", &format!("tcp://{service}:5432")),
        ("KUBERNETES_SERVICE_HOST", "10.43.0.1"),
        ("HOSTNAME", "shows"),
    ] {
        assert!(shown.lines().any(|line| line == format!("{name}={value}")), "{name}={value} is not in\n{shown}");
    }
    assert!(!shown.contains("ABSENT"), "{shown}");
    let own = shown.lines().find_map(|line| line.strip_prefix("OWN=")).expect("it is there");
    assert!(own.starts_with("10.42.0.") && (address.is_empty() || own == address), "{own} {address}");
}

fn volumes_live(space: &Space) {
    space.kubectl(&["create", "configmap", "settings", "--from-literal=color=red"]);
    space.kubectl(&["create", "secret", "generic", "password", "--from-literal=word=open"]);
    let spec = json!({
        "securityContext": { "fsGroup": 2000 },
        "volumes": [
            { "name": "settings", "configMap": { "name": "settings" } },
            { "name": "password", "secret": { "secretName": "password", "defaultMode": 0o400 } },
            { "name": "pod", "downwardAPI": { "items": [{ "path": "labels", "fieldRef": { "fieldPath": "metadata.labels" } }] } },
            { "name": "all", "projected": { "sources": [
                { "configMap": { "name": "settings", "items": [{ "key": "color", "path": "deep/color" }] } },
                { "secret": { "name": "password" } },
                { "serviceAccountToken": { "path": "token", "audience": "vault", "expirationSeconds": 600 } },
                { "configMap": { "name": "absent", "optional": true } },
            ] } },
            { "name": "memory", "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" } },
            { "name": "scratch", "emptyDir": {} },
        ],
    });
    let more = json!({ "volumeMounts": [
        { "name": "settings", "mountPath": "/settings" },
        { "name": "settings", "mountPath": "/one/color", "subPath": "color" },
        { "name": "password", "mountPath": "/password", "readOnly": true },
        { "name": "pod", "mountPath": "/pod" },
        { "name": "all", "mountPath": "/all" },
        { "name": "memory", "mountPath": "/memory" },
        { "name": "scratch", "mountPath": "/scratch" },
    ] });
    space.apply(&pod_with("reads", "exec sleep 1000000", &more.to_string(), &spec.to_string()));
    space.ready("reads");
    let say = |script: &str| space.exec("reads", script).trim().to_owned();
    assert_eq!(say("cat /settings/color /one/color /all/deep/color /password/word /all/word"), "redredredopenopen");
    // The group of the pod may read as well: that is what fsGroup adds.
    assert_eq!(say("stat -Lc '%a %g' /password/word"), "440 2000");
    assert_eq!(say("stat -c %g /scratch"), "2000");
    assert!(say("cat /pod/labels").contains("app=\"reads\""));
    assert_eq!(say("cut -d. -f2 /all/token | tr -d '\\n' | wc -c | awk '{print ($1 > 100)}'"), "1");
    assert!(say("mount | grep ' /memory '").contains("tmpfs"));
    let full = both(&space.try_exec("reads", "dd if=/dev/zero of=/memory/x bs=1M count=4"));
    assert!(full.contains("No space left"), "{full}");
    let denied = both(&space.try_exec("reads", "touch /password/x"));
    assert!(denied.contains("Read-only file system"), "{denied}");

    space.kubectl(&["patch", "configmap", "settings", "-p", r#"{"data":{"color":"blue","shape":"round"}}"#]);
    space.kubectl(&["patch", "secret", "password", "-p", r#"{"stringData":{"word":"shut"}}"#]);
    space.kubectl(&["label", "pod", "reads", "tier=front"]);
    wait("the files follow", || {
        say("cat /settings/color /settings/shape /all/deep/color /password/word /pod/labels 2>/dev/null || true")
            .starts_with("blueroundblueshut")
            && say("cat /pod/labels").contains("tier=\"front\"")
    });
    assert_eq!(say("cat /one/color"), "red", "a subPath stays");
}

fn out_of_memory(space: &Space) {
    let more = r#"{"resources": {"limits": {"memory": "16Mi"}}}"#;
    let script = "exec dd if=/dev/zero of=/dev/null bs=64M count=1";
    space.apply(&pod_with("hungry", script, more, r#"{"restartPolicy": "Never"}"#));
    let ended = space.ended("hungry");
    let terminated = &container(&ended, 0)["state"]["terminated"];
    assert_eq!((&terminated["reason"], &terminated["exitCode"]), (&json!("OOMKilled"), &json!(137)), "{ended}");
    assert!(space.kubectl(&["get", "pod", "hungry"]).contains("OOMKilled"));
}

fn confined_by_default(space: &Space) {
    let status = "grep -E '^(Seccomp|NoNewPrivs|CapEff):' /proc/1/status | tr -d '\\t\\n'";
    let shows = |name: &str, security: Value, spec: Value| {
        let more = json!({ "securityContext": security }).to_string();
        space.apply(&pod_with(name, "exec sleep 1000000", &more, &spec.to_string()));
        space.ready(name);
        space.exec(name, status)
    };
    let said = shows("plain", json!({}), json!({}));
    assert!(said.contains("Seccomp:2"), "{said}");
    let said = shows(
        "strict",
        json!({
            "runAsUser": 1000, "runAsNonRoot": true, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] }, "seccompProfile": { "type": "RuntimeDefault" },
        }),
        json!({}),
    );
    assert!(
        said.contains("CapEff:0000000000000000") && said.contains("NoNewPrivs:1") && said.contains("Seccomp:2"),
        "{said}"
    );
    assert_eq!(space.exec("strict", "id -u").trim(), "1000");
    let denied = both(&space.try_exec("strict", "touch /x"));
    assert!(denied.contains("Read-only file system"), "{denied}");
    let said = shows("open", json!({ "seccompProfile": { "type": "Unconfined" } }), json!({}));
    assert!(said.contains("Seccomp:0"), "{said}");
    // The program that the pods' shims run cannot be written through any of them.
    let said = both(&space.try_exec("plain", "echo x >/proc/1/exe; cp /bin/busybox /proc/1/exe"));
    assert!(said.contains("Text file busy") || said.contains("Read-only") || said.contains("denied"), "{said}");
    // Nor while a container makes the runtime execute itself, and looks for it.
    let program = || std::fs::read(&space.machine.binary).expect("the program");
    let before = program();
    let write = "echo began; while :; do for exe in /proc/[0-9]*/exe; do echo evil >$exe && echo written; done; sleep 0.01; done 2>/dev/null";
    space.apply(&pod_with("trap", write, "", r#"{"shareProcessNamespace": true}"#));
    space.ready("trap");
    for _ in 0..5 {
        let ran = both(&space.try_kubectl(&["exec", "trap", "--", "/proc/self/exe", "--version"]));
        assert!(!ran.contains("Text file busy"), "{ran}");
    }
    let log = space.kubectl(&["logs", "trap"]);
    assert!(log.contains("began") && !log.contains("written"), "{log}");
    assert!(program() == before, "the program is as it was");

    let more = json!({ "securityContext": { "runAsNonRoot": true } }).to_string();
    space.apply(&pod_with("root", "true", &more, "{}"));
    let waiting = waits_for(space, "root", "CreateContainerConfigError");
    let message = waiting["message"].as_str().expect("a message");
    assert!(message.starts_with("container has runAsNonRoot and image will run as root (pod: \"root_"), "{message}");

    // Root in the pod is nobody on the node.
    let spec = json!({ "hostUsers": false, "volumes": [{ "name": "data", "emptyDir": {} }] });
    let more = r#"{"volumeMounts": [{"name": "data", "mountPath": "/data"}]}"#;
    space.apply(&pod_with("apart", "echo own >/data/x; exec sleep 1000000", more, &spec.to_string()));
    space.ready("apart");
    let map = space.exec("apart", "cat /proc/self/uid_map");
    let numbers: Vec<u64> = map.split_whitespace().map(|number| number.parse().expect("a number")).collect();
    assert!(numbers[0] == 0 && numbers[1] >= 65536 && numbers[2] == 65536, "{map}");
    assert_eq!(space.exec("apart", "id -u; stat -c %u /data/x; cat /data/x"), "0\n0\nown\n");
}

fn reasons_for_waiting(space: &Space) {
    let with = |name: &str, fields: Value| {
        let mut container = fields;
        if container["image"].is_null() {
            container["image"] = "busybox:1.35".into();
        }
        space.apply(&pod(name, "exec sleep 1000000", &container.to_string()));
    };
    with("unreachable", json!({ "image": "localhost:1/nobody/none:v1" }));
    with("never", json!({ "image": "nobody/none:v1", "imagePullPolicy": "Never" }));
    with("invalid", json!({ "image": "NOT/Valid:v1" }));
    with(
        "unset",
        json!({ "env": [{ "name": "A", "valueFrom": { "configMapKeyRef": { "name": "absent", "key": "a" } } }] }),
    );
    waits_for(space, "unreachable", "ImagePullBackOff");
    assert!(space.event("unreachable", "Failed").contains("localhost:1/nobody/none:v1"));
    let waiting = waits_for(space, "never", "ErrImageNeverPull");
    assert_eq!(waiting["message"], "Container image \"nobody/none:v1\" is not present with pull policy of Never");
    let waiting = waits_for(space, "invalid", "InvalidImageName");
    let message = waiting["message"].as_str().expect("a message");
    assert!(message.contains("couldn't parse image name \"NOT/Valid:v1\": invalid reference format"), "{message}");
    let waiting = waits_for(space, "unset", "CreateContainerConfigError");
    assert_eq!(waiting["message"], "configmap \"absent\" not found");
    space.kubectl(&["create", "configmap", "absent", "--from-literal=a=b"]);
    space.ready("unset");
    let missing = json!({ "command": null });
    let mut manifest: Value = serde_json::from_str(&pod("lost", "", &missing.to_string())).expect("JSON");
    manifest["spec"]["containers"][0]["command"] = json!(["/no/such/program"]);
    manifest["spec"]["restartPolicy"] = "Never".into();
    space.apply(&manifest.to_string());
    let ended = space.ended("lost");
    let terminated = &container(&ended, 0)["state"]["terminated"];
    assert_eq!(terminated["reason"], "StartError", "{ended}");
    assert!(terminated["message"].as_str().expect("a message").contains("/no/such/program"), "{ended}");
    // What does not fit is not tried.
    with("large", json!({ "resources": { "requests": { "memory": "4096Gi" } } }));
    let said = space.event("large", "FailedScheduling");
    assert!(said.starts_with("0/1 nodes are available: 1 Insufficient memory."), "{said}");
}

fn the_network_of_the_node(space: &Space) {
    space.apply(&pod_with("host", &serve(18888, "host"), "", r#"{"hostNetwork": true}"#));
    let object = space.ready("host");
    assert_eq!(object["status"]["podIP"], space.machine.address.as_str());
    assert!(space.exec("host", "ip -o addr show eth0").contains(&space.machine.address));
    let (code, body) = space.machine.http("GET", &format!("http://{}:18888/", space.machine.address), "");
    assert_eq!((code, body.trim()), (200, "host"));
    let name = "kubernetes.default.svc.cluster.local";
    space.apply(&pod_with(
        "resolves",
        "exec sleep 1000000",
        "",
        r#"{"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}"#,
    ));
    space.ready("resolves");
    assert!(space.exec("resolves", &format!("nslookup {name}")).contains("10.43.0.1"));
}

/// The API from inside a pod, by name, with what the pod is given.
fn the_account_of_the_pod(space: &Space) {
    let ask = "
import json, ssl, sys, urllib.request, urllib.error
base = '/var/run/secrets/kubernetes.io/serviceaccount/'
read = lambda name: open(base + name).read()
context = ssl.create_default_context(cafile=base + 'ca.crt')
url = 'https://kubernetes.default.svc/api/v1/namespaces/' + read('namespace') + '/configmaps'
request = urllib.request.Request(url, headers={'Authorization': 'Bearer ' + read('token')})
try:
    print(len(json.load(urllib.request.urlopen(request, context=context, timeout=10))['items']))
except urllib.error.HTTPError as error:
    print(json.load(error)['message'])
";
    space.apply(&pod_with("client", "exec sleep 1000000", r#"{"image": "python:3.11-slim"}"#, "{}"));
    space.ready("client");
    let said = space.kubectl(&["exec", "client", "--", "python3", "-c", ask]);
    let told = format!("User \"system:serviceaccount:{}:default\" cannot list resource \"configmaps\"", space.name);
    assert!(said.contains(&told), "{said}");
    space.kubectl(&["create", "role", "reader", "--verb=list", "--resource=configmaps"]);
    let subject = format!("--serviceaccount={}:default", space.name);
    space.kubectl(&["create", "rolebinding", "reader", "--role=reader", &subject]);
    wait("it may list", || space.kubectl(&["exec", "client", "--", "python3", "-c", ask]).trim() == "1");
    let spec = r#"{"automountServiceAccountToken": false}"#;
    space.apply(&pod_with("bare", "exec sleep 1000000", "", spec));
    space.ready("bare");
    assert!(!space.try_exec("bare", "ls /var/run/secrets/kubernetes.io").status.success());
}

fn static_pods(space: &Space) {
    let directory = space.machine.path("data/agent/pod-manifests");
    wait("the directory is there", || directory.is_dir());
    let mut manifest: Value = serde_json::from_str(&pod("fixed", "exec sleep 1000000", "")).expect("JSON");
    manifest["metadata"]["namespace"] = space.name.as_str().into();
    fs::write(directory.join("fixed.yaml"), manifest.to_string()).expect("written");
    let object = space.ready("fixed-n1");
    assert_eq!(object["metadata"]["annotations"]["kubernetes.io/config.source"], "file");
    assert_eq!(object["metadata"]["ownerReferences"][0]["kind"], "Node");
    // The image in the API is deleted; the pod goes on, and has another image.
    let before = object["metadata"]["uid"].as_str().expect("a uid").to_owned();
    space.kubectl(&["delete", "pod", "fixed-n1", "--wait=false"]);
    space.until("pods/fixed-n1", "is there again", |pod| {
        pod["metadata"]["uid"].as_str().is_some_and(|uid| uid != before) && condition(pod, "Ready") == "True"
    });
    fs::remove_file(directory.join("fixed.yaml")).expect("removed");
    space.gone("fixed-n1");
}

fn logs_are_set_aside(space: &Space) {
    let script = "i=0; while [ $i -lt 6000 ]; do echo line $i; i=$((i+1)); done; echo over; exec sleep 1000000";
    space.apply(&pod("talks", script, ""));
    let object = space.ready("talks");
    let uid = object["metadata"]["uid"].as_str().expect("a uid");
    let directory = space.machine.path(&format!("log/pods/{}_talks_{uid}/main", space.name));
    let files = || -> Vec<String> {
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    wait("the log is set aside", || files().len() > 1);
    let names = files();
    assert!(names.len() <= 3 && names[0] == "0.log" && names[1].starts_with("0.log."), "{names:?}");
    // What comes now is in the new file, and read by the same name.
    space.exec("talks", "echo afterwards >/proc/1/fd/1");
    wait("the new line is read", || space.kubectl(&["logs", "talks", "--tail=1"]) == "afterwards\n");
    assert!(fs::metadata(directory.join("0.log")).expect("there").len() < 65536);
}
