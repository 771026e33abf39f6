"""No sidecar: the load dials the application. What the others add to a latency is counted from here."""

from sidecars.bed import ADDRESS_B
from sidecars.peers.peer import CLASSIC, PATHS, Peer


class Direct(Peer):
    """Nothing in between."""

    name = "direct"
    proxies = False

    def __init__(self, bed):
        super().__init__(bed)
        self.addresses = {path.name: (ADDRESS_B, path.application) for path in self.paths()}

    def paths(self):
        return [path for path in PATHS if path.exchange == CLASSIC and not path.connection_per_request]

    @classmethod
    def version(cls, programs):
        return "the application alone"
