"""Ranks and what they are worth: metrics, and how sure they are.

A rank is 0 for the best. Means over questions, never over users; intervals by the bootstrap
(Efron 1979, percentile method), paired where two rankings answered the same questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.ports import FloatArray

Values = NDArray[np.float64]
Groups = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and the bounds that 95 % of the resampled means lie in."""

    mean: float
    low: float
    high: float


def ranks(scores: FloatArray, targets: Sequence[int]) -> Values:
    """The ranks (t,) of the targets' ``scores`` (c,): each the mean rank of its ties.

    With a tie of two at the top it is 0.5: neither first nor second by luck of the order.
    """
    wanted = scores[list(targets)]
    above = (scores[None, :] > wanted[:, None]).sum(axis=1)
    equal = (scores[None, :] == wanted[:, None]).sum(axis=1)
    return np.asarray(above + (equal - 1) / 2, dtype=np.float64)


def hit_rate(ranks: Values, k: int) -> float:
    """HR@k of one question: 1 where any of its targets' ranks (t,) is among the first k, else 0."""
    return float(bool((ranks < k).any()))


def ndcg(ranks: Values, k: int) -> float:
    """NDCG@k of one question: its targets' gain in the first k over that of the best order.

    A target's gain is 1 / log2(rank + 2).
    """
    gain = float((1 / np.log2(ranks[ranks < k] + 2)).sum())
    ideal = float((1 / np.log2(np.arange(min(len(ranks), k)) + 2)).sum())
    return gain / ideal


def reciprocal_rank(ranks: Values) -> float:
    """1 / (rank + 1) of one question's first target; 0 where none was ranked (infinite)."""
    return float(1 / (ranks.min() + 1))


def bootstrap(
    values: Values, seed: int, groups: Groups | None = None, resamples: int = 2000
) -> Interval:
    """The mean of (n,) with its 95 % interval.

    ``groups`` (n,) names the shopper of each question, 0 to g - 1: shoppers are then drawn, not
    questions, since one shopper's questions are alike (the cluster bootstrap).
    """
    random = np.random.default_rng(seed)
    members = np.arange(len(values)) if groups is None else groups
    sums, counts = np.bincount(members, values), np.bincount(members)
    even = np.full(len(counts), 1 / len(counts))
    means = np.empty(resamples)
    for i in range(resamples):  # drawn as counts, so that no (resamples, g) array is held
        drawn = random.multinomial(len(counts), even)
        means[i] = drawn @ sums / max(int(drawn @ counts), 1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


def paired_difference(
    new: Values, old: Values, seed: int, groups: Groups | None = None
) -> Interval:
    """The mean of ``new - old`` over the same questions (n,) with its 95 % interval.

    Far narrower than two separate intervals, since most questions are as hard for both.
    """
    return bootstrap(new - old, seed, groups)


#: Resamples drawn at once: what is held is this times the groups. BLAS is many times slower at 50.
_DRAWN = 250


def bootstrap_sums(
    sums: Values, counts: NDArray[Any], seed: int, resamples: int = 2000
) -> list[Interval]:
    """The means of m metrics with their 95 % intervals, out of each group's sums and counts (g, m).

    Groups are drawn by a Poisson of mean 1 each (Chamandy et al. 2012, "Estimating uncertainty for
    massive data streams"), the same draws for every metric. A metric without a value is NaN.
    """
    random = np.random.default_rng(seed)
    means = np.empty((resamples, sums.shape[1]))
    with np.errstate(invalid="ignore", divide="ignore"):
        for start in range(0, resamples, _DRAWN):
            size = (min(_DRAWN, resamples - start), len(sums))
            drawn = random.poisson(1.0, size).astype(np.float64)
            means[start : start + size[0]] = (drawn @ sums) / (drawn @ counts)
        whole = sums.sum(axis=0) / counts.sum(axis=0)
    low, high = np.full((2, sums.shape[1]), np.nan)
    if (there := counts.sum(axis=0) > 0).any():  # a draw that missed every value says nothing
        low[there], high[there] = np.nanquantile(means[:, there], [0.025, 0.975], axis=0)
    return [Interval(*map(float, told)) for told in zip(whole, low, high, strict=True)]
