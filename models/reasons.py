"""Why an item stands in a list, in a few plain words grounded in the shopper's own events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from models.domain import Item, Kind, Step
from models.ports import FloatArray
from models.retrieval import Signals

#: Characters of a title or query that a reason quotes.
_QUOTED: Final = 60
_DONE: Final = {Kind.CLICK: "clicked", Kind.PURCHASE: "bought"}
#: When the item's own vector is not at hand: it was found by all of the history.
RECENT: Final = "like what you looked at lately"
NEW: Final = "new in"


def popular(days: int) -> str:
    """The reason of an item that many others chose."""
    spans = {1: "today", 7: "this week"}
    return f"popular {spans.get(days, f'in the last {days} days')}"


def nearest(found: FloatArray, known: Signals) -> list[int]:
    """For each row of ``found`` (n, d) the signal that it is nearest to; of equals the newest."""
    cosines = found @ known.vectors[::-1].T
    return [int(known.vectors.shape[0] - 1 - i) for i in np.argmax(cosines, axis=1)]


def because(step: Step, is_query: bool, items: Mapping[str, Item]) -> str:
    """The sentence for an item that is nearest to ``step``: to its query, or to its item."""
    if is_query and step.query:
        return f'matches your search "{_short(step.query)}"'
    item = items.get(step.item_id or "")
    if item is None or step.kind not in _DONE:
        return RECENT
    return f"because you {_DONE[step.kind]} {_short(item.text)}"


def grounded(
    vectors: Sequence[FloatArray | None],
    steps: Sequence[Step],
    known: Signals,
    items: Mapping[str, Item],
) -> list[str]:
    """One reason for each item of a list, by its vector (d,); ``known`` are ``steps``' signals."""
    rows = [row for row, vector in enumerate(vectors) if vector is not None]
    reasons = [RECENT] * len(vectors)
    if not rows:
        return reasons
    stacked = np.stack([v for v in vectors if v is not None])
    for row, signal in zip(rows, nearest(stacked, known), strict=True):
        step = steps[known.steps[signal]]
        reasons[row] = because(step, known.queries[signal], items)
    return reasons


def _short(text: str) -> str:
    """At most ``_QUOTED`` characters on one line, cut between words where there is a gap."""
    text = " ".join(text.split())
    if len(text) <= _QUOTED:
        return text
    cut = text[: _QUOTED - 1]
    return (cut.rsplit(" ", 1)[0] if " " in cut[_QUOTED // 2 :] else cut).rstrip(" ,;-") + "…"
