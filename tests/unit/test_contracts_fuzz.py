"""Nothing but ``BadMessage`` ever comes out of the decoders, whatever goes in."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from typing import Any

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.errors import BadMessage
from stream.contracts.codec import decode_product, decode_recommendation, decode_shopper

NOW = 1_700_000_000_000
PRODUCT = {"item_id": "i1", "title": "Linen midi dress", "ts": NOW}
CLICK = {"user_id": "u1", "item_id": "i1", "ts": NOW}

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
_NAMES = st.sampled_from(
    ["user_id", "item_id", "query", "ts", "title", "attributes", "price", "in_stock", "as_of"]
)
_VALUES = _JSON | st.sampled_from(["u1", "i1", NOW, 1e300, -(2**63), 2**64 - 1, "\x00"])
_OBJECTS = st.dictionaries(_NAMES, _VALUES, max_size=6)


def _as_bytes(row: Any) -> bytes:
    try:
        return orjson.dumps(row)
    except TypeError:  # lone surrogates, integers over 64 bits: then Python's own idea of it
        return repr(row).encode(errors="surrogatepass")


_KEYS = st.sampled_from([b"u1", b"i1", None, b"", b"\xff"]) | st.binary(max_size=8)


def _decode_all(key: bytes | None, value: bytes | None) -> int:
    """How many of the decoders took it; the others must have raised ``BadMessage``."""
    decoders: list[Callable[[], object]] = [
        lambda: decode_product(key, value, NOW),
        lambda: decode_shopper("clicks", key, value, NOW),
        lambda: decode_shopper("searches", key, value, NOW),
        lambda: decode_recommendation(key, value),
    ]
    taken = 0
    for decode in decoders:
        with contextlib.suppress(BadMessage):
            decode()
            taken += 1
    return taken


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(key=_KEYS, value=st.none() | st.binary(max_size=64) | _OBJECTS.map(_as_bytes))
def test_no_json_raises_anything_but_a_bad_message(key: bytes | None, value: bytes | None) -> None:
    _decode_all(key, value)


def test_of_20_000_damaged_messages_none_raises_anything_but_a_bad_message() -> None:
    dice = random.Random(20_000)
    whole = orjson.dumps(CLICK | PRODUCT | {"query": "midi", "attributes": {"a": 1}, "price": 1.5})
    parts = [b'"', b"{", b"}", b"[", b",", b":", b"null", b"1e308", b"-", b"\\u", b"\xff", b"\x00"]
    taken = 0
    for _ in range(20_000):
        value = bytearray(whole)
        for _ in range(dice.randrange(4)):
            at = dice.randrange(len(value))
            value[at : at + dice.randrange(3)] = dice.choice(parts)
        if dice.random() < 0.2:
            del value[dice.randrange(len(value)) :]
        taken += _decode_all(dice.choice([b"u1", b"i1"]), bytes(value))
    assert taken > 2_000  # the damage is not so great that only the parser is tried
