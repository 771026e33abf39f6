"""The story of a count: what is asked, the counting, the table, the verdict or the new baseline."""

import argparse
import platform
import signal
import subprocess
import sys
import time

from instructions import baseline, cases, environment, programs
from instructions.callgrind import NotCounted
from sidecars.main import stop
from sidecars.programs import ROOT, Missing

PATH = ROOT / "bench/instructions.json"


def main(words):
    """Carries out a command line; the exit code: 0 within bounds, 1 not, or it could not be counted."""
    settings = parse(words)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    try:
        here = environment.describe()
        if platform.machine() != environment.ARCHITECTURE:
            raise Missing(f"the baseline is of {environment.ARCHITECTURE}, this machine is {platform.machine()}")
        rounds = counted(settings.rounds)
    except (Missing, NotCounted, OSError, TimeoutError, subprocess.SubprocessError) as error:
        print(f"bench/count: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench/count: stopped; everything that was started is gone", file=sys.stderr)
        return 130
    spread = baseline.spread(rounds)
    counts = {name: middle for name, (middle, _) in spread.items()}
    if settings.rounds > 1:
        print("\n".join(f"{name}: {middle:,}, apart {share:.2%}" for name, (middle, share) in spread.items()) + "\n")
    former = baseline.Baseline.read(PATH) if PATH.exists() else baseline.Baseline({}, {})
    rows = baseline.compare(former.counts, counts)
    print(baseline.table(rows))
    if settings.write:
        baseline.Baseline(counts, here).write(PATH)
        return 0
    verdict = baseline.verdict(rows, former.environment, here)
    if verdict:
        print(f"\n{verdict}", file=sys.stderr)
    return 1 if verdict else 0


def parse(words):
    parser = argparse.ArgumentParser(prog="bench/count", description="Counts the instructions of the sidecar's hot path, and "
                                     "holds them against bench/instructions.json (docs/performance.md).")
    parser.add_argument("--write", action="store_true", help="write the baseline anew instead")
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="count so often, and say how far counts lie apart")
    settings = parser.parse_args(words)
    if settings.rounds < 1:
        parser.error(f"--rounds {settings.rounds}: must be 1 or more")
    return settings


def counted(rounds):
    """The counts of each round."""
    began = time.monotonic()

    def say(what):
        print(f"{time.monotonic() - began:5.0f}s  {what}", file=sys.stderr, flush=True)

    say("build")
    provided = programs.provide()
    return [cases.count(provided, say) for _ in range(rounds)]
