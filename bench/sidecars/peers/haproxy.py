"""HAProxy, with HTTP/2 or HTTP/1.1 between the two. No session is resumed; the exchange is X25519."""

from sidecars.bed import ADDRESS_B
from sidecars.namespaces import command
from sidecars.peers.peer import CLASSIC, Peer, first_line
from sidecars.pki import dns_name

HEAD = """global
    nbthread {workers}
    maxconn 8000
    tune.ssl.cachesize 0
    ssl-default-bind-curves {curve}
defaults
    mode http
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    timeout http-keep-alive 1h
    option http-keep-alive
    http-reuse always
"""


class Haproxy(Peer):
    """HAProxy on both sides."""

    between = "h2"

    @classmethod
    def missing(cls, programs):
        return None if programs.get("haproxy") else "haproxy is not there"

    @classmethod
    def version(cls, programs):
        return first_line(command(programs["haproxy"], "-v"))

    def spawn(self, side, workers, services):
        sections = [self.client(path) if side == "A" else self.server(path) for path in self.paths()]
        content = HEAD.format(workers=workers, curve=CLASSIC) + "".join(sections)
        path = self.bed.write(f"{side}.cfg", content)
        return self.bed.spawn(side, f"{self.name}-{side}", [self.programs["haproxy"], "-db", "-f", path])

    def client(self, path):
        """A path on side A: plaintext from the load, mutual TLS to B."""
        bind = f"127.0.0.1:{path.client_port}" + (" proto h2" if path.http2 else "")
        server = (f"{ADDRESS_B}:{path.server_port} ssl verify required ca-file {self.pki}/ca.pem crt {self.pki}/a.both "
                  f"verifyhost {dns_name('b')} ssl-min-ver TLSv1.3 no-ssl-reuse")
        options = ""
        if path.connection_per_request:
            options = "    option http-server-close\n    http-reuse never\n"
        elif not path.opaque:
            server += " alpn " + ("h2" if self.between == "h2" else "http/1.1")
        if not path.opaque:
            server += " pool-max-conn 1000"
        return section(path, bind, server, options)

    def server(self, path):
        """A path on side B: mutual TLS from A, plaintext to the application."""
        bind = (f"{ADDRESS_B}:{path.server_port} ssl crt {self.pki}/b.both ca-file {self.pki}/ca.pem verify required "
                "ssl-min-ver TLSv1.3 no-tls-tickets")
        if not path.opaque:
            bind += " alpn h2,http/1.1"
        return section(path, bind, f"127.0.0.1:{path.application}" + (" proto h2" if path.http2 else ""), "")


def section(path, bind, server, options):
    mode = "tcp" if path.opaque else "http"
    return (f"frontend front-{path.name}\n    mode {mode}\n    bind {bind}\n    default_backend back-{path.name}\n"
            f"backend back-{path.name}\n    mode {mode}\n{options}    server next {server}\n")


class HaproxyHttp2(Haproxy):
    """HTTP/2 between the two."""

    name = "haproxy-h2"


class HaproxyHttp1(Haproxy):
    """HTTP/1.1 between the two."""

    name = "haproxy-h1"
    between = "h1"
