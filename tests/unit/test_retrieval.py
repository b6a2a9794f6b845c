"""The query vector, against means worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from models.domain import Kind, Step
from models.space.recency import DECAY, LEADING_QUERY, NEWEST_SEARCH, query_vector, signals

X, Y, Z = np.eye(3, dtype=np.float32)


def click(item_id: str, query: str | None = None) -> Step:
    return Step(Kind.CLICK, 0, item_id=item_id, query=query)


def buy(item_id: str) -> Step:
    return Step(Kind.PURCHASE, 0, item_id=item_id)


def search(query: str) -> Step:
    return Step(Kind.SEARCH, 0, query=query)


def unit(x: float, y: float, z: float = 0.0) -> np.ndarray:
    vector = np.array([x, y, z], dtype=np.float32)
    return vector / np.linalg.norm(vector)


def test_a_newer_step_weighs_more_by_the_decay() -> None:
    found = query_vector([click("x"), click("y")], {"x": X, "y": Y}, {})
    assert found == pytest.approx(unit(DECAY, 1.0))


def test_purchases_and_clicks_weigh_alike() -> None:
    vectors = {"x": X, "y": Y}
    bought = query_vector([buy("x"), click("y")], vectors, {})
    clicked = query_vector([click("x"), buy("y")], vectors, {})
    assert bought == pytest.approx(clicked)


def test_the_newest_search_weighs_most_and_an_older_one_like_a_title() -> None:
    queries = {"red": X, "blue": Y}
    found = query_vector([search("red"), search("blue"), click("z")], {"z": Z}, queries)
    assert found == pytest.approx(unit(DECAY**2, NEWEST_SEARCH * DECAY, 1.0))


def test_the_query_that_led_to_a_click_counts_less_than_the_item() -> None:
    found = query_vector([click("x", query="blue")], {"x": X}, {"blue": Y})
    assert found == pytest.approx(unit(1.0, LEADING_QUERY))


def test_an_unknown_item_adds_nothing_and_the_others_keep_their_age() -> None:
    steps = [click("x"), click("gone"), click("y")]
    found = query_vector(steps, {"x": X, "y": Y}, {})
    assert found == pytest.approx(unit(DECAY**2, 1.0))


def test_the_query_of_a_click_on_an_unknown_item_is_still_used() -> None:
    assert query_vector([click("gone", query="blue")], {}, {"blue": Y}) == pytest.approx(Y)


@pytest.mark.parametrize("steps", [[], [click("gone")], [search("unheard")]])
def test_a_history_of_which_nothing_is_known_has_no_vector(steps: list[Step]) -> None:
    assert query_vector(steps, {}, {}) is None


def test_vectors_that_cancel_out_have_no_direction() -> None:
    assert query_vector([click("x"), click("y")], {"x": X, "y": -X}, {}, decay=1.0) is None


def test_a_history_of_one_old_known_step_is_still_a_unit_vector() -> None:
    steps = [click("x"), *[click("gone")] * 49]
    assert query_vector(steps, {"x": X}, {}) == pytest.approx(X)


def test_signals_name_the_step_that_each_vector_came_from() -> None:
    known = signals([search("blue"), click("x", query="blue")], {"x": X}, {"blue": Y})
    assert known is not None
    assert known.steps == (0, 1, 1)
    assert known.queries == (True, False, True)
