"""A virtual machine: qemu, its disk, its power switch, and commands that run in it.

Commands go through virtio serial ports (image.AGENT), so no state of the guest's network, firewall or
clock locks the tests out.
"""
import base64
import ctypes
import itertools
import json
import queue
import random
import signal
import socket
import subprocess
import time

import disk
import image
import network

BOOT = 600  # seconds; emulation on a busy machine is slow
BEARABLE = 120  # seconds, in the short form


class Failed(Exception):
    """A case's expectation did not hold."""


class TooSlow(Exception):
    """The short form is for machines that emulate one at a bearable speed."""


class Machine:
    def __init__(self, lab, number, memory, power_cuts):
        self.lab, self.number, self.memory, self.power_cuts = lab, number, memory, power_cuts
        self.name = f"vm{number}"
        self.address = f"{network.NETWORK}.{10 + number}"
        self.directory = lab.directory / self.name
        self.directory.mkdir()
        self.ids = itertools.count(1)
        self.process = None
        self.extra = []
        if power_cuts:
            self.disk = self.directory / "disk.raw"
            subprocess.run(["cp", "--sparse=always", "--reflink=auto", lab.image / "disk.raw", self.disk], check=True)

    # ---- power

    def start(self, *extra):
        """Switch it on and wait until it has booted. `extra`: arguments for qemu, kept for later starts."""
        self.extra = list(extra) or self.extra
        began = time.monotonic()
        for old in self.directory.glob("*.sock"):
            old.unlink()
        link = self.lab.network.path(self.name)
        link.unlink(missing_ok=True)
        log = open(self.directory / "qemu.log", "ab")
        self.process = subprocess.Popen(self.arguments(link), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory,
                                        preexec_fn=end_with_parent)
        self.ports = queue.SimpleQueue()
        for number in range(image.PORTS):
            self.ports.put(Port(self, number))
        self.wait_boot(began)
        return self

    def arguments(self, link):
        boot = (f"root=/dev/vda rw console=ttyS0 quiet loglevel=4 net.ifnames=0 panic=5 systemd.hostname={self.name} "
                f"systemd.machine_id={self.number:032x} ip={self.address}::{network.OUTSIDE}:255.255.255.0:{self.name}:eth0:none")
        hardware = ["-display", "none", "-nodefaults", "-no-user-config", "-machine", "q35", "-smp", "2", "-m", str(self.memory),
                    *self.lab.accelerator, "-kernel", self.lab.image / "vmlinuz", "-initrd", self.lab.image / "initrd.img",
                    "-append", boot, "-serial", "file:console.log", "-qmp", "unix:qmp.sock,server=on,wait=off",
                    "-device", "virtio-rng-pci",
                    "-netdev", f"dgram,id=net,local.type=unix,local.path={link},remote.type=unix,remote.path={link.parent}/switch",
                    "-device", f"virtio-net-pci,netdev=net,mac=52:54:00:78:00:{10 + self.number:02x},romfile="]
        ports = ["-device", "virtio-serial-pci"]
        for number in range(image.PORTS):
            ports += ["-chardev", f"socket,id=agent{number},path=agent{number}.sock,server=on,wait=off",
                      "-device", f"virtserialport,chardev=agent{number},name=lab.{number}"]
        return [str(part) for part in ["qemu-system-x86_64", *hardware, *self.disks(), *ports, *self.extra]]

    def disks(self):
        payload = ["-drive", f"if=none,id=payload,format=raw,readonly=on,file={self.lab.payload}"]
        devices = ["-device", "virtio-blk-pci,drive=root", "-device", "virtio-blk-pci,drive=payload"]
        if not self.power_cuts:
            return ["-drive", f"if=none,id=root,format=raw,snapshot=on,file={self.lab.image / 'disk.raw'}", *payload, *devices]
        # The disk itself stays as it is until `settle`; the guest sees what it wrote in the overlay.
        overlay, log = self.directory / "overlay.qcow2", self.directory / "writes.log"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", self.disk, overlay], check=True)
        log.unlink(missing_ok=True)
        log.touch()
        return ["-blockdev", f"driver=file,node-name=overlay-file,filename={overlay},cache.no-flush=on",
                "-blockdev", "driver=qcow2,node-name=overlay,file=overlay-file",
                "-blockdev", f"driver=file,node-name=log,filename={log},cache.no-flush=on",
                "-blockdev", f"driver=blklogwrites,node-name=root,file=overlay,log=log,log-sector-size={disk.SECTOR}",
                *payload, *devices]

    def pull_the_plug(self, seed):
        """The power goes: of what the disk had not been told to flush, chance decides. The next start finds it."""
        self.process.kill()
        self.process.wait()
        return disk.settle(self.disk, self.directory / "writes.log", random.Random(seed))

    def reset(self):
        """Press the reset button and wait for the new boot."""
        began = time.monotonic()
        self.monitor("system_reset")
        self.wait_boot(began)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.lab.network.path(self.name).unlink(missing_ok=True)

    def monitor(self, command, **arguments):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.directory / "qmp.sock"))
            lines = connection.makefile("rw")
            lines.readline()
            for request in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
                lines.write(json.dumps(request) + "\n")
                lines.flush()
                answer = {}
                while not answer.keys() & {"return", "error"}:
                    answer = json.loads(lines.readline())
                if "error" in answer:
                    raise RuntimeError(f"{self.name}: {command}: {answer['error']['desc']}")

    def wait_boot(self, began):
        ports = [self.ports.get() for _ in range(image.PORTS)]
        for port in ports:
            port.wait_ready(began + BOOT)
            self.ports.put(port)
        self.run("systemctl is-system-running --wait", check=False, timeout=BOOT)
        took = time.monotonic() - began
        print(f"lab: {self.name} is up after {took:.0f} s", flush=True)
        if self.lab.short and took > BEARABLE:
            raise TooSlow(f"a virtual machine boots in {took:.0f} s here")

    # ---- commands

    def run(self, command, check=True, timeout=300):
        """The output of a shell command. With check=False: (exit code, output)."""
        port = self.ports.get()
        try:
            code, output = port.run(next(self.ports_ids()), command, timeout)
        finally:
            self.ports.put(port)
        if not check:
            return code, output
        if code != 0:
            raise Failed(f"{self.name}: {command}: exit code {code}\n{output}")
        return output

    def ports_ids(self):
        return self.ids

    def write(self, path, text):
        self.run(f"mkdir -p $(dirname {path}); base64 -d >{path} <<<{base64.b64encode(text.encode()).decode()}")

    def console(self):
        return (self.directory / "console.log").read_text(errors="replace")


