"""The bed of one sidecar: two pods joined by a veth pair, and the application in the second.

    pod A, 10.99.1.1                            pod B, 10.99.1.2
    load -> sidecar A  == veth, mutual TLS ==>  sidecar B -> loopback -> nginx, iperf3

Each sidecar under test has a bed of its own, made alike, so that none needs ports or rules that another knows of.
Whatever a bed has made goes with `close`.
"""

import socket
import subprocess
import time

from sidecars import process
from sidecars.namespaces import Namespace

ADDRESS_A, ADDRESS_B = "10.99.1.1", "10.99.1.2"
# The application's ports. linkerd's and ztunnel's configurations name the same ports plus 100, redirected on their way in.
HTTP, BULK, HTTP2, HTTP_OPAQUE = 9080, 9081, 9082, 9083
SHIFTED = 100
# Bodies by path: `/` is 1 KiB.
BODIES = {"/": 1024, "/0": 0, "/100": 100, "/10k": 10 << 10, "/100k": 100 << 10, "/10m": 10 << 20}
GRPC_PATH = "/bench.Echo/Unary"
# A gRPC message of 1 KiB: not compressed, and its length.
GRPC_MESSAGE = b"\0" + (1024).to_bytes(4, "big") + b"x" * 1024


class Bed:
    """Two pods, and the application."""

    def __init__(self, name, ground):
        self.ground = ground
        self.name, self.folder = name, ground.folder / name
        self.namespaces, self.processes = {}, []

    def make(self):
        """Makes the pods, and starts the application. What a failure leaves half made goes with `close` too."""
        self.folder.mkdir(mode=0o755)
        for side in "AB":
            self.add_namespace(side)
        self.namespaces["A"].join(self.namespaces["B"], "eth0", ADDRESS_A, "eth0", ADDRESS_B)
        # Addresses of services lie outside the link: packets to them must have a way to be redirected.
        self.namespaces["A"].ip(f"route add default via {ADDRESS_B}")
        self.start_application()

    def add_namespace(self, side):
        """A further pod."""
        self.namespaces[side] = namespace = Namespace(f"{self.name}-{side.lower()}")
        namespace.configure()

    def write(self, name, content):
        """A file that every user may read; its path."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(0o644)
        return path

    def spawn(self, side, name, command, environment=None, user=None):
        """Starts a program in a pod; the bed ends it."""
        words = self.namespaces[side].enter()
        if user:
            words += [f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        started = process.start(name, [*words, *map(str, command)], self.folder / f"{name}.log",
                                env={**self.ground.environment, **(environment or {})}, cwd=self.folder)
        self.processes.append(started)
        return started

    def end(self, started):
        """Ends a program before the bed does."""
        started.kill()
        self.processes.remove(started)

    def run(self, command, seconds):
        """Runs a load generator in pod A, for so long at most; what it prints."""
        words = [*self.namespaces["A"].enter(), *map(str, command)]
        try:
            done = subprocess.run(words, text=True, capture_output=True, timeout=seconds, cwd=self.folder)
        except subprocess.TimeoutExpired:
            return f"{command[0]} had not ended after {seconds} s"
        return done.stdout + done.stderr

    def start_application(self):
        files = self.folder / "www"
        for path in ("/10k", "/100k", "/10m"):
            self.write(f"www{path}", bytes(BODIES[path]))
        self.write(f"www{GRPC_PATH}", GRPC_MESSAGE)
        self.write("grpc-request", GRPC_MESSAGE)
        configuration = self.write("application.conf", application(self.folder, files))
        self.spawn("B", "application", [self.ground.programs["nginx"], "-c", configuration, "-p", self.folder])
        for port in (BULK, BULK + SHIFTED):
            self.spawn("B", f"iperf3-{port}", [self.ground.programs["iperf3"], "-s", "-p", port])
        direct = self.namespaces["A"]
        wait_until(lambda: direct.call(lambda: answers((ADDRESS_B, HTTP))), 10, "the application answers")

    def close(self):
        for started in reversed(self.processes):
            started.kill()
        self.processes.clear()
        for namespace in self.namespaces.values():
            namespace.remove()


def application(folder, files):
    """nginx as the application: HTTP/1.1, HTTP/2 and gRPC (whose answer to the load is always the same message)."""
    shifted = {port: port + SHIFTED for port in (HTTP, HTTP_OPAQUE)}
    listens = " ".join(f"listen {port} backlog=4096; listen {other} backlog=4096;" for port, other in shifted.items())
    return f"""daemon off; worker_processes 1; user root; worker_rlimit_nofile 60000;
pid {folder}/application.pid; error_log {folder}/application.err crit;
events {{ worker_connections 20000; }}
http {{
    access_log off; sendfile on; tcp_nodelay on; server_tokens off; http2_max_concurrent_streams 1000;
    keepalive_requests 1000000000; keepalive_timeout 3600s; client_body_temp_path {folder}/application.body;
    server {{
        {listens}
        listen {HTTP2} http2 backlog=4096; listen {HTTP2 + SHIFTED} http2 backlog=4096;
        default_type text/plain; root {files};
        location = / {{ return 200 '{"x" * BODIES["/"]}'; }}
        location = /0 {{ return 200 ''; }}
        location = /100 {{ return 200 '{"x" * BODIES["/100"]}'; }}
        location = {GRPC_PATH} {{ default_type application/grpc; add_trailer grpc-status 0; error_page 405 =200 $uri; }}
    }}
}}
"""


def answers(address, timeout=3):
    """Whether a request gets a 200; of the network that this thread is in."""
    try:
        with socket.create_connection(address, timeout) as connection:
            connection.settimeout(timeout)
            connection.sendall(f"GET / HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\nConnection: close\r\n\r\n".encode())
            return connection.recv(16).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def wait_until(condition, seconds, what, pause=0.01):
    """Waits for a condition, for so long at most; how long it took, in seconds."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"waited {seconds} s in vain: {what}")
        time.sleep(pause)
    return time.monotonic() - began
