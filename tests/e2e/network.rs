//! Services, DNS and the node's rules, from pods, from the node and from outside.

use crate::cluster::{Machine, both, must, wait};
use crate::need_machine;
use crate::space::{Check, Space, check_all, pod_with};
use crate::world::{ANSWER, ROUTER, World, within};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Tells every client who answers, and from which address he seems to come.
const WHO: &str = "
import socket
server = socket.create_server(('', 8080), backlog=64)
while True:
    client, address = server.accept()
    client.sendall(f'{socket.gethostname()} {address[0]}\\n'.encode())
    client.close()
";

const CHECKS: &[Check] = &[
    ("a service of one reaches itself", a_service_of_one_reaches_itself),
    ("names are found", names_are_found),
    ("nobody owns the address", nobody_owns_the_address),
    ("node ports", node_ports),
    ("host ports", host_ports),
    ("clients stay with their endpoint", clients_stay_with_their_endpoint),
    ("datagrams", datagrams),
    ("the node is closed to pods", the_node_is_closed_to_pods),
];

#[test]
fn services_and_names() {
    need_machine!();
    let mut machine = Machine::new();
    let world = World::new(&machine);
    machine.add_images(&["busybox", "python"]);
    let resolver = format!("--resolv-conf={}", machine.path("resolv.conf").display());
    machine.start(&[&resolver]);
    machine.wait_ready();
    check_all(&machine, CHECKS);

    let seen = world.seen();
    let inside = |address: &IpAddr| matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 10);
    let escaped: Vec<_> = seen.iter().filter(|(from, to)| inside(&(*from).into()) || inside(&(*to).into())).collect();
    assert!(escaped.is_empty(), "left over the wire: {escaped:?}");
    let router: std::net::Ipv4Addr = ROUTER.parse().expect("an address");
    assert!(seen.iter().any(|(_, to)| *to == router), "what pods ask the world for goes over the wire: {seen:?}");
    rules_are_put_back(&Space::new(&machine, "rules are put back"));
}

/// A pod that serves [`WHO`]; ready when it listens.
fn who(name: &str, more: &str) -> String {
    let mut manifest: Value =
        serde_json::from_str(&pod_with(name, "", r#"{"image": "python:3.11-slim"}"#, "{}")).expect("JSON");
    manifest["spec"]["containers"][0]["command"] = json!(["python3", "-u", "-c", WHO]);
    manifest["spec"]["containers"][0]["readinessProbe"] = json!({ "tcpSocket": { "port": 8080 }, "periodSeconds": 1 });
    let more: Value = serde_json::from_str(if more.is_empty() { "{}" } else { more }).expect("JSON");
    for (field, value) in more.as_object().expect("a map") {
        if field == "ports" {
            manifest["spec"]["containers"][0]["ports"] = value.clone();
        } else {
            manifest["spec"][field] = value.clone();
        }
    }
    manifest.to_string()
}

/// A Service for the pods of an app.
fn service(name: &str, app: &str, more: &str) -> String {
    let mut spec: Value = serde_json::from_str(if more.is_empty() { "{}" } else { more }).expect("JSON");
    spec["selector"] = json!({ "app": app });
    if spec["ports"].is_null() {
        spec["ports"] = json!([{ "name": "who", "port": 80, "targetPort": 8080 }]);
    }
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name }, "spec": spec }).to_string()
}

/// A pod to ask from.
fn client(space: &Space) {
    space.apply(&pod_with("client", "exec sleep 1000000", "", "{}"));
}

fn text(object: &Value, path: &str) -> String {
    object.pointer(path).and_then(Value::as_str).unwrap_or_else(|| panic!("{path} of {object}")).to_owned()
}

fn address_of(space: &Space, pod: &str) -> String {
    text(&space.ready(pod), "/status/podIP")
}

fn cluster_ip(space: &Space, service: &str) -> String {
    text(&space.get(&format!("services/{service}")), "/spec/clusterIP")
}

fn node_port(space: &Space, service: &str) -> u16 {
    let service = space.get(&format!("services/{service}"));
    service["spec"]["ports"][0]["nodePort"].as_u64().and_then(|port| port.try_into().ok()).expect("a node port")
}

