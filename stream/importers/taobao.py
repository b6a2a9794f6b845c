"""Taobao's UserBehavior: a hundred million clicks, carts, favourites and purchases, no texts.

``UserBehavior.csv`` has no header: user, item, category, behaviour (pv, buy, cart or fav), time in
seconds. Columns as on the data set's page at Tianchi. A few times of it are far outside of the nine
days that it is of; those that the contract refuses are set aside.
"""

from __future__ import annotations

from typing import Final

from stream.contracts.fields import Json
from stream.files.columns import milliseconds
from stream.files.row_file import Shape
from stream.importers.source import Files, Source, kind, present, text

_KINDS = {"pv": "click", "buy": "purchase", "cart": "cart", "fav": "fav"}
_BITS: Final = 1 << 28


class Taobao(Source):
    """The published file. Memory holds a bit an item."""

    words = "User Behavior Data from Taobao for Recommendation"
    home = "https://tianchi.aliyun.com/dataset/649"
    notes = (
        "there are no titles: title is empty, and what reads titles has the category's number "
        "alone to go by",
        "the catalogue is every item of the log; no product has a publish time: the source has "
        "none, and the first event of an item is none",
        "the file is sorted by shopper, not by time",
    )
    events = Files(
        r"UserBehavior\.csv(\.gz)?",
        "UserBehavior.csv",
        Shape(header=("user", "item", "category", "behavior", "ts")),
    )
    catalogue = None

    def __init__(self) -> None:
        self._seen = Seen()

    def event(self, row: Json) -> Json:
        """One row of the events."""
        return {
            "type": kind(_KINDS, row.get("behavior")),
            "user_id": row.get("user"),
            "item_id": row.get("item"),
            "ts": milliseconds(row.get("ts"), "s"),
        }

    def item(self, row: Json) -> Json | None:
        """The item of a row of the events, once."""
        item_id = row["item"]  # the event was checked
        if not self._seen.add(item_id):
            return None
        return present(
            {"item_id": item_id, "title": "", "category": text("category", row.get("category"))}
        )


class Seen:
    """Which ids were seen: a bit each where an id is a small number, else the id itself."""

    def __init__(self) -> None:
        self._bits = bytearray()
        self._others: set[str] = set()

    def add(self, told: str) -> bool:
        """Whether it is new."""
        number = int(told) if told.isascii() and told.isdigit() and len(told) < 10 else _BITS
        if number >= _BITS or told != str(number):  # 007 is not 7
            new = told not in self._others
            self._others.add(told)
            return new
        at, bit = number >> 3, 1 << (number & 7)
        if at >= len(self._bits):
            self._bits.extend(bytes(max(at + 1 - len(self._bits), len(self._bits))))
        new = not self._bits[at] & bit
        self._bits[at] |= bit
        return new
