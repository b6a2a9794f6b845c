"""The recommender on the fakes: a shelf of a few dresses, shoes and coats."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from models.domain import History, Item, Kind, Recommendation, Step
from models.errors import IndexUnavailable
from models.ports import Deadline, FloatArray, Hit, RerankRequest, Stored
from models.recommend.popularity import Popularity
from models.recommend.recommender import Recommender
from models.recommend.rules import Rules
from models.space.zero_shot import ZeroShotSpace
from testbed.stand_ins import HashEncoder, ManualClock, MemoryIndex, OverlapReranker

NOW = 1_700_000_000_000
SHELF = {
    "d1": "linen midi dress sand",
    "d2": "linen midi dress black",
    "d3": "linen maxi dress sand",
    "d4": "cotton midi dress white",
    "s1": "leather ankle boots brown",
    "s2": "leather ankle boots black",
    "s3": "suede chelsea boots tan",
    "c1": "wool coat grey",
    "c2": "wool coat camel",
    "c3": "rain coat yellow",
}


class CountingIndex(MemoryIndex):
    """A MemoryIndex that counts its calls and remembers the limits that it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.gets = 0
        self.limits: list[int] = []

    def get(self, item_ids: Sequence[str]) -> dict[str, Stored]:
        self.gets += 1
        return super().get(item_ids)

    def search(self, vectors: FloatArray, limit: int) -> list[list[Hit]]:
        self.limits.append(limit)
        return super().search(vectors, limit)


class ScriptedReranker:
    """Prefers items by a table; keeps the requests that it was asked."""

    name = "scripted"

    def __init__(self, likes: dict[str, float]) -> None:
        self.likes = likes
        self.requests: list[RerankRequest] = []

    def score(
        self, requests: Sequence[RerankRequest], deadline: Deadline
    ) -> list[FloatArray | None]:
        self.requests.extend(requests)
        rows = [[self.likes.get(c.item_id, 0.0) for c in r.candidates] for r in requests]
        return [np.array(row, dtype=np.float32) for row in rows]

    def forget_histories(self) -> None:
        """Nothing is kept."""


class Shop:
    """The parts, and a recommender made of them."""

    def __init__(
        self,
        reranker: OverlapReranker | ScriptedReranker | None = None,
        weight: float = 0.5,
        list_size: int = 4,
        candidates: int = 6,
        *,
        bought: str = "hide",
    ) -> None:
        self.encoder = HashEncoder()
        self.index = CountingIndex()
        self.popularity = Popularity(days=7)
        self.clock = ManualClock()
        for age, (item_id, title) in enumerate(reversed(SHELF.items())):
            self.add(item_id, title, ts=NOW + age)
        self.recommender = Recommender(
            self.index,
            ZeroShotSpace(self.encoder),
            self.popularity,
            reranker,
            weight,
            list_size,
            candidates,
            rules=Rules(bought=bought),
        )

    def add(self, item_id: str, title: str, ts: int = NOW, in_stock: bool = True) -> None:
        vectors = list(self.encoder.encode([title])) if title else [None]
        self.index.upsert([Item(item_id, title, ts, in_stock=in_stock)], vectors)

    def lists(self, *histories: History, seconds: float = 1.0) -> list[Recommendation]:
        return self.recommender.recommend(histories, Deadline.after(seconds, self.clock))

    def ids(self, history: History) -> list[str]:
        return [line.item_id for line in self.lists(history)[0].items]


def clicked(*item_ids: str, bought: Sequence[str] = ()) -> History:
    steps = [Step(Kind.CLICK, NOW + n, item_id=item_id) for n, item_id in enumerate(item_ids)]
    return History(tuple(steps), frozenset(bought))


def searched(query: str) -> History:
    return History((Step(Kind.SEARCH, NOW, query=query),))


def test_a_click_brings_what_is_like_it_and_says_so() -> None:
    (made,) = Shop().lists(clicked("d1"))
    assert {line.item_id for line in made.items[:3]} == {"d2", "d3", "d4"}
    assert made.items[0].reason == "because you clicked linen midi dress sand"
    assert made.items[0].source == "retrieval"
    assert not made.reranked
    assert made.model == "hash-64/recency-mean"


def test_a_search_counts_as_a_title() -> None:
    (made,) = Shop().lists(searched("leather boots"))
    assert {line.item_id for line in made.items[:2]} == {"s1", "s2"}
    assert made.items[0].reason == 'matches your search "leather boots"'


def test_each_reason_is_the_step_that_the_item_is_nearest_to() -> None:
    history = History((*clicked("c1").steps, Step(Kind.SEARCH, NOW + 9, query="ankle boots")))
    (made,) = Shop(list_size=8).lists(history)
    reasons = {line.item_id: line.reason for line in made.items}
    assert reasons["c2"] == "because you clicked wool coat grey"
    assert reasons["s1"] == 'matches your search "ankle boots"'


