"""What is asked about the held-out days, and how the ways are compared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.domain import History, Item, Kind, Step
from models.fake import HashEncoder, MemoryIndex
from models.popularity import Popularity
from models.recommender import Recommender
from models.zero_shot import ZeroShotSpace
from stream.demo_gain import Question, answered, asked, compared, lines
from stream.sample import DAY_MS, DAYS, START_MS, Shop, shop

BEGIN = START_MS + DAYS * DAY_MS


@pytest.fixture(scope="module")
def made() -> Shop:
    return shop(products=800, arrivals=20, held_out=200)


@pytest.fixture(scope="module")
def questions(made: Shop) -> list[Question]:
    return asked(made, shoppers=20)


def question(shopper: str, seen: str, answer: str, held_out: bool = False) -> Question:
    return Question(shopper, History((Step(Kind.CLICK, 0, seen),)), answer, held_out)


def test_each_question_is_asked_before_its_answer_is_known(questions: list[Question]) -> None:
    assert len(questions) > 50
    for asked_now in questions:
        assert asked_now.history.steps
        assert asked_now.answer not in {step.item_id for step in asked_now.history.steps}
        assert asked_now.answer not in asked_now.history.bought


def test_the_training_days_are_history_and_the_collection_is_only_ever_held_out(
    made: Shop, questions: list[Question]
) -> None:
    firsts = {q.shopper: q for q in reversed(questions)}
    assert any(q.history.steps[-1].ts < BEGIN for q in firsts.values())
    collection = {product.item.item_id for product in made.held_out}
    assert {q.answer in collection for q in questions} == {True, False}
    assert all(q.held_out == (q.answer in collection) for q in questions)
    for q in questions:
        before = [step for step in q.history.steps if step.ts < BEGIN]
        assert not {step.item_id for step in before} & collection


def test_of_each_shopper_the_first_questions_are_asked(
    made: Shop, questions: list[Question]
) -> None:
    some = asked(made, shoppers=20, each=2)
    for shopper in {q.shopper for q in questions}:
        mine = [q for q in questions if q.shopper == shopper]
        assert [q for q in some if q.shopper == shopper] == mine[:2]


def test_an_answers_rank_is_its_place_in_the_live_list() -> None:
    words = ["red dress", "red skirt", "blue dress", "green hat", "grey hat"]
    items = [Item(word, word, 0) for word in words]
    space, index = ZeroShotSpace(HashEncoder()), MemoryIndex()
    index.upsert(items, space.item_vectors(items))
    recommender = Recommender(index, space, Popularity(1), None, 0.0, 3, 0)
    all_of_them = [question("u", "red dress", word) for word in words[1:]]
    all_of_them += [replace(question("v", "green hat", "grey hat"))]
    ranks = answered(recommender, all_of_them)
    assert sorted(ranks[:2]) == [0, 1]  # each shares a word
    assert np.isinf(ranks[2:4]).sum() >= 1  # three are shown, with what was seen
    assert ranks[4] == 0
    assert np.isinf(answered(recommender, all_of_them, going=lambda: False)).all()


def test_gains_are_paired_and_over_the_first_way() -> None:
    asked_all = [question(s, "a", "b", new) for s, new in [("u", True), ("u", False), ("v", False)]]
    inf = np.inf
    found = {
        "zero-shot retriever": np.array([inf, 0.0, 1.0]),
        "tuned retriever": np.array([2.0, 0.0, inf]),
    }
    gain = compared(found, asked_all)
    first, second = gain.ways
    assert (gain.questions, gain.shoppers, gain.held_out) == (3, 2, 1)
    assert first.hit_rate.mean == second.hit_rate.mean == pytest.approx(2 / 3)
    assert (first.held_out, second.held_out) == (0.0, 1.0)
    assert first.ndcg.mean == pytest.approx((0 + 1 + 1 / np.log2(3)) / 3)
    assert second.ndcg_gain.mean == pytest.approx((0.5 + 0 - 1 / np.log2(3)) / 3)
    assert first.ndcg_gain.mean == first.ndcg_gain.low == first.ndcg_gain.high == 0
    assert second.hit_gain.low == pytest.approx(-1)  # v alone: shoppers are drawn, not questions


def test_the_words_say_what_is_invented_and_give_each_gain_with_its_interval() -> None:
    asked_all = [question("u", "a", "b", True), question("v", "a", "b")]
    told = list(lines(compared({"one": np.array([0.0, 3]), "two": np.array([0.0, 0])}, asked_all)))
    assert told[0].startswith("2 held-out questions of 2 shoppers, 1 of them on the held-out")
    assert "Synthetic: this shows the mechanism, not quality." in told[0]
    assert told[1] == "one: HR@10 1.000, NDCG@10 .715; on the collection HR@10 1.000"
    assert "gains +.000 [+.000, +.000] and +.285 [+.000, +.569]" in told[2]
