//! Rule sets as text, and packets walked through them.

use super::*;
use crate::proxy::model::{Endpoint, PortName};
use expect_test::{Expect, expect};

fn node() -> NodeNetwork {
    NodeNetwork {
        cluster_cidr: "10.42.0.0/16".to_owned(),
        service_cidr: "10.43.0.0/16".to_owned(),
        dns_address: Ipv4Addr::new(10, 42, 0, 1),
        cluster_dns: Ipv4Addr::new(10, 43, 0, 10),
        open_ports: vec![6443],
    }
}

fn service() -> ServicePort {
    ServicePort {
        protocol: Protocol::Tcp,
        cluster_ip: Ipv4Addr::new(10, 43, 0, 5),
        port: 80,
        node_port: 0,
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        source_ranges: Vec::new(),
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        affinity_seconds: None,
    }
}

fn endpoint(last: u8, local: bool) -> Endpoint {
    let ip = Ipv4Addr::new(10, 42, if local { 0 } else { 1 }, last);
    Endpoint { ip, port: 8080, ready: true, serving: true, terminating: false, local }
}

fn state(service: ServicePort, endpoints: &[Endpoint]) -> State {
    let name = PortName { namespace: "default".to_owned(), service: "web".to_owned(), port: "http".to_owned() };
    let mut state = State::default();
    state.services.insert(name.clone(), service);
    if !endpoints.is_empty() {
        state.endpoints.insert(name, endpoints.to_vec());
    }
    state
}

/// What a state adds to the rules of an empty one.
fn added(state: &State) -> String {
    let (base, set) = (rules(&State::default(), &node()), rules(state, &node()));
    let mut out = String::new();
    for (table, chains, known) in [("nat", &set.nat, &base.nat), ("filter", &set.filter, &base.filter)] {
        for (chain, rules) in chains {
            for rule in rules.iter().filter(|rule| !known.get(chain).is_some_and(|known| known.contains(rule))) {
                writeln!(out, "{table} {chain} {rule}").unwrap();
            }
        }
    }
    out
}

fn check(state: &State, expected: Expect) {
    expected.assert_eq(&added(state));
}

