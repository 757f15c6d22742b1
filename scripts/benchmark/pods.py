"""How fast pods start: one at a time, in a burst, among others."""

import contextlib
import statistics
import threading
import time

from .cluster import Cluster, images

PODS = "/api/v1/namespaces/default/pods"


def pod(name, directory):
    """A pod whose first instruction is to leave a file, whose time is when it ran."""
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"bench": "pod"}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "main", "image": "busybox:1.35", "imagePullPolicy": "IfNotPresent",
                "command": ["/bin/busybox", "sh", "-c", f": > /started/{name}; exec /bin/busybox sleep 100000"],
                "volumeMounts": [{"name": "started", "mountPath": "/started"}],
            }],
            "volumes": [{"name": "started", "hostPath": {"path": str(directory)}}],
        },
    }


class Pods:
    """Creates pods and sees, by a watch, when they run and when they are gone."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.directory = cluster.home / "started"
        self.directory.mkdir(exist_ok=True)
        self.running, self.gone, self.changed = {}, set(), threading.Condition()
        threading.Thread(target=self.follow, daemon=True).start()
        time.sleep(0.5)

    def follow(self):
        for event, seen in self.cluster.api.watch(PODS):
            name = event["object"]["metadata"].get("name")
            with self.changed:
                if event["type"] == "DELETED":
                    self.gone.add(name)
                elif event["object"].get("status", {}).get("phase") == "Running":
                    self.running.setdefault(name, seen)
                self.changed.notify_all()

    def wait(self, condition, what):
        with self.changed:
            if not self.changed.wait_for(condition, timeout=120):
                raise RuntimeError(f"never: {what}")

    def start(self, names):
        """Milliseconds to Running and to the first instruction, by name; and of all together."""
        began = {}
        for name in names:
            began[name] = time.time()
            self.cluster.api.call("POST", PODS, pod(name, self.directory))
        self.wait(lambda: all(name in self.running for name in names), "pods run")
        first = min(began.values())
        to_running = [1000 * (self.running[name] - began[name]) for name in names]
        to_instruction = [1000 * (self.first_instruction(name) - began[name]) for name in names]
        return to_running, to_instruction, max(self.running[name] for name in names) - first

    def first_instruction(self, name):
        """It may come a moment after the kubelet says that the container runs."""
        until = time.monotonic() + 10
        while not (self.directory / name).exists() and time.monotonic() < until:
            time.sleep(0.001)
        return (self.directory / name).stat().st_mtime

    def delete(self, names):
        for name in names:
            self.cluster.api.call("DELETE", f"{PODS}/{name}")
        self.wait(lambda: all(name in self.gone for name in names), "pods are gone")


def one_at_a_time(pods, prefix, count):
    running, instruction = [], []
    for number in range(count):
        name = f"{prefix}-{number}"
        r, i, _ = pods.start([name])
        running += r
        instruction += i
        pods.delete([name])
    return statistics.median(running), statistics.median(instruction)


def pods(table, arguments):
    with contextlib.closing(Cluster(arguments.binary, images=images(arguments, "busybox"))) as cluster:
        cluster.start()
        observer = Pods(cluster)
        one_at_a_time(observer, "warm", 3)
        running, instruction = one_at_a_time(observer, "single", 20)
        table.add("pod create to Running, one at a time, median", running, "ms", below=100)
        table.add("pod create to first instruction, one at a time, median", instruction, "ms", below=100)
        burst = [f"burst-{number}" for number in range(60)]
        _, instructions, took = observer.start(burst)
        table.add("burst of 60 pods, all Running", took, "s", below=3)
        table.add("  to first instruction, the last of them", max(instructions) / 1000, "s", below=3)
        observer.delete(burst[50:])
        running, instruction = one_at_a_time(observer, "crowd", 20)
        table.add("pod create to Running with 50 pods there, median", running, "ms", below=100)
        table.add("pod create to first instruction with 50 pods there", instruction, "ms", below=100)


MEASUREMENTS = {"pods": pods}
