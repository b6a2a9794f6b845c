"""The query memory: what it counts, what it finds, and that it stays small."""

from __future__ import annotations

import itertools
import random
import threading

import numpy as np
import pytest

from models.domain import Item, Kind, Step
from models.ports import Hit, Stored
from models.recommend.query_memory import (
    FOLLOWED_MS,
    FOLLOWED_STEPS,
    HALF_SURE,
    RAISE,
    RECENT_STEPS,
    REGISTERS,
    QueryMemory,
    Remembered,
    leading_query,
    raised,
    recent_query,
)
from testbed.stand_ins import HashEncoder

DAY = 86_400_000
NOW = 20_000 * DAY
DRESS = "linen midi dress"


def memory(half_life_days: float = 10.0, queries: int = 100, items: int = 10) -> QueryMemory:
    return QueryMemory(HashEncoder(), half_life_days, queries, items)


def learnt(*events: tuple[str, str, int]) -> QueryMemory:
    """By a shopper each."""
    made = memory()
    for n, (query, item_id, ts) in enumerate(events):
        made.add(query, item_id, ts, f"s{n}")
    return made


def recalled(made: QueryMemory, query: str, limit: int = 10) -> list[str]:
    return [each.item_id for each in made.recall([query], limit).get(query, [])]


def test_what_a_query_led_to_most_comes_first() -> None:
    made = learnt(*[(DRESS, "a", NOW)] * 2, *[(DRESS, "b", NOW)] * 5, *[(DRESS, "c", NOW)] * 3)
    [found] = made.recall([DRESS]).values()
    assert [(each.item_id, each.count) for each in found] == [("b", 5), ("c", 3), ("a", 2)]
    assert [each.weight for each in found] == pytest.approx([5, 3, 2])
    assert recalled(made, DRESS, limit=1) == ["b"]


def test_a_similar_query_finds_what_another_led_to_but_says_less() -> None:
    made = learnt(*[("midi linen summer dress", "a", NOW)] * 4, *[("wool coat", "c", NOW)] * 4)
    [like] = made.recall([DRESS])[DRESS]
    [same] = made.recall(["midi linen summer dress"])["midi linen summer dress"]
    assert like.item_id == same.item_id == "a"
    assert like.count == same.count == 4
    assert 0 < like.weight < same.weight
    assert same.weight == pytest.approx(4)


def test_case_and_spaces_make_no_other_query() -> None:
    made = learnt((" Linen  MIDI dress", "a", NOW), (DRESS, "a", NOW))
    assert made.recall(["LINEN midi dress "])["LINEN midi dress "][0].count == 2


def test_a_query_without_words_is_neither_learnt_nor_answered() -> None:
    made = learnt((" ", "a", NOW), ("", "a", NOW))
    assert made.recall([" ", ""]) == {}


def test_a_shopper_is_one_however_often_and_by_whichever_query() -> None:
    made = memory()
    for n in range(100):
        for query in (DRESS, "midi linen summer dress"):
            made.add(query, "bot", NOW, "bot")
            made.add(query, "b", NOW, f"s{n % 2}")
    [found] = made.recall([DRESS])[DRESS]
    assert (found.item_id, found.count, found.weight) == ("b", 2, pytest.approx(2))


def test_a_choice_again_is_as_young_as_the_last_one() -> None:
    made = learnt((DRESS, "a", NOW), (DRESS, "a", NOW))
    made.add(DRESS, "a", NOW + 20 * DAY, "s0")
    made.add(DRESS, "a", NOW + 10 * DAY, "s0")  # late
    [found] = made.recall([DRESS])[DRESS]
    assert (found.count, found.weight) == (2, pytest.approx(1.25))


def test_many_shoppers_are_never_told_of_as_more_than_they_are() -> None:
    for shoppers in (2, 10, 100, 1000):
        [found] = learnt(*[(DRESS, "a", NOW)] * shoppers).recall([DRESS])[DRESS]
        assert found.count <= min(shoppers, REGISTERS)
        expected = REGISTERS * (1 - (1 - 1 / REGISTERS) ** shoppers)
        assert found.count == pytest.approx(expected, abs=6)
        assert found.weight == pytest.approx(found.count)


def test_the_writer_waits_for_no_sums() -> None:
    made = learnt(*[(DRESS, f"i{n % 5}", NOW) for n in range(50)])
    summed: list[bool] = []
    weights = made._weights

    class Watched(QueryMemory):
        def _weights(self, led: bytes, now: int) -> np.ndarray:
            summed.append(made._lock.locked())
            return weights(led, now)

    made.__class__ = Watched
    assert recalled(made, DRESS)
    assert summed == [False]


