"""Configurations that are generated hang together, and a test is given only to peers that can take it."""

import pathlib
import re
import types
import unittest
import unittest.mock

from sidecars.measures import TESTS, fits
from sidecars.peers import PEERS, weft
from sidecars.peers.envoy_configuration import configuration
from sidecars.peers.haproxy import HaproxyHttp2
from sidecars.peers.peer import PATHS

GROUND = types.SimpleNamespace(programs={"nginx": "true"}, pki="/pki")
BED = types.SimpleNamespace(ground=GROUND, folder=pathlib.Path("/bed"))


def taking(test):
    return [name for name, peer in PEERS.items() if fits(TESTS[test], peer(BED))]


class Peers(unittest.TestCase):
    def setUp(self):
        patch = unittest.mock.patch("sidecars.peers.nginx.Nginx.stream_module", lambda _: pathlib.Path("/stream.so"))
        patch.start()
        self.addCleanup(patch.stop)

    def test_the_sidecar_is_its_own_program_unless_only_the_larger_one_is_named(self):
        for named, words in (({"weft-proxy": "/weft-proxy"}, ["/weft-proxy"]), ({"weft-proxy": None}, ["/weft", "proxy"])):
            ground = types.SimpleNamespace(programs={"weft": "/weft", **named}, pki="/pki")
            peer = weft.Weft(types.SimpleNamespace(ground=ground, folder=pathlib.Path("/bed")))
            self.assertEqual(peer.sidecar(), words)

    def test_every_path_has_ports_of_its_own(self):
        ports = [port for path in PATHS for port in (path.client_port, path.server_port)]
        self.assertEqual(len(set(ports)), 2 * len(PATHS))

    def test_each_listener_of_envoy_leads_to_a_cluster_and_a_to_b(self):
        sides = {side: configuration(side, "/pki", True, False, 0)["static_resources"] for side in "AB"}
        for resources in sides.values():
            names = {cluster["name"] for cluster in resources["clusters"]}
            self.assertEqual({listener["name"] for listener in resources["listeners"]}, names)
        called = re.findall(r"'port_value': (\d+)", str(sides["A"]["clusters"]))
        self.assertEqual(called, re.findall(r"'port_value': (\d+)", str(sides["B"]["listeners"])))

    def test_unused_services_of_envoy_have_ten_endpoints_each(self):
        clusters = configuration("A", "/pki", True, False, 3)["static_resources"]["clusters"][len(PATHS):]
        self.assertEqual([len(cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]) for cluster in clusters], [10] * 3)

    def test_unused_services_of_weft_share_no_address_with_each_other_or_the_bed(self):
        text = "".join(weft.service(number) for number in range(10_000))
        addresses = re.findall(r"address: ([\d.]+)", text)
        self.assertEqual(len(set(addresses)), 100_000)
        self.assertFalse([address for address in addresses if address.startswith(("10.98.", "10.99."))])
        self.assertTrue(all(int(part) < 256 for address in addresses for part in address.split(".")))

    def test_haproxy_listens_at_b_where_a_calls(self):
        peer = HaproxyHttp2(BED)
        for path in peer.paths():
            self.assertIn(f"10.99.1.2:{path.server_port} ", peer.client(path))
            self.assertIn(f"bind 10.99.1.2:{path.server_port} ", peer.server(path))

    def test_a_peer_takes_the_tests_that_it_has_the_path_for(self):
        self.assertNotIn("nginx-h1", taking("grpc"))
        self.assertNotIn("ztunnel", taking("h1"))
        self.assertIn("ztunnel", taking("opaque"))
        self.assertEqual(taking("hs-pq"), ["weft", "weft-explicit", "envoy-h2", "envoy-h1", "envoy-istio"])
        self.assertEqual(set(PEERS) - set(taking("h1")), {"ztunnel"})

    def test_weft_is_started_anew_for_what_settings_decide_alone(self):
        peer = weft.Weft(BED)
        started = []
        peer.stop, peer.start = lambda: None, lambda workers, options: started.append(options)
        for path in ("http1", "connect-pq", "handshake"):
            peer.options, peer.workers = (), 1
            peer.arrange(1, path)
        self.assertEqual(started, [
            ("--tls-key-exchange", "post-quantum", "--tls-resumption", "true"),
            ("--tls-key-exchange", "classical", "--tls-resumption", "false")])

    def test_only_proxies_have_memory_and_only_some_know_services(self):
        self.assertNotIn("direct", taking("memory"))
        self.assertEqual(taking("mesh-1000"), ["weft", "weft-explicit", "envoy-h2", "envoy-h1", "envoy-istio"])


if __name__ == "__main__":
    unittest.main()
