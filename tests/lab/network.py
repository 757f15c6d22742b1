"""The machines' Ethernet: a switch in this process, whose cables can be cut, and an outside machine on it.

The outside is a network namespace of the host without a route to anything else, with a tap device on the
switch: kubectl and curl run there at the host's speed, as a user's would.
"""
import fcntl
import os
import selectors
import socket
import struct
import subprocess
import threading

NETWORK = "10.78.0"
OUTSIDE = f"{NETWORK}.1"
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000


class Network:
    def __init__(self, directory):
        self.directory = directory
        self.cuts = set()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(directory / "switch"))
        # A shell that ends with this process keeps the namespace.
        self.holder = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        self.tap = self.open_tap()
        for command in ("ip link set lo up", f"ip address add {OUTSIDE}/24 dev outside", "ip link set outside up"):
            subprocess.run(self.command(command.split()), check=True)
        threading.Thread(target=self.switch, daemon=True).start()

    def close(self):
        self.holder.stdin.close()
        self.holder.wait()

    def command(self, command):
        """The command, to be run on the outside machine."""
        return ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net", *command]

    def open_tap(self):
        result = []

        def inside():
            # A thread has a network namespace of its own.
            own = os.readlink("/proc/self/ns/net")
            while os.readlink(f"/proc/{self.holder.pid}/ns/net") == own:
                if self.holder.poll() is not None:
                    return
            with open(f"/proc/{self.holder.pid}/ns/net") as namespace:
                if libc_setns(namespace.fileno()) != 0:
                    return
            tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH14x", b"outside", IFF_TAP | IFF_NO_PI))
            result.append(tap)

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        if not result:
            raise RuntimeError("cannot make a network namespace with a tap device in it")
        return result[0]

    def path(self, name):
        return self.directory / f"{name}.link"

    def cut(self, *names):
        """Drop silently what goes between two machines (`outside` is one), or from and to a single one."""
        self.cuts.add(frozenset(names))

    def join(self, *names):
        self.cuts.discard(frozenset(names))

    def passes(self, source, target):
        return not self.cuts & {frozenset((source, target)), frozenset((source,)), frozenset((target,))}

    def switch(self):
        waiting = selectors.DefaultSelector()
        self.socket.setblocking(False)
        waiting.register(self.socket, selectors.EVENT_READ)
        waiting.register(self.tap, selectors.EVENT_READ)
        while True:
            for key, _ in waiting.select():
                try:
                    if key.fileobj is self.socket:
                        frame, sender = self.socket.recvfrom(65536)
                        source = os.path.basename(sender or "").removesuffix(".link")
                    else:
                        frame, source = os.read(self.tap, 65536), "outside"
                except BlockingIOError:
                    continue
                self.forward(frame, source)

    def forward(self, frame, source):
        for link in self.directory.glob("*.link"):
            if link.stem != source and self.passes(source, link.stem):
                try:
                    self.socket.sendto(frame, str(link))
                except OSError:  # a full queue drops frames, and so does a machine that is off
                    pass
        if source != "outside" and self.passes(source, "outside"):
            try:
                os.write(self.tap, frame)
            except OSError:
                pass


def libc_setns(descriptor):
    import ctypes
    return ctypes.CDLL(None, use_errno=True).setns(descriptor, 0x40000000)
