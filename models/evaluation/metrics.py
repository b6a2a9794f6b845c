"""What lists are worth, a block of q questions at a time: did they hit, and whom do they show?

Two things are an answer: ``lists`` (q, 100) of item rows, best first, 0 where a list is shorter;
and the ranks of the targets, ``ranks[offsets[i]:offsets[i + 1]]`` for question i, which has a set
of at least one. A rank is 0 for the best, the mean of its ties, infinite where it was not listed.

    ranks, offsets            accuracy     HR, Recall, NDCG, MRR, MAP     a value a question
    lists                     lists_of     novelty, diversity, repeats    a value a list
    all lists                 Exposure     coverage, Gini, head share     one value

A metric at k is named "HR@10" and so on. NaN is no value: the question does not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.evaluation.intervals import Values

Ints = NDArray[np.int64]

#: Lengths of a list at which everything is measured.
KS: Final = (5, 10, 20, 100)
#: The head: the most popular items, this share of the catalogue.
HEAD: Final = 0.2
_TITLES: Final = 1024  # lists whose title vectors are held at once


def accuracy(ranks: Values, offsets: Ints, ks: Sequence[int] = KS) -> dict[str, Values]:
    """Each metric's values (q,), of ranks (t,) and offsets (q + 1,).

    HR: 1 where any target is among the first k. Recall: the share of all targets that are. NDCG:
    their gains 1 / log2(rank + 2) over those of the best order of min(targets, k) (Järvelin and
    Kekäläinen 2002, doi 10.1145/582415.582418). MRR: 1 / (rank + 1) of the first target, 0 beyond
    k. MAP: the sum of the precisions at the targets among the first k over min(targets, k), so
    that a list can reach 1 (trec_eval's map_cut divides by all targets).
    """
    sizes = np.diff(offsets)
    of = np.repeat(np.arange(len(sizes)), sizes)
    ordered = ranks[np.lexsort((ranks, of))]
    before = np.arange(len(ranks)) - offsets[:-1][of]  # targets of the question ranked above it
    first = ordered[offsets[:-1]]
    ideal = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(max(ks)) + 2))])

    def summed(values: Values) -> Values:
        return np.asarray(np.bincount(of, values, minlength=len(sizes)), dtype=np.float64)

    told: dict[str, Values] = {}
    for k in ks:
        # more than k of them can tie for a mean rank inside the first k, which has k places
        found = (ordered < k) & (before < k)
        most = np.minimum(sizes, k)
        told[f"HR@{k}"] = (first < k).astype(np.float64)
        told[f"Recall@{k}"] = summed(found.astype(np.float64)) / sizes
        told[f"NDCG@{k}"] = summed(found / np.log2(ordered + 2)) / ideal[most]
        told[f"MRR@{k}"] = np.where(first < k, 1 / (first + 1), 0.0)
        told[f"MAP@{k}"] = summed(found * (before + 1) / (ordered + 1)) / most
    return told


def lists_of(
    lists: Ints,
    counts: Ints,
    titles: NDArray[np.floating],
    had: Ints,
    had_offsets: Ints,
    ks: Sequence[int] = KS,
) -> dict[str, Values]:
    """Novelty, diversity and repeat share (q,) of lists (q, c) at each k; NaN for an empty list.

    ``counts`` (1 + n,) are each item's earlier events, ``titles`` (1 + n or more, t) its title
    vector. What the shopper of question i had before is ``had[had_offsets[i]:had_offsets[i + 1]]``.
    """
    told: dict[str, Values] = {}
    repeated = _had_before(lists, len(counts), had, had_offsets)
    for name, values in (("novelty", _surprise(counts)[lists]), ("repeat share", repeated)):
        told |= {f"{name}@{k}": _mean(values[:, :k], lists[:, :k] > 0) for k in ks}
    return told | {f"diversity@{k}": values for k, values in _diversity(lists, titles, ks).items()}


def _surprise(counts: Ints) -> Values:
    """Bits (1 + n,): -log2 of an item's share of the events, each item having one event more.

    Self-information (Zhou et al. 2010, doi 10.1073/pnas.1000488107); its mean over a list is the
    novelty. With add-one smoothing an item without an event has a value as well.
    """
    shares = (counts + 1) / (counts[1:].sum() + len(counts) - 1)
    return np.asarray(-np.log2(shares), dtype=np.float64)


def _had_before(lists: Ints, rows: int, had: Ints, offsets: Ints) -> Values:
    """1 where the shopper had the item before (q, c), else 0; ``rows`` is 1 + n."""
    items = had < rows  # the others are queries
    of = np.repeat(np.arange(len(lists)), np.diff(offsets))[items]
    keys = np.arange(len(lists))[:, None] * rows + lists
    return np.isin(keys, of * rows + had[items]).astype(np.float64)


def _mean(values: Values, there: NDArray[np.bool_]) -> Values:
    """The mean of each row (q,) where ``there``; NaN where nothing is."""
    sizes = there.sum(axis=1)
    sums = np.where(there, values, 0.0).sum(axis=1)
    return np.where(sizes > 0, sums / np.maximum(sizes, 1), np.nan)


def _diversity(lists: Ints, titles: NDArray[np.floating], ks: Sequence[int]) -> dict[int, Values]:
    """1 - the mean cosine of the pairs of titles inside each list (q,), at each k.

    The opposite of intra-list similarity (Ziegler et al. 2005, doi 10.1145/1060745.1060754). An
    item without a title vector is in no pair; NaN where there is no pair.
    """
    from torch import float64, from_numpy, zeros  # heavy, and a list's places need none of it
    from torch.linalg import vector_norm
    from torch.nn.functional import embedding_bag

    told = {k: np.full(len(lists), np.nan) for k in ks}
    for start in range(0, len(lists), _TITLES):
        some = lists[start : start + _TITLES]
        rows, places = np.unique(some, return_inverse=True)  # each title is scaled once
        vectors = titles[rows].astype(np.float32)
        vectors[rows == 0] = 0
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors /= np.maximum(lengths, np.finfo(np.float32).tiny)
        places = places.reshape(some.shape)
        there = (lengths[:, 0] > 0)[places]
        summed, before = zeros(len(some), vectors.shape[1]), 0
        for k in sorted(ks):
            if (part := np.ascontiguousarray(places[:, before:k])).size:
                summed += embedding_bag(from_numpy(part), from_numpy(vectors), mode="sum")
            before = k
            m = there[:, :k].sum(axis=1)
            # |sum of m unit vectors| squared is m and twice the cosines of all pairs
            length = vector_norm(summed, dim=1, dtype=float64).numpy() ** 2
            cosine = (length - m) / np.maximum(m * (m - 1), 1)
            told[k][start : start + _TITLES] = np.where(m > 1, 1 - cosine, np.nan)
    return told


class Exposure:
    """How often each item was shown, over all lists: (1 + n,) counts for each k are all it holds.

    ``counts`` (1 + n,) are each item's earlier events, which say what is popular.
    """

    def __init__(self, counts: Ints, ks: Sequence[int] = KS) -> None:
        self._counts = counts[1:]
        self.shown = {k: np.zeros(len(counts), dtype=np.int64) for k in ks}

    def add(self, lists: Ints) -> None:
        """Counts the lists (q, c), 0 where one is shorter."""
        for k, shown in self.shown.items():
            shown += np.bincount(lists[:, :k].ravel(), minlength=len(shown))
            shown[0] = 0

    def told(self, entered: int | None = None) -> dict[str, float]:
        """Coverage, Gini and head share at each k; ``entered``: items by the end, all by default.

        NaN where nothing was shown.
        """
        told = {}
        for k, shown in self.shown.items():
            items = max(len(self._counts) if entered is None else entered, int((shown > 0).sum()))
            told[f"coverage@{k}"] = float((shown > 0).sum() / max(items, 1))
            told[f"gini@{k}"] = gini(shown[shown > 0], items)
            told[f"head share@{k}"] = self._head(shown[1:], items)
        return told

    def _head(self, shown: Ints, items: int) -> float:
        """The share of what was shown that are items of the head.

        The head is the 20 % of the items that entered which had most of the earlier events. Of the
        items that tie for its last places, each counts by the share of them that still fits.
        """
        if not shown.sum():
            return float("nan")
        size = HEAD * items
        least = 0
        ordered = np.sort(self._counts)[::-1]
        if size < (ordered > 0).sum():
            least = int(ordered[int(np.ceil(size)) - 1])
        above, edge = self._counts > least, self._counts == least
        # of the items without an event only those that entered
        tied = edge.sum() if least else items - above.sum()
        fits = (size - above.sum()) / max(tied, 1)
        return float((shown[above].sum() + fits * shown[edge].sum()) / shown.sum())


def gini(shown: Ints, items: int) -> float:
    """0 where all of ``items`` are shown alike, near 1 where one is all that is shown.

    ``shown`` (m,) are the times of the m items that were shown; NaN where m is 0. The mean
    difference of two items over twice the mean, as Shani and Gunawardana 2011 use it
    (doi 10.1007/978-0-387-85820-3_8); they divide by n - 1 where this divides by n.
    """
    if not len(shown):
        return float("nan")
    ordered = np.sort(shown)
    ranks = np.arange(items - len(shown) + 1, items + 1)  # those never shown come first
    return float(((2 * ranks - items - 1) * ordered).sum() / (items * ordered.sum()))
