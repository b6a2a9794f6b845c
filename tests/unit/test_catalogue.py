"""The catalogue processor on working fakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from models.domain import Item
from models.errors import BrokerUnavailable, IndexUnavailable
from models.ports import FloatArray
from models.space.zero_shot import ZeroShotSpace
from stream.catalogue.processor import CatalogueProcessor, Product, Tally
from stream.contracts.codec import encode_product
from stream.contracts.topics import TopicNames
from stream.kafka.delivery import Record
from testbed.stand_ins import HashEncoder, MemoryIndex

NOW = 1_700_000_000_000
DRESS = Item("d1", "black linen dress", NOW)


@dataclass
class Outbox:
    """A Delivery into a list; ``outage`` > 0 makes that many next calls fail."""

    sent: list[Record] = field(default_factory=list)
    outage: int = 0

    def deliver(self, records: Sequence[Record]) -> None:
        if self.outage > 0:
            self.outage -= 1
            raise BrokerUnavailable("told to be away")
        self.sent += records

    def close(self) -> None:
        pass


@dataclass
class Shop:
    """A processor on fakes, and the topic's next offset."""

    index: MemoryIndex = field(default_factory=MemoryIndex)
    encoder: HashEncoder = field(default_factory=HashEncoder)
    outbox: Outbox = field(default_factory=Outbox)
    heard: list[str] = field(default_factory=list)
    offset: int = 0

    def process(self, *records: Item | str | tuple[bytes | None, bytes | None]) -> Tally:
        """An item, the id of one that is gone, or the bytes of a record."""
        return self.processor().process([self.record(record) for record in records])

    def processor(self) -> CatalogueProcessor:
        return CatalogueProcessor(
            self.index,
            ZeroShotSpace(self.encoder),
            self.outbox,
            TopicNames("shop-"),
            on_indexed=lambda ids, _: self.heard.extend(ids),
            now_ms=lambda: NOW,
        )

    def record(self, record: Item | str | tuple[bytes | None, bytes | None]) -> Product:
        self.offset += 1
        if isinstance(record, Item):
            record = encode_product(record)
        elif isinstance(record, str):
            record = (record.encode(), None)
        return Product(3, self.offset, *record)

    def found(self, text: str) -> list[str]:
        return [hit.item.item_id for hit in self.index.search(self.encoder.encode([text]), 10)[0]]


@pytest.fixture
def shop() -> Shop:
    return Shop()


def test_a_product_is_retrievable_when_its_batch_returns(shop: Shop) -> None:
    assert shop.process(DRESS) == Tally(upserted=1, encoded=1)
    assert shop.found("linen dress") == ["d1"]
    assert shop.heard == ["d1"]


def test_a_tombstone_removes_what_came_before_it(shop: Shop) -> None:
    shop.process(DRESS)
    assert shop.process("d1", "unknown") == Tally(deleted=2)
    assert shop.index.count() == 0


def test_within_a_batch_the_order_of_tombstone_and_product_counts(shop: Shop) -> None:
    assert shop.process(DRESS, "d1") == Tally(deleted=1, stale=1)
    assert shop.index.count() == 0
    shop.process("d1", replace(DRESS, ts=NOW - 9))
    assert shop.index.get(["d1"])["d1"].item.ts == NOW - 9


def test_an_older_ts_never_wins_and_is_not_encoded(shop: Shop) -> None:
    shop.process(DRESS)
    older = replace(DRESS, title="older", ts=NOW - 1)
    assert shop.process(older) == Tally(stale=1)
    assert shop.process(replace(DRESS, title="newer", ts=NOW + 1), older) == Tally(
        upserted=1, stale=1, encoded=1
    )
    assert shop.index.get(["d1"])["d1"].item.title == "newer"


def test_the_same_text_is_encoded_once(shop: Shop) -> None:
    shop.process(DRESS, replace(DRESS, item_id="d2"))
    assert shop.encoder.encoded == 1
    cheaper = replace(DRESS, price=9.5, ts=NOW + 1)
    assert shop.process(cheaper) == Tally(upserted=1)
    assert shop.encoder.encoded == 1
    held = shop.index.get(["d1"])["d1"]
    assert held.item.price == 9.5
    assert held.vector == pytest.approx(HashEncoder().encode([DRESS.title])[0])


