"""What is popular, ever or of late, the same for every shopper; and what a shopper had last.

As the field counts: every event, where Weft's own popularity counts shoppers a day.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor

from models.baselines.base import Asked, Ints, known, learnt, steps
from models.training.data.log import TrainingLog

_DAY: Final = 86_400_000  # ms


class MostPopular:
    """Items by their events, all of training.

    With ``streaming`` by all events before the question's ts, whoever's.
    """

    name = "most-popular"

    def __init__(self, *, streaming: bool = False) -> None:
        self.streaming = streaming
        self._counts = torch.zeros(0)
        self._window: _Window | None = None

    @property
    def words(self) -> str:
        """What is counted."""
        which = "events before the question" if self.streaming else "training events"
        return f"most popular: items by their {which}"

    def fit(self, log: TrainingLog, ends: Ints) -> None:
        """Counts."""
        if self.streaming:
            self._window = _Window(log, None)
            return
        rows = np.asarray(log.rows)[learnt(log, ends)]
        counts = np.bincount(rows, minlength=log.items + 1)
        self._counts = torch.from_numpy(counts.astype(np.float32))

    def scores(self, log: TrainingLog, asked: Asked) -> Tensor:  # noqa: ARG002 - the protocol's
        """The counts (q, 1 + n), -inf for none."""
        if self._window is not None:
            return known(self._window.counts(asked, None))
        return known(self._counts.repeat(len(asked), 1))


class RecentlyPopular:
    """Items by their events of the last ``days`` before the question, never one at its ts or later.

    With ``streaming`` all events count, whoever's; without, in leave-one-out, those of training
    alone. 12 bytes an event are held.
    """

    name = "recently-popular"

    def __init__(self, days: int, *, streaming: bool) -> None:
        self.days, self.streaming = days, streaming
        self._window: _Window | None = None

    @property
    def words(self) -> str:
        """What is counted, and over how long."""
        which = "events" if self.streaming else "training events"
        days = "the last day" if self.days == 1 else f"the {self.days} days"
        return f"recently popular: items by their {which} of {days} before the question"

    def fit(self, log: TrainingLog, ends: Ints) -> None:
        """Orders the events by time."""
        self._window = _Window(log, None if self.streaming else ends)

    def scores(self, log: TrainingLog, asked: Asked) -> Tensor:  # noqa: ARG002 - the protocol's
        """The counts (q, 1 + n), -inf for none; quickest for questions that are near in time."""
        if self._window is None:
            raise RuntimeError("fit first")
        return known(self._window.counts(asked, self.days * _DAY))


class _Window:
    """Counts of the items in a stretch of time; moving it costs what enters and what leaves."""

    def __init__(self, log: TrainingLog, ends: Ints | None) -> None:
        """Of the events before ``ends`` (shoppers,), or of all."""
        which = learnt(log, log.offsets[1:] if ends is None else ends)
        ts = np.asarray(log.ts)[which]
        order = np.argsort(ts, kind="stable")
        self._ts, self._rows = ts[order], np.asarray(log.rows)[which][order]
        self._counts = np.zeros(log.items + 1, dtype=np.float32)
        self._low = self._high = 0

    def counts(self, asked: Asked, length: int | None) -> Tensor:
        """(q, 1 + n) of the events at ``ts - length`` <= t < ``ts``; None: all before ``ts``."""
        highs = np.searchsorted(self._ts, asked.ts, side="left")
        lows = np.zeros_like(highs)
        if length is not None:
            lows = np.searchsorted(self._ts, asked.ts - length, side="left")
        out = np.empty((len(asked), len(self._counts)), dtype=np.float32)
        for question in np.argsort(asked.ts, kind="stable"):
            self._move(int(lows[question]), int(highs[question]))
            out[question] = self._counts
        return torch.from_numpy(out)

    def _move(self, low: int, high: int) -> None:
        if abs(low - self._low) + abs(high - self._high) > high - low:
            self._counts[:] = 0
            self._low = self._high = low
        for old, new, sign in ((self._high, high, 1), (self._low, low, -1)):
            begin, end = min(old, new), max(old, new)
            np.add.at(self._counts, self._rows[begin:end], sign if new > old else -sign)
        self._low, self._high = low, high


class LastItems:
    """The shopper's own items again, the latest first: what needs no learning at all."""

    name = "last-items"
    words = "last items again: the shopper's own items, the latest first"

    def fit(self, log: TrainingLog, ends: Ints) -> None:
        """Nothing to learn."""

    def scores(self, log: TrainingLog, asked: Asked) -> Tensor:
        """1 / (1 + age) of each item's newest event, -inf for what the shopper never had."""
        found = steps(log, asked)
        out = torch.zeros(len(asked) * (log.items + 1))
        keys = torch.from_numpy(found.of * (log.items + 1) + found.rows)
        values = torch.from_numpy((1 / (1 + found.ages)).astype(np.float32))
        out.scatter_reduce_(0, keys, values, "amax")
        return known(out).view(len(asked), -1)
