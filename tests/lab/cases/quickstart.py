"""scripts/quickstart on a machine without a way out: with a binary and images at hand it needs nothing else."""
import json

from install import post
from lab import check


def run(lab):
    machine = lab.machine().start()
    # The tree as a newcomer has it, and what a first run with a package mirror would have left.
    machine.run("cp -r /lab/tree /root/orch && mkdir -p /root/orch/target && cp -r /lab/images /root/orch/target/images")
    # Emulation is slow, and so are the example's probes.
    machine.run("sed -i -E 's/timeoutSeconds: [0-9]+/timeoutSeconds: 60/' /root/orch/examples/guestbook/*.yaml")
    command = "cd /root/orch && ORCH_BINARY=/lab/orch scripts/quickstart"
    code, output = machine.run(command, check=False, timeout=900)
    check(code == 0, f"quickstart failed ({code}):\n{output}")
    check(f"the guestbook is at http://{machine.address}:30080" in output, f"it does not say where the example is:\n{output}")
    post(lab, machine, "quick")
    # Once more on the same machine it is content at once.
    code, output = machine.run(command, check=False, timeout=900)
    check(code == 0 and "nothing changed" in output, f"the second quickstart ({code}):\n{output}")
    entries = json.loads(lab.outside("curl", "-fsS", "-m", "20", f"http://{machine.address}:30080/entries"))["entries"]
    check("quick" in entries, "the second quickstart lost the entry")
