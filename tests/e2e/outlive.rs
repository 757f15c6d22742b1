//! Pods outlive orch: a kill, a restart, an upgrade.

use crate::cluster::{Machine, ORCH, both, wait};
use crate::need_machine;
use crate::space::{Space, pod, pod_with, serve};
use crate::world::within;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

#[test]
fn pods_outlive_orch() {
    need_machine!();
    let mut machine = Machine::new();
    machine.add_images(&["busybox"]);
    machine.start(&[]);
    machine.wait_ready();
    let shared = machine.path("shared");
    fs::create_dir(&shared).expect("a directory");

    let space = Space::new(&machine, "outlive");
    let name = space.name.clone();
    space.apply(&pod("talker", "i=0; while :; do echo line $i; i=$((i+1)); sleep 0.05; done", ""));
    for round in ROUNDS {
        space.apply(&ender(round, &shared.display().to_string()));
    }
    space.apply(&web());
    let node_port = space.get("services/web")["spec"]["ports"][0]["nodePort"].as_u64().expect("a port");
    space.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    let before = state(&space);
    assert_eq!(before.len(), 3 + ROUNDS.len(), "{before:#?}");
    let requests = Requests::start(&machine.name, node_port.try_into().expect("a port"));

    for round in ROUNDS {
        match round {
            "killed" => machine.kill(),
            _ => assert_eq!(machine.stop(), Some(0), "{round}: {}", machine.log()),
        }
        if round == "upgraded" {
            machine.binary = machine.path("orch-of-tomorrow");
            fs::copy(ORCH, &machine.binary).expect("copied");
        }
        // A container ends while nobody looks.
        fs::write(shared.join(round), "").expect("written");
        machine.start(&[]);
        machine.wait_ready();
        let space = Space::again(&machine, &name);
        is_as_before(&space, round, &before);
    }
    let space = Space::again(&machine, &name);
    space.apply(&pod("newcomer", "exec sleep 1000000", ""));
    space.ready("newcomer");
    space.kubectl(&["delete", "pod", "talker"]);
    space.gone("talker");
    let (sent, lost) = requests.stop();
    assert!(sent > 50, "requests went on: {sent}");
    assert_eq!(lost, 0, "requests lost, of {sent}");
    killall_ends_orch_first(&mut machine, &name);
}

/// A server that went on would start the pods again.
fn killall_ends_orch_first(machine: &mut Machine, name: &str) {
    let said = machine.kill_all();
    assert!(said.status.success(), "{}", both(&said));
    assert_eq!(machine.ended(), Some(0), "it was told to end: {}", machine.log());
    assert_eq!(machine.left(), Vec::<String>::new());
    machine.start(&[]);
    machine.wait_ready();
    let space = Space::again(machine, name);
    space.ready("newcomer");
}

const ROUNDS: [&str; 3] = ["killed", "restarted", "upgraded"];

/// A pod that ends with 5 once a file of its name is there.
fn ender(name: &str, directory: &str) -> String {
    let script = format!("while [ ! -e /shared/{name} ]; do sleep 0.05; done; echo over; exit 5");
    let spec = json!({
        "restartPolicy": "Never",
        "volumes": [{ "name": "shared", "hostPath": { "path": directory } }],
    });
    pod_with(name, &script, r#"{"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}"#, &spec.to_string())
}

fn web() -> String {
    let container = json!({
        "name": "main", "image": "busybox:1.35", "command": ["sh", "-c", serve(8080, "here")],
        "readinessProbe": { "tcpSocket": { "port": 8080 }, "periodSeconds": 1 },
    });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
        "spec": {
            "replicas": 2, "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "terminationGracePeriodSeconds": 1, "containers": [container] },
            },
        },
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
        "spec": { "type": "NodePort", "selector": { "app": "web" }, "ports": [{ "port": 80, "targetPort": 8080 }] },
    });
    json!({ "apiVersion": "v1", "kind": "List", "items": [deployment, service] }).to_string()
}

/// What must stay of a pod: its address, its container, its first process.
fn state(space: &Space) -> BTreeMap<String, (String, String, String)> {
    let pods = space.get("pods");
    let pods = pods["items"].as_array().expect("a list");
    pods.iter()
        .map(|pod| {
            let name = pod["metadata"]["name"].as_str().expect("a name");
            let pod = space.ready(name);
            let of = |path: &str| pod.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
            let identity = of("/status/containerStatuses/0/containerID");
            (name.to_owned(), (of("/status/podIP"), identity, process(space, name)))
        })
        .collect()
}

/// Namespace and start time of the first process: no other one ever has both.
fn process(space: &Space, pod: &str) -> String {
    let mut said = String::new();
    wait(&format!("exec in {pod} works"), || {
        let output = space.try_exec(pod, "readlink /proc/1/ns/pid; cut -d ' ' -f 22 /proc/1/stat");
        said = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success()
    });
    said
}

fn is_as_before(space: &Space, round: &str, before: &BTreeMap<String, (String, String, String)>) {
    let ended = space.ended(round);
    let terminated = &ended["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!((&terminated["exitCode"], &terminated["reason"]), (&json!(5), &json!("Error")), "{ended}");
    assert_eq!(space.kubectl(&["logs", round]), "over\n");
    for (name, (address, container, first)) in before.iter().filter(|(name, _)| !ROUNDS.contains(&name.as_str())) {
        assert_eq!(&process(space, name), first, "{name} after orch was {round}");
        let pod = space.ready(name);
        let status = &pod["status"]["containerStatuses"][0];
        assert_eq!(status["containerID"], container.as_str(), "{name} after orch was {round}");
        assert_eq!(status["restartCount"], 0, "{name} after orch was {round}");
        assert_eq!(pod["status"]["podIP"], address.as_str(), "{name} after orch was {round}");
    }
    let log = space.kubectl(&["logs", "talker"]);
    let numbers: Vec<&str> = log.lines().map(|line| line.trim_start_matches("line ")).collect();
    let wanted: Vec<String> = (0..numbers.len()).map(|number| number.to_string()).collect();
    assert_eq!(numbers, wanted, "no line is lost");
    // It is still being written, and followed.
    let last = numbers.len();
    wait("the log goes on", || space.kubectl(&["logs", "talker"]).lines().count() > last);
}

/// Requests one after the other, as long as it is not told to stop.
struct Requests {
    over: Arc<AtomicBool>,
    thread: JoinHandle<(u32, u32)>,
}

impl Requests {
    fn start(network: &str, port: u16) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ended = over.clone();
        let thread = within(network, move || {
            let (mut sent, mut lost) = (0, 0);
            while !ended.load(Ordering::Relaxed) {
                let answer = request(port);
                sent += 1;
                if !answer.as_ref().is_ok_and(|answer| answer.ends_with("here\n")) {
                    lost += 1;
                    eprintln!("{} lost: {answer:?}", jiff::Timestamp::now());
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            (sent, lost)
        });
        Self { over, thread }
    }

    /// How many were sent, and how many of them lost.
    fn stop(self) -> (u32, u32) {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("no panic")
    }
}

fn request(port: u16) -> std::io::Result<String> {
    let address = SocketAddr::from(([192, 168, 77, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(3))?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
