"""H&M Personalized Fashion Recommendations: two years of purchases, with titles.

``transactions_train.csv``: t_dat (a day), customer_id, article_id, price (scaled by the publisher,
no currency: left out), sales_channel_id. ``articles.csv``: 25 columns, of which the title, the
categories, the colour and the description are read. Columns as in the competition's data page.
"""

from __future__ import annotations

from functools import lru_cache

from stream.contracts.fields import Json
from stream.files.columns import milliseconds
from stream.files.row_file import Shape
from stream.importers.source import Files, Source, path, present, text

_DIGITS = 10  # of an article id; a file that went through a spreadsheet has lost leading zeros


class HM(Source):
    """The competition's files as they were published."""

    words = "H&M Personalized Fashion Recommendations"
    home = "https://www.kaggle.com/competitions/h-and-m-personalized-fashion-recommendations"
    notes = (
        "times are days: all purchases of a shopper's day have one ts, its midnight UTC",
        "no product has a publish time: the source has none",
        "prices are scaled by the publisher and in no currency: left out",
    )
    events = Files(
        r"transactions_train\.(csv|parquet)(\.gz)?",
        "transactions_train.csv",
        Shape(needs=("t_dat", "customer_id", "article_id")),
    )
    catalogue = Files(
        r"articles\.(csv|parquet)(\.gz)?",
        "articles.csv",
        Shape(needs=("article_id", "prod_name")),
    )

    def event(self, row: Json) -> Json:
        """One row of the events."""
        return {
            "type": "purchase",
            "user_id": row.get("customer_id"),
            "item_id": _article(row.get("article_id")),
            "ts": _midnight(row.get("t_dat")),
        }

    def item(self, row: Json) -> Json:
        """One row of the catalogue."""
        get = row.get
        colour, sort = text("colour", get("colour_group_name")), get("product_type_name")
        tail = " ".join(part for part in (colour, text("title", sort)) if part)
        name = text("title", get("prod_name"))
        return present(
            {
                "item_id": _article(row.get("article_id")),
                "title": text("title", ", ".join(part for part in (name, tail) if part)) or "",
                "category": path([get("index_group_name"), get("product_group_name"), sort]),
                "colour": colour,
                "description": text("description", get("detail_desc")),
            }
        )


def _article(told: object) -> object:
    whole = str(told) if type(told) is int else told
    return whole.zfill(_DIGITS) if isinstance(whole, str) and whole.isdigit() else whole


def _midnight(told: object) -> object:
    # Parquet tells a date as epoch ms; of 31 million rows there are 734 days.
    return _day(told) if isinstance(told, str) else told


@lru_cache(4096)
def _day(told: str) -> int:
    return milliseconds(told, "date")
