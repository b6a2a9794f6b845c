"""What the listwise reranker is trained on: a history, the retriever's first items, and the next.

Asked are items that are new to their shopper, as serving puts only those before the reranker. The
retriever's first items stand beside the right one; what the shopper had, what has no text and what
reads like another one is left out, as in serving.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Final

import numpy as np

from models import listwise
from models.llm import Tokens
from models.prompt import Tokenize
from models.training.log import TrainingLog
from models.training.negatives import Hard
from models.training.reader_windows import Places, Prompts

#: How many of the retriever's first are looked at, for enough of them to be new to the shopper.
MINED: Final = 64
_EVENTS: Final = 256  # that the retriever is asked about at once


@dataclass(frozen=True, slots=True)
class Choices:
    """q questions: the events ``starts:stops`` (q,) are read, the event at ``stops`` came next.

    ``candidates`` (q, 20) are rows of items, the right one first, 0 where there are fewer;
    ``sizes`` (q,) in tokens.
    """

    starts: Places
    stops: Places
    candidates: Places
    sizes: Places

    def __len__(self) -> int:
        return len(self.starts)


class ChoicePrompts:
    """Prompts of choices, as models/listwise.py writes them. What is made is kept, bounded."""

    def __init__(self, log: TrainingLog, tokenize: Tokenize) -> None:
        self.log = log
        self.histories = Prompts(log, listwise.FORMAT, tokenize)
        self._tokenize: Tokenize = lru_cache(maxsize=1 << 12)(tokenize)
        self.text = lru_cache(maxsize=1 << 16)(self._made_text)

    def __call__(self, start: int, stop: int, rows: Sequence[int]) -> Tokens:
        """Of the events ``start:stop`` and the candidates in this order; maybe empty."""
        texts = [self.text(row) for row in rows]
        return listwise.prompt_of(self.histories(start, stop)[0].tokens, texts, self._tokenize)

    def shuffled(
        self, choices: Choices, which: Places, rng: np.random.Generator
    ) -> tuple[list[Tokens], list[int], list[int]]:
        """Prompts with their candidates in random orders, the right letters and the letters."""
        prompts: list[Tokens] = []
        right: list[int] = []
        counts: list[int] = []
        for n in which.tolist():
            rows = choices.candidates[n][choices.candidates[n] > 0]
            order = rng.permutation(len(rows))
            span = int(choices.starts[n]), int(choices.stops[n])
            prompts.append(self(*span, rows[order].tolist()))
            right.append(int(np.flatnonzero(order == 0)[0]))
            counts.append(len(rows))
        return prompts, right, counts

    def _made_text(self, row: int) -> Tokens:
        return listwise.candidate_text(self.log.item(row), self._tokenize)


def choices_of(
    prompts: ChoicePrompts,
    ends: Places,
    shoppers: Places,
    hard: Hard,
    *,
    newest: int = 0,
    max_tokens: int = 0,
) -> Choices:
    """Questions about the shoppers' training events, in their order, until ``max_tokens``.

    ``ends`` (log's shoppers,): where each one's training events end; ``newest``: so many questions
    of each shopper (0: all).
    """
    found: list[tuple[int, int, list[int], int]] = []
    total = 0
    asked = _new_items(prompts, ends, shoppers, newest)
    while places := list(islice(asked, _EVENTS)):
        before = np.array([stop - 1 for _, stop in places], dtype=np.int64)
        for (start, stop), first in zip(places, hard(before).tolist(), strict=True):
            rows = _beside(prompts, start, stop, first)
            size = len(prompts(start, stop, rows))
            if len(rows) < 2 or not size:
                continue
            if max_tokens and total + size > max_tokens:
                return _choices(found)
            found.append((start, stop, rows, size))
            total += size
    return _choices(found)


def _new_items(
    prompts: ChoicePrompts, ends: Places, shoppers: Places, newest: int
) -> Iterator[tuple[int, int]]:
    """Each (start, stop) whose event at ``stop`` is an item that the shopper had not had."""
    log = prompts.log
    for shopper in shoppers.tolist():
        start, end = int(log.offsets[shopper]), int(ends[shopper])
        rows = np.asarray(log.rows[start:end])
        firsts = np.unique(rows, return_index=True)[1]
        new = np.sort(firsts[(firsts > 0) & (rows[firsts] > 0) & (rows[firsts] <= log.items)])
        for place in new[-newest:].tolist():
            if prompts.text(int(rows[place])):
                yield start, start + place


def _beside(prompts: ChoicePrompts, start: int, stop: int, first: Sequence[int]) -> list[int]:
    """The right row, and the retriever's ``first`` rows that can stand beside it."""
    right = int(prompts.log.rows[stop])
    had = set(np.asarray(prompts.log.rows[start:stop]).tolist())
    rows, said = [right], {prompts.text(right)}
    for row in first:
        if len(rows) == len(listwise.LETTERS):
            break
        text = prompts.text(row) if row not in had else ()
        if text and text not in said:
            rows.append(row)
            said.add(text)
    return rows


def _choices(found: Sequence[tuple[int, int, list[int], int]]) -> Choices:
    candidates = np.zeros((len(found), len(listwise.LETTERS)), dtype=np.int64)
    for n, (_, _, rows, _) in enumerate(found):
        candidates[n, : len(rows)] = rows
    spans = np.array([(start, stop, size) for start, stop, _, size in found], dtype=np.int64)
    spans = spans.reshape(-1, 3)
    return Choices(spans[:, 0], spans[:, 1], candidates, spans[:, 2])
