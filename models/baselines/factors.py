"""Matrix factorisation by implicit: a vector for each shopper and item, scored by their product."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from models.baselines.base import Asked, Ints, learnt_pairs, steps
from models.baselines.libraries import library
from models.training.data.log import TrainingLog

_SEED: Final = 0


class ALS:
    """Alternating least squares on implicit feedback (Hu et al. 2008, doi 10.1109/ICDM.2008.22).

    A shopper's vector is solved anew from the history of each question, so that it knows what came
    after training. An event weighs 1 + ``alpha`` times one that was not.
    """

    name = "als"

    def __init__(self, factors: int, regularisation: float, alpha: float) -> None:
        self.factors, self.regularisation, self.alpha = factors, regularisation, alpha
        self._model: Any = None
        self._items = torch.zeros(0)  # (1 + n, f)

    @property
    def words(self) -> str:
        """The method and its setting."""
        return (
            f"ALS (Hu et al. 2008; implicit): {self.factors} factors, regularisation "
            f"{self.regularisation:g}, alpha {self.alpha:g}"
        )

    def fit(self, log: TrainingLog, ends: Ints) -> None:
        """Factorises. Raises ``InvalidSettings`` where implicit is not installed."""
        als = library("implicit", "implicit.cpu.als")
        shoppers, rows = learnt_pairs(log, ends)
        self._model = als.AlternatingLeastSquares(
            factors=self.factors, regularization=self.regularisation, alpha=self.alpha,
            random_state=_SEED, num_threads=torch.get_num_threads(),
        )  # fmt: skip
        self._items = torch.zeros(log.items + 1, self.factors)
        if len(rows):
            had = _csr(shoppers, rows, (log.shoppers, log.items + 1))
            self._model.fit(had, show_progress=False)
            self._items = torch.from_numpy(np.asarray(self._model.item_factors))
        self._items = _only(self._items, rows)

    def scores(self, log: TrainingLog, asked: Asked) -> Tensor:
        """Products (q, 1 + n); -inf for an item without a training event."""
        found = steps(log, asked)
        keys = np.unique(found.of * (log.items + 1) + found.rows)
        had = _csr(
            keys // (log.items + 1), keys % (log.items + 1), (len(asked), log.items + 1)
        )  # fmt: skip
        unknown = torch.isnan(self._items[:, 0])
        if bool(unknown.all()):
            return torch.full((len(asked), log.items + 1), -torch.inf)
        shoppers = self._model.recalculate_user(np.arange(len(asked)), had)
        return _scores(torch.from_numpy(shoppers), self._items)


class BPR:
    """Bayesian personalised ranking (Rendle et al. 2009, arXiv 1205.2618).

    A shopper's vector is of the training events alone; one without any has the items' biases.
    """

    name = "bpr"

    def __init__(self, factors: int, regularisation: float, iterations: int) -> None:
        self.factors, self.regularisation = factors, regularisation
        self.iterations = iterations
        self._shoppers = torch.zeros(0)  # (shoppers, f + 1)
        self._items = torch.zeros(0)  # (1 + n, f + 1), a bias last

    @property
    def words(self) -> str:
        """The method and its setting."""
        return (
            f"BPR (Rendle et al. 2009; implicit): {self.factors} factors, regularisation "
            f"{self.regularisation:g}, {self.iterations} epochs"
        )

    def fit(self, log: TrainingLog, ends: Ints) -> None:
        """Learns by pairs. Raises ``InvalidSettings`` where implicit is not installed."""
        bpr = library("implicit", "implicit.cpu.bpr")
        shoppers, rows = learnt_pairs(log, ends)
        model = bpr.BayesianPersonalizedRanking(
            factors=self.factors, regularization=self.regularisation, iterations=self.iterations,
            random_state=_SEED, num_threads=1,  # more threads learn something else each time
        )  # fmt: skip
        self._shoppers = torch.zeros(log.shoppers, self.factors + 1)
        self._items = torch.zeros(log.items + 1, self.factors + 1)
        if len(rows):
            had = _csr(shoppers, rows, (log.shoppers, log.items + 1))
            model.fit(had, show_progress=False)
            self._shoppers = torch.from_numpy(np.asarray(model.user_factors))
            self._items = torch.from_numpy(np.asarray(model.item_factors))
        without = np.setdiff1d(np.arange(log.shoppers), shoppers)
        self._shoppers[without] = 0
        self._shoppers[without, -1] = 1
        self._items = _only(self._items, rows)

    def scores(self, log: TrainingLog, asked: Asked) -> Tensor:  # noqa: ARG002 - the protocol's
        """Products (q, 1 + n); -inf for an item without a training event."""
        return _scores(self._shoppers[torch.from_numpy(asked.shoppers)], self._items)


def _only(items: Tensor, rows: Ints) -> Tensor:
    """The item vectors of those that were trained, NaN for the others."""
    trained = torch.zeros(len(items), dtype=torch.bool)
    trained[torch.from_numpy(rows)] = True
    return torch.where(trained[:, None], items, torch.nan)


def _scores(shoppers: Tensor, items: Tensor) -> Tensor:
    found = shoppers @ items.T
    return torch.where(torch.isnan(found), -torch.inf, found)


def _csr(shoppers: Ints, rows: Ints, size: tuple[int, int]) -> Any:
    """1 at each pair, which come each once; scipy comes with implicit."""
    scipy = library("implicit", "scipy.sparse")
    return scipy.csr_matrix((np.ones(len(rows), np.float32), (shoppers, rows)), shape=size)
