"""Two machines: pod to pod, the link is cut: NotReady; it is joined again: Ready, and the same pods run."""
from address import join, pod_on, talk
from lab import Orch, check, wait


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
    by_service(orch)
    pod = pod_on(orch, agent.name)
    processes = agent.run("pgrep -f '^python3 -m http'")
    main = agent.run("systemctl show -P MainPID orch-agent")

    lab.network.cut(server.name, agent.name)
    wait("the node is not Ready", lambda: not orch.node_ready(agent.name), 180)
    wait("the node is tainted", lambda: "node.kubernetes.io/unreachable" in
         {taint["key"] for taint in orch.get("node", agent.name)["spec"].get("taints", [])})
    wait("the endpoint is gone", lambda: ready_endpoints(orch) == 1)
    check(agent.run("pgrep -f '^python3 -m http'") == processes, "the pod of the lonely node was ended")

    lab.network.join(server.name, agent.name)
    wait("the node is Ready again", lambda: orch.node_ready(agent.name), 180)
    wait("the taints are gone", lambda: not orch.get("node", agent.name)["spec"].get("taints"))
    wait("the endpoint is back", lambda: ready_endpoints(orch) == 2)
    check(pod_on(orch, agent.name) == pod, "the pod was replaced")
    check(agent.run("pgrep -f '^python3 -m http'") == processes, "the pod was restarted")
    check(agent.run("systemctl show -P MainPID orch-agent") == main, "the agent was restarted")
    wait("pods reach each other again", lambda: talk(orch))
    by_service(orch)


def ready_endpoints(orch):
    slices = orch.get("endpointslices", "-l", "kubernetes.io/service-name=pair")
    return sum(endpoint["conditions"]["ready"] for item in slices for endpoint in item["endpoints"])


def by_service(orch):
    """From each node both pods answer under the Service's name."""
    for node in {pod["spec"]["nodeName"] for pod in orch.get("pods", "-l", "app=pair")}:
        source = pod_on(orch, node)
        wait(f"both pods answer to {source} by name",
             lambda: len(set(orch.fetch(source, "http://pair.default.svc.cluster.local/name", 20).split())) == 2)
