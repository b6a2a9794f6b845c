"""What sells of late: a prior beside the cosine, so that many shoppers' choices count for one.

A popular item gains ``weight`` times log(1 + n) / log(1 + N) on its cosine, n the clicks and
purchases that it had of late, on the days before this one, and N those of the most popular (5 at
least: the first clicks of a new shop are no fashion yet): the same for a small shop and a large
one, and for a worker that counts a part of the shoppers. Items that are far down gain nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from models.ports import FloatArray, ItemIndex
from models.recommend.popularity import Popularity

#: So many of the most popular gain.
MOST: Final = 500
#: A most popular item with fewer clicks and purchases gains less than all.
_FASHION: Final = 5
#: What the first of them gains where no validation of one's own says otherwise (docs/log.md, 16).
WEIGHT: Final = 0.2


def prior(counts: Sequence[int]) -> FloatArray:
    """(k,) of counts (k,), the greatest first: 1 for the first, less for the others."""
    logs = np.log1p(np.asarray(counts, dtype=np.float64))
    return np.asarray(logs / np.log1p(max([_FASHION, *counts[:1]])), dtype=np.float32)


class Trending:
    """The most popular items' gains, with the vectors that tell for whom they are enough.

    For one thread at a time. At weight 0 nothing gains and nothing is read.
    """

    def __init__(self, popularity: Popularity, weight: float) -> None:
        self._popularity, self._weight = popularity, weight
        self._ranked: list[tuple[str, int]] = []
        self._held: dict[str, FloatArray] = {}
        self._ids: list[str] = []
        self._gains = np.zeros(0, np.float32)  # (k,)
        self._vectors = np.zeros((0, 0), np.float32)  # (k, d)

    def gains(
        self, index: ItemIndex, vectors: FloatArray, least: Sequence[float]
    ) -> list[dict[str, float]]:
        """For each of ``vectors`` (q, d) the gains of the items whose score is over ``least`` (q,).

        By item id. A score is the cosine with the gain added. Raises ``IndexUnavailable``.
        """
        if self._weight:
            self._refresh(index)
        if not self._ids:
            return [{} for _ in vectors]
        scores = vectors @ self._vectors.T + self._gains
        return [
            {self._ids[n]: float(self._gains[n]) for n in np.flatnonzero(row > bound)}
            for row, bound in zip(scores, least, strict=True)
        ]

    def _refresh(self, index: ItemIndex) -> None:
        """Reads the vectors of those that came up since the last time."""
        ranked = self._popularity.earlier(MOST)
        if ranked == self._ranked:
            return
        new = index.get([item_id for item_id, _ in ranked if item_id not in self._held])
        found = {i: each.vector for i, each in new.items() if each.vector is not None}
        known = self._held | found
        self._held = {item_id: known[item_id] for item_id, _ in ranked if item_id in known}
        gains = self._weight * prior([count for _, count in ranked])
        some = [n for n, (item_id, _) in enumerate(ranked) if item_id in self._held]
        self._ranked, self._ids, self._gains = ranked, list(self._held), gains[some]
        if self._held:
            self._vectors = np.stack(list(self._held.values()))
