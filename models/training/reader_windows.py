"""What the reader is trained on: windows of shoppers' events as prompts, in batches by tokens.

A window's prompt is what serving would read of it (models/reader_prompt.py). Each line's end asks
for the event after it; one that is a search, or an item of which the table knows nothing, is not
asked for. Batches hold prompts of alike lengths, so that little is padded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.domain import Item, Kind, Step
from models.llm import Tokens
from models.ports import Read
from models.prompt import Tokenize
from models.reader_prompt import (
    OPENING,
    ReaderFormat,
    ReaderPrompt,
    reader_line,
    reader_prompt,
)
from models.training.log import TrainingLog

_KINDS: Final = {kind.number: kind for kind in Kind}
#: A history's newest events that are looked at; a shopper's state in serving holds no more.
_NEWEST: Final = 200

Places = NDArray[np.int64]
_Event = tuple[int, int]  # row and kind


class Histories:
    """Ranges of a log's events as serving reads them. Items are kept in a bounded store."""

    def __init__(self, log: TrainingLog) -> None:
        self.log = log
        self._item: Callable[[int], Item] = lru_cache(maxsize=1 << 16)(log.item)

    def __call__(self, start: int, stop: int) -> list[Read]:
        """The steps that a prompt of the events ``start:stop`` is made of, oldest first."""
        start, rows, kinds, said = self.said(start, stop)
        ts = self.log.ts[start:stop].tolist()
        return [self.read(rows[n], kinds[n], ts[n]) for n in said]

    def said(self, start: int, stop: int) -> tuple[int, list[int], list[int], list[int]]:
        """Where reading begins, rows and kinds from there on, and which of them are said.

        The search that led to a click and the same search's own event are one line.
        """
        start = max(start, stop - _NEWEST)
        rows, kinds = self.log.rows[start:stop].tolist(), self.log.kinds[start:stop].tolist()
        return start, rows, kinds, [n for n in range(len(rows)) if not _repeated(rows, kinds, n)]

    def read(self, row: int, kind: int, ts: int = 0) -> Read:
        """One event as a step, and its item where it has one."""
        if not _KINDS[kind].of_item:
            return Read(Step(_KINDS[kind], ts, query=self.log.query(row)), None)
        item = self._item(row) if row else None
        return Read(Step(_KINDS[kind], ts, item_id=item.item_id if item else None), item)


class Prompts:
    """Prompts of ranges of a log's events. Tokens and lines are kept in bounded stores."""

    def __init__(self, log: TrainingLog, form: ReaderFormat, tokenize: Tokenize) -> None:
        self.log = log
        self.form = form
        self._histories = Histories(log)
        self._tokenize: Tokenize = lru_cache(maxsize=1 << 17)(tokenize)
        self._line = lru_cache(maxsize=1 << 17)(self._made_line)
        self._opening = tokenize(OPENING)

    def __call__(self, start: int, stop: int) -> tuple[ReaderPrompt, Places]:
        """The prompt of the events ``start:stop``, and the event of each of its ends (e,)."""
        start, rows, kinds, said = self._histories.said(start, stop)
        if len(said) < 2 * self.form.lines:
            prompt = self._whole([(rows[n], kinds[n]) for n in said])
        else:
            prompt = reader_prompt(self._histories(start, stop), self.form, self._tokenize)
        places = np.array([start + said[n] for n in prompt.steps], dtype=np.int64)
        return prompt, places

    def _whole(self, steps: list[_Event]) -> ReaderPrompt:
        """``reader_prompt`` of few enough steps that all are read, out of lines made before."""
        tokens, ends, read = list(self._opening), [], []
        before: _Event | None = None
        for n, step in enumerate(steps):
            if line := self._line(step, before):
                tokens += line
                ends.append(len(tokens) - 1)
                read.append(n)
                # of what stands above, a line needs the kind, and of a search its words
                before = step if step[1] == Kind.SEARCH.number else (0, step[1])
        return ReaderPrompt(tuple(tokens), tuple(ends), tuple(read)) if read else ReaderPrompt()

    def _made_line(self, step: _Event, before: _Event | None) -> Tokens:
        above = self._histories.read(*before) if before else None
        return reader_line(self._histories.read(*step), above, self.form, self._tokenize)


def _repeated(rows: list[int], kinds: list[int], n: int) -> bool:
    return kinds[n] == Kind.SEARCH.number and n + 1 < len(rows) and rows[n + 1] == rows[n]


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


@dataclass(frozen=True, slots=True)
class ReadBatch:
    """b prompts padded at the right. m ends ask for a target.

    ``rows`` and ``columns`` (m,) are where in ``tokens`` (b, l) the states are read; ``events``
    (m,) are the events that end there, ``targets`` (m,) the item rows that follow.
    """

    tokens: Tensor
    rows: Tensor
    columns: Tensor
    events: Places
    targets: Tensor
    size: int  # tokens without padding


def cut(
    prompts: Prompts,
    ends: Places,
    shoppers: Places,
    *,
    newest: int = 0,
    max_tokens: int = 0,
) -> Windows:
    """Windows of the shoppers' training events, in the shoppers' order, until ``max_tokens``.

    From the newest event back, as many to a window as serving may read at most; ``newest``: so
    many windows of each shopper (0: all, so that each event is a target once).
    """
    log, span = prompts.log, 2 * prompts.form.lines - 1
    found: list[tuple[int, int, int]] = []
    total = 0
    for shopper in shoppers.tolist():
        first, stop, made = int(log.offsets[shopper]), int(ends[shopper]) - 1, 0
        while stop > first and (not newest or made < newest):
            start = max(first, stop - span)
            size = len(prompts(start, stop)[0].tokens)
            if size:
                if max_tokens and total + size > max_tokens:
                    return Windows.of(found)
                found.append((start, stop, size))
                total += size
            stop, made = start, made + 1
    return Windows.of(found)


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


def read_batch(prompts: Prompts, windows: Windows, which: Places, known: Tensor) -> ReadBatch:
    """The windows ``which`` as one batch; ``known`` (1 + n + q,) says which rows can be targets."""
    log = prompts.log
    texts: list[Tokens] = []
    rows: list[int] = []
    columns: list[int] = []
    events: list[int] = []
    targets: list[int] = []
    for row, window in enumerate(which.tolist()):
        prompt, places = prompts(int(windows.starts[window]), int(windows.stops[window]))
        texts.append(prompt.tokens)
        for column, event in zip(prompt.ends, places.tolist(), strict=True):
            target = int(log.rows[event + 1])
            if target <= log.items and bool(known[target]):
                rows.append(row)
                columns.append(column)
                events.append(event)
                targets.append(target)
    return ReadBatch(
        padded(texts),
        torch.tensor(rows, dtype=torch.long),
        torch.tensor(columns, dtype=torch.long),
        np.array(events, dtype=np.int64),
        torch.tensor(targets, dtype=torch.long),
        sum(map(len, texts)),
    )


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