def test_what_was_chosen_once_is_not_told() -> None:
    made = learnt((DRESS, "a", NOW), *[(DRESS, "b", NOW)] * 2)
    assert recalled(made, DRESS) == ["b"]


def test_counts_halve_by_the_events_own_time() -> None:
    old = [(DRESS, "old", NOW)] * 4
    made = learnt(*old, *[(DRESS, "new", NOW + 20 * DAY)] * 2)
    found = {each.item_id: each.weight for each in made.recall([DRESS])[DRESS]}
    assert found == pytest.approx({"old": 1, "new": 2})  # two half-lives of ten days
    made.add("something else", "x", NOW + 30 * DAY, "s0")
    found = {each.item_id: each.weight for each in made.recall([DRESS])[DRESS]}
    assert found == pytest.approx({"old": 0.5, "new": 1})


def test_a_century_of_half_lives_does_not_overflow() -> None:
    made = memory(half_life_days=1.0)
    for ts, who in ((0, "s0"), (0, "s1"), (40_000 * DAY, "s0"), (40_000 * DAY, "s1")):
        made.add(DRESS, "new" if ts else "old", ts, who)
    found = {each.item_id: each.weight for each in made.recall([DRESS])[DRESS]}
    assert found == pytest.approx({"old": 0, "new": 2})


def test_the_order_in_which_events_arrive_does_not_matter() -> None:
    rng = random.Random(0)
    events = [
        (rng.choice([DRESS, "wool coat", "linen dress"]), rng.choice("abc"), NOW + n * DAY, f"s{n}")
        for n in range(60)
    ]
    one, other = memory(), memory()
    for event in events:
        one.add(*event)
    rng.shuffle(events)
    for event in events:
        other.add(*event)
    there, back = (each.recall([DRESS, "wool coat"]) for each in (one, other))
    for query, items in there.items():
        assert [each.item_id for each in items] == [each.item_id for each in back[query]]
        assert [each.weight for each in items] == pytest.approx(
            [each.weight for each in back[query]]
        )


def test_queries_and_items_are_bounded_and_the_heaviest_stay() -> None:
    made = memory(queries=20, items=5)
    for n in range(300):
        made.add(f"query{n} word{n}", f"i{n % 7}", NOW, "s")
        made.add(DRESS, f"d{n}", NOW, "s")
        made.add(DRESS, "best", NOW, f"s{n % 9}")
    held = made._queries
    assert len(held) <= 40
    assert max(len(led) for led in held.values()) <= 10
    assert recalled(made, DRESS)[0] == "best"
    made.recall([DRESS])
    assert len(made._vectors._texts) <= 40 + 1
    assert len(made._unread) <= 40


def test_a_query_that_went_and_came_again_stands_there_once() -> None:
    made = memory(queries=2)
    for _ in range(3):
        for n in range(8):
            made.add(f"other{n} words{n}", "x", NOW, f"s{n}")
            made.recall([DRESS])
        made.add(DRESS, "a", NOW + DAY, "s")
        made.recall([DRESS])
    texts = made._vectors._texts
    assert len(texts) == len(set(texts))
    assert set(texts) <= set(made._queries) | {f"other{n} words{n}" for n in range(8)} | {DRESS}


def test_more_queries_than_are_encoded_at_once_are_all_found_in_the_end() -> None:
    made = memory()
    for n in range(90):
        made.add(f"word{n} dress", f"i{n}", NOW, "s0")
        made.add(f"word{n} dress", f"i{n}", NOW, "s1")
    assert recalled(made, "word0 dress") == ["i0"]  # the query itself needs no vector
    assert not made.caught_up
    found = [recalled(made, f"word{n} dress")[0] for n in range(90)]
    assert found == [f"i{n}" for n in range(90)]
    assert made.caught_up
    assert len(made._vectors._texts) == 90


def test_what_is_cleared_is_forgotten() -> None:
    made = learnt(*[(DRESS, "a", NOW)] * 2)
    assert recalled(made, DRESS) == ["a"]
    made.clear()
    assert made.recall([DRESS]) == {}
    made.add(DRESS, "b", NOW - 50 * DAY, "s0")
    made.add(DRESS, "b", NOW - 50 * DAY, "s1")
    [found] = made.recall([DRESS])[DRESS]
    assert (found.item_id, found.weight) == ("b", pytest.approx(2))  # and so is what time it was


