"""Item-kNN: what the shoppers of an item had as well."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor

from models.baselines.base import Asked, Ints, known, learnt_pairs, steps
from models.baselines.sparse import product, sparse
from models.training.data.log import TrainingLog

#: A shopper's newest events that say which items go together: of a long one, say a reseller's,
#: all pairs would cost the square.
_NEWEST: Final = 200
_CELLS: Final = 16_000_000  # pairs of items counted at once, at most


class ItemKNN:
    """Sums the similarities of an item to those of the history that it is a neighbour of.

    Similarity is the cosine of two items' shoppers: shoppers of both over sqrt(shoppers of one
    times shoppers of the other), with ``shrinkage`` added below so that few shoppers say little
    (Sarwar et al. 2001, doi 10.1145/371920.372071). Each item keeps its nearest ``neighbours``,
    which is all that is held: (1 + n, neighbours).
    """

    name = "item-knn"

    def __init__(self, neighbours: int, shrinkage: float, newest: int) -> None:
        self.neighbours, self.shrinkage, self.newest = neighbours, shrinkage, newest
        self._rows = torch.zeros(0, dtype=torch.int32)  # (1 + n, k), 0 where there are fewer
        self._weights = torch.zeros(0)  # (1 + n, k)

    @property
    def words(self) -> str:
        """The method and its setting."""
        return (
            f"item-kNN (Sarwar et al. 2001): {self.neighbours} neighbours by cosine, shrinkage "
            f"{self.shrinkage:g}, of the last {self.newest} items"
        )

    def fit(self, log: TrainingLog, ends: Ints) -> None:
        """Finds each item's neighbours, a stretch of items at a time."""
        shoppers, rows = learnt_pairs(log, ends, _NEWEST)
        items = log.items + 1
        self._rows = torch.zeros(items, self.neighbours, dtype=torch.int32)
        self._weights = torch.zeros(items, self.neighbours)
        sizes = np.sqrt(np.bincount(rows, minlength=items))
        whole = sparse(shoppers, rows, None, (log.shoppers, items))
        order = np.argsort(rows, kind="stable")
        shoppers, rows = shoppers[order], rows[order]
        stretch = max(1, _CELLS // items)
        for start in range(1, items, stretch):
            begin, end = np.searchsorted(rows, [start, start + stretch])
            if begin == end:
                continue
            some = sparse(
                rows[begin:end] - start, shoppers[begin:end], None, (stretch, log.shoppers)
            )
            self._keep(start, product(some, whole), sizes)

    def _keep(self, start: int, common: Tensor, sizes: np.ndarray[tuple[int], np.dtype[np.float64]]
              ) -> None:  # fmt: skip
        """The nearest of items ``start`` and on, given their ``common`` shoppers with each."""
        own, other = common.indices().numpy()
        own = own + start
        values = common.values().numpy() / (sizes[own] * sizes[other] + self.shrinkage)
        apart = own != other
        own, other, values = own[apart], other[apart], values[apart]
        order = np.lexsort((other, -values, own))
        own, other, values = own[order], other[order], values[order]
        place = np.arange(len(own)) - np.searchsorted(own, own)
        near = place < self.neighbours
        at = torch.from_numpy(own[near]), torch.from_numpy(place[near])
        self._rows[at] = torch.from_numpy(other[near].astype(np.int32))
        self._weights[at] = torch.from_numpy(values[near].astype(np.float32))

    def scores(self, log: TrainingLog, asked: Asked) -> Tensor:
        """The sums (q, 1 + n) over the newest items of each history, each once; -inf for none."""
        found = steps(log, asked, self.newest)
        keys = np.unique(found.of * (log.items + 1) + found.rows)
        of = torch.from_numpy(keys // (log.items + 1))
        rows = torch.from_numpy(keys % (log.items + 1))
        out = torch.zeros(len(asked) * (log.items + 1))
        to = of[:, None] * (log.items + 1) + self._rows[rows].long()
        out.index_add_(0, to.flatten(), self._weights[rows].flatten())
        return known(out).view(len(asked), -1)
