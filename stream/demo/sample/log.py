"""What the sample shop's shoppers do: sessions with taste, searches, complements, arrivals.

A shopper likes two styles, one palette, one level of price and some shelves, and keeps liking
them. A session has something in mind (a target that the taste chose): a search may name it, the
clicks go to what is like it, a purchase ends it at times and makes the shopper look for what goes
with it, then or the next time. What has just arrived is looked at more. Each shopper has a stream
of randomness of their own: more shoppers change nothing about the others.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final

from models.domain import Kind
from stream.contracts.codec import ShopperEvent
from stream.demo.sample.catalogue import DAY_MS, DAYS, START_MS, Product, Shop
from stream.demo.sample.held_out import HELD_OUT
from stream.demo.sample.words import CATEGORIES, DETAILS, OCCASIONS, SHOPPERS, TRAINED

#: How much likelier a product is for sharing a word with what the shopper has in mind.
_SHARED: Final = {"noun": 6.0, "material": 3.0, "cut": 2.0, "detail": 2.0, "colour": 2.5}
_SEARCHES: Final = ("{colour} {noun}", "{material} {cut} {noun}", "{detail} {noun}", "{noun}",
                    "{colour} {material} {noun}", "{noun} for {occasion}")  # fmt: skip
#: How much likelier it is for having entered in the last three days.
_NEW: Final = 2.5
_NEW_MS: Final = 3 * DAY_MS
#: Colours that are liked together, the held-out ones among them.
_PALETTES: Final = tuple(map(set.union, map(set, TRAINED.palettes), map(set, HELD_OUT.palettes)))
_Shelves = Mapping[str, Sequence[Product]]


@dataclass(slots=True)
class _Shopper:
    """A taste, and what it remembers."""

    user_id: str
    rng: random.Random
    styles: tuple[str, str]
    palette: frozenset[str]
    level: float  # of price, 1 is the shop's middle
    shelves: dict[str, float]  # how much each is liked
    tastes: dict[str, list[float]] = field(default_factory=dict)  # by shelf, of each product
    wanted: list[str] = field(default_factory=list)  # shelves that go with what was bought
    bought: set[str] = field(default_factory=set)
    events: int = 0
    sessions: int = 0


def events(
    shop: Shop, seed: int = 7, shoppers: int = 300, days: int = DAYS
) -> Iterator[ShopperEvent]:
    """The log in order of time, from ``START_MS``; a product is met only once it has entered.

    More days, more shoppers and what is held out change nothing about the days before.
    """
    shelves: defaultdict[str, list[Product]] = defaultdict(list)
    for product in (*shop.products, *shop.arrivals, *shop.held_out):
        if product.item.in_stock:
            shelves[product.shelf].append(product)
    logs = (_log(_shopper(seed, number), shelves, days) for number in range(shoppers))
    return heapq.merge(*logs, key=attrgetter("ts"))


def _shopper(seed: int, number: int) -> _Shopper:
    turn, name = divmod(number, len(SHOPPERS))
    user_id = SHOPPERS[name] if turn == 0 else f"{SHOPPERS[name]}-{turn + 1}"
    rng = random.Random(f"{seed}/{user_id}")
    first, second = rng.sample(list(DETAILS), 2)
    return _Shopper(
        user_id,
        rng,
        (first, second),
        frozenset(rng.choice(_PALETTES)),
        math.exp(rng.gauss(0.0, 0.35)),
        {shelf: rng.paretovariate(1.2) for shelf in CATEGORIES},
    )


def _log(shopper: _Shopper, shelves: _Shelves, days: int) -> Iterator[ShopperEvent]:
    """One shopper's sessions; some come daily, most twice a week."""
    rng = shopper.rng
    mean_gap = DAY_MS * rng.uniform(0.7, 6.0)
    now, end = START_MS + int(rng.random() * mean_gap), START_MS + days * DAY_MS
    while now < end:
        for event in _session(shopper, shelves, now):
            now = event.ts
            if now < end:
                yield event
        now += 1_800_000 + int(rng.expovariate(1 / mean_gap))


