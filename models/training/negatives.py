"""The softmax that the reader is trained by: the next item against others, at one temperature.

Against all items where they are few. Otherwise against a step's own: the targets of the batch,
items drawn evenly, and hard ones, which the retriever ranks high at that very place. An item that
is a target is there as often as it is popular, so its logit is lessened by the log of its chance
to be there (Yi et al. 2019, doi 10.1145/3298689.3346996), where that is asked for; a hard one is
there on purpose, with certainty, and keeps its logit.

With an offset the logits are of the *fused* score, the retriever's cosine beside the reader's, so
that the reader learns what the retriever does not know (as in boosting). The retriever has seen
the training targets itself: its vectors should come from one that has not, or was made with its
dropout on, else the reader learns to trust it more than serving can.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

Places = NDArray[np.int64]

#: Of events (k,), by their places in the log: the retriever's vectors (k, d) after each.
Retriever = Callable[[Places], Tensor]
#: Of events (k,): the rows (k, c) of items that the retriever ranks highest after each.
Hard = Callable[[Places], Tensor]


@dataclass(frozen=True, slots=True)
class Contrast:
    """``negatives`` drawn a step (all items where there are no more), ``correction`` 0 to 1.

    ``offset``: the reader's weight w in (1 - w) cos_retriever + w cos_reader; 0: it stands alone.
    """

    negatives: int
    correction: float
    offset: float


class Loss:
    """Cross-entropy of the items that came next."""

    def __init__(
        self,
        table: Tensor,
        items: int,
        counts: NDArray[np.int64],
        how: Contrast,
        hard: Hard | None = None,
        retriever: Retriever | None = None,
    ) -> None:
        """``table`` (1 + n + q, d) unit rows; ``counts`` (n + 1,): how often each is a target."""
        self.table, self.items, self.how = table, items, how
        self.hard, self.retriever = hard, retriever
        self.chances = torch.from_numpy(counts / max(int(counts.sum()), 1)).float()
        self.known = (table[: items + 1] != 0).any(dim=1).cpu()
        self.known[0] = False

    def __call__(self, vectors: Tensor, scale: Tensor, targets: Tensor, events: Places) -> Tensor:
        """The mean over m ends: ``vectors`` (m, d) of the reader, ``scale`` 1 / temperature."""
        hard = self._hard(events)
        candidates = self._candidates(targets, hard)
        others = self.table[candidates.to(self.table.device)]
        cosines = vectors @ others.T
        if self.how.offset and self.retriever is not None:
            before = self.retriever(events).to(vectors) @ others.T
            cosines = (1 - self.how.offset) * before + self.how.offset * cosines
        logits = cosines * scale
        if self.how.correction and self.how.negatives < self.items:
            logits = logits - self._log_chances(candidates, len(targets), hard).to(logits)
        place = torch.searchsorted(candidates, targets).to(vectors.device)
        return F.cross_entropy(logits, place)

    def _hard(self, events: Places) -> Tensor:
        """Sorted rows; none where all items take part anyway."""
        if self.hard is None or self.how.negatives >= self.items:
            return torch.zeros(0, dtype=torch.long)
        found: Tensor = torch.unique(self.hard(events).cpu())
        return found

    def _candidates(self, targets: Tensor, hard: Tensor) -> Tensor:
        """Sorted rows (c,)."""
        if self.how.negatives >= self.items:
            return self.known.nonzero()[:, 0]
        drawn = torch.randint(1, self.items + 1, (self.how.negatives,))
        found: Tensor = torch.unique(torch.cat([targets, drawn, hard]))
        return found[self.known[found]]

    def _log_chances(self, candidates: Tensor, targets: int, hard: Tensor) -> Tensor:
        """Log of each candidate's chance (c,) to be among this step's, times ``correction``."""
        missed = (1 - 1 / self.items) ** self.how.negatives
        absent = torch.pow(1 - self.chances[candidates], targets) * missed
        certain = torch.isin(candidates, hard)
        return torch.where(certain, 0.0, torch.log1p(-absent)) * self.how.correction


def mined(table: Tensor, items: int, retriever: Retriever, count: int) -> Hard:
    """The ``count`` first of the retriever's own ranking of all items."""

    def hard(events: Places) -> Tensor:
        scores = retriever(events).to(table) @ table[: items + 1].T
        scores[:, 0] = -math.inf
        return scores.topk(min(count, items), dim=1).indices

    return hard
