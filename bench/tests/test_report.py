"""Medians, ratios, goals and the table are made of rounds as they should be."""

import unittest

from sidecars import figures, report
from sidecars.goals import ROWS, Goal
from sidecars.measures import TESTS


def rounds(key, *values):
    return [{"round": number, key: value} for number, value in enumerate(values, 1)]


def results(**tests):
    peers = {peer for test in tests.values() for peer in test}
    return {
        "machine": {"began": "2026-11-28T00:00:00+00:00", "cpus": 2, "processor": "P", "memory_gib": 8, "kernel": "6",
                    "system": "Debian", "load_average": 0.5},
        "settings": {"rounds": 3, "seconds": 8, "rate": 1000, "connections": 1000}, "revision": "abc",
        "versions": {peer: f"{peer} 1" for peer in sorted(peers)}, "absent": {},
        "tests": {name: {"what": "", "rounds": test} for name, test in tests.items()}}


class Figures(unittest.TestCase):
    def test_a_spread_is_median_least_and_greatest(self):
        self.assertEqual(figures.spread([3, 1, 2]), figures.Spread(2, 1, 3))
        self.assertEqual(figures.spread([4, 1]), figures.Spread(2.5, 1, 4))
        self.assertIsNone(figures.spread([]))

    def test_ratios_are_taken_within_a_round(self):
        self.assertEqual(figures.ratios(rounds("us", 1, 20), rounds("us", 2, 40), "us"), [0.5, 0.5])

    def test_a_round_that_one_of_both_lacks_has_no_ratio(self):
        self.assertEqual(figures.ratios(rounds("us", 1, 20), rounds("us", 2), "us"), [0.5])
        self.assertEqual(figures.ratios(rounds("us", 1, 1), rounds("us", 0, -2), "us"), [])
        self.assertEqual(figures.ratios([{"round": 1, "error": "none"}], rounds("us", 2), "us"), [])

    def test_added_latency_is_counted_from_the_direct_way_of_the_same_round(self):
        tests = {"rate": {"rounds": {"direct": rounds("p50", 70, 90), "weft": rounds("p50", 300, 350)}}}
        figures.add_latencies(tests)
        self.assertEqual([one["added_p50"] for one in tests["rate"]["rounds"]["weft"]], [230, 260])
        figures.add_latencies({})


class Goals(unittest.TestCase):
    def test_every_row_is_of_a_test(self):
        self.assertEqual({row.test for row in ROWS} - TESTS.keys(), set())
        self.assertEqual(TESTS.keys() - {row.test for row in ROWS}, set())

    def test_a_goal_is_a_bound_from_above_or_from_below(self):
        for goal, own, met in ((Goal("us", 0.8, "envoy-h2"), 8, True), (Goal("us", 0.8, "envoy-h2"), 9, False),
                               (Goal("us", 1.1, "envoy-h2", at_least=True), 12, True),
                               (Goal("us", 1.1, "envoy-h2", at_least=True), 10, False)):
            reached = goal.reached({"weft": rounds("us", own, own, own), "envoy-h2": rounds("us", 10, 10, 10)})
            self.assertEqual(goal.met(reached), met, goal)

    def test_a_goal_without_a_peer_is_of_the_figure_itself(self):
        goal = Goal("a_mib", 10)
        self.assertTrue(goal.met(goal.reached({"weft": rounds("a_mib", 9)})))
        self.assertEqual((str(goal), str(Goal("us", 0.8, "x"))), ("<= 10", "<= 0.8 x x"))

    def test_what_was_not_measured_is_not_reached(self):
        self.assertIsNone(Goal("us", 0.8, "envoy-h2").reached({"weft": rounds("us", 1)}))


class Table(unittest.TestCase):
    def test_a_row_has_medians_spreads_ratio_and_verdict(self):
        table = report.markdown(results(opaque={"weft": rounds("gbit", 4, 6, 5), "envoy-h2": rounds("gbit", 4, 4, 4)}))
        self.assertIn("| metric | weft | envoy-h2 | goal of Weft | reached | met |", table)
        row = "| opaque TCP: Gbit/s | 5.00 [4.00..6.00] | 4.00 | >= 1.1 x envoy-h2 | 1.25 [1.00..1.50] | yes |"
        self.assertIn(row, table)

    def test_figures_of_both_sidecars_stand_side_by_side(self):
        both = [{"round": 1, "a_us": 17.04, "b_us": 16.5, "us": 33.54}]
        self.assertIn("| 17.0 / 16.5 | <= 0.8 x haproxy-h2<br><= 0.25 x envoy-h2 | not measured<br>not measured | -<br>- |",
                      report.markdown(results(h1={"weft": both})))

    def test_what_went_wrong_is_marked_and_told(self):
        found = results(opaque={"weft": [{"round": 1, "gbit": 5.0, "error": "2 failed"}]})
        found["absent"]["ztunnel"] = "it ended\nits log"
        table = report.markdown(found)
        self.assertIn("| 5.00 ! |", table)
        self.assertIn("| not measured | - |", table)
        self.assertIn("- opaque, weft (!): round 1: 2 failed", table)
        self.assertIn("- ztunnel did not take part to the end: it ended\n", table)

    def test_a_goal_is_not_met_by_requests_that_failed(self):
        found = results(memory={"weft": [{"round": 1, "a_mib": 5.0, "error": "2 failed"}]})
        self.assertIn("| 5.00 | no: errors |", report.markdown(found))

    def test_making_the_table_does_not_change_the_figures(self):
        found = results(rate={"direct": rounds("p50", 70), "weft": rounds("p50", 300)})
        report.markdown(found)
        self.assertNotIn("added_p50", found["tests"]["rate"]["rounds"]["weft"][0])

    def test_the_table_replaces_the_former_one_between_the_markers(self):
        page = f"head\n{report.BEGIN}\nold\n{report.END}\ntail\n"
        once = report.put_into(page, "new")
        self.assertEqual(once, f"head\n{report.BEGIN}\n\nnew\n{report.END}\ntail\n")
        self.assertEqual(report.put_into(once, "new"), once)

    def test_a_page_without_markers_is_refused(self):
        for page in ("", report.BEGIN, report.END + report.BEGIN):
            with self.assertRaisesRegex(ValueError, "must hold"):
                report.put_into(page, "new")


if __name__ == "__main__":
    unittest.main()
