"""A log's training events as windows of steps, in batches of which each is like all the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.space.sequence import gap_buckets
from models.training.data.log import TrainingLog


@dataclass(frozen=True, slots=True)
class Batch:
    """b windows of l steps, padded at the left with 0; ``targets`` is the row after each step."""

    rows: Tensor  # (b, l)
    kinds: Tensor
    gaps: Tensor
    targets: Tensor  # 0 where the next event is no item, or there is none


class Windows:
    """The training events cut to windows of at most ``length`` + 1; each event is a target once."""

    def __init__(self, log: TrainingLog, ends: NDArray[np.int64], length: int) -> None:
        self._log = log
        self._length = length
        starts, sizes = log.offsets[:-1], ends - log.offsets[:-1]
        many = np.maximum(0, -(-(sizes - 1) // length))  # windows a shopper
        shopper = np.repeat(np.arange(len(starts)), many)
        nth = np.arange(len(shopper)) - np.repeat(np.cumsum(many) - many, many)
        self.stops = ends[shopper] - nth * length
        self.begins = np.maximum(starts[shopper], self.stops - length - 1)

    def __len__(self) -> int:
        return len(self.stops)

    def batches(self, size: int, rng: np.random.Generator, parts: int = 4
                ) -> Iterator[list[Batch]]:  # fmt: skip
        """All windows once, ``size`` at a time, in an order of the generator's.

        A batch comes in ``parts`` of alike lengths, to be one step together: that saves the
        padding, and still every step has short and long histories. (Steps on one length each
        cost a tenth of HR@10, docs/log.md 13.)
        """
        order = rng.permutation(len(self))
        for at in range(0, len(order), size):
            some = order[at : at + size]
            some = some[np.argsort(self.stops[some] - self.begins[some], kind="stable")]
            yield [self._batch(part) for part in np.array_split(some, parts) if len(part)]

    def _batch(self, which: NDArray[np.int64]) -> Batch:
        begins, stops = self.begins[which], self.stops[which]
        rows, kinds, gaps = gathered(self._log, begins, stops - 1, self._length)
        after, _, _ = gathered(self._log, begins + 1, stops, self._length)
        after[after > self._log.items] = 0  # a search is nothing to recommend
        return Batch(rows, kinds, gaps, after)


def gathered(
    log: TrainingLog, starts: NDArray[np.int64], ends: NDArray[np.int64], length: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, kinds and gaps (b, l) of events ``starts:ends`` (b,), the newest ``length`` of each."""
    starts = np.maximum(starts, ends - length)
    width = max(int((ends - starts).max(initial=1)), 1)
    places = ends[:, None] - width + np.arange(width)
    inside = places >= starts[:, None]
    places = np.where(inside, places, starts[:, None].clip(0, len(log.rows) - 1))
    rows = np.where(inside, log.rows[places], 0).astype(np.int64)
    kinds = np.where(inside, log.kinds[places], 0).astype(np.int64)
    ts = np.where(inside, log.ts[places], 0)
    gaps = np.stack([gap_buckets(row) for row in ts]) if len(ts) else np.zeros((0, width), np.int64)
    first = inside & (np.cumsum(inside, axis=1) == 1)
    gaps = np.where(first, 1, np.where(inside, gaps, 0))
    return torch.from_numpy(rows), torch.from_numpy(kinds), torch.from_numpy(gaps)
