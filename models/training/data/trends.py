"""What was popular when a question was asked, as in ``models.recommend.trending``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.recommend.popularity import DAYS
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
    """By all shoppers' events on the ``days`` days before the day that each is asked on.

    Nothing of that day counts, nor of any later one: live lists know a little more.
    """
    ts = np.asarray(log.ts)
    order = np.argsort(ts, kind="stable")
    rows, sorted_ts = np.asarray(log.rows)[order], ts[order]
    asked, day_of = np.unique(ts[questions.ends] // _DAY_MS, return_inverse=True)
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
