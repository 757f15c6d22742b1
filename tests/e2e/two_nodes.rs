//! Two machines on one wire: a server and an agent that joins it.

use crate::cluster::{Machine, both, condition, wait};
use crate::need_machine;
use crate::space::{Space, ask, pod_with, serve};
use crate::world::within;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[test]
fn two_nodes_are_one_cluster() {
    need_machine!();
    let mut first = Machine::new();
    let mut second = first.beside();
    first.add_images(&["busybox"]);
    second.add_images(&["busybox"]);
    first.start(&["--kube-controller-manager-arg=node-monitor-grace-period=20s"]);
    first.wait_answer();
    let token = fs::read_to_string(first.path("data/server/token")).expect("a token").trim().to_owned();
    a_wrong_server_gets_no_secret(&first, &second, &token);

    second.join(&first, &token);
    for node in ["n1", "n2"] {
        wait(&format!("{node} is ready"), || first.is_ready(node));
    }
    wait("the server's node has a role, and the other none", || {
        let nodes = first.kubectl(&["get", "nodes", "--no-headers"]);
        let role = |node: &str| nodes.lines().find(|line| line.starts_with(node))?.split_whitespace().nth(2);
        (role("n1"), role("n2")) == (Some("control-plane"), Some("<none>"))
    });
    let space = Space::new(&first, "default-of-two");
    for (name, node) in [("one", "n1"), ("two", "n2")] {
        let spec = json!({ "nodeSelector": { "kubernetes.io/hostname": node } }).to_string();
        space.apply(&pod_with(name, &serve(8080, &format!("i-am-{name}")), "", &spec));
        space.kubectl(&["expose", "pod", name, "--port=80", "--target-port=8080"]);
    }
    space.apply(&movable());
    both_ways(&space);
    policies(&space, &second.name);
    streams(&space);
    the_agent_dies(&space, &mut second);
    it_comes_back(&space, &mut second, &token);
}

/// A token with the hash of another CA, and a server that only has the right CA to show.
fn a_wrong_server_gets_no_secret(first: &Machine, second: &Machine, token: &str) {
    let (hash, secret) = token.strip_prefix("K10").and_then(|rest| rest.split_once("::")).expect("a token");
    let other = if hash.starts_with('0') { "1" } else { "0" };
    let wrong = format!("K10{other}{}::{secret}", &hash[1..]);
    let output = second.agent_command(&first.url(), &wrong).output().expect("orch starts");
    assert!(!output.status.success());
    let said = both(&output);
    assert!(said.contains("wrong server or wrong token"), "{said}");
    assert!(!said.contains(secret), "{said}");
    let names = first.kubectl(&["get", "nodes", "-o", "name"]);
    assert!(!names.contains("n2"), "{names}");

    // The impostor shows the true CA, but has no certificate of it.
    let authority = first.api("GET", "/cacerts", &[]).1;
    let impostor = Impostor::start(second, authority);
    let mut command = second.agent_command(&format!("https://{}:7443", second.address), token);
    command.stderr(Stdio::piped());
    let mut agent = command.spawn().expect("orch starts");
    let mut said = String::new();
    for line in BufReader::new(agent.stderr.take().expect("its log")).lines() {
        said = line.expect("text");
        if said.contains("certificate") {
            break;
        }
    }
    agent.kill().expect("killed");
    agent.wait().expect("ended");
    assert!(said.contains("certificate"), "{said}");
    let heard = impostor.heard();
    assert!(heard.contains("GET /cacerts"), "the agent asked the impostor: {heard}");
    assert!(!heard.contains("Bearer"), "the agent told its secret: {heard}");
    assert!(!heard.contains(secret), "the agent told its secret: {heard}");
}

/// A server with a certificate of its own making that gives the CA of another.
struct Impostor {
    thread: std::thread::JoinHandle<String>,
    over: Arc<AtomicBool>,
}

