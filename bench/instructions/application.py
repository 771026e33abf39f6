"""The application behind sidecar B: it answers every request, and every chunk of opaque bytes, with the same.

One listener for each protocol; a thread for each connection. What it sends goes out in one write, so that a sidecar has
nothing to wait for in the middle.
"""

import socket
import threading

from instructions import http2

SMALL = 1024
LARGE = 1 << 20
# A large body is sent in pieces, each when the load has the one before: how far one sidecar runs ahead of the other would
# be chance otherwise, and with it how much each reads at once. One segment of loopback's holds a piece and what TLS adds,
# so that it is there to be read whole or not at all.
PIECE = 1 << 15
HAS_ARRIVED = threading.Semaphore(0)
BODIES = {"/": SMALL, "/large": LARGE}


class Application:
    """Listens on free ports until it is closed."""

    def __init__(self):
        self.listeners = {"http": listen(http1), "http2": listen(http2_connection), "tcp": listen(echo)}

    @property
    def ports(self):
        return {name: listener.getsockname()[1] for name, listener in self.listeners.items()}

    def close(self):
        for listener in self.listeners.values():
            listener.close()


def listen(serve):
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    threading.Thread(target=accept, args=(listener, serve), daemon=True).start()
    return listener


def accept(listener, serve):
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=until_it_ends, args=(connection, serve), daemon=True).start()


def until_it_ends(connection, serve):
    """Serves a connection; a sidecar that is gone is no failure of the application's."""
    with connection:
        try:
            serve(connection)
        except OSError:
            pass


def echo(connection):
    while data := connection.recv(1 << 16):
        connection.sendall(data)


def http1(connection):
    """Requests without bodies."""
    unread = b""
    while data := connection.recv(1 << 16):
        unread += data
        while b"\r\n\r\n" in unread:
            request, unread = unread.split(b"\r\n\r\n", 1)
            length = BODIES[request.split(b" ", 2)[1].decode()]
            head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n"
            connection.sendall(head.encode() + b"x" * min(length, PIECE))
            for _ in range(PIECE, length, PIECE):
                HAS_ARRIVED.acquire()
                connection.sendall(b"x" * PIECE)


def http2_connection(connection):
    """Requests without bodies, each answered by a small one."""
    frames = http2.Frames()
    unread = b""
    while len(unread) < len(http2.PREFACE):
        data = connection.recv(1 << 16)
        if not data:
            return
        unread += data
    connection.sendall(http2.beginning())
    data = unread[len(http2.PREFACE):]
    while True:
        answer = b"".join(http2_answer(*frame) for frame in frames.taken(data))
        if answer:
            connection.sendall(answer)
        data = connection.recv(1 << 16)
        if not data:
            return


def http2_answer(kind, flags, stream, payload):
    if stream == 0:
        return http2.answer_to_control(kind, flags, payload)
    if not flags & http2.END_STREAM:
        return b""
    fields = [(":status", "200"), ("content-type", "text/plain"), ("content-length", str(SMALL))]
    return http2.head(stream, fields) + http2.frame(http2.DATA, http2.END_STREAM, stream, b"x" * SMALL)
