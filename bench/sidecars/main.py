"""The story of a run: what is asked, the measuring, the file of figures, the table."""

import json
import signal
import sys

from sidecars import arguments, machine, report
from sidecars.programs import ROOT, TARGET, Missing
from sidecars.rounds import Run

DOCS = ROOT / "docs/performance.md"


def main(words):
    """Carries out a command line; the exit code."""
    settings = arguments.parse(words)
    try:
        results = json.loads(settings.former.read_text()) if settings.former else measured(settings)
        table = report.markdown(results)
    except (Missing, ValueError, KeyError) as error:
        print(f"bench/run: {error if isinstance(error, Missing) else repr(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench/run: stopped; everything that was made is gone", file=sys.stderr)
        return 130
    print(table)
    if settings.write_docs:
        DOCS.write_text(report.put_into(DOCS.read_text(), table))
    return 0


def measured(settings):
    """Measures; every finished test is in the file at once."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    machine.take_precedence()
    out = settings.out or TARGET / "bench/figures.json"
    out.parent.mkdir(parents=True, exist_ok=True)

    def save(results):
        out.write_text(json.dumps(results, indent=1) + "\n")

    return Run(settings, save).carry_out()


def stop(number, frame):
    """Any wish that the run may end is one with ^C."""
    raise KeyboardInterrupt
