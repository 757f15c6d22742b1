"""What a case has at hand: machines on a network, orch on them, and kubectl and curl outside."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time

import image
from machine import Failed, Machine
from network import Network

TREE = pathlib.Path(__file__).resolve().parents[2]
WORKLOADS = pathlib.Path(__file__).parent / "workloads"


# With the pod's own token and the cluster's authority, as any client in a pod.
FETCH = """
import ssl, sys, urllib.request
account = "/var/run/secrets/kubernetes.io/serviceaccount/"
request = urllib.request.Request(sys.argv[1])
context = None
if sys.argv[1].startswith("https:"):
    request.add_header("Authorization", "Bearer " + open(account + "token").read())
    context = ssl.create_default_context(cafile=account + "ca.crt")
for _ in range(int(sys.argv[2])):
    print(urllib.request.urlopen(request, timeout=30, context=context).read().decode().strip())
"""


class Lab:
    """Everything of one case; it ends with the `with` block."""

    def __init__(self, cache, binary, images, short=False):
        self.short = short
        self.image = image.build(cache)
        self.temporary = tempfile.TemporaryDirectory(prefix="orch-lab-")
        self.directory = pathlib.Path(self.temporary.name)
        self.accelerator = accelerator()
        self.payload = self.directory / "payload.raw"
        self.machines = []
        content = self.directory / "payload"
        content.mkdir()
        # Debug information is most of a debug binary, and emulated disks are slow.
        subprocess.run(["strip", "-o", content / "orch", binary], check=True)
        shutil.copy(TREE / "packaging/install.sh", content)
        for name in ("scripts", "packaging", "examples"):
            shutil.copytree(TREE / name, content / "tree" / name)
        shutil.copytree(images, content / "images", ignore=lambda _, names: [n for n in names if not n.endswith(".tar")])
        image.payload(self.payload, content)
        self.network = Network(self.directory)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for machine in self.machines:
            machine.stop()
        self.network.close()
        self.temporary.cleanup()

    def machine(self, memory=1536, power_cuts=False):
        """A machine that is not switched on yet."""
        machine = Machine(self, len(self.machines) + 1, memory, power_cuts)
        self.machines.append(machine)
        return machine

    def outside(self, *command, check=True, timeout=120, stdin=None):
        """A command on the outside machine: its output, or with check=False (exit code, output)."""
        environment = dict(os.environ, HOME=str(self.directory), KUBECONFIG=str(self.directory / "kubeconfig"))
        done = subprocess.run(self.network.command([str(part) for part in command]), env=environment, input=stdin, text=True,
                              stdin=None if stdin is not None else subprocess.DEVNULL, timeout=timeout,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if not check:
            return done.returncode, done.stdout
        if done.returncode != 0:
            raise Failed(f"{' '.join(str(part) for part in command)}: exit code {done.returncode}\n{done.stdout}")
        return done.stdout


class Orch:
    """orch on a machine, used with kubectl from outside."""

    def __init__(self, lab, machine):
        self.lab, self.machine = lab, machine

    def install(self, *names, environment=""):
        """Put the images of these names in place and run the installer with the local binary."""
        directory = "/var/lib/orch/agent/images"
        copies = " ".join(f"/lab/images/{name}.tar" for name in names)
        if copies:
            self.machine.run(f"mkdir -p {directory} && cp {copies} {directory}/")
        output = self.machine.run(f"INSTALL_ORCH_BINARY=/lab/orch {environment} sh /lab/install.sh", timeout=600)
        self.use()
        return output

    def use(self):
        """Take over the kubeconfig."""
        text = self.machine.run("cat /etc/orch/orch.yaml")
        (self.lab.directory / "kubeconfig").write_text(text.replace("127.0.0.1", self.machine.address))

    def kubectl(self, *arguments, **options):
        return self.lab.outside("kubectl", *arguments, **options)

    def get(self, *arguments):
        """The object, or the list of objects, as Python values."""
        answer = json.loads(self.kubectl("get", "-o", "json", *arguments))
        return answer["items"] if answer["kind"] == "List" else answer

    def try_get(self, *arguments):
        code, text = self.kubectl("get", "-o", "json", *arguments, check=False)
        return json.loads(text) if code == 0 else None

    def apply(self, workload, **values):
        """A manifest of tests/lab/workloads, `${name}` replaced."""
        text = (WORKLOADS / f"{workload}.yaml").read_text()
        for name, value in values.items():
            text = text.replace("${%s}" % name, str(value))
        self.kubectl("apply", "-f", "-", stdin=text)

    def ready(self, timeout=300):
        """Wait until the API answers and the machine's node is Ready."""
        wait(f"node {self.machine.name} is Ready", lambda: self.node_ready(self.machine.name), timeout)

    def node_ready(self, name):
        node = self.try_get("node", name)
        conditions = node["status"].get("conditions", []) if node else []
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def pods(self, selector, count, timeout=300):
        """Wait for so many Ready pods of a selector; their objects."""
        def ready():
            pods = self.get("pods", "-l", selector)
            good = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]
                    and any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))]
            return good if len(good) == count == len(pods) else None
        return wait(f"{count} pods of {selector} are Ready", ready, timeout,
                    lambda: self.kubectl("get", "pods", "-A", "-o", "wide", check=False)[1]
                    + self.kubectl("get", "events", "-A", check=False)[1][-4000:])

    def exec(self, pod, *command, **options):
        return self.kubectl("exec", pod, "--", *command, **options)

    def fetch(self, pod, url, times=1):
        """What a URL answers, asked for from inside a pod of the python image; a line for each time."""
        return self.exec(pod, "python3", "-c", FETCH, url, str(times), timeout=300)


def wait(what, test, timeout=120, why=lambda: ""):
    """Until `test` gives something; that."""
    deadline = time.monotonic() + timeout
    while True:
        error = None
        try:
            found = test()
        except (Failed, json.JSONDecodeError, subprocess.TimeoutExpired) as failed:
            found, error = None, failed
        if found:
            return found
        if time.monotonic() > deadline:
            raise Failed(f"after {timeout} s it does not hold that {what}{f' ({error})' if error else ''}\n{why()}")
        time.sleep(0.5)


def check(condition, message):
    if not condition:
        raise Failed(message)


def accelerator():
    flags = re.search(r"^flags\s*:.*\b(vmx|svm)\b", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    if flags and os.access("/dev/kvm", os.R_OK | os.W_OK):
        return ["-accel", "kvm", "-cpu", "host"]
    return ["-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max,la57=off"]
