"""What shoppers do: invented, or the rows of a real log; the same for the same seed.

A shopper's actions lie close together in time, and then the shopper is gone: the harm that a fault
does to one is not healed by a later event, and stands in the topics until it is counted.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from models.domain import Kind
from stream.contracts.codec import ShopperEvent

ITEMS: Final = 500
WORDS: Final = (
    "linen", "midi", "dress", "denim", "jacket", "wool", "coat", "silk", "blouse", "boots"
)  # fmt: skip
T0: Final = 1_700_000_000_000
_MINUTE: Final = 60_000
_MOST: Final = 45  # events a shopper, so that the 50 newest steps show every one of them
_KINDS: Final = {"click": Kind.CLICK, "purchase": Kind.PURCHASE}


@dataclass(frozen=True, slots=True)
class Shop:
    """The catalogue as (item_id, title) and the shoppers' rows; no rows: they are invented."""

    name: str
    items: list[tuple[str, str]]
    rows: list[list[tuple[Kind, int, str]]]  # a shopper each: kind, ts, item_id


def invented() -> Shop:
    """Items i0..i499 with titles of three words, and shoppers without end."""
    titles = [
        f"{WORDS[n % 10]} {WORDS[n // 10 % 10]} {WORDS[n // 100 % 10]} {n}" for n in range(ITEMS)
    ]
    return Shop("invented", [(f"i{n}", title) for n, title in enumerate(titles)], [])


def of_log(folder: Path) -> Shop:
    """A log as events.jsonl.gz and catalog.jsonl.gz; what is no purchase counts as a click.

    Rows of a shopper beyond 45 are left out; only items that somebody chose are kept.
    """
    by_user: dict[str, list[tuple[Kind, int, str]]] = {}
    with gzip.open(folder / "events.jsonl.gz", "rt") as lines:
        for line in lines:
            row = json.loads(line)
            kind = _KINDS.get(row["type"], Kind.CLICK)
            rows = by_user.setdefault(row["user_id"], [])
            if len(rows) < _MOST:
                rows.append((kind, row["ts"], row["item_id"]))
    chosen = {item for rows in by_user.values() for _, _, item in rows}
    with gzip.open(folder / "catalog.jsonl.gz", "rt") as lines:
        entries = (json.loads(line) for line in lines)
        items = [(e["item_id"], e["title"]) for e in entries if e["item_id"] in chosen]
    return Shop(folder.name, items, list(by_user.values()))


def actions(shop: Shop, seed: int, at_once: int = 150) -> Iterator[ShopperEvent]:
    """Actions without end, of ``at_once`` shoppers at a time.

    A twentieth comes again with its ``event_id``; a tenth comes later than its ``ts`` says.
    """
    rng = random.Random(f"actions {seed}")
    shoppers = _shoppers(shop, rng)
    present = [next(shoppers) for _ in range(at_once)]
    while True:
        place = rng.randrange(at_once)
        yield present[place].pop()
        if not present[place]:
            present[place] = next(shoppers)


def _shoppers(shop: Shop, rng: random.Random) -> Iterator[list[ShopperEvent]]:
    """Each shopper's actions, the first one last."""
    number = 0
    order = list(range(len(shop.rows)))
    while True:
        if order and number % len(order) == 0:
            rng.shuffle(order)
        user = f"u{number}"
        if order:
            known = shop.rows[order[number % len(order)]]
            plain = [ShopperEvent(kind, user, ts, item) for kind, ts, item in known]
        else:
            plain = [_invented(user, number, rng) for _ in range(rng.randint(3, 40))]
        yield _disturbed(plain, number, rng)[::-1]
        number += 1


def _invented(user: str, number: int, rng: random.Random) -> ShopperEvent:
    ts = T0 + number * _MINUTE + rng.randrange(20 * _MINUTE)
    kind = rng.choices((Kind.CLICK, Kind.PURCHASE, Kind.SEARCH), (8, 1, 1))[0]
    if kind is Kind.SEARCH:
        return ShopperEvent(kind, user, ts, query=" ".join(rng.sample(WORDS, 2)))
    return ShopperEvent(kind, user, ts, f"i{rng.randrange(ITEMS)}")


def _disturbed(plain: list[ShopperEvent], number: int, rng: random.Random) -> list[ShopperEvent]:
    """Late ones, and a producer's second tries; every fiftieth shopper asks to be forgotten."""
    found = sorted(plain, key=lambda action: action.ts)
    for place in range(len(found)):
        if rng.random() < 0.1:
            other = min(len(found) - 1, place + rng.randint(1, 5))
            found[place], found[other] = found[other], found[place]
    if number % 50 == 49:  # its events have no ids: which of two counts would hang on their order
        erasure = ShopperEvent(None, found[0].user_id, rng.choice(found).ts)
        found.insert(rng.randint(0, len(found)), erasure)
        return found
    for place, action in enumerate(found):
        if rng.random() < 0.5:
            found[place] = replace(action, event_id=f"{action.user_id}-{place}")
    for place in range(len(found) - 1, -1, -1):
        if found[place].event_id and rng.random() < 0.1:
            found.insert(min(len(found), place + rng.randint(1, 10)), found[place])
    return found
