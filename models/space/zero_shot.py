"""The space of a shop's first minute: title vectors as they come from the encoder, nothing trained.

An item is its title's vector, a shopper the recency-weighted mean of ``models.space.recency``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from models.domain import History, Item
from models.ports import FloatArray, TitleEncoder
from models.space.query_vectors import QueryVectors
from models.space.recency import query_vector


class ZeroShotSpace:
    """Space of the title encoder. ``query_vectors`` is for one thread at a time."""

    def __init__(self, encoder: TitleEncoder) -> None:
        self.name = encoder.name
        self.dim = encoder.dim
        self.label = f"{encoder.name}/recency-mean"
        self._encoder = encoder
        self._queries = QueryVectors(encoder)

    def item_vectors(self, items: Sequence[Item]) -> list[FloatArray | None]:
        """The unit vector (d,) of each item's text, None without one. Equal texts cost one."""
        texts = list(dict.fromkeys(item.text for item in items if item.text))
        known = dict(zip(texts, self._encoder.encode(texts), strict=True)) if texts else {}
        return [known.get(item.text) for item in items]

    def query_vectors(self, queries: Sequence[str]) -> dict[str, FloatArray]:
        """The unit vector (d,) of each query; blank ones have none."""
        return self._queries.of(queries)

    def shopper_vectors(
        self,
        histories: Sequence[History],
        items: Mapping[str, FloatArray],
        queries: Mapping[str, FloatArray],
    ) -> list[FloatArray | None]:
        """What to search for (d,), None where nothing is known of the history."""
        return [query_vector(history.steps, items, queries) for history in histories]