impl Impostor {
    fn start(machine: &Machine, authority: String) -> Self {
        let certified = rcgen::generate_simple_self_signed([machine.address.clone()]).expect("a certificate");
        let key = rustls_pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![certified.cert.der().clone()], key))
            .expect("a configuration");
        let (config, address) = (Arc::new(config), machine.address.clone());
        let over = Arc::new(AtomicBool::new(false));
        let ended = over.clone();
        let (listening, started) = std::sync::mpsc::channel();
        let thread = within(&machine.name, move || {
            let listener = TcpListener::bind((address.as_str(), 7443)).expect("a port");
            listening.send(()).expect("somebody waits");
            let mut heard = String::new();
            listener.set_nonblocking(true).expect("set");
            while !ended.load(Ordering::Relaxed) {
                let Ok((mut socket, _)) = listener.accept() else {
                    std::thread::sleep(Duration::from_millis(20));
                    continue;
                };
                socket.set_nonblocking(false).expect("set");
                socket.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
                let mut session = rustls::ServerConnection::new(config.clone()).expect("a session");
                let mut stream = rustls::Stream::new(&mut session, &mut socket);
                let mut buffer = [0; 16 * 1024];
                // A client that does not like the certificate hangs up here.
                let Ok(length) = stream.read(&mut buffer) else { continue };
                heard += &String::from_utf8_lossy(&buffer[..length]);
                let reply = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{authority}",
                    authority.len()
                );
                if stream.write_all(reply.as_bytes()).is_ok() {
                    stream.conn.send_close_notify();
                    drop(stream.flush());
                }
            }
            heard
        });
        started.recv().expect("it listens");
        Self { thread, over }
    }

    /// End it; what clients sent.
    fn heard(self) -> String {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("no panic")
    }
}

/// A Deployment that would rather be on the second node, and leaves a lost one at once.
fn movable() -> String {
    let leave = |key: &str| json!({ "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1 });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "movable" },
        "spec": {
            "selector": { "matchLabels": { "app": "movable" } },
            "template": {
                "metadata": { "labels": { "app": "movable" } },
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "tolerations": [leave("node.kubernetes.io/unreachable"), leave("node.kubernetes.io/not-ready")],
                    "affinity": { "nodeAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [{
                        "weight": 100,
                        "preference": { "matchExpressions": [
                            { "key": "kubernetes.io/hostname", "operator": "In", "values": ["n2"] },
                        ] },
                    }] } },
                    "containers": [
                        { "name": "main", "image": "busybox:1.35", "command": ["sh", "-c", serve(8080, "moved")] },
                    ],
                },
            },
        },
    })
    .to_string()
}

fn both_ways(space: &Space) {
    let address = |pod: &Value| pod["status"]["podIP"].as_str().expect("an address").to_owned();
    let (one, two) = (address(&space.ready("one")), address(&space.ready("two")));
    for (from, to, address) in [("one", "two", two), ("two", "one", one)] {
        let answer = format!("i-am-{to}");
        wait(&format!("{from} reaches {to}"), || both(&space.try_exec(from, &ask(&address, 8080))).contains(&answer));
        // A packet that fills the link's MTU, so that the overlay's own bytes count.
        let script = format!("ping -c 1 -W 3 -s 1400 {address}");
        assert!(space.exec(from, &script).contains("1 packets received"), "{from} to {to}");
        let service = space.get(&format!("services/{to}"));
        let address = service["spec"]["clusterIP"].as_str().expect("an address").to_owned();
        wait(&format!("{from} reaches the Service of {to}"), || {
            both(&space.try_exec(from, &ask(&address, 80))).contains(&answer)
        });
        let name = format!("{to}.{}.svc.cluster.local", space.name);
        let found = space.exec(from, &format!("nslookup {name}"));
        assert!(found.contains(&address), "{name}: {found}");
    }
}

