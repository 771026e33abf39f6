"""nginx, which speaks HTTP/1.1 to servers. No session is resumed; the exchange is X25519."""

import pathlib
import re
import subprocess

from sidecars.bed import ADDRESS_B, HTTP
from sidecars.peers.peer import CLASSIC, Peer
from sidecars.pki import dns_name


class Nginx(Peer):
    """nginx on both sides."""

    name = "nginx-h1"

    @classmethod
    def missing(cls, programs):
        return None if programs.get("nginx") else "nginx is not there"

    @classmethod
    def version(cls, programs):
        return re.search(r"nginx version: (\S+)", about(programs["nginx"]))[1]

    def paths(self):
        # Trailers do not pass through it.
        paths = [path for path in super().paths() if path.name != "grpc"]
        return [path for path in paths if not path.opaque or self.stream_module()]

    def stream_module(self):
        """The file of its module for opaque bytes; None when there is none."""
        folder = re.search(r"--modules-path=(\S+)", about(self.programs["nginx"]))
        module = pathlib.Path(folder[1] if folder else "/", "ngx_stream_module.so")
        return module if module.exists() else None

    def spawn(self, side, workers, services):
        paths = self.paths()
        http = "".join(self.http_server(side, path) for path in paths if not path.opaque)
        stream = "".join(self.stream_server(side, path) for path in paths if path.opaque)
        here = self.bed.folder / side
        content = f"""{f"load_module {self.stream_module()};" if stream else ""}
daemon off; worker_processes {workers}; user root; worker_rlimit_nofile 60000; pid {here}.pid; error_log {here}.err error;
events {{ worker_connections 20000; }}
http {{
    access_log off; tcp_nodelay on; keepalive_requests 1000000000; keepalive_timeout 1h; http2_max_concurrent_streams 1000;
    proxy_max_temp_file_size 0; proxy_temp_path {here}.tmp; client_body_temp_path {here}.body;
{http}}}
""" + (f"stream {{\n{stream}}}\n" if stream else "")
        path = self.bed.write(f"{side}.conf", content)
        return self.bed.spawn(side, f"{self.name}-{side}", [self.programs["nginx"], "-c", path, "-p", self.bed.folder])

    def http_server(self, side, path):
        listen, upstream = ends(side, path)
        keep = "keepalive 2000; keepalive_requests 1000000000; keepalive_timeout 1h;"
        if side == "A" and path.connection_per_request:
            keep = ""
        scheme, http2 = ("https", " http2" if path.http2 else "") if side == "A" else ("http", "")
        return (f"    upstream {path.name} {{ server {upstream}; {keep} }}\n"
                f"    server {{ listen {listen}{http2} backlog=4096; {self.tls(side)} location / {{ "
                f"proxy_pass {scheme}://{path.name}; proxy_http_version 1.1; proxy_set_header Connection ''; }} }}\n")

    def stream_server(self, side, path):
        listen, upstream = ends(side, path)
        encrypt = "proxy_ssl on; " if side == "A" else ""
        return f"    server {{ listen {listen} backlog=4096; proxy_pass {upstream}; {encrypt}{self.tls(side)} }}\n"

    def tls(self, side):
        if side == "A":
            return (f"proxy_ssl_certificate {self.pki}/a.pem; proxy_ssl_certificate_key {self.pki}/a.key; "
                    f"proxy_ssl_trusted_certificate {self.pki}/ca.pem; proxy_ssl_verify on; proxy_ssl_name {dns_name('b')}; "
                    "proxy_ssl_protocols TLSv1.3; proxy_ssl_session_reuse off;")
        return (f"ssl_certificate {self.pki}/b.pem; ssl_certificate_key {self.pki}/b.key; ssl_verify_client on; "
                f"ssl_client_certificate {self.pki}/ca.pem; ssl_protocols TLSv1.3; ssl_ecdh_curve {CLASSIC}; "
                "ssl_session_cache off; ssl_session_tickets off;")


def ends(side, path):
    """Where a side listens for a path, and where it goes on to: to the application by HTTP/1.1 in any case."""
    application = HTTP if path.http2 else path.application
    if side == "A":
        return f"127.0.0.1:{path.client_port}", f"{ADDRESS_B}:{path.server_port}"
    return f"{ADDRESS_B}:{path.server_port} ssl", f"127.0.0.1:{application}"


def about(nginx):
    """What it says of itself and how it was built."""
    return subprocess.run([nginx, "-V"], capture_output=True, text=True).stderr
