"""Ranks and what they are worth: metrics, and how sure they are.

A rank is 0 for the best. Means over questions, never over users; intervals by the bootstrap
(Efron 1979, percentile method), paired where two rankings answered the same questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.ports import FloatArray

Values = NDArray[np.float64]


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


def bootstrap(values: Values, seed: int, resamples: int = 2000) -> Interval:
    """The mean of (n,) with its 95 % interval."""
    means = _resampled(values, seed, resamples)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


def paired_difference(new: Values, old: Values, seed: int, resamples: int = 2000) -> Interval:
    """The mean of ``new - old`` over the same questions (n,) with its 95 % interval.

    Far narrower than two separate intervals, since most questions are as hard for both.
    """
    return bootstrap(new - old, seed, resamples)


def _resampled(values: Values, seed: int, resamples: int) -> Values:
    """Means (resamples,) of n draws with replacement, drawn as counts to hold no (r, n) array."""
    random = np.random.default_rng(seed)
    n = len(values)
    even = np.full(n, 1 / n)
    return np.array([random.multinomial(n, even) @ values / n for _ in range(resamples)])
