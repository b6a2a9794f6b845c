"""RetailRocket: views, carts and transactions of a shop whose texts are hashed.

``events.csv``: timestamp (ms), visitorid, event (view, addtocart or transaction), itemid,
transactionid. ``item_properties_part1.csv`` and ``…part2.csv``: timestamp, itemid, property, value,
hashed but for the properties categoryid and available. There are no titles. Columns as on the data
set's page on Kaggle.
"""

from __future__ import annotations

from collections.abc import Iterator

from stream.contracts.declaration import EARLIEST, ID
from stream.contracts.fields import Field, Json, Object, Whole
from stream.files.row_file import Shape, typed
from stream.importers.source import Files, Source, kind, present, text

_PROPERTY = Object(
    (
        Field("itemid", ID, "the item", required=True),
        Field("timestamp", Whole(EARLIEST), "when it was so, epoch milliseconds", required=True),
    )
)
_KINDS = {"view": "click", "addtocart": "cart", "transaction": "purchase"}


class RetailRocket(Source):
    """The published files. Memory holds the first category of each item, 417,053 in all."""

    words = "RetailRocket recommender system dataset"
    home = "https://www.kaggle.com/datasets/retailrocket/ecommerce-dataset"
    notes = (
        "there are no titles: the publisher hashed them, so title is empty and what reads titles "
        "has the category's number alone to go by",
        "a category is the earliest that the source tells of the item, so that nothing later "
        "leaks; availability changes over time and is left out for the same reason",
        "no product has a publish time: the times of properties are those of weekly snapshots",
    )
    events = Files(
        r"events\.csv(\.gz)?",
        "events.csv",
        Shape(needs=("timestamp", "visitorid", "event", "itemid")),
    )
    catalogue = Files(
        r"item_properties(_part\d+)?\.csv(\.gz)?",
        "item_properties_part1.csv",
        Shape(needs=("timestamp", "itemid", "property", "value")),
        several=True,
    )

    def __init__(self) -> None:
        self._first: dict[str, tuple[int, str | None]] = {}

    def event(self, row: Json) -> Json:
        """One row of the events."""
        return {
            "type": kind(_KINDS, row.get("event")),
            "user_id": row.get("visitorid"),
            "item_id": row.get("itemid"),
            "ts": row.get("timestamp"),
        }

    def item(self, row: Json) -> None:
        """One row of the catalogue."""
        told = _PROPERTY(typed(row, _PROPERTY))
        item_id, ts = told["itemid"], told["timestamp"]
        known = self._first.get(item_id)
        if row.get("property") == "categoryid":
            if known is None or known[1] is None or ts < known[0]:
                self._first[item_id] = (ts, text("category", row.get("value")))
        elif known is None:
            self._first[item_id] = (ts, None)

    def rest(self) -> Iterator[Json]:
        """The items, in the order of their ids."""
        for item_id in sorted(self._first, key=lambda each: (len(each), each)):
            category = self._first[item_id][1]
            yield present({"item_id": item_id, "title": "", "category": category})
