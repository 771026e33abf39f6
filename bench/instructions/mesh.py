"""A mesh of two sidecars on this machine, both under callgrind: load -> A -> mutual TLS -> B -> application.

The control plane is not measured, and may be a build without optimisation. Of a sidecar only its worker's thread is
counted: what runs beside it (discovery, the admin port) follows the clock, not the requests.
"""

import contextlib
import os
import socket
import subprocess
import tempfile
from pathlib import Path

from instructions import callgrind
from instructions.application import Application
from sidecars import process
from sidecars.bed import wait_until

# Valgrind makes the start fifty times as long.
STARTS_WITHIN = 120
SERVICE = "web.bench"
WORKLOADS = {"A": "load", "B": "web"}
# Ports have no application of their own to look for at the start; it listens already.
COMMON = ["--workers", "1", "--app-probe", "none"]


class Mesh:
    """The processes; `close` ends them."""

    def __init__(self, sidecar, control_plane, environment):
        self.sidecar, self.control_plane, self.environment = sidecar, control_plane, environment
        self.ends = contextlib.ExitStack()
        self.sidecars = {}

    def start(self):
        self.folder = Path(self.ends.enter_context(tempfile.TemporaryDirectory(prefix="weft-count-")))
        self.application = Application()
        self.ends.callback(self.application.close)
        self.ports = self.application.ports
        self.discovery = free_port()
        self.upstreams = {name: free_port() for name in self.ports}
        self.start_control_plane()
        self.start_sidecar("B", [word for name, port in self.ports.items() for word in ("--app-port", f"{name}={port}")])
        self.start_sidecar("A", [word for name, port in self.ports.items() for word in (
            "--upstream", f"127.0.0.1:{self.upstreams[name]}={self.authority(name)}")])

    def close(self):
        self.ends.close()

    def authority(self, name):
        return f"{SERVICE}:{self.ports[name]}"

    def start_control_plane(self):
        objects = self.folder / "objects"
        objects.mkdir()
        (objects / "mesh.yaml").write_text(objects_of(self.ports))
        words = [self.control_plane, "control-plane", "--state", self.folder / "state", "--objects", objects,
                 "--api-socket", self.folder / "api.sock", "--discovery-listen", f"127.0.0.1:{self.discovery}"]
        for name in WORKLOADS.values():
            words += ["--initial-token", f"bench/{name}={self.folder / name}.token"]
        self.spawn("control-plane", words)
        tokens = [Path(f"{self.folder / name}.token") for name in WORKLOADS.values()]
        self.wait(lambda: all(token.exists() for token in tokens), "the control plane is up")

    def start_sidecar(self, side, further):
        admin, name = free_port(), WORKLOADS[side]
        listen = [word for kind in ("inbound", "outbound") for word in (f"--{kind}-listen", f"127.0.0.1:{free_port()}")]
        valgrind = callgrind.command(self.folder / f"{side}.out", "--separate-threads=yes", self.pipes())
        self.sidecars[side] = self.spawn(f"sidecar-{side}", [
            *valgrind, self.sidecar, *COMMON, "--workload", f"bench/{name}", "--token-file", f"{self.folder / name}.token",
            "--control-plane", f"127.0.0.1:{self.discovery}", "--admin-listen", f"127.0.0.1:{admin}",
            *listen, *further])
        self.wait(lambda: is_ready(admin), f"sidecar {side} is ready")

    def spawn(self, name, words):
        started = process.start(name, [str(word) for word in words], self.folder / f"{name}.log", env=self.environment)
        self.ends.callback(started.kill)
        return started

    def wait(self, condition, what):
        try:
            wait_until(condition, STARTS_WITHIN, what)
        except TimeoutError as error:
            raise callgrind.NotCounted(f"{error}\n{self.logs()}") from None

    def logs(self):
        """The end of what each program has written, for an error."""
        return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-600:]}" for log in self.folder.glob("*.log"))

    def forget(self):
        """Counting begins anew on both sides."""
        for side in self.sidecars:
            self.tell(side, "zero")

    def counted(self, side):
        """Instructions of the worker by function since counting began."""
        self.tell(side, "dump")
        dumps = list(self.folder.glob(f"{side}.out.*"))
        threads = [callgrind.costs(dump.read_text()) for dump in dumps]
        for dump in dumps:
            dump.unlink()
        # The others do next to nothing meanwhile.
        return max(threads, key=lambda counts: counts.total())

    def pipes(self):
        """Where valgrind hears from vgdb: a killed one leaves its pipes behind."""
        return f"--vgdb-prefix={self.folder}/vgdb"

    def tell(self, side, word):
        pid = self.sidecars[side].popen.pid
        subprocess.run(["vgdb", self.pipes(), f"--pid={pid}", word], check=True, capture_output=True, timeout=STARTS_WITHIN)


def objects_of(ports):
    served = "\n".join(f"  - {{name: {name}, port: {port}{', protocol: tcp' if name == 'tcp' else ''}}}"
                       for name, port in ports.items())
    return f"""apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {{name: web, namespace: bench}}
spec:
  service: web
  ports:
{served}
---
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {{name: load, namespace: bench}}
spec: {{}}
"""


def free_port(given=set()):  # noqa: B006  what was given out is remembered on purpose
    """A port of loopback that nobody listens on, never the same twice."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        if port not in given:
            given.add(port)
            return port


def is_ready(admin):
    try:
        with socket.create_connection(("127.0.0.1", admin), timeout=5) as connection:
            connection.sendall(b"GET /ready HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")
            return connection.recv(100).startswith(b"HTTP/1.1 200 ")
    except OSError:
        return False