/// What [`WHO`] tells a pod.
fn told(space: &Space, pod: &str, address: &str, port: u16) -> String {
    both(&space.try_exec(pod, &format!("nc -w 3 {address} {port} </dev/null")))
}

/// What [`WHO`] tells a program in a network namespace; None: nobody answers.
fn told_in(network: &str, address: &str, port: u16) -> Option<String> {
    let to = SocketAddr::new(address.parse().expect("an address"), port);
    let ask = move || {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(3)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(3))).ok()?;
        let mut said = String::new();
        stream.read_to_string(&mut said).ok()?;
        Some(said)
    };
    within(network, ask).join().expect("no panic")
}

fn world_of(space: &Space) -> String {
    format!("{}-world", space.machine.name)
}

fn a_service_of_one_reaches_itself(space: &Space) {
    client(space);
    space.apply(&who("web", ""));
    space.apply(&service("web", "web", ""));
    let own = address_of(space, "web");
    let address = cluster_ip(space, "web");
    let script = format!(
        "import socket; c = socket.create_connection(('{address}', 80), timeout=3); print(c.recv(100).decode())"
    );
    wait("it reaches itself", || {
        both(&space.try_kubectl(&["exec", "web", "--", "python3", "-c", &script])).starts_with("web ")
    });
    // A neighbour on the same node is seen as himself.
    let from = address_of(space, "client");
    assert_eq!(told(space, "client", &address, 80).trim(), format!("web {from}"));
    assert_eq!(told(space, "client", &own, 8080).trim(), format!("web {from}"));
    assert!(told_in(&space.machine.name, &address, 80).is_some_and(|said| said.starts_with("web ")), "from the node");
}

