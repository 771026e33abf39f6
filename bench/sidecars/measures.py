"""The tests, by name: what each measures, on which path, and how often it pays to repeat it."""

from collections.abc import Callable
from dataclasses import dataclass

from sidecars import cost, holding, syscalls


@dataclass(frozen=True)
class Test:
    """One test. `measure(peer, settings)` gives the figures of one round."""

    measure: Callable
    what: str
    # The path that a peer must have for it; None: any.
    path: str | None = "http1"
    # A first pass fills pools and caches, and is not kept.
    warms_up: bool = True
    # Workers of each sidecar.
    workers: int = 1
    # Also without a sidecar.
    direct: bool = True
    # Only for those to whom further services can be made known.
    grows: bool = False
    most_rounds: int = 1000


def holds(measure, what, **others):
    """A test that starts sidecars itself."""
    return Test(measure, what, path=None, warms_up=False, direct=False, **others)


TESTS = {
    "h1": Test(cost.http1, "HTTP/1.1, 64 connections, closed loop, 1 KiB"),
    "h2": Test(cost.http2, "HTTP/2, 10 x 32 streams, closed loop, 1 KiB", path="http2"),
    "grpc": Test(cost.grpc, "gRPC unary, 10 x 32 streams, 1 KiB each way", path="grpc"),
    "rate": Test(cost.rate, "HTTP/1.1 at a constant rate, 1 KiB"),
    "big": Test(cost.big, "answers of 10 MiB, 4 connections"),
    "opaque": Test(cost.opaque, "opaque TCP, iperf3", path="opaque"),
    "opaque-small": Test(cost.opaque_small, "opaque TCP, small messages, 64 connections", path="opaque-http"),
    "conn": Test(cost.new_connections("connect"), "a new client connection for each request, opaque, X25519",
                 path="connect"),
    "conn-pq": Test(cost.new_connections("connect-pq"), "the same, X25519MLKEM768", path="connect-pq"),
    "hs": Test(cost.handshakes("handshake"), "a full handshake for each request, X25519", path="handshake"),
    "hs-pq": Test(cost.handshakes("handshake-pq"), "the same, X25519MLKEM768", path="handshake-pq"),
    "body-0": Test(cost.body("/0"), "HTTP/1.1, 64 connections, closed loop, no body"),
    "body-100": Test(cost.body("/100"), "the same, 100 B"),
    "body-10k": Test(cost.body("/10k"), "the same, 10 KiB"),
    "body-100k": Test(cost.body("/100k"), "the same, 100 KiB"),
    "workers-2": Test(cost.http1_workers, "HTTP/1.1, 128 connections, two workers", direct=False, workers=2),
    "workers-4": Test(cost.http1_workers, "HTTP/1.1, 128 connections, four workers", direct=False, workers=4),
    "syscalls": Test(syscalls.http1, "system calls for each request of h1", direct=False),
    "syscalls-h2": Test(syscalls.http2, "system calls for each request of h2", path="http2", direct=False),
    "syscalls-rate": Test(syscalls.rate, "system calls for each request of rate", direct=False),
    "idle": Test(cost.idle, "CPU without traffic", path=None, warms_up=False, direct=False, most_rounds=3),
    "memory": holds(holding.memory, "memory after one request, and for each idle connection"),
    "start": holds(holding.start, "from exec of A to the first 200"),
    "mesh-1000": holds(holding.mesh(1000), "memory with 1,000 services x 10 endpoints in the mesh", grows=True,
                       most_rounds=3),
    "mesh-10000": holds(holding.mesh(10_000), "memory with 10,000 services x 10 endpoints in the mesh", grows=True,
                        most_rounds=2),
}
QUICK = ("h1", "h2", "rate", "opaque")


def fits(test, peer):
    """Whether a peer has what a test needs."""
    if not peer.proxies and not test.direct:
        return False
    if test.grows and not peer.grows:
        return False
    return test.path is None or any(path.name == test.path for path in peer.paths())
