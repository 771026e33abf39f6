"""linkerd2-proxy, by redirection. It joins when the caller gives it and a control plane to speak with.

`LINKERD_FAKE_CP` names a program that stands for linkerd's control plane: it listens on `FAKECP_LISTEN`, answers
Certify with `FAKECP_ID_DIR`/IDENTITY.der, and leads 10.99.0.1:81xx to 10.99.1.2:91xx, odd ports opaque.
"""

import pathlib
import subprocess

from sidecars.bed import ADDRESS_A, ADDRESS_B, SHIFTED
from sidecars.peers.peer import Peer
from sidecars.pki import SUFFIX, dns_name

SERVICE = "10.99.0.1"
USER = 2101
CONTROL_PLANE = "127.0.0.1:8086"
PORTS = {"http1": 8180, "http2": 8182, "grpc": 8182, "opaque": 8181, "opaque-http": 8183, "connect": 8183}


class Linkerd(Peer):
    """linkerd2-proxy on both sides."""

    name = "linkerd"

    @classmethod
    def missing(cls, programs):
        given = programs.get("linkerd2-proxy") and programs.get("linkerd-fake-cp")
        return None if given else "LINKERD2_PROXY and LINKERD_FAKE_CP name no programs"

    @classmethod
    def version(cls, programs):
        asked = subprocess.run([programs["linkerd2-proxy"], "--version"], capture_output=True, text=True, timeout=10)
        return (asked.stdout or "unknown").strip().split("\n")[0]

    def paths(self):
        return [path for path in super().paths() if path.name in PORTS]

    def prepare(self):
        self.addresses = {name: (SERVICE, port) for name, port in PORTS.items()}
        self.bed.namespaces["A"].nft(
            f"table ip linkerd {{ chain out {{ type nat hook output priority -100; policy accept; meta skuid {USER} accept; "
            f"ip daddr {SERVICE} tcp dport 8180-8189 redirect to :4140; }}; }}")
        inbound = min(path.application for path in self.paths()) + SHIFTED
        self.bed.namespaces["B"].nft(
            "table ip linkerd { chain in { type nat hook prerouting priority -100; policy accept; "
            f"tcp dport {inbound}-{inbound + 9} redirect to :4143; }}; }}")
        folder = pathlib.Path(self.pki)
        for side in ("a", "b"):
            self.identify(folder, side)
            listens = {"FAKECP_LISTEN": CONTROL_PLANE, "FAKECP_ID_DIR": str(folder), "FAKECP_SERVER_ID": f"b.{SUFFIX}"}
            self.bed.spawn(side.upper(), f"control-plane-{side}", [self.programs["linkerd-fake-cp"]], listens)

    def identify(self, folder, side):
        """Writes a side's key, request and certificate in the forms in which they are asked for."""
        here = folder / f"id-{side}"
        here.mkdir()
        (here / "token").write_text("token")
        for words in (("pkcs8", "-topk8", "-nocrypt", "-in", f"{side}.sec1", "-out", here / "key.p8"),
                      ("req", "-in", f"{side}.csr", "-out", here / "csr.der"),
                      ("x509", "-in", f"{side}.pem", "-out", f"{dns_name(side)}.der")):
            subprocess.run(["openssl", *words, "-outform", "DER"], cwd=folder, check=True, capture_output=True)
        subprocess.run(["chmod", "-R", "a+rX", folder], check=True)

    def spawn(self, side, workers, services):
        me = side.lower()
        identity = pathlib.Path(self.pki, f"id-{me}")
        settings = {
            "LOG": "error", "CORES": str(workers), "OUTBOUND_LISTEN_ADDR": "127.0.0.1:4140",
            "INBOUND_LISTEN_ADDR": "0.0.0.0:4143", "CONTROL_LISTEN_ADDR": "127.0.0.1:4190",
            "ADMIN_LISTEN_ADDR": "127.0.0.1:4191", "DESTINATION_SVC_ADDR": CONTROL_PLANE, "POLICY_SVC_ADDR": CONTROL_PLANE,
            "IDENTITY_SVC_ADDR": CONTROL_PLANE, "IDENTITY_DIR": str(identity),
            "IDENTITY_TOKEN_FILE": str(identity / "token"),
            "IDENTITY_LOCAL_NAME": dns_name(me), "IDENTITY_TRUST_ANCHORS": pathlib.Path(self.pki, "ca.pem").read_text(),
            "POLICY_WORKLOAD": f"default:{me}", "DESTINATION_CONTEXT": "{}",
            "INBOUND_IPS": ADDRESS_A if side == "A" else ADDRESS_B, "INBOUND_DEFAULT_POLICY": "all-unauthenticated",
            "DESTINATION_PROFILE_SUFFIXES": "svc.cluster.local.", "DESTINATION_PROFILE_NETWORKS": "10.0.0.0/8"}
        if side == "B":
            settings["INBOUND_PORTS"] = ",".join(str(path.application + SHIFTED) for path in self.paths())
        environment = {f"LINKERD2_PROXY_{key}": value for key, value in settings.items()}
        return self.bed.spawn(side, f"{self.name}-{side}", [self.programs["linkerd2-proxy"]], environment, user=USER)
