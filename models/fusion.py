"""How the LLM's scores and the retriever's become one order, and at which weight."""

from __future__ import annotations

from typing import Final

import numpy as np

from models.ports import FloatArray

#: The untuned LLM's share that validation chose: `python -m bench.fusion_weight --data
#: amazon_beauty --users 2500 --seed 1` and `--data hm_sample`; docs/log.md has what they printed.
GATE_WEIGHT: Final = 0.3


def standardised(scores: FloatArray) -> FloatArray:
    """The scores (c,) at mean 0 and variance 1; zeros where they are all the same, or one alone."""
    if not (spread := _spread(scores)):
        return np.zeros(len(scores), dtype=np.float32)
    centred = scores.astype(np.float64) - np.mean(scores, dtype=np.float64)
    return np.asarray(centred / spread, dtype=np.float32)


def fuse(
    retrieved: FloatArray, reranked: FloatArray, weight: float, gains: FloatArray | None = None
) -> FloatArray:
    """(1 - weight) of the retriever's and ``weight`` of the LLM's standardised scores, (c,).

    Both sides are standardised over the candidates, so that the weight means the same whatever
    their units; a side that does not tell the candidates apart changes no order. ``gains`` (c,), in
    the retriever's units, are added to the whole: what many choose is not for one title to say.
    """
    if len(retrieved) == 0:
        return np.zeros(0, dtype=np.float32)
    both = (1 - weight) * standardised(retrieved) + weight * standardised(reranked)
    if gains is not None:
        both = both + gains / (_spread(retrieved) or 1.0)
    return np.asarray(both, dtype=np.float32)


def blend(
    retrieved: FloatArray, read: FloatArray, weight: float, gains: FloatArray | None = None
) -> FloatArray:
    """(1 - weight) of the retriever's and ``weight`` of the reader's cosines, and ``gains``, (c,).

    Both are cosines with the same item vectors, so they have one unit already; the sum is the
    cosine (but for its length) with both shopper vectors' mean, which is what validation measured.
    """
    both = (1 - weight) * retrieved + weight * read
    return np.asarray(both if gains is None else both + gains, dtype=np.float32)


def _spread(scores: FloatArray) -> float:
    """Their deviation; 0 where they are all the same but for rounding."""
    spread = float(np.std(scores, dtype=np.float64)) if len(scores) else 0.0
    return spread if spread > 1e-9 * max(1.0, float(np.max(np.abs(scores), initial=0.0))) else 0.0
