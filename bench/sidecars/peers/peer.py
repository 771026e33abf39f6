"""What every sidecar under test has: two processes, and the addresses at which the load finds each path.

A path is a way through both sidecars to the application. A peer has those of them that it is able to; where it
redirects connections the load dials an address of a service, elsewhere a port of sidecar A on loopback.
"""

from dataclasses import dataclass

from sidecars.bed import BULK, HTTP, HTTP2, HTTP_OPAQUE, answers, wait_until

CLIENT_PORT, SERVER_PORT = 20000, 21000
STARTS_WITHIN = 20
CLASSIC, POST_QUANTUM = "X25519", "X25519MLKEM768"


@dataclass(frozen=True)
class Path:
    """A way through both sidecars."""

    name: str
    # Where the application listens.
    application: int
    # Bytes that the sidecars do not look into.
    opaque: bool = False
    # HTTP/2 from the load and to the application.
    http2: bool = False
    # Every request on a connection of its own between the sidecars.
    connection_per_request: bool = False
    # The key exchange of its handshakes, where it can be chosen.
    exchange: str = CLASSIC

    @property
    def client_port(self):
        """Where sidecar A listens for it, on loopback, when it does not redirect."""
        return CLIENT_PORT + PATHS.index(self)

    @property
    def server_port(self):
        """Where sidecar B listens for it, when its ports are given by configuration."""
        return SERVER_PORT + PATHS.index(self)


PATHS = (
    Path("http1", HTTP),
    Path("http2", HTTP2, http2=True),
    Path("grpc", HTTP2, http2=True),
    Path("opaque", BULK, opaque=True),
    Path("opaque-http", HTTP_OPAQUE, opaque=True),
    Path("connect", HTTP_OPAQUE, opaque=True),
    Path("connect-pq", HTTP_OPAQUE, opaque=True, exchange=POST_QUANTUM),
    Path("handshake", HTTP, connection_per_request=True),
    Path("handshake-pq", HTTP, connection_per_request=True, exchange=POST_QUANTUM),
)


class Peer:
    """One sidecar under test, in its bed. Subclasses say how it is configured and started."""

    name = ""
    # Whether further services can be made known to sidecar A: `spawn` heeds `services` then.
    grows = False
    # Whether there is a proxy at all.
    proxies = True

    @classmethod
    def missing(cls, programs):
        """Why it cannot run here; None when it can."""
        return None

    @classmethod
    def version(cls, programs):
        """Its version, in a line."""
        return ""

    def __init__(self, bed):
        self.bed = bed
        self.programs = bed.ground.programs
        self.pki = bed.ground.pki
        self.a = self.b = None
        self.workers = 1
        self.options = ()
        self.addresses = {path.name: ("127.0.0.1", path.client_port) for path in self.paths()}

    def paths(self):
        """The paths that it has."""
        return [path for path in PATHS if path.exchange == CLASSIC]

    def prepare(self):
        """Whatever must be there before its sidecars start; once."""

    def spawn(self, side, workers, services):
        """Starts the sidecar of a side with so many workers, and so many further services in the mesh."""
        raise NotImplementedError

    @property
    def http(self):
        """Where an HTTP/1.1 client is answered by all means."""
        return self.addresses.get("http1") or self.addresses["opaque-http"]

    def running(self):
        """Its processes."""
        return [sidecar for sidecar in (self.a, self.b) if sidecar]

    def options_for(self, path):
        """What its sidecars are to be started with for a path, where that is not the same for all of them."""
        return ()

    def closes(self, path):
        """Whether the load is to close its connections where every request is to have one between the sidecars."""
        return False

    def start(self, workers=1, options=()):
        """Starts both sidecars, and waits until they answer."""
        self.workers, self.options = workers, options
        if self.proxies:
            self.b = self.spawn("B", workers, 0)
            self.a = self.spawn("A", workers, 0)
        self.wait()

    def start_client(self, services=0):
        """Starts sidecar A anew, with so many further services in the mesh, and waits until it answers."""
        self.bed.end(self.a)
        self.a = self.spawn("A", 1, services)
        self.wait()

    def wait(self):
        """Waits for the first answer through both sidecars."""
        wait_until(self.answers, STARTS_WITHIN, f"{self.name} answers")

    def answers(self):
        """Whether it answers now; an error when that is no longer to be hoped for."""
        self.check()
        return self.bed.namespaces["A"].call(lambda: answers(self.http))

    def check(self):
        """An error when one of its sidecars has ended by itself."""
        for sidecar in self.running():
            if not sidecar.running:
                raise RuntimeError(f"{sidecar.name} has ended with code {sidecar.popen.returncode}")

    def restart(self):
        """Both sidecars anew, with one worker."""
        self.stop()
        self.start()

    def arrange(self, workers=1, path=None):
        """Starts both sidecars anew where they do not run with so many workers, or not as the path needs them."""
        options = self.options_for(path)
        if self.proxies and (self.workers, self.options) != (workers, options):
            self.stop()
            self.start(workers, options)

    def handshakes(self):
        """How many handshakes sidecar A has made so far, by kind (`full`, `resumed`); empty when it does not say."""
        return {}

    def stop(self):
        for sidecar in self.running():
            self.bed.end(sidecar)
        self.a = self.b = None


def first_line(text):
    """The first line of what a program says of itself."""
    return text.strip().split("\n")[0].strip()
