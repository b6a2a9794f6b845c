"""Answers of whatever scores every item: a list of the best, and the targets' ranks among all."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.evaluation.intervals import ranks, ties
from models.training.data.log import TrainingLog
from models.training.data.splits import block_of
from stream.replay.questions.answers import KEPT, Answers
from stream.replay.questions.baskets import Baskets


def put_scores(
    answers: Answers, baskets: Baskets, log: TrainingLog, start: int, scores: Tensor,
    *, again: bool = False, enters: NDArray[np.int64] | None = None, scale: float | None = None,
) -> None:  # fmt: skip
    """Writes the answers to questions from ``start`` on, of scores (b, 1 + n); they are changed.

    What ``leave_out`` names is left out. Equal scores share their mean rank, ``scale`` as in
    ``models.evaluation.intervals.ties``; a target without a score (-inf) is not listed.
    """
    leave_out(baskets, log, start, scores, again=again, enters=enters)
    best = torch.topk(scores, min(KEPT, scores.shape[1] - 1), dim=1)
    listed = torch.where(best.values > -torch.inf, best.indices, 0).numpy()
    answers.lists[start : start + len(scores), : listed.shape[1]] = listed
    for n in range(len(scores)):
        first, last = baskets.offsets[start + n], baskets.offsets[start + n + 1]
        targets = torch.from_numpy(baskets.targets[first:last])
        among, wanted = scores[n].numpy(), scores[n, targets].numpy()
        found = ranks(among, wanted, scale)
        there = found < KEPT
        answers.ranks[first:last] = np.where(there, found, np.inf)
        answers.tied[first:last] = there & (ties(among, wanted, scale)[1] > 1)
    answers.answered[start : start + len(scores)] = 1


def leave_out(
    baskets: Baskets, log: TrainingLog, start: int, scores: Tensor,
    *, again: bool = False, enters: NDArray[np.int64] | None = None,
) -> None:  # fmt: skip
    """Takes their scores (-inf), in place, from what is not to be listed.

    That is what enters (``enters``, (1 + n,) epoch ms) after a question, and what the shopper had
    before, as the live rules leave out what was bought, unless ``again``.
    """
    rows = np.asarray(log.rows)
    scores[:, 0] = -torch.inf
    if not again:
        for n in range(len(scores)):
            had = rows[baskets.starts[start + n] : baskets.ends[start + n]]
            scores[n, torch.from_numpy(had[had <= log.items].astype(np.int64))] = -torch.inf
    if enters is not None:
        asked = baskets.ts[start : start + len(scores)]
        scores[torch.from_numpy(enters[None, :] > asked[:, None])] = -torch.inf


def put_vectors(
    answers: Answers, baskets: Baskets, log: TrainingLog, wanted: Tensor, items: Tensor,
    enters: NDArray[np.int64] | None = None,
) -> None:  # fmt: skip
    """The same of vectors: ``wanted`` (q, d) of the shoppers against ``items`` (1 + n, d)."""
    block = block_of(log)
    for start in range(0, len(baskets), block):
        scores = wanted[start : start + block] @ items.T
        put_scores(answers, baskets, log, start, scores, enters=enters, scale=1.0)
    answers.flush()
