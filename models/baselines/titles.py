"""Titles like those of the history, by vectors or by words; of other shoppers nothing is learnt."""

from __future__ import annotations

import re
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

from models.baselines.base import Asked, Ints, Steps, known, steps
from models.baselines.sparse import product, sparse
from models.training.data.log import TrainingLog

_NEWEST: Final = 20  # items of a history that are read
_ROWS: Final = 16_384  # title vectors in memory at once
_WORD: Final = re.compile(r"\w+")


class TitleSimilarity:
    """Cosine of a title to the recency-weighted mean of the history's title vectors.

    A step weighs ``decay`` times the one after it. What serving does without a bundle
    (models/space/recency.py), but for searches.
    """

    name = "title-similarity"

    def __init__(self, decay: float) -> None:
        self.decay = decay

    @property
    def words(self) -> str:
        """The method and its setting."""
        return f"title similarity: recency-weighted mean of title vectors, decay {self.decay:g}"

    def fit(self, log: TrainingLog, ends: Ints) -> None:
        """Nothing to learn: the vectors are the log's."""

    def scores(self, log: TrainingLog, asked: Asked) -> Tensor:
        """Cosines (q, 1 + n); -inf for an item without a title vector."""
        found = steps(log, asked, _NEWEST)
        weighted = _vectors(log, found.rows) * _weights(found, self.decay)[:, None]
        wanted = torch.zeros(len(asked), weighted.shape[1])
        wanted = F.normalize(wanted.index_add_(0, torch.from_numpy(found.of), weighted), dim=1)
        out = torch.empty(len(asked), log.items + 1)
        for start in range(0, log.items + 1, _ROWS):
            rows = np.arange(start, min(start + _ROWS, log.items + 1))
            out[:, rows] = wanted @ _vectors(log, rows).T
        return known(out)


def _vectors(log: TrainingLog, rows: Ints) -> Tensor:
    """Unit title vectors (k, t) of rows (k,)."""
    return F.normalize(torch.from_numpy(log.titles[rows].astype(np.float32)), dim=1)


def _weights(found: Steps, decay: float) -> Tensor:
    return torch.from_numpy((decay**found.ages).astype(np.float32))


class TitleBM25:
    """BM25 of the titles for the words of the history's titles, each weighing ``decay`` ** age.

    Robertson and Zaragoza 2009, doi 10.1561/1500000019, with idf ln(1 + (n - df + .5) / (df +
    .5)), which is never negative. A query's word weighs as the sum of its titles.
    """

    name = "bm25"

    def __init__(self, decay: float, b: float, k1: float = 1.2) -> None:
        self.decay, self.b, self.k1 = decay, b, k1
        self._there = torch.zeros(0)  # (n + 1, v) sparse: 1 where a title has a word
        self._weights = torch.zeros(0)  # (n + 1, v) sparse: what a word found in a title is worth

    @property
    def words(self) -> str:
        """The method and its setting."""
        return (
            f"BM25 (Robertson and Zaragoza 2009) on titles: the words of the last {_NEWEST}, decay "
            f"{self.decay:g}, b {self.b:g}, k1 {self.k1:g}"
        )

    def fit(self, log: TrainingLog, ends: Ints) -> None:  # noqa: ARG002 - the protocol's
        """Reads the catalogue's words; of events it learns nothing."""
        rows, words, times, lengths = _words(log)
        size = (log.items + 1, int(words.max(initial=0)) + 1)
        frequency = np.bincount(words, minlength=size[1])
        idf = np.log(1 + (log.items - frequency + 0.5) / (frequency + 0.5))
        longer = lengths / max(float(lengths[1:].mean()), 1.0) if log.items else lengths
        norm = self.k1 * (1 - self.b + self.b * longer[rows])
        values = idf[words] * times * (self.k1 + 1) / (times + norm)
        self._there = sparse(rows, words, None, size)
        self._weights = sparse(rows, words, values, size)

    def scores(self, log: TrainingLog, asked: Asked) -> Tensor:
        """The sums over the query's words (q, 1 + n); -inf without one in common."""
        found = steps(log, asked, _NEWEST)
        size = (len(asked), log.items + 1)
        weights = _weights(found, self.decay).numpy()
        queries = product(sparse(found.of, found.rows, weights, size), self._there)
        # by a dense matrix: most titles have a word in common with most histories
        found_in: Tensor = torch.sparse.mm(self._weights, queries.to_dense().T.contiguous())
        return known(found_in.T.contiguous())


def _words(log: TrainingLog) -> tuple[Ints, Ints, Ints, Ints]:
    """Item rows, words' numbers and times (p,), each pair once; words of each item (n + 1,)."""
    numbers: dict[str, int] = {}
    lengths = np.zeros(log.items + 1, dtype=np.int64)
    pairs: list[tuple[int, int]] = []
    for row in range(1, log.items + 1):
        told = _WORD.findall(log.item(row).text.lower())
        lengths[row] = len(told)
        pairs += [(row, numbers.setdefault(word, len(numbers))) for word in told]
    table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    count = max(len(numbers), 1)
    keys, times = np.unique(table[:, 0] * count + table[:, 1], return_counts=True)
    return keys // count, keys % count, times, lengths
