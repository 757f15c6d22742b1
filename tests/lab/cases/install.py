"""The installer on a stock machine: node Ready, the example answers, pods' groups in a scope of their own."""
import json
import re

import lab as at_hand
from lab import Orch, check, wait


def run(lab):
    machine = lab.machine().start()
    orch = Orch(lab, machine)
    output = orch.install("busybox", "nginx", "python", "redis")
    check("this machine can run orch" in output, f"the installer's check-config is not clean:\n{output}")
    check(not re.search(r"^(missing|warning)", output, re.M), f"the installer's check-config is not clean:\n{output}")
    orch.ready()
    deploy_example(orch)
    post(lab, machine, "written on a fresh machine")

    scope = machine.run("systemctl show -P ControlGroup orch-pods.scope").strip()
    service = machine.run("systemctl show -P ControlGroup orch.service").strip()
    check(scope and not scope.startswith(service + "/"), f"the pods' groups are below the service: {scope}")
    check(machine.run("systemctl show -P Delegate orch-pods.scope").strip() == "yes", "the scope is not delegated")
    check(machine.run("systemctl show -P TasksMax orch-pods.scope").strip() == "infinity", "the scope limits the pods' tasks")
    for pod in orch.get("pods"):
        uid = pod["metadata"]["uid"]
        found = machine.run(f"find /sys/fs/cgroup -type d -name 'pod{uid}'").split()
        check(len(found) == 1 and found[0].startswith(f"/sys/fs/cgroup{scope}/"), f"group of pod {uid}: {found}")
    left = machine.run(f"find /sys/fs/cgroup{service} -mindepth 1 -type d")
    check(not left, f"groups below the service: {left}")


def deploy_example(orch):
    """The example as it is in the tree, but with time for its probes: emulation is slow."""
    for file in sorted((at_hand.TREE / "examples/guestbook").glob("*.yaml")):
        text = re.sub(r"timeoutSeconds: \d+", "timeoutSeconds: 60", file.read_text())
        orch.kubectl("apply", "-f", "-", stdin=text)
    for name in ("redis", "app", "front"):
        orch.kubectl("rollout", "status", f"deployment/{name}", "--timeout=600s", timeout=700)


def post(lab, machine, message):
    """Write an entry through the node port and read it back."""
    url = f"http://{machine.address}:30080/entries"
    wait("the example takes an entry", lambda: lab.outside("curl", "-fsS", "-m", "20", "-d", json.dumps({"message": message}), url))
    entries = wait("the example answers", lambda: json.loads(lab.outside("curl", "-fsS", "-m", "20", url)))["entries"]
    check(message in entries, f"the entry is not there: {entries}")
