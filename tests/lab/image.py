"""The guests' disk: a stock Debian 12 with systemd and pure cgroup v2, built once with mmdebstrap.

The guest has one network card and nothing that listens on it. What the tests want of it comes in
through virtio serial ports: see AGENT, and machine.Machine.run.
"""
import hashlib
import pathlib
import shutil
import subprocess
import tempfile

PACKAGES = """systemd-sysv dbus udev kmod procps iproute2 iputils-ping nftables iptables ufw
    ca-certificates curl kubernetes-client linux-image-cloud-amd64""".split()
SIZE = "5G"
PORTS = 3  # commands that one guest runs at the same time

# Of each line "<id> <command in base64>", runs the command and answers "<id> <code> <output in base64>".
AGENT = r"""#!/bin/bash
port=/dev/virtio-ports/lab.$1 work=/run/lab-agent.$1
until [ -e "$port" ]; do sleep 0.2; done
exec 3<>"$port"
echo ready >&3
while read -r id command <&3; do
  base64 -d <<<"$command" >"$work.command"
  bash "$work.command" </dev/null >"$work.output" 2>&1 3>&-
  code=$?
  echo "$id $code $(base64 -w0 "$work.output")" >&3
done
"""

FILES = {
    "/etc/fstab": "/dev/vda / ext4 errors=remount-ro 0 1\n/dev/vdb /lab ext4 ro,nofail 0 0\n",
    "/etc/hostname": "debian\n",
    "/etc/hosts": "127.0.0.1 localhost\n",
    "/etc/machine-id": "",
    "/etc/resolv.conf": "nameserver 10.78.0.1\n",
    "/var/log/journal/.keep": "",
    # A small initrd starts faster.
    "/etc/initramfs-tools/conf.d/lab": "MODULES=list\nCOMPRESS=gzip\n",
    "/etc/initramfs-tools/modules": "virtio_pci\nvirtio_blk\next4\n",
    "/usr/local/sbin/lab-agent": AGENT,
    "/etc/systemd/system/lab-agent@.service": """[Unit]
Description=Runs what the tests ask for
StartLimitIntervalSec=0
[Service]
ExecStart=/usr/local/sbin/lab-agent %i
Environment=HOME=/root
Restart=always
RestartSec=1
KillMode=process
TasksMax=infinity
OOMPolicy=continue
[Install]
WantedBy=multi-user.target
""",
}
ENABLE = ["systemd-networkd.service", "systemd-network-generator.service"]
MASK = "apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer e2scrub_all.timer".split()


def recipe():
    return hashlib.sha256(pathlib.Path(__file__).read_bytes()).hexdigest()[:12]


def build(cache):
    """The directory with disk.raw, vmlinuz and initrd.img: below `cache`, made if it is not there."""
    target = cache / f"debian-12-{recipe()}"
    if target.is_dir():
        return target
    print("lab: building the guests' disk (some minutes, once)", flush=True)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="building-") as directory:
        work = pathlib.Path(directory)
        fill(work, work / "root", work / "image")
        (work / "image").rename(target)
    return target


def fill(work, root, image):
    image.mkdir()
    overlay = work / "files"
    for name, text in FILES.items():
        file = overlay / name.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755 if text.startswith("#!") else 0o644)
    units = ENABLE + [f"lab-agent@{port}.service" for port in range(PORTS)]
    copy = f'cp -a --no-preserve=ownership "{overlay}/." "$1/"'
    run("mmdebstrap", "--mode=root", "--variant=minbase", "--quiet", "--include=" + ",".join(PACKAGES),
        "--dpkgopt=force-unsafe-io", "--dpkgopt=force-confold",
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "doc", "locale", "info")),
        # Once before the kernel's package makes the initrd, once more over what packages wrote.
        f'--setup-hook=mkdir -p "$1/etc"; cp -a "{overlay}/etc/initramfs-tools" "$1/etc/"',
        f"--customize-hook={copy}",
        f'--customize-hook=chroot "$1" systemctl --quiet enable {" ".join(units)}',
        f'--customize-hook=chroot "$1" systemctl --quiet mask {" ".join(MASK)}',
        '--customize-hook=mkdir "$1/lab"',
        "bookworm", root)
    for name in ("vmlinuz", "initrd.img"):
        shutil.copy(root / (root / name).readlink(), image / name)
    run("mke2fs", "-q", "-t", "ext4", "-d", root, image / "disk.raw", SIZE)
    shutil.rmtree(root)


def payload(file, directory):
    """A file system with what is below `directory`, for the guests' /lab."""
    size = sum(entry.stat().st_size for entry in directory.rglob("*") if entry.is_file())
    run("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d", directory, file, f"{size * 11 // 10 + (16 << 20) >> 10}K")


def run(*command):
    done = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed ({done.returncode}):\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
