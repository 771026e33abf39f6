"""The tests of system calls: how many each sidecar makes for a request, and which.

Counted by the kernel's tracepoints (`perf stat`), which slow a sidecar little. Where those are not to be had, by
`strace`, which slows it much, so that it batches more than it would: the figures say `counted_by`.
"""

import functools
import os
import re
import signal
import subprocess

from sidecars import cost, outputs
from sidecars.bed import wait_until
from sidecars.process import read

CALLS = ("read readv write writev recvfrom recvmsg sendto sendmsg sendfile64 splice epoll_wait epoll_pwait epoll_ctl futex "
         "timerfd_settime accept4 connect close socket shutdown setsockopt getsockopt io_uring_enter").split()
SHOWN = 10


@functools.cache
def perf_works():
    """Whether tracepoints of system calls can be counted here."""
    try:
        tried = subprocess.run(["perf", "stat", "-e", "raw_syscalls:sys_enter", "true"], capture_output=True, text=True)
    except FileNotFoundError:
        return False
    return tried.returncode == 0 and "raw_syscalls:sys_enter" in tried.stderr


def under(load):
    """System calls for each request under a load."""

    def measure(peer, settings):
        counter, counts_in = (perf, outputs.perf) if perf_works() else (strace, outputs.strace)
        counters = [counter(peer.bed, side, sidecar) for side, sidecar in zip("ab", (peer.a, peer.b))]
        try:
            figures = load(peer, settings)
        finally:
            texts = [stop(popen, output) for popen, output in counters]
        return {**shares(figures, map(counts_in, texts)), "counted_by": counter.__name__}

    return measure


def shares(figures, counts):
    """The figures of a load without its cost, which counting changes, and the calls of both sidecars for each request."""
    kept = {key: figures[key] for key in ("requests", "per_second", "error") if key in figures}
    if not kept.get("requests"):
        return kept
    for side, counted in zip("ab", counts):
        by_call = {call: round(count / kept["requests"], 3) for call, count in counted.items() if count}
        kept[f"{side}_calls"] = by_call.pop("all", 0)
        kept[f"{side}_by_call"] = dict(sorted(by_call.items(), key=lambda share: -share[1])[:SHOWN])
    return kept


def perf(bed, side, sidecar):
    """Starts counting; the counter, and the file that it will have written."""
    known = [call for call in CALLS if os.path.exists(f"/sys/kernel/tracing/events/syscalls/sys_enter_{call}")]
    events = ",".join(["raw_syscalls:sys_enter", *(f"syscalls:sys_enter_{call}" for call in known)])
    output = bed.folder / f"perf.{side}"
    pids = ",".join(map(str, sidecar.tree()))
    popen = spawn("perf", "stat", "--field-separator", ",", "--output", output, "-e", events, "-p", pids)
    # It says nothing when it has begun: its counters are descriptors that it has opened by then.
    wait_until(lambda: counting(popen.pid), 10, "perf counts")
    return popen, output


def counting(pid):
    try:
        opened = [os.readlink(f"/proc/{pid}/fd/{descriptor}") for descriptor in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        return False
    return sum("perf_event" in name for name in opened) >= len(CALLS) // 2


def strace(bed, side, sidecar):
    """The same, by `strace`."""
    output = bed.folder / f"strace.{side}"
    pids = [word for pid in sidecar.tree() for word in ("-p", str(pid))]
    popen = spawn("strace", "-f", "--summary-only", "--output", output, *pids)
    traced = f"/proc/{sidecar.tree()[-1]}/status"
    wait_until(lambda: re.search(r"^TracerPid:\s+[1-9]", read(traced), re.M), 10, "strace counts")
    return popen, output


def spawn(*words):
    return subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *map(str, words)], stdin=subprocess.DEVNULL,
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def stop(popen, output):
    popen.send_signal(signal.SIGINT)
    popen.wait()
    return output.read_text()


http1, http2, rate = under(cost.http1), under(cost.http2), under(cost.rate)
