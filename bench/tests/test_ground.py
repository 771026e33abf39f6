"""Processes are counted and ended with their children, and installing packages starts no service."""

import pathlib
import tempfile
import unittest
from unittest import mock

from sidecars import bed, process, programs
from sidecars.process import Cpu


def has_ended(pid):
    """Whether a process is gone, or waits only to be buried."""
    return process.read(f"/proc/{pid}/stat").rpartition(")")[2][1:2] in ("", "Z")


class Processes(unittest.TestCase):
    def test_cpu_is_read_behind_a_name_with_blanks_and_brackets(self):
        fields = " ".join(["S", *["0"] * 10, "250", "50", "0"])
        self.assertEqual(process.cpu_in(f"7 (a b) c) {fields}"), Cpu(250 / process.TICKS, 50 / process.TICKS))
        self.assertEqual(process.cpu_in(""), Cpu(0, 0))

    def test_children_are_counted_and_end_with_their_parent(self):
        with tempfile.TemporaryDirectory() as folder:
            log = pathlib.Path(folder, "log")
            started = process.start("shell", ["sh", "-c", "sleep 600 & echo up; wait"], log)
            bed.wait_until(lambda: "up" in started.log_tail(), 10, "the shell is up")
            tree = started.tree()
            self.assertEqual(len(tree), 2)
            self.assertGreater(started.memory().rss, 0)
            started.kill()
            self.assertFalse(started.running)
            bed.wait_until(lambda: all(map(has_ended, tree)), 10, "all have ended")

    def test_a_wait_in_vain_says_for_what(self):
        with self.assertRaisesRegex(TimeoutError, "waited 0 s in vain: it rains"):
            bed.wait_until(lambda: False, 0, "it rains")


class Programs(unittest.TestCase):
    def test_no_service_starts_while_packages_are_installed(self):
        with tempfile.TemporaryDirectory() as folder, \
                mock.patch.object(programs, "POLICY", pathlib.Path(folder, "policy-rc.d")) as policy:
            with self.assertRaises(programs.Missing), programs.no_services():
                self.assertIn("exit 101", policy.read_text())
                raise programs.Missing("apt-get failed")
            self.assertFalse(policy.exists())
            policy.write_text("the machine's own")
            with programs.no_services():
                pass
            self.assertEqual(policy.read_text(), "the machine's own")

    def test_a_variable_that_names_no_program_is_refused(self):
        with mock.patch.dict("os.environ", WEFT="/no/such/program"):
            with self.assertRaisesRegex(programs.Missing, "WEFT=/no/such/program is no program"):
                programs.given("WEFT")


if __name__ == "__main__":
    unittest.main()
