"""The sample shop: an invented catalogue, the same for the same seed on every machine.

Every house (brand) writes its titles in one family of templates. Two wordings share no family, no
house and no model's name: ``sample_words.TRAINED`` is that of what the training log knows,
``sample_held_out.HELD_OUT`` that of one collection which enters when the log has ended. So what a
model makes of the collection it has not learnt from the look of a title. ``stream.demo.sample.log``
has the shoppers. `python -m stream.demo.sample DIR` writes both parts as files.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from models.domain import Item
from stream.demo.sample.held_out import HELD_OUT
from stream.demo.sample.words import CATEGORIES, DETAILS, OCCASIONS, TRAINED, Wording

#: The log begins on 1 September 2025, 00:00 UTC; the catalogue was entered in the year before.
START_MS: Final = 1_756_684_800_000
DAY_MS: Final = 86_400_000
#: The training log's length. What comes after it, no training sees.
DAYS: Final = 28
#: Of the held-out part: its length, and the products that enter as it begins.
HELD_OUT_DAYS: Final = 7
COLLECTION: Final = 600

_SHELF_WEIGHT: Final = {"Clothing": 3.0, "Shoes": 2.0, "Accessories": 1.5}
_OUT_OF_STOCK: Final = 0.02


@dataclass(frozen=True, slots=True)
class Product:
    """An item and what the sample knows about it beside the item itself."""

    item: Item
    shelf: str  # a key of CATEGORIES
    style: str  # a key of DETAILS
    family: str  # a key of its wording's families
    words: dict[str, str]  # what the title was made of


@dataclass(frozen=True, slots=True)
class Shop:
    """``products`` are there from the start; ``arrivals`` enter in order, each at its ``ts``.

    ``held_out`` enter together as the training log ends, worded by templates of their own.
    """

    products: tuple[Product, ...]
    arrivals: tuple[Product, ...]
    held_out: tuple[Product, ...] = ()


def shop(
    seed: int = 7,
    products: int = 3280,
    arrivals: int = 120,
    held_out: int = COLLECTION,
    days: int = DAYS,
) -> Shop:
    """The catalogue: what is there, what enters one by one during ``days``, and what then."""
    rng = random.Random(f"{seed}/shop")
    made = _made(rng, 1, products + arrivals, TRAINED)
    stocked = [next(made) for _ in range(products)]
    step = days * DAY_MS // max(arrivals, 1)
    new = [
        _at(product, START_MS + n * step + rng.randrange(step)) for n, product in enumerate(made)
    ]
    apart = random.Random(f"{seed}/held out")  # so that the rest is the same without them
    later = _made(apart, products + arrivals + 1, held_out, HELD_OUT)
    collection = [_at(product, START_MS + days * DAY_MS) for product in later]
    return Shop(tuple(stocked), tuple(new), tuple(collection))


def _made(rng: random.Random, first: int, count: int, wording: Wording) -> Iterator[Product]:
    """Products numbered from ``first``; a title is used twice only where words run short."""
    shelves = list(CATEGORIES)
    weights = [_SHELF_WEIGHT[c.path.split(" > ")[0]] for c in CATEGORIES.values()]
    titles: set[str] = set()
    for number in range(first, first + count):
        for _ in range(50):
            shelf = rng.choices(shelves, weights)[0]
            product = _product(rng, number, shelf, wording)
            if product.item.title not in titles:
                break
        titles.add(product.item.title)
        yield product


def _product(rng: random.Random, number: int, shelf: str, wording: Wording) -> Product:
    category = CATEGORIES[shelf]
    brand = rng.choice(wording.brands)
    style = brand.styles[0] if rng.random() < 0.7 else rng.choice(brand.styles)
    words = {
        "brand": brand.name,
        "name": rng.choice(wording.names),
        "noun": rng.choice(wording.nouns[shelf]),
        "material": rng.choice(category.materials),
        "cut": rng.choice(category.cuts),
        "detail": rng.choice(DETAILS[style][category.group]),
        "colour": rng.choice(rng.choice(wording.palettes)),
        "occasion": rng.choice(OCCASIONS[style]),
    }
    item = Item(
        item_id=f"W{number:05d}",
        title=_title(rng.choice(wording.families[brand.family]), words),
        ts=START_MS - rng.randrange(1, 365 * DAY_MS),
        category=category.path,
        brand=brand.name,
        colour=words["colour"],
        price=_price(category.price * brand.level * rng.uniform(0.75, 1.35)),
        currency="EUR",
        in_stock=rng.random() >= _OUT_OF_STOCK,
        attributes={
            "material": words["material"],
            "fit": words["cut"],
            "detail": words["detail"],
            "style": style,
        },
    )
    return Product(item, shelf, style, brand.family, words)


def _title(template: str, words: dict[str, str]) -> str:
    """The template filled in; ``{Noun}`` is ``{noun}`` with a capital."""
    capitals = {name.capitalize(): word[:1].upper() + word[1:] for name, word in words.items()}
    return template.format_map(words | capitals)


def _price(exact: float) -> float:
    """As a shop would write it: 0.05 below a whole number."""
    return max(round(exact), 3) - 0.05


def _at(product: Product, ts: int) -> Product:
    """The product as one that enters, in stock, at ``ts``."""
    item = replace(product.item, ts=ts, in_stock=True)
    return replace(product, item=item)
