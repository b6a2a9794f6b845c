from __future__ import annotations

import numpy as np
import pytest

from models.ports import FloatArray
from models.rerank.fusion import GATE_WEIGHT, NAT, blend


def scores(*values: float) -> FloatArray:
    return np.array(values, dtype=np.float32)


def test_the_weight_is_the_share_of_the_reranker() -> None:
    assert blend(scores(0.9, 0.5), scores(0.1, 0.7), 0.25) == pytest.approx([0.7, 0.55])


def test_at_weight_0_the_retrievers_order_holds_and_at_1_the_rerankers() -> None:
    retrieved, reranked = scores(0.9, 0.8, 0.1), scores(-0.5, 0.7, 0.1)
    assert list(np.argsort(-blend(retrieved, reranked, 0.0))) == [0, 1, 2]
    assert list(np.argsort(-blend(retrieved, reranked, 1.0))) == [1, 2, 0]


def test_a_retriever_that_is_sure_is_followed_and_one_that_is_not_is_not() -> None:
    reranked = scores(0.0, 0.1)
    assert blend(scores(0.9, 0.3), reranked, 0.5).argmax() == 0
    assert blend(scores(0.61, 0.6), reranked, 0.5).argmax() == 1


@pytest.mark.parametrize("value", [0.0, 0.1, -3.3])
def test_a_side_that_tells_nothing_apart_changes_no_order(value: float) -> None:
    same = np.full(7, value, dtype=np.float32)
    assert list(np.argsort(-blend(scores(3, 1, 2, 0, 5, 4, 6), same, 0.7))) == [6, 4, 5, 0, 2, 1, 3]


def test_ties_stay_ties() -> None:
    fused = blend(scores(0.5, 0.5, 0.1), scores(0.2, 0.2, 0.9), 0.4)
    assert fused[0] == fused[1]


def test_no_candidates_have_no_order() -> None:
    assert blend(scores(), scores(), 0.5).tolist() == []


def test_a_gain_counts_in_the_retrievers_units_at_every_weight() -> None:
    retrieved, reranked, gains = scores(0.2, 0.6), scores(0.4, 0.4), scores(0.1, 0)
    for weight in (0.0, 0.5, 1.0):
        plain = blend(retrieved, reranked, weight)
        assert blend(retrieved, reranked, weight, gains) == pytest.approx(plain + gains)


def test_the_gates_weight_is_a_share_and_a_nat_counts_something() -> None:
    assert 0 <= GATE_WEIGHT <= 1
    assert 0 < NAT < 1
