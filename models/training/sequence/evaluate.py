"""What a model makes of a log: vectors of its items and shoppers, and where the targets rank.

Row 0 stands for no item; rows beyond the items are queries, which are never recommended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.space.mixup import MixUpConfig
from models.space.sequence import Member, SequenceModel
from models.training.data.log import TrainingLog
from models.training.data.splits import Questions, ranks
from models.training.data.windows import gathered

_ROWS: Final = 8192  # rows of the item table made at once
_ASKED: Final = 1024  # questions encoded at once


class Titles:
    """What titles say, by row: in memory when they are few, from the disk when they are many."""

    def __init__(self, log: TrainingLog, most: int = 200_000) -> None:
        few = len(log.titles) <= most
        self._vectors = np.asarray(log.titles, np.float32) if few else log.titles
        self._words = np.asarray(log.words) if few else log.words

    def __call__(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors (k, t) and the numbers of the words (k, w) of rows (k,)."""
        some = rows.numpy()
        vectors = self._vectors[some].astype(np.float32, copy=False)
        return torch.from_numpy(vectors), torch.from_numpy(self._words[some])


def fitted(config: MixUpConfig, log: TrainingLog) -> MixUpConfig:
    """The mix-up for the log's titles: their vectors' length, and no more words than they have."""
    words = 0 if config.strategy == "id" else min(config.words, len(log.vocabulary))
    return replace(config, title_dim=log.summary.title_dim, words=words)


@dataclass(frozen=True, slots=True)
class Space:
    """Every row's vector (1 + n + q, d); ``items`` is the part that can be recommended."""

    table: Tensor
    items: Tensor

    @classmethod
    def of(cls, log: TrainingLog, model: SequenceModel | Member) -> Space:
        """As the model makes them."""
        table = item_table(log, model, Titles(log))
        return cls(table, table[: log.items + 1])


@torch.inference_mode()
def item_table(log: TrainingLog, model: SequenceModel | Member, titles: Titles) -> Tensor:
    """Vectors (1 + n + q, d) of every row, row 0 and rows of which nothing is known all zero."""
    make: Callable[[Tensor, Tensor, Tensor], Tensor]
    make = model.mixup if isinstance(model, Member) else model.item_vectors
    parts = [torch.zeros(1, _dim(model))]
    for start in range(1, len(log.titles), _ROWS):
        rows = torch.arange(start, min(start + _ROWS, len(log.titles)))
        parts.append(make(torch.where(rows <= log.items, rows, 0), *titles(rows)))
    return torch.cat(parts)


@torch.inference_mode()
def shopper_vectors(
    log: TrainingLog, questions: Questions, model: SequenceModel | Member, table: Tensor
) -> Tensor:
    """What each question's shopper looks for (q, d)."""
    order = np.argsort(questions.ends - questions.starts, kind="stable")
    out = torch.zeros(len(questions), _dim(model))
    for at in range(0, len(order), _ASKED):
        part = order[at : at + _ASKED]
        rows, kinds, gaps = gathered(
            log, questions.starts[part], questions.ends[part], model.config.length
        )
        out[torch.from_numpy(part)] = model.states(table[rows], kinds, gaps, newest=True)[:, -1]
    return out


def evaluate(
    log: TrainingLog, questions: Questions, model: SequenceModel | Member, titles: Titles
) -> NDArray[np.float64]:
    """Ranks (q,) of the targets among all items."""
    table = item_table(log, model, titles)
    wanted = shopper_vectors(log, questions, model, table)
    return ranks(log, questions, wanted, table[: log.items + 1])


def _dim(model: SequenceModel | Member) -> int:
    return model.config.mixup.out_dim if isinstance(model, Member) else model.config.dim
