"""An item as a Qdrant point: its id, its payload, and which of several versions to write.

Both adapters of the item index use this, so that their points are alike.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from models.domain import Item
from models.ports import FloatArray, Stored

#: The one named vector; a point without it is kept but never found by a search.
VECTOR: Final = "title"
#: 1 when in stock, else 0. Not a boolean: Edge 0.9 takes ``MatchValue(True)`` for the integer 1.
STOCK: Final = "stock"
#: The payload's field that orders the versions of an item, and the shelf by age (epoch ms).
TS: Final = "ts"

_NAMESPACE: Final = uuid.UUID("7d3a9f0e-5c1b-5e2f-9a66-0b6c1c0f3e57")
_OPTIONAL: Final = (
    "category",
    "brand",
    "colour",
    "description",
    "price",
    "currency",
    "image_url",
    "url",
)

Version = tuple[Item, FloatArray | None]


@dataclass(frozen=True, slots=True)
class Position:
    """How far an index has followed the products topic.

    ``source`` names the log (cluster and topic); ``offsets`` is the next offset by partition.
    """

    source: str
    offsets: Mapping[int, int]


def point_id(item_id: str) -> str:
    """UUIDv5 of the item id: Qdrant takes UUIDs and integers only."""
    return str(uuid.uuid5(_NAMESPACE, item_id))


def to_payload(item: Item) -> dict[str, Any]:
    """Every field of the item that says something."""
    payload: dict[str, Any] = {
        "item_id": item.item_id,
        "title": item.title,
        TS: item.ts,
        STOCK: int(item.in_stock),
    }
    for name in _OPTIONAL:
        if (value := getattr(item, name)) is not None:
            payload[name] = value
    if item.attributes:
        payload["attributes"] = dict(item.attributes)
    return payload


def from_payload(payload: Mapping[str, Any]) -> Item:
    """The reverse of ``to_payload``."""
    price = payload.get("price")
    return Item(
        item_id=payload["item_id"],
        title=payload["title"],
        ts=int(payload[TS]),
        category=payload.get("category"),
        brand=payload.get("brand"),
        colour=payload.get("colour"),
        description=payload.get("description"),
        price=None if price is None else float(price),
        currency=payload.get("currency"),
        image_url=payload.get("image_url"),
        url=payload.get("url"),
        in_stock=bool(payload[STOCK]),
        attributes=payload.get("attributes") or {},
    )


def newest_versions(
    items: Sequence[Item], vectors: Sequence[FloatArray | None], held: Mapping[str, int]
) -> list[Version]:
    """One version an item: the greatest ``ts``, of equal ones the last, none older than held.

    ``held`` is the ``ts`` by item id of what the index has.
    """
    chosen: dict[str, Version] = {}
    for item, vector in zip(items, vectors, strict=True):
        other = chosen.get(item.item_id)
        if item.ts >= (other[0].ts if other else held.get(item.item_id, item.ts)):
            chosen[item.item_id] = (item, vector)
    return list(chosen.values())


def check_dimension(vectors: Iterable[FloatArray | None], dim: int) -> None:
    """Raises ``ValueError`` when a vector is not (dim,): a caller's mistake, not a message's."""
    for vector in vectors:
        if vector is not None and vector.shape != (dim,):
            raise ValueError(f"a vector of shape {vector.shape} in an index of ({dim},)")


def stored_of(records: Iterable[Any]) -> dict[str, Stored]:
    """Points as Qdrant gives them, the embedded engine's or a server's, by item id."""
    found: dict[str, Stored] = {}
    for record in records:
        item = from_payload(record.payload or {})
        vector = (record.vector or {}).get(VECTOR)
        kept = None if vector is None else np.array(vector, dtype=np.float32)
        found[item.item_id] = Stored(item, kept)
    return found
