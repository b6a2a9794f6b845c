from __future__ import annotations

from math import inf
from typing import Any

import numpy as np
import pytest

from models.evaluation.intervals import (
    bootstrap,
    bootstrap_sums,
    paired_difference,
    ranks,
    ties,
)
from models.ports import FloatArray


def array(*values: float) -> Any:  # of scores, and of ranks, which are float64
    return np.array(values, dtype=np.float32)


def ranked(scores: FloatArray, *targets: int) -> list[float]:
    return list(ranks(scores, scores[list(targets)]).tolist())


def test_a_rank_counts_the_better_scores() -> None:
    assert ranked(array(0.1, 0.9, 0.5), 0, 1, 2) == [2, 0, 1]


def test_a_tie_takes_the_mean_of_its_ranks() -> None:
    assert ranked(array(0.9, 0.5, 0.5, 0.5, 0.1), 2) == [2]  # of 1, 2, 3
    assert ranked(array(0.5, 0.5), 0) == [0.5]
    assert ranked(array(*[0.0] * 20), 3) == [9.5]
    scores = array(0.9, 0.5, 0.5, 0.5, 0.1)
    assert ranks(scores, scores).tolist() == [0, 2, 2, 2, 4]
    assert ranks(array(), array()).tolist() == []


def test_rows_are_ranked_each_by_itself() -> None:
    scores = np.array([[0.1, 0.9, 0.9], [0.3, 0.2, 0.1]], dtype=np.float32)
    assert ranks(scores, scores[:, 1:]).tolist() == [[0.5, 0.5], [1, 2]]


def test_what_has_no_score_is_not_listed() -> None:
    assert ranked(array(-inf, 0.5, -inf), 0, 1) == [inf, 0]


@pytest.mark.parametrize("rows", [400, 401, 403])
@pytest.mark.parametrize("dim", [3, 16, 100, 384])
def test_equal_vectors_tie_wherever_in_a_matrix_they_lie(rows: int, dim: int) -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        one, asked = random.standard_normal((2, dim)).astype(np.float32)
        items = np.tile(one / np.linalg.norm(one), (rows, 1))
        scores = items @ (asked / np.linalg.norm(asked))
        assert ranks(scores, scores).tolist() == [(rows - 1) / 2] * rows


def test_scores_that_a_dot_product_can_tell_apart_do_not_tie() -> None:
    scores = array(0.7, 0.7 + 4e-6, 0.7 - 4e-6, 0.7 + 1e-7)
    assert ranked(scores, 0, 1, 2, 3) == [1.5, 0, 3, 1.5]
    above, equal = ties(scores, scores[:1])
    assert (above.tolist(), equal.tolist()) == ([1], [2])


def test_the_scale_of_other_scores_is_their_own() -> None:
    logits = array(12.0, 12.0 + 4e-6, 11.9, -40)  # as far apart as float32 has them
    assert ranks(logits, logits, None).tolist() == [0.5, 0.5, 2, 3]
    small = array(3e-7, 2e-7, 1e-7, -inf)
    assert ranks(small, small[:3], None).tolist() == [0, 1, 2]
    counts = array(500_000, 499_999, 2, 1)
    assert ranks(counts, counts, None).tolist() == [0, 1, 2, 3]
    nothing = array(-inf, -inf)
    assert ranks(nothing, nothing, None).tolist() == [inf, inf]


def test_the_interval_of_coin_throws_is_the_binomials() -> None:
    throws = np.array([0.0, 1.0] * 50)
    interval = bootstrap(throws, seed=0)
    assert interval.mean == 0.5
    # the binomial's 95 % bounds of 100 fair throws are 40 and 60
    assert interval.low == pytest.approx(0.40, abs=0.015)
    assert interval.high == pytest.approx(0.60, abs=0.015)


def test_values_without_spread_have_an_interval_of_one_point() -> None:
    interval = bootstrap(np.full(30, 0.25), seed=1)
    assert (interval.low, interval.mean, interval.high) == pytest.approx((0.25, 0.25, 0.25))


def test_questions_of_one_shopper_are_drawn_together() -> None:
    # ten shoppers of ten like questions each know as much as ten questions, not a hundred
    shoppers = np.repeat(np.arange(10), 10)
    values = np.repeat(np.array([0.0, 1.0] * 5), 10)
    alone = bootstrap(values, seed=0)
    grouped = bootstrap(values, seed=0, groups=shoppers)
    assert grouped.mean == alone.mean == 0.5
    assert grouped.high - grouped.low > 2.5 * (alone.high - alone.low)


def test_a_paired_difference_sees_what_two_intervals_hide() -> None:
    random = np.random.default_rng(3)
    old = random.random(200)  # questions differ much
    interval = paired_difference(old + 0.01, old, seed=0)
    assert interval.low == pytest.approx(0.01)
    assert interval.high == pytest.approx(0.01)
    assert bootstrap(old, seed=0).high - bootstrap(old, seed=0).low > 0.05


def test_one_seed_gives_one_interval() -> None:
    values = np.random.default_rng(5).random(50)
    assert bootstrap(values, seed=7) == bootstrap(values, seed=7)


def test_many_metrics_have_the_intervals_that_one_has_by_itself() -> None:
    rng = np.random.default_rng(2)
    groups = rng.integers(0, 300, 2000)
    values = rng.random((2000, 2)) < np.array([0.1, 0.4])
    sums = np.stack([np.bincount(groups, values[:, n], 300) for n in range(2)], axis=1)
    counts = np.stack([np.bincount(groups, minlength=300).astype(float)] * 2, axis=1)
    for n, found in enumerate(bootstrap_sums(sums.astype(float), counts, 0)):
        alone = bootstrap(values[:, n].astype(float), 0, groups)
        assert found.mean == pytest.approx(alone.mean)
        assert found.low == pytest.approx(alone.low, abs=0.003)
        assert found.high == pytest.approx(alone.high, abs=0.003)


def test_a_metric_without_a_value_is_no_number() -> None:
    told, nothing = bootstrap_sums(np.array([[3.0, 0.0]]), np.array([[4, 0]]), 0)
    assert (told.mean, told.low, told.high) == (0.75, 0.75, 0.75)
    assert np.isnan([nothing.mean, nothing.low, nothing.high]).all()
