"""A run: beds and peers are made, the tests pass in rounds, and everything that was made goes.

Within a round the peers take turns, so that what disturbs the machine for a while disturbs all of them. A peer that does
not start, or dies, is left out from then on, with the reason; the run goes on.
"""

import copy
import http.client
import os
import pathlib
import resource
import shutil
import signal
import sys
import tempfile
import time

from sidecars import machine, pki, programs
from sidecars.bed import Bed
from sidecars.measures import TESTS, fits
from sidecars.namespaces import remove_leftovers
from sidecars.peers import PEERS

WARM_UP_SECONDS = 2
PAUSE = 0.3
FOLDER_PREFIX = "weftbench-"
# What may go wrong with one peer, and is no reason to end the run.
FAILURES = (OSError, RuntimeError, TimeoutError, http.client.HTTPException)


class Ground:
    """What all beds share: a temporary folder, programs, certificates, the environment of what is started."""

    def __init__(self, folder, found):
        self.folder, self.programs = folder, found
        self.pki = folder / "pki"
        # A proxy of this session, or settings of a Weft that runs here, are not the peers'.
        self.environment = {key: value for key, value in os.environ.items()
                            if not key.lower().endswith("_proxy") and not key.startswith(("WEFT_", "LINKERD2_PROXY_"))}


class Run:
    """One run, while it lasts."""

    def __init__(self, settings, save):
        self.settings, self.save = settings, save
        self.peers, self.beds = {}, []
        self.results = {
            "machine": machine.describe(), "revision": machine.revision(programs.ROOT), "versions": {}, "absent": {},
            "settings": {name: getattr(settings, name) for name in ("rounds", "seconds", "rate", "connections")},
            "tests": {}}

    def carry_out(self):
        """Measures, and clears up behind itself whatever happens."""
        sweep()
        folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-"))
        folder.chmod(0o755)
        try:
            ground = Ground(folder, programs.provide(self.settings.peers, self.settings.tests, folder / "programs"))
            pki.make(ground.pki)
            raise_limit_of_files()
            for name in self.settings.peers:
                self.add_peer(name, ground)
            for name in self.settings.tests:
                self.test(name)
                self.save(self.results)
        finally:
            self.clear_up(folder)
        return self.results

    def clear_up(self, folder):
        """Ends and removes everything; an impatient second ^C does not leave half of it."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for bed in self.beds:
            bed.close()
        shutil.rmtree(folder, ignore_errors=True)

    def add_peer(self, name, ground):
        """Starts a peer; or notes why it does not."""
        reason = PEERS[name].missing(ground.programs)
        if reason:
            self.leave_out(name, reason)
            return
        peer = None
        try:
            bed = Bed(name, ground)
            self.beds.append(bed)
            bed.make()
            peer = self.peers[name] = PEERS[name](bed)
            self.results["versions"][name] = peer.version(ground.programs)
            peer.prepare()
            peer.start()
            say(f"{name}: {self.results['versions'][name]}")
        except FAILURES as error:
            self.leave_out(name, describe_failure(peer, error))

    def leave_out(self, name, reason):
        self.peers.pop(name, None)
        self.results["absent"][name] = reason
        say(f"{name} is left out: {reason}")

    def test(self, name):
        """All rounds of a test."""
        test = TESTS[name]
        taking_part = [peer for peer in self.peers.values() if fits(test, peer) and self.is_wanted(name, peer)]
        rounds = min(self.settings.rounds, test.most_rounds)
        results = self.results["tests"][name] = {"what": test.what, "rounds": {peer.name: [] for peer in taking_part}}
        self.arrange(taking_part, test.workers, test.path)
        for number in range(0 if test.warms_up else 1, rounds + 1):
            for peer in taking_part:
                if peer.name not in self.peers:
                    continue
                figures = self.measure(peer, test, is_warm_up=number == 0)
                if number and figures:
                    results["rounds"][peer.name].append({"round": number, **figures})
                    say(f"{name} {number}/{rounds} {peer.name}: {brief(figures)}")
                time.sleep(PAUSE)
        self.arrange(taking_part)

    def is_wanted(self, name, peer):
        return peer.name != "direct" or name == "rate" or not self.settings.only_for_rate

    def measure(self, peer, test, is_warm_up):
        """The figures of one round; None when the peer has failed and is out."""
        settings = copy.copy(self.settings)
        settings.workers = test.workers
        if is_warm_up:
            settings.seconds = min(WARM_UP_SECONDS, settings.seconds)
        try:
            figures = test.measure(peer, settings)
            peer.check()
        except FAILURES as error:
            self.leave_out(peer.name, describe_failure(peer, error))
            return None
        return figures

    def arrange(self, peers, workers=1, path=None):
        """Starts the sidecars anew that do not run as a test needs them."""
        for peer in peers:
            if peer.name not in self.peers:
                continue
            try:
                peer.arrange(workers, path)
            except FAILURES as error:
                self.leave_out(peer.name, describe_failure(peer, error))


def sweep():
    """Removes what killed runs have left behind."""
    remove_leftovers()
    for folder in pathlib.Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        owner = folder.name.split("-")[1]
        if owner.isdigit() and not pathlib.Path("/proc", owner).exists():
            shutil.rmtree(folder, ignore_errors=True)


def describe_failure(peer, error):
    """An error, and the end of the logs of a peer's processes."""
    logs = [f"{log.name}: {log.log_tail()}" for log in (peer.bed.processes if peer else []) if log.log_tail()]
    return "\n".join([str(error), *logs])


def raise_limit_of_files():
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def brief(figures):
    """Figures in a line."""
    shown = [(key, value) for key, value in figures.items()
             if not isinstance(value, dict) and not key.endswith(("_s", "_system", "_user"))]
    return " ".join(f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in shown)


def say(line):
    print(line, file=sys.stderr, flush=True)
