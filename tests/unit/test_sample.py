"""The sample shop: the same for a seed, plausible in what is counted here, inside the contract."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import pytest

from models.domain import Kind
from stream.contracts.codec import (
    ShopperEvent,
    decode_product,
    decode_shopper,
    encode_event,
    encode_product,
)
from stream.demo.sample.catalogue import DAY_MS, DAYS, START_MS, Product, Shop, shop
from stream.demo.sample.files import write
from stream.demo.sample.held_out import HELD_OUT
from stream.demo.sample.log import events
from stream.demo.sample.words import CATEGORIES, DETAILS, OCCASIONS, TRAINED, Wording

PARTS = ("", "held-out-", "whole-")
FILES = [f"{part}{name}.jsonl.gz" for part in PARTS for name in ("catalog", "events")]
NOW_MS = START_MS + 400 * DAY_MS


@pytest.fixture(scope="module")
def made() -> Shop:
    return shop(seed=7, products=1500, arrivals=40, held_out=200)


@pytest.fixture(scope="module")
def log(made: Shop) -> list[ShopperEvent]:
    return list(events(made, seed=7, shoppers=60))


def by_id(made: Shop) -> dict[str, Product]:
    return {p.item.item_id: p for p in everything(made)}


def everything(made: Shop) -> list[Product]:
    return [*made.products, *made.arrivals, *made.held_out]


def pattern(template: str, wording: Wording) -> str:
    """What a title by the template looks like, whatever its words."""
    words = {
        "brand": [brand.name for brand in wording.brands],
        "name": wording.names,
        "noun": [noun for nouns in wording.nouns.values() for noun in nouns],
        "material": [word for shelf in CATEGORIES.values() for word in shelf.materials],
        "cut": [word for shelf in CATEGORIES.values() for word in shelf.cuts],
        "detail": [w for groups in DETAILS.values() for words in groups.values() for w in words],
        "colour": [colour for palette in wording.palettes for colour in palette],
        "occasion": [word for words in OCCASIONS.values() for word in words],
    }
    said = {name: f"(?:{'|'.join(map(re.escape, some))})" for name, some in words.items()}
    either = {name.capitalize(): f"(?i:{alternatives})" for name, alternatives in said.items()}
    return re.sub(r"\\{(\w+)\\}", lambda found: (said | either)[found[1]], re.escape(template))


def written_by(wording: Wording, vocabulary: Wording) -> re.Pattern[str]:
    """Titles by the templates of one wording, in the words of another."""
    templates = [template for family in wording.families.values() for template in family]
    return re.compile("|".join(pattern(template, vocabulary) for template in templates))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for folder, seed in [("one", 3), ("again", 3), ("other", 4)]:
        made = shop(seed, 50, 5, 10, days=5)
        write(tmp_path / folder, made, seed, shoppers=5, days=5, held_out_days=9)
    for name in FILES:
        one, again, other = (
            (tmp_path / folder / name).read_bytes() for folder in ["one", "again", "other"]
        )
        assert one == again
        assert gzip.decompress(one) != gzip.decompress(other)


def test_the_bytes_of_seed_seven_are_those_of_every_machine() -> None:
    made = shop(seed=7, products=3, arrivals=0, held_out=2)
    assert [product.item.title for product in everything(made)] == [
        "Bina cardigan – embroidered merino, mustard",
        "Knee-high boots | flat | leather | emerald",
        "Kaia long duffle coat – chocolate",
        "Light blue sweatpants: tapered, French terry",
        "The Bram: tapered joggers made of recycled nylon (terracotta)",
    ]


def test_every_product_and_event_keeps_the_contract(made: Shop, log: list[ShopperEvent]) -> None:
    for product in everything(made):
        assert decode_product(*encode_product(product.item), NOW_MS) == product.item
    for event in log:
        assert decode_shopper(*encode_event(event), NOW_MS) == event


def test_ids_and_titles_are_each_used_once() -> None:
    made = shop()
    all_of_them = [product.item for product in everything(made)]
    assert len(all_of_them) == 4000
    assert len({item.item_id for item in all_of_them}) == 4000
    assert len({item.title for item in all_of_them}) == 4000


def test_every_shelf_and_style_has_products(made: Shop) -> None:
    for part in (made.products, made.held_out):
        assert {product.shelf for product in part} == set(CATEGORIES)
        assert {product.style for product in part} == set(DETAILS)


def test_no_template_is_shared_between_training_and_held_out_products() -> None:
    parts = [
        {template for family in wording.families.values() for template in family}
        for wording in (TRAINED, HELD_OUT)
    ]
    assert not parts[0] & parts[1]
    assert all(sum(map(len, w.families.values())) >= 6 for w in (TRAINED, HELD_OUT))


def test_no_template_of_the_one_part_could_have_written_a_title_of_the_other(made: Shop) -> None:
    known = [product.item.title for product in (*made.products, *made.arrivals)]
    new = [product.item.title for product in made.held_out]
    for titles, own, other in [(known, TRAINED, HELD_OUT), (new, HELD_OUT, TRAINED)]:
        assert all(written_by(own, own).fullmatch(title) for title in titles)
        assert not any(written_by(other, own).fullmatch(title) for title in titles)


def test_neither_houses_nor_names_are_shared_and_half_of_the_held_out_nouns_are_new() -> None:
    assert not {b.name for b in TRAINED.brands} & {b.name for b in HELD_OUT.brands}
    assert not set(TRAINED.names) & set(HELD_OUT.names)
    for shelf, nouns in HELD_OUT.nouns.items():
        assert len(set(nouns) - set(TRAINED.nouns[shelf])) * 2 >= len(nouns)
    colours = [set(palette) for palette in HELD_OUT.palettes]
    assert all(len(new - set(old)) == 1 for new, old in zip(colours, TRAINED.palettes, strict=True))


def test_what_is_held_out_enters_when_the_log_ends_and_changes_nothing_before(
    made: Shop, log: list[ShopperEvent]
) -> None:
    end = START_MS + DAYS * DAY_MS
    assert {product.item.ts for product in made.held_out} == {end}
    longer = list(events(made, seed=7, shoppers=60, days=DAYS + 7))
    without = events(replace(made, held_out=()), seed=7, shoppers=60)
    assert [event for event in longer if event.ts < end] == log == list(without)
    collection = {product.item.item_id for product in made.held_out}
    after = [event.item_id in collection for event in longer if event.ts >= end and event.item_id]
    assert 0.15 < sum(after) / len(after) < 0.6


def test_the_held_out_files_are_the_days_after_and_the_collection(tmp_path: Path) -> None:
    made = shop(3, 50, 5, 10, days=5)
    counts = write(tmp_path, made, seed=3, shoppers=20, days=5, held_out_days=9)
    assert list(counts) == FILES
    assert [counts[f"{part}catalog.jsonl.gz"] for part in PARTS] == [55, 10, 65]
    ts = {}
    for name in FILES[1::2]:
        rows = gzip.decompress((tmp_path / name).read_bytes()).splitlines()
        ts[name] = [json.loads(row)["ts"] for row in rows]
        assert len(ts[name]) == counts[name] > 20
    assert max(ts["events.jsonl.gz"]) < START_MS + 5 * DAY_MS <= min(ts["held-out-events.jsonl.gz"])


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
    assert share[Kind.CLICK] > 0.6
    assert 0.1 < share[Kind.SEARCH] < 0.25
    assert 0.05 < share[Kind.PURCHASE] < 0.2


def test_nobody_buys_a_thing_twice_or_without_having_looked_at_it(
    log: list[ShopperEvent],
) -> None:
    looked_at: set[tuple[str, str | None]] = set()
    bought: set[tuple[str, str | None]] = set()
    for event in log:
        pair = (event.user_id, event.item_id)
        if event.kind is Kind.CLICK:
            looked_at.add(pair)
        if event.kind is Kind.PURCHASE:
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
    assert sum(shares) / len(shares) > 0.7  # two of seven styles by chance: 0.29


def test_what_goes_with_a_purchase_is_looked_at_next(made: Shop, log: list[ShopperEvent]) -> None:
    known = by_id(made)
    last: dict[str, str] = {}  # the shelf of the shopper's last purchase
    follows: Counter[bool] = Counter()
    for event in log:
        if event.kind is Kind.CLICK and event.item_id and event.user_id in last:
            shelf = last.pop(event.user_id)
            follows[known[event.item_id].shelf in CATEGORIES[shelf].goes_with] += 1
        if event.kind is Kind.PURCHASE and event.item_id:
            last[event.user_id] = known[event.item_id].shelf
    assert follows[True] / follows.total() > 0.6  # four of 27 shelves by chance: 0.15


def test_the_words_of_a_search_are_found_in_what_is_clicked(
    made: Shop, log: list[ShopperEvent]
) -> None:
    known = by_id(made)
    searched = [event for event in log if event.kind is Kind.CLICK and event.query]
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
