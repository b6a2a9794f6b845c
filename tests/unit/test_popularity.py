"""Popularity by event time: counts worked out by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from models.recommend.popularity import Popularity

DAY = 86_400_000
NOON = 20_000 * DAY + DAY // 2  # some day of 2024


def counted(popularity: Popularity, limit: int = 10) -> dict[str, int]:
    return dict(popularity.top(limit))


def test_the_most_counted_come_first() -> None:
    popularity = Popularity(days=7)
    for item_id in ["a", "b", "b", "c", "b", "c"]:
        popularity.add(item_id, NOON)
    assert popularity.top(2) == [("b", 3), ("c", 2)]


def test_nothing_counted_gives_nothing() -> None:
    assert Popularity(days=7).top(5) == []


def test_the_window_follows_the_newest_event_not_the_wall_clock() -> None:
    popularity = Popularity(days=7)
    popularity.add("old", NOON)
    popularity.add("kept", NOON + DAY)
    assert counted(popularity) == {"old": 1, "kept": 1}
    popularity.add("new", NOON + 7 * DAY)
    assert counted(popularity) == {"kept": 1, "new": 1}


def test_a_late_event_counts_for_its_own_day_and_leaves_with_it() -> None:
    popularity = Popularity(days=2)
    popularity.add("now", NOON)
    popularity.add("late", NOON - DAY)
    assert counted(popularity) == {"now": 1, "late": 1}
    popularity.add("now", NOON + DAY)
    assert counted(popularity) == {"now": 2}


def test_an_event_older_than_the_window_is_dropped() -> None:
    popularity = Popularity(days=7)
    popularity.add("now", NOON)
    popularity.add("ancient", NOON - 7 * DAY)
    assert counted(popularity) == {"now": 1}


def test_a_leap_past_the_whole_window_forgets_everything_before() -> None:
    popularity = Popularity(days=7)
    popularity.add("then", NOON)
    popularity.add("now", NOON + 1000 * DAY)
    assert counted(popularity) == {"now": 1}


def test_memory_is_bounded_and_the_popular_stay() -> None:
    popularity = Popularity(days=1, items_a_day=10)
    for n in range(1000):
        popularity.add("hit", NOON)
        popularity.add(f"once-{n}", NOON)
    assert len(popularity.top(10_000)) <= 20
    assert popularity.top(1) == [("hit", 1000)]


def test_a_new_favourite_shows_within_one_part_in_a_hundred() -> None:
    popularity = Popularity(days=7)
    for _ in range(1000):
        popularity.add("a", NOON)
        popularity.add("b", NOON)
    popularity.add("a", NOON)
    assert popularity.top(1)[0][0] == "a"
    for _ in range(30):
        popularity.add("b", NOON)
    assert popularity.top(1)[0][0] == "b"


def test_a_longer_ranking_can_be_asked_for_after_a_shorter_one() -> None:
    popularity = Popularity(days=7)
    for n in range(200):
        popularity.add(f"item-{n % 20}", NOON)
    assert len(popularity.top(3)) == 3
    assert len(popularity.top(20)) == 20


def test_counts_are_exact_while_another_thread_reads() -> None:
    popularity = Popularity(days=7)
    done = threading.Event()
    sizes: list[int] = []

    def read() -> None:
        while not done.is_set():
            sizes.append(len(popularity.top(50)))

    reader = threading.Thread(target=read)
    reader.start()
    for n in range(5000):
        popularity.add(f"item-{n % 50}", NOON + (n % 3) * DAY)
    done.set()
    reader.join()
    popularity.add("last", NOON + 3 * DAY)  # a new day: the ranking is made anew
    assert counted(popularity, 60) == {**{f"item-{n}": 100 for n in range(50)}, "last": 1}
    assert all(size <= 50 for size in sizes)


def test_cleared_counts_start_anew_at_any_time() -> None:
    popularity = Popularity(days=7)
    popularity.add("later", NOON + 100 * DAY)
    assert popularity.top(5)
    popularity.clear()
    assert popularity.top(5) == []
    popularity.add("earlier", NOON)
    assert counted(popularity) == {"earlier": 1}


class Watching(str):
    """An id that tells whenever it is looked up or compared."""

    def __new__(cls, text: str, told: Callable[[], None]) -> Watching:
        made = super().__new__(cls, text)
        made.told = told
        return made

    told: Callable[[], None]

    def __hash__(self) -> int:
        self.told()
        return super().__hash__()

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other)

    def __gt__(self, other: str) -> bool:
        self.told()
        return super().__gt__(other)

    def __lt__(self, other: str) -> bool:
        self.told()
        return super().__lt__(other)


@pytest.mark.parametrize("asked", ["top", "earlier"])
def test_a_ranking_of_before_a_clear_is_not_kept(asked: str) -> None:
    popularity = Popularity(days=7)
    rebalanced = False

    def rebalance() -> None:  # while another thread ranks: another worker's shoppers from now on
        nonlocal rebalanced
        if not rebalanced and not popularity._lock.locked():
            rebalanced = True
            popularity.clear()
            for item_id in ("c", "c", "b"):
                popularity.add(item_id, NOON)
            popularity.add("b", NOON + DAY)

    for item_id in ("a", "b"):
        for _ in range(100):
            popularity.add(Watching(item_id, rebalance), NOON)
    popularity.add("b", NOON + DAY)
    rebalanced = False
    answers = [dict(getattr(popularity, asked)(5)) for _ in range(2)]
    assert rebalanced
    whole = {"c": 2, "b": 2} if asked == "top" else {"c": 2, "b": 1}
    assert answers == [whole, whole]


@pytest.mark.parametrize("asked", ["top", "earlier"])
def test_the_writer_waits_for_no_ranking(asked: str) -> None:
    popularity = Popularity(days=7)
    locked: list[bool] = []
    for n in range(50):
        item_id = Watching(f"i{n}", lambda: locked.append(popularity._lock.locked()))
        popularity.add(item_id, NOON)
        popularity.add(item_id, NOON + DAY)
    locked.clear()
    assert len(getattr(popularity, asked)(10)) == 10
    assert locked, "nothing was looked up or compared"
    assert not any(locked)


def test_a_restore_leaves_no_ranking_of_before() -> None:
    one, two = Popularity(days=7), Popularity(days=7)
    for each, item_id in ((one, "a"), (two, "b")):
        each.add(item_id, NOON)
        each.add(item_id, NOON + DAY)
        assert each.earlier(5) == [(item_id, 1)]
    one.restore(two.dump())
    assert one.earlier(5) == [("b", 1)]


def test_a_ranking_lags_by_a_share_of_the_window_however_long_it_has_run() -> None:
    popularity = Popularity(days=2)
    for day in range(400):
        for _ in range(50):
            popularity.add("a", NOON + day * DAY)
    today = NOON + 400 * DAY
    popularity.add("a", today)
    assert popularity.top(1) == [("a", 51)]
    for _ in range(60):
        popularity.add("b", today)
    assert popularity.top(1) == [("b", 60)]


def test_the_same_counts_have_one_order() -> None:
    there, back = Popularity(days=7), Popularity(days=7)
    for each, order in ((there, "abcdef"), (back, "fedcba")):
        for item_id in order:
            each.add(item_id, NOON)
        each.add("x", NOON + DAY)
    assert there.top(3) == back.top(3)
    assert there.earlier(3) == back.earlier(3)


def test_what_is_restored_answers_as_the_other_goes_on_to_answer() -> None:
    one = Popularity(days=3)
    for n in range(500):
        one.add(f"i{n * n % 37}", NOON + n * DAY // 90)
        if n % 60 == 0:
            one.top(5)  # a ranking that lags is kept as well
    two = Popularity(days=3)
    two.restore(one.dump())
    for n in range(500, 800):
        assert one.top(7) == two.top(7)
        for each in (one, two):
            each.add(f"i{n * n % 41}", NOON + n * DAY // 90)
