"""What importers make of bytes that nobody published."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import InvalidFile
from stream.importers.amazon import literal
from stream.importers.run import import_log
from stream.importers.source import price, text
from stream.importers.taobao import Seen
from testbed.published_logs import (
    HM_ARTICLES,
    HM_SALES,
    META_2014,
    META_2023,
    REVIEWS_2014,
    REVIEWS_2023,
    ROCKET_1,
    ROCKET_EVENTS,
    TAOBAO,
    WRITERS,
    lines,
)

HOSTILE = [
    "[" * 100_000,
    "-" * 100_000 + "1",
    "{'a':" * 50_000,
    "1+" * 100_000 + "1",
    "{[]: 1}",
    "\0",
    "1" * 10_000,
    "'\\N{no such}'",
    "f'{1}'",
    "open('x')",
    "",
]


@pytest.mark.parametrize("code", HOSTILE, ids=lambda code: repr(code[:9]))
def test_a_hostile_literal_is_refused_in_words(code: str) -> None:
    with pytest.raises(ValueError, match="not a Python literal"):
        literal(code.encode())


def test_a_text_is_cut_between_characters_and_holds_no_half_ones() -> None:
    long = text("brand", "é" * 1000)
    assert long == "é" * 512
    assert text("brand", " a\ud800b ") == "ab"
    assert text("brand", "  ") is text("brand", 7) is None


@pytest.mark.parametrize("value", ["None", "", -1, "nan", 10**400, None, "$5", [5]])
def test_what_is_no_amount_is_no_price(value: object) -> None:
    assert price(value) is None


@given(st.lists(st.integers(0, 3000).map(str) | st.sampled_from(["007", "a", str(2**30), "²"])))
def test_each_id_is_new_once(ids: list[str]) -> None:
    seen = Seen()
    assert [each for each in ids if seen.add(each)] == list(dict.fromkeys(ids))


VALID: dict[str, Sequence[str | bytes]] = {
    "hm": (HM_SALES, HM_ARTICLES),
    "amazon2014": (b"\n".join(REVIEWS_2014), b"\n".join(META_2014)),
    "amazon2023": tuple(b"\n".join(map(orjson.dumps, rows)) for rows in (REVIEWS_2023, META_2023)),
    "retailrocket": (ROCKET_EVENTS, ROCKET_1),
    "taobao": (TAOBAO,),
}
NAMES = {
    "hm": ("transactions_train.csv", "articles.csv"),
    "amazon2014": ("reviews_X_5.json", "meta_X.json"),
    "amazon2023": ("X.jsonl", "meta_X.jsonl"),
    "retailrocket": ("events.csv", "item_properties_part1.csv"),
    "taobao": ("UserBehavior.csv",),
}
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
_KEYS = (
    "reviewerID", "asin", "unixReviewTime", "user_id", "parent_asin", "timestamp", "title",
    "categories", "price", "images", "description", "t_dat", "article_id", "itemid", "item",
)  # fmt: skip
_ROWS = st.lists(st.dictionaries(st.sampled_from(_KEYS), _JSON), max_size=4)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """The file with a piece of it replaced, or rows of the right names with anything in them."""
    how = draw(st.sampled_from(["piece", "json", "literal", "bytes"]))
    if how == "json":
        return "\n".join(map(json.dumps, draw(_ROWS))).encode()
    if how == "literal":
        return "\n".join(map(repr, draw(_ROWS))).encode("utf-8", "backslashreplace")
    if how == "bytes":
        return draw(st.binary(max_size=200))
    at = draw(st.integers(0, len(whole)))
    piece = draw(st.binary(max_size=8) | st.sampled_from([b'"', b"\n", b"\r", b",", b"\0", b"{"]))
    return whole[:at] + piece + whole[at + draw(st.integers(0, 20)) :]


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_the_bytes_an_import_ends_well_or_is_an_invalid_file(
    name: str, data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for file, whole in zip(NAMES[name], VALID[name], strict=True):
            raw: bytes = whole.encode() if isinstance(whole, str) else whole
            content = data.draw(st.one_of(damaged(raw), st.just(raw)))
            packed = data.draw(st.booleans())
            (root / file).write_bytes(gzip.compress(content) if packed else content)
        try:
            told = import_log(name, [root / file for file in NAMES[name]], root / "out")
        except InvalidFile:
            assert not (root / "out").exists()
        else:
            assert len(lines(root / "out" / "events.jsonl.gz")) == told.events
            assert len(lines(root / "out" / "catalog.jsonl.gz")) == told.items
