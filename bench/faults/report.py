"""What a run came to, in figures."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from bench.faults.checker import Verdict
from bench.faults.injector import Done, Injector
from bench.faults.schedule import KILL_POINTS, KILLS, FaultKind
from bench.faults.topics import Lists

_BROKER = (FaultKind.BROKER_GONE, FaultKind.BROKER_RESTART)
_INDEX = (FaultKind.INDEX_FAILS, FaultKind.INDEX_SLOW)


def figures(
    injector: Injector, verdict: Verdict, lists: Lists, waits: Iterable[tuple[float, float]],
    storm: tuple[float, float],
) -> dict[str, Any]:  # fmt: skip
    """One flat object; seconds are rounded to a tenth, None where nothing was measured.

    ``waits``: see ``Lists.waits``; ``storm``: its begin and end, epoch s.
    """
    inside: list[float] = []
    outside: list[float] = []
    for at, seconds in waits:
        (inside if storm[0] <= at < storm[1] else outside).append(seconds)
    everyone = [*injector.workers, injector.joiner]
    told = [worker.told() for worker in everyone]
    kills = [done for done in injector.done if done.kind in KILLS]
    takeovers = [lists.again_after(kill.begun) for kill in kills]
    outages = [d for d in injector.done if d.kind in (*_BROKER, *_INDEX)]
    after = [lists.again_after(outage.ended) for outage in outages]
    recoveries = [seconds for worker in everyone for seconds in worker.recoveries()]
    counted = asdict(verdict)
    examples = counted.pop("examples")
    return {
        "kills": len(kills),
        "kills_in_delivery": _count(injector.done, *KILL_POINTS),
        "rebalances": sum(t["what"] == "left" for t in told[-1]),
        "assignments": sum(t["what"] == "ready" for lines in told for t in lines),
        "zombies": _count(injector.done, FaultKind.ZOMBIE),
        "bundles_switched": _count(injector.done, FaultKind.BUNDLE),
        "lists_by_space": dict(lists.models),
        "outages": len(outages),
        "broker_outages": _count(injector.done, *_BROKER),
        "index_outages": _count(injector.done, *_INDEX),
        "bad_messages": verdict.letters_expected,
        **counted,
        "recovery_s": _most(recoveries),
        "recovery_p50_s": _middle(recoveries),
        "takeover_s": _most(takeovers),
        "takeover_p50_s": _middle(takeovers),
        "takeovers": [[str(k.kind), seconds] for k, seconds in zip(kills, takeovers, strict=True)],
        "after_outage_s": _most(after),
        "list_s": _percentiles(outside),
        "list_in_storm_s": _percentiles(inside),
        "drained": injector.drained,
        "drain_s": round(injector.drain_s, 1),
        "workers_ended_by_themselves": sum(worker.ended_itself for worker in everyone),
        "rewinds": _last_sums(told, "rewinds"),
        "stalls": _last_sums(told, "stalls"),
        "again": _last_sums(told, "again"),
        "cores": os.cpu_count(),
        "examples": examples,
    }


def _count(done: Sequence[Done], *kinds: FaultKind) -> int:
    return sum(each.kind in kinds for each in done)


def _most(seconds: Sequence[float | None]) -> float | None:
    """The longest; None where one never came, or there is none."""
    known = [each for each in seconds if each is not None]
    return round(max(known), 1) if known and len(known) == len(seconds) else None


def _middle(seconds: Sequence[float | None]) -> float | None:
    known = [each for each in seconds if each is not None]
    return round(statistics.median(known), 1) if known else None


def _percentiles(seconds: Sequence[float]) -> list[float]:
    """p50, p90 and p99; none of nothing."""
    return [round(float(p), 2) for p in np.percentile(seconds, (50, 90, 99))] if seconds else []


def _last_sums(told: Sequence[Sequence[dict[str, Any]]], name: str) -> int:
    """The sum of a counter over the processes: it begins anew with each of them."""
    total = 0
    for lines in told:
        before = 0
        for line in lines:
            if line["what"] == "counters":
                total += line[name] - before if line[name] >= before else line[name]
                before = line[name]
    return total
