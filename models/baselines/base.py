"""What a baseline is, and how one of several settings is chosen.

    fit      learns from the events ``offsets[s]:ends[s]`` of every shopper s, and from titles
    scores   a block of questions at a time; a higher score is a better item
    tuned    the setting that finds most on validation

A baseline with nothing to learn from scores all items alike. None holds shoppers times items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.evaluation import Values
from models.training.log import TrainingLog
from models.training.questions import Questions, gains

Ints = NDArray[np.int64]

_SCORED: Final = 256  # questions a block of scores, and
_SCORES: Final = 32_000_000  # scores a block, at most


@dataclass(frozen=True, slots=True)
class Histories:
    """q questions: what comes at ``ts`` (epoch ms), after events ``starts:ends`` of the log?

    (q,) each. No event of a history is later than its ts, nor at it but in leave-one-out.
    """

    shoppers: Ints
    starts: Ints
    ends: Ints
    ts: Ints

    def __len__(self) -> int:
        return len(self.shoppers)

    def take(self, which: Ints | slice) -> Histories:
        """Those at positions, in that order."""
        return Histories(self.shoppers[which], self.starts[which], self.ends[which], self.ts[which])

    @classmethod
    def of(cls, log: TrainingLog, questions: Questions) -> Histories:
        """``questions`` at the ts of the event after each history, which is what they ask for."""
        ts = np.asarray(log.ts[questions.ends], dtype=np.int64)
        return cls(questions.shoppers, questions.starts, questions.ends, ts)


class Baseline(Protocol):
    """A recommender with one setting."""

    @property
    def name(self) -> str:
        """What it is called in a registry and a report."""

    @property
    def words(self) -> str:
        """One line: the method, its source, and the setting."""

    def fit(self, log: TrainingLog, ends: Ints) -> None:
        """Learns from events ``offsets[s]:ends[s]`` of each shopper s; ``ends`` (shoppers,).

        A second call forgets the first. Raises ``InvalidSettings`` where a library is missing.
        """

    def scores(self, log: TrainingLog, asked: Histories) -> Tensor:
        """(q, 1 + n) float32 of rows 0 to n; what stands for row 0, no item, means nothing."""


@dataclass(frozen=True, slots=True)
class Steps:
    """The newest items of q histories, flat: question ``of``, item ``rows``, ``ages`` from 0."""

    of: Ints
    rows: Ints
    ages: Ints


def steps(log: TrainingLog, asked: Histories, newest: int | None = None) -> Steps:
    """The items of each history, the newest first, at most ``newest``; searches are no items."""
    of, at = _flat(asked)
    rows = np.asarray(log.rows)[at].astype(np.int64)
    items = rows <= log.items
    of, rows = of[items], rows[items]
    sizes = np.bincount(of, minlength=len(asked))
    ages = np.arange(len(of)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    kept = slice(None) if newest is None else ages < newest
    return Steps(of[kept], rows[kept], ages[kept])


def _flat(asked: Histories) -> tuple[Ints, Ints]:
    """Of each event of the histories, the newest first: its question, its place in the log."""
    sizes = asked.ends - asked.starts
    of = np.repeat(np.arange(len(asked)), sizes)
    return of, asked.ends[of] - 1 - (
        np.arange(len(of)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    )


def learnt(log: TrainingLog, ends: Ints, newest: int | None = None) -> NDArray[np.bool_]:
    """Whether each event of the log (events,) is of an item and to be learnt from.

    With ``newest`` only each shopper's last so many events before ``ends``.
    """
    starts = log.offsets[:-1] if newest is None else np.maximum(log.offsets[:-1], ends - newest)
    edges = np.zeros(len(log.rows) + 1, dtype=np.int8)
    np.add.at(edges, starts, 1)
    np.add.at(edges, ends, -1)
    inside: NDArray[np.bool_] = np.cumsum(edges[:-1], dtype=np.int8) > 0
    return inside & (np.asarray(log.rows) <= log.items)


def learnt_pairs(log: TrainingLog, ends: Ints, newest: int | None = None) -> tuple[Ints, Ints]:
    """Shoppers and item rows (p,) of the training events, each pair once, by shopper."""
    at = np.flatnonzero(learnt(log, ends, newest))
    shoppers = np.searchsorted(log.offsets, at, side="right") - 1
    keys = np.unique(shoppers * (log.items + 1) + np.asarray(log.rows)[at])
    return keys // (log.items + 1), keys % (log.items + 1)


def ranks(
    baseline: Baseline, log: TrainingLog, questions: Questions, *, again: bool = False
) -> Values:
    """Ranks (q,) of the targets among all items, 0 the best; a tie has the mean of its ranks.

    As ``models/training/questions.py`` has it, what a shopper had before is left out and the
    target never is; with ``again`` nothing is left out.
    """
    found = np.empty(len(questions))
    asked = Histories.of(log, questions)
    order = np.argsort(asked.ts, kind="stable")  # a baseline that moves through time goes once
    block = max(1, min(_SCORED, _SCORES // (log.items + 1)))
    for begin in range(0, len(order), block):
        some = order[begin : begin + block]
        scores = baseline.scores(log, asked.take(some)).clone()
        scores[:, 0] = -torch.inf
        targets = torch.from_numpy(questions.targets[some])[:, None]
        wanted = scores.gather(1, targets)
        if not again:
            had = steps(log, asked.take(some))
            scores[torch.from_numpy(had.of), torch.from_numpy(had.rows)] = -torch.inf
            scores.scatter_(1, targets, wanted)
        above = (scores > wanted).sum(1)
        equal = (scores == wanted).sum(1)
        found[some] = (above + (equal - 1) / 2).numpy()
    return found


def tuned(
    candidates: Sequence[Baseline],
    log: TrainingLog,
    ends: Ints,
    validation: Questions,
    *,
    again: bool = False,
) -> Baseline:
    """The candidate that finds most of ``validation`` (NDCG@10), fitted on ``ends``.

    Of equals the first is taken. ``again``: an item that the shopper had may be the answer, as in
    ``ranks``. One candidate needs no validation. Two at most are held at once.
    """
    best, most = candidates[0], -1.0
    for candidate in candidates:
        candidate.fit(log, ends)
        if len(candidates) == 1:
            break
        found = float(gains(ranks(candidate, log, validation, again=again)).mean())
        if found > most:
            best, most = candidate, found
    return best