fn names_are_found(space: &Space) {
    client(space);
    for name in ["zero", "one"] {
        let more = json!({ "hostname": name, "subdomain": "peers" }).to_string();
        space.apply(&who(name, &more).replace(&format!(r#""app":"{name}""#), r#""app":"peers""#));
    }
    space.apply(&service("peers", "peers", r#"{"clusterIP": "None"}"#));
    space.apply(&service("web", "peers", ""));
    let addresses = BTreeSet::from([address_of(space, "zero"), address_of(space, "one")]);
    space.ready("client");
    let domain = format!("{}.svc.cluster.local", space.name);
    let lookup = |arguments: &str| both(&space.try_exec("client", &format!("nslookup {arguments}")));
    wait("the headless Service has both", || {
        let said = lookup(&format!("peers.{domain}"));
        addresses.iter().all(|address| said.contains(address))
    });
    let said = lookup(&format!("one.peers.{domain}"));
    assert!(said.contains(&address_of(space, "one")) && !said.contains(&address_of(space, "zero")), "{said}");
    let said = lookup(&format!("web.{domain}"));
    assert!(said.contains(&cluster_ip(space, "web")), "{said}");
    let said = lookup(&format!("-type=srv _who._tcp.web.{domain}"));
    assert!(said.contains(&format!("web.{domain}")) && said.contains(" 80 "), "{said}");
    let said = lookup(&cluster_ip(space, "web"));
    assert!(said.contains(&format!("web.{domain}")), "{said}");
    let said = lookup(&format!("nothing.{domain}"));
    assert!(said.contains("NXDOMAIN"), "{said}");
    let said = lookup("outside.example");
    assert!(said.contains(&ANSWER.to_string()), "{said}");
    // As a program finds them: by the search list, and by the way of the C library.
    for (name, address) in [
        ("web".to_owned(), cluster_ip(space, "web")),
        (format!("web.{}", space.name), cluster_ip(space, "web")),
        ("kubernetes.default".to_owned(), "10.43.0.1".to_owned()),
        ("outside.example".to_owned(), ANSWER.to_string()),
    ] {
        let script = format!("import socket; print(socket.gethostbyname('{name}'))");
        let found = space.kubectl(&["exec", "one", "--", "python3", "-c", &script]);
        assert_eq!(found.trim(), address, "{name}");
    }
    // Long answers come over TCP as well.
    let script = "import socket,struct\nq=b'\\x12\\x34\\x01\\0\\0\\x01\\0\\0\\0\\0\\0\\0\\x0akubernetes\\x07default\\x03svc\\x07cluster\\x05local\\0\\0\\x01\\0\\x01'\nc=socket.create_connection(('10.43.0.10',53),timeout=3)\nc.sendall(struct.pack('>H',len(q))+q)\nr=c.recv(1000)\nprint('.'.join(map(str,r[-4:])))";
    let found = space.kubectl(&["exec", "one", "--", "python3", "-c", script]);
    assert_eq!(found.trim(), "10.43.0.1");
}

/// Tries to connect; prints the error's name and whether it came within a second.
fn refusal(address: &str, port: u16) -> String {
    format!(
        "import socket,time,errno
begin=time.monotonic()
s=socket.socket()
s.settimeout(5)
e=s.connect_ex(('{address}',{port}))
print(errno.errorcode.get(e,'connected'), 'at once' if time.monotonic()-begin<1 else 'late')"
    )
}

/// Sends a datagram as resolvers do; prints the error's name and whether it came within a second.
fn datagram_refusal(address: &str, port: u16) -> String {
    format!(
        "import socket,time,errno
begin=time.monotonic()
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)
s.settimeout(5)
s.connect(('{address}',{port}))
try:
    s.send(b'x')
    s.recv(10)
    e=0
except OSError as error:
    e=error.errno
print(errno.errorcode.get(e,'no error'), 'at once' if time.monotonic()-begin<1 else 'late')"
    )
}

fn nobody_owns_the_address(space: &Space) {
    space.apply(&who("web", ""));
    space.apply(&service("web", "web", ""));
    space.apply(&service("idle", "nobody", ""));
    space.ready("web");
    let (owned, idle) = (cluster_ip(space, "web"), cluster_ip(space, "idle"));
    wait("the Service answers", || told_in(&space.machine.name, &owned, 80).is_some());
    // The kernel sends a pod only so many errors a second: datagrams are sent by another one.
    space.apply(&who("other", ""));
    space.ready("other");
    let in_pod =
        |pod: &str, script: &str| space.kubectl(&["exec", pod, "--", "python3", "-c", script]).trim().to_owned();
    let on_node = |script: &str| {
        let mut command = space.machine.command("python3");
        both(&command.args(["-c", script]).output().expect("python3 starts")).trim().to_owned()
    };
    let from_pod = |address: &str, port: u16| in_pod("web", &refusal(address, port));
    let from_node = |address: &str, port: u16| on_node(&refusal(address, port));
    for (what, address, port) in [
        ("an address of no Service", "10.43.200.200", 80),
        ("another port of a Service", owned.as_str(), 81),
        ("a Service without endpoints", idle.as_str(), 80),
    ] {
        assert_eq!(from_pod(address, port), "ECONNREFUSED at once", "{what}, from a pod");
        assert_eq!(from_node(address, port), "ECONNREFUSED at once", "{what}, from the node");
        let datagram = datagram_refusal(address, port);
        assert_eq!(in_pod("other", &datagram), "ECONNREFUSED at once", "a datagram to {what}, from a pod");
        // The rule stops it in the sender's own call.
        assert_eq!(on_node(&datagram), "EPERM at once", "a datagram to {what}, from the node");
    }
    // Of a range that no node has, and of this node's range without a pod.
    for address in ["10.42.200.9", "10.42.0.250"] {
        for said in [from_pod(address, 80), from_node(address, 80)] {
            assert!(matches!(said.as_str(), "EHOSTUNREACH at once" | "ENETUNREACH at once"), "{address}: {said}");
        }
    }
}

fn node_ports(space: &Space) {
    client(space);
    space.apply(&who("web", ""));
    space.apply(&service("web", "web", r#"{"type": "NodePort"}"#));
    space.apply(&service("local", "web", r#"{"type": "NodePort", "externalTrafficPolicy": "Local"}"#));
    space.apply(&service("inner", "web", r#"{"internalTrafficPolicy": "Local"}"#));
    space.apply(&service("idle", "nobody", r#"{"type": "NodePort"}"#));
    space.ready("web");
    space.ready("client");
    let node = space.machine.address.clone();
    let (port, local) = (node_port(space, "web"), node_port(space, "local"));
    let world = world_of(space);
    let is_from = |said: Option<String>, from: &str| said.is_some_and(|said| said.trim() == format!("web {from}"));
    // By way of the whole cluster the node puts its own address; kept local the client's stays.
    wait("from outside", || told_in(&world, &node, port).is_some());
    let said = told_in(&world, &node, port).expect("an answer");
    assert!(said.starts_with("web 10.42.0."), "the node's own address: {said}");
    wait("from outside, kept local", || is_from(told_in(&world, &node, local), ROUTER));
    for port in [port, local] {
        for address in [node.as_str(), "127.0.0.1"] {
            wait(&format!("the node itself by {address}:{port}"), || {
                told_in(&space.machine.name, address, port).is_some()
            });
        }
        wait(&format!("a pod by {port}"), || told(space, "client", &node, port).starts_with("web "));
    }
    let inner = cluster_ip(space, "inner");
    wait("kept on the node", || told(space, "client", &inner, 80).starts_with("web "));
    let idle = node_port(space, "idle");
    let begin = Instant::now();
    assert_eq!(told_in(&world, &node, idle), None);
    assert!(begin.elapsed() < Duration::from_secs(1), "refused at once");
    // Gone with its Service.
    space.kubectl(&["delete", "service", "web"]);
    wait("the node port is closed", || told_in(&world, &node, port).is_none());
    assert!(told_in(&world, &node, local).is_some(), "the other one stays");
}

fn host_ports(space: &Space) {
    space.apply(&who("web", r#"{"ports": [{"containerPort": 8080, "hostPort": 18080}]}"#));
    space.apply(&who("shy", r#"{"ports": [{"containerPort": 8080, "hostPort": 18081, "hostIP": "127.0.0.1"}]}"#));
    space.ready("web");
    space.ready("shy");
    let node = space.machine.address.clone();
    let world = world_of(space);
    wait("from outside", || told_in(&world, &node, 18080) == Some(format!("web {ROUTER}\n")));
    wait("from the node", || told_in(&space.machine.name, &node, 18080).is_some());
    wait("on the address it names", || told_in(&space.machine.name, "127.0.0.1", 18081).is_some());
    assert_eq!(told_in(&world, &node, 18081), None, "and on no other");
    // Two pods cannot have one port of the node.
    space.apply(&who("late", r#"{"ports": [{"containerPort": 8080, "hostPort": 18080}]}"#));
    let said = space.event("late", "FailedScheduling");
    assert!(said.contains("0/1 nodes are available: 1 node(s) didn't have free ports"), "{said}");
    space.kubectl(&["delete", "pod", "web"]);
    space.ready("late");
    wait("the next one has it", || told_in(&world, &node, 18080).is_some_and(|said| said.starts_with("late ")));
}

fn clients_stay_with_their_endpoint(space: &Space) {
    client(space);
    for name in ["a", "b", "c"] {
        space.apply(&who(name, "").replace(&format!(r#""app":"{name}""#), r#""app":"many""#));
    }
    space.apply(&service("any", "many", ""));
    space.apply(&service("same", "many", r#"{"sessionAffinity": "ClientIP"}"#));
    for pod in ["a", "b", "c", "client"] {
        space.ready(pod);
    }
    let answers = |address: &str| -> BTreeSet<String> {
        let script = format!("for i in $(seq 24); do nc -w 3 {address} 80 </dev/null; done");
        both(&space.try_exec("client", &script)).lines().map(ToOwned::to_owned).collect()
    };
    fn names(said: &BTreeSet<String>) -> BTreeSet<&str> {
        said.iter().filter_map(|line| line.split(' ').next()).collect()
    }
    let all = BTreeSet::from(["a", "b", "c"]);
    let (any, same) = (cluster_ip(space, "any"), cluster_ip(space, "same"));
    wait("all three serve", || names(&answers(&any)) == all);
    let mut said = BTreeSet::new();
    wait("the one with affinity serves", || {
        said = answers(&same);
        !said.is_empty() && names(&said).is_subset(&all)
    });
    assert_eq!(said.len(), 1, "a client stays where it was: {said:?}");
}

fn datagrams(space: &Space) {
    let echo = "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('', 8080))
while True:
    data, address = s.recvfrom(2000)
    s.sendto(socket.gethostname().encode() + b' ' + data, address)
";
    // One socket for all questions: what connection tracking keeps for it must not go stale.
    let ask = "
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('', 7777))
s.settimeout(0.3)
while True:
    try:
        s.sendto(b'hello', (sys.argv[1], 80))
        print(s.recvfrom(2000)[0].decode(), flush=True)
    except OSError as error:
        print(error, flush=True)
    time.sleep(0.1)
";
    let python = |name: &str, app: &str, command: Value| {
        let mut manifest: Value = serde_json::from_str(&who(name, "")).expect("JSON");
        manifest["metadata"]["labels"]["app"] = app.into();
        let container = &mut manifest["spec"]["containers"][0];
        container["command"] = command;
        container.as_object_mut().expect("a map").remove("readinessProbe");
        manifest.to_string()
    };
    let ports = r#"{"ports": [{"port": 80, "targetPort": 8080, "protocol": "UDP"}]}"#;
    space.apply(&service("echo", "echo", ports));
    let address = cluster_ip(space, "echo");
    space.apply(&python("asker", "asker", json!(["python3", "-u", "-c", ask, address])));
    space.ready("asker");
    let answered = |name: &str| {
        wait(&format!("{name} answers"), || {
            let said = space.kubectl(&["logs", "asker", "--tail=1"]);
            said.trim() == format!("{name} hello")
        });
    };
    // First nobody, then one, then another one.
    space.apply(&python("first", "echo", json!(["python3", "-u", "-c", echo])));
    answered("first");
    space.apply(&python("second", "echo", json!(["python3", "-u", "-c", echo])));
    space.ready("second");
    space.kubectl(&["delete", "pod", "first"]);
    answered("second");
}

fn the_node_is_closed_to_pods(space: &Space) {
    space.apply(&who("web", ""));
    space.ready("web");
    // Something of the node's own, open to the rest of the world.
    let (port, address) = (19_999, space.machine.address.clone());
    let listener = within(&space.machine.name, move || TcpListener::bind(("0.0.0.0", port)).expect("a port"));
    let _listener = listener.join().expect("no panic");
    let open = move || {
        TcpStream::connect_timeout(&SocketAddr::from(([192, 168, 77, 1], port)), Duration::from_secs(3)).is_ok()
    };
    assert!(within(&world_of(space), open).join().expect("no panic"), "open to the world");
    let try_it = |address: &str, port: u16| {
        space.kubectl(&["exec", "web", "--", "python3", "-c", &refusal(address, port)]).trim().to_owned()
    };
    for closed in [port, 10250] {
        for address in [address.as_str(), "10.42.0.1"] {
            assert_eq!(try_it(address, closed), "ECONNREFUSED at once", "{address}:{closed}");
        }
    }
    for (address, port) in [(address.as_str(), 6443), ("10.43.0.1", 443), ("10.43.0.10", 53), ("10.42.0.1", 53)] {
        wait(&format!("{address}:{port} is open"), || try_it(address, port) == "connected at once");
    }
}

/// Whatever removes the rules, they are back within a second.
fn rules_are_put_back(space: &Space) {
    space.apply(&who("web", ""));
    space.apply(&service("web", "web", r#"{"type": "NodePort"}"#));
    space.ready("web");
    let (address, port) = (cluster_ip(space, "web"), node_port(space, "web"));
    let machine = space.machine;
    let network = format!("--net=/var/run/netns/{}", machine.name);
    let serves = || told_in(&machine.name, &address, 80).is_some();
    wait("the Service answers", serves);
    let flush = |table: &str| {
        must("nsenter", &[&network, "iptables", "-t", table, "-F"]);
        must("nsenter", &[&network, "iptables", "-t", table, "-X"]);
    };
    for round in 0..3 {
        let removed = Instant::now();
        match round {
            0 => must("nsenter", &[&network, "nft", "flush", "ruleset"]).clear(),
            1 => ["nat", "filter"].into_iter().for_each(flush),
            _ => must("nsenter", &[&network, "iptables", "-t", "nat", "-D", "PREROUTING", "1"]).clear(),
        }
        wait("the rules are back", || {
            let dump = must("nsenter", &[&network, "iptables-save"]);
            dump.contains("-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES")
                && dump.contains(&format!("--dport {port} "))
                && dump.contains("-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD")
        });
        let took = removed.elapsed();
        assert!(took < Duration::from_secs(1), "round {round}: the rules were back after {took:?}");
        assert!(serves(), "round {round}: from the node");
        assert!(told_in(&world_of(space), &machine.address, port).is_some(), "round {round}: from outside");
    }
}