/// What is to stay on a node does not go to the other one.
fn policies(space: &Space, second: &str) {
    let local = json!({ "spec": {
        "type": "NodePort", "internalTrafficPolicy": "Local", "externalTrafficPolicy": "Local",
    } });
    space.kubectl(&["patch", "service", "two", "-p", &local.to_string()]);
    let service = space.get("services/two");
    let address = service["spec"]["clusterIP"].as_str().expect("an address").to_owned();
    let port: u16 = service["spec"]["ports"][0]["nodePort"].as_u64().expect("a port").try_into().expect("a port");
    wait("from the other node it is refused", || !space.try_exec("one", &ask(&address, 80)).status.success());
    assert!(space.exec("two", &ask(&address, 80)).contains("i-am-two"), "from its own node");
    let first = space.machine.name.clone();
    let reached = |network: &str, address: &str| {
        let to: SocketAddr = format!("{address}:{port}").parse().expect("an address");
        within(network, move || TcpStream::connect_timeout(&to, Duration::from_secs(1)).is_ok())
            .join()
            .expect("no panic")
    };
    wait("from outside by the node that has it", || reached(&first, "192.168.77.2"));
    assert!(!reached(second, "192.168.77.1"), "not by the other node: a balancer tries another one");
    let cluster = json!({ "spec": { "internalTrafficPolicy": "Cluster", "externalTrafficPolicy": "Cluster" } });
    space.kubectl(&["patch", "service", "two", "-p", &cluster.to_string()]);
    wait("by every node again", || reached(&first, "192.168.77.1") && reached(&first, "192.168.77.2"));
    wait("and from every pod", || space.try_exec("one", &ask(&address, 80)).status.success());
}

/// Logs, exec, files and a forwarded port, all of a pod of the second node.
fn streams(space: &Space) {
    space.kubectl(&["exec", "two", "--", "sh", "-c", "echo said by two >/proc/1/fd/1"]);
    wait("the log is read", || space.kubectl(&["logs", "two"]).contains("said by two"));
    let answer = space.forward("pod/two", 8080, |url| space.machine.http("GET", url, ""));
    assert_eq!((answer.0, answer.1.trim()), (200, "i-am-two"));
}

fn pods_of(space: &Space, app: &str) -> Vec<Value> {
    let list = space.get(&format!("pods?labelSelector=app%3D{app}"));
    list["items"].as_array().cloned().unwrap_or_default()
}

/// The addresses that a Service sends to.
fn endpoints(space: &Space, service: &str) -> Vec<String> {
    let endpoints = space.get(&format!("endpoints/{service}"));
    let subsets = endpoints["subsets"].as_array().cloned().unwrap_or_default();
    let addresses = subsets.iter().flat_map(|subset| subset["addresses"].as_array().cloned().unwrap_or_default());
    addresses.map(|address| address["ip"].as_str().unwrap_or_default().to_owned()).collect()
}

fn the_agent_dies(space: &Space, second: &mut Machine) {
    let on = |node: &str| {
        let pods = pods_of(space, "movable");
        pods.into_iter().find(|pod| pod["spec"]["nodeName"] == node && condition(pod, "Ready") == "True")
    };
    wait("the movable pod runs on n2", || on("n2").is_some());
    assert_eq!(endpoints(space, "two").len(), 1);
    second.kill();
    let said = second.kill_all();
    assert!(said.status.success(), "{}", both(&said));

    let lost = |node: &Value| condition(node, "Ready") == "Unknown";
    wait("n2 is lost", || lost(&space.machine.get("/api/v1/nodes/n2")));
    let shown = space.machine.kubectl(&["get", "node", "n2"]);
    assert!(shown.contains("NotReady"), "{shown}");
    wait("no endpoint is on n2", || endpoints(space, "two").is_empty());
    wait("the movable pod runs on n1", || on("n1").is_some());
    // The one on n2 is to be deleted, and nobody there confirms it.
    let left = pods_of(space, "movable").into_iter().find(|pod| pod["spec"]["nodeName"] == "n2");
    assert!(left.expect("it waits for its kubelet")["metadata"]["deletionTimestamp"].is_string());
    assert!(space.exec("one", &ask("127.0.0.1", 8080)).contains("i-am-one"), "n1 goes on");
    let output = space.try_kubectl(&["logs", "two"]);
    assert!(!output.status.success(), "no logs of a lost node: {}", both(&output));
}

fn it_comes_back(space: &Space, second: &mut Machine, token: &str) {
    second.join(space.machine, token);
    wait("n2 is ready again", || space.machine.is_ready("n2"));
    wait("the deleted pod is gone", || pods_of(space, "movable").len() == 1);
    let two = space.ready("two");
    assert_eq!(two["status"]["containerStatuses"][0]["restartCount"], 1, "its container was ended");
    wait("its endpoint is back", || endpoints(space, "two").len() == 1);
    both_ways(space);

    let said = second.kill_all();
    assert!(said.status.success(), "{}", both(&said));
    assert_eq!(second.ended(), Some(0), "killall ends a running agent: {}", second.log());
}
