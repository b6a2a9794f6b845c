"""Questions that a model is asked of a log: given these events, what comes next?

Three protocols, all over the arrays of ``models/training/data/log.py``. A question has one target;
a basket (several events of one shopper at one ts) is several questions with one history, all of it
before the basket.

    shopper's events   ─────────────────────────────┬──────────┬────────┬─▶
    last ("leave-one-out")   training               │ validate │  test  │   by position
    time                     training       │ validate     │     test       by ts, for all
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.evaluation import intervals
from models.evaluation.intervals import Groups, Values
from models.training.data.log import TrainingLog

_SCORED: Final = 256  # questions whose scores are held at once, at most, and
_SCORES: Final = 32_000_000  # such scores
_SORTED: Final = 5_000_000  # events whose ts find a boundary
#: About so many questions are asked of a part of a log; where there are more, of fewer shoppers.
MOST: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Questions:
    """q questions: history is events ``starts:ends`` of the log, ``targets`` are rows (q,)."""

    shoppers: Groups
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    targets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.targets)

    def sample(self, count: int, seed: int) -> Questions:
        """At most ``count`` of them, in their order."""
        if count >= len(self):
            return self
        chosen = np.sort(np.random.default_rng(seed).permutation(len(self))[:count])
        return self.take(chosen)

    def groups(self) -> Groups:
        """The shopper of each (q,), numbered from 0, for intervals by shopper."""
        return np.unique(self.shoppers, return_inverse=True)[1].astype(np.int64)

    def take(self, which: NDArray[np.int64] | NDArray[np.bool_]) -> Questions:
        """Those at positions, or where true."""
        return Questions(
            self.shoppers[which], self.starts[which], self.ends[which], self.targets[which]
        )


@dataclass(frozen=True, slots=True)
class Split:
    """``ends`` (shoppers,) is where each one's training events end; then what is asked.

    ``known`` (shoppers,) is where what lies before the test ends, validation's events among it: to
    learn from once validation has chosen.
    """

    ends: NDArray[np.int64]
    known: NDArray[np.int64]
    validation: Questions
    test: Questions
    words: str


def last_events(log: TrainingLog, shortest: int = 3) -> Split:
    """Leave-one-out: the last event is the test, the one before it the validation.

    For comparison with papers only: the training events of one shopper are later than the test
    events of another. Shoppers with fewer than ``shortest`` events are trained on whole.
    """
    starts, stops = log.offsets[:-1], log.offsets[1:]
    asked = np.flatnonzero(stops - starts >= shortest)
    ends = stops.copy()
    ends[asked] -= 2
    known = stops.copy()
    known[asked] -= 1

    def before(back: int) -> Questions:
        at = stops[asked] - back
        targets = np.asarray(log.rows)[at].astype(np.int64)
        found = Questions(asked.astype(np.int64), starts[asked], at, targets)
        return found.take(targets <= log.items)

    words = "leave-one-out: the last event, the one before it"
    return Split(ends, known, before(2), before(1), words)


def by_time(
    log: TrainingLog, validation: float = 0.1, test: float = 0.2, *, baskets: bool = True
) -> Split:
    """Global time: the last ``test`` of the events are the test, ``validation`` of them before it.

    Boundaries are ts, so that no basket is cut. Asked are the events on items that the shopper
    has not had before, by shoppers with a history. Without ``baskets`` each event is asked with
    all before it in the log's order, its own basket's too: for comparison with figures that were
    made so, since the order inside a basket means nothing and its items are much alike.
    """
    ts = np.asarray(log.ts)
    ordered = np.sort(ts[:: 1 + len(ts) // _SORTED])
    last = len(ordered) - 1
    end = log.summary.last_ts + 1
    first_test = ordered[min(int(len(ordered) * (1 - test)), last)] if test else end
    place = min(int(len(ordered) * (1 - test - validation)), last)
    first_validation = ordered[place] if validation else first_test
    ends, known = log.ends_before(first_validation), log.ends_before(first_test)
    found = [
        _between(log, ts, first_validation, first_test, baskets),
        _between(log, ts, first_test, end, baskets),
    ]
    how = "by basket" if baskets else "event by event"
    words = (
        f"global time, {how}: validation from {first_validation}, test from {first_test} (epoch ms)"
    )
    return Split(ends, known, found[0], found[1], words)


def _between(
    log: TrainingLog, ts: NDArray[np.int64], first: int, stop: int, baskets: bool
) -> Questions:
    """Each new item that a shopper reached at ``first`` <= ts < ``stop``, asked before it."""
    rows = np.asarray(log.rows)
    found: list[tuple[int, int, int, int]] = []
    events = int(((ts >= first) & (ts < stop)).sum())
    for shopper in range(0, log.shoppers, 1 + events // MOST):  # they are in no order of meaning
        start, end = log.offsets[shopper], log.offsets[shopper + 1]
        mine = ts[start:end]
        low, high = np.searchsorted(mine, [first, stop])
        for place in range(int(low), int(high)):
            before = int(np.searchsorted(mine, mine[place])) if baskets else place
            row = int(rows[start + place])
            if before == 0 or row > log.items:
                continue
            if row in rows[start : start + before]:
                continue
            found.append((shopper, int(start), int(start) + before, row))
    table = np.array(found, dtype=np.int64).reshape(-1, 4)
    return Questions(table[:, 0], table[:, 1], table[:, 2], table[:, 3])


class Gains(Protocol):
    """What some items gain on their cosines: see ``trends.Prior``."""

    def add(self, scores: Tensor, first: int, weight: float) -> None:
        """To the ``scores`` (b, 1 + n) of the questions from ``first`` on, in place."""


#: Of the questions at places (b,): their scores (b, 1 + n), which will be changed; row 0 no item.
Scores = Callable[[NDArray[np.int64]], Tensor]


def ranks(
    log: TrainingLog,
    questions: Questions,
    shoppers: Tensor,
    items: Tensor,
    gains: Gains | None = None,
    weight: float = 0.0,
) -> Values:
    """Ranks (q,) as of ``ranks_by``, by unit vectors: ``shoppers`` (q, d), ``items`` (1 + n, d).

    ``gains`` are added at ``weight``.
    """

    def scores(places: NDArray[np.int64]) -> Tensor:
        first = int(places[0])
        found = shoppers[first : first + len(places)] @ items.T
        if gains is not None and weight:
            gains.add(found, first, weight)
        return found

    return ranks_by(log, questions, scores)


def ranks_by(
    log: TrainingLog,
    questions: Questions,
    scores: Scores,
    order: NDArray[np.int64] | None = None,
    *,
    scale: float | None = 1.0,
    again: bool = False,
) -> Values:
    """Ranks (q,) of the targets among all items, 0 the best; a tie has the mean of its ranks.

    Infinite where the target has no score (-inf). What a shopper had before is left out, as the
    live rules do with what was bought; the target never is; with ``again`` nothing is left out.
    ``scores`` are asked for in ``order`` (q,), block by block; ``scale`` as in ``intervals.ties``.
    """
    rows = np.asarray(log.rows)
    found = np.empty(len(questions))
    order = np.arange(len(questions)) if order is None else order
    block = block_of(log)
    for begin in range(0, len(order), block):
        some = order[begin : begin + block]
        told = scores(some)
        told[:, 0] = -torch.inf
        targets = torch.from_numpy(questions.targets[some])[:, None]
        wanted = told.gather(1, targets)
        if not again:
            for place, question in enumerate(some):
                had = rows[questions.starts[question] : questions.ends[question]]
                told[place, had[had <= log.items].astype(np.int64)] = -torch.inf
            told.scatter_(1, targets, wanted)
        found[some] = intervals.ranks(told.numpy(), wanted.numpy(), scale)[:, 0]
    return found


def block_of(log: TrainingLog) -> int:
    """Questions whose scores are held at once."""
    return max(1, min(_SCORED, _SCORES // (log.items + 1)))


def hits(ranks: Values, k: int = 10) -> Values:
    """HR@k of each question (one target, so Recall@k as well)."""
    return (ranks < k).astype(np.float64)


def gains(ranks: Values, k: int = 10) -> Values:
    """NDCG@k of each question."""
    return np.where(ranks < k, 1 / np.log2(ranks + 2), 0.0)
