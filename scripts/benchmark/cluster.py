"""A cluster to measure, and its API as a client sees it."""

import base64
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import ssl
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent.parent
ADDRESS = "192.168.77.1"
PORT = 6443


class Api:
    """The administrator's connection."""

    def __init__(self, kubeconfig):
        text = kubeconfig.read_text()

        def data(field):
            return base64.b64decode(re.search(field + r': "?([A-Za-z0-9+/=]+)', text).group(1))

        self.context = ssl.create_default_context(cadata=data("certificate-authority-data").decode())
        with tempfile.NamedTemporaryFile() as pair:
            pair.write(data("client-certificate-data") + b"\n" + data("client-key-data"))
            pair.flush()
            self.context.load_cert_chain(pair.name)
        self.local = threading.local()

    def connection(self):
        return http.client.HTTPSConnection(ADDRESS, PORT, context=self.context, timeout=60)

    def call(self, method, path, body=None):
        if not hasattr(self.local, "connection"):
            self.local.connection = self.connection()
        headers = {"Content-Type": "application/json"} if body is not None else {}
        self.local.connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        response = self.local.connection.getresponse()
        text = response.read()
        if response.status >= 300:
            raise RuntimeError(f"{method} {path}: {response.status} {text[:500]}")
        return json.loads(text)

    def watch(self, path):
        """Events of a list's watch from now on, as (event, time seen)."""
        version = self.call("GET", path)["metadata"]["resourceVersion"]
        connection = self.connection()
        connection.request("GET", f"{path}?watch=1&resourceVersion={version}")
        response = connection.getresponse()
        while line := response.readline():
            yield json.loads(line), time.time()


class Cluster:
    """One `orch server` with its node; where the device is asked for, on a device of its own."""

    def __init__(self, binary, flags=(), images=(), device=False):
        self.binary, self.flags = binary, list(flags)
        self.home = Path(tempfile.mkdtemp(prefix="orch-bench-"))
        self.device = self.mount() if device else None
        self.directories = [f"--{name}={self.home / path}" for name, path in [
            ("data-dir", "disk/data"), ("run-dir", "run"), ("kubelet-dir", "disk/kubelet"), ("pod-log-dir", "disk/logs/pods")]]
        (self.home / "disk/data/agent/images").mkdir(parents=True)
        for image in images:
            shutil.copy(image, self.home / "disk/data/agent/images")
        self.kubeconfig = self.home / "kubeconfig"

    def mount(self):
        """An ext4 file system in a file; the name of its loop device."""
        file, disk = self.home / "disk.img", self.home / "disk"
        disk.mkdir()
        with file.open("wb") as image:
            image.truncate(8 << 30)
        run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", file)
        device = run("losetup", "--find", "--show", "--direct-io=on", file).strip()
        run("mount", device, disk)
        return device

    def start(self):
        """Start the server; seconds until its node was seen to be Ready."""
        log = (self.home / "server.log").open("ab")
        began = time.monotonic()
        self.server = subprocess.Popen(
            [self.binary, "server", "--config=/dev/null", "--node-name=bench", f"--write-kubeconfig={self.kubeconfig}",
             # How full this machine's disk is does not matter here.
             "--kubelet-arg=eviction-hard=memory.available<1Mi", "--kubelet-arg=image-gc-high-threshold=100",
             *self.directories, *self.flags], stdout=log, stderr=log)
        while not self.kubeconfig.exists():
            self.check(began)
        self.api = Api(self.kubeconfig)
        while True:
            self.check(began)
            with contextlib.suppress(OSError, RuntimeError, http.client.HTTPException):
                if any(ready(node) for node in self.api.call("GET", "/api/v1/nodes")["items"]):
                    return time.monotonic() - began
            self.api.local = threading.local()

    def check(self, began):
        if self.server.poll() is not None or time.monotonic() - began > 60:
            raise RuntimeError("the server does not start:\n" + (self.home / "server.log").read_text()[-4000:])
        time.sleep(0.002)

    def kubectl(self, *arguments):
        return run("kubectl", f"--kubeconfig={self.kubeconfig}", *arguments)

    def processes(self):
        """The pids of orch: the server, the shims, the pauses; not the pods' programs."""
        pids = {self.server.pid: "server"}
        own = str(self.home / "run").encode()
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                arguments = (entry / "cmdline").read_bytes().split(b"\0")
                if len(arguments) > 2 and arguments[1] == b"shim" and arguments[2].startswith(own):
                    pids[int(entry.name)] = "shim"
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                if pids.get(parent) == "shim" and (entry / "comm").read_text().strip() == "pause":
                    pids[int(entry.name)] = "pause"
        return pids

    def memory(self):
        """MB: PSS of all, of the server alone, and the private memory of a shim (median)."""
        total, server, shims = 0, 0, []
        for pid, kind in self.processes().items():
            fields = dict(re.findall(r"^(\w+): +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M))
            total += int(fields["Pss"])
            server += int(fields["Pss"]) if kind == "server" else 0
            if kind == "shim":
                shims.append(int(fields["Private_Clean"]) + int(fields["Private_Dirty"]))
        return total / 1024, server / 1024, statistics.median(shims or [0]) / 1024

    def cpu_seconds(self):
        """Of the server, the shims and the pauses."""
        ticks = 0
        for pid in self.processes():
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def bytes_written(self):
        """To the device of the store, with what the page cache still holds."""
        os.sync()
        fields = Path(f"/sys/block/{Path(self.device).name}/stat").read_text().split()
        return int(fields[6]) * 512

    def stop(self):
        self.server.send_signal(signal.SIGTERM)
        self.server.wait()
        run(self.binary, "killall", *self.directories)

    def close(self):
        with contextlib.suppress(Exception):
            self.server.kill()
            self.server.wait()
        subprocess.run([self.binary, "killall", *self.directories], capture_output=True)
        if self.device:
            subprocess.run(["umount", "--lazy", self.home / "disk"], capture_output=True)
            subprocess.run(["losetup", "--detach", self.device], capture_output=True)
        shutil.rmtree(self.home, ignore_errors=True)


def ready(node):
    return any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions", []))


def run(*arguments):
    done = subprocess.run([str(argument) for argument in arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{arguments}: {done.stdout}{done.stderr}")
    return done.stdout


def images(arguments, *names):
    return [Path(arguments.images) / f"{name}.tar" for name in names]
