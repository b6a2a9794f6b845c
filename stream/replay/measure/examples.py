"""Shoppers of a replay to look at: what they did, what each contender showed, what came next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from models.domain import Kind
from stream.replay.questions.answers import Answers
from stream.replay.questions.prepare import Prepared
from stream.replay.result.result import Example, ExampleList, ExampleStep

#: Shoppers shown, half of whom a list had helped; lines and steps of each.
_SHOWN: Final = 12
_LINES: Final = 10
_STEPS: Final = 12
_CONTENDERS: Final = 4
_KINDS: Final = {kind.number: kind for kind in Kind}


def examples(
    prepared: Prepared, answered: Sequence[tuple[str, Answers]], seed: int
) -> tuple[Example, ...]:
    """Drawn by the seed: half of those where a contender had a target in its first lines, and half
    of all others, so that the page flatters nobody and still shows what a hit looks like.
    """
    baskets = prepared.asked.baskets
    hit = np.zeros(len(baskets), dtype=bool)
    of = np.repeat(np.arange(len(baskets)), np.diff(baskets.offsets))
    for _, answers in answered[:_CONTENDERS]:
        hit[of[answers.ranks < _LINES]] = True
    random = np.random.default_rng(seed)
    chosen: list[int] = []
    for part in (np.flatnonzero(hit), np.flatnonzero(~hit)):
        chosen += random.permutation(part)[: _SHOWN // 2].tolist()
    return tuple(
        _example(prepared, answered, question, f"Shopper {chr(ord('A') + n)}")
        for n, question in enumerate(random.permutation(chosen).tolist())
    )


def _example(
    prepared: Prepared, answered: Sequence[tuple[str, Answers]], question: int, label: str
) -> Example:
    log, baskets = prepared.log, prepared.asked.baskets
    first, last = baskets.offsets[question : question + 2]
    targets = baskets.targets[first:last]
    end = int(baskets.ends[question])
    steps = [
        ExampleStep(_KINDS[int(log.kinds[at])].value, _words(prepared, int(log.rows[at])),
                    int(log.ts[at]))
        for at in range(max(int(baskets.starts[question]), end - _STEPS), end)
    ]  # fmt: skip
    lists = []
    for name, answers in answered[:_CONTENDERS]:
        rows = [int(row) for row in answers.lists[question, :_LINES] if row]
        lists.append(
            ExampleList(
                name, tuple(_words(prepared, row) for row in rows), tuple("" for _ in rows),
                tuple(row in targets for row in rows),
            )
        )  # fmt: skip
    return Example(
        label, tuple(steps), tuple(lists), tuple(_words(prepared, int(row)) for row in targets)
    )


def _words(prepared: Prepared, row: int) -> str:
    """An item's title, or a search's words."""
    log = prepared.log
    if row > log.items:
        return log.query(row)
    item = log.item(row)
    return item.title or item.text or item.item_id
