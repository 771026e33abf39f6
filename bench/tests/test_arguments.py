"""Arguments are checked before anything is made, and a wrong one is named with what would be right."""

import contextlib
import io
import pathlib
import tempfile
import unittest
from unittest import mock

from sidecars import arguments
from sidecars.measures import QUICK, TESTS
from sidecars.peers import PEERS


def refused(*words):
    """What is said of arguments that are not right."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            arguments.parse(words)
        except SystemExit:
            return said.getvalue()
    raise AssertionError(f"{words} were taken")


@mock.patch("os.geteuid", return_value=0)
class Arguments(unittest.TestCase):
    def test_everything_is_measured_unless_said(self, _):
        settings = arguments.parse([])
        self.assertEqual((settings.tests, settings.peers), (list(TESTS), list(PEERS)))
        self.assertEqual((settings.rounds, settings.seconds), (5, 8))

    def test_quick_measures_less_and_can_be_changed(self, _):
        settings = arguments.parse(["--quick", "--rounds", "7"])
        self.assertEqual(settings.tests, list(QUICK))
        self.assertEqual((settings.rounds, settings.seconds), (7, 4))

    def test_the_direct_way_joins_where_latency_is_counted_from_it(self, _):
        self.assertEqual(arguments.parse(["--tests", "rate", "--peers", "weft"]).peers, ["direct", "weft"])
        self.assertEqual(arguments.parse(["--tests", "h1", "--peers", "weft"]).peers, ["weft"])

    def test_what_is_wrong_is_named_with_what_would_be_right(self, _):
        for words, said in ((["--tests", "h1,nope"], "nope is no test; there are h1, h2,"),
                            (["--peers", "nope"], "nope is no peer; there are direct, weft,"),
                            (["--peers", ","], "nothing is no peer"),
                            (["--rounds", "0"], "'0' is no whole number from 1 to 100"),
                            (["--secs", "1.5"], "'1.5' is no whole number from 1 to 600"),
                            (["--out", "/no/such/folder/x.json"], "/no/such/folder is no folder"),
                            (["--from", "/no/such/file"], "/no/such/file is no file")):
            with self.subTest(words):
                self.assertIn(said, refused(*words))

    def test_measuring_needs_root_and_a_former_table_does_not(self, geteuid):
        geteuid.return_value = 1000
        self.assertIn("root is needed", refused("--quick"))
        with tempfile.NamedTemporaryFile() as file:
            self.assertEqual(arguments.parse(["--from", file.name]).former, pathlib.Path(file.name))


if __name__ == "__main__":
    unittest.main()
