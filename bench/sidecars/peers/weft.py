"""Weft with a control plane, join tokens and identities; metrics are on, as always.

    pod A: load, sidecar      pod B: sidecar, application
        \\_ 10.99.2.0/24 _ pod C: control plane _ 10.99.3.0/24 _/

The control plane is in a pod of its own, whose CPU time is nobody's. It serves a folder of objects. In transparent mode
both pods have the rules of `weft proxy init`, and the load dials the service's cluster address; nothing says which
protocol the HTTP ports speak, so it is detected. In explicit mode the load dials a local port for each path.

Key exchange and resumption are what Weft does by itself (X25519MLKEM768 first; sessions are resumed), but for the paths
that are about them: the sidecars are started anew for these. A path with a handshake for every request is one of
opaque connections that the load closes, since Weft keeps the connections that requests have used.
"""

import http.client
import os
import subprocess

from sidecars import outputs
from sidecars.bed import ADDRESS_B, BULK, HTTP, HTTP2, HTTP_OPAQUE, wait_until
from sidecars.namespaces import command
from sidecars.peers.peer import PATHS, POST_QUANTUM, STARTS_WITHIN, Peer, first_line

CLUSTER_ADDRESS = "10.98.0.10"
# Whom the rules take for the sidecar.
USER = 4140
INBOUND_PORT = 4143
ADMIN_PORT = 4191
# The control plane's end and the sidecar's, for each side.
LINKS = {"A": ("10.99.2.1", "10.99.2.2"), "B": ("10.99.3.1", "10.99.3.2")}
DISCOVERY_PORT = 4480
# Services come in files of so many.
SERVICES_A_FILE = 500
LOADS_WITHIN = 120

OBJECTS = f"""apiVersion: weft.dev/v1alpha1
kind: MeshConfig
metadata: {{name: mesh}}
spec: {{addressRanges: [10.98.0.0/16, 10.99.0.0/16]}}
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: bench}}
spec:
  clusterIPs: [{CLUSTER_ADDRESS}]
  ports:
  - {{name: http, port: {HTTP}}}
  - {{name: http2, port: {HTTP2}}}
  - {{name: bulk, port: {BULK}, appProtocol: tcp}}
  - {{name: opaque, port: {HTTP_OPAQUE}, appProtocol: tcp}}
---
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {{name: web, namespace: bench}}
spec:
  service: web
  ports:
  - {{name: http, port: {HTTP}}}
  - {{name: http2, port: {HTTP2}}}
  - {{name: bulk, port: {BULK}, protocol: tcp}}
  - {{name: opaque, port: {HTTP_OPAQUE}, protocol: tcp}}
---
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {{name: load, namespace: bench}}
spec: {{}}
"""
APPLICATION_PORTS = {"http": HTTP, "http2": HTTP2, "bulk": BULK, "opaque": HTTP_OPAQUE}
WORKLOADS = {"A": "load", "B": "web"}


