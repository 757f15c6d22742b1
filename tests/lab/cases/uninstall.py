"""killall ends all pods, uninstall leaves nothing: no mount, link, rule, group, unit, process, file."""
from lab import Orch, check, wait

# What a machine has of things that orch makes; sorted, so that two can be compared.
LOOK = r"""
echo "== mounts"; cut -d' ' -f2,3 /proc/mounts | sort
echo "== namespaces"; lsns --noheadings -o TYPE,NPROCS 2>/dev/null | grep -E 'net|uts|ipc|cgroup' | awk '{print $1}' | sort | uniq -c
echo "== links"; ls /sys/class/net
echo "== addresses"; ip -o address | awk '{print $2, $4}'
echo "== routes"; ip route; ip rule
echo "== neighbours"; ip neigh show nud permanent
echo "== rules"; iptables-save | grep -E 'KUBE|orch'
echo "== groups"; find /sys/fs/cgroup -type d -path '*orch*'
echo "== units"; systemctl list-units --all --no-legend --plain 'orch*' | awk '{print $1}'; systemctl list-unit-files --no-legend 'orch*'
echo "== processes"; ps -eo args | grep -E '[o]rch|/[p]ause|memfd:[p]ause'
echo "== files"; find / -xdev \( -path /proc -o -path /sys -o -path /lab -o -path /root -o -path /var/log/journal \) -prune -o \( -name '*orch*' -o -name 'kubelet*' -o -path '/var/log/pods*' -o -path '/var/log/containers*' -o -path '/run/netns*' \) -print | grep -v 'torch\|/usr/share'
find /run /tmp /dev/shm -name '*orch*' | grep -v systemd/journal
true
"""


def run(lab):
    machine = lab.machine().start()
    orch = Orch(lab, machine)
    before = machine.run(LOOK)
    orch.install("busybox")
    orch.ready()
    orch.apply("steady")
    orch.apply("volumes")
    orch.pods("app=steady", 1)
    orch.pods("app=volumes", 1)

    # The unit stopped: the pods run on. killall ends them; the data stay.
    machine.run("systemctl stop orch")
    check(machine.run("pgrep -f '^sh -c n=0'"), "the pods ended with the unit")
    machine.run("orch killall")
    after = machine.run(LOOK)
    for part in ("namespaces", "links", "addresses", "routes", "neighbours", "rules", "groups", "processes", "mounts"):
        check(section(after, part) == section(before, part),
              f"killall leaves {part}:\nbefore\n{section(before, part)}\nafter\n{section(after, part)}")
    machine.run("orch killall")  # once more is fine
    machine.run("systemctl start orch")
    orch.ready()
    orch.pods("app=steady", 1)
    orch.pods("app=volumes", 1)

    # From the running state, at once.
    machine.run("orch uninstall --yes")
    after = machine.run(LOOK)
    check(after == before, f"uninstall leaves something:\nbefore\n{before}\nafter\n{after}")
    code, _ = machine.run("systemctl is-system-running", check=False)
    check(code == 0, f"systemd is not content: {machine.run('systemctl --failed --no-legend')}")
    # And it can be installed again.
    orch.install("busybox")
    orch.ready()
    check(not orch.get("deployments"), "the new cluster has old objects")


def section(text, name):
    return text.split(f"== {name}\n", 1)[1].split("==", 1)[0]
