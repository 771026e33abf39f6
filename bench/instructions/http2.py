"""HTTP/2 as far as a load and an application need it that always say the same: frames, and heads in literal fields.

Field names are neither compressed nor remembered, so that every request has the same bytes. Windows are opened so wide at
the beginning that nothing of a case waits for them.
"""

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
ACK = END_STREAM = 1
END_HEADERS = 4
WIDE = 2**31 - 1
INITIAL_WINDOW_SIZE = 4


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def beginning():
    """What both sides say first, after a client's preface: wide windows."""
    settings = INITIAL_WINDOW_SIZE.to_bytes(2, "big") + WIDE.to_bytes(4, "big")
    return frame(SETTINGS, 0, 0, settings) + frame(WINDOW_UPDATE, 0, 0, (WIDE - 65535).to_bytes(4, "big"))


def head(stream, fields, ends=False):
    """A head in one frame."""
    block = b"".join(b"\0" + text(name) + text(value) for name, value in fields)
    return frame(HEADERS, END_HEADERS | (END_STREAM if ends else 0), stream, block)


def text(value):
    """A string of HPACK without Huffman's code; short, so that its length takes one byte."""
    encoded = value.encode()
    if len(encoded) > 126:
        raise ValueError(f"a field of {len(encoded)} bytes: at most 126 are written here")
    return bytes([len(encoded)]) + encoded


class Frames:
    """Frames out of a stream's bytes."""

    def __init__(self):
        self.bytes = b""

    def taken(self, more):
        """The whole frames that these bytes complete: kind, flags, stream, payload."""
        self.bytes += more
        frames = []
        while len(self.bytes) >= 9:
            length = int.from_bytes(self.bytes[:3], "big")
            if len(self.bytes) < 9 + length:
                break
            stream = int.from_bytes(self.bytes[5:9], "big") & WIDE
            frames.append((self.bytes[3], self.bytes[4], stream, self.bytes[9:9 + length]))
            self.bytes = self.bytes[9 + length:]
        return frames


def answer_to_control(kind, flags, payload):
    """What must be said to a frame of the connection itself; empty where nothing must."""
    if flags & ACK:
        return b""
    if kind == SETTINGS:
        return frame(SETTINGS, ACK, 0)
    if kind == PING:
        return frame(PING, ACK, 0, payload)
    return b""
