"""What is popular gains on its cosine: in the models, in a list, and while validation weighs it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from models.domain import History, Item, Kind, Step
from models.ports import Deadline, FloatArray, RerankRequest, Stored
from models.recommend.popularity import Popularity
from models.recommend.recommender import Recommender
from models.recommend.trending import Trending, prior
from models.rerank.fusion import blend
from models.space.zero_shot import ZeroShotSpace
from models.training.data.log import Logged, TrainingLog
from models.training.data.splits import last_events, ranks
from models.training.data.trends import popular_before
from models.training.data.write_log import prepare
from models.training.gate import TRENDS, choose_trend
from testbed.stand_ins import HashEncoder, ManualClock, MemoryIndex
from tests.training_log import DAY, START, encode, items

NOW = 1_700_000_000_000


def test_the_prior_is_relative_to_the_most_popular() -> None:
    assert prior([9, 9, 2, 1]).tolist() == pytest.approx([1, 1, math.log(3, 10), math.log(2, 10)])
    assert prior([]).tolist() == []
    assert prior([1, 1]).tolist() == pytest.approx([math.log(2, 6)] * 2), "no fashion yet"


class Shelf:
    """Unit vectors in a plane by item, and how often each was chosen."""

    def __init__(self, **angles: float) -> None:
        self.index, self.popularity = MemoryIndex(), Popularity(7)
        for item_id, angle in angles.items():
            self.index.upsert([Item(item_id, item_id, 0)], [at(angle)])

    def chosen(self, item_id: str, times: int) -> None:
        """The day before."""
        for _ in range(times):
            self.popularity.add(item_id, NOW)
        self.popularity.add("something", NOW + DAY)


def at(degrees: float) -> FloatArray:
    turned = math.radians(degrees)
    return np.array([math.cos(turned), math.sin(turned)], dtype=np.float32)


def test_an_item_gains_for_those_whom_its_gain_is_enough_for() -> None:
    shelf = Shelf(hot=60, warm=60, plain=0)
    shelf.chosen("hot", 9)
    shelf.chosen("warm", 1)
    shelf.chosen("gone", 5)  # not in the catalogue
    trending = Trending(shelf.popularity, 0.2)
    one, other = trending.gains(shelf.index, np.stack([at(0), at(0)]), [0.6, 0.5])
    assert one == pytest.approx({"hot": 0.2})  # .5 + .2; warm has .5 + .06
    assert other == pytest.approx({"hot": 0.2, "warm": 0.2 * math.log(2, 10)})


def test_what_comes_up_later_gains_from_then_on_and_what_fell_out_does_not() -> None:
    shelf = Shelf(old=0, new=0)
    shelf.chosen("old", 1)
    trending = Trending(shelf.popularity, 0.2)
    assert set(trending.gains(shelf.index, at(0)[None], [0.0])[0]) == {"old"}
    for _ in range(3):
        shelf.popularity.add("new", NOW + 30 * DAY)  # the window has left the old one behind
    assert set(trending.gains(shelf.index, at(0)[None], [0.0])[0]) == set(), "not on the same day"
    shelf.popularity.add("new", NOW + 31 * DAY)
    assert set(trending.gains(shelf.index, at(0)[None], [0.0])[0]) == {"new"}


class Unread(MemoryIndex):
    def get(self, item_ids: Sequence[str]) -> dict[str, Stored]:
        raise AssertionError(f"nothing of {item_ids} is wanted")


def test_at_weight_0_nothing_gains_and_nothing_is_read() -> None:
    shelf = Shelf(hot=0)
    shelf.chosen("hot", 3)
    assert Trending(shelf.popularity, 0.0).gains(Unread(), at(0)[None], [-1.0]) == [{}]


def shop(trend: float) -> tuple[Recommender, MemoryIndex, Popularity]:
    encoder, index, popularity = HashEncoder(), MemoryIndex(), Popularity(28)
    titles = {"d1": "linen midi dress sand", "d2": "linen midi dress black",
              "d3": "linen midi dress red", "b1": "leather boots"}  # fmt: skip
    for item_id, title in titles.items():
        index.upsert([Item(item_id, title, 0)], list(encoder.encode([title])))
    space = ZeroShotSpace(encoder)
    recommender = Recommender(index, space, popularity, None, 0.0, 2, 2, trend=trend)
    return recommender, index, popularity


def made(recommender: Recommender) -> list[tuple[str, str]]:
    history = History((Step(Kind.CLICK, NOW, item_id="d1"),), frozenset())
    (found,) = recommender.recommend([history], Deadline.after(1.0, ManualClock()))
    return [(line.item_id, line.reason) for line in found.items]


def test_a_popular_item_joins_a_list_that_no_search_brought_it_to_and_says_why() -> None:
    recommender, _, popularity = shop(trend=1.0)
    for _ in range(9):
        popularity.add("b1", NOW)
    popularity.add("d3", NOW + DAY)
    because = "because you clicked linen midi dress sand"
    assert made(recommender)[0] == ("b1", "popular this month")
    assert made(recommender)[1][1] == because
    still = shop(trend=0.0)
    still[2].add("b1", NOW)
    assert [item_id for item_id, _ in made(still[0])] == ["d2", "d3"]


def test_a_popular_item_that_sold_out_is_in_no_list_though_its_vector_is_known() -> None:
    recommender, index, popularity = shop(trend=1.0)
    for _ in range(9):
        popularity.add("b1", NOW)
    popularity.add("d3", NOW + DAY)
    assert made(recommender)[0][0] == "b1"
    sold_out = Item("b1", "leather boots", 1, in_stock=False)
    index.upsert([sold_out], list(HashEncoder().encode(["leather boots"])))
    assert "b1" not in [item_id for item_id, _ in made(recommender)]


class Turned:
    """A shelf as a space: items are where they are, a shopper is where their last step was."""

    name, dim, label = "turned", 2, "turned"

    def query_vectors(self, queries: Sequence[str]) -> dict[str, FloatArray]:
        return {}

    def shopper_vectors(
        self, histories: Sequence[History], items: Mapping[str, FloatArray], queries: object
    ) -> list[FloatArray | None]:
        return [items.get(str(history.steps[-1].item_id)) for history in histories]

    def item_vectors(self, items: Sequence[Item]) -> list[FloatArray | None]:
        return [None] * len(items)


class Likes:
    """Scores by a table, kept: what it was asked to order."""

    name = "likes"

    def __init__(self, **likes: float) -> None:
        self.likes = likes

    def score(
        self, requests: Sequence[RerankRequest], deadline: Deadline
    ) -> list[FloatArray | None]:
        return [np.array([self.likes[c.item_id] for c in r.candidates], np.float32)
                for r in requests]  # fmt: skip

    def forget_histories(self) -> None:
        """Nothing is kept."""


def scores_of(shelf: Shelf, reranker: Likes | None, weight: float) -> list[tuple[str, float]]:
    """The list of someone who looked at s0 to s2."""
    recommender = Recommender(
        shelf.index,
        Turned(),
        shelf.popularity,
        reranker,
        weight,
        2,
        3,
        trend=0.2,
    )
    steps = tuple(Step(Kind.CLICK, NOW + n, item_id=f"s{n}") for n in range(3))
    (found,) = recommender.recommend(
        [History(steps, frozenset())], Deadline.after(1.0, ManualClock())
    )
    return [(line.item_id, line.score) for line in found.items]


def test_what_was_looked_at_hides_no_gain_of_what_comes_after_it() -> None:
    shelf = Shelf(s0=1, s1=2, s2=0, near=58, hot=59, far=80)
    shelf.chosen("hot", 9)
    (first, most), (second, next_) = scores_of(shelf, None, 0.0)
    assert (first, second) == ("hot", "near")
    assert most == pytest.approx(math.cos(math.radians(59)) + 0.2)
    assert next_ == pytest.approx(math.cos(math.radians(58)))


def test_the_llm_shares_the_order_with_the_cosine_and_the_gain_comes_on_top() -> None:
    shelf = Shelf(s0=1, s1=2, s2=0, near=58, hot=59, far=80)
    shelf.chosen("far", 9)
    likes = Likes(near=0.1, hot=0.3, far=0.2)
    found = scores_of(shelf, likes, 0.25)
    cosines = np.cos(np.radians([58, 59, 80])).astype(np.float32)
    gains = np.array([0, 0, 0.2], np.float32)
    wanted = blend(cosines, np.array([0.1, 0.3, 0.2], np.float32), 0.25, gains)
    best = sorted(zip(["near", "hot", "far"], wanted.tolist(), strict=True), key=lambda p: -p[1])
    assert [item_id for item_id, _ in found] == [item_id for item_id, _ in best[:2]]
    assert [score for _, score in found] == pytest.approx(
        [score for _, score in best[:2]], abs=1e-5
    )


def log_of(tmp_path: Path, events: list[tuple[str, float, str]]) -> TrainingLog:
    """Of (shopper, days after the start, item)."""
    rows = [Logged(u, START + round(day * DAY), Kind.CLICK, item) for u, day, item in events]
    return prepare(tmp_path / "log", items(), rows, encode)


def test_popular_is_what_was_chosen_on_earlier_days_and_never_what_comes_later(
    tmp_path: Path,
) -> None:
    log = log_of(
        tmp_path,
        [
            ("a", 0, "red-0"), ("a", 1, "red-1"), ("a", 40, "red-2"), ("a", 40.2, "red-3"),
            ("b", 39, "red-4"), ("b", 39.1, "red-4"), ("c", 39, "red-4"),
            ("b", 41, "red-5"), ("b", 42, "red-5"),
        ],
    )  # fmt: skip
    questions = last_events(log).test  # a's is on day 40, b's on day 42
    popular = popular_before(log, questions)
    told = {}
    for n, user in enumerate("ab"):
        scores = torch.zeros(1, log.items + 1)
        popular.add(scores, n, 1.0)
        told[user] = {log.item_ids[row - 1]: float(scores[0, row]) for row in rows_of(scores[0])}
    once, twice = math.log(2, 6), math.log(3, 6)
    assert told["a"] == pytest.approx({"red-4": twice})
    rest = dict.fromkeys(("red-2", "red-3", "red-5"), once)
    assert told["b"] == pytest.approx({"red-4": twice, **rest})


def rows_of(scores: torch.Tensor) -> list[int]:
    return [int(row) for row in scores.nonzero()[:, 0]]


def test_validation_weighs_popularity_and_leaves_it_out_where_it_does_not_help(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for n in range(300):  # everyone ends with what is in fashion, or with anything
        first = [f"{colour}-{rng.integers(5)}" for colour in ("red", "blue")]
        rows += [(f"u{n}", n / 10 + day / 100, item) for day, item in enumerate(first)]
        rows += [(f"u{n}", n / 10 + 0.03 + day / 100, "green-0") for day in range(2)]
    log = log_of(tmp_path, rows)
    questions = last_events(log, shortest=3).validation
    noise = torch.nn.functional.normalize(torch.randn(len(questions), 16), dim=-1)
    vectors = torch.nn.functional.normalize(torch.randn(log.items + 1, 16), dim=-1)
    helps = choose_trend(log, questions, noise, vectors, 0)
    assert helps.weight == max(TRENDS)
    assert helps.ndcg_gain.low > 0
    right = vectors[torch.from_numpy(questions.targets)]
    useless = choose_trend(log, questions, right, vectors, 0)
    assert (useless.weight, useless.ndcg_gain.mean) == (0.0, 0.0)
    assert (ranks(log, questions, right, vectors) == 0).all()
