"""The tests of what a sidecar holds and how fast it is there: memory, idle connections, size of the mesh, start."""

import re
import socket
import time

from sidecars import cost
from sidecars.bed import answers, wait_until

# Until what a start or a burst has left behind is given back.
SETTLES_WITHIN = 2


def memory(peer, settings):
    """MiB after one request, and KiB for each idle connection of a client that has had one answer."""
    peer.restart()
    time.sleep(SETTLES_WITHIN)
    before = peer.a.memory(), peer.b.memory()
    clients = peer.bed.namespaces["A"].call(lambda: idle_clients(peer.http, settings.connections))
    time.sleep(SETTLES_WITHIN)
    during = peer.a.memory(), peer.b.memory()
    for client in clients:
        client.close()
    time.sleep(SETTLES_WITHIN)
    after = peer.a.memory(), peer.b.memory()
    figures = {}
    for side, one, two, three in zip("ab", before, during, after):
        figures |= {f"{side}_mib": one.rss / 1024, f"{side}_pss_mib": one.pss / 1024,
                    f"{side}_kib_connection": (two.rss - one.rss) / settings.connections,
                    f"{side}_mib_after": three.rss / 1024}
    return figures


def idle_clients(address, count):
    """So many connections, each with one request done."""
    request = f"GET / HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\n\r\n".encode()
    clients = []
    for _ in range(count):
        client = socket.create_connection(address, 5)
        client.settimeout(5)
        client.sendall(request)
        read_answer(client)
        clients.append(client)
    return clients


def read_answer(client):
    """Reads one answer to its end, which its Content-Length tells."""
    got = b""
    while b"\r\n\r\n" not in got:
        got += some(client)
    head, _, body = got.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: *(\d+)", head, re.I)
    if not head.startswith(b"HTTP/1.1 200") or not length:
        raise ConnectionError(f"an answer is not a 200 of known length: {head!r}")
    while len(body) < int(length[1]):
        body += some(client)


def some(client):
    got = client.recv(65536)
    if not got:
        raise ConnectionError("the sidecar has closed a connection that was to stay idle")
    return got


def start(peer, settings):
    """Milliseconds from exec of sidecar A to the first 200, with B and the control plane warm."""
    peer.bed.end(peer.a)
    time.sleep(0.3)
    began = time.monotonic()
    peer.a = peer.spawn("A", 1, 0)
    inside = peer.bed.namespaces["A"]
    inside.call(lambda: wait_until(lambda: answers(peer.http), 20, f"{peer.name} answers", pause=0.001))
    return {"ms": (time.monotonic() - began) * 1e3}


def mesh(services):
    """MiB that so many further services in the mesh, of ten endpoints each, cost sidecar A; and what a request costs."""

    def measure(peer, settings):
        empty, full = {}, {}
        for figures, size in ((empty, 0), (full, services)):
            peer.start_client(size)
            time.sleep(SETTLES_WITHIN)
            figures["mib"] = peer.a.memory().rss / 1024
            figures |= cost.http1(peer, settings)
        peer.start_client(0)
        return {"empty_mib": empty["mib"], "mib": full["mib"], "growth_mib": full["mib"] - empty["mib"],
                "empty_us": empty.get("a_us"), "us": full.get("a_us")}

    return measure