def test_what_was_bought_or_is_out_of_stock_is_not_in_the_list() -> None:
    shop = Shop(list_size=10)
    shop.add("d3", SHELF["d3"], ts=NOW + 100, in_stock=False)
    ids = shop.ids(clicked("d1", bought=["d2"]))
    assert "d2" not in ids
    assert "d3" not in ids
    assert len(ids) == 8


def test_where_bought_items_are_shown_they_stand_where_their_score_says() -> None:
    shop = Shop(list_size=10, bought="show")
    steps = (Step(Kind.CLICK, NOW, item_id="c1"), Step(Kind.PURCHASE, NOW + 1, item_id="d1"))
    (made,) = shop.lists(History(steps, bought=frozenset({"d1"})))
    assert made.items[0].item_id == "d1"
    assert made.items[0].reason == "you bought this before"
    assert made.items[-1].item_id == "c1", "looked at, not bought: after all that is new"


def test_where_bought_items_are_shown_they_may_fill_a_list_up_as_popular_ones() -> None:
    bought_alone = History(bought=frozenset({"s1"}))
    for bought in ("hide", "show"):
        shop = Shop(bought=bought)
        shop.popularity.add("s1", NOW)
        assert ("s1" in shop.ids(bought_alone)) is (bought == "show")


def test_what_was_clicked_comes_after_all_that_is_new_to_the_shopper() -> None:
    shop = Shop(list_size=10)
    (made,) = shop.lists(clicked("d1", "c1"))
    assert {line.item_id for line in made.items[-2:]} == {"d1", "c1"}
    assert made.items[-1].reason == "you looked at this lately"


def test_bought_items_are_made_up_for_by_fetching_more() -> None:
    shop = Shop(list_size=4)
    bought = [i for i in SHELF if i.startswith("d")]
    made = shop.lists(clicked("d1", bought=bought))[0]
    assert len(made.items) == 4
    assert not {line.item_id for line in made.items} & set(bought)
    assert all(line.source == "retrieval" for line in made.items)


def test_over_fetching_is_bounded_however_much_was_bought() -> None:
    shop = Shop(list_size=4)
    shop.lists(clicked("d1", bought=[f"bought-{n}" for n in range(5000)]))
    assert shop.index.limits == [204]


def test_a_shopper_of_whom_nothing_is_known_sees_what_is_popular_then_what_is_new() -> None:
    shop = Shop()
    for item_id in ["c3", "s1", "c3", "gone from the shelf"]:
        shop.popularity.add(item_id, NOW)
    (made,) = shop.lists(History())
    assert [(line.item_id, line.source) for line in made.items] == [
        ("c3", "popularity"), ("s1", "popularity"), ("d1", "new"), ("d2", "new"),
    ]  # fmt: skip
    assert made.items[0].reason == "popular this week"
    assert made.items[-1].reason == "new in"


def test_an_unknown_item_counts_from_the_moment_it_arrives() -> None:
    shop = Shop()
    history = clicked("later")
    assert {line.source for line in shop.lists(history)[0].items} == {"new"}
    shop.add("later", "wool coat navy")
    assert set(shop.ids(history)[:2]) == {"c1", "c2"}


def test_an_item_without_a_text_is_reachable_by_popularity() -> None:
    shop = Shop()
    shop.add("mute", "")
    shop.popularity.add("mute", NOW)
    assert shop.ids(History())[0] == "mute"
    assert len(shop.ids(clicked("mute"))) == 4


def test_an_empty_index_gives_an_empty_list() -> None:
    shop = Shop()
    shop.index.delete(list(SHELF))
    assert shop.lists(clicked("d1"), History())[0].items == ()


def test_a_list_has_each_item_once_and_scores_that_never_rise() -> None:
    shop = Shop(OverlapReranker(), list_size=10)
    for item_id in SHELF:
        shop.popularity.add(item_id, NOW)
    for made in shop.lists(clicked("d1"), searched("boots"), History(), clicked("gone")):
        ids = [line.item_id for line in made.items]
        scores = [line.score for line in made.items]
        assert len(ids) == len(set(ids)) == 10
        assert scores == sorted(scores, reverse=True)


def test_the_reranker_changes_the_order_and_the_list_says_so() -> None:
    reranker = ScriptedReranker({"d4": 9.0})
    shop = Shop(reranker, weight=0.9)
    (made,) = shop.lists(clicked("d1"))
    assert made.items[0].item_id == "d4"
    assert made.reranked
    assert made.model == "hash-64/recency-mean+scripted"
    assert len(reranker.requests[0].candidates) == 6


