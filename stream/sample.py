"""The sample shop: an invented catalogue, the same for the same seed on every machine.

Every house (brand) writes its titles in one family of templates (``sample_words.FAMILIES``), and
families share none. So a catalogue made of some families holds out the wording of the others:
``products(seed, 4000, families=("plain", "house"))`` to train on, the rest to be judged by.
``stream.sample_log`` has the shoppers. `python -m stream.sample DIR` writes both as files.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Final

from models.domain import Item
from stream.sample_words import (
    BRANDS,
    CATEGORIES,
    DETAILS,
    FAMILIES,
    NAMES,
    OCCASIONS,
    PALETTES,
    Brand,
)

#: The log begins on 1 September 2025, 00:00 UTC; the catalogue was entered in the year before.
START_MS: Final = 1_756_684_800_000
DAY_MS: Final = 86_400_000

_SHELF_WEIGHT: Final = {"Clothing": 3.0, "Shoes": 2.0, "Accessories": 1.5}
_OUT_OF_STOCK: Final = 0.02


@dataclass(frozen=True, slots=True)
class Product:
    """An item and what the sample knows about it beside the item itself."""

    item: Item
    shelf: str  # a key of CATEGORIES
    style: str  # a key of DETAILS
    family: str  # a key of FAMILIES
    words: dict[str, str]  # what the title was made of


@dataclass(frozen=True, slots=True)
class Shop:
    """``products`` are there from the start; ``arrivals`` enter in order, each at its ``ts``."""

    products: tuple[Product, ...]
    arrivals: tuple[Product, ...]


def shop(seed: int = 7, products: int = 4000, arrivals: int = 120, days: int = 28) -> Shop:
    """The catalogue, and what enters it one by one during the ``days`` of the log."""
    rng = random.Random(f"{seed}/shop")
    made = _made(rng, products + arrivals, tuple(FAMILIES))
    stocked = [next(made) for _ in range(products)]
    step = days * DAY_MS // max(arrivals, 1)
    new = [
        _at(product, START_MS + n * step + rng.randrange(step)) for n, product in enumerate(made)
    ]
    return Shop(tuple(stocked), tuple(new))


def products(seed: int, count: int, families: Collection[str] = tuple(FAMILIES)) -> list[Product]:
    """``count`` products titled by templates of ``families`` alone."""
    return list(_made(random.Random(f"{seed}/products"), count, families))


def _made(rng: random.Random, count: int, families: Collection[str]) -> Iterator[Product]:
    """Products with ids in order; a title is used twice only where words run short."""
    brands = [brand for brand in BRANDS if brand.family in families]
    shelves = list(CATEGORIES)
    weights = [_SHELF_WEIGHT[c.path.split(" > ")[0]] for c in CATEGORIES.values()]
    titles: set[str] = set()
    for number in range(1, count + 1):
        for _ in range(50):
            shelf = rng.choices(shelves, weights)[0]
            product = _product(rng, number, rng.choice(brands), shelf)
            if product.item.title not in titles:
                break
        titles.add(product.item.title)
        yield product


def _product(rng: random.Random, number: int, brand: Brand, shelf: str) -> Product:
    category = CATEGORIES[shelf]
    style = brand.styles[0] if rng.random() < 0.7 else rng.choice(brand.styles)
    words = {
        "brand": brand.name,
        "name": rng.choice(NAMES),
        "noun": rng.choice(category.nouns),
        "material": rng.choice(category.materials),
        "cut": rng.choice(category.cuts),
        "detail": rng.choice(DETAILS[style][category.group]),
        "colour": rng.choice(rng.choice(PALETTES)),
        "occasion": rng.choice(OCCASIONS[style]),
    }
    item = Item(
        item_id=f"W{number:05d}",
        title=_title(rng.choice(FAMILIES[brand.family]), words),
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


if __name__ == "__main__":
    from stream.sample_files import main

    main()
