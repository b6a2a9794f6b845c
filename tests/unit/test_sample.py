"""The sample shop: the same for a seed, plausible in what is counted here, inside the contract."""

from __future__ import annotations

import gzip
from collections import Counter
from itertools import islice, pairwise
from pathlib import Path

import pytest

from stream.contracts import (
    EventKind,
    ShopperEvent,
    decode_product,
    decode_shopper,
    encode_event,
    encode_product,
)
from stream.sample import DAY_MS, START_MS, Product, Shop, products, shop
from stream.sample_files import write
from stream.sample_log import events
from stream.sample_words import BRANDS, CATEGORIES, DETAILS, FAMILIES

NOW_MS = START_MS + 400 * DAY_MS


@pytest.fixture(scope="module")
def made() -> Shop:
    return shop(seed=7, products=1500, arrivals=40)


@pytest.fixture(scope="module")
def log(made: Shop) -> list[ShopperEvent]:
    return list(events(made, seed=7, shoppers=60))


def by_id(made: Shop) -> dict[str, Product]:
    return {p.item.item_id: p for p in (*made.products, *made.arrivals)}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for folder, seed in [("one", 3), ("again", 3), ("other", 4)]:
        write(tmp_path / folder, shop(seed, 50, 5, days=5), seed, shoppers=5, days=5)
    for name in ["catalog.jsonl.gz", "events.jsonl.gz"]:
        one, again, other = (
            (tmp_path / folder / name).read_bytes() for folder in ["one", "again", "other"]
        )
        assert one == again
        assert gzip.decompress(one) != gzip.decompress(other)


def test_the_bytes_of_seed_seven_are_those_of_every_machine() -> None:
    first = shop(seed=7, products=3, arrivals=0).products
    assert [product.item.title for product in first] == [
        "Bina cardigan – embroidered merino, mustard",
        "The Sunna: polished ankle boots for interviews (charcoal)",
        "Bram suit jacket – collarless crêpe, light blue",
    ]


def test_every_product_and_event_keeps_the_contract(made: Shop, log: list[ShopperEvent]) -> None:
    for product in (*made.products, *made.arrivals):
        assert decode_product(*encode_product(product.item), NOW_MS) == product.item
    for event in log:
        assert decode_shopper(*encode_event(event), NOW_MS) == event


def test_ids_and_titles_are_each_used_once() -> None:
    made = shop()
    all_of_them = [product.item for product in (*made.products, *made.arrivals)]
    assert len(all_of_them) == 4120
    assert len({item.item_id for item in all_of_them}) == 4120
    assert len({item.title for item in all_of_them}) == 4120


def test_every_shelf_and_style_has_products(made: Shop) -> None:
    assert {product.shelf for product in made.products} == set(CATEGORIES)
    assert {product.style for product in made.products} == set(DETAILS)


def test_a_family_held_out_is_one_whose_templates_no_other_product_uses() -> None:
    brands = {brand.name for brand in BRANDS if brand.family == "worded"}
    for product in products(seed=1, count=300, families=("worded",)):
        assert product.item.title.startswith("The ")
        assert product.item.brand in brands
    others = [family for family in FAMILIES if family != "worded"]
    for product in products(seed=1, count=300, families=others):
        assert not product.item.title.startswith("The ")
        assert product.item.brand not in brands


def test_no_template_is_in_two_families() -> None:
    counts = Counter(template for templates in FAMILIES.values() for template in templates)
    assert set(counts.values()) == {1}


def test_the_log_is_in_order_of_time_and_each_event_id_is_used_once(
    log: list[ShopperEvent],
) -> None:
    assert all(one.ts <= two.ts for one, two in pairwise(log))
    assert log[0].ts >= START_MS
    assert log[-1].ts < START_MS + 28 * DAY_MS
    assert len({event.event_id for event in log}) == len(log)


def test_nothing_is_met_before_it_has_entered_or_out_of_stock(
    made: Shop, log: list[ShopperEvent]
) -> None:
    known = by_id(made)
    touched = [(event, known[event.item_id].item) for event in log if event.item_id]
    assert all(item.ts <= event.ts and item.in_stock for event, item in touched)


def test_arrivals_enter_one_by_one_and_are_met_in_the_log(
    made: Shop, log: list[ShopperEvent]
) -> None:
    entered = [product.item.ts for product in made.arrivals]
    assert entered == sorted(entered)
    assert all(START_MS <= ts < START_MS + 28 * DAY_MS for ts in entered)
    arrivals = {product.item.item_id for product in made.arrivals}
    assert len({event.item_id for event in log} & arrivals) >= 10


def test_clicks_lead_and_searches_and_purchases_follow(log: list[ShopperEvent]) -> None:
    share = {kind: n / len(log) for kind, n in Counter(event.kind for event in log).items()}
    assert share[EventKind.CLICK] > 0.6
    assert 0.1 < share[EventKind.SEARCH] < 0.25
    assert 0.05 < share[EventKind.PURCHASE] < 0.2


def test_nobody_buys_a_thing_twice_or_without_having_looked_at_it(
    log: list[ShopperEvent],
) -> None:
    looked_at: set[tuple[str, str | None]] = set()
    bought: set[tuple[str, str | None]] = set()
    for event in log:
        pair = (event.user_id, event.item_id)
        if event.kind is EventKind.CLICK:
            looked_at.add(pair)
        if event.kind is EventKind.PURCHASE:
            assert pair in looked_at
            assert pair not in bought
            bought.add(pair)


def test_taste_persists_most_clicks_are_of_a_shoppers_two_styles(
    made: Shop, log: list[ShopperEvent]
) -> None:
    known = by_id(made)
    styles: dict[str, Counter[str]] = {}
    for event in log:
        if event.item_id:
            styles.setdefault(event.user_id, Counter())[known[event.item_id].style] += 1
    shares = [
        sum(n for _, n in counts.most_common(2)) / counts.total() for counts in styles.values()
    ]
    assert sum(shares) / len(shares) > 0.75  # two of seven styles by chance: 0.29


def test_what_goes_with_a_purchase_is_looked_at_next(made: Shop, log: list[ShopperEvent]) -> None:
    known = by_id(made)
    last: dict[str, str] = {}  # the shelf of the shopper's last purchase
    follows: Counter[bool] = Counter()
    for event in log:
        if event.kind is EventKind.CLICK and event.item_id and event.user_id in last:
            shelf = last.pop(event.user_id)
            follows[known[event.item_id].shelf in CATEGORIES[shelf].goes_with] += 1
        if event.kind is EventKind.PURCHASE and event.item_id:
            last[event.user_id] = known[event.item_id].shelf
    assert follows[True] / follows.total() > 0.6  # four of 27 shelves by chance: 0.15


def test_the_words_of_a_search_are_found_in_what_is_clicked(
    made: Shop, log: list[ShopperEvent]
) -> None:
    known = by_id(made)
    searched = [event for event in log if event.kind is EventKind.CLICK and event.query]
    hits = [
        known[event.item_id].words["noun"].lower() in event.query
        for event in searched
        if event.item_id and event.query
    ]
    assert sum(hits) / len(hits) > 0.5


def test_more_shoppers_change_nothing_about_the_others(made: Shop) -> None:
    few = [event for event in islice(events(made, shoppers=3), 200) if event.user_id == "nora"]
    many = [event for event in events(made, shoppers=6) if event.user_id == "nora"]
    assert few == many[: len(few)]


def test_an_empty_shop_has_no_events() -> None:
    assert list(events(Shop((), ()), shoppers=3)) == []
