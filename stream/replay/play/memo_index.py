"""The embedded index of a replay, which remembers what it has read.

A replay asks for the same shelf again and again, and no one else writes to it: most of what a
list costs beside the search itself is to read items back, and to make them of their payloads.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final
from uuid import UUID

from models.domain import Item
from models.ports import FloatArray, Hit, Stored
from stream.index.edge import EdgeAdapter, EdgeIndex
from stream.index.points import point_id

#: Items that are remembered, some 3 KB each; past it all are forgotten and read anew.
MOST: Final = 50_000


class RememberingIndex(EdgeIndex):
    """An ``EdgeIndex`` for one thread at a time."""

    def __init__(self, folder: Path, encoder: str, dim: int) -> None:
        super().__init__(folder, encoder, dim)
        self._kept: dict[str, Stored] = {}
        self._items: dict[int, Item] = {}  # by point

    def upsert(self, items: Sequence[Item], vectors: Sequence[FloatArray | None]) -> None:
        """See ``EdgeIndex``."""
        super().upsert(items, vectors)
        self._forget([item.item_id for item in items])

    def delete(self, item_ids: Sequence[str]) -> None:
        """See ``EdgeIndex``."""
        super().delete(item_ids)
        self._forget(item_ids)

    def get(self, item_ids: Sequence[str]) -> dict[str, Stored]:
        """See ``EdgeIndex``."""
        if len(self._kept) > MOST:
            self._kept.clear()
        if new := [item_id for item_id in item_ids if item_id not in self._kept]:
            self._kept |= super().get(new)
        return {item_id: self._kept[item_id] for item_id in item_ids if item_id in self._kept}

    def search(self, vectors: FloatArray, limit: int) -> list[list[Hit]]:
        """See ``EdgeIndex``."""
        answers = [
            [(_number(point.id), point.score) for point in answer]
            for answer in self._points(vectors, limit, payload=False)
        ]
        if len(self._items) > MOST:
            self._items.clear()
        new = {number for answer in answers for number, _ in answer if number not in self._items}
        if new:
            names = self._names([str(UUID(int=number)) for number in sorted(new)])
            stored = self.get(list(names.values()))
            self._items |= {_number(UUID(p)): stored[name].item for p, name in names.items()}
        return [[Hit(self._items[number], score) for number, score in each] for each in answers]

    def _forget(self, item_ids: Sequence[str]) -> None:
        for item_id in item_ids:
            self._kept.pop(item_id, None)
            self._items.pop(_number(UUID(point_id(item_id))), None)


REMEMBERING: Final = EdgeAdapter(RememberingIndex)


def _number(point: int | UUID | str) -> int:
    """Of a point's id: quicker to look up than the id, and than its words."""
    assert isinstance(point, UUID), "ours all are"
    return point.int
