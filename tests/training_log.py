"""A small log for the tests of training, with something to learn: items of one colour follow."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from models.domain import Item, Kind
from models.ports import FloatArray
from models.training.data.log import Logged, TrainingLog
from models.training.data.write_log import prepare

torch.set_num_threads(1)  # the matrices are tiny: threads would only wait for each other

COLOURS = ("red", "blue", "green")
PER_COLOUR = 8
DAY = 86_400_000
START = 1_600_000_000_000


def items() -> list[Item]:
    return [
        Item(f"{colour}-{n}", f"{colour} thing {n}", 0) for colour in COLOURS
        for n in range(PER_COLOUR)
    ]  # fmt: skip


def events(shoppers: int = 60, each: int = 6, seed: int = 0) -> Iterator[Logged]:
    """Shopper ``u7`` keeps to one colour and goes through its things in order."""
    rng = random.Random(seed)
    for shopper in range(shoppers):
        colour = COLOURS[shopper % len(COLOURS)]
        at = rng.randrange(PER_COLOUR)
        for n in range(each):
            item = f"{colour}-{(at + n) % PER_COLOUR}"
            yield Logged(f"u{shopper}", START + n * DAY + shopper, Kind.CLICK, item)


def encode(texts: list[str]) -> FloatArray:
    """One number a colour and one for the thing's own number: unit (k, 4)."""
    rows = [
        [float(text.startswith(colour)) for colour in COLOURS] + [0.1 + len(text) % 7 / 7]
        for text in texts
    ]
    made = np.array(rows, dtype=np.float32).reshape(-1, 4)
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), dtype=np.float32)


def small_log(folder: Path, shoppers: int = 60, each: int = 6) -> TrainingLog:
    return prepare(folder, items(), events(shoppers, each), encode)
