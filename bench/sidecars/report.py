"""The table of a run in Markdown, and its place in the documentation. Pure.

A cell holds the median of the rounds and [least..greatest], of sidecar A / B where both were measured.
"""

import copy

from sidecars import figures
from sidecars.goals import ROWS

BEGIN, END = "<!-- the newest table begins -->", "<!-- the newest table ends -->"


def markdown(results):
    """The whole report: where and when, the versions, the table, what went wrong."""
    tests = copy.deepcopy(results["tests"])
    figures.add_latencies(tests)
    peers = [peer for peer in results["versions"] if any(test["rounds"].get(peer) for test in tests.values())]
    peers.sort(key=lambda peer: (peer != "weft", peer == "direct"))
    rows = [row for row in ROWS if any(tests.get(row.test, {}).get("rounds", {}).values())]
    lines = [where(results), "", *versions(results, peers), "",
             line(["metric", *peers, "goal of Weft", "reached", "met"]), line(["---"] * (len(peers) + 4))]
    for row in rows:
        rounds = tests[row.test]["rounds"]
        lines.append(line([row.title, *(cell(rounds.get(peer, []), row) for peer in peers), *goals(row, rounds)]))
    return "\n".join(lines + troubles(results)) + "\n"


def where(results):
    machine, settings = results["machine"], results["settings"]
    return (f"Begun {machine['began']} on {machine['cpus']} CPUs ({machine['processor']}), {machine['memory_gib']} GiB, "
            f"Linux {machine['kernel']}, {machine['system']}; load average at the start {machine['load_average']:.1f}. "
            f"Source {results['revision']}. {settings['rounds']} rounds of {settings['seconds']} s, {settings['rate']} "
            f"requests/s at the constant rate, {settings['connections']} idle connections.")


def versions(results, peers):
    return [f"- {peer}: {results['versions'][peer]}" for peer in peers]


def cell(rounds, row):
    """The figures of a peer in a row; a dash where it was not measured."""
    shown = [figures.spread(list(figures.of(rounds, key).values())) for key in row.keys]
    shown = [text(spread, row.decimals) for spread in shown if spread]
    mark = " !" if figures.errors(rounds) else ""
    return " / ".join(shown) + mark if shown else "-"


def text(spread, decimals):
    """A median with its spread."""
    median, least, most = (f"{value:,.{decimals}f}" for value in (spread.median, spread.least, spread.most))
    return median if median == least == most else f"{median} [{least}..{most}]"


def goals(row, rounds):
    """Three cells: the goals of a row, what Weft has reached, and whether that is enough."""
    reached = [goal.reached(rounds) for goal in row.goals]
    failed = bool(figures.errors(rounds.get("weft", [])))
    return ["<br>".join(map(str, row.goals)),
            "<br>".join(text(spread, 2) if spread else "not measured" for spread in reached),
            "<br>".join(verdict(goal, spread, failed) for goal, spread in zip(row.goals, reached))]


def verdict(goal, spread, failed):
    """Whether a goal is met; figures of requests that failed prove nothing."""
    if not spread:
        return "-"
    if failed:
        return "no: errors"
    return "yes" if goal.met(spread) else "no"


def troubles(results):
    """Peers that are not in the table and why, and what went wrong in rounds that are."""
    absent = [f"- {peer} did not take part to the end: {first_line(reason)}" for peer, reason in results["absent"].items()]
    wrong = [f"- {name}, {peer} (!): {'; '.join(figures.errors(rounds)[:3])}"
             for name, test in results["tests"].items() for peer, rounds in test["rounds"].items()
             if figures.errors(rounds)]
    by_strace = any(one.get("counted_by") == "strace" for test in results["tests"].values()
                    for rounds in test["rounds"].values() for one in rounds)
    note = ["- System calls were counted by strace, which slows a sidecar down: it batches more than it would."] * by_strace
    return ["", *absent, *wrong, *note] if absent or wrong or note else []


def first_line(reason):
    return reason.strip().split("\n")[0]


def line(cells):
    return f"| {' | '.join(cells)} |"


def put_into(page, table):
    """The page with the table between its two markers."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"docs/performance.md has no place for the table: it must hold {BEGIN!r} and then {END!r}")
    return f"{head}{BEGIN}\n\n{table}\n{END}{tail}"
