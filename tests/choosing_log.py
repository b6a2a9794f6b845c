"""A small log with a rule for a listwise reranker: what comes next is the one spelt with z."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.domain import Item, Kind
from models.ports import FloatArray
from models.training.log import Logged, TrainingLog
from models.training.log_writing import prepare
from models.training.negatives import Places

OTHERS = ("wool", "silk", "lace", "mesh", "tulle", "denim")
RIGHT = 5
SHOPPERS = 150


def items() -> list[Item]:
    """A hat (row 1), the others (2 to 7), and the right ones (8 to 12)."""
    right = [Item(f"z{n}", "z" * (3 + n), 0) for n in range(RIGHT)]
    return [Item("hat", "hat", 0), *(Item(title, title, 0) for title in OTHERS), *right]


def events() -> Iterator[Logged]:
    """Each shopper clicks the hat, and then a right one."""
    for shopper in range(SHOPPERS):
        yield Logged(f"u{shopper}", 0, Kind.CLICK, "hat")
        yield Logged(f"u{shopper}", 1, Kind.CLICK, f"z{shopper % RIGHT}")


def write(folder: Path) -> TrainingLog:
    return prepare(folder, items(), events(), _encode)


def hard(events: Places) -> Tensor:
    """A retriever that has three of the others first, after each event."""
    drawn = [np.random.default_rng(int(e)).permutation(len(OTHERS))[:3] + 2 for e in events]
    return torch.from_numpy(np.array(drawn))


def _encode(texts: list[str]) -> FloatArray:
    return np.full((len(texts), 4), 0.5, dtype=np.float32)
