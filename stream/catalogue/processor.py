"""The catalogue processor: records of ``products`` into the item index, retrievable at once.

    products -> decoded -> vector made, only if the text changed -> index upsert
                     └──> dead-letters

A batch may come again, whole or in part, after any failure: the newest ``ts`` wins, a text that
the index holds is not encoded again, and an item that it holds as it is is not written again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from models.domain import Item
from models.errors import BadMessage
from models.ports import FloatArray, ItemIndex, Space, Stored
from stream.contracts.codec import Tombstone, decode_product
from stream.contracts.topics import PRODUCTS, TopicNames
from stream.dead_letters.make import Refusals
from stream.kafka.delivery import Delivery, Record

_log = logging.getLogger("weft.catalogue")

#: Hears which items became retrievable, and in how many seconds from being read.
OnIndexed = Callable[[Sequence[str], float], None]


@dataclass(frozen=True, slots=True)
class Product:
    """One record of ``products`` as it came; ``value`` None is a tombstone."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    attempts: int = 0  # how often it was tried before, if replay sent it


@dataclass(slots=True)
class Tally:
    """How many records ended how; each is in one of the first five."""

    upserted: int = 0
    unchanged: int = 0
    stale: int = 0
    deleted: int = 0
    dead: int = 0
    #: Texts that went to the encoder; its cache may know some of them.
    encoded: int = 0

    @property
    def records(self) -> int:
        """Records that are dealt with."""
        return self.upserted + self.unchanged + self.stale + self.deleted + self.dead

    def add(self, other: Tally) -> None:
        """Adds another batch's."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class CatalogueProcessor:
    """Brings an index up to date. ``now_ms`` is the clock that ``ts`` is checked against."""

    def __init__(
        self,
        index: ItemIndex,
        space: Space,
        delivery: Delivery,
        names: TopicNames,
        *,
        on_indexed: OnIndexed | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._index = index
        self._space = space
        self._delivery = delivery
        self._refusals = Refusals(names, _log)
        self._on_indexed = on_indexed
        self._now_ms = now_ms

    def process(self, products: Sequence[Product]) -> Tally:
        """Returns when all of it is in the index, and its bad ones are in dead-letters.

        Records of one key are in the topic's order. Raises ``IndexUnavailable`` and
        ``BrokerUnavailable``: call again with the same records. Raises ``Fatal``.
        """
        start = time.monotonic()
        tally = Tally()
        items, gone, dead = self._sorted(products, tally)
        if gone:
            self._index.delete(gone)
        written = self._write(items, tally)
        if dead:
            self._delivery.deliver(dead)
            self._refusals.delivered(dead)
        if written and self._on_indexed is not None:
            self._on_indexed(written, time.monotonic() - start)
        return tally

    def tell(self) -> None:
        """Says in the log what is due: a storm of dead letters that has ended."""
        self._refusals.tell_if_due()

    def _sorted(
        self, products: Sequence[Product], tally: Tally
    ) -> tuple[list[Item], list[str], list[Record]]:
        """The versions to write, the ids to delete first, and the dead letters."""
        versions: dict[str, Item] = {}
        gone: dict[str, None] = {}
        dead: list[Record] = []
        now_ms = self._now_ms()
        for product in products:
            try:
                decoded = decode_product(product.key, product.value, now_ms)
            except BadMessage as error:
                place = product.partition, product.offset
                letter = self._refusals.letter(
                    PRODUCTS, place, product.key, product.value, error, product.attempts
                )
                dead.append(letter)
                tally.dead += 1
                continue
            if isinstance(decoded, Tombstone):
                gone[decoded.item_id] = None
                tally.deleted += 1
                if versions.pop(decoded.item_id, None):
                    tally.stale += 1
            elif (other := versions.get(decoded.item_id)) and other.ts > decoded.ts:
                tally.stale += 1
            else:
                tally.stale += other is not None
                versions[decoded.item_id] = decoded
        return list(versions.values()), list(gone), dead

    def _write(self, items: Sequence[Item], tally: Tally) -> list[str]:
        """Upserts what is new, and returns its ids."""
        held = self._index.get([item.item_id for item in items])
        changed: list[Item] = []
        for item in items:
            stored = held.get(item.item_id)
            if stored and stored.item == item:
                tally.unchanged += 1
            elif stored and stored.item.ts > item.ts:
                tally.stale += 1
            else:
                changed.append(item)
        if not changed:
            return []
        vectors = self._vectors(changed, held, tally)
        self._index.upsert(changed, vectors)
        tally.upserted += len(changed)
        return [item.item_id for item in changed]

    def _vectors(
        self, items: Sequence[Item], held: dict[str, Stored], tally: Tally
    ) -> list[FloatArray | None]:
        """Each item's vector: the held one where the same item has the same text."""
        known: dict[str, FloatArray] = {}
        for item in items:
            stored = held.get(item.item_id)
            if stored and stored.vector is not None and stored.item.text == item.text:
                known[item.item_id] = stored.vector
        new = [item for item in items if item.item_id not in known]
        found = dict(zip((i.item_id for i in new), self._space.item_vectors(new), strict=True))
        tally.encoded += len({item.text for item in new if item.text})
        return [known.get(item.item_id, found.get(item.item_id)) for item in items]
