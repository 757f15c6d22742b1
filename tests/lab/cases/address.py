"""The machine's address changes with pods running: node, certificates, endpoints and VXLAN follow, nothing restarts."""
from lab import Orch, check, wait
from network import NETWORK


def run(lab):
    server, agent = lab.machine(), lab.machine()
    server.start()
    agent.start()
    orch = Orch(lab, server)
    orch.install("python")
    orch.ready()
    join(orch, agent)
    orch.apply("pair")
    orch.pods("app=pair", 2)
    talk(orch)
    main = server.run("systemctl show -P MainPID orch"), agent.run("systemctl show -P MainPID orch-agent")
    pids = server.run("pgrep -f '^python3 -m http'; pgrep -x memfd:pause")

    # The agent's first: the server sees it through the Node object.
    moved = f"{NETWORK}.{50 + agent.number}"
    move(agent, moved)
    wait("the agent's node has the new address", lambda: address(orch, agent.name) == moved)
    wait("pods reach each other at the agent's new address", lambda: talk(orch))
    wait("logs come from the agent at its new address", lambda: orch.kubectl("logs", pod_on(orch, agent.name)) is not None)

    # The server's: what talks to it by its address is told by DNS in real life; the agent here keeps the old
    # address as a second one of the server, as with a virtual address.
    moved = f"{NETWORK}.{50 + server.number}"
    server.run(f"ip address add {moved}/24 dev eth0 && ip address del {server.address}/24 dev eth0 && "
               f"ip address add {server.address}/24 dev eth0; ip route replace default via {NETWORK}.1 src {moved}")
    wait("the server's node has the new address", lambda: address(orch, server.name) == moved)
    wait("the kubernetes Service follows", lambda: endpoints(orch) == [moved])
    lab.directory.joinpath("kubeconfig").write_text(
        lab.directory.joinpath("kubeconfig").read_text().replace(server.address, moved))
    wait("the API's certificate names the new address", lambda: orch.node_ready(server.name))
    wait("pods reach each other at the server's new address", lambda: talk(orch))
    wait("logs come from the server's node at its new address", lambda: orch.kubectl("logs", pod_on(orch, server.name)) is not None)
    wait("pods reach the API by its Service", lambda: api_from(orch, pod_on(orch, server.name)))
    wait("pods reach the API by its Service", lambda: api_from(orch, pod_on(orch, agent.name)))
    # And away with the old one.
    server.run(f"ip address del {server.address}/24 dev eth0; ip route replace default via {NETWORK}.1 src {moved}")
    check(address(orch, server.name) == moved, "the node went back to the old address")
    check(main == (server.run("systemctl show -P MainPID orch"), agent.run("systemctl show -P MainPID orch-agent")), "orch was restarted")
    check(pids == server.run("pgrep -f '^python3 -m http'; pgrep -x memfd:pause"), "pods were restarted")


def join(orch, agent):
    token = orch.machine.run("cat /var/lib/orch/server/token").strip()
    environment = f"ORCH_URL=https://{orch.machine.address}:6443 ORCH_TOKEN={token}"
    agent.run("mkdir -p /var/lib/orch/agent/images && cp /lab/images/python.tar /var/lib/orch/agent/images/")
    agent.run(f"INSTALL_ORCH_BINARY=/lab/orch {environment} sh /lab/install.sh", timeout=600)
    wait("the agent's node is Ready", lambda: orch.node_ready(agent.name), 300)


def move(machine, new):
    machine.run(f"ip address add {new}/24 dev eth0 && ip address del {machine.address}/24 dev eth0; "
                f"ip address add {new}/24 dev eth0; ip route replace default via {NETWORK}.1", check=False)


def address(orch, node):
    return next(a["address"] for a in orch.get("node", node)["status"]["addresses"] if a["type"] == "InternalIP")


def endpoints(orch):
    slices = orch.get("endpointslices", "-l", "kubernetes.io/service-name=kubernetes")
    return [address for item in slices for endpoint in item["endpoints"] for address in endpoint["addresses"]]


def pod_on(orch, node):
    return next(pod["metadata"]["name"] for pod in orch.get("pods", "-l", "app=pair") if pod["spec"]["nodeName"] == node)


def talk(orch):
    """Each pod of the pair fetches from each, by address; from the other node this goes over VXLAN."""
    pods = orch.get("pods", "-l", "app=pair")
    check(len({pod["spec"]["nodeName"] for pod in pods}) == 2, "the pair is not on two nodes")
    for source in pods:
        for target in pods:
            page = orch.fetch(source["metadata"]["name"], f"http://{target['status']['podIP']}:8080/name")
            check(page.strip() == target["metadata"]["name"], f"{target['metadata']['name']} answers {page}")
    return True


def api_from(orch, pod):
    return "gitVersion" in orch.fetch(pod, "https://kubernetes.default.svc/version")
