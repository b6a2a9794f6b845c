"""GRU4Rec by cornac: a recurrent network over the shopper's items, of another group's making."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from models.baselines.base import Asked, Ints, learnt, steps
from models.baselines.libraries import library
from models.training.data.log import TrainingLog

_SEED: Final = 0
_NEWEST: Final = 50  # items of a history that are read, and of a shopper's training


class GRU4Rec:
    """Hidasi et al. 2016 (arXiv 1511.06939), with a softmax over the batch's and sampled items.

    The sampling is that of Hidasi and Karatzoglou 2018 (arXiv 1706.03847), whose 2,048 negatives
    take a CPU four times as long as the 512 here. cornac holds the training events as lists.
    """

    name = "gru4rec"

    def __init__(self, size: int, epochs: int, lr: float, negatives: int = 512) -> None:
        self.size, self.epochs, self.lr, self.negatives = size, epochs, lr, negatives
        self._network: Any = None
        self._numbers = torch.zeros(0, dtype=torch.int64)  # (1 + n,), cornac's, -1 for none

    @property
    def words(self) -> str:
        """The method and its setting."""
        return (
            f"GRU4Rec (Hidasi et al. 2016; cornac): {self.size} units, {self.epochs} epochs, rate "
            f"{self.lr:g}"
        )

    def fit(self, log: TrainingLog, ends: Ints) -> None:
        """Trains. Raises ``InvalidSettings`` where cornac is not installed."""
        data = library("cornac", "cornac.data.dataset")
        models = library("cornac", "cornac.models.gru4rec.recom_gru4rec")
        at = np.flatnonzero(learnt(log, ends, _NEWEST))
        shoppers = np.searchsorted(log.offsets, at, side="right") - 1
        rows, items = np.unique(np.asarray(log.rows)[at], return_inverse=True)
        known, sessions = np.unique(shoppers, return_inverse=True)
        self._network = None
        self._numbers = torch.full((log.items + 1,), -1)
        self._numbers[torch.from_numpy(rows.astype(np.int64))] = torch.arange(len(rows))
        if not len(rows) or np.bincount(sessions).max() < 2:
            return
        places = OrderedDict((n, n) for n in range(len(known)))
        whole = data.SequentialDataset(
            num_users=len(known), num_sessions=len(known), num_items=len(rows),
            uid_map=places, sid_map=places, iid_map=OrderedDict((n, n) for n in range(len(rows))),
            uir_tuple=(sessions, items, np.ones(len(items))), session_indices=sessions,
            timestamps=np.arange(len(items)), seed=_SEED,
        )  # fmt: skip
        model = models.GRU4Rec(
            layers=[self.size], loss="cross-entropy", learning_rate=self.lr,
            n_epochs=self.epochs, n_sample=self.negatives, sample_alpha=0.5,
            batch_size=max(1, min(512, len(known) // 4)), dropout_p_embed=0.2, seed=_SEED,
        )  # fmt: skip
        torch.manual_seed(_SEED)
        model.fit(whole)
        self._network = model.model.eval()

    @torch.inference_mode()
    def scores(self, log: TrainingLog, asked: Asked) -> Tensor:
        """Logits (q, 1 + n); -inf for an item without a training event."""
        out = torch.full((len(asked), log.items + 1), -torch.inf)
        if self._network is None:
            return out
        items = torch.nonzero(self._numbers >= 0)[:, 0]
        states = self._states(log, asked)
        weights, biases = self._network.Wy.weight, self._network.By.weight
        logits = states @ weights[: len(items)].T + biases[: len(items), 0]
        out[:, items] = logits
        return out

    def _states(self, log: TrainingLog, asked: Asked) -> Tensor:
        """The state (q, size) after each history, but for items that were not trained on."""
        found = steps(log, asked, _NEWEST)
        numbers = self._numbers[torch.from_numpy(found.rows)]
        states = torch.zeros(len(asked), self.size)
        for age in range(_NEWEST - 1, -1, -1):
            now = torch.from_numpy(found.ages == age) & (numbers >= 0)
            of = torch.from_numpy(found.of)[now]
            if len(of):
                states[of] = self._network.G[0](self._network.Wy(numbers[now]), states[of])
        return states
