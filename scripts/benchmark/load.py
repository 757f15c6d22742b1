"""Creates, gets and lists a second, and the memory after them."""

import contextlib
import json
import re
import time

from .cluster import ADDRESS, PORT, Cluster, run

CONNECTIONS = 32
THREADS = 2
LOAD_SECONDS = 10
# How many the store holds when its memory is looked at.
OBJECTS = 20_000

LUA_HEAD = """
local token = "%s"
wrk.headers["Authorization"] = "Bearer " .. token
local failed = 0
local threads = {}
function setup(thread) thread:set("number", #threads) table.insert(threads, thread) end
function response(status) if status >= 300 then failed = failed + 1 end end
function done(summary, latency, requests)
  local failures = 0
  for _, thread in ipairs(threads) do failures = failures + (thread:get("failed") or 0) end
  io.write(string.format('RESULT {"requests": %%d, "microseconds": %%d, "failed": %%d, "errors": %%d, "p50": %%d, "p99": %%d}\\n',
    summary.requests, summary.duration, failures,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""

# `left` objects for each thread, then only gets of the first: how many there are is given, not how long it takes.
LUA_CREATE = """
local count, run, left = 0, %d, %d
local filler = string.rep("x", %d)
local before, between, after = %s
wrk.headers["Content-Type"] = "application/json"
function request()
  if left == 0 then return wrk.format("GET", path_of(run, number, 1)) end
  count, left = count + 1, left - 1
  local name = string.format("load-%%d-%%d-%%d", run, number, count)
  return wrk.format("POST", "%s", nil, before .. name .. between .. filler .. after)
end
function path_of(run, number, count) return string.format("%s/load-%%d-%%d-%%d", run, number, count) end
"""

CONFIG_MAPS = "/api/v1/namespaces/load/configmaps"
CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "NAME"}, "data": {"filler": "FILLER"}}


class Load:
    """wrk as an ordinary user: a service account with the role `edit`, its token in every request."""

    def __init__(self, cluster):
        self.cluster = cluster
        cluster.kubectl("create", "namespace", "load")
        cluster.kubectl("-n", "load", "create", "serviceaccount", "load")
        cluster.kubectl("-n", "load", "create", "rolebinding", "load", "--clusterrole=edit", "--serviceaccount=load:load")
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 7200}}
        answer = cluster.api.call("POST", "/api/v1/namespaces/load/serviceaccounts/load/token", request)
        self.token = answer["status"]["token"]
        self.runs = 0

    def run(self, path, body="", seconds=LOAD_SECONDS):
        """Requests a second."""
        script = self.cluster.home / "load.lua"
        script.write_text(LUA_HEAD % self.token + body)
        out = run("wrk", f"-t{THREADS}", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "30s", "-s", script, f"https://{ADDRESS}:{PORT}{path}")
        result = json.loads(re.search(r"^RESULT (.*)$", out, re.M).group(1))
        if result["failed"] or result["errors"]:
            raise RuntimeError(f"{path}: {result}: {(self.cluster.home / 'server.log').read_text()[-2000:]}")
        return result["requests"] / (result["microseconds"] / 1e6)

    def creates(self, seconds=LOAD_SECONDS, count=None, path=CONFIG_MAPS, body=None, filler=800):
        """Creates of `body` with NAME and FILLER in it: a second, or just so many of them."""
        self.runs += 1
        before, rest = json.dumps(body or CONFIG_MAP).split("NAME")
        between, after = rest.split("FILLER")
        quoted = ", ".join(f"[==[{text}]==]" for text in [before, between, after])
        left = -1 if count is None else count // THREADS
        return self.run("/", LUA_CREATE % (self.runs, left, filler, quoted, path, path), seconds)

    def fill(self, count, path=CONFIG_MAPS, **what):
        """So many more objects at the path."""
        for _ in range(60):
            self.creates(seconds=max(2, count // 5000), count=count, path=path, **what)
            there = self.count(path)
            if there >= count:
                return there
            count -= there
        raise RuntimeError(f"{path} is not filled")

    def count(self, path):
        page = self.cluster.api.call("GET", f"{path}?limit=1")
        return len(page["items"]) + page["metadata"].get("remainingItemCount", 0)


def load(table, arguments):
    with contextlib.closing(Cluster(arguments.binary)) as cluster:
        cluster.start()
        load = Load(cluster)
        load.creates(2)
        table.add("creates a second, 1 KB, durable, 32 connections", load.creates(), "/s", above=7500)
        name = cluster.api.call("GET", f"{CONFIG_MAPS}?limit=1")["items"][0]["metadata"]["name"]
        table.add("gets a second", load.run(f"{CONFIG_MAPS}/{name}"), "/s", above=25000)
        table.add("lists of 500 a second", load.run(f"{CONFIG_MAPS}?limit=500"), "/s", above=1000)
    with contextlib.closing(Cluster(arguments.binary)) as cluster:
        cluster.start()
        load = Load(cluster)
        made = load.fill(OBJECTS)
        name = cluster.api.call("GET", f"{CONFIG_MAPS}?limit=1")["items"][0]["metadata"]["name"]
        load.run(f"{CONFIG_MAPS}/{name}", seconds=3)
        load.run(f"{CONFIG_MAPS}?limit=500", seconds=3)
        time.sleep(60)
        table.add(f"memory (PSS), a minute after the load, {made:,.0f} objects", cluster.memory()[0], "MB", below=95)
    with contextlib.closing(Cluster(arguments.binary, flags=["--datastore-sync-delay=30ms"])) as cluster:
        cluster.start()
        table.add("creates a second with 30 ms added to every sync", Load(cluster).creates(), "/s")


MEASUREMENTS = {"load": load}
