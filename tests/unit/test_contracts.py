from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pytest

from models.domain import Item, Kind, Recommendation, RecommendedItem
from models.errors import InvalidField, MalformedMessage, OversizedMessage
from stream.contracts.codec import (
    AsOf,
    ShopperEvent,
    Tombstone,
    attempts_in,
    dead_letter_headers,
    decode_product,
    decode_recommendation,
    decode_shopper,
    encode_event,
    encode_product,
    encode_recommendation,
    encode_row,
)
from stream.contracts.topics import SHOPPER_TOPICS

NOW = 1_700_000_000_000
DAY = 86_400_000

PRODUCT = {"item_id": "i1", "title": "Linen midi dress", "ts": NOW}
CLICK = {"user_id": "u1", "item_id": "i1", "ts": NOW}


def product(**changes: Any) -> Item | Tombstone:
    row = PRODUCT | changes
    return decode_product(str(row["item_id"]).encode(), orjson.dumps(row), NOW)


def click(**changes: Any) -> ShopperEvent:
    return decode_shopper("clicks", b"u1", orjson.dumps(CLICK | changes), NOW)


def shopper_bytes(value: bytes) -> ShopperEvent:
    return decode_shopper("clicks", b"u1", value, NOW)


def product_bytes(value: bytes) -> Item | Tombstone:
    return decode_product(b"i1", value, NOW)


DECODERS: list[Callable[[bytes], object]] = [shopper_bytes, product_bytes]


def test_a_product_keeps_every_declared_field() -> None:
    fields: dict[str, Any] = {
        "category": "Ladieswear > Dresses",
        "brand": "Weft",
        "colour": "sage",
        "description": "airy",
        "price": 39.5,
        "currency": "EUR",
        "image_url": "https://shop.example/i1.jpg",
        "url": "https://shop.example/i1",
        "in_stock": False,
        "attributes": {"size": "M"},
    }
    assert product(**fields) == Item("i1", "Linen midi dress", NOW, **fields)


def test_unknown_fields_are_ignored_and_null_is_as_absent() -> None:
    assert product(first_seen_ts=1, nested={"a": [1]}, brand=None, in_stock=None) == product()


def test_a_shops_numbers_and_flags_in_attributes_become_text() -> None:
    got = product(attributes={"size": 38, "heel": 4.5, "vegan": True, "fit": None})
    assert isinstance(got, Item)
    assert got.attributes == {"size": "38", "heel": "4.5", "vegan": "true"}


def test_a_null_product_is_a_tombstone_of_its_key() -> None:
    assert decode_product("blåbær".encode(), None, NOW) == Tombstone("blåbær")


def test_an_empty_title_is_allowed_a_missing_one_is_not() -> None:
    assert isinstance(product(title=""), Item)
    with pytest.raises(InvalidField, match="title is missing"):
        decode_product(b"i1", b'{"item_id":"i1","ts":1700000000000}', NOW)


def test_each_shopper_topic_yields_its_kind() -> None:
    row = {"user_id": "u1", "item_id": "i1", "query": "midi", "ts": NOW, "event_id": "e"}
    got = [decode_shopper(topic, b"u1", orjson.dumps(row), NOW) for topic in SHOPPER_TOPICS]
    assert got == [
        ShopperEvent(Kind.CLICK, "u1", NOW, "i1", "midi", "e"),
        ShopperEvent(Kind.PURCHASE, "u1", NOW, "i1", "midi", "e"),
        ShopperEvent(Kind.SEARCH, "u1", NOW, None, "midi", "e"),
        ShopperEvent(None, "u1", NOW),
    ]


def test_control_characters_are_data() -> None:
    assert click(query="a\x00\x1b[31m\u202eb").query == "a\x00\x1b[31m\u202eb"


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{",
        b'{"user_id":"u1","item_id":"i1","ts":17000',
        b"null",
        b"[]",
        b'"u1"',
        b"\xff\xfe",
        b'{"user_id":"\xed\xa0\x80"}',
        b'{"user_id":"\\ud800"}',
        b'{"user_id":NaN}',
        b'{"user_id":Infinity}',
        b'{"user_id":1e999}',
        b"[" * 100_000,
        b'{"a":' * 40_000,
        b"[" * 100_000 + b"]" * 100_000,
        b"\xef\xbb\xbf{}",
        b"{} {}",
    ],
    ids=lambda value: repr(value[:24]),
)
def test_bytes_that_are_no_json_object_are_malformed(
    decode: Callable[[bytes], object], value: bytes
) -> None:
    with pytest.raises(MalformedMessage):
        decode(value)


def test_depth_within_an_unknown_field_is_ignored_up_to_the_parsers_bound() -> None:
    deep = b"[" * 1000 + b"]" * 1000
    value = b'{"user_id":"u1","item_id":"i1","ts":1700000000000,"x":' + deep + b"}"
    assert shopper_bytes(value) == click()


def test_of_a_name_given_twice_the_last_counts() -> None:
    value = b'{"user_id":"u1","item_id":"old","item_id":"i1","ts":1700000000000}'
    assert shopper_bytes(value).item_id == "i1"


@pytest.mark.parametrize("wrong", [1, 1.5, True, [], {}, [["i"]], ""])
def test_an_id_is_non_empty_text(wrong: object) -> None:
    with pytest.raises(InvalidField, match="item_id"):
        click(item_id=wrong)


@pytest.mark.parametrize("name", ["event_id", "session_id"])
def test_an_optional_id_is_checked_when_given(name: str) -> None:
    with pytest.raises(InvalidField, match=name):
        click(**{name: ""})


def test_ids_are_measured_in_utf8_bytes() -> None:
    assert click(item_id="é" * 128).item_id == "é" * 128
    assert click(item_id="x" * 256).item_id == "x" * 256
    for too_long in ("é" * 129, "x" * 257, "😀" * 65):
        with pytest.raises(InvalidField, match="longer than 256 bytes"):
            click(item_id=too_long)


def test_a_title_has_at_most_two_kib() -> None:
    assert isinstance(product(title="x" * 2048), Item)
    with pytest.raises(InvalidField, match="title is longer"):
        product(title="x" * 2049)
    with pytest.raises(InvalidField, match="title is longer"):
        product(title="é" * 1025)


def test_a_query_has_at_least_one_character_and_at_most_one_kib() -> None:
    for query, words in (("", "empty"), ("x" * 1025, "longer")):
        value = orjson.dumps({"user_id": "u1", "query": query, "ts": NOW})
        with pytest.raises(InvalidField, match=words):
            decode_shopper("searches", b"u1", value, NOW)


def test_a_message_has_at_most_256_kib() -> None:
    padding = 256 * 1024 - len(orjson.dumps(CLICK | {"pad": ""}))
    assert click(pad="x" * padding) == click()
    with pytest.raises(OversizedMessage):
        click(pad="x" * (padding + 1))


@pytest.mark.parametrize(
    "wrong", ["1700000000000", True, 1.5, None, [], -1, 946_684_799_999, NOW + DAY + 1, 2**63, 1e30]
)
def test_ts_is_whole_milliseconds_from_2000_to_a_day_ahead(wrong: object) -> None:
    with pytest.raises(InvalidField, match="ts"):
        click(ts=wrong)


@pytest.mark.parametrize("right", [946_684_800_000, NOW + DAY, float(NOW)])
def test_the_bounds_of_ts_belong_to_it_and_a_whole_float_is_whole(right: float) -> None:
    assert click(ts=right).ts == right
    assert type(click(ts=right).ts) is int


@pytest.mark.parametrize(
    "changes",
    [
        {"price": -0.01},
        {"price": "9"},
        {"price": True},
        {"in_stock": 1},
        {"in_stock": "true"},
        {"attributes": []},
        {"attributes": {"a": {"b": 1}}},
        {"attributes": {"a": ["b"]}},
        {"attributes": {str(n): "x" for n in range(101)}},
        {"attributes": {"x" * 257: "a"}},
        {"attributes": {"a": "x" * 1025}},
        {"title": 5},
        {"category": ["a"]},
    ],
    ids=str,
)
def test_a_field_of_the_wrong_type_or_range_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidField, match=next(iter(changes))):
        product(**changes)


def test_a_key_must_be_there_be_utf8_and_be_the_id() -> None:
    value = orjson.dumps(CLICK)
    with pytest.raises(InvalidField, match="no key"):
        decode_shopper("clicks", None, value, NOW)
    with pytest.raises(MalformedMessage, match="UTF-8"):
        decode_shopper("clicks", b"\xff", value, NOW)
    with pytest.raises(InvalidField, match="not the user_id"):
        decode_shopper("clicks", b"u2", value, NOW)
    with pytest.raises(InvalidField, match="no key"):
        decode_product(None, None, NOW)
    with pytest.raises(InvalidField, match="empty"):
        decode_product(b"", None, NOW)
    with pytest.raises(InvalidField, match="longer"):
        decode_product(b"x" * 257, None, NOW)
    with pytest.raises(MalformedMessage, match="UTF-8"):
        decode_product(b"\xc3", None, NOW)


@pytest.mark.parametrize("topic", SHOPPER_TOPICS)
def test_a_null_shopper_event_is_refused_in_words(topic: str) -> None:
    with pytest.raises(InvalidField, match="erasures"):
        decode_shopper(topic, b"u1", None, NOW)


def test_the_words_of_an_error_hold_no_value_of_the_message() -> None:
    for changes in ({"user_id": ["secret"]}, {"user_id": "secret"}, {"query": ["secret"]}):
        with pytest.raises(InvalidField) as caught:
            click(**changes)
        assert "secret" not in str(caught.value)


def test_a_list_survives_the_way_to_bytes_and_back() -> None:
    items = (RecommendedItem("i1", np.float32(0.5), "Because you looked at linen", "history"),)  # type: ignore[arg-type]
    made = Recommendation(items, reranked=True, model="m")
    as_of = AsOf(3, {"clicks": 7, "searches": 0}, NOW)
    value = encode_recommendation(made, user_id="u1", trigger="click", as_of=as_of, ts=NOW + 5)
    got = decode_recommendation(b"u1", value)
    assert got is not None
    assert (got.user_id, got.recommendation, got.trigger) == ("u1", made, "click")
    assert (got.as_of, got.ts) == (as_of, NOW + 5)
    assert decode_recommendation(b"u1", None) is None


def test_a_list_with_a_score_that_is_no_number_is_not_sent() -> None:
    made = Recommendation((RecommendedItem("i1", float("nan"), "r", "s"),), False, "m")
    with pytest.raises(ValueError, match="not finite"):
        encode_recommendation(made, user_id="u", trigger="t", as_of=AsOf(0, {}, NOW), ts=NOW)


def test_products_and_events_survive_the_way_to_bytes_and_back() -> None:
    item = Item("i1", "Dress", NOW, brand="Weft", attributes={"size": "M"}, in_stock=False)
    assert decode_product(*encode_product(item), NOW) == item
    event = ShopperEvent(Kind.SEARCH, "u1", NOW, query="midi")
    topic, key, value = encode_event(event)
    assert decode_shopper(topic, key, value, NOW) == event


def test_a_row_becomes_a_record_of_its_declared_fields() -> None:
    row = CLICK | {"type": "fav", "brand": None}
    assert encode_row("clicks", row, NOW) == (CLICK, b"u1", orjson.dumps(CLICK))
    with pytest.raises(InvalidField):
        encode_row("clicks", CLICK | {"ts": NOW + DAY + 1}, NOW)
    names = {str(n): "é" * 512 for n in range(100)}
    huge = PRODUCT | {"attributes": names, "description": "\x01" * 65_536}
    with pytest.raises(OversizedMessage):
        encode_row("products", huge, NOW)


def test_a_dead_letters_headers_say_where_it_was_and_why() -> None:
    headers = dict(dead_letter_headers("shop-clicks", 3, 41, InvalidField("ts is missing")))
    assert headers == {
        "weft-topic": b"shop-clicks",
        "weft-partition": b"3",
        "weft-offset": b"41",
        "weft-error": b"InvalidField",
        "weft-words": b"ts is missing",
        "weft-attempts": b"1",
    }


def test_a_record_that_was_sent_back_dies_with_one_attempt_more() -> None:
    first = dead_letter_headers("shop-clicks", 3, 41, InvalidField("ts is missing"))
    again = dead_letter_headers("shop-clicks", 3, 99, InvalidField("ts"), attempts_in(first))
    assert dict(again)["weft-attempts"] == b"2"


@pytest.mark.parametrize("told", [b"", b"many", b"-1", b"1" * 5000, "²".encode(), None])
def test_a_count_of_attempts_that_is_none_counts_as_none(told: bytes | None) -> None:
    assert attempts_in([("other", b"7"), ("weft-attempts", told)]) == 0
    assert attempts_in(None) == 0
