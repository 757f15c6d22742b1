"""A stock guest without iptables names the mend; one with ufw active works once told what check-config says."""
import re

from address import join, pod_on, talk
from lab import Failed, Orch, check, wait


def run(lab):
    without_iptables(lab)
    with_ufw(lab)


def without_iptables(lab):
    machine = lab.machine().start()
    orch = Orch(lab, machine)
    machine.run("mkdir -p /root/mend && mv /usr/sbin/*tables* /root/mend/")
    code, output = machine.run("INSTALL_ORCH_BINARY=/lab/orch sh /lab/install.sh", check=False, timeout=600)
    check(code != 0, f"the installer says that all is well:\n{output}")
    check("apt-get install iptables" in output, f"check-config does not name the mend:\n{output}")
    journal = machine.run("journalctl --no-pager -q -u orch")
    check("apt-get install iptables" in journal, f"orch does not name the mend:\n{journal}")
    machine.run("orch killall && orch uninstall --yes")
    check(not machine.run("ls -d /etc/orch /var/lib/orch /run/orch 2>/dev/null; true").strip(), "uninstall without iptables leaves files")
    # Mended, it runs.
    machine.run("mv /root/mend/* /usr/sbin/")
    orch.install("busybox")
    orch.ready()
    machine.stop()


def with_ufw(lab):
    server, agent = lab.machine(), lab.machine()
    for machine in (server, agent):
        machine.start()
        machine.run("ufw --force enable && systemctl enable --now ufw")
        # A firewall that keeps out what it does not know: as it comes.
        check("deny (incoming)" in machine.run("ufw status verbose"), "ufw does not deny")
    code, output = server.run("/lab/orch check-config", check=False)
    mend = re.search(r"mend: (ufw .*)", output)
    check(code == 0 and mend, f"check-config names no mend for ufw:\n{output}")
    for machine in (server, agent):
        machine.run(mend[1].replace(";", " &&"))
    orch = Orch(lab, server)
    orch.install("python")
    orch.ready()
    join(orch, agent)
    orch.apply("pair")
    orch.pods("app=pair", 2)
    wait("pods reach each other", lambda: talk(orch))
    for node in (server.name, agent.name):
        source = pod_on(orch, node)
        wait(f"names are found from {node}", lambda: "pair-" in orch.fetch(source, "http://pair.default.svc.cluster.local/name"))
        orch.kubectl("logs", source)
    # Told and mended, check-config is content.
    code, output = server.run("/lab/orch check-config", check=False)
    check(code == 0 and "ufw" not in "".join(re.findall(r"^warning.*", output, re.M)), f"check-config still complains:\n{output}")
    server.run("ufw reload")
    wait("Services work after ufw reload",
         lambda: "pair-" in orch.fetch(pod_on(orch, server.name), "http://pair.default.svc.cluster.local/name"))