class Weft(Peer):
    """Weft in transparent mode on both sides."""

    name = "weft"
    grows = True
    interception = "transparent"

    @classmethod
    def missing(cls, programs):
        return None if programs.get("weft") else "WEFT names no program"

    @classmethod
    def version(cls, programs):
        return first_line(command(programs["weft"], "--version"))

    def paths(self):
        return list(PATHS)

    def options_for(self, name):
        path = next((path for path in PATHS if path.name == name), None)
        if not path or not (path.connection_per_request or path.name.startswith("connect")):
            return ()
        exchange = "post-quantum" if path.exchange == POST_QUANTUM else "classical"
        resumption = "false" if path.connection_per_request else "true"
        return ("--tls-key-exchange", exchange, "--tls-resumption", resumption)

    def closes(self, name):
        return name.startswith("handshake")

    def prepare(self):
        self.addresses = self.reached_at()
        self.services = 0
        self.bed.add_namespace("C")
        for side, (here, there) in LINKS.items():
            self.bed.namespaces["C"].join(self.bed.namespaces[side], f"pod{side.lower()}", here, "control", there)
        self.start_control_plane()
        self.redirect()

    def reached_at(self):
        """The address of each path, for the load."""
        return {path.name: (CLUSTER_ADDRESS, application(path)) for path in self.paths()}

    def redirect(self):
        """Loads the rules into both pods; they try themselves that connections are redirected."""
        for side in "AB":
            command(*self.bed.namespaces[side].enter(), self.programs["weft"], "proxy", "init")

    def start_control_plane(self):
        self.objects = self.bed.folder / "objects"
        self.bed.write("objects/mesh.yaml", OBJECTS)
        self.api = self.bed.folder / "api.sock"
        tokens = {name: self.bed.folder / f"{name}.token" for name in WORKLOADS.values()}
        words = [self.programs["weft"], "control-plane", "--state", self.bed.folder / "state", "--objects", self.objects,
                 "--api-socket", self.api, "--discovery-listen", f"0.0.0.0:{DISCOVERY_PORT}"]
        for here, _ in LINKS.values():
            words += ["--advertise", here]
        for name, file in tokens.items():
            words += ["--initial-token", f"bench/{name}={file}"]
        self.bed.spawn("C", "control-plane", words)
        files = [self.api, *tokens.values()]
        wait_until(lambda: all(file.exists() for file in files), STARTS_WITHIN, "the control plane is up")
        for file in tokens.values():
            os.chown(file, USER, USER)

    def spawn(self, side, workers, services):
        self.fill_mesh(services)
        words = [*self.sidecar(), "--interception", self.interception, "--workers", workers,
                 "--workload", f"bench/{WORKLOADS[side]}", "--token-file", self.bed.folder / f"{WORKLOADS[side]}.token",
                 "--control-plane", f"{LINKS[side][0]}:{DISCOVERY_PORT}", *self.options, *self.of_side(side)]
        return self.bed.spawn(side, f"{self.name}-{side}", words, user=USER)

    def sidecar(self):
        """The sidecar's own program; `weft proxy` is the same in a larger one, for who names no other."""
        alone = self.programs.get("weft-proxy")
        return [alone] if alone else [self.programs["weft"], "proxy"]

    def handshakes(self):
        return outputs.handshakes(self.bed.namespaces["A"].call(metrics))

    def of_side(self, side):
        """The settings that one side has."""
        if side == "A":
            return []
        served = [word for name, port in APPLICATION_PORTS.items() for word in ("--app-port", f"{name}={port}")]
        return [*served, "--inbound-advertise", f"{ADDRESS_B}:{INBOUND_PORT}"]

    def fill_mesh(self, services):
        """Makes so many further services of ten endpoints each known to the control plane, and no others."""
        if services == self.services:
            return
        for old in self.objects.glob("size-*.yaml"):
            old.unlink()
        for first in range(0, services, SERVICES_A_FILE):
            numbers = range(first, min(first + SERVICES_A_FILE, services))
            self.bed.write(f"objects/size-{first}.yaml", "---\n".join(map(service, numbers)))
        wait_until(lambda: self.known_services() == services, LOADS_WITHIN,
                   f"the control plane knows {services} services more", pause=0.5)
        self.services = services

    def known_services(self):
        words = [self.programs["weft"], "get", "workloads", "-n", "size", "--api", str(self.api)]
        asked = subprocess.run(words, capture_output=True, text=True)
        return sum(line.startswith("size-") for line in asked.stdout.splitlines())


class WeftExplicit(Weft):
    """Weft without redirection: the load dials a local port of sidecar A for each path."""

    name = "weft-explicit"
    interception = "explicit"

    def reached_at(self):
        return {path.name: ("127.0.0.1", path.client_port) for path in self.paths()}

    def redirect(self):
        pass

    def handshakes(self):
        return outputs.handshakes(self.bed.namespaces["A"].call(metrics))

    def of_side(self, side):
        if side == "B":
            return [*super().of_side(side), "--inbound-listen", f"0.0.0.0:{INBOUND_PORT}"]
        return [word for path in self.paths() for word in (
            "--upstream", f"127.0.0.1:{path.client_port}=web.bench:{application(path)}")]


def application(path):
    """Where the application listens for a path."""
    return HTTP_OPAQUE if path.connection_per_request else path.application


def metrics():
    """The text of a sidecar's metrics, in its pod."""
    connection = http.client.HTTPConnection("127.0.0.1", ADMIN_PORT, timeout=5)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def service(number):
    """A service whose ten endpoints nobody has."""
    addresses = ", ".join(f"{{address: 10.{100 + (number >> 8)}.{number & 255}.{host}}}" for host in range(1, 11))
    return f"""apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {{name: size-{number}, namespace: size}}
spec: {{service: size-{number}, port: 80, addresses: [{addresses}]}}
"""
