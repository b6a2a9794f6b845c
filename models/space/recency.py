"""The zero-shot retriever: what a shopper looks for, as one vector in the space of titles.

A recency-weighted mean of the vectors of what was clicked, bought and searched for: a shop has no
trained model in its first minute, and an item that arrived a second ago is in this space already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from models.domain import Kind, Step
from models.ports import FloatArray

#: What a step's weight is multiplied by for each newer step. On validation .2 to .6 are alike,
#: and .8 finds a fifth less (docs/log.md, 2).
DECAY: Final = 0.5
#: The newest search says what is wanted now: it weighs this many times a step of its age. No real
#: log at hand has searches; on the sample shop's, HR@10 of the next click rises up to here (.117
#: at 1, .139 at 2, .168 at 4) and stays (.170 at 6).
NEWEST_SEARCH: Final = 4.0
#: The query that led to a click or purchase, beside the item itself.
LEADING_QUERY: Final = 0.5


@dataclass(frozen=True, slots=True)
class Signals:
    """What is known of a history: k unit ``vectors`` (k, d) and their ``weights`` (k,), at most 1.

    ``steps`` are their positions in the history; ``queries`` is True for a query's vector.
    """

    vectors: FloatArray
    weights: FloatArray
    steps: tuple[int, ...]
    queries: tuple[bool, ...]


def signals(
    steps: Sequence[Step],
    items: Mapping[str, FloatArray],
    queries: Mapping[str, FloatArray],
    decay: float = DECAY,
) -> Signals | None:
    """The known vectors of ``steps`` (oldest first), or None where nothing is known.

    ``items`` has unit vectors (d,) by item id, ``queries`` by the query's text. A step whose item
    is unknown, or has no text, adds nothing; the others keep the age that they have.
    """
    newest_search = max((i for i, s in enumerate(steps) if s.kind is Kind.SEARCH), default=-1)
    found: list[tuple[FloatArray, float, int, bool]] = []
    for position, step in enumerate(steps):
        age = len(steps) - 1 - position
        weight = decay**age
        if step.item_id is not None and (vector := items.get(step.item_id)) is not None:
            found.append((vector, weight, position, False))
        if step.query is not None and (vector := queries.get(step.query)) is not None:
            factor = LEADING_QUERY if step.kind is not Kind.SEARCH else 1.0
            factor = NEWEST_SEARCH if position == newest_search else factor
            found.append((vector, weight * factor, position, True))
    if not found:
        return None
    vectors, weights, positions, are_queries = zip(*found, strict=True)
    scaled = np.array(weights) / max(weights)  # a steep decay would underflow float32
    return Signals(np.stack(vectors), scaled.astype(np.float32), positions, are_queries)


def mean_vector(known: Signals) -> FloatArray | None:
    """The unit vector (d,) of the weighted mean, or None where the vectors cancel out."""
    mean: FloatArray = known.weights @ known.vectors
    length = float(np.linalg.norm(mean))
    if length <= 1e-6 * float(known.weights.sum()):
        return None
    return np.asarray(mean / np.float32(length), dtype=np.float32)


def query_vector(
    steps: Sequence[Step],
    items: Mapping[str, FloatArray],
    queries: Mapping[str, FloatArray],
    decay: float = DECAY,
) -> FloatArray | None:
    """The unit vector (d,) to search the index with, or None where nothing is known.

    Args as for ``signals``. Clicks and purchases weigh alike: each shows a taste; that a bought
    item is not shown again is the rules' business.
    """
    known = signals(steps, items, queries, decay)
    return None if known is None else mean_vector(known)
