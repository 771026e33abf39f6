"""What the load generators print, as figures. Pure; text that is not understood is an `error` in the figures."""

import json
import re

TAIL = 300
# The load ends in the middle of some answers.
COMPLETE = 0.99


def wrk(text):
    """Requests, requests a second, and what went wrong, of `wrk`."""
    total = re.search(r"(\d+) requests in ", text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    if not total or not rate:
        return failed("wrk", text)
    figures = {"requests": int(total[1]), "per_second": float(rate[1])}
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    broken = re.search(r"Socket errors: (.*)", text)
    errors = [f"{refused[1]} answers are not 2xx"] if refused else []
    errors += [f"socket errors: {broken[1].strip()}"] if broken else []
    return with_errors(figures, errors)


def h2load(text, body=None):
    """Requests that got a 2xx, and requests a second, of `h2load`; with a size each answer must have had such a body."""
    rate = re.search(r"finished in .*?, ([\d.]+) req/s", text)
    good = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", text)
    asked = re.search(r"(\d+) succeeded, (\d+) failed", text)
    if not rate or not good or not asked:
        return failed("h2load", text)
    figures = {"requests": int(good[1]), "per_second": float(rate[1])}
    errors = [f"{asked[2]} requests failed"] if int(asked[2]) else []
    other = sum(int(good[group]) for group in (2, 3, 4))
    errors += [f"{other} answers are not 2xx"] if other else []
    data = re.search(r"\((\d+)\) data", text)
    if body and (not data or int(data[1]) < COMPLETE * body * figures["requests"]):
        errors.append(f"{data[1] if data else 0} bytes of bodies, not {body} for each request")
    return with_errors(figures, errors)


def iperf3(text):
    """Bytes and Gbit/s that arrived, of `iperf3 --json`."""
    try:
        received = json.loads(text)["end"]["sum_received"]
        return {"bytes": received["bytes"], "gbit": received["bits_per_second"] / 1e9}
    except (ValueError, KeyError, TypeError):
        return failed("iperf3", text)


def openloop(text):
    """Latencies in microseconds, of `openloop`."""
    try:
        figures = json.loads(text)
        bad = figures.pop("bad")
        figures["requests"] = figures.pop("sent")
    except (ValueError, KeyError, TypeError, AttributeError):
        return failed("openloop", text)
    return with_errors(figures, [f"{bad} requests failed"] if bad else [])


def perf(text):
    """How often each event was counted, of `perf stat --field-separator ,`."""
    lines = (line.split(",") for line in text.splitlines())
    return {short(fields[2]): int(fields[0]) for fields in lines if len(fields) > 2 and fields[0].isdigit()}


def strace(text):
    """How often each system call was made, of `strace --summary-only`; `all` is their sum."""
    calls = re.findall(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", text, re.M)
    counts = {name: int(count) for count, name in calls if name != "total"}
    return {"all": sum(counts.values()), **counts}


def handshakes(text):
    """How many handshakes a Weft has made as a client, by kind, in its metrics."""
    samples = re.findall(r'^weft_tls_handshakes_total\{direction="outbound",kind="(\w+)",result="ok"\} (\d+)', text, re.M)
    return {kind: int(count) for kind, count in samples}


def short(event):
    """The name of a system call in the name of its tracepoint."""
    return "all" if event == "raw_syscalls:sys_enter" else event.rpartition("sys_enter_")[2]


def failed(program, text):
    return {"error": f"{program} gave no figures: {text.strip()[-TAIL:]}"}


def with_errors(figures, errors):
    return {**figures, "error": "; ".join(errors)} if errors else figures
