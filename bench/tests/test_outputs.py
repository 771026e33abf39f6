"""What load generators and counters print is read as it was meant, and what is not understood is an error."""

import unittest

from sidecars import outputs

WRK = """Running 2s test @ http://127.0.0.1:20000/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     2.11ms    1.11ms  28.79ms   91.21%
    Req/Sec    31.21k     2.10k   34.20k    75.00%
  62343 requests in 2.01s, 75.10MB read
Requests/sec:  31080.42
Transfer/sec:     37.44MB
"""
WRK_IN_TROUBLE = WRK.replace("Requests/sec", "  Socket errors: connect 0, read 3, write 0, timeout 7\n"
                             "  Non-2xx or 3xx responses: 12\nRequests/sec")
H2LOAD = """finished in 2.05s, 5976.00 req/s, 6.20MB/s
requests: 11952 total, 12272 started, 11952 done, 11950 succeeded, 2 failed, 2 errored, 0 timeout
status codes: 11950 2xx, 0 3xx, 0 4xx, 2 5xx
traffic: 12.41MB (13013048) total, 303.95KB (311246) headers (space savings 84.67%), 11.73MB (12296550) data
"""
IPERF3 = '{"start": {}, "end": {"sum_received": {"bytes": 1129183690, "bits_per_second": 4473000000.0}}}'
OPENLOOP = ('{"sent": 2999, "recorded": 2008, "bad": 0, "p50": 74, "p90": 238, "p99": 2667, "p999": 5432, "max": 8079, '
            '"mean": 186.0}')
PERF = """# started on Sat Nov 28 01:11:30 2026

66706,,raw_syscalls:sys_enter,2557011,100.00,,
28000,,syscalls:sys_enter_recvfrom,2557011,100.00,,
<not counted>,,syscalls:sys_enter_splice,0,0.00,,
"""
STRACE = """% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 61.20    0.030000           3     10000           sendto
 38.80    0.019000           2      9000       100 recvfrom
------ ----------- ----------- --------- --------- ----------------
100.00    0.049000           2     19000       100 total
"""


class Outputs(unittest.TestCase):
    def test_wrk_gives_requests_and_their_rate(self):
        self.assertEqual(outputs.wrk(WRK), {"requests": 62343, "per_second": 31080.42})

    def test_wrk_tells_of_refusals_and_broken_connections(self):
        figures = outputs.wrk(WRK_IN_TROUBLE)
        self.assertEqual(figures["requests"], 62343)
        self.assertEqual(figures["error"],
                         "12 answers are not 2xx; socket errors: connect 0, read 3, write 0, timeout 7")

    def test_h2load_counts_good_answers_only(self):
        figures = outputs.h2load(H2LOAD)
        self.assertEqual((figures["requests"], figures["per_second"]), (11950, 5976))
        self.assertEqual(figures["error"], "2 requests failed; 2 answers are not 2xx")

    def test_h2load_misses_bodies_that_did_not_come(self):
        self.assertNotIn("bodies", outputs.h2load(H2LOAD, body=1029)["error"])
        self.assertIn("12296550 bytes of bodies", outputs.h2load(H2LOAD, body=1100)["error"])

    def test_iperf3_gives_bytes_and_gigabits(self):
        self.assertEqual(outputs.iperf3(IPERF3), {"bytes": 1129183690, "gbit": 4.473})

    def test_openloop_gives_latencies(self):
        figures = outputs.openloop(OPENLOOP)
        self.assertEqual((figures["requests"], figures["p99"]), (2999, 2667))
        self.assertNotIn("error", figures)
        self.assertEqual(outputs.openloop(OPENLOOP.replace('"bad": 0', '"bad": 4'))["error"], "4 requests failed")

    def test_text_that_is_not_understood_is_an_error_with_its_end(self):
        readers = {"wrk": outputs.wrk, "h2load": outputs.h2load, "iperf3": outputs.iperf3, "openloop": outputs.openloop}
        for name, read in readers.items():
            for text in ("", "connection refused", "{}", '{"end": 1}', "[]"):
                with self.subTest(name, text=text):
                    self.assertEqual(read(text), {"error": f"{name} gave no figures: {text}"})

    def test_perf_gives_calls_by_name(self):
        self.assertEqual(outputs.perf(PERF), {"all": 66706, "recvfrom": 28000})

    def test_handshakes_are_counted_by_kind(self):
        text = ('weft_tls_handshakes_total{direction="outbound",kind="resumed",result="ok"} 1154\n'
                'weft_tls_handshakes_total{direction="outbound",kind="full",result="ok"} 779\n'
                'weft_tls_handshakes_total{direction="inbound",kind="full",result="ok"} 3\n')
        self.assertEqual(outputs.handshakes(text), {"resumed": 1154, "full": 779})
        self.assertEqual(outputs.handshakes(""), {})

    def test_strace_gives_calls_by_name_and_their_sum(self):
        self.assertEqual(outputs.strace(STRACE), {"all": 19000, "sendto": 10000, "recvfrom": 9000})


if __name__ == "__main__":
    unittest.main()
