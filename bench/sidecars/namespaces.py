"""Network namespaces that stand for pods: made, joined by veth pairs, entered, removed.

Nothing outside of them is touched: veth pairs are made inside, and no rule is loaded elsewhere. Their names hold the
number of the process that made them; what a killed run has left behind is removed by the next one.
"""

import ctypes
import os
import pathlib
import signal
import subprocess

PREFIX = "weftbench"
FOLDER = pathlib.Path("/run/netns")
CLONE_NEWNET = 0x40000000
C_LIBRARY = ctypes.CDLL(None, use_errno=True)

# As on a node of many connections. Ports and tracked connections that are done come back soon, so that a test of new
# connections measures those and not what the one before has left.
SETTINGS = ("net.ipv4.ip_local_port_range=1024 65000", "net.ipv4.tcp_tw_reuse=1", "net.core.somaxconn=8192",
            "net.netfilter.nf_conntrack_tcp_timeout_time_wait=5")

# Translation of addresses makes the kernel track every connection, as on a node of a mesh: all sidecars pay for it.
TRACKING = """table ip bench {
    chain outgoing { type nat hook output priority -100; policy accept; }
    chain incoming { type nat hook prerouting priority -100; policy accept; }
}"""


class Namespace:
    """One pod's network."""

    def __init__(self, label):
        self.name = f"{PREFIX}-{os.getpid()}-{label}"
        command("ip", "netns", "add", self.name)

    def configure(self):
        """Loopback, conntrack and the settings of a busy node."""
        self.ip("link set lo up")
        self.nft(TRACKING)
        command(*self.enter(), "sysctl", "-qw", *SETTINGS)

    def enter(self):
        """What a command is preceded by to run inside; it ends with this process."""
        return ["nsenter", f"--net={FOLDER / self.name}", "--", "setpriv", "--pdeathsig", "KILL"]

    def ip(self, arguments):
        command("ip", "-n", self.name, *arguments.split())

    def nft(self, rules):
        command(*self.enter(), "nft", "-f", "-", input=rules)

    def join(self, other, mine, here, theirs, there):
        """A veth pair to another namespace: names and addresses of both ends."""
        self.ip(f"link add {mine} type veth peer name {theirs} netns {other.name}")
        for end, device, address in ((self, mine, here), (other, theirs, there)):
            end.ip(f"addr add {address}/24 dev {device}")
            end.ip(f"link set {device} up")

    def call(self, function):
        """Calls a function in this thread with its network moved inside: the sockets that it makes are of here."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        inside = os.open(FOLDER / self.name, os.O_RDONLY)
        try:
            move(inside)
            return function()
        finally:
            move(before)
            os.close(before)
            os.close(inside)

    def remove(self):
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True)


def move(namespace):
    if C_LIBRARY.setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "the network namespace cannot be entered")


def remove_leftovers():
    """Ends what killed runs have left running in namespaces of theirs, and removes those."""
    for name in os.listdir(FOLDER) if FOLDER.exists() else []:
        owner = name.split("-")[1] if name.startswith(f"{PREFIX}-") else ""
        if not owner.isdigit() or pathlib.Path("/proc", owner).exists():
            continue
        inside = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout
        for pid in inside.split():
            os.kill(int(pid), signal.SIGKILL)
        subprocess.run(["ip", "netns", "del", name], capture_output=True)


def command(*words, **options):
    """Runs a command that must succeed; its output."""
    done = subprocess.run(words, text=True, capture_output=True, **options)
    if done.returncode:
        raise RuntimeError(f"`{' '.join(map(str, words))}` failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout
