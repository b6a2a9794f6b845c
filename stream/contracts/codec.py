"""Bytes to events and back, as ``stream.contracts.declaration`` declares the topics.

What the declared fields alone cannot say:

- a key is the UTF-8 of the id in the value; a record without a key is a dead letter, because it
  lies in a partition by chance;
- ``ts`` is at most one day ahead of the reader's clock;
- a value is at most 256 KiB, one JSON object, nested at most 1,024 deep (orjson's bound);
- of a name that an object holds twice, the last counts; unknown fields are ignored;
- a null value removes a product or a list, and is a dead letter on the shopper topics: a shopper
  is forgotten by a record on ``erasures``.

Everything wrong with a message is a ``BadMessage``; nothing else is raised for any bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import orjson

from models.domain import Item, Kind, Recommendation, RecommendedItem
from models.errors import BadMessage, InvalidField, MalformedMessage, OversizedMessage
from stream.contracts.declaration import CONTRACTS, ID, PRODUCT, Contract
from stream.contracts.fields import Json
from stream.contracts.topics import PRODUCTS, RECOMMENDATIONS, TOPICS, topic_of

MAX_BYTES: Final = 256 * 1024
#: The header that counts how often a record was tried and became a dead letter.
ATTEMPTS: Final = "weft-attempts"
_DAY_MS: Final = int(timedelta(days=1).total_seconds() * 1000)


@dataclass(frozen=True, slots=True)
class ShopperEvent:
    """One record of a shopper topic; ``kind`` is None for an erasure.

    ``item_id`` or ``query``: see ``Kind.of_item``.
    """

    kind: Kind | None
    user_id: str
    ts: int
    item_id: str | None = None
    query: str | None = None
    event_id: str | None = None
    session_id: str | None = None


@dataclass(frozen=True, slots=True)
class Tombstone:
    """The product is gone."""

    item_id: str


@dataclass(frozen=True, slots=True)
class AsOf:
    """Which events a list knows: per source topic the last offset of ``partition``."""

    partition: int
    offsets: Mapping[str, int]
    ts: int


@dataclass(frozen=True, slots=True)
class PublishedList:
    """A record of the recommendations topic."""

    user_id: str
    recommendation: Recommendation
    trigger: str
    as_of: AsOf
    ts: int


def decode_product(key: bytes | None, value: bytes | None, now_ms: int) -> Item | Tombstone:
    """A record of ``products``; ``now_ms`` is the reader's clock. Raises ``BadMessage``."""
    if value is None:
        return Tombstone(ID(_key_text(key, PRODUCTS), "the key"))
    fields = _decode(CONTRACTS[PRODUCTS], key, value)
    _not_ahead(fields["ts"], now_ms)
    return Item(**fields)


def decode_shopper(topic: str, key: bytes | None, value: bytes | None, now_ms: int) -> ShopperEvent:
    """A record of the shopper topic ``topic`` (its plain name). Raises ``BadMessage``."""
    if value is None:
        raise InvalidField(f"a null value means nothing on {topic}; to forget, use erasures")
    fields = _decode(CONTRACTS[topic], key, value)
    ts = fields["ts"]
    _not_ahead(ts, now_ms)
    get = fields.get
    return ShopperEvent(
        TOPICS[topic].kind,
        fields["user_id"],
        ts,
        get("item_id"),
        get("query"),
        get("event_id"),
        get("session_id"),
    )


def decode_recommendation(key: bytes | None, value: bytes | None) -> PublishedList | None:
    """A record of ``recommendations``; None: show this shopper nothing. Raises ``BadMessage``."""
    if value is None:
        return None
    fields = _decode(CONTRACTS[RECOMMENDATIONS], key, value)
    items = tuple(RecommendedItem(**entry) for entry in fields["items"])
    return PublishedList(
        fields["user_id"],
        Recommendation(items, fields["reranked"], fields["model"]),
        fields["trigger"],
        AsOf(**fields["as_of"]),
        fields["ts"],
    )


