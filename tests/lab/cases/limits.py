"""Containers on pure cgroup v2: OOMKilled, limits in force, exec and probes within them, privileged and its devices."""
from lab import Orch, check, wait


def run(lab):
    machine = lab.machine().start()
    orch = Orch(lab, machine)
    orch.install("busybox")
    orch.ready()
    orch.apply("limits")

    status = wait("the glutton is killed", lambda: terminated(orch, "glutton"), 300,
                  lambda: orch.kubectl("describe", "pod", "glutton", check=False)[1])
    check(status["reason"] == "OOMKilled" and status["exitCode"] == 137, f"the glutton ended with {status}")
    child = wait("the glutton's parent ends", lambda: terminated(orch, "glutton-child"), 300)
    # On cgroup v2 Kubernetes ends a container as a whole (memory.oom.group).
    check(child["reason"] == "OOMKilled" and child["exitCode"] == 137, f"the parent of the glutton ended with {child}")

    for name in ("glutton", "glutton-child"):
        # The kernel ends the container, never what holds the pod together.
        events = orch.get("events", "--field-selector", f"involvedObject.name={name}")
        check(not any(event["reason"] == "SandboxChanged" for event in events), f"pod {name} lost its sandbox")

    wait("the probed pod is Ready", lambda: is_ready(orch, "probed"), 300, lambda: orch.kubectl("describe", "pod", "probed", check=False)[1])
    group = group_of(machine, orch, "probed")
    read = lambda file: machine.run(f"cat {group}/{file}").strip()
    check(read("memory.max") == str(48 << 20), "memory.max")
    check(read("cpu.max") == "50000 100000", "cpu.max")
    check(read("memory.swap.max") == "0", "memory.swap.max")
    check(int(read("cpu.weight")) > 1, "cpu.weight")
    pod_group = group.rsplit("/", 1)[0]
    check(machine.run(f"cat {pod_group}/memory.max").strip() == str(48 << 20), "memory.max of the pod")
    # What exec starts is in the container's group, sees its limits, and not the machine's groups.
    seen = orch.exec("probed", "sh", "-c", "cat /proc/self/cgroup; cat /sys/fs/cgroup/memory.max; ls /sys/fs/cgroup | head -3")
    check(seen.startswith("0::/\n") and str(48 << 20) in seen, f"exec sees {seen}")
    code, _ = orch.exec("probed", "sh", "-c", "echo max >/sys/fs/cgroup/memory.max", check=False)
    check(code != 0 and read("memory.max") == str(48 << 20), "a container raised its own limit")
    code, output = orch.exec("probed", "sh", "-c", "exit 5", check=False)
    check(code == 5, f"the exit code of exec is {code}: {output}")
    code, _ = orch.exec("probed", "sh", "-c", "mknod /tmp/disk b 254 0 && head -c 1 /tmp/disk", check=False)
    check(code != 0, "a container reads the machine's disk")
    orch.exec("probed", "sh", "-c", "head -c 1 /dev/zero >/dev/null && head -c 1 /dev/urandom >/dev/null")
    orch.exec("probed", "rm", "/tmp/healthy")
    wait("the probe is heard", lambda: orch.get("pod", "probed")["status"]["containerStatuses"][0]["restartCount"] == 1, 300)
    wait("the probed pod is Ready again", lambda: is_ready(orch, "probed"), 300)

    wait("the privileged pod is Ready", lambda: is_ready(orch, "privileged"), 300)
    orch.exec("privileged", "sh", "-c", "head -c 1 /dev/vda >/dev/null && mkdir /tmp/mount && mount -t tmpfs none /tmp/mount && umount /tmp/mount")
    orch.exec("privileged", "sh", "-c", "mkdir /sys/fs/cgroup/own && rmdir /sys/fs/cgroup/own")
    code, _ = orch.exec("plain", "sh", "-c", "mkdir /tmp/mount && mount -t tmpfs none /tmp/mount", check=False)
    check(code != 0, "an ordinary container mounts")
    # A user namespace of its own.
    wait("the pod with its own users is Ready", lambda: is_ready(orch, "users"), 300, lambda: orch.kubectl("describe", "pod", "users", check=False)[1])
    line = orch.exec("users", "cat", "/proc/self/uid_map").split()
    check(line[0] == "0" and line[1] != "0", f"the ids of the pod are the machine's: {line}")
    check(orch.exec("users", "id", "-u").strip() == "0", "exec into a pod with its own users")
    check(machine.run("dmesg | grep -c 'unrecognized mount option'; true").strip() == "0", "the kernel's log fills")
    check("memfd:pause" not in machine.run("dmesg | grep 'Killed process'; true"), "the kernel killed a pod's pause")
    used = orch.kubectl("get", "--raw", f"/api/v1/nodes/{machine.name}/proxy/stats/summary")
    check('"probed"' in used and '"workingSetBytes"' in used, "stats are missing")


def terminated(orch, pod):
    statuses = orch.get("pod", pod)["status"].get("containerStatuses", [])
    return statuses[0]["state"].get("terminated") if statuses else None


def is_ready(orch, pod):
    conditions = orch.get("pod", pod)["status"].get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def group_of(machine, orch, pod):
    container = orch.get("pod", pod)["status"]["containerStatuses"][0]["containerID"].split("//")[1]
    return machine.run(f"find /sys/fs/cgroup -type d -name {container}").strip()
