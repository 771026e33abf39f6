"""What is made of the figures of rounds: medians with their spread, and ratios within a round. Pure.

A ratio is taken of two peers' figures of the same round, and its median over the rounds is what to quote: it cancels most
of what disturbs a machine, which two medians of their own do not.
"""

import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """A median, and the least and the greatest of the same figures."""

    median: float
    least: float
    most: float


def spread(values):
    """The spread of figures; None when there are none."""
    return Spread(statistics.median(values), min(values), max(values)) if values else None


def of(rounds, key):
    """A figure by the number of its round; rounds without it are left out."""
    return {one["round"]: one[key] for one in rounds if isinstance(one.get(key), (int, float))}


def ratios(own, other, key):
    """The ratios of a figure of one peer to that of another, round by round; there is none to what noise made negative."""
    ours, theirs = of(own, key), of(other, key)
    return [ours[number] / theirs[number] for number in ours if theirs.get(number, 0) > 0]


def add_latencies(tests):
    """Adds to each round of `rate` what the sidecars add to the latencies of the direct way in the same round."""
    rounds = tests.get("rate", {}).get("rounds", {})
    for key in ("p50", "p99"):
        direct = of(rounds.get("direct", []), key)
        for peer, own in rounds.items():
            for one in own:
                if peer != "direct" and key in one and one["round"] in direct:
                    one[f"added_{key}"] = one[key] - direct[one["round"]]


def errors(rounds):
    """What went wrong in the rounds of a peer, each with the number of its round."""
    return [f"round {one['round']}: {one['error']}" for one in rounds if one.get("error")]
