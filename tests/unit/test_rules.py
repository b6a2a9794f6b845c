from __future__ import annotations

from dataclasses import fields

import pytest

from models.domain import History, Item, Kind, Step
from models.recommend.rules import Rules, seen, split_by_seen
from stream import settings as weft_settings

EVERYTHING = 100


def item(item_id: str, in_stock: bool = True) -> Item:
    return Item(item_id, title=item_id, ts=0, in_stock=in_stock)


def chosen(items: list[Item], *bought: str, beside: tuple[str, ...] = (), room: int = EVERYTHING
           ) -> list[int]:  # fmt: skip
    shown = [item(item_id) for item_id in beside]
    return Rules().chosen(items, History(bought=frozenset(bought)), shown, room)


def test_the_order_is_kept() -> None:
    assert chosen([item("b"), item("a"), item("c")]) == [0, 1, 2]


def test_what_is_out_of_stock_or_bought_is_not_shown() -> None:
    items = [item("a"), item("gone", in_stock=False), item("bought"), item("b")]
    assert chosen(items, "bought") == [0, 3]
    assert Rules().permitted(items, History(bought=frozenset({"bought"}))) == [0, 3]


def test_of_a_repeated_item_the_first_stays() -> None:
    assert chosen([item("a"), item("b"), item("a")]) == [0, 1]


def test_what_the_list_has_is_not_shown_again_and_the_room_is_kept() -> None:
    items = [item("a"), item("b"), item("c"), item("d")]
    assert chosen(items, beside=("b",)) == [0, 2, 3]
    assert chosen(items, beside=("b",), room=2) == [0, 2]
    assert chosen(items, room=0) == []


def test_nothing_in_gives_nothing_out() -> None:
    assert chosen([], "bought") == []


def test_seen_are_the_items_of_the_steps_and_not_the_searches() -> None:
    steps = (
        Step(Kind.SEARCH, 0, query="linen"),
        Step(Kind.CLICK, 1, item_id="a", query="linen"),
        Step(Kind.PURCHASE, 2, item_id="b"),
    )
    assert seen(History(steps, bought=frozenset({"b", "long ago"}))) == {"a", "b"}


def test_what_was_looked_at_lately_is_parted_from_what_is_new_in_the_same_order() -> None:
    items = [item("a"), item("seen"), item("b"), item("bought"), item("seen too")]
    assert split_by_seen(items, [0, 1, 2, 4], {"seen", "seen too"}) == ([0, 2], [1, 4])


def test_what_was_bought_is_hidden_unless_it_is_to_be_shown_again() -> None:
    history = History(bought=frozenset({"b"}))
    assert Rules(bought="hide").hidden(history) == {"b"}
    assert Rules(bought="show").hidden(history) == frozenset()


def test_bought_items_that_may_be_shown_are_not_put_off_with_those_looked_at() -> None:
    steps = (Step(Kind.CLICK, 0, item_id="a"), Step(Kind.PURCHASE, 1, item_id="b"))
    history = History(steps, bought=frozenset({"b", "long ago"}))
    assert Rules(bought="show").put_off(history) == {"a"}
    assert Rules(bought="hide").put_off(history) == {"a", "b"}


def test_each_rule_is_a_setting_of_its_name_and_default() -> None:
    default = weft_settings.load({})
    assert default.rules == Rules()
    assert all(getattr(default, rule.name) == rule.default for rule in fields(Rules))


@pytest.mark.parametrize("bought", ["hide", "show"])
def test_what_is_set_is_the_rule(bought: str) -> None:
    assert weft_settings.load({"WEFT_BOUGHT": bought}).rules == Rules(bought=bought)
