"""Where a run took place, for whoever reads its figures; and a little quiet for it."""

import datetime
import os
import pathlib
import platform
import re
import subprocess

NICENESS = -5


def describe():
    """The machine, its system, and how busy it was when the run began."""
    processor = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    memory = re.search(r"^MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text(), re.M)
    return {
        "began": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpus": len(os.sched_getaffinity(0)),
        "processor": processor[1] if processor else platform.machine(),
        "memory_gib": round(int(memory[1]) / (1 << 20), 1),
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "unknown"),
        "load_average": os.getloadavg()[0],
    }


def revision(root):
    """The commit that is checked out."""
    asked = subprocess.run(["git", "-C", root, "describe", "--always", "--dirty"], capture_output=True, text=True)
    return asked.stdout.strip() or "unknown"


def take_precedence():
    """Lets other jobs of the machine disturb the run less. Niceness counts only among groups of sessions."""
    try:
        os.nice(NICENESS)
        pathlib.Path("/proc/self/autogroup").write_text(str(NICENESS))
    except OSError:
        pass
