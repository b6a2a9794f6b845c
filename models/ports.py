"""What the models need of the outside and of each other: small ports, in the domain's own types.

Each has one contract suite under tests/contract that every adapter passes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.domain import History, Item, Step

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on an injected clock (seconds), so that the models own no clock."""

    clock: Callable[[], float]
    at: float

    @classmethod
    def after(cls, seconds: float, clock: Callable[[], float]) -> Deadline:
        """The deadline ``seconds`` from now."""
        return cls(clock, clock() + seconds)

    def remaining(self) -> float:
        """Seconds left; negative when past."""
        return self.at - self.clock()


@dataclass(frozen=True, slots=True)
class Stored:
    """An item as the index holds it; ``vector`` is its unit vector (d,), None without a text."""

    item: Item
    vector: FloatArray | None


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer of a search: cosine in [-1, 1]."""

    item: Item
    score: float


class ItemIndex(Protocol):
    """Holds the items. Every method returns only when its effect is visible to the next call.

    Raises ``IndexUnavailable`` (retry) or ``IndexFull``, ``IndexIncompatible`` (stop).
    """

    def upsert(self, items: Sequence[Item], vectors: Sequence[FloatArray | None]) -> None:
        """Writes items; an item's older ``ts`` never replaces a newer one (equal ones do)."""

    def delete(self, item_ids: Sequence[str]) -> None:
        """Removes items; ids that are not there are no error."""

    def get(self, item_ids: Sequence[str]) -> dict[str, Stored]:
        """The items that are there, by id."""

    def search(self, vectors: FloatArray, limit: int) -> list[list[Hit]]:
        """For each row of ``vectors`` (q, d) the ``limit`` nearest items in stock, best first."""

    def newest(self, limit: int) -> list[Item]:
        """The items in stock of the greatest ``ts``, newest first."""

    def count(self) -> int:
        """How many items are held, with and without a vector."""

    def close(self) -> None:
        """Flushes and releases; the index can be opened again."""


class TitleEncoder(Protocol):
    """Texts to unit vectors. ``name`` identifies the space: vectors of two names never mix."""

    @property
    def name(self) -> str:
        """Model, number type and back end's effect on the vectors, e.g. ``minilm-l6-v2-int8``."""

    @property
    def dim(self) -> int:
        """d, the length of a vector."""

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Unit rows (len(texts), d), in the order of ``texts``."""


class Space(Protocol):
    """Where items and shoppers are vectors; what the index holds and is searched with.

    Items may be asked for on another thread than queries and shoppers.
    """

    @property
    def name(self) -> str:
        """Identifies the index's content: vectors of two names never mix."""

    @property
    def dim(self) -> int:
        """d, the length of a vector."""

    @property
    def label(self) -> str:
        """What a list's ``model`` says of the retriever, e.g. ``…/recency-mean``."""

    def item_vectors(self, items: Sequence[Item]) -> list[FloatArray | None]:
        """Unit vectors (d,), None for an item that nothing is known of.

        An item's vector depends on its id and its text alone.
        """

    def query_vectors(self, queries: Sequence[str]) -> dict[str, FloatArray]:
        """The unit vector (d,) of each query; blank ones have none."""

    def shopper_vectors(
        self,
        histories: Sequence[History],
        items: Mapping[str, FloatArray],
        queries: Mapping[str, FloatArray],
    ) -> list[FloatArray | None]:
        """For each history the unit vector (d,) to search for, None where nothing is known.

        ``items`` has item vectors (d,) by id, as the index holds them, ``queries`` by the text.
        """


@dataclass(frozen=True, slots=True)
class Read:
    """One step of a history as a reranker reads it: the item is None for a search."""

    step: Step
    item: Item | None


@dataclass(frozen=True, slots=True)
class RerankRequest:
    """One shopper: the history, oldest first, and the candidates in the retriever's order."""

    history: tuple[Read, ...]
    candidates: tuple[Item, ...]


class Reranker(Protocol):
    """Scores candidates. A score means something within its own request only.

    Scores are on a cosine's scale, for they are blended with the retriever's as they are: what a
    log p counts on it, models/rerank/fusion.py says. Each candidate is scored as if it were alone:
    none can influence another.
    """

    @property
    def name(self) -> str:
        """What a list's ``model`` says, e.g. ``smollm2-135m-instruct/likelihood``."""

    def score(
        self, requests: Sequence[RerankRequest], deadline: Deadline
    ) -> list[FloatArray | None]:
        """For each request its candidates' scores (c,), or None where the time did not suffice.

        Requests are served in their order, so that the first are the last to go without.
        Raises ``RerankerFailed`` (degrade).
        """
