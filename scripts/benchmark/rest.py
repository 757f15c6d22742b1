"""Size, start, and orch at rest: without pods and with the example."""

import contextlib
import statistics
import time
from pathlib import Path

from .cluster import TREE, Cluster, images


def size(table, arguments):
    table.add("binary", Path(arguments.binary).stat().st_size / 1e6, "MB", below=30)


def idle(table, arguments):
    """Start, and memory and rest without pods."""
    times = []
    for _ in range(arguments.starts):
        with contextlib.closing(Cluster(arguments.binary)) as cluster:
            times.append(cluster.start())
    table.add("start of a fresh server to node Ready, median", statistics.median(times), "s", below=1.0)
    with contextlib.closing(Cluster(arguments.binary)) as cluster:
        cluster.start()
        time.sleep(30)
        table.add("memory (PSS), no pods, 30 s after the start", cluster.memory()[0], "MB", below=42)
        cluster.stop()
        table.add("start of an existing server to node Ready", cluster.start(), "s", below=1.0)


def example(table, arguments):
    """The example at rest."""
    with contextlib.closing(Cluster(arguments.binary, images=images(arguments, "busybox", "redis", "nginx", "python"), device=True)) as cluster:
        cluster.start()
        cluster.kubectl("apply", "-f", TREE / "examples/guestbook")
        for deployment in ["redis", "app", "front"]:
            cluster.kubectl("rollout", "status", "--timeout=120s", f"deployment/{deployment}")
        time.sleep(60)
        total, server, shim = cluster.memory()
        table.add("memory (PSS), example running", total, "MB", below=70)
        table.add("  of it the server", server, "MB", below=35)
        table.add("  private memory of a shim, median", shim, "MB", below=0.3)
        cpu, written, began = cluster.cpu_seconds(), cluster.bytes_written(), time.monotonic()
        time.sleep(60 * arguments.idle_minutes)
        took = time.monotonic() - began
        table.add("processor, example running", 100 * (cluster.cpu_seconds() - cpu) / took, "% core", below=1)
        table.add("written to the device in a minute, example running", (cluster.bytes_written() - written) / took * 60 / 1e3, "kB", below=100)


MEASUREMENTS = {"size": size, "idle": idle, "example": example}
