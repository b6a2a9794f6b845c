"""A small log to train on: shoppers who walk through the catalogue in circles, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from models.domain import Item, Kind
from models.ports import FloatArray
from models.training.data.log import Logged, TrainingLog
from models.training.data.write_log import prepare

ITEMS = 12
SHOPPERS = 40


def write(folder: Path) -> TrainingLog:
    """12 items and a query; each item is followed by its neighbour, so the next one can be learnt.

    Item 5 has no text, and some clicks come from a search.
    """
    items = [Item(f"i{n}", "" if n == 5 else f"thing {n}", n) for n in range(ITEMS)]
    return prepare(folder, items, _events(), _encode)


def _events() -> Iterator[Logged]:
    for shopper in range(SHOPPERS):
        for step in range(3 + shopper % 7):
            item = f"i{(shopper + step) % ITEMS}"
            kind = Kind.PURCHASE if step % 3 else Kind.CLICK
            query = "a thing" if shopper % 4 == 0 and step == 2 else None
            yield Logged(f"u{shopper}", 1000 * step, kind, item, query)


def _encode(texts: list[str]) -> FloatArray:
    return np.stack([np.random.default_rng(len(text)).normal(size=8) for text in texts]).astype(
        np.float32
    )
