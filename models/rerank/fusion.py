"""How the LLM's scores and the retriever's become one order, and at which weight."""

from __future__ import annotations

from typing import Final

import numpy as np

from models.ports import FloatArray

#: The untuned LLM's share that validation chose on Amazon Beauty and H&M (docs/log.md, 3 and 17).
GATE_WEIGHT: Final = 0.3
#: What a nat of log p counts on a cosine's scale: chosen so that the weights that validation finds
#: lie in the middle of those that it tries, for a zero-shot and a trained retriever alike.
NAT: Final = 0.1


def blend(
    retrieved: FloatArray, scores: FloatArray, weight: float, gains: FloatArray | None = None
) -> FloatArray:
    """(1 - weight) of the retriever's cosines and ``weight`` of the LLM's ``scores``, (c,).

    Both are on one scale as they are: a list that the retriever hardly tells apart is ordered by
    the LLM, and one that it is sure of is not. ``gains`` (c,) are added to the whole: what many
    choose is not for one title to say.
    """
    both = (1 - weight) * retrieved + weight * scores
    return np.asarray(both if gains is None else both + gains, dtype=np.float32)
