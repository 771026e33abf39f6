"""Envoy with a static configuration: between the two HTTP/2 or HTTP/1.1, or with the filters that Istio adds."""

import json

from sidecars.namespaces import command
from sidecars.peers.envoy_configuration import configuration
from sidecars.peers.peer import PATHS, Peer, first_line


class Envoy(Peer):
    """Envoy on both sides."""

    grows = True
    # What is spoken between the two.
    between = "h2"
    # With what a sidecar of Istio has in its chain.
    like_istio = False

    @classmethod
    def missing(cls, programs):
        return None if programs.get("envoy") else "envoy is not there"

    @classmethod
    def version(cls, programs):
        # PATH  version: COMMIT/VERSION/…
        return first_line(command(programs["envoy"], "--version").partition("version: ")[2])

    def paths(self):
        return PATHS

    def spawn(self, side, workers, services):
        content = configuration(side, self.pki, self.between == "h2", self.like_istio, services)
        path = self.bed.write(f"{side}.json", json.dumps(content))
        return self.bed.spawn(side, f"{self.name}-{side}", [
            self.programs["envoy"], "-c", path, "--concurrency", workers, "--disable-hot-restart", "--log-level", "error"])


class EnvoyHttp2(Envoy):
    """HTTP/2 between the two."""

    name = "envoy-h2"


class EnvoyHttp1(Envoy):
    """HTTP/1.1 between the two."""

    name = "envoy-h1"
    between = "h1"


class EnvoyIstio(Envoy):
    """HTTP/2 between the two, with the filters, routes, retries and access rules that Istio configures."""

    name = "envoy-istio"
    like_istio = True
