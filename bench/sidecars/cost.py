"""The tests of cost: a load runs, and the CPU time that it takes of each sidecar is divided by the work done.

Figures of a round: `a_us` and `b_us`, microseconds of CPU a request of sidecar A and B (`us`: of both), of which `_user`
and `_system`; per GB of bytes they are `a_s_gb`, `b_s_gb`, `s_gb`, in seconds; `per_second`, requests a second.
"""

import time

from sidecars import loads
from sidecars.bed import BODIES, GRPC_MESSAGE, GRPC_PATH

KEEP_ALIVE_CONNECTIONS = 64
NEW_CONNECTIONS = 16
WORKER_CONNECTIONS = 128


def during(peer, load):
    """Runs a load; its figures, with the CPU seconds of both sidecars meanwhile."""
    sidecars = {"a": peer.a, "b": peer.b} if peer.proxies else {}
    before, began = {side: sidecar.cpu() for side, sidecar in sidecars.items()}, time.monotonic()
    figures = load()
    figures["seconds"] = time.monotonic() - began
    for side, sidecar in sidecars.items():
        used = sidecar.cpu() - before[side]
        figures |= {f"{side}_user_s": used.user, f"{side}_system_s": used.system}
    return figures


def per(figures, work, suffix, scale):
    """Adds what a unit of work costs on each side, and on both."""
    if "a_user_s" not in figures or not work:
        return figures
    for side in "ab":
        user, system = (figures[f"{side}_{kind}_s"] * scale / work for kind in ("user", "system"))
        figures |= {f"{side}_{suffix}": user + system, f"{side}_{suffix}_user": user, f"{side}_{suffix}_system": system}
    figures[suffix] = figures[f"a_{suffix}"] + figures[f"b_{suffix}"]
    return figures


def per_request(peer, load):
    figures = during(peer, load)
    return per(figures, figures.get("requests"), "us", 1e6)


def http1(peer, settings, body="/"):
    """HTTP/1.1, connections that stay, closed loop."""
    return closed_loop(peer, "http1", settings, KEEP_ALIVE_CONNECTIONS, body)


def http1_workers(peer, settings):
    """The same on more connections, and how evenly the workers shared it."""
    before = peer.a.thread_seconds()
    figures = closed_loop(peer, "http1", settings, WORKER_CONNECTIONS)
    after = peer.a.thread_seconds()
    spent = sorted((after[thread] - before.get(thread, 0) for thread in after), reverse=True)[:settings.workers]
    # 1 when all workers did the same, the number of workers when one did it all.
    figures["imbalance"] = spent[0] * len(spent) / sum(spent) if sum(spent) else 0
    return figures


def closed_loop(peer, path, settings, connections, body="/", close=False):
    address = peer.addresses[path]
    return per_request(peer, lambda: loads.wrk(peer.bed, address, settings.seconds, connections, body, close))


def http2(peer, settings):
    """HTTP/2, streams on few connections, closed loop."""
    return per_request(peer, lambda: loads.h2load(peer.bed, peer.addresses["http2"], settings.seconds))


def grpc(peer, settings):
    """gRPC, a unary call with a message of 1 KiB each way; a failed call has no message in its answer."""
    arguments = ["-d", peer.bed.folder / "grpc-request", "-H", "content-type: application/grpc", "-H", "te: trailers"]
    return per_request(peer, lambda: loads.h2load(
        peer.bed, peer.addresses["grpc"], settings.seconds, GRPC_PATH, arguments, len(GRPC_MESSAGE)))


def rate(peer, settings):
    """HTTP/1.1 at a constant rate: cost and latency."""
    return per_request(peer, lambda: loads.openloop(peer.bed, peer.addresses["http1"], settings.seconds, settings.rate))


def big(peer, settings):
    """Answers of 10 MiB on four connections."""
    figures = during(peer, lambda: loads.wrk(peer.bed, peer.addresses["http1"], settings.seconds, 4, "/10m"))
    figures["bytes"] = figures.get("requests", 0) * BODIES["/10m"]
    figures["gbit"] = figures.get("per_second", 0) * BODIES["/10m"] * 8 / 1e9
    return per(figures, figures["bytes"], "s_gb", 1e9)


def opaque(peer, settings):
    """Bytes through the opaque path, as many as go."""
    figures = during(peer, lambda: loads.iperf3(peer.bed, peer.addresses["opaque"], settings.seconds))
    return per(figures, figures.get("bytes"), "s_gb", 1e9)


def opaque_small(peer, settings):
    """Small messages through the opaque path: HTTP/1.1 that the sidecars do not look into."""
    return closed_loop(peer, "opaque-http", settings, KEEP_ALIVE_CONNECTIONS)


def new_connections(path):
    """A new connection of the client through the opaque path for each request."""

    def measure(peer, settings):
        before = peer.handshakes()
        figures = closed_loop(peer, path, settings, NEW_CONNECTIONS, close=True)
        made = {kind: count - before.get(kind, 0) for kind, count in peer.handshakes().items()}
        if sum(made.values()):
            figures["resumed"] = made.get("resumed", 0) / sum(made.values())
        return figures

    return measure


def handshakes(path):
    """A full handshake between the sidecars for each request; the client's connections stay where they can."""
    return lambda peer, settings: closed_loop(peer, path, settings, NEW_CONNECTIONS, close=peer.closes(path))


def idle(peer, settings):
    """No traffic at all: CPU in percent of one core."""
    figures = during(peer, lambda: time.sleep(settings.seconds) or {})
    for side in "ab":
        used = figures[f"{side}_user_s"] + figures[f"{side}_system_s"]
        figures[f"{side}_percent"] = used * 100 / figures["seconds"]
    return figures


def body(path):
    """HTTP/1.1 with answers of another size."""
    return lambda peer, settings: http1(peer, settings, path)
