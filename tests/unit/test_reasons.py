from __future__ import annotations

import numpy as np
import pytest

from models.domain import Item, Kind, Step
from models.ports import FloatArray, Stored
from models.recommend import reasons
from models.space.recency import signals

X, Y, Z = np.eye(3, dtype=np.float32)


def stored(**vectors: FloatArray | None) -> dict[str, Stored]:
    return {i: Stored(Item(i, f"title of {i}", ts=0), v) for i, v in vectors.items()}


def why(item_id: str, steps: list[Step], known: dict[str, Stored], **queries: FloatArray) -> str:
    vectors = {i: s.vector for i, s in known.items() if s.vector is not None}
    found = signals(steps, vectors, queries)
    assert found is not None
    (reason,) = reasons.grounded([item_id], found, steps, known)
    return reason


def click(item_id: str, query: str | None = None) -> Step:
    return Step(Kind.CLICK, 0, item_id=item_id, query=query)


def test_the_nearest_step_is_the_reason_however_old() -> None:
    near_x = np.array([0.9, 0.1, 0.0], dtype=np.float32)
    known = stored(x=X, y=Y, found=near_x)
    steps = [Step(Kind.PURCHASE, 0, item_id="x"), click("y"), click("y")]
    assert why("found", steps, known) == "because you bought title of x"


def test_of_equally_near_steps_the_newest_is_the_reason() -> None:
    known = stored(a=X, b=X, found=X)
    assert why("found", [click("a"), click("b")], known) == "because you clicked title of b"


def test_the_search_that_led_to_a_click_can_be_the_reason() -> None:
    known = stored(x=X, found=Y)
    steps = [click("x", query="blue")]
    assert why("found", steps, known, blue=Y) == 'matches your search "blue"'


def test_an_item_that_was_clicked_is_not_its_own_reason() -> None:
    assert why("x", [click("x")], stored(x=X)) == "you looked at this lately"


def test_an_item_that_left_the_index_since_is_explained_by_all_of_the_history() -> None:
    assert why("gone", [click("x")], stored(x=X)) == "like what you looked at lately"


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (1, "popular today"),
        (7, "popular this week"),
        (28, "popular this month"),
        (30, "popular in the last 30 days"),
    ],
)
def test_popular_names_the_time_that_was_counted(days: int, words: str) -> None:
    assert reasons.popular(days) == words


@pytest.mark.parametrize(
    ("title", "quoted"),
    [
        ("Linen\n midi   dress", "Linen midi dress"),
        ("word " * 40, "word word word word word word word word word word word…"),
        ("x" * 200, "x" * 59 + "…"),
    ],
)
def test_a_quoted_title_is_one_short_line(title: str, quoted: str) -> None:
    known = {"x": Stored(Item("x", title, ts=0), X), **stored(found=X)}
    assert why("found", [click("x")], known) == f"because you clicked {quoted}"
