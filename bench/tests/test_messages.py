"""What is sent to be counted arrives whole: load and application speak with each other as they do through sidecars."""

import unittest

from instructions import application, http2, load
from instructions.application import Application


class Messages(unittest.TestCase):
    def setUp(self):
        self.application = Application()
        self.addCleanup(self.application.close)

    def connect(self, port, kind, **options):
        connection = kind(self.application.ports[port], "web.bench:80", **options)
        self.addCleanup(connection.close)
        return connection

    def test_each_kind_is_answered_over_and_over_on_one_connection(self):
        for port, kind in (("http", load.Http1), ("http2", load.Http2), ("tcp", load.Tcp)):
            connection = self.connect(port, kind)
            for _ in range(3):
                connection.once()

    def test_a_large_body_goes_piece_by_piece_and_leaves_nothing_behind(self):
        connection = self.connect("http", load.Http1, path="/large")
        for _ in range(3):
            connection.once()
            self.assertFalse(application.HAS_ARRIVED.acquire(blocking=False))

    def test_an_answer_that_is_none_is_an_error(self):
        connection = self.connect("tcp", load.Http1)
        with self.assertRaisesRegex(ConnectionError, "expected HTTP/1.1 200"):
            connection.once()

    def test_frames_come_out_of_any_pieces(self):
        whole = http2.beginning() + http2.head(1, [(":status", "200")], ends=True)
        frames = http2.Frames()
        taken = [frame for byte in whole for frame in frames.taken(bytes([byte]))]
        self.assertEqual([kind for kind, *_ in taken], [http2.SETTINGS, http2.WINDOW_UPDATE, http2.HEADERS])
        self.assertEqual(taken[2][1:], (http2.END_HEADERS | http2.END_STREAM, 1, b"\0\x07:status\x03200"))

    def test_settings_and_pings_are_acknowledged_once(self):
        ping = http2.answer_to_control(http2.PING, 0, b"12345678")
        self.assertEqual(ping, http2.frame(http2.PING, http2.ACK, 0, b"12345678"))
        self.assertEqual(http2.answer_to_control(http2.PING, http2.ACK, b"12345678"), b"")
        self.assertEqual(http2.answer_to_control(http2.SETTINGS, 0, b""), http2.frame(http2.SETTINGS, http2.ACK, 0))
