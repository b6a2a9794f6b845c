"""What was popular when a question was asked, as in ``models.recommend.trending``.

Counted are shoppers a day, as ``models.recommend.popularity`` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.recommend.popularity import DAYS, STEPS_A_DAY
from models.recommend.trending import MOST, prior
from models.training.data.log import TrainingLog
from models.training.data.splits import Questions

_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Prior:
    """For each of q questions: which row of what, and the gains (k,) of items (k,) by day."""

    day_of: NDArray[np.int64]  # (q,)
    rows: list[Tensor]
    gains: list[Tensor]

    def add(self, scores: Tensor, first: int, weight: float) -> None:
        """To ``scores`` (b, 1 + n) of the b questions from ``first`` on, in place."""
        for own, day in zip(scores, self.day_of[first : first + len(scores)], strict=True):
            own[self.rows[day]] += weight * self.gains[day]


def popular_before(log: TrainingLog, questions: Questions, days: int = DAYS) -> Prior:
    """By what shoppers chose on the ``days`` days before the day that each is asked on.

    Nothing of that day counts, nor of any later one: live lists know a little more.
    """
    asked, day_of = np.unique(log.ts[questions.ends] // _DAY_MS, return_inverse=True)
    at = counted(log)
    ts = np.asarray(log.ts)[at]
    order = np.argsort(ts, kind="stable")
    rows, sorted_ts = np.asarray(log.rows)[at][order], ts[order]
    found, gains = [], []
    for day in asked:
        first, stop = np.searchsorted(sorted_ts, [(day - days) * _DAY_MS, day * _DAY_MS])
        counts = np.bincount(rows[first:stop], minlength=log.items + 1)[: log.items + 1]
        counts[0] = 0
        top = np.argsort(-counts, kind="stable")[:MOST]
        top = top[counts[top] > 0]
        found.append(torch.from_numpy(top))
        gains.append(torch.from_numpy(prior(counts[top].tolist())))
    return Prior(day_of.astype(np.int64), found, gains)


def counted(log: TrainingLog) -> NDArray[np.int64]:
    """Places (n,) of the events that popularity counts, in the log's order.

    A shopper's first of a day on an item, if it is among the first ``STEPS_A_DAY`` of that day.
    """
    days = np.asarray(log.ts) // _DAY_MS
    begins = np.zeros(len(days), dtype=bool)  # a shopper's first event of a day
    begins[log.offsets[:-1][np.diff(log.offsets) > 0]] = True
    begins[1:] |= days[1:] != days[:-1]
    starts = np.flatnonzero(begins)
    visit = np.cumsum(begins) - 1
    at = np.flatnonzero(np.arange(len(days)) - starts[visit] < STEPS_A_DAY)
    at = at[np.asarray(log.rows)[at] <= log.items]  # the others are searches
    keys = visit[at] * (log.items + 1) + np.asarray(log.rows)[at]
    return np.sort(at[np.unique(keys, return_index=True)[1]])