def encode_recommendation(
    recommendation: Recommendation, *, user_id: str, trigger: str, as_of: AsOf, ts: int
) -> bytes:
    """The value of a record of ``recommendations``; scores may be NumPy's.

    Raises ``ValueError`` for a score that is not finite: JSON would say null, readers would stop.
    """
    if not all(math.isfinite(item.score) for item in recommendation.items):
        raise ValueError("a score is not finite: no reader could use this list")
    value = {
        "user_id": user_id,
        "items": [
            {
                "item_id": item.item_id,
                "score": float(item.score),
                "reason": item.reason,
                "source": item.source,
            }
            for item in recommendation.items
        ],
        "reranked": recommendation.reranked,
        "model": recommendation.model,
        "trigger": trigger,
        "as_of": {"partition": as_of.partition, "offsets": dict(as_of.offsets), "ts": as_of.ts},
        "ts": ts,
    }
    return orjson.dumps(value)


def encode_row(topic: str, row: Mapping[str, Any], now_ms: int) -> tuple[Json, bytes, bytes]:
    """(fields, key, value) of a row of a file: what is declared, checked. Raises ``BadMessage``."""
    contract = CONTRACTS[topic]
    assert contract.value is not None, "dead-letters are not written from rows"
    try:
        fields = contract.value(row)
        value = orjson.dumps(fields)
        key = str(fields[contract.key]).encode()
    except (UnicodeEncodeError, orjson.JSONEncodeError):  # half a surrogate pair
        raise MalformedMessage("it holds characters that are no text") from None
    _not_ahead(fields["ts"], now_ms)
    _not_oversized(value)
    return fields, key, value


def encode_product(item: Item) -> tuple[bytes, bytes]:
    """(key, value) of a record of ``products``."""
    fields = {field.name: getattr(item, field.name) for field in PRODUCT}
    fields["attributes"] = dict(item.attributes) or None
    return item.item_id.encode(), _dumps(fields)


def encode_event(event: ShopperEvent) -> tuple[str, bytes, bytes]:
    """(topic, key, value) of a shopper's event."""
    names = ("user_id", "item_id", "query", "ts", "event_id", "session_id")
    fields = {name: getattr(event, name) for name in names}
    return topic_of(event.kind), event.user_id.encode(), _dumps(fields)


def dead_letter_headers(
    topic: str, partition: int, offset: int, error: BadMessage, before: int = 0
) -> list[tuple[str, bytes]]:
    """The headers of a record of ``dead-letters``; key and value are the source's bytes.

    ``before``: how often it was tried before this time (``attempts_in`` the source's headers).
    """
    words = str(error).encode(errors="replace")[:1024]
    return [  # named as stream.contracts.declaration's headers
        ("weft-topic", topic.encode()),
        ("weft-partition", str(partition).encode()),
        ("weft-offset", str(offset).encode()),
        ("weft-error", type(error).__name__.encode()),
        ("weft-words", words),
        (ATTEMPTS, str(before + 1).encode()),
    ]


def attempts_in(headers: Iterable[tuple[str, bytes | None]] | None) -> int:
    """How often a record with these headers was tried before: 0 unless replay sent it.

    Anybody may write headers: what is no plain number of a few digits counts as none.
    """
    for name, value in headers or ():
        if name == ATTEMPTS and value and value.isdigit() and len(value) <= 4:
            return int(value)
    return 0


def _dumps(fields: Mapping[str, Any]) -> bytes:
    return orjson.dumps({name: value for name, value in fields.items() if value is not None})


def _decode(contract: Contract, key: bytes | None, value: bytes) -> Json:
    """The value's declared fields, all checked; the key is the id in them."""
    _not_oversized(value)
    try:
        row = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise MalformedMessage(f"the value is not JSON: {error}") from None
    if type(row) is not dict:
        raise MalformedMessage("the value is not a JSON object")
    assert contract.value is not None, "dead-letters have no contract of their own"
    fields = contract.value(row)
    if key != fields[contract.key].encode():
        _key_text(key, contract.topic)
        raise InvalidField(f"the key is not the {contract.key} in the value")
    return fields


def _key_text(key: bytes | None, topic: str) -> str:
    if key is None:
        raise InvalidField(f"the record has no key: {topic} are keyed by {CONTRACTS[topic].key}")
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise MalformedMessage("the key is not UTF-8") from None


def _not_oversized(value: bytes) -> None:
    if len(value) > MAX_BYTES:
        raise OversizedMessage(f"{len(value)} bytes are over the limit of {MAX_BYTES}: send less")


def _not_ahead(ts: int, now_ms: int) -> None:
    if ts > now_ms + _DAY_MS:
        raise InvalidField(
            "ts is over one day ahead of this machine's clock: is it epoch milliseconds, and is "
            "the clock right?"
        )
