from __future__ import annotations

import numpy as np
import pytest

from models.fusion import GATE_WEIGHT, blend, fuse, standardised
from models.ports import FloatArray


def scores(*values: float) -> FloatArray:
    return np.array(values, dtype=np.float32)


def test_standardised_scores_have_mean_0_and_variance_1() -> None:
    # mean 2, variance ((-1)^2 + 0 + 1^2) / 3 = 2/3
    expected = np.array([-1, 0, 1]) / np.sqrt(2 / 3)
    assert standardised(scores(1, 2, 3)) == pytest.approx(expected)


def test_the_weight_is_the_share_of_the_reranker() -> None:
    # both sides standardise to -1, 1; the reranker's the other way round
    assert fuse(scores(0, 2), scores(30, 10), 0.25) == pytest.approx([-0.5, 0.5])


def test_at_weight_0_the_retrievers_order_holds_and_at_1_the_rerankers() -> None:
    retrieved, reranked = scores(0.9, 0.8, 0.1), scores(-5, 7, 1)
    assert list(np.argsort(-fuse(retrieved, reranked, 0.0))) == [0, 1, 2]
    assert list(np.argsort(-fuse(retrieved, reranked, 1.0))) == [1, 2, 0]


def test_the_units_of_a_side_do_not_matter() -> None:
    retrieved, reranked = scores(0.2, 0.5, 0.4), scores(3, 1, 2)
    moved = fuse(retrieved * 100 - 7, reranked / 10 + 3, 0.3)
    assert moved == pytest.approx(fuse(retrieved, reranked, 0.3), abs=1e-4)


@pytest.mark.parametrize("value", [0.0, 0.1, -3.3, 1e6])
def test_a_side_that_tells_nothing_apart_changes_no_order(value: float) -> None:
    same = np.full(7, value, dtype=np.float32)
    assert not standardised(same).any()
    assert list(np.argsort(-fuse(scores(3, 1, 2, 0, 5, 4, 6), same, 0.7))) == [6, 4, 5, 0, 2, 1, 3]


def test_ties_stay_ties() -> None:
    fused = fuse(scores(0.5, 0.5, 0.1), scores(2, 2, 9), 0.4)
    assert fused[0] == fused[1]


def test_one_candidate_or_none_need_no_order() -> None:
    assert fuse(scores(0.3), scores(5), 0.5).tolist() == [0]
    assert fuse(scores(), scores(), 0.5).tolist() == []


def test_a_gain_counts_in_the_retrievers_units_at_every_weight() -> None:
    retrieved, reranked, gains = scores(0.2, 0.6), scores(30, 10), scores(0.1, 0)  # deviations .2
    assert fuse(retrieved, reranked, 0.25, gains) == pytest.approx(
        [-0.5 + 0.1 / 0.2, 0.5], abs=1e-6
    )
    assert fuse(retrieved, reranked, 1.0, gains) == pytest.approx([1 + 0.1 / 0.2, -1])
    same = scores(0.5, 0.5)
    assert fuse(same, same, 0.3, gains) == pytest.approx([0.1, 0], abs=1e-6)
    assert blend(retrieved, scores(0.4, 0.4), 0.5, gains) == pytest.approx([0.4, 0.5])


def test_the_gates_weight_is_a_share() -> None:
    assert 0 <= GATE_WEIGHT <= 1


def test_cosines_of_one_space_are_blended_as_they_are() -> None:
    retrieved, read = np.array([0.9, 0.5], np.float32), np.array([0.1, 0.7], np.float32)
    assert np.allclose(blend(retrieved, read, 0.25), [0.7, 0.55])
    assert np.allclose(blend(retrieved, read, 0), retrieved)
