"""The load generators, run in pod A against an address. Each gives the figures that `outputs` reads from it."""

from sidecars import outputs

# A generator that has not ended so long after it should have, has hung.
GRACE = 30


def wrk(bed, address, seconds, connections, path="/", close=False):
    """HTTP/1.1 in a closed loop, over connections that stay or one for each request."""
    header = ["-H", "Connection: close"] if close else []
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", *header, url(address, path)]
    return outputs.wrk(bed.run(command, seconds + GRACE))


def h2load(bed, address, seconds, path="/", arguments=(), body=None):
    """HTTP/2 with prior knowledge, 32 requests at a time on each of 10 connections, in a closed loop."""
    command = ["h2load", "-t1", "-c10", "-m32", "-D", seconds, *arguments, url(address, path)]
    return outputs.h2load(bed.run(command, seconds + GRACE), body)


def iperf3(bed, address, seconds):
    """Bytes to the application, as many as go."""
    command = [bed.ground.programs["iperf3"], "-c", address[0], "-p", address[1], "-t", seconds, "--json",
               "--connect-timeout", 3000]
    return outputs.iperf3(bed.run(command, seconds + GRACE))


def openloop(bed, address, seconds, rate, connections=64):
    """HTTP/1.1 at a constant rate, after a second that does not count for latencies."""
    command = [bed.ground.programs["openloop"], *address, rate, seconds, connections]
    return outputs.openloop(bed.run(command, seconds + 1 + GRACE))


def url(address, path):
    return f"http://{address[0]}:{address[1]}{path}"
