"""The certificates of sidecars that are given theirs by file: a root of P-256, and a leaf for each side.

Weft has none of them: its control plane is its authority.
"""

import subprocess

from sidecars.namespaces import command

TRUST_DOMAIN = "cluster.local"
SUFFIX = f"default.serviceaccount.identity.linkerd.{TRUST_DOMAIN}"


def dns_name(side):
    """The identity of "a" or "b" in the form of a DNS name."""
    return f"{side}.{SUFFIX}"


def spiffe_id(side):
    """The identity of "a" or "b" as a SPIFFE ID."""
    return f"spiffe://{TRUST_DOMAIN}/ns/default/sa/{side}"


def make(folder):
    """Writes ca.pem, and for each side SIDE.pem, SIDE.key (PKCS 8), SIDE.both and SIDE.csr."""
    folder.mkdir()

    def openssl(*words):
        command("openssl", *map(str, words), cwd=folder)

    new_key = ("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out")
    openssl(*new_key, "ca.key")
    openssl("req", "-x509", "-new", "-key", "ca.key", "-sha256", "-days", 30, "-subj", "/CN=bench-root", "-out", "ca.pem",
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    for side in ("a", "b"):
        (folder / f"{side}.ext").write_text(
            "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
            "extendedKeyUsage=serverAuth,clientAuth\n"
            f"subjectAltName=DNS:{dns_name(side)},URI:{spiffe_id(side)}\n")
        openssl(*new_key, f"{side}.sec1")
        openssl("pkcs8", "-topk8", "-nocrypt", "-in", f"{side}.sec1", "-out", f"{side}.key")
        openssl("req", "-new", "-key", f"{side}.key", "-subj", f"/CN={side}",
                "-addext", f"subjectAltName=DNS:{dns_name(side)}", "-out", f"{side}.csr")
        openssl("x509", "-req", "-in", f"{side}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                "-days", 20, "-sha256", "-extfile", f"{side}.ext", "-out", f"{side}.pem")
        both = (folder / f"{side}.pem").read_text() + (folder / f"{side}.key").read_text()
        (folder / f"{side}.both").write_text(both)
    subprocess.run(["chmod", "-R", "a+rX", folder], check=True)
