"""The command line: what is to be measured, checked before anything is made."""

import argparse
import os
import pathlib

from sidecars.measures import QUICK, TESTS
from sidecars.peers import PEERS

QUICK_PEERS = ("weft", "haproxy-h2", "envoy-h2")
# 65,000 local ports, of which a connection takes one.
MOST_CONNECTIONS = 20_000

EPILOG = """tests: {tests}
peers: {peers}

environment: WEFT (a binary; else `cargo build --release -p weft`), ENVOY, HAPROXY, NGINX, and for the peers of those
names LINKERD2_PROXY with LINKERD_FAKE_CP, ZTUNNEL. docs/performance.md says what the tests mean."""


def parse(words):
    """The settings of a run; ends the process with a message where the arguments are not right."""
    parser = argparse.ArgumentParser(
        prog="bench/run", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Measures Weft and other sidecars side by side.",
        epilog=EPILOG.format(tests=" ".join(TESTS), peers=" ".join(PEERS)))
    parser.add_argument("--quick", action="store_true",
                        help=f"a few minutes: {' '.join(QUICK_PEERS)}; {' '.join(QUICK)}")
    parser.add_argument("--tests", type=names(TESTS, "test"), help="which, separated by commas; all unless said")
    parser.add_argument("--peers", type=names(PEERS, "peer"), help="which, separated by commas; all unless said")
    parser.add_argument("--rounds", type=number(1, 100), help="measured rounds of each test (5; quick: 3)")
    parser.add_argument("--secs", type=number(1, 600), help="seconds of a load (8; quick: 4)")
    parser.add_argument("--rate", type=number(1, 50_000), default=1000, help="requests a second of `rate` (1000)")
    parser.add_argument("--connections", type=number(1, MOST_CONNECTIONS), default=1000,
                        help="idle connections of `memory` (1000)")
    parser.add_argument("--out", type=pathlib.Path, help="file for the figures (JSON) [target/bench/figures.json]")
    parser.add_argument("--from", type=pathlib.Path, dest="former", metavar="FILE",
                        help="measure nothing: make the table of the figures in this file")
    parser.add_argument("--write-docs", action="store_true", help="put the table into docs/performance.md")
    settings = parser.parse_args(words)
    settings.tests = settings.tests or list(QUICK if settings.quick else TESTS)
    settings.peers = settings.peers or list(QUICK_PEERS if settings.quick else PEERS)
    settings.rounds = settings.rounds or (3 if settings.quick else 5)
    settings.seconds = settings.secs or (4 if settings.quick else 8)
    settings.workers = 1
    if "rate" in settings.tests and "direct" not in settings.peers:
        # What a sidecar adds to a latency is counted from there.
        settings.peers.insert(0, "direct")
        settings.only_for_rate = True
    else:
        settings.only_for_rate = False
    problem = unusable(settings)
    if problem:
        parser.error(problem)
    return settings


def unusable(settings):
    """What keeps a run of these settings from taking place; None when nothing does."""
    if settings.former:
        return None if settings.former.is_file() else f"argument --from: {settings.former} is no file"
    if os.geteuid():
        return "root is needed to make network namespaces; figures of a former run are shown by --from FILE"
    if settings.out and not settings.out.absolute().parent.is_dir():
        return f"argument --out: {settings.out.parent} is no folder"
    return None


def names(known, kind):
    """A list of names, each of them known, in the order in which they were given."""

    def read(text):
        chosen = list(dict.fromkeys(name for name in text.split(",") if name))
        unknown = [name for name in chosen if name not in known]
        if unknown or not chosen:
            raise argparse.ArgumentTypeError(
                f"{', '.join(unknown) or 'nothing'} is no {kind}; there are {', '.join(known)}")
        return chosen

    return read


def number(least, most):
    """A whole number within bounds."""

    def read(text):
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} to {most}")
        return int(text)

    return read