def test_one_thread_may_write_while_another_reads() -> None:
    made = memory(queries=10, items=3)
    done = threading.Event()

    def write() -> None:
        for n in range(4000):
            made.add(f"word{n % 50} dress", f"i{n % 9}", NOW + n, f"s{n}")
            if n == 2000:
                made.clear()
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    reads = 0
    while not done.is_set() or not reads:
        made.recall([DRESS, "word3 dress"])
        reads += 1
    writer.join()
    for who in ("s0", "s1"):
        made.add(DRESS, "last", NOW + DAY, who)
    assert recalled(made, DRESS)[0] == "last"
    assert set(made._vectors._texts) <= set(made._queries) | set(made._unread) | {DRESS}


SEARCH = Step(Kind.SEARCH, NOW, query=DRESS)


def click(ts: int = NOW + 1000, query: str | None = None) -> Step:
    return Step(Kind.CLICK, ts, "a", query)


def test_a_choice_follows_its_own_query_or_the_search_before_it() -> None:
    assert leading_query(click(query="hat"), [SEARCH]) == "hat"
    assert leading_query(click(), [SEARCH]) == DRESS
    assert leading_query(click(), [SEARCH, click()]) == DRESS
    assert leading_query(click(), [Step(Kind.SEARCH, NOW, query="hat"), SEARCH]) == DRESS
    assert leading_query(click(), []) is None
    assert leading_query(SEARCH, [SEARCH]) is None


def test_a_search_leads_so_far_and_so_long_and_never_back() -> None:
    between = [click()] * (FOLLOWED_STEPS - 1)
    assert leading_query(click(), [SEARCH, *between]) == DRESS
    assert leading_query(click(), [SEARCH, *between, click()]) is None
    assert leading_query(click(NOW + FOLLOWED_MS), [SEARCH]) == DRESS
    assert leading_query(click(NOW + FOLLOWED_MS + 1), [SEARCH]) is None
    assert leading_query(click(NOW - 1), [SEARCH]) is None


def test_a_search_is_recent_for_so_many_steps() -> None:
    after = [click()] * (RECENT_STEPS - 1)
    assert recent_query([SEARCH, *after]) == DRESS
    assert recent_query([SEARCH, *after, click()]) is None
    assert recent_query([SEARCH, click(query="hat")]) == "hat"
    assert recent_query([]) is None


def test_more_evidence_raises_more_and_never_more_than_the_most() -> None:
    adds = [Remembered("a", weight, 2).raised_by for weight in (0.0, 1.0, HALF_SURE, 100.0, 1e9)]
    assert all(one < other for one, other in itertools.pairwise(adds))
    assert adds[0] == 0
    assert adds[2] == pytest.approx(RAISE / 2)
    assert adds[-1] <= RAISE


def test_a_score_is_the_cosine_and_what_the_memory_adds() -> None:
    vector = np.array([1, 0], dtype=np.float32)
    hits = [Hit(Item(i, i, 0), score) for i, score in (("a", 0.5), ("b", 0.48), ("c", 0.3))]
    stored = {
        "far": Stored(Item("far", "far", 0), np.array([0.6, 0.8], dtype=np.float32)),
        "mute": Stored(Item("mute", "", 0), None),
    }
    adds = Remembered("b", HALF_SURE, 2).raised_by
    told = dict.fromkeys(("b", "far", "mute", "gone"), adds)
    found = [(hit.item.item_id, hit.score) for hit in raised(hits, told, stored, vector)]
    half = RAISE / 2
    assert [item_id for item_id, _ in found] == ["far", "b", "a", "mute", "c"]
    assert [score for _, score in found] == pytest.approx(
        [0.6 + half, 0.48 + half, 0.5, 0.3 + half, 0.3]
    )


def test_what_is_restored_answers_as_the_other_goes_on_to_answer() -> None:
    words = ["linen", "midi", "dress", "wool", "coat", "red"]
    picks = random.Random(5)
    one = memory(queries=8, items=3)
    for n in range(200):
        one.add(" ".join(picks.sample(words, 3)), f"i{n % 7}", NOW + n * DAY // 9, f"s{n % 5}")
        if n % 50 == 0:
            one.recall([DRESS])
    two = memory(queries=8, items=3)
    two.restore(one.dump())
    for n in range(200, 260):
        query = " ".join(picks.sample(words, 3))
        assert one.recall([query, DRESS]) == two.recall([query, DRESS])
        for each in (one, two):
            each.add(query, f"i{n % 7}", NOW + n * DAY // 9, f"s{n % 5}")
