"""The questions of a replay: what did this shopper do next, given all before it?

All events of one shopper at one ``ts`` are one basket, and one question with a set of targets:
at a resolution of days the order inside a basket means nothing. It is asked before any of them is
applied. Three protocols cut a log into what may be learnt and what is asked::

    every shopper          ──●───●●──●────●───●●●──●────●──▶ time
    prequential              ask every basket but a shopper's first; learn it afterwards
    time                     learn ────────────┊ ask, then learn ──▶      one boundary for all
    last ("leave-one-out")   learn all but each shopper's last event, ask that: another
                             shopper's learnt events may be later, which leaks the future
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.training.data.log import TrainingLog

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Baskets:
    """q questions, the earliest first; ``targets`` are item rows, ``offsets[i]:offsets[i + 1]``.

    ``shoppers`` (q,) index the log's; the history is its events ``starts:ends`` (q,).
    """

    shoppers: Ints
    ts: Ints
    starts: Ints
    ends: Ints
    targets: Ints  # (t,)
    offsets: Ints  # (q + 1,)

    def __len__(self) -> int:
        return len(self.shoppers)

    def take(self, which: Ints) -> Baskets:
        """Those at the given places, in that order."""
        sizes = np.diff(self.offsets)[which]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        inner = np.arange(offsets[-1]) - np.repeat(offsets[:-1], sizes)
        targets = self.targets[np.repeat(self.offsets[:-1][which], sizes) + inner]
        return Baskets(
            self.shoppers[which], self.ts[which], self.starts[which], self.ends[which],
            targets, offsets,
        )  # fmt: skip


def by_basket(log: TrainingLog, first: int, until: int, *, new_only: bool = False) -> Baskets:
    """Each basket with ``first`` <= ts < ``until`` (epoch ms) of a shopper with a history.

    Targets are its items, each once; with ``new_only`` those that the shopper had not had before.
    """
    ts, rows = np.asarray(log.ts), np.asarray(log.rows)
    opens = np.zeros(len(ts), dtype=bool)
    opens[log.offsets[:-1]] = True
    opens[1:] |= ts[1:] != ts[:-1]
    begins = np.flatnonzero(opens)
    stops = np.append(begins[1:], len(ts))
    shoppers = np.searchsorted(log.offsets, begins, side="right") - 1
    starts = log.offsets[shoppers]
    asked = (ts[begins] >= first) & (ts[begins] < until) & (begins > starts)
    found: list[NDArray[np.int64]] = []
    for start, begin, stop in zip(starts[asked], begins[asked], stops[asked], strict=True):
        targets = np.unique(rows[begin:stop])
        targets = targets[targets <= log.items]
        if new_only:
            targets = np.setdiff1d(targets, rows[start:begin])
        found.append(targets.astype(np.int64))
    return _ordered(shoppers[asked], ts[begins][asked], starts[asked], begins[asked], found)


def last_events(log: TrainingLog, shortest: int = 3) -> Baskets:
    """Each shopper's last event, of those with at least ``shortest``; the log's order holds."""
    starts, stops = log.offsets[:-1], log.offsets[1:]
    asked = np.flatnonzero(stops - starts >= shortest)
    ends = stops[asked] - 1
    rows = np.asarray(log.rows)[ends].astype(np.int64)
    found = [row[row <= log.items] for row in rows[:, None]]
    return _ordered(asked, np.asarray(log.ts)[ends], starts[asked], ends, found)


def without_tie(log: TrainingLog, baskets: Baskets) -> NDArray[np.bool_]:
    """Whether the event before each question (q,) has another ts than the question's."""
    apart: NDArray[np.bool_] = np.asarray(log.ts)[baskets.ends - 1] != baskets.ts
    return apart


def _ordered(
    shoppers: Ints, ts: Ints, starts: Ints, ends: Ints, found: list[NDArray[np.int64]]
) -> Baskets:
    """By time, then shopper; those without a target are no questions."""
    sizes = np.array([len(targets) for targets in found], dtype=np.int64)
    flat = np.concatenate(found) if found else np.zeros(0, dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    whole = Baskets(
        shoppers.astype(np.int64), ts.astype(np.int64), starts.astype(np.int64),
        ends.astype(np.int64), flat, offsets,
    )  # fmt: skip
    order = np.lexsort((whole.shoppers, whole.ts))
    return whole.take(order[sizes[order] > 0])
