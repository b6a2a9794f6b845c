"""Bytes that nobody meant: good examples, damaged by dice. The same seed gives the same bytes.

Two ways, both needed: ``of_bytes`` tries the parsers, ``of_json`` gets past them to what trusts
their output.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any, Final

import orjson

_PIECES: Final = (
    b'"', b"'", b"{", b"}", b"[", b"]", b",", b":", b"=", b"\n", b"\r", b"\\", b"\\u", b"#",
    b"null", b"true", b"nan", b"inf", b"-", b"1e308", b"-1", b"0x", b"1979-05-27", b"==",
    b"\xff", b"\x00", b"\xc3", b"\xed\xa0\x80", b"\xf0\x9f\x91\x97", b"\xe2\x80\xae", b"9" * 400,
)  # fmt: skip
#: What stands where something else should: each type, the edges of numbers, texts that mislead.
_VALUES: Final[tuple[bytes, ...]] = tuple(map(orjson.dumps, (
    None, True, False, 0, 1, -1, 2, 3, 4, 2**53 - 1, 2**53, 2**63, 2**64 - 1, -(2**63), 0.5, -0.0,
    1e308, 1.0, "", "u1", "clicks", "click", "search", "constructor", "\x00", "\u202e", "a" * 300,
    [], [[]], [1, 2, 3], [1, 0, 0, "click", "i", None], {}, {"clicks": 1}, {"": None},
)))  # fmt: skip


def of_bytes(dice: Random, whole: bytes) -> bytes:
    """The bytes with up to three pieces replaced, moved or cut off; now and then nested deep."""
    value = bytearray(whole)
    for _ in range(dice.randrange(4)):
        at = dice.randrange(len(value) + 1)
        value[at : at + dice.randrange(4)] = dice.choice(_PIECES)
    chance = dice.random()
    if chance < 0.1:
        del value[dice.randrange(len(value) + 1) :]
    elif chance < 0.2:
        at, to = sorted(dice.randrange(len(value) + 1) for _ in range(2))
        value[at:at] = value[at:to]
    elif chance < 0.201:
        at = dice.randrange(len(value) + 1)
        value[at:at] = dice.choice((b"[", b'{"a":', b"(", b"-", b"a.")) * 5_000
    return bytes(value)


def of_json(dice: Random, whole: bytes) -> bytes:
    """The JSON with one to three of its values replaced, dropped or said again elsewhere."""
    root = [orjson.loads(whole)]
    for _ in range(dice.randrange(1, 4)):
        holder, key = _place(dice, root)
        chance = dice.random()
        if chance < 0.15 and isinstance(holder, dict):
            del holder[key]
        elif chance < 0.3 and isinstance(holder, list) and holder is not root:
            holder.insert(dice.randrange(len(holder) + 1), holder[key])
        else:
            holder[key] = orjson.loads(dice.choice(_VALUES))
    return orjson.dumps(root[0])


def _place(dice: Random, root: list[Any]) -> tuple[Any, Any]:
    """A list or dict somewhere below ``root``, and a key in it."""
    holder: Any = root
    key: Any = 0
    while isinstance(inner := holder[key], list | dict) and inner and dice.random() < 0.85:
        holder = inner
        keys: Sequence[Any] = list(inner) if isinstance(inner, dict) else range(len(inner))
        key = dice.choice(keys)
    return holder, key
