"""A program that was started for a run, with its children: what it costs, what it holds, and its end.

It reads /proc and sends signals to processes that the run itself has started, and to no other.
"""

import os
import pathlib
import re
import signal
import subprocess
from dataclasses import dataclass

TICKS = os.sysconf("SC_CLK_TCK")
LOG_TAIL = 600


@dataclass(frozen=True)
class Cpu:
    """Seconds of CPU time."""

    user: float
    system: float

    def __add__(self, other):
        return Cpu(self.user + other.user, self.system + other.system)

    def __sub__(self, other):
        return Cpu(self.user - other.user, self.system - other.system)

    @property
    def total(self):
        return self.user + self.system


@dataclass(frozen=True)
class Memory:
    """KiB that a process and its children hold: resident, and with shared pages counted by their share."""

    rss: int
    pss: int


class Process:
    """One program: a main process and its children."""

    def __init__(self, name, popen, log):
        self.name, self.popen, self.log = name, popen, pathlib.Path(log)

    @property
    def running(self):
        return self.popen.poll() is None

    def tree(self):
        """The process and all below it, by number."""
        found, left = [], [self.popen.pid]
        while left:
            pid = left.pop()
            found.append(pid)
            for thread in threads_of(pid):
                left += map(int, read(f"/proc/{pid}/task/{thread}/children").split())
        return found

    def cpu(self):
        """What the tree has used since it started."""
        return sum((cpu_in(read(f"/proc/{pid}/stat")) for pid in self.tree()), Cpu(0, 0))

    def thread_seconds(self):
        """What each thread of the tree has used, by number."""
        stats = {thread: read(f"/proc/{pid}/task/{thread}/stat") for pid in self.tree() for thread in threads_of(pid)}
        return {thread: cpu_in(stat).total for thread, stat in stats.items()}

    def memory(self):
        rollups = [read(f"/proc/{pid}/smaps_rollup") for pid in self.tree()]
        sums = (sum(int(kib) for text in rollups for kib in re.findall(rf"^{field}:\s+(\d+)", text, re.M))
                for field in ("Rss", "Pss"))
        return Memory(*sums)

    def log_tail(self):
        """The end of what it has written, for an error."""
        try:
            return self.log.read_text(errors="replace").strip()[-LOG_TAIL:]
        except OSError:
            return ""

    def kill(self):
        """Ends it and its children at once: nothing that it holds is worth a goodbye."""
        if self.running:
            for pid in self.tree():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        self.popen.wait()


def start(name, command, log, **options):
    """Starts a program that writes to a log file, ends with this process, and is not reached by its terminal's ^C."""
    with open(log, "w") as output:
        popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                 start_new_session=True, **options)
    return Process(name, popen, log)


def threads_of(pid):
    try:
        return [int(thread) for thread in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []


def read(path):
    """A file of /proc; empty when its process has gone."""
    try:
        return pathlib.Path(path).read_text()
    except OSError:
        return ""


def cpu_in(stat):
    """User and system time in the text of a stat file, whose second field may hold blanks."""
    fields = stat.rpartition(")")[2].split()
    return Cpu(int(fields[11]) / TICKS, int(fields[12]) / TICKS) if fields else Cpu(0, 0)