class Port:
    """One of the guest's serial ports; one command at a time."""

    def __init__(self, machine, number):
        self.machine = machine
        path = str(machine.directory / f"agent{number}.sock")
        self.connection = socket.socket(socket.AF_UNIX)
        deadline = time.monotonic() + 30
        while True:
            try:
                self.connection.connect(path)
                break
            except OSError:
                if machine.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"qemu does not start:\n{(machine.directory / 'qemu.log').read_text()[-2000:]}") from None
                time.sleep(0.05)
        self.lines = self.connection.makefile("rb")

    def line(self, deadline):
        self.connection.settimeout(max(1, deadline - time.monotonic()))
        try:
            line = self.lines.readline()
        except TimeoutError:
            raise Failed(f"{self.machine.name} does not answer; its console ends:\n{self.machine.console()[-2000:]}") from None
        if not line:
            raise Failed(f"{self.machine.name} is off")
        return line.decode().split()

    def wait_ready(self, deadline):
        while self.line(deadline) != ["ready"]:
            pass

    def run(self, identifier, command, timeout):
        wrapped = f"timeout -k 5 {timeout} bash -c {shell_quote(command)}"
        line = f"{identifier} {base64.b64encode(wrapped.encode()).decode()}\n"
        self.connection.settimeout(60)
        self.connection.sendall(line.encode())
        deadline = time.monotonic() + timeout + 60
        while True:
            answer = self.line(deadline)
            if answer[:1] == [str(identifier)]:
                output = base64.b64decode(answer[2]).decode(errors="replace") if len(answer) > 2 else ""
                return int(answer[1]), output


def end_with_parent():
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def shell_quote(text):
    return "'" + text.replace("'", "'\\''") + "'"
