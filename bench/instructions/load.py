"""What is sent through the sidecars: one thing at a time on one connection, each answered whole before the next.

So a sidecar under callgrind, however slow, does the same for each: it wakes, does all there is to do, and sleeps.
"""

import socket

from instructions import application, http2

PATIENCE = 120
CHUNK = 1024


class Load:
    """A connection to a port of sidecar A."""

    def __init__(self, port, authority):
        self.authority = authority
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self):
        self.socket.close()

    def received(self):
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionError(f"{type(self).__name__}: the sidecar closed the connection")
        return data


class Http1(Load):
    """GET over HTTP/1.1."""

    def __init__(self, port, authority, path="/"):
        super().__init__(port, authority)
        self.length = application.BODIES[path]
        self.request = (f"GET {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: load/1\r\nAccept: */*\r\n\r\n").encode()

    def once(self):
        self.socket.sendall(self.request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.received()
        head, body = answer.split(b"\r\n\r\n", 1)
        if not head.startswith(b"HTTP/1.1 200 "):
            raise ConnectionError(f"expected HTTP/1.1 200, got {head[:200]!r}")
        self.read_body(len(body))

    def read_body(self, received):
        """Reads on to the end, and lets the application know of each piece but the last."""
        known = 0
        while received < self.length:
            for _ in range(known, received // application.PIECE):
                application.HAS_ARRIVED.release()
            known = received // application.PIECE
            received += len(self.received())


class Http2(Load):
    """GET over HTTP/2, with prior knowledge."""

    def __init__(self, port, authority):
        super().__init__(port, authority)
        self.stream, self.frames = 1, http2.Frames()
        self.socket.sendall(http2.PREFACE + http2.beginning())

    def once(self):
        fields = [(":method", "GET"), (":scheme", "http"), (":authority", self.authority), (":path", "/"),
                  ("user-agent", "load/1"), ("accept", "*/*")]
        self.socket.sendall(http2.head(self.stream, fields, ends=True))
        length = 0
        while True:
            for kind, flags, stream, payload in self.frames.taken(self.received()):
                if stream == 0:
                    self.control(kind, flags, payload)
                    continue
                if kind == http2.RESET:
                    raise ConnectionError(f"stream {stream} was reset with error {int.from_bytes(payload, 'big')}")
                length += len(payload) if kind == http2.DATA else 0
                if flags & http2.END_STREAM:
                    return self.ended(length)

    def control(self, kind, flags, payload):
        if kind == http2.GOAWAY:
            raise ConnectionError("the sidecar says goodbye")
        if answer := http2.answer_to_control(kind, flags, payload):
            self.socket.sendall(answer)

    def ended(self, length):
        if length != application.SMALL:
            raise ConnectionError(f"stream {self.stream}: a body of {length} bytes, expected {application.SMALL}")
        self.stream += 2


class Tcp(Load):
    """A chunk of opaque bytes there, and back."""

    def once(self):
        self.socket.sendall(b"x" * CHUNK)
        left = CHUNK
        while left > 0:
            left -= len(self.received())
