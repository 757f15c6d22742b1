"""Restart, kill -9 and upgrade of the unit with pods running: same processes, same limits, unit active."""
import re

from lab import Orch, check, wait

SCOPE = "/sys/fs/cgroup/system.slice/orch-pods.scope"


def run(lab):
    machine = lab.machine().start()
    orch = Orch(lab, machine)
    orch.install("busybox")
    orch.ready()
    orch.apply("steady")
    pod = orch.pods("app=steady", 1)[0]["metadata"]["name"]
    before = state(machine)
    check(any("memory.max=33554432 cpu.max=20000 100000" in line for line in before), f"the limits are not in force: {before}")

    events = [("systemctl restart", lambda: machine.run("systemctl restart orch")),
              ("kill -9", lambda: kill(machine)),
              ("upgrade", lambda: upgrade(machine)),
              ("daemon-reload", lambda: machine.run("systemctl daemon-reload && systemctl daemon-reexec"))]
    for what, do in events[1:3] if lab.short else events:
        # Ends while orch may be away: its exit code is kept.
        orch.kubectl("delete", "pod", "brief", "--ignore-not-found", "--wait=true")
        orch.apply("brief")
        wait("the brief pod runs", lambda: orch.get("pod", "brief")["status"].get("phase") == "Running")
        before = state(machine)
        do()
        orch.ready()
        check(machine.run("systemctl is-active orch").strip() == "active", f"after {what} the unit is not active")
        check(state(machine) == before, f"after {what}:\nbefore {before}\nafter  {state(machine)}")
        check(orch.exec(pod, "cat", "/proc/1/comm").strip() == "sh", f"after {what} exec does not work")
        orch.exec("brief", "touch", "/end")
        ended = wait("the brief pod ends", lambda: orch.get("pod", "brief")["status"].get("phase") == "Failed" and orch.get("pod", "brief"))
        code = ended["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"]
        check(code == 7, f"after {what} the exit code is {code}, not 7")
        numbers = [int(number) for number in re.findall(r"^tick (\d+)$", orch.kubectl("logs", pod), re.M)]
        check(numbers == list(range(len(numbers))) and numbers, f"after {what} the log is not whole: {numbers}")
        status = orch.get("pod", pod)["status"]["containerStatuses"][0]
        check(status["restartCount"] == 0, f"after {what} the container was restarted")
    ended_well(machine)


def state(machine):
    """Every process of the pods with its start time, and every group with its limits."""
    groups = machine.run(f"""cd {SCOPE}; for group in $(find . -mindepth 2 -type d | grep pod | sort); do
        echo "$group" "memory.max=$(cat $group/memory.max)" "cpu.max=$(cat $group/cpu.max)" "cpu.weight=$(cat $group/cpu.weight)"; done
        for group in $(find . -mindepth 3 -type d | grep pod); do
        for process in $(cat $group/cgroup.procs); do
        name=$(cat /proc/$process/comm 2>/dev/null) || continue
        [ "$name" = sleep ] || echo "process $process $name $(cut -d')' -f2 /proc/$process/stat | cut -d' ' -f21)"; done; done | sort""")
    return groups.splitlines()


def kill(machine):
    main = machine.run("systemctl show -P MainPID orch").strip()
    machine.run(f"kill -9 {main}")
    wait("systemd starts it again", lambda: machine.run("systemctl show -P MainPID orch").strip() not in ("0", main)
         and machine.run("systemctl is-active orch", check=False)[1].strip() == "active")


def upgrade(machine):
    """Another file, another inode, bytes that differ: as a new version would be."""
    old = machine.run("stat -c %i /usr/local/bin/orch")
    output = machine.run("cp /lab/orch /root/orch-new; echo >>/root/orch-new; INSTALL_ORCH_BINARY=/root/orch-new sh /lab/install.sh", timeout=600)
    check("starting orch" in output, f"the installer did not restart it:\n{output}")
    check(machine.run("stat -c %i /usr/local/bin/orch") != old, "the binary is the old file")
    # The same once more changes nothing.
    main = machine.run("systemctl show -P MainPID orch")
    output = machine.run("INSTALL_ORCH_BINARY=/root/orch-new sh /lab/install.sh", timeout=600)
    check("nothing changed" in output and machine.run("systemctl show -P MainPID orch") == main, f"installed twice:\n{output}")


def ended_well(machine):
    """No stop of orch was a failure, but for the one that was killed."""
    results = re.findall(r"Failed with result '(.*)'", machine.run("journalctl --no-pager -u orch"))
    check(results == ["signal"], f"how the unit failed: {results}")
