"""What answers the shoppers: one space with its index and reranker, and how another takes over."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models.domain import History, Recommendation
from models.ports import Deadline, ItemIndex, Space
from models.recommend.recommender import Recommender


@dataclass(frozen=True, slots=True)
class Serving:
    """A space, the index that holds its vectors, and the recommender over both.

    ``bundle`` is the bundle's id, "" for the zero-shot space; ``weight`` the LLM's in the order.
    """

    bundle: str
    label: str
    path: Path | None
    space: Space
    index: ItemIndex
    recommender: Recommender
    weight: float


class Live:
    """The serving that is live. Another takes its place between two batches, all parts at once."""

    def __init__(self, first: Serving) -> None:
        self.current = first
        self._batch = threading.Lock()

    @property
    def wants_rerank(self) -> bool:
        """Whether a list without the LLM's score is worth another one later."""
        return self.current.recommender.wants_rerank

    def recommend(self, histories: Sequence[History], deadline: Deadline) -> list[Recommendation]:
        """One list a history, all by one serving. Raises ``IndexUnavailable`` (retry)."""
        with self._batch:
            return self.current.recommender.recommend(histories, deadline)

    def switch(self, other: Serving) -> Serving:
        """Waits for the batch under way; returns the former serving, which nobody asks any more."""
        with self._batch:
            before, self.current = self.current, other
        return before
