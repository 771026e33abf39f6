"""What is counted, and how.

A message goes through two sidecars under callgrind, and each side's worker is a count. A step is a program of its own
(`bench/steps`). Both do a thing so often after a warm-up that what belongs to no single one does not matter.
"""

import functools
import subprocess
from dataclasses import dataclass

from instructions import callgrind, load
from instructions.mesh import Mesh

SIDES = {"A": "client's side", "B": "server's side"}


@dataclass(frozen=True)
class Message:
    """Something that goes through both sidecars and is answered."""

    name: str
    # The application's port.
    port: str
    # Makes the load's connection, of a port and an authority.
    connect: callable
    times: int


@dataclass(frozen=True)
class Step:
    """A program's step, counted by the difference of two runs: `fewer` times, and `times` more."""

    name: str
    word: str
    fewer: int
    times: int
    # A handshake is cryptography above all; everywhere else it would only drown what is ours.
    with_crypto: bool = False


MESSAGES = (
    # First, while the heap is as the start has left it: behind the others chance decides whether a buffer grows where it
    # lies or is copied.
    Message("1 MiB body", "http", functools.partial(load.Http1, path="/large"), 40),
    Message("HTTP/1.1 request", "http", load.Http1, 1000),
    Message("HTTP/2 request", "http2", load.Http2, 1000),
    Message("TCP chunk there and back", "tcp", load.Tcp, 1000),
)
STEPS = (
    Step("full handshake, both sides", "handshake-full", 5, 50, with_crypto=True),
    Step("resumed handshake, both sides", "handshake-resumed", 5, 50, with_crypto=True),
    Step("route among 1", "routes1", 1000, 10_000),
    Step("route among 100", "routes100", 1000, 10_000),
    # So often that what random hash seeds do to the making of the table does not show in its use.
    Step("route among 10,000", "routes10000", 1000, 50_000),
    Step("endpoint among 10", "pick10", 1000, 10_000),
    Step("endpoint among 10,000", "pick10000", 1000, 10_000),
    Step("metrics of a request", "metrics-record", 1000, 10_000),
)


def count(programs, say):
    """Instructions of each case, by name."""
    counts = {}
    mesh = Mesh(programs.sidecar, programs.control_plane, programs.environment)
    try:
        say("two sidecars start")
        mesh.start()
        for message in MESSAGES:
            say(message.name)
            try:
                counts |= through(mesh, message)
            except (OSError, subprocess.SubprocessError) as error:
                raise callgrind.NotCounted(f"{message.name}: {error}\n{mesh.logs()}") from error
    finally:
        mesh.close()
    for step in STEPS:
        say(step.name)
        counts[step.name] = difference(programs, step)
    return counts


def through(mesh, message):
    """One message's counts, one for each side."""
    connection = message.connect(mesh.upstreams[message.port], mesh.authority(message.port))
    try:
        for _ in range(warm_up(message.times)):
            connection.once()
        mesh.forget()
        for _ in range(message.times):
            connection.once()
        return {f"{message.name}, {name}": round(callgrind.instructions(mesh.counted(side), False) / message.times)
                for side, name in SIDES.items()}
    finally:
        connection.close()


def warm_up(times):
    """How many come before the count: connections are made, tables filled."""
    return max(times // 10, 5)


def difference(programs, step):
    """What a step costs once it has begun."""
    few, many = (callgrind.instructions(callgrind.run([programs.steps, step.word, times], programs.environment),
                                        step.with_crypto)
                 for times in (step.fewer, step.fewer + step.times))
    return round((many - few) / step.times)
