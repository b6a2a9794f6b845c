"""What a recommender answered to each question, on disk: memory never holds all of it.

lists     (q, 100) int32    item rows, best first; 0 where a list is shorter
ranks     (t,) float32      of each target, 0 the best, the mean of its ties; inf: not listed
ms        (q,) float32      of the models, a list's share of its batch; NaN: made in bulk
reranked  (q,) uint8        whether the LLM took part
answered  (q,) uint8        whether there was a list at all
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stream.replay.questions.baskets import Baskets

#: Items of a list that are kept: the longest k that is measured.
KEPT: Final = 100


@dataclass(frozen=True, slots=True)
class Shown:
    """One list: ``rows`` (k,) int32 best first, ``places`` (k,) float32 with ties at their mean."""

    rows: NDArray[np.int32]
    places: NDArray[np.float32]
    reranked: bool = False
    ms: float = float("nan")

    def to_bytes(self) -> bytes:
        """For a table."""
        head = np.array([self.ms, self.reranked], dtype=np.float32)
        return head.tobytes() + self.rows.tobytes() + self.places.tobytes()

    @classmethod
    def from_bytes(cls, told: bytes) -> Shown:
        """The reverse."""
        ms, reranked = np.frombuffer(told[:8], dtype=np.float32)
        half = 8 + (len(told) - 8) // 2
        return cls(
            np.frombuffer(told[8:half], dtype=np.int32),
            np.frombuffer(told[half:], dtype=np.float32),
            bool(reranked),
            float(ms),
        )


class Answers:
    """The arrays of one recommender; opened again they hold what was written before."""

    def __init__(self, folder: Path, baskets: Baskets) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        q, t = len(baskets), len(baskets.targets)
        self.folder = folder
        self.lists: NDArray[np.int32] = _opened(folder / "lists.npy", np.int32, (q, KEPT), 0)
        self.ranks: NDArray[np.float32] = _opened(folder / "ranks.npy", np.float32, (t,), np.inf)
        self.tied: NDArray[np.uint8] = _opened(folder / "tied.npy", np.uint8, (t,), 0)
        self.ms: NDArray[np.float32] = _opened(folder / "ms.npy", np.float32, (q,), np.nan)
        self.reranked: NDArray[np.uint8] = _opened(folder / "reranked.npy", np.uint8, (q,), 0)
        self.answered: NDArray[np.uint8] = _opened(folder / "answered.npy", np.uint8, (q,), 0)
        self._baskets = baskets

    def put(self, question: int, shown: Shown) -> None:
        """Writes the answer to one question; a second time it replaces the first."""
        rows = shown.rows[:KEPT]
        self.lists[question, : len(rows)] = rows
        start, end = self._baskets.offsets[question : question + 2]
        targets = self._baskets.targets[start:end]
        for place, target in enumerate(targets, int(start)):
            found = np.flatnonzero(shown.rows == target)
            rank = shown.places[found[0]] if len(found) else np.inf
            self.ranks[place] = rank
            self.tied[place] = (shown.places == rank).sum() > 1
        self.ms[question] = shown.ms
        self.reranked[question] = shown.reranked
        self.answered[question] = 1

    def flush(self) -> None:
        """To the disk."""
        for column in (self.lists, self.ranks, self.tied, self.ms, self.reranked, self.answered):
            if isinstance(column, np.memmap):
                column.flush()


def _opened(file: Path, kind: Any, shape: tuple[int, ...], value: float) -> Any:
    if file.is_file():
        opened = np.load(file, mmap_mode="r+")
        if opened.shape == shape:
            return opened
    made = np.lib.format.open_memmap(file, mode="w+", dtype=kind, shape=shape)
    made[:] = value
    return made