def test_a_record_that_comes_again_writes_nothing(shop: Shop) -> None:
    full = replace(DRESS, attributes={"fit": "loose"}, price=3.0, in_stock=False)
    shop.process(full)
    assert shop.process(full) == Tally(unchanged=1)
    assert shop.heard == ["d1"]


def test_a_changed_text_is_encoded_anew(shop: Shop) -> None:
    shop.process(DRESS)
    assert shop.process(replace(DRESS, title="wool coat", ts=NOW + 1)).encoded == 1
    held = shop.index.get(["d1"])["d1"].vector
    assert held is not None
    assert np.allclose(held, HashEncoder().encode(["wool coat"])[0])


def test_an_empty_title_takes_the_other_words_and_no_words_no_vector(shop: Shop) -> None:
    worded = Item("c1", " ", NOW, category="coats", attributes={"fabric": "wool"})
    tally = shop.process(worded, Item("e1", "", NOW))
    assert tally == Tally(upserted=2, encoded=1)
    assert shop.found("wool coats") == ["c1"]
    assert shop.index.get(["e1"])["e1"].vector is None


@pytest.mark.parametrize(
    ("key", "value", "name"),
    [
        (b"d1", b'{"item_id": "d1", "title"', "MalformedMessage"),
        (b"d1", b"[" * 100_000, "MalformedMessage"),
        (b"d1", b'{"item_id": "d1", "ts": 1700000000000}', "InvalidField"),
        (b"d1", b'{"item_id": "d1", "title": "x", "ts": NaN}', "MalformedMessage"),
        (b"d1", b'{"item_id": "d1", "title": 7, "ts": 1700000000000}', "InvalidField"),
        (b"\xff", None, "MalformedMessage"),
        (None, b'{"item_id": "d1", "title": "x", "ts": 1700000000000}', "InvalidField"),
        (b"d1", b'"' + b"x" * 300_000 + b'"', "OversizedMessage"),
    ],
)
def test_a_bad_record_is_a_dead_letter_and_the_rest_goes_on(
    shop: Shop, key: bytes | None, value: bytes | None, name: str
) -> None:
    other = replace(DRESS, item_id="d2")
    tally = shop.process((key, value), other)
    assert (tally.dead, tally.upserted) == (1, 1)
    assert shop.found("linen dress") == ["d2"]
    [letter] = shop.outbox.sent
    assert (letter.topic, letter.key, letter.value) == ("shop-dead-letters", key, value)
    headers = dict(letter.headers)
    assert headers["weft-error"] == name.encode()
    assert headers["weft-topic"] == b"shop-products"
    assert (headers["weft-partition"], headers["weft-offset"]) == (b"3", b"1")


@pytest.mark.parametrize("failing", ["index", "outbox"])
def test_a_batch_tried_again_after_an_outage_loses_nothing(shop: Shop, failing: str) -> None:
    batch = [shop.record(record) for record in (DRESS, (b"k", b"not json"), "d9")]
    getattr(shop, failing).outage = 1
    with pytest.raises((IndexUnavailable, BrokerUnavailable)):
        shop.processor().process(batch)
    shop.processor().process(batch)
    assert shop.found("dress") == ["d1"]
    assert len(shop.outbox.sent) == 1


def test_an_empty_batch_asks_nothing_of_the_encoder(shop: Shop) -> None:
    assert shop.process() == Tally()
    assert shop.encoder.encoded == 0


class ByIdSpace(ZeroShotSpace):
    """A space where an item's vector depends on its id too, as in a trained one."""

    def item_vectors(self, items: Sequence[Item]) -> list[FloatArray | None]:
        return list(self._encoder.encode([f"{item.item_id} {item.text}" for item in items]))


def test_a_held_vector_serves_only_the_same_item_with_the_same_text() -> None:
    shop = Shop()
    space = ByIdSpace(shop.encoder)
    processor = CatalogueProcessor(shop.index, space, shop.outbox, TopicNames(), now_ms=lambda: NOW)
    processor.process([shop.record(DRESS)])
    cheaper, twin = replace(DRESS, price=9.5, ts=NOW + 1), replace(DRESS, item_id="d2", ts=NOW + 1)
    processor.process([shop.record(cheaper), shop.record(twin)])
    held = shop.index.get(["d1", "d2"])
    for item_id in held:
        assert held[item_id].vector == pytest.approx(
            HashEncoder().encode([f"{item_id} {DRESS.title}"])[0]
        )
