"""The API at size: server-side apply, formats, many watchers, a hundred thousand objects."""

import contextlib
import json
import select
import socket
import statistics
import subprocess
import threading
import time

from .cluster import ADDRESS, PORT, Cluster
from .load import CONFIG_MAPS, Load

JSON = "application/json"
PROTOBUF = "application/vnd.kubernetes.protobuf"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
FORMATS = {"protobuf": PROTOBUF, "Tables": TABLE}

PODS = "/api/v1/namespaces/load/pods"


def container(filler):
    """A container as operators write them, about as large as its filler and 2 KB more."""
    variables = [{"name": f"SETTING_{number}", "value": f"value-of-setting-{number}"} for number in range(20)]
    probe = {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 10, "timeoutSeconds": 1, "failureThreshold": 3, "successThreshold": 1}
    return {
        "name": "main", "image": "registry.example/program:1.0", "args": ["--filler", filler], "env": variables,
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}], "livenessProbe": probe, "readinessProbe": probe,
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
    }


def pod(filler, **metadata):
    """Another scheduler's, so that it stays where it is."""
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "NAME", "labels": {"app": "load"}, **metadata},
            "spec": {"schedulerName": "nobody", "containers": [container(filler)]}}


LUA_APPLY = """
local turn = 0
wrk.headers["Content-Type"] = "application/apply-patch+yaml"
local before, between, after = %s
function request()
  turn = turn + 1
  local name = string.format("load-%%d-%%d", number, turn %% 64)
  return wrk.format("PATCH", "%s/" .. name .. "?fieldManager=bench", nil, before .. name .. between .. turn .. after)
end
"""


def apply(table, arguments):
    """Server-side apply of Pods of 5 KB, each time with one field changed."""
    with contextlib.closing(Cluster(arguments.binary)) as cluster:
        cluster.start()
        load = Load(cluster)
        text = json.dumps(pod("x" * 3000, annotations={"turn": "TURN"}))
        first, rest = text.split("NAME")
        middle, last = rest.split("TURN")
        quoted = ", ".join(f"[==[{part}]==]" for part in [first, middle, last])
        script = LUA_APPLY % (quoted, PODS)
        load.run("/", script, 2)
        table.add(f"server-side applies a second, {len(text) / 1e3:.1f} KB", load.run("/", script), "/s", above=2000)


def formats(table, arguments):
    """Lists and watches in protobuf and as Tables beside those in JSON."""
    with contextlib.closing(Cluster(arguments.binary)) as cluster:
        cluster.start()
        load = Load(cluster)
        load.fill(10_000)
        for what, measure in [("lists of 500 a second", lambda accept: lists(load, accept)),
                              ("events a second of one watch", lambda accept: initial_events(cluster, accept))]:
            figure = measure(JSON)
            table.add(f"{what}, JSON", figure, "/s")
            for name, accept in FORMATS.items():
                table.add(f"{what}, {name}", measure(accept), "/s", above=figure / 2)


def lists(load, accept):
    return load.run(f"{CONFIG_MAPS}?limit=500", f'wrk.headers["Accept"] = "{accept}"\n')


def initial_events(cluster, accept):
    """How fast a watch brings all that there is: to its bookmark, read without a parse so that the client costs little."""
    path = f"{CONFIG_MAPS}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1"
    rates = []
    for _ in range(5):
        raw = connect(cluster)
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\nAccept: {accept}\r\n\r\n".encode())
        began, tail = time.monotonic(), b""
        while b"k8s.io/initial-events-end" not in tail:
            chunk = raw.recv(1 << 20)
            if not chunk:
                raise RuntimeError(f"the watch ended before its bookmark: {tail[-500:]}")
            tail = tail[-200:] + chunk
        rates.append(10_000 / (time.monotonic() - began))
        raw.close()
    return statistics.median(rates)


def connect(cluster):
    return cluster.api.context.wrap_socket(socket.create_connection((ADDRESS, PORT)), server_hostname=ADDRESS)


WATCHERS = 1000
WRITES = 400
WRITES_A_SECOND = 20