def _session(shopper: _Shopper, shelves: _Shelves, now: int) -> Iterator[ShopperEvent]:
    """Looks for something; where that was bought, half of the time for what goes with it too."""
    rng = shopper.rng
    shopper.sessions += 1
    if shopper.wanted and rng.random() < 0.6:
        shelf = shopper.wanted.pop(0)
    else:
        shelf = rng.choices(list(shopper.shelves), list(shopper.shelves.values()))[0]
    while shelves.get(shelf):
        last = None
        for last in _looking(shopper, shelves[shelf], now):
            yield last
        if last is None or last.kind is not Kind.PURCHASE:
            return
        shopper.wanted = [*rng.sample(CATEGORIES[shelf].goes_with, 2), *shopper.wanted][:4]
        if rng.random() > 0.5:
            return
        shelf = shopper.wanted.pop(0)
        now = last.ts + rng.randrange(20_000, 90_000)


def _looking(shopper: _Shopper, shelf: Sequence[Product], now: int) -> Iterator[ShopperEvent]:
    """A search at times, some clicks, and a purchase three times in ten."""
    rng = shopper.rng
    target = _pick(shopper, shelf, now)
    if target is None:
        return
    query = _query(rng, target) if rng.random() < 0.55 else None
    if query is not None:
        yield _event(shopper, Kind.SEARCH, now, None, query)
    looked_at: dict[str, Product] = {}
    for _ in range(1 + min(int(rng.expovariate(0.45)), 7)):
        product = _pick(shopper, shelf, now, target, looked_at)
        if product is not None:
            looked_at[product.item.item_id] = product
            now += rng.randrange(8_000, 75_000)
            yield _event(shopper, Kind.CLICK, now, product, query)
    if rng.random() < 0.3:
        liked = {item_id: _taste(shopper, product) for item_id, product in looked_at.items()}
        chosen = rng.choices(list(liked), list(liked.values()))[0]
        shopper.bought.add(chosen)
        now += rng.randrange(20_000, 120_000)
        yield _event(shopper, Kind.PURCHASE, now, looked_at[chosen], query)


def _pick(
    shopper: _Shopper,
    shelf: Sequence[Product],
    now: int,
    target: Product | None = None,
    looked_at: Collection[str] = (),
) -> Product | None:
    """A product by taste and by likeness to the target; None where nothing is left."""
    tastes = shopper.tastes.get(shelf[0].shelf)
    if tastes is None:
        tastes = shopper.tastes[shelf[0].shelf] = [_taste(shopper, product) for product in shelf]
    weights = []
    for product, taste in zip(shelf, tastes, strict=True):
        age, item_id = now - product.item.ts, product.item.item_id
        if age < 0 or item_id in shopper.bought or item_id in looked_at:
            weights.append(0.0)
        else:
            weights.append(taste * _likeness(product, target) * (_NEW if age < _NEW_MS else 1.0))
    return shopper.rng.choices(shelf, weights)[0] if any(weights) else None


def _taste(shopper: _Shopper, product: Product) -> float:
    first, second = shopper.styles
    liked = {first: 4.0, second: 2.0}.get(product.style, 0.3)
    liked *= 3.0 if product.words["colour"] in shopper.palette else 0.6
    price = (product.item.price or 1.0) / CATEGORIES[product.shelf].price
    return liked * math.exp(-1.5 * abs(math.log(price / shopper.level)))


def _likeness(product: Product, target: Product | None) -> float:
    if target is None:
        return 1.0
    likeness = 1.0
    for word, factor in _SHARED.items():
        if product.words[word] == target.words[word]:
            likeness *= factor
    return likeness


def _query(rng: random.Random, target: Product) -> str:
    """What someone would type who has ``target`` in mind."""
    occasion = rng.choice(OCCASIONS[target.style])
    return rng.choice(_SEARCHES).format_map(target.words | {"occasion": occasion}).lower()


def _event(
    shopper: _Shopper, kind: Kind, ts: int, product: Product | None, query: str | None
) -> ShopperEvent:
    shopper.events += 1
    return ShopperEvent(
        kind,
        shopper.user_id,
        ts,
        item_id=None if product is None else product.item.item_id,
        query=query,
        event_id=f"{shopper.user_id}-e{shopper.events}",
        session_id=f"{shopper.user_id}-s{shopper.sessions}",
    )
