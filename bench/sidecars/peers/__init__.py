"""The sidecars under test, by name. To add one: a subclass of `Peer` in a file of its own, and its name here."""

from sidecars.peers.direct import Direct
from sidecars.peers.envoy import EnvoyHttp1, EnvoyHttp2, EnvoyIstio
from sidecars.peers.haproxy import HaproxyHttp1, HaproxyHttp2
from sidecars.peers.linkerd import Linkerd
from sidecars.peers.nginx import Nginx
from sidecars.peers.weft import Weft, WeftExplicit
from sidecars.peers.ztunnel import Ztunnel

PEERS = {
    peer.name: peer
    for peer in (Direct, Weft, WeftExplicit, HaproxyHttp2, HaproxyHttp1, EnvoyHttp2, EnvoyHttp1, EnvoyIstio, Nginx,
                 Linkerd, Ztunnel)
}
