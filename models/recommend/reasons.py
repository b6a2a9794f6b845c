"""Why an item stands in a list, in a few plain words grounded in the shopper's own events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from models.domain import Kind, Step
from models.ports import FloatArray, Stored
from models.space.recency import Signals

#: Characters of a title or query that a reason quotes.
_QUOTED: Final = 60
#: When an item's own vector is not at hand any more: all of the history found it.
RECENT: Final = "like what you looked at lately"
SEEN: Final = "you looked at this lately"
AGAIN: Final = "you bought this before"
NEW: Final = "new in"


def popular(days: int) -> str:
    """The reason of an item that many others chose."""
    spans = {1: "today", 7: "this week", 28: "this month"}
    return f"popular {spans.get(days, f'in the last {days} days')}"


def led_to(query: str, count: int) -> str:
    """The reason of an item that at least ``count`` shoppers chose after searches like this one."""
    return f'{count}+ shoppers who searched for "{_short(query)}" or the like chose this'


def grounded(
    found: Sequence[str],
    known: Signals,
    steps: Sequence[Step],
    stored: Mapping[str, Stored],
) -> list[str]:
    """A reason for each item id of ``found``: the step whose vector it is nearest to.

    ``known`` are the signals of ``steps``; ``stored`` has the items of both, by id.
    """
    vectors = [stored[i].vector if i in stored else None for i in found]
    rows = [row for row, vector in enumerate(vectors) if vector is not None]
    words = [RECENT] * len(found)
    if not rows:
        return words
    for row, signal in zip(
        rows, _nearest([v for v in vectors if v is not None], known), strict=True
    ):
        step = steps[known.steps[signal]]
        words[row] = _because(step, known.queries[signal], found[row], stored)
    return words


def _nearest(vectors: Sequence[FloatArray], known: Signals) -> list[int]:
    """For each of ``vectors`` (d,) the position of its nearest signal; of equals the newest."""
    # (n, k); BLAS takes no reversed matrix, and may sum equal vectors in two ways
    cosines = np.round(np.stack(vectors) @ known.vectors.T, 6)
    newest = np.argmax(cosines[:, ::-1], axis=1)
    return [len(known.steps) - 1 - int(column) for column in newest]


def _because(step: Step, is_query: bool, item_id: str, stored: Mapping[str, Stored]) -> str:
    if is_query and step.query:
        return f'matches your search "{_short(step.query)}"'
    if step.item_id == item_id:
        return AGAIN if step.kind is Kind.PURCHASE else SEEN
    like = stored.get(step.item_id or "")
    if like is None or not step.kind.of_item:
        return RECENT
    return f"because you {step.kind.verb} {_short(like.item.text)}"


def _short(text: str) -> str:
    """At most ``_QUOTED`` characters on one line, cut between words where there is a gap."""
    text = " ".join(text.split())
    if len(text) <= _QUOTED:
        return text
    cut = text[: _QUOTED - 1]
    return (cut.rsplit(" ", 1)[0] if " " in cut[_QUOTED // 2 :] else cut).rstrip(" ,;-") + "…"
