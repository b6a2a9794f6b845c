"""SASRec on IDs alone: our own sequence model without titles, so that what they add is seen."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from models.baselines.base import Asked, Ints
from models.space.mixup import MixUpConfig
from models.space.sequence import Member
from models.training.data.log import TrainingLog
from models.training.data.progress import Silent
from models.training.data.splits import Questions, Split
from models.training.presets import PRESETS
from models.training.sequence.evaluate import Titles, item_table, shopper_vectors
from models.training.sequence.train import SequenceTraining, counted, train_member

_PRESET: Final = PRESETS["standard"]
#: Of the shoppers that could be held out, one in so many at most is.
_SHARE: Final = 5


class SASRec:
    """Causal self-attention over learnt item vectors (Kang and McAuley 2018, arXiv 1808.09781).

    Our model and training by strategy "id" (models/space/mixup.py), with its sampled softmax. The
    epochs are chosen on some shoppers' last training event, which is held out. ``work``: a folder
    for checkpoints; a training that was killed goes on.
    """

    name = "sasrec"

    def __init__(self, work: Path, training: SequenceTraining = _PRESET.training) -> None:
        self.work, self.training = work, training
        self._member: Member | None = None
        self._table = torch.zeros(0)  # (1 + n + queries, d)
        self._untrained = torch.zeros(0, dtype=torch.bool)  # (1 + n,)

    @property
    def words(self) -> str:
        """The method and its setting."""
        return (
            "SASRec (Kang and McAuley 2018) on IDs alone: Weft's own sequence model, at most "
            f"{self.training.epochs} epochs"
        )

    def fit(self, log: TrainingLog, ends: Ints) -> None:
        """Trains, or reads the checkpoint of the same training."""
        held = held_out(log, ends, self.training.asked, self.training.seed)
        learnt = ends.copy()
        learnt[held.shoppers] -= 1
        self._member = None
        self._untrained = torch.from_numpy(counted(log, learnt) == 0)
        if not len(held):
            return
        config = replace(
            _PRESET.sequence, mixup=MixUpConfig("id", title_dim=log.summary.title_dim), members=1
        )
        told = sha256(learnt.tobytes()).hexdigest()
        split = Split(learnt, ends, held, held, told)
        self._member = train_member(log, split, config, self.training, self.work, Silent()).member
        self._table = item_table(log, self._member, Titles(log))

    def scores(self, log: TrainingLog, asked: Asked) -> Tensor:
        """Cosines (q, 1 + n); -inf for an item without a training event."""
        if self._member is None:
            return torch.full((len(asked), log.items + 1), -torch.inf)
        questions = Questions(asked.shoppers, asked.starts, asked.ends, np.zeros_like(asked.ends))
        wanted = shopper_vectors(log, questions, self._member, self._table)
        found = wanted @ self._table[: log.items + 1].T
        return found.masked_fill_(self._untrained, -torch.inf)


def held_out(log: TrainingLog, ends: Ints, most: int, seed: int) -> Questions:
    """The last training event of some shoppers, with at least two before it, as questions."""
    at = ends - 1
    rows = np.asarray(log.rows)[np.maximum(at, 0)].astype(np.int64)
    could = np.flatnonzero((ends - log.offsets[:-1] > 2) & (rows <= log.items))
    whole = Questions(could, log.offsets[:-1][could], at[could], rows[could])
    return whole.sample(min(most, -(-len(whole) // _SHARE)), seed)
