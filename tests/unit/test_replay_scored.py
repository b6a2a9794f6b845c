"""Answers of scores: everything that has entered is ranked, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from stream.replay.play.scored import put_scores, put_vectors
from stream.replay.questions.answers import Answers
from stream.replay.questions.protocols import cut
from tests.replay_shop import DAY, START, ReplayShop, titles


@pytest.fixture
def shop(tmp_path: Path) -> ReplayShop:
    rows = [("click", "ana", "i0", 1), ("click", "ana", "i1", 2), ("click", "ana", "i2", 2)]
    return ReplayShop(tmp_path, titles(5), rows)


def test_ranks_are_among_all_items_and_ties_share_theirs(shop: ReplayShop, tmp_path: Path) -> None:
    baskets = cut(shop.log, "prequential").baskets
    answers = Answers(tmp_path / "answers", baskets)
    row = {item: n for n, item in enumerate(shop.log.item_ids, 1)}
    scores = torch.zeros(1, 6)
    scores[0, row["i0"]] = 9.0  # had before
    scores[0, row["i3"]] = 5.0
    scores[0, [row["i1"], row["i4"]]] = 3.0
    scores[0, row["i2"]] = 1.0
    put_scores(answers, baskets, shop.log, 0, scores.clone())
    assert answers.ranks.tolist() == [1.5, 3.0]  # i1 and i4 share the places 1 and 2; i2
    assert answers.tied.tolist() == [1, 0]
    assert answers.lists[0, :4].tolist()[0] == row["i3"]
    assert row["i0"] not in answers.lists[0]
    put_scores(answers, baskets, shop.log, 0, scores.clone(), again=True)
    assert answers.lists[0, 0] == row["i0"]
    assert answers.ranks.tolist() == [2.5, 4.0]


def test_what_has_not_entered_is_not_ranked(shop: ReplayShop, tmp_path: Path) -> None:
    baskets = cut(shop.log, "prequential").baskets
    answers = Answers(tmp_path / "answers", baskets)
    enters = np.full(6, START)
    enters[shop.log.item_ids.index("i3") + 1] = START + 3 * DAY
    enters[shop.log.item_ids.index("i2") + 1] = START + 3 * DAY
    put_scores(answers, baskets, shop.log, 0, torch.ones(1, 6), enters=enters)
    assert sorted(shop.listed(answers, 0)) == ["i1", "i4"]
    assert answers.ranks.tolist() == [0.5, np.inf]


def test_vectors_are_scored_by_their_product(shop: ReplayShop, tmp_path: Path) -> None:
    baskets = cut(shop.log, "prequential").baskets
    answers = Answers(tmp_path / "answers", baskets)
    items = torch.eye(6)
    wanted = torch.tensor([[0.0, 0.1, 0.5, 0.3, 0.2, 0.0]])
    put_vectors(answers, baskets, shop.log, wanted, items)
    order = np.argsort(-wanted[0].numpy(), kind="stable")
    had = shop.log.item_ids.index("i0") + 1
    assert [r for r in answers.lists[0].tolist() if r] == [r for r in order if r and r != had]
