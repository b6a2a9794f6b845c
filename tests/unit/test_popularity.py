"""Popularity by event time: counts worked out by hand."""

from __future__ import annotations

import threading

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
