"""The plug is pulled while the API takes writes and while an image is imported: nothing acknowledged is lost.

Acknowledgements are noted outside the guest. What the disk had not been told to flush is lost by chance.
"""
import pathlib
import random
import subprocess
import tempfile
import time

from lab import Failed, Orch, check, wait

# Creates, then updates ConfigMaps for ever; prints a line when the answer is there.
WRITER = r"""
n=$1
while true; do
  body='{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"w'$n'"},"data":{"n":"'$n'"}}'
  code=$(curl -s -m 5 -o /dev/null -w '%{http_code}' $CREDENTIALS -X POST -H 'Content-Type: application/json' -d "$body" $URL)
  [ "$code" = 201 ] && echo $n
  n=$((n + 1))
done
"""


def run(lab):
    rounds = 2 if lab.short else 10
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    print(f"lab: seed {seed}", flush=True)
    machine = lab.machine(power_cuts=True).start()
    orch = Orch(lab, machine)
    orch.install("busybox")
    orch.ready()
    orch.apply("steady")
    orch.pods("app=steady", 1)
    machine.run("sync")
    acknowledged = set()
    for number in range(1, rounds + 1):
        with_image = number % 2 == 0
        if with_image:
            # The import begins when the file is there, and the plug is pulled during it.
            machine.run("rm -f /var/lib/orch/agent/images/python.tar; cp /lab/images/python.tar /var/lib/orch/agent/images/.new;"
                        "touch /var/lib/orch/agent/images/.new; sync; mv /var/lib/orch/agent/images/.new /var/lib/orch/agent/images/python.tar")
        with Writer(lab, machine, 100_000 * number) as writer:
            time.sleep(chance.uniform(1, 8))
            lost = machine.pull_the_plug(chance.random())
        new = writer.acknowledged()
        acknowledged |= new
        print(f"lab: round {number}: {len(new)} writes acknowledged, the disk lost {lost} writes", flush=True)
        check(new or with_image, "nothing was acknowledged, so nothing was tried")
        machine.start()
        # It starts by itself, and what it says of its store is clean.
        orch.ready()
        found = {int(item["data"]["n"]) for item in orch.get("configmaps") if item["metadata"]["name"].startswith("w")}
        missing = acknowledged - found
        check(not missing, f"round {number}: acknowledged and gone: {sorted(missing)[:20]} (seed {seed})")
        journal = machine.run("journalctl --no-pager -q -b -u orch")
        for word in ("damaged", "panicked", "checksum", "recovered"):
            check(word not in journal, f"round {number}: orch says {word} (seed {seed})\n{journal}")
        whole_images(machine)
        orch.pods("app=steady", 1)
    # The image whose import was cut is imported after all.
    machine.run("mkdir -p /root/store")
    wait("the image is there", lambda: "python" in machine.run("cat /var/lib/orch/agent/store/images/*.json"), 300)
    orch.apply("python")
    wait("the image runs", lambda: orch.get("pod", "python")["status"].get("phase") == "Succeeded", 300,
         lambda: orch.kubectl("describe", "pod", "python", check=False)[1])


def whole_images(machine):
    """Every image that orch has names layers that are there and marked, and no half-made one stays."""
    machine.run(r"""cd /var/lib/orch/agent/store
for image in images/*.json; do
  for layer in $(grep -o '"layers":\[[^]]*\]' "$image" | grep -oE '[0-9a-f]{64}'); do
    [ -s "layers/$layer/complete" ] && [ -d "layers/$layer/fs" ] || { echo "$image names $layer, which is not whole"; exit 1; }
  done
done
for image in images/*; do case $image in *.json|*.new) ;; *) echo "what is $image?"; exit 1 ;; esac; done""")


class Writer:
    """Writes from the outside machine, until the plug is pulled."""

    def __init__(self, lab, machine, first):
        kubeconfig = (lab.directory / "kubeconfig").read_text()
        self.directory = tempfile.TemporaryDirectory()
        for key, name in (("certificate-authority-data", "ca"), ("client-certificate-data", "cert"), ("client-key-data", "key")):
            import base64
            data = next(line.split()[1] for line in kubeconfig.splitlines() if line.strip().startswith(key))
            (pathlib.Path(self.directory.name) / name).write_bytes(base64.b64decode(data))
        base = self.directory.name
        credentials = f"--cacert {base}/ca --cert {base}/cert --key {base}/key"
        url = f"https://{machine.address}:6443/api/v1/namespaces/default/configmaps"
        script = WRITER.replace("$CREDENTIALS", credentials).replace("$URL", url)
        self.log = open(pathlib.Path(base) / "log", "w+")
        self.processes = [subprocess.Popen(lab.network.command(["bash", "-c", script, "writer", str(first + 10_000 * worker)]),
                                           stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.DEVNULL)
                          for worker in range(3)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()

    def acknowledged(self):
        self.log.seek(0)
        numbers = {int(line) for line in self.log.read().splitlines() if line.isdigit()}
        self.log.close()
        self.directory.cleanup()
        return numbers
