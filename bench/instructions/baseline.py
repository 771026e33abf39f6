"""The baseline, and what counts are beside it.

A count may differ by 5 % of its baseline; more in either direction is wrong: growth is a cost that somebody must want,
and a baseline that is too high would let the next growth through. Both are set right by writing the baseline anew, in the
commit that changes the counts.
"""

import json
from dataclasses import dataclass

TOLERANCE = 0.05
ANEW = "just instructions --write"


@dataclass(frozen=True)
class Baseline:
    """Instructions by case, and what they depend on beside the code."""

    counts: dict
    environment: dict

    @classmethod
    def read(cls, path):
        fields = json.loads(path.read_text())
        return cls(fields["counts"], fields["environment"])

    def write(self, path):
        path.write_text(json.dumps({"environment": self.environment, "counts": self.counts}, indent=2) + "\n")


@dataclass(frozen=True)
class Row:
    """One case: `None` for what is not there."""

    name: str
    before: int | None
    now: int | None

    @property
    def change(self):
        """As a share of the baseline."""
        return None if not self.before or self.now is None else self.now / self.before - 1

    @property
    def complaint(self):
        """What is wrong with it; empty when nothing is."""
        if self.before is None:
            return "has no baseline"
        if self.now is None:
            return "is not counted any more"
        if self.now > self.before * (1 + TOLERANCE):
            return "has grown"
        if self.now < self.before * (1 - TOLERANCE):
            return "has shrunk"
        return ""


def compare(before, now):
    """All cases of both, in the order of the counts; those that are gone come last."""
    names = [*now, *(name for name in before if name not in now)]
    return [Row(name, before.get(name), now.get(name)) for name in names]


def table(rows):
    """Name, baseline, now and change, in columns."""
    width = max(len(row.name) for row in rows)
    lines = [f"{'instructions of one':<{width}}  {'baseline':>12}  {'now':>12}  {'change':>8}"]
    for row in rows:
        change = "-" if row.change is None else f"{row.change:+.1%}"
        end = f"  {row.complaint}" if row.complaint else ""
        lines.append(f"{row.name:<{width}}  {number(row.before):>12}  {number(row.now):>12}  {change:>8}{end}")
    return "\n".join(lines)


def number(value):
    return "-" if value is None else f"{value:,}"


def verdict(rows, before, now):
    """What must be done, for a person; empty when nothing must. `before` and `now` are the environments."""
    wrong = [row for row in rows if row.complaint]
    if not wrong:
        return ""
    lines = [f"{row.name} {row.complaint}{of_bound(row)}" for row in wrong]
    differing = [f"{name}: {before.get(name)} then, {now.get(name)} now" for name in now if before.get(name) != now.get(name)]
    if differing:
        lines.append(f"The baseline was counted elsewhere ({'; '.join(differing)}), which may be why.")
    lines.append(f"Where this is meant, write the baseline anew in the same commit: {ANEW}")
    return "\n".join(lines)


def of_bound(row):
    if row.change is None:
        return ""
    return f": {number(row.now)} instructions, {row.change:+.1%}; up to {TOLERANCE:.0%} is let through"


def spread(rounds):
    """The middle of each case's counts, and how far they lie apart as a share of it."""
    result = {}
    for name in rounds[0]:
        values = sorted(counts[name] for counts in rounds)
        middle = values[len(values) // 2]
        result[name] = (middle, (values[-1] - values[0]) / middle if middle else 0.0)
    return result
