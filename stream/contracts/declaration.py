"""What a record of each topic holds: the one declaration of the contracts.

``stream.contracts.codec`` reads and writes bytes by it, ``stream.contracts.schema`` prints it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from stream.contracts.fields import Field, Flag, Listing, Number, Object, Text, Texts, Whole, Wholes
from stream.contracts.topics import (
    CLICKS,
    DEAD_LETTERS,
    ERASURES,
    PRODUCTS,
    PURCHASES,
    RECOMMENDATIONS,
    SEARCHES,
)

EARLIEST: Final = 946_684_800_000  # 2000-01-01 in epoch ms

ID: Final = Text(256, low=1)
_LINE = Text(1024)
_TS = Field("ts", Whole(EARLIEST), "when it happened, epoch milliseconds", required=True)
_USER = Field("user_id", ID, "the shopper, and the record's key", required=True)
_ITEM = Field("item_id", ID, "the product", required=True)
_EVENT_ID = Field("event_id", ID, "one id an event; a repeated one is ignored")
_SESSION = Field("session_id", ID, "the visit that it belongs to")
_LED_HERE = Field("query", _LINE, "the search that led here")
_CLICK = (_USER, _ITEM, _TS, _EVENT_ID, _LED_HERE, _SESSION)
_PURCHASE = (
    *_CLICK,
    Field("quantity", Whole(1), "how many"),
    Field("price", Number(0), "of one, in the shop's currency"),
)
_WORDS = Field("query", Text(1024, low=1), "the words", required=True)
_SEARCH = (_USER, _WORDS, _TS, _EVENT_ID, _SESSION)
_ERASURE = (_USER, _TS)

PRODUCT: Final = (
    Field("item_id", ID, "the product, and the record's key", required=True),
    Field("title", Text(2048), "what the shop calls it; may be empty", required=True),
    Field("ts", Whole(EARLIEST), "when this was true; the newest wins", required=True),
    Field("category", _LINE, "e.g. Ladieswear > Dresses"),
    Field("brand", _LINE, "who makes it"),
    Field("colour", _LINE, "the colour's name"),
    Field("description", Text(65_536), "a longer text"),
    Field("price", Number(0), "in the currency"),
    Field("currency", Text(16), "ISO 4217, e.g. EUR"),
    Field("image_url", Text(4096), "a picture"),
    Field("url", Text(4096), "the product's page"),
    Field("in_stock", Flag(), "may it be recommended; true when absent"),
    Field("attributes", Texts(1024, count=100), "anything else, by name"),
)

_ENTRY = Object(
    (
        Field("item_id", ID, "the product", required=True),
        Field("score", Number(), "higher is better; comparable within a list", required=True),
        Field("reason", Text(4096), "a sentence to show to the shopper", required=True),
        Field("source", _LINE, "which retriever found it", required=True),
    )
)
_AS_OF = Object(
    (
        Field("partition", Whole(0), "of the shopper topics", required=True),
        Field("offsets", Wholes(), "by topic, the last one that this list knows", required=True),
        Field("ts", Whole(EARLIEST), "the newest event's ts", required=True),
    )
)
_LIST = (
    _USER,
    Field("items", Listing(_ENTRY, count=1000), "best first", required=True),
    Field("reranked", Flag(), "did the LLM's score take part in the order", required=True),
    Field("model", _LINE, "what made the list", required=True),
    Field("trigger", _LINE, "the kind of event that it answers", required=True),
    Field("as_of", _AS_OF, "which events it was computed from", required=True),
    Field("ts", Whole(EARLIEST), "when it was computed, epoch milliseconds", required=True),
)


_HEADERS = (
    Field("weft-topic", _LINE, "where the record lay", required=True),
    Field("weft-partition", _LINE, "its partition, in digits", required=True),
    Field("weft-offset", _LINE, "its offset, in digits", required=True),
    Field("weft-error", _LINE, "the error's name, e.g. InvalidField", required=True),
    Field("weft-words", _LINE, "what was wrong with it", required=True),
    Field("weft-attempts", _LINE, "how often it was tried, in digits; 1 when absent"),
)


@dataclass(frozen=True, slots=True)
class Contract:
    """One topic. A dead letter's value is any bytes, so it has ``headers`` and no ``value``."""

    topic: str
    words: str
    key: str
    value: Object | None
    tombstone: str | None = None  # what a null value means; None: it is a dead letter
    headers: Object | None = None


_ALL = (
    Contract(
        PRODUCTS,
        "A product of the catalogue as it is now.",
        key="item_id",
        value=Object(PRODUCT),
        tombstone="the product is gone",
    ),
    Contract(CLICKS, "A shopper looked at a product.", key="user_id", value=Object(_CLICK)),
    Contract(PURCHASES, "A shopper bought a product.", key="user_id", value=Object(_PURCHASE)),
    Contract(SEARCHES, "A shopper searched for words.", key="user_id", value=Object(_SEARCH)),
    Contract(ERASURES, "Forget this shopper, up to ts.", key="user_id", value=Object(_ERASURE)),
    Contract(
        RECOMMENDATIONS,
        "What to show a shopper: the newest record of a key.",
        key="user_id",
        value=Object(_LIST),
        tombstone="the shopper was forgotten: show nothing",
    ),
    Contract(
        DEAD_LETTERS,
        "A record that could not be used, byte for byte; its headers say why.",
        key="the source's key",
        value=None,
        headers=Object(_HEADERS),
    ),
)
CONTRACTS: Final[Mapping[str, Contract]] = {contract.topic: contract for contract in _ALL}