def watchers(table, arguments):
    """Writes at a steady pace, and when each watcher sees each of them."""
    with contextlib.closing(Cluster(arguments.binary)) as cluster:
        cluster.start()
        load = Load(cluster)
        version = cluster.api.call("GET", CONFIG_MAPS)["metadata"]["resourceVersion"]
        path = f"{CONFIG_MAPS}?watch=1&resourceVersion={version}"
        request = f"GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {load.token}\r\n\r\n".encode()
        sockets = [connect(cluster) for _ in range(WATCHERS)]
        for raw in sockets:
            raw.sendall(request)
        followers = [Follower(sockets[half::2]) for half in range(2)]
        began = time.monotonic()
        for number in range(WRITES):
            time.sleep(max(0, began + number / WRITES_A_SECOND - time.monotonic()))
            cluster.api.call("POST", CONFIG_MAPS, {
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"event-{number}"},
                "data": {"at": f"@{number:06d}:{time.monotonic():017.6f}@"}})
        for follower in followers:
            follower.thread.join(timeout=30)
        delays = sorted(delay for follower in followers for delay in follower.delays)
        if len(delays) != WATCHERS * WRITES:
            raise RuntimeError(f"{len(delays)} of {WATCHERS * WRITES} events came, in order")
        table.add(f"{WATCHERS} watchers at {WRITES_A_SECOND} writes a second, 50th percentile", 1000 * statistics.median(delays), "ms")
        table.add("  99th percentile, each event seen by each, in order", 1000 * delays[len(delays) * 99 // 100], "ms", below=100)


class Follower:
    """Reads many watches in one thread; only events in their order count."""

    def __init__(self, sockets):
        self.delays = []
        self.poll = select.epoll()
        self.state = {}
        for raw in sockets:
            raw.setblocking(False)
            self.poll.register(raw.fileno(), select.EPOLLIN)
            self.state[raw.fileno()] = [raw, b"", 0]
        self.thread = threading.Thread(target=self.follow, daemon=True)
        self.thread.start()

    def follow(self):
        open_ones = len(self.state)
        while open_ones:
            for fd, _ in self.poll.poll(30):
                raw, rest, expected = state = self.state[fd]
                with contextlib.suppress(BlockingIOError, ConnectionError, OSError):
                    rest += raw.recv(1 << 16)
                seen = time.monotonic()
                parts = rest.split(b"@")
                # A mark is whole when something follows its end.
                while len(parts) >= 3:
                    number, _, at = parts[1].partition(b":")
                    if int(number) == expected:
                        self.delays.append(seen - float(at))
                        expected += 1
                    parts = parts[2:]
                state[1], state[2] = b"@".join(parts)[-4096:], expected
                if expected == WRITES:
                    self.poll.unregister(fd)
                    open_ones -= 1


def scale(table, arguments):
    """10,000 pods of 5 KB and 90,000 objects of 1 KB, with every controller."""
    with contextlib.closing(Cluster(arguments.binary)) as cluster:
        cluster.start()
        load = Load(cluster)
        load.fill(10_000, path=PODS, body=pod("FILLER"), filler=1200)
        pods = cluster.api.call("GET", f"{PODS}?limit=1")["items"][0]
        size = len(json.dumps(pods, separators=(",", ":")))
        load.fill(90_000)
        times = [list_seconds(load) for _ in range(5)]
        table.add(f"list of 10,000 pods of {size / 1e3:.1f} KB", 1000 * statistics.median(times), "ms", below=150)
        time.sleep(60)
        table.add("memory (PSS) with 10,000 pods and 90,000 objects", cluster.memory()[0], "MB", below=500)
        cluster.stop()
        table.add("restart on them to node Ready", cluster.start(), "s", below=3)


def list_seconds(load):
    """Of one whole list, to its last byte, on a connection that stands."""
    done = subprocess.run(
        # By its own name curl is answered in pretty JSON, as by Kubernetes.
        ["curl", "-sS", "-k", "-A", "bench", "-o", "/dev/null", "-w", "%{http_code} %{size_download} %{time_total} %{time_appconnect}", "--config", "-",
         f"https://{ADDRESS}:{PORT}{PODS}"],
        input=f'header = "Authorization: Bearer {load.token}"\n', capture_output=True, text=True, check=True)
    code, size, total, connected = done.stdout.split()
    if code != "200" or int(size) < 10_000_000:
        raise RuntimeError(f"the list of pods: {done.stdout}")
    return float(total) - float(connected)


MEASUREMENTS = {"apply": apply, "formats": formats, "watchers": watchers, "scale": scale}