#[test]
fn a_cluster_ip_with_two_endpoints() {
    check(
        &state(service(), &[endpoint(2, true), endpoint(3, false)]),
        expect![[r#"
        nat KUBE-SEP-ERQQNJAYKLWLNZ6A -s 10.42.0.2/32 -m comment --comment "default/web:http" -j KUBE-MARK-MASQ
        nat KUBE-SEP-ERQQNJAYKLWLNZ6A -p tcp -m comment --comment "default/web:http" -m tcp -j DNAT --to-destination 10.42.0.2:8080
        nat KUBE-SEP-GLCJAZW74JSTM72F -s 10.42.1.3/32 -m comment --comment "default/web:http" -j KUBE-MARK-MASQ
        nat KUBE-SEP-GLCJAZW74JSTM72F -p tcp -m comment --comment "default/web:http" -m tcp -j DNAT --to-destination 10.42.1.3:8080
        nat KUBE-SERVICES -d 10.43.0.5/32 -p tcp -m tcp --dport 80 -m comment --comment "default/web:http cluster IP" -j KUBE-SVC-CDGGSHYLG3RE2FKL
        nat KUBE-SVC-CDGGSHYLG3RE2FKL ! -s 10.42.0.0/16 -d 10.43.0.5/32 -p tcp -m tcp --dport 80 -m comment --comment "default/web:http cluster IP" -j KUBE-MARK-MASQ
        nat KUBE-SVC-CDGGSHYLG3RE2FKL -m comment --comment "default/web:http -> 10.42.0.2:8080" -m statistic --mode random --probability 0.5000000000 -j KUBE-SEP-ERQQNJAYKLWLNZ6A
        nat KUBE-SVC-CDGGSHYLG3RE2FKL -m comment --comment "default/web:http -> 10.42.1.3:8080" -j KUBE-SEP-GLCJAZW74JSTM72F
    "#]],
    );
}

#[test]
fn without_endpoints_there_is_no_translation_and_so_a_rejection() {
    check(&state(service(), &[]), expect![[""]]);
}

#[test]
fn a_node_port_that_stays_on_the_node() {
    let local = ServicePort { node_port: 30080, external_policy: TrafficPolicy::Local, ..service() };
    check(
        &state(local.clone(), &[endpoint(2, true), endpoint(3, false)]),
        expect![[r#"
        nat KUBE-EXT-CDGGSHYLG3RE2FKL -s 10.42.0.0/16 -m comment --comment "pod traffic for default/web:http external destinations" -j KUBE-SVC-CDGGSHYLG3RE2FKL
        nat KUBE-EXT-CDGGSHYLG3RE2FKL -m comment --comment "masquerade LOCAL traffic for default/web:http external destinations" -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ
        nat KUBE-EXT-CDGGSHYLG3RE2FKL -m comment --comment "route LOCAL traffic for default/web:http external destinations" -m addrtype --src-type LOCAL -j KUBE-SVC-CDGGSHYLG3RE2FKL
        nat KUBE-EXT-CDGGSHYLG3RE2FKL -j KUBE-SVL-CDGGSHYLG3RE2FKL
        nat KUBE-NODEPORTS -p tcp -m tcp --dport 30080 -m comment --comment "default/web:http" -j KUBE-EXT-CDGGSHYLG3RE2FKL
        nat KUBE-SEP-ERQQNJAYKLWLNZ6A -s 10.42.0.2/32 -m comment --comment "default/web:http" -j KUBE-MARK-MASQ
        nat KUBE-SEP-ERQQNJAYKLWLNZ6A -p tcp -m comment --comment "default/web:http" -m tcp -j DNAT --to-destination 10.42.0.2:8080
        nat KUBE-SEP-GLCJAZW74JSTM72F -s 10.42.1.3/32 -m comment --comment "default/web:http" -j KUBE-MARK-MASQ
        nat KUBE-SEP-GLCJAZW74JSTM72F -p tcp -m comment --comment "default/web:http" -m tcp -j DNAT --to-destination 10.42.1.3:8080
        nat KUBE-SERVICES -d 10.43.0.5/32 -p tcp -m tcp --dport 80 -m comment --comment "default/web:http cluster IP" -j KUBE-SVC-CDGGSHYLG3RE2FKL
        nat KUBE-SVC-CDGGSHYLG3RE2FKL ! -s 10.42.0.0/16 -d 10.43.0.5/32 -p tcp -m tcp --dport 80 -m comment --comment "default/web:http cluster IP" -j KUBE-MARK-MASQ
        nat KUBE-SVC-CDGGSHYLG3RE2FKL -m comment --comment "default/web:http -> 10.42.0.2:8080" -m statistic --mode random --probability 0.5000000000 -j KUBE-SEP-ERQQNJAYKLWLNZ6A
        nat KUBE-SVC-CDGGSHYLG3RE2FKL -m comment --comment "default/web:http -> 10.42.1.3:8080" -j KUBE-SEP-GLCJAZW74JSTM72F
        nat KUBE-SVL-CDGGSHYLG3RE2FKL -m comment --comment "default/web:http -> 10.42.0.2:8080" -j KUBE-SEP-ERQQNJAYKLWLNZ6A
    "#]],
    );
    check(
        &state(local, &[endpoint(3, false)]),
        expect![[r#"
        nat KUBE-EXT-CDGGSHYLG3RE2FKL -s 10.42.0.0/16 -m comment --comment "pod traffic for default/web:http external destinations" -j KUBE-SVC-CDGGSHYLG3RE2FKL
        nat KUBE-EXT-CDGGSHYLG3RE2FKL -m comment --comment "masquerade LOCAL traffic for default/web:http external destinations" -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ
        nat KUBE-EXT-CDGGSHYLG3RE2FKL -m comment --comment "route LOCAL traffic for default/web:http external destinations" -m addrtype --src-type LOCAL -j KUBE-SVC-CDGGSHYLG3RE2FKL
        nat KUBE-NODEPORTS -p tcp -m tcp --dport 30080 -m comment --comment "default/web:http" -j KUBE-EXT-CDGGSHYLG3RE2FKL
        nat KUBE-SEP-GLCJAZW74JSTM72F -s 10.42.1.3/32 -m comment --comment "default/web:http" -j KUBE-MARK-MASQ
        nat KUBE-SEP-GLCJAZW74JSTM72F -p tcp -m comment --comment "default/web:http" -m tcp -j DNAT --to-destination 10.42.1.3:8080
        nat KUBE-SERVICES -d 10.43.0.5/32 -p tcp -m tcp --dport 80 -m comment --comment "default/web:http cluster IP" -j KUBE-SVC-CDGGSHYLG3RE2FKL
        nat KUBE-SVC-CDGGSHYLG3RE2FKL ! -s 10.42.0.0/16 -d 10.43.0.5/32 -p tcp -m tcp --dport 80 -m comment --comment "default/web:http cluster IP" -j KUBE-MARK-MASQ
        nat KUBE-SVC-CDGGSHYLG3RE2FKL -m comment --comment "default/web:http -> 10.42.1.3:8080" -j KUBE-SEP-GLCJAZW74JSTM72F
        filter KUBE-FORWARD -m addrtype --dst-type LOCAL -p tcp -m tcp --dport 30080 -m comment --comment "default/web:http" -j DROP
        filter KUBE-INPUT -m addrtype --dst-type LOCAL -p tcp -m tcp --dport 30080 -m comment --comment "default/web:http" -j DROP
    "#]],
    );
}

#[test]
fn client_affinity_and_source_ranges() {
    let sticky = ServicePort {
        load_balancer_ips: vec![Ipv4Addr::new(192, 0, 2, 7)],
        source_ranges: vec!["198.51.100.0/24".to_owned()],
        affinity_seconds: Some(10_800),
        ..service()
    };
    check(
        &state(sticky, &[endpoint(2, true)]),
        expect![[r#"
        nat KUBE-EXT-CDGGSHYLG3RE2FKL ! -s 198.51.100.0/24 -m comment --comment "default/web:http outside of the source ranges" -j RETURN
        nat KUBE-EXT-CDGGSHYLG3RE2FKL -m comment --comment "masquerade traffic for default/web:http external destinations" -j KUBE-MARK-MASQ
        nat KUBE-EXT-CDGGSHYLG3RE2FKL -j KUBE-SVC-CDGGSHYLG3RE2FKL
        nat KUBE-SEP-ERQQNJAYKLWLNZ6A -s 10.42.0.2/32 -m comment --comment "default/web:http" -j KUBE-MARK-MASQ
        nat KUBE-SEP-ERQQNJAYKLWLNZ6A -p tcp -m comment --comment "default/web:http" -m recent --name KUBE-SEP-ERQQNJAYKLWLNZ6A --set --rsource -m tcp -j DNAT --to-destination 10.42.0.2:8080
        nat KUBE-SERVICES -d 10.43.0.5/32 -p tcp -m tcp --dport 80 -m comment --comment "default/web:http cluster IP" -j KUBE-SVC-CDGGSHYLG3RE2FKL
        nat KUBE-SERVICES -d 192.0.2.7/32 -p tcp -m tcp --dport 80 -m comment --comment "default/web:http external IP" -j KUBE-EXT-CDGGSHYLG3RE2FKL
        nat KUBE-SVC-CDGGSHYLG3RE2FKL ! -s 10.42.0.0/16 -d 10.43.0.5/32 -p tcp -m tcp --dport 80 -m comment --comment "default/web:http cluster IP" -j KUBE-MARK-MASQ
        nat KUBE-SVC-CDGGSHYLG3RE2FKL -m comment --comment "default/web:http -> 10.42.0.2:8080" -m recent --name KUBE-SEP-ERQQNJAYKLWLNZ6A --rcheck --seconds 10800 --reap --rsource -j KUBE-SEP-ERQQNJAYKLWLNZ6A
        nat KUBE-SVC-CDGGSHYLG3RE2FKL -m comment --comment "default/web:http -> 10.42.0.2:8080" -j KUBE-SEP-ERQQNJAYKLWLNZ6A
    "#]],
    );
}

#[test]
fn a_node_port_of_nobody_is_refused() {
    check(
        &state(ServicePort { node_port: 30080, ..service() }, &[]),
        expect![[r#"
        filter KUBE-FORWARD -m addrtype --dst-type LOCAL -p tcp -m tcp --dport 30080 -m comment --comment "default/web:http" -j REJECT --reject-with icmp-port-unreachable
        filter KUBE-INPUT -m addrtype --dst-type LOCAL -p tcp -m tcp --dport 30080 -m comment --comment "default/web:http" -j REJECT --reject-with icmp-port-unreachable
        filter KUBE-OUTPUT -m addrtype --dst-type LOCAL -p tcp -m tcp --dport 30080 -m comment --comment "default/web:http" -j REJECT --reject-with icmp-port-unreachable
    "#]],
    );
}

#[test]
fn host_ports() {
    let port = HostPort {
        pod: "default/web".to_owned(),
        protocol: Protocol::Udp,
        host_ip: None,
        host_port: 5353,
        pod_ip: Ipv4Addr::new(10, 42, 0, 9),
        container_port: 53,
    };
    let state = State { host_ports: vec![port], ..State::default() };
    check(
        &state,
        expect![[r#"
        nat KUBE-HOSTPORTS -p udp -m udp --dport 5353 -s 10.42.0.9/32 -m comment --comment "default/web hostport 5353" -j KUBE-MARK-MASQ
        nat KUBE-HOSTPORTS -p udp -m udp --dport 5353 -m addrtype --src-type LOCAL -m comment --comment "default/web hostport 5353" -j KUBE-MARK-MASQ
        nat KUBE-HOSTPORTS -p udp -m udp --dport 5353 -m comment --comment "default/web hostport 5353" -j DNAT --to-destination 10.42.0.9:53
        nat KUBE-SERVICES -m comment --comment "pods' host ports" -m addrtype --dst-type LOCAL -j KUBE-HOSTPORTS
    "#]],
    );
}

/// A packet of a new connection, as far as the rules look at it.
#[derive(Clone, Copy)]
struct Packet {
    source: Ipv4Addr,
    destination: Ipv4Addr,
    port: u16,
    protocol: Protocol,
    to_node: bool,
    from_node: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Translated, and whether it will carry the node's address.
    To { address: String, masqueraded: bool },
    /// Through all chains, unchanged.
    Through,
}

fn within(address: Ipv4Addr, cidr: &str) -> bool {
    let (network, prefix) = cidr.split_once('/').unwrap();
    let mask = u32::MAX.checked_shl(32 - prefix.parse::<u32>().unwrap()).unwrap_or(0);
    u32::from(address) & mask == u32::from(network.parse::<Ipv4Addr>().unwrap()) & mask
}

/// Walk the nat table as the kernel does; `coin` decides whether a random match hits.
fn walk(
    set: &RuleSet,
    packet: Packet,
    chain: &str,
    masqueraded: &mut bool,
    coin: &mut impl FnMut() -> bool,
) -> Option<Verdict> {
    for rule in &set.nat[chain] {
        let words = split(rule);
        let (mut hit, mut negate, mut jump, mut to) = (true, false, None, None);
        let mut at = 0;
        while at < words.len() {
            let value = words.get(at + 1).map(String::as_str).unwrap_or_default();
            let matched = match words[at].as_str() {
                "!" => {
                    negate = true;
                    at += 1;
                    continue;
                }
                "-s" => within(packet.source, value),
                "-d" => within(packet.destination, value),
                "-p" => packet.protocol.lower() == value,
                "--dport" => packet.port.to_string() == value,
                "--dst-type" => packet.to_node,
                "--src-type" => packet.from_node,
                "--probability" => coin(),
                "--rcheck" => false,
                "-j" => {
                    jump = Some(value.to_owned());
                    true
                }
                "--to-destination" => {
                    to = Some(value.to_owned());
                    true
                }
                _ => true,
            };
            hit &= matched != negate;
            negate = false;
            at += if matches!(words[at].as_str(), "--rcheck" | "--set" | "--reap" | "--rsource" | "--random-fully") {
                1
            } else {
                2
            };
        }
        match jump.filter(|_| hit).as_deref() {
            None => {}
            Some("RETURN") => return None,
            Some("DNAT") => return Some(Verdict::To { address: to.unwrap(), masqueraded: *masqueraded }),
            Some("MARK") => *masqueraded = true,
            Some(target) => {
                if let Some(verdict) = walk(set, packet, target, masqueraded, coin) {
                    return Some(verdict);
                }
            }
        }
    }
    None
}

fn split(rule: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in rule.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words
}

fn sent(state: &State, packet: Packet, hits: bool) -> Verdict {
    let set = rules(state, &node());
    walk(&set, packet, "KUBE-SERVICES", &mut false, &mut || hits).unwrap_or(Verdict::Through)
}

fn to(address: &str, masqueraded: bool) -> Verdict {
    Verdict::To { address: address.to_owned(), masqueraded }
}

const POD: Ipv4Addr = Ipv4Addr::new(10, 42, 0, 2);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

fn packet(source: Ipv4Addr, destination: Ipv4Addr, port: u16) -> Packet {
    Packet {
        source,
        destination,
        port,
        protocol: Protocol::Tcp,
        to_node: destination == NODE,
        from_node: source == NODE,
    }
}

#[test]
fn packets_reach_an_endpoint() {
    let cluster_ip = service().cluster_ip;
    let state = state(ServicePort { node_port: 30080, ..service() }, &[endpoint(2, true), endpoint(3, false)]);
    assert_eq!(sent(&state, packet(POD, cluster_ip, 80), false), to("10.42.1.3:8080", false));
    // The pod that is the endpoint itself: its answer must pass the node.
    assert_eq!(sent(&state, packet(POD, cluster_ip, 80), true), to("10.42.0.2:8080", true));
    assert_eq!(sent(&state, packet(NODE, cluster_ip, 80), true), to("10.42.0.2:8080", true));
    assert_eq!(sent(&state, packet(OUTSIDE, NODE, 30080), false), to("10.42.1.3:8080", true));
    assert_eq!(sent(&state, packet(POD, cluster_ip, 81), true), Verdict::Through);
}

#[test]
fn the_local_policy_keeps_the_client_address_and_the_node() {
    let policy = ServicePort { node_port: 30080, external_policy: TrafficPolicy::Local, ..service() };
    let state = state(policy, &[endpoint(2, true), endpoint(3, false)]);
    assert_eq!(sent(&state, packet(OUTSIDE, NODE, 30080), false), to("10.42.0.2:8080", false));
    // From the cluster itself any endpoint will do.
    assert_eq!(sent(&state, packet(POD, NODE, 30080), false), to("10.42.1.3:8080", false));
    let internal = ServicePort { internal_policy: TrafficPolicy::Local, ..service() };
    let elsewhere = super::tests::state(internal, &[endpoint(3, false)]);
    assert_eq!(sent(&elsewhere, packet(POD, service().cluster_ip, 80), false), Verdict::Through);
}

#[test]
fn dns_goes_to_this_nodes_own_server() {
    let dns = node().cluster_dns;
    let question = Packet { protocol: Protocol::Udp, ..packet(POD, dns, 53) };
    assert_eq!(sent(&State::default(), question, false), to("10.42.0.1:53", false));
}

#[test]
fn flows_to_gone_udp_endpoints_are_forgotten() {
    let udp = ServicePort { protocol: Protocol::Udp, node_port: 30053, ..service() };
    let (old, new) =
        (state(udp.clone(), &[endpoint(2, true), endpoint(3, false)]), state(udp.clone(), &[endpoint(3, false)]));
    let gone = Some(endpoint(2, true).ip);
    let expected = [
        Flow { original: Some(udp.cluster_ip), port: 80, endpoint: gone },
        Flow { original: None, port: 30053, endpoint: gone },
    ];
    assert_eq!(stale_flows(&old, &new), expected);
    assert!(stale_flows(&new, &new).is_empty());
    assert_eq!(stale_flows(&state(udp, &[]), &new).len(), 2);
    assert!(stale_flows(&state(service(), &[endpoint(2, true)]), &State::default()).is_empty());
}
