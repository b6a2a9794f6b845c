"""What an LLM is trained on: windows of shoppers' events, in batches by their prompts' tokens.

Batches hold prompts of alike lengths, so that little is padded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import torch
from torch import Tensor

from models.domain import Item, Kind, Step
from models.llm.scorer import Tokens
from models.ports import Read
from models.training.data.log import Places, TrainingLog

_KINDS: Final = {kind.number: kind for kind in Kind}
#: A history's newest events that are looked at; a shopper's state in serving holds no more.
_NEWEST: Final = 200


class Histories:
    """Ranges of a log's events as serving reads them. Items are kept in a bounded store."""

    def __init__(self, log: TrainingLog) -> None:
        self._log = log
        self._item: Callable[[int], Item] = lru_cache(maxsize=1 << 16)(log.item)

    def __call__(self, start: int, stop: int) -> list[Read]:
        """The steps that a prompt of the events ``start:stop`` is made of, oldest first.

        The search that led to a click and the same search's own event are one line.
        """
        start = max(start, stop - _NEWEST)
        rows, kinds = self._log.rows[start:stop].tolist(), self._log.kinds[start:stop].tolist()
        ts = self._log.ts[start:stop].tolist()
        said = (n for n in range(len(rows)) if not _repeated(rows, kinds, n))
        return [self._read(rows[n], kinds[n], ts[n]) for n in said]

    def _read(self, row: int, kind: int, ts: int) -> Read:
        """One event as a step, and its item where it has one."""
        if not _KINDS[kind].of_item:
            return Read(Step(_KINDS[kind], ts, query=self._log.query(row)), None)
        item = self._item(row) if row else None
        return Read(Step(_KINDS[kind], ts, item_id=item.item_id if item else None), item)


def _repeated(rows: list[int], kinds: list[int], n: int) -> bool:
    return not _KINDS[kinds[n]].of_item and n + 1 < len(rows) and rows[n + 1] == rows[n]


#: Forwards of a step, about: more pad less, and multiply smaller matrices.
_PARTS: Final = 4


@dataclass(frozen=True, slots=True)
class Windows:
    """w windows: events ``starts:stops`` are read, each predicting the next; ``sizes`` in tokens.

    The event at ``stops`` is the last one's target, so it belongs to the training part as well.
    """

    starts: Places
    stops: Places
    sizes: Places

    @classmethod
    def of(cls, found: Sequence[tuple[int, int, int]]) -> Windows:
        """Of (start, stop, size) each."""
        table = np.array(found, dtype=np.int64).reshape(-1, 3)
        return cls(table[:, 0], table[:, 1], table[:, 2])

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def tokens(self) -> int:
        """Of all windows together."""
        return int(self.sizes.sum())


def batches(windows: Windows, batch_tokens: int, rng: np.random.Generator) -> list[Places]:
    """All windows once, so many tokens a step, in an order of the generator's.

    Each step has short and long histories, like every other: steps on one length each learn less
    (docs/log.md, 13).
    """
    order = rng.permutation(len(windows))
    found: list[Places] = []
    begin, total = 0, 0
    for end, size in enumerate(windows.sizes[order].tolist()):
        if end > begin and total + size > batch_tokens:
            found.append(order[begin:end])
            begin, total = end, 0
        total += size
    return [*found, order[begin:]] if len(order) else []


def parts(windows: Windows, which: Places) -> list[Places]:
    """One step's windows cut to runs of alike lengths, each a forward of little padding."""
    order = which[np.argsort(windows.sizes[which], kind="stable")]
    sizes = windows.sizes[order].tolist()
    most = max(int(windows.sizes[which].sum()) // _PARTS, 1)
    return [order[run] for run in alike(sizes, most)]


def padded(texts: Sequence[Tokens]) -> Tensor:
    """(b, l), 0 at the right."""
    found = torch.zeros(len(texts), max(map(len, texts), default=0), dtype=torch.long)
    for row, text in enumerate(texts):
        found[row, : len(text)] = torch.tensor(text)
    return found


def alike(sizes: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Indices of sorted ``sizes`` in runs that fit ``batch_tokens`` when padded to the longest."""
    run: list[int] = []
    for n, size in enumerate(sizes):
        if run and size * (len(run) + 1) > batch_tokens:
            yield run
            run = []
        run.append(n)
    if run:
        yield run
