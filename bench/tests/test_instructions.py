"""Counts are read by function, crypto is told apart, and the gate's verdict follows the baseline."""

import pathlib
import tempfile
import unittest

from instructions import baseline, callgrind, cases, environment, main, mesh
from instructions.baseline import Baseline

COSTS = """# callgrind format
version: 1
creator: callgrind-3.19.0
pid: 4
cmd:  weft-proxy
part: 1
desc: I1 cache:
positions: line
events: Ir
summary: 1500

ob=(1) /usr/bin/weft-proxy
fl=(1) proxy/src/exchange.rs
fn=(1) weft_proxy::exchange::serve
16 400
fi=(2) proxy/src/http.rs
+3 50
fe=(1)
* 7
cob=(2) /lib/libc.so.6
cfi=(3) memcpy.S
cfn=(2) memcpy
calls=1 50
16 1000
-2 3

ob=(2)
fl=(3)
fn=(2)
50 900
51 100

ob=(1)
fl=(4) aead.c
fn=(3) aws_lc_0_47_0_EVP_AEAD_CTX_seal
9 30
fn=(4) _aesni_ctr32_ghash_6x
9 8
fn=(1)
20 40
totals: 1538
"""


class Costs(unittest.TestCase):
    def test_each_function_has_its_own_instructions_and_not_those_of_what_it_calls(self):
        counts = callgrind.costs(COSTS)
        self.assertEqual(counts["weft_proxy::exchange::serve"], 400 + 50 + 7 + 3 + 40)
        self.assertEqual(counts["memcpy"], 1000)
        self.assertEqual(counts.total(), 1538)

    def test_crypto_is_left_out_unless_it_is_wanted(self):
        counts = callgrind.costs(COSTS)
        self.assertEqual(callgrind.instructions(counts, with_crypto=False), 1500)
        self.assertEqual(callgrind.instructions(counts, with_crypto=True), 1538)

    def test_crypto_is_known_by_its_symbols_and_nothing_of_ours_is_taken_for_it(self):
        for name in ("aws_lc_0_47_0_SHA256_Update", "_aesni_encrypt8", "aead_aes_gcm_seal_scatter_impl",
                     "Lp256_montjscalarmul_mainloop"):
            self.assertTrue(callgrind.is_crypto(name), name)
        for name in ("memcpy", "weft_proxy::tls::MutualTls::accept", "rustls::crypto::aws_lc_rs::tls13::GcmMessageEncrypter",
                     "aws_lc_rs::aead::less_safe_key::LessSafeKey::seal", "_int_free"):
            self.assertFalse(callgrind.is_crypto(name), name)

    def test_what_is_no_file_of_costs_is_refused(self):
        for text in ("", "events: Cy\nfn=(1) main\n1 2\n"):
            with self.assertRaisesRegex(callgrind.NotCounted, "events: Ir"):
                callgrind.costs(text)

    def test_a_thread_that_did_nothing_has_no_instructions(self):
        self.assertEqual(callgrind.costs("positions: line\nevents: Ir\nsummary: 0\n\ntotals: 0\n").total(), 0)


class Verdict(unittest.TestCase):
    BEFORE = {"request": 1000, "chunk": 200}

    def verdict(self, now, elsewhere=None):
        rows = baseline.compare(self.BEFORE, now)
        here = {"rustc": "rustc 1.95.0"}
        return baseline.verdict(rows, elsewhere or here, here)

    def test_five_percent_either_way_is_let_through(self):
        for request in (1000, 1050, 950):
            self.assertEqual(self.verdict({"request": request, "chunk": 200}), "", request)

    def test_growth_beyond_that_is_wrong(self):
        verdict = self.verdict({"request": 1051, "chunk": 200})
        self.assertIn("request has grown: 1,051 instructions, +5.1%", verdict)
        self.assertIn("just instructions --write", verdict)
        self.assertNotIn("chunk", verdict)

    def test_a_baseline_that_has_become_too_high_is_to_be_lowered(self):
        self.assertIn("request has shrunk: 949 instructions, -5.1%", self.verdict({"request": 949, "chunk": 200}))

    def test_cases_come_and_go_with_the_baseline_only(self):
        self.assertIn("record has no baseline", self.verdict({**self.BEFORE, "record": 7}))
        self.assertIn("chunk is not counted any more", self.verdict({"request": 1000}))

    def test_another_compiler_is_named_where_counts_differ_and_is_no_failure_of_itself(self):
        elsewhere = {"rustc": "rustc 1.90.0"}
        self.assertEqual(self.verdict(self.BEFORE, elsewhere), "")
        self.assertIn("rustc: rustc 1.90.0 then, rustc 1.95.0 now", self.verdict({"request": 1, "chunk": 200}, elsewhere))

    def test_the_table_says_what_is_wrong_beside_the_row(self):
        lines = baseline.table(baseline.compare(self.BEFORE, {"request": 1100, "record": 7})).splitlines()
        self.assertRegex(lines[0], r"^instructions of one +baseline +now +change$")
        self.assertRegex(lines[1], r"^request +1,000 +1,100 +\+10\.0%  has grown$")
        self.assertRegex(lines[2], r"^record +- +7 +-  has no baseline$")
        self.assertRegex(lines[3], r"^chunk +200 +- +-  is not counted any more$")

    def test_a_written_baseline_is_read_as_it_was(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "baseline.json")
            written = Baseline(self.BEFORE, {"rustc": "rustc 1.95.0", "avx2": True})
            written.write(path)
            self.assertEqual(Baseline.read(path), written)

    def test_the_spread_is_a_share_of_the_middle(self):
        rounds = [{"request": count} for count in (1010, 1000, 990)]
        self.assertEqual(baseline.spread(rounds), {"request": (1000, 0.02)})


class Cases(unittest.TestCase):
    def test_every_case_has_a_baseline_and_every_baseline_a_case(self):
        names = {f"{message.name}, {side}" for message in cases.MESSAGES for side in cases.SIDES.values()}
        names |= {step.name for step in cases.STEPS}
        self.assertEqual(set(Baseline.read(main.PATH).counts), names)

    def test_settings_from_outside_do_not_reach_what_is_counted(self):
        variables = environment.variables({"WEFT_LOG": "debug", "PATH": "/bin", "GLIBC_TUNABLES": "x"})
        self.assertNotIn("WEFT_LOG", variables)
        self.assertEqual((variables["PATH"], variables["GLIBC_TUNABLES"]), ("/bin", environment.TUNABLES))

    def test_objects_declare_the_opaque_port_alone(self):
        objects = mesh.objects_of({"http": 1, "tcp": 2})
        self.assertIn("- {name: http, port: 1}", objects)
        self.assertIn("- {name: tcp, port: 2, protocol: tcp}", objects)
