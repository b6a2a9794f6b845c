"""Amazon Reviews of 2014 and of 2023: reviews taken as purchases, with titles.

2014 (``reviews_X_5.json.gz``, ``meta_X.json.gz``): a review is JSON with reviewerID, asin and
unixReviewTime (seconds, of a day); a product is a Python literal, not JSON, with asin, title,
categories (a list of paths), brand, price (USD), imUrl, description. 2023 (``X.jsonl.gz``,
``meta_X.jsonl.gz``): JSON with user_id, parent_asin, timestamp (ms); and parent_asin, title,
main_category, categories (one path), store, price (USD), description, images. As the publishers'
pages tell them: jmcauley.ucsd.edu/data/amazon and amazon-reviews-2023.github.io.
"""

from __future__ import annotations

import ast
import html
import warnings
from typing import Any

from stream.contracts.fields import Json
from stream.files.columns import milliseconds
from stream.files.row_file import Shape
from stream.importers.source import Files, Source, path, present, price, text

_NOTES = (
    "a review is taken for a purchase, at the review's time",
    "the catalogue is the whole of the metadata file: a product may have no event",
    "no product has a publish time: the source has none",
)


def literal(line: bytes) -> Any:
    """A line that is a Python literal, evaluated as data and never as code.

    Raises ``ValueError``.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a backslash before a letter that needs none
            return ast.literal_eval(line.decode("utf-8").strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        # The last three are hostile nesting and what cannot be a key: Python refuses them so.
        raise ValueError(f"not a Python literal ({type(error).__name__})") from None


class Amazon2014(Source):
    """The 2014 files of one category; the 5-core or all reviews."""

    words = "Amazon Reviews 2014"
    home = "https://jmcauley.ucsd.edu/data/amazon/"
    notes = ("times are days: all reviews of a shopper's day have one ts", *_NOTES)
    events = Files(r"reviews_.+\.json(\.gz)?", "reviews_Beauty_5.json.gz", Shape())
    catalogue = Files(r"meta_.+\.json(\.gz)?", "meta_Beauty.json.gz", Shape(parse=literal))

    def event(self, row: Json) -> Json:
        """One row of the events."""
        return {
            "type": "purchase",
            "user_id": row.get("reviewerID"),
            "item_id": row.get("asin"),
            "ts": milliseconds(row.get("unixReviewTime"), "s"),
        }

    def item(self, row: Json) -> Json:
        """One row of the catalogue."""
        paths = row.get("categories")
        first = paths[0] if isinstance(paths, list | tuple) and paths else None
        image = text("image_url", row.get("imUrl"))
        return _product(row, "asin", path(first), _plain("brand", row.get("brand")), image)


class Amazon2023(Source):
    """The 2023 files of one category; JSON Lines, or the benchmark's CSV of ratings."""

    words = "Amazon Reviews 2023"
    home = "https://amazon-reviews-2023.github.io/"
    notes = ("products are parents: sizes and colours of one are one item", *_NOTES)
    events = Files(
        r"(?!meta_|events\.|catalog\.).+\.(jsonl|csv)(\.gz)?",
        "All_Beauty.jsonl.gz",
        Shape(needs=("user_id", "parent_asin", "timestamp")),
    )
    catalogue = Files(r"meta_.+\.jsonl(\.gz)?", "meta_All_Beauty.jsonl.gz", Shape())

    def event(self, row: Json) -> Json:
        """One row of the events."""
        return {
            "type": "purchase",
            "user_id": row.get("user_id"),
            "item_id": row.get("parent_asin"),
            "ts": row.get("timestamp"),
        }

    def item(self, row: Json) -> Json:
        """One row of the catalogue."""
        category = path(row.get("categories")) or path([row.get("main_category")])
        images = row.get("images")
        first = images[0] if isinstance(images, list) and images else None
        image = text("image_url", first.get("large")) if isinstance(first, dict) else None
        return _product(row, "parent_asin", category, _plain("brand", row.get("store")), image)


def _product(
    row: Json, key: str, category: str | None, brand: str | None, image: str | None
) -> Json:
    cost = price(row.get("price"))
    description = row.get("description")
    if isinstance(description, list):
        description = "\n".join(part for part in description if isinstance(part, str))
    return present(
        {
            "item_id": row.get(key),
            "title": _plain("title", row.get("title")) or "",
            "category": category,
            "brand": brand,
            "description": _plain("description", description),
            "price": cost,
            "currency": None if cost is None else "USD",
            "image_url": image,
        }
    )


def _plain(name: str, value: object) -> str | None:
    """Text with HTML's entities as the characters that they stand for."""
    return text(name, html.unescape(value) if isinstance(value, str) else None)