def test_of_a_list_longer_than_the_candidates_the_rest_follows_in_the_retrievers_order() -> None:
    reranker = ScriptedReranker({"d4": 9.0})
    alone = Shop(list_size=6).ids(clicked("d1"))
    shop = Shop(reranker, weight=0.9, list_size=6, candidates=3)
    (made,) = shop.lists(clicked("d1"))
    ids = [line.item_id for line in made.items]
    assert [len(request.candidates) for request in reranker.requests] == [3]
    assert ids[0] == "d4"
    assert sorted(ids[:3]) == sorted(alone[:3])
    assert ids[3:] == alone[3:]
    scores = [line.score for line in made.items]
    assert scores == sorted(scores, reverse=True)


def test_a_long_lists_first_lines_have_reasons_of_their_own_and_the_others_a_general_one() -> None:
    shop = Shop(list_size=30)
    for n in range(40):
        shop.add(f"more{n}", f"linen midi dress number {n}")
    gets = shop.index.gets
    (made,) = shop.lists(clicked("d1"))
    retrieved = [line for line in made.items if line.source == "retrieval"]
    assert len(retrieved) == 30
    assert {line.reason for line in retrieved[:20]} == {"because you clicked linen midi dress sand"}
    assert {line.reason for line in retrieved[20:]} == {"like what you looked at lately"}
    assert shop.index.gets - gets == 2


def test_the_reranker_reads_the_known_steps_and_never_what_was_bought() -> None:
    reranker = ScriptedReranker({})
    shop = Shop(reranker)
    history = History(
        (*clicked("d1", "unknown").steps, Step(Kind.SEARCH, NOW + 5, query="sand dress")),
        frozenset({"d2"}),
    )
    shop.lists(history)
    (request,) = reranker.requests
    assert [read.item.item_id if read.item else read.step.query for read in request.history] == [
        "d1", "sand dress",
    ]  # fmt: skip
    assert not {"d1", "d2"} & {item.item_id for item in request.candidates}


def test_at_weight_nought_the_reranker_is_not_asked() -> None:
    reranker = ScriptedReranker({})
    shop = Shop(reranker, weight=0.0)
    assert not shop.recommender.wants_rerank
    assert not shop.lists(clicked("d1"))[0].reranked
    assert reranker.requests == []


def test_out_of_time_the_first_lists_are_reranked_and_all_go_out() -> None:
    clock = ManualClock()
    reranker = OverlapReranker(seconds=0.4, sleep=clock.advance)
    shop = Shop(reranker)
    shop.clock = clock
    made = shop.lists(clicked("d1"), clicked("s1"), clicked("c1"), seconds=1.0)
    assert [one.reranked for one in made] == [True, True, False]
    assert [one.owed for one in made] == [False, False, True]
    assert all(len(one.items) == 4 for one in made)
    assert "+" not in made[2].model


def test_past_the_deadline_the_reranker_is_not_asked() -> None:
    reranker = ScriptedReranker({})
    shop = Shop(reranker)
    (made,) = shop.lists(clicked("d1"), seconds=0.0)
    assert not made.reranked
    assert made.owed
    assert len(made.items) == 4
    assert reranker.requests == []


def test_a_failing_reranker_costs_the_order_and_not_the_list() -> None:
    reranker = OverlapReranker()
    reranker.failures = 1
    shop = Shop(reranker)
    first, again = shop.lists(clicked("d1"))[0], shop.lists(clicked("d1"))[0]
    assert (first.reranked, first.owed) == (False, True)
    assert (again.reranked, again.owed) == (True, False)
    assert len(first.items) == 4


def test_scores_that_are_no_numbers_are_not_used() -> None:
    shop = Shop(ScriptedReranker({"d4": float("nan")}))
    (made,) = shop.lists(clicked("d1"))
    assert (made.reranked, made.owed) == (False, False)
    assert all(np.isfinite(line.score) for line in made.items)


def test_a_popular_list_is_neither_reranked_nor_owed_it() -> None:
    shop = Shop(OverlapReranker())
    popular, retrieved = shop.lists(History(), clicked("d1"))
    assert (popular.reranked, popular.owed) == (False, False)
    assert retrieved.reranked


def test_without_a_reranker_nothing_is_owed() -> None:
    assert not Shop(None).lists(clicked("d1"))[0].owed


def test_an_index_that_is_away_is_the_callers_to_retry() -> None:
    shop = Shop()
    shop.index.outage = 1
    with pytest.raises(IndexUnavailable):
        shop.lists(clicked("d1"))


def test_a_batch_costs_as_many_calls_as_one_shopper() -> None:
    shop = Shop()
    before = shop.encoder.encoded
    shop.lists(*[clicked("d1"), searched("boots"), searched("coat"), searched("boots")] * 10)
    assert (shop.index.gets, len(shop.index.limits)) == (2, 1)
    assert shop.encoder.encoded - before == 2


def test_a_query_is_encoded_once_and_a_blank_one_never() -> None:
    shop = Shop()
    before = shop.encoder.encoded
    for _ in range(3):
        shop.lists(searched("boots"), searched("  "))
    assert shop.encoder.encoded - before == 1


def test_no_shoppers_no_lists() -> None:
    assert Shop().lists() == []
