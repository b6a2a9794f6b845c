from __future__ import annotations

from models.domain import History, Item, Kind, Step
from models.rules import hidden, permitted, put_off, seen, split_by_seen


def item(item_id: str, in_stock: bool = True) -> Item:
    return Item(item_id, title=item_id, ts=0, in_stock=in_stock)


def test_the_order_is_kept() -> None:
    assert permitted([item("b"), item("a"), item("c")], frozenset()) == [0, 1, 2]


def test_what_is_out_of_stock_or_bought_is_not_shown() -> None:
    items = [item("a"), item("gone", in_stock=False), item("bought"), item("b")]
    assert permitted(items, {"bought"}) == [0, 3]


def test_of_a_repeated_item_the_first_stays() -> None:
    assert permitted([item("a"), item("b"), item("a")], frozenset()) == [0, 1]


def test_nothing_in_gives_nothing_out() -> None:
    assert permitted([], {"bought"}) == []


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
    assert hidden(history, show_bought=False) == {"b"}
    assert hidden(history, show_bought=True) == frozenset()


def test_bought_items_that_may_be_shown_are_not_put_off_with_those_looked_at() -> None:
    steps = (Step(Kind.CLICK, 0, item_id="a"), Step(Kind.PURCHASE, 1, item_id="b"))
    history = History(steps, bought=frozenset({"b", "long ago"}))
    assert put_off(history, show_bought=True) == {"a"}
    assert put_off(history, show_bought=False) == {"a", "b"}
