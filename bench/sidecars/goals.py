"""The rows of the table: which figures of which test, and what Weft is to reach. Pure.

A goal is a bound of a ratio to another peer within one run, or of a figure by itself. CPU figures are compared as the sum
of both sidecars.
"""

from dataclasses import dataclass

from sidecars import figures

HAPROXY, ENVOY, NGINX = "haproxy-h2", "envoy-h2", "nginx-h1"


@dataclass(frozen=True)
class Goal:
    """A bound of a figure, or, with a peer, of its ratio to that peer's."""

    key: str
    bound: float
    peer: str | None = None
    at_least: bool = False

    def __str__(self):
        return f"{'>=' if self.at_least else '<='} {self.bound:g}" + (f" x {self.peer}" if self.peer else "")

    def reached(self, rounds):
        """What Weft has reached over the rounds of a test's peers; None when that was not measured."""
        own = rounds.get("weft", [])
        if self.peer:
            return figures.spread(figures.ratios(own, rounds.get(self.peer, []), self.key))
        return figures.spread(list(figures.of(own, self.key).values()))

    def met(self, reached):
        return reached.median >= self.bound if self.at_least else reached.median <= self.bound


@dataclass(frozen=True)
class Row:
    """A line of the table: figures of one test, side by side in each cell, with so many decimals."""

    title: str
    test: str
    keys: tuple
    decimals: int
    goals: tuple = ()


def ratio(key, *bounds):
    """Goals against peers: a figure is at most so many times theirs."""
    return tuple(Goal(key, bound, peer) for bound, peer in bounds)


CPU, CPU_GB = ("a_us", "b_us"), ("a_s_gb", "b_s_gb")

ROWS = (
    Row("HTTP/1.1, 64 connections, closed loop, 1 KiB: CPU us a request", "h1", CPU, 1,
        ratio("us", (0.8, HAPROXY), (0.25, ENVOY))),
    Row("the same: requests/s", "h1", ("per_second",), 0),
    Row("HTTP/2, 10 x 32 streams: CPU us a request", "h2", CPU, 1, ratio("us", (0.8, HAPROXY), (0.22, ENVOY))),
    Row("the same: requests/s", "h2", ("per_second",), 0),
    Row("gRPC unary, 10 x 32 streams, 1 KiB: CPU us a request", "grpc", CPU, 1,
        ratio("us", (0.8, HAPROXY), (0.22, ENVOY))),
    Row("HTTP/1.1 at a constant rate: CPU us a request", "rate", CPU, 0, ratio("us", (0.8, NGINX), (0.32, ENVOY))),
    Row("the same: added latency, p50 us", "rate", ("added_p50",), 0, ratio("added_p50", (0.8, NGINX))),
    Row("the same: added latency, p99 us", "rate", ("added_p99",), 0, ratio("added_p99", (0.8, NGINX))),
    Row("10 MiB answers: CPU s/GB", "big", CPU_GB, 2, ratio("s_gb", (0.9, ENVOY))),
    Row("the same: Gbit/s", "big", ("gbit",), 2),
    Row("opaque TCP: Gbit/s", "opaque", ("gbit",), 2, (Goal("gbit", 1.1, ENVOY, at_least=True),)),
    Row("the same: CPU s/GB", "opaque", CPU_GB, 2, ratio("s_gb", (0.9, ENVOY))),
    Row("opaque TCP, small messages: CPU us a message", "opaque-small", CPU, 1, ratio("us", (0.6, ENVOY))),
    Row("new connections, X25519: CPU us each", "conn", CPU, 0, ratio("us", (0.25, ENVOY))),
    Row("new connections, X25519MLKEM768: CPU us each", "conn-pq", CPU, 0, ratio("us", (0.25, ENVOY))),
    Row("the same: share of sessions that were resumed", "conn-pq", ("resumed",), 2),
    Row("full handshakes, X25519: CPU us each", "hs", CPU, 0, ratio("us", (0.85, ENVOY))),
    Row("full handshakes, X25519MLKEM768: CPU us each", "hs-pq", CPU, 0, ratio("us", (0.85, ENVOY))),
    Row("HTTP/1.1, no body: CPU us a request", "body-0", CPU, 1, ratio("us", (0.8, HAPROXY), (0.25, ENVOY))),
    Row("HTTP/1.1, 100 B: CPU us a request", "body-100", CPU, 1, ratio("us", (0.8, HAPROXY), (0.25, ENVOY))),
    Row("HTTP/1.1, 10 KiB: CPU us a request", "body-10k", CPU, 1, ratio("us", (0.8, HAPROXY), (0.25, ENVOY))),
    Row("HTTP/1.1, 100 KiB: CPU us a request", "body-100k", CPU, 0, ratio("us", (0.8, HAPROXY), (0.25, ENVOY))),
    Row("memory after one request, MiB", "memory", ("a_mib", "b_mib"), 1, (Goal("a_mib", 10),)),
    Row("KiB an idle connection", "memory", ("a_kib_connection", "b_kib_connection"), 1, (Goal("a_kib_connection", 1.5),)),
    Row("1,000 services x 10 endpoints in the mesh: MiB more", "mesh-1000", ("growth_mib",), 2, (Goal("growth_mib", 1),)),
    Row("10,000 services x 10 endpoints: MiB more", "mesh-10000", ("growth_mib",), 2, (Goal("growth_mib", 1),)),
    Row("the same: CPU us of A a request, without them / with them", "mesh-10000", ("empty_us", "us"), 1),
    Row("start to first answer, ms", "start", ("ms",), 0, (Goal("ms", 25),)),
    Row("system calls a request, HTTP/1.1 closed loop", "syscalls", ("a_calls", "b_calls"), 2,
        (Goal("a_calls", 2.3), Goal("b_calls", 2.3))),
    Row("system calls a request, HTTP/2", "syscalls-h2", ("a_calls", "b_calls"), 2),
    Row("system calls a request at a constant rate", "syscalls-rate", ("a_calls", "b_calls"), 2),
    Row("two workers, HTTP/1.1, 128 connections: requests/s", "workers-2", ("per_second",), 0),
    Row("the same: busiest worker of A to their mean (1 is even)", "workers-2", ("imbalance",), 2),
    Row("four workers, HTTP/1.1, 128 connections: requests/s", "workers-4", ("per_second",), 0),
    Row("the same: busiest worker of A to their mean (1 is even)", "workers-4", ("imbalance",), 2),
    Row("no traffic: CPU %", "idle", ("a_percent", "b_percent"), 2),
)
