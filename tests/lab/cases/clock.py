"""A machine without a clock: it boots in 1970, the clock steps to today later, and nothing notices."""
from lab import Orch, check, wait


def run(lab):
    machine = lab.machine().start("-rtc", "base=1970-01-01T00:00:10")
    orch = Orch(lab, machine)
    # systemd moves the clock to its own birth; a machine with another init would not.
    machine.run("date -s @3600")
    output = orch.install("python")
    check("before this program was built" in output, f"check-config says nothing of the clock:\n{output}")
    orch.ready()
    check("1970" in machine.run("date -u"), "the clock is not in 1970")
    orch.apply("client")
    pod = orch.pods("app=client", 1)[0]
    name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
    api = "https://kubernetes.default.svc/version"
    check("gitVersion" in orch.fetch(name, api), "the pod's token does not work in 1970")
    old = orch.exec(name, "cat", "/var/run/secrets/kubernetes.io/serviceaccount/token")
    main, processes = machine.run("systemctl show -P MainPID orch"), machine.run("pgrep -f '^sleep 1000000'")

    # To a day well after this build, when what was issued for an hour is long over.
    later = int(lab.outside("date", "+%s")) + 200 * 24 * 3600
    machine.run(f"date -s @{later}")
    orch.ready()
    wait("the token is a new one, and works", lambda: orch.exec(name, "cat", "/var/run/secrets/kubernetes.io/serviceaccount/token") != old
         and "gitVersion" in orch.fetch(name, api), 300)
    wait("the lease is of today", lambda: not orch.get("lease", "-n", "kube-node-lease", machine.name)["spec"]["renewTime"].startswith("1970"))
    orch.ready()
    # Past the time after which nodes and their pods would be given up.
    machine.run("sleep 60")
    check(orch.node_ready(machine.name), "the node is not Ready after the step")
    now = orch.pods("app=client", 1)[0]
    check(now["metadata"]["uid"] == uid and now["status"]["containerStatuses"][0]["restartCount"] == 0, "the pod was evicted or restarted")
    check(machine.run("systemctl show -P MainPID orch") == main, "orch was restarted")
    check(machine.run("pgrep -f '^sleep 1000000'") == processes, "the container was restarted")
    # New work is done, and a restart with the right clock finds valid certificates.
    orch.kubectl("scale", "deployment", "client", "--replicas=2")
    orch.pods("app=client", 2)
    machine.run("systemctl restart orch")
    orch.ready()
    orch.kubectl("get", "--raw", "/readyz")
    check("gitVersion" in orch.fetch(name, api), "the pod's token does not work after a restart")
