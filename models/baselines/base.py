"""What a baseline is, and how one of several settings is chosen.

    fit      learns from the events ``offsets[s]:ends[s]`` of every shopper s, and from titles
    scores   a block of questions at a time; a higher score is a better item
    tuned    the setting that finds most on validation

What a baseline knows nothing of is -inf, which is in no list; with nothing to learn from that may
be everything. None holds shoppers times items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.evaluation.intervals import Values
from models.training.data.log import TrainingLog
from models.training.data.splits import Questions, gains, ranks_by

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Asked:
    """q questions: what comes at ``ts`` (epoch ms), after events ``starts:ends`` of the log?

    (q,) each. No event of a history is later than its ts, nor at it but in leave-one-out.
    """

    shoppers: Ints
    starts: Ints
    ends: Ints
    ts: Ints

    def __len__(self) -> int:
        return len(self.shoppers)

    def take(self, which: Ints | slice) -> Asked:
        """Those at positions, in that order."""
        return Asked(self.shoppers[which], self.starts[which], self.ends[which], self.ts[which])

    @classmethod
    def of(cls, log: TrainingLog, questions: Questions) -> Asked:
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

    def scores(self, log: TrainingLog, asked: Asked) -> Tensor:
        """(q, 1 + n) float32 of rows 0 to n, -inf for what is not to be listed.

        What stands for row 0, no item, means nothing.
        """


@dataclass(frozen=True, slots=True)
class Steps:
    """The newest items of q histories, flat: question ``of``, item ``rows``, ``ages`` from 0."""

    of: Ints
    rows: Ints
    ages: Ints


def steps(log: TrainingLog, asked: Asked, newest: int | None = None) -> Steps:
    """The items of each history, the newest first, at most ``newest``; searches are no items."""
    of, at = _flat(asked)
    rows = np.asarray(log.rows)[at].astype(np.int64)
    items = rows <= log.items
    of, rows = of[items], rows[items]
    sizes = np.bincount(of, minlength=len(asked))
    ages = np.arange(len(of)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    kept = slice(None) if newest is None else ages < newest
    return Steps(of[kept], rows[kept], ages[kept])


def _flat(asked: Asked) -> tuple[Ints, Ints]:
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


def ranks_of(
    baseline: Baseline, log: TrainingLog, questions: Questions, *, again: bool = False
) -> Values:
    """Ranks (q,) of the targets: see ``models.training.data.splits.ranks_by``."""
    asked = Asked.of(log, questions)
    order = np.argsort(asked.ts, kind="stable")  # a baseline that moves through time goes once

    def scores(places: Ints) -> Tensor:
        return baseline.scores(log, asked.take(places)).clone()

    return ranks_by(log, questions, scores, order, scale=None, again=again)


def known(scores: Tensor) -> Tensor:
    """The same scores, changed: 0 is that nothing is known, -inf."""
    return scores.masked_fill_(scores == 0, -torch.inf)


def tuned(
    candidates: Sequence[Baseline],
    log: TrainingLog,
    ends: Ints,
    validation: Questions,
    *,
    again: bool = False,
) -> Baseline:
    """The candidate that finds most of ``validation`` (NDCG@10) when fitted on ``ends``.

    Of equals the first. ``again``: what the shopper had may be the answer, as in ``ranks_by``. It
    is to be fitted again, on all that may be learnt. Where there is nothing to choose, for want of
    candidates or of validation, nothing is fitted; two at most are held at once.
    """
    best, most = candidates[0], -1.0
    if len(candidates) == 1 or not len(validation):
        return best
    for candidate in candidates:
        candidate.fit(log, ends)
        found = float(gains(ranks_of(candidate, log, validation, again=again)).mean())
        if found > most:
            best, most = candidate, found
    return best
