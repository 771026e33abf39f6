"""ztunnel, by redirection, for opaque bytes only. It joins when `ZTUNNEL` names one built with its testing feature,
which makes certificates of its own."""

from sidecars.bed import ADDRESS_A, ADDRESS_B, BULK, HTTP_OPAQUE
from sidecars.namespaces import command
from sidecars.peers.peer import Peer, first_line

SERVICE = "10.99.0.1"
USER = 2101
OUTBOUND = 15001
PORTS = {"opaque": 8281, "opaque-http": 8283, "connect": 8283}
HOST = "web.default.svc.cluster.local"
TARGETS = f"{PORTS['opaque']}: {BULK}\n      {PORTS['opaque-http']}: {HTTP_OPAQUE}"

WORKLOAD = """- uid: c1//v1/Pod/default/{name}
  name: {name}
  namespace: default
  serviceAccount: {name}
  workloadIps: ["{address}"]
  protocol: HBONE
  node: local
  network: ""
  services: {services}
"""


class Ztunnel(Peer):
    """ztunnel on both sides, each with the mesh in a file."""

    name = "ztunnel"

    @classmethod
    def missing(cls, programs):
        return None if programs.get("ztunnel") else "ZTUNNEL names no program"

    @classmethod
    def version(cls, programs):
        return first_line(command(programs["ztunnel"], "version"))

    def paths(self):
        return [path for path in super().paths() if path.name in PORTS]

    def prepare(self):
        self.addresses = {name: (SERVICE, port) for name, port in PORTS.items()}
        self.bed.namespaces["A"].nft(
            f"table ip ztunnel {{ chain out {{ type nat hook output priority -100; policy accept; meta skuid {USER} accept; "
            f"ip daddr {SERVICE} tcp dport 8280-8289 redirect to :{OUTBOUND}; }}; }}")
        serves = f'\n    "default/{HOST}":\n      {TARGETS}'
        self.mesh = self.bed.write("mesh.yaml", (
            "workloads:\n" + WORKLOAD.format(name="a", address=ADDRESS_A, services="{}")
            + WORKLOAD.format(name="b", address=ADDRESS_B, services=serves)
            + f"services:\n- name: web\n  namespace: default\n  hostname: {HOST}\n  vips:\n    - /{SERVICE}\n"
            f"  ports:\n    {PORTS['opaque']}: {BULK}\n    {PORTS['opaque-http']}: {HTTP_OPAQUE}\n"))

    def spawn(self, side, workers, services):
        me = side.lower()
        environment = {
            "FAKE_CA": "true", "XDS_ADDRESS": "", "LOCAL_XDS_PATH": str(self.mesh), "PROXY_MODE": "dedicated",
            "PROXY_WORKLOAD_INFO": f"default/{me}/{me}", "ZTUNNEL_WORKER_THREADS": str(workers), "ENABLE_ORIG_SRC": "false",
            "RUST_LOG": "error", "NODE_NAME": "local", "CLUSTER_ID": "c1", "ISTIO_META_DNS_CAPTURE": "false",
            "INSTANCE_IP": ADDRESS_A if side == "A" else ADDRESS_B}
        return self.bed.spawn(side, f"{self.name}-{side}", [self.programs["ztunnel"], "proxy", "ztunnel"], environment,
                              user=USER)
