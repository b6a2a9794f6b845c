"""Vectors of what shoppers type, the recent ones kept: the same words come again and again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from models.ports import FloatArray, TitleEncoder

_KEPT: Final = 4096


class QueryVectors:
    """A bounded least-recently-used memory in front of the encoder. For one thread at a time."""

    def __init__(self, encoder: TitleEncoder, kept: int = _KEPT) -> None:
        self._encoder = encoder
        self._kept = kept
        self._vectors: OrderedDict[str, FloatArray] = OrderedDict()

    def of(self, queries: Sequence[str]) -> dict[str, FloatArray]:
        """The unit vector (d,) of each query; blank ones have none. New ones are one batch."""
        asked = list(dict.fromkeys(query for query in queries if query.strip()))
        new = [query for query in asked if query not in self._vectors]
        encoded = self._encoder.encode(new) if new else ()
        found = dict(zip(new, encoded, strict=True))
        for query in asked:
            if query not in found:
                found[query] = self._vectors.pop(query)
            self._vectors[query] = found[query]  # the newest place
        while len(self._vectors) > self._kept:
            self._vectors.popitem(last=False)
        return found
