"""Ranks and what they are worth: metrics, and how sure they are.

A rank is 0 for the best. Means over questions, never over users; intervals by the bootstrap
(Efron 1979, percentile method), paired where two rankings answered the same questions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Groups = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and the bounds that 95 % of the resampled means lie in."""

    mean: float
    low: float
    high: float


#: Scores that differ by no more, times the scale of their vectors, are equal. The sum of a float32
#: dot product depends on where in a matrix its row lies: of 400 equal unit vectors (3 to 1,152
#: numbers; numpy's and torch's products, one row or 256) the scores were up to 1.2e-7 apart. Eight
#: times that is far less than what divides the first hundred of 100,000 titles.
TIE: Final = 2.0**-20


def ties(
    scores: NDArray[np.floating], wanted: NDArray[np.floating], scale: float | None = 1.0
) -> tuple[Groups, Groups]:
    """How many of ``scores`` (…, c) are above and how many equal to each of ``wanted`` (…, t).

    (…, t) each. Equal is what differs by ``TIE`` times ``scale`` at most: 1 for the cosines of unit
    vectors, and with what popularity adds to them; None for scores of another kind, whose scale is
    the greatest of their row (so counts are told apart to a million).
    """
    width = np.asarray(TIE * (_greatest(scores) if scale is None else scale), dtype=scores.dtype)
    above = (scores[..., None, :] > (wanted + width)[..., None]).sum(axis=-1)
    least = (scores[..., None, :] >= (wanted - width)[..., None]).sum(axis=-1)
    return above, least - above


def ranks(
    scores: NDArray[np.floating], wanted: NDArray[np.floating], scale: float | None = 1.0
) -> Values:
    """Ranks (…, t) of the scores ``wanted`` (…, t) among ``scores`` (…, c), which they are part of.

    0 is the best, and each is the mean rank of its ties (see ``ties``): with a tie of two at the
    top it is 0.5, neither first nor second by luck of the order. Infinite for -inf: not listed.
    """
    above, equal = ties(scores, wanted, scale)
    return np.where(wanted == -np.inf, np.inf, above + (equal - 1) / 2)


def _greatest(scores: NDArray[np.floating]) -> NDArray[np.floating]:
    """The greatest magnitude of each row (…, 1) of (…, c), -inf left out; 0 where all is."""
    found = np.abs(np.where(scores == -np.inf, 0, scores))
    return np.asarray(found.max(axis=-1, keepdims=True, initial=0))


def bootstrap(
    values: Values, seed: int, groups: Groups | None = None, resamples: int = 2000
) -> Interval:
    """The mean of (n,) with its 95 % interval.

    ``groups`` (n,) names the shopper of each question, 0 to g - 1: shoppers are then drawn, not
    questions, since one shopper's questions are alike (the cluster bootstrap).
    """
    members = np.arange(len(values)) if groups is None else groups
    sums = np.bincount(members, values).astype(np.float64)
    counts = np.bincount(members)
    return bootstrap_sums(sums[:, None], counts[:, None], seed, resamples)[0]


def paired_difference(
    new: Values, old: Values, seed: int, groups: Groups | None = None
) -> Interval:
    """The mean of ``new - old`` over the same questions (n,) with its 95 % interval.

    Far narrower than two separate intervals, since most questions are as hard for both.
    """
    return bootstrap(new - old, seed, groups)


#: Resamples drawn at once, and draws of a group that are held. BLAS is many times slower at 50.
_DRAWN: Final = 250
_HELD: Final = 25_000_000


def bootstrap_sums(
    sums: Values, counts: NDArray[Any], seed: int, resamples: int = 2000
) -> list[Interval]:
    """The means of m metrics with their 95 % intervals, out of each group's sums and counts (g, m).

    Groups are drawn by a Poisson of mean 1 each (Chamandy et al. 2012, "Estimating uncertainty for
    massive data streams"), the same draws for every metric. A metric without a value is NaN.
    """
    random = np.random.default_rng(seed)
    means = np.empty((resamples, sums.shape[1]))
    at_once = max(1, min(_DRAWN, _HELD // max(len(sums), 1)))
    with np.errstate(invalid="ignore", divide="ignore"):
        for start in range(0, resamples, at_once):
            size = (min(at_once, resamples - start), len(sums))
            drawn = random.poisson(1.0, size).astype(np.float64)
            means[start : start + size[0]] = (drawn @ sums) / (drawn @ counts)
        whole = sums.sum(axis=0) / counts.sum(axis=0)
    low, high = np.full((2, sums.shape[1]), np.nan)
    if (there := counts.sum(axis=0) > 0).any():  # a draw that missed every value says nothing
        low[there], high[there] = np.nanquantile(means[:, there], [0.025, 0.975], axis=0)
    return [Interval(*map(float, told)) for told in zip(whole, low, high, strict=True)]
