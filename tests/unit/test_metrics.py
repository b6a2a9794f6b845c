from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations, pairwise
from math import inf, isnan, log2

import ir_measures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.evaluation import intervals
from models.evaluation.intervals import Values
from models.evaluation.metrics import KS, Exposure, accuracy, gini, lists_of

Ints = NDArray[np.int64]


def asked(*questions: Sequence[float] | Values) -> tuple[Values, Ints]:
    """The ranks of each question's targets, flat with offsets."""
    sizes = [len(ranks) for ranks in questions]
    flat = [rank for ranks in questions for rank in ranks]
    return np.array(flat, dtype=np.float64), np.concatenate([[0], np.cumsum(sizes)])


def near(*values: Fraction | float) -> object:
    return pytest.approx([float(value) for value in values])


def listed(*lists: Sequence[int]) -> Ints:
    out = np.zeros((len(lists), max(max(map(len, lists)), 1)), dtype=np.int64)
    for row, told in zip(out, lists, strict=True):
        row[: len(told)] = told
    return out


# --- the targets' ranks


def test_a_hit_is_any_target_before_k() -> None:
    found = accuracy(*asked([4], [5], [inf, 4.5], [inf]))
    assert found["HR@5"].tolist() == [1, 0, 1, 0]
    assert found["HR@10"].tolist() == [1, 1, 1, 0]


def test_recall_is_the_share_of_all_targets_that_are_found() -> None:
    found = accuracy(*asked([0, 3, inf], [7, 12], [inf]))
    assert found["Recall@5"] == near(Fraction(2, 3), 0, 0)
    assert found["Recall@10"] == near(Fraction(2, 3), Fraction(1, 2), 0)
    assert found["Recall@20"] == near(Fraction(2, 3), 1, 0)


def test_ndcg_is_the_gain_over_that_of_the_best_order() -> None:
    # 1 / log2(4) = 1/2 for rank 2, 1 / log2(8) = 1/3 for rank 6
    found = accuracy(*asked([2], [6], [0, 2, inf]))
    assert found["NDCG@10"] == near(Fraction(1, 2), Fraction(1, 3), 1.5 / (1.5 + 1 / log2(3)))
    assert found["NDCG@5"] == near(Fraction(1, 2), 0, 1.5 / (1.5 + 1 / log2(3)))


def test_ndcg_of_more_targets_than_places_is_measured_by_the_places() -> None:
    # seven targets, five places, one of them wrong: (1 + 1/2 + gains at 3 and 4) over all five
    gains = [1 / log2(rank + 2) for rank in range(5)]
    found = accuracy(*asked([0, 2, 3, 4, 5, 6, 7]))["NDCG@5"]
    assert found == near((sum(gains) - gains[1]) / sum(gains))


def test_mrr_is_of_the_first_target_and_nothing_beyond_k() -> None:
    found = accuracy(*asked([7, 3], [9], [0.5, 0.5], [inf]))
    assert found["MRR@5"] == near(Fraction(1, 4), 0, Fraction(2, 3), 0)
    assert found["MRR@10"] == near(Fraction(1, 4), Fraction(1, 10), Fraction(2, 3), 0)


def test_map_divides_by_the_targets_that_could_have_been_found() -> None:
    # precisions 1/1 at rank 0 and 2/4 at rank 3; the third target is missing
    found = accuracy(*asked([3, 0, inf], [1], [0, 1, 2, 3, 4, 5, 6, 7]))
    assert found["MAP@5"] == near(Fraction(3, 2) / 3, Fraction(1, 2), 1)
    assert found["MAP@10"] == near(Fraction(3, 2) / 3, Fraction(1, 2), 1)


def test_a_tie_counts_at_its_mean_rank() -> None:
    # 4.5 is the mean of 4 and 5: inside five places
    found = accuracy(*asked([4.5], [5.5]))
    assert found["HR@5"].tolist() == [1, 0]
    assert found["NDCG@5"] == near(1 / log2(6.5), 0)
    assert found["MRR@5"] == near(Fraction(2, 11), 0)
    assert found["MAP@5"] == near(Fraction(2, 11), 0)


def test_targets_that_tie_find_no_more_than_there_are_places() -> None:
    # nine targets share the ranks 0 to 8: their mean, 4, is inside five places, nine are not
    found = accuracy(*asked([4.0] * 9))
    assert found["Recall@5"] == near(Fraction(5, 9))
    ideal = sum(1 / log2(rank + 2) for rank in range(5))
    assert found["NDCG@5"] == near(5 / log2(6) / ideal)
    assert found["MAP@5"] == near(Fraction(1 + 2 + 3 + 4 + 5, 5) / 5)
    assert found["Recall@10"] == near(1)


def test_an_independent_library_finds_the_same() -> None:
    random = np.random.default_rng(2)
    questions = [random.choice(150, random.integers(1, 30), replace=False) for _ in range(60)]
    # places 120 and on are of no list
    told = [np.where(ranks < 120, ranks, inf) for ranks in questions]
    found = accuracy(*asked(*told))
    names = {(q, place): f"d{place}" for q in range(60) for place in range(150)}
    qrels = [ir_measures.Qrel(str(q), names[q, int(r)], 1) for q in range(60) for r in questions[q]]
    run = [
        ir_measures.ScoredDoc(str(q), names[q, r], float(-r)) for q in range(60) for r in range(120)
    ]
    for k in KS:
        pairs = {"HR": "Success", "Recall": "R", "NDCG": "nDCG", "MRR": "RR", "MAP": "AP"}
        for ours, theirs in pairs.items():
            measure = ir_measures.parse_measure(f"{theirs}@{k}")
            values = np.zeros(60)
            for metric in ir_measures.iter_calc([measure], qrels, run):
                values[int(metric.query_id)] = metric.value
            if ours == "MAP":  # map_cut divides by all targets
                sizes = np.array([len(ranks) for ranks in questions])
                values *= sizes / np.minimum(sizes, k)
            assert found[f"{ours}@{k}"] == pytest.approx(values, abs=1e-6), f"{ours}@{k}"


@st.composite
def rankings(draw: st.DrawFn) -> tuple[Values, Ints]:
    """Targets among scores that tie often; some are not in the list."""
    questions = []
    for _ in range(draw(st.integers(1, 4))):
        scores = draw(st.lists(st.integers(0, 3), min_size=1, max_size=40))
        values = np.array(scores, dtype=np.float64)
        among = intervals.ranks(values, values)
        size = draw(st.integers(1, len(scores)))
        missing = draw(st.integers(0, 3))
        questions.append([*among[:size], *[inf] * missing])
    return asked(*questions)


@given(rankings())
def test_every_metric_lies_between_0_and_1(ranking: tuple[Values, Ints]) -> None:
    for name, values in accuracy(*ranking).items():
        assert ((values >= 0) & (values <= 1 + 1e-12)).all(), name


@given(rankings())
def test_a_longer_list_hits_and_finds_no_less(ranking: tuple[Values, Ints]) -> None:
    found = accuracy(*ranking)
    for name in ("HR", "Recall", "MRR"):
        for short, long in pairwise(KS):
            assert (found[f"{name}@{short}"] <= found[f"{name}@{long}"]).all()


@given(st.lists(st.integers(1, 130), min_size=1, max_size=5))
def test_a_perfect_list_is_worth_1(sizes: list[int]) -> None:
    found = accuracy(*asked(*(range(size) for size in sizes)))
    for name, values in found.items():
        if not name.startswith("Recall"):
            assert values == pytest.approx(1), name


@given(rankings())
def test_a_block_finds_what_the_single_questions_find(ranking: tuple[Values, Ints]) -> None:
    ranks, offsets = ranking
    found = accuracy(ranks, offsets)
    for question, (start, end) in enumerate(pairwise(offsets)):
        alone = accuracy(*asked(ranks[start:end]))
        for name, values in alone.items():
            assert found[name][question] == pytest.approx(values[0])
        some = ranks[start:end]
        assert found["HR@10"][question] == (some < 10).any()
        if (some < 10).sum() <= 10:
            gain = (1 / np.log2(some[some < 10] + 2)).sum()
            ideal = (1 / np.log2(np.arange(min(len(some), 10)) + 2)).sum()
            assert found["NDCG@10"][question] == pytest.approx(gain / ideal)


# --- the lists


def none_had(lists: Ints) -> tuple[Ints, Ints]:
    return np.zeros(0, dtype=np.int64), np.zeros(len(lists) + 1, dtype=np.int64)


def test_novelty_is_the_mean_of_the_bits_that_an_item_tells() -> None:
    # with one event more for each of four items: shares 8/16, 4/16, 1/16, 3/16
    counts = np.array([0, 7, 3, 0, 2])
    lists = listed([1, 3], [2], [])
    found = lists_of(lists, counts, np.zeros((5, 2)), *none_had(lists))
    assert found["novelty@10"][:2] == near(Fraction(1 + 4, 2), 2)
    assert isnan(found["novelty@10"][2])


def test_novelty_at_k_is_of_the_first_k() -> None:
    counts = np.array([0, 7, 3, 0, 2])
    lists = listed([1, 1, 1, 1, 1, 3])
    found = lists_of(lists, counts, np.zeros((5, 2)), *none_had(lists))
    assert found["novelty@5"] == near(1)
    assert found["novelty@10"] == near(Fraction(5 + 4, 6))


def test_diversity_is_1_less_the_mean_cosine_of_the_pairs() -> None:
    # cosines of the pairs: (1, 2) 0, (1, 3) .6, (2, 3) .8
    titles = np.array([[0, 0], [1, 0], [0, 2], [3, 4], [0, 0]], dtype=np.float16)
    lists = listed([1, 2, 3], [1, 2], [1, 1], [1, 4], [4])
    found = lists_of(lists, np.ones(5, dtype=np.int64), titles, *none_had(lists))["diversity@10"]
    assert found[:3] == pytest.approx([1 - 1.4 / 3, 1, 0], abs=1e-6)
    assert np.isnan(found[3:]).all()  # 4 has no title, so there is no pair


def test_diversity_is_what_all_pairs_say_one_by_one() -> None:
    random = np.random.default_rng(0)
    titles = random.normal(size=(50, 8)).astype(np.float16)
    lists = np.stack([random.choice(np.arange(1, 50), 20, replace=False) for _ in range(300)])
    found = lists_of(lists, np.ones(50, dtype=np.int64), titles, *none_had(lists))
    unit = titles.astype(np.float64) / np.linalg.norm(titles.astype(np.float64), axis=1)[:, None]
    for k in KS:
        for question in (0, 255, 256, 299):
            pairs = [unit[a] @ unit[b] for a, b in combinations(lists[question, :k], 2)]
            assert found[f"diversity@{k}"][question] == pytest.approx(1 - np.mean(pairs), abs=1e-4)


def test_the_repeat_share_is_of_what_the_shopper_had_and_no_other() -> None:
    lists = listed([1, 2, 3, 4], [1, 2], [])
    # the first had 2, 2, 4 and the query in row 9; the second 3
    had, offsets = np.array([2, 9, 2, 4, 3]), np.array([0, 4, 5, 5])
    found = lists_of(lists, np.ones(6, dtype=np.int64), np.zeros((6, 1)), had, offsets)
    assert found["repeat share@10"][:2] == near(Fraction(2, 4), 0)
    assert isnan(found["repeat share@10"][2])


# --- all lists


def exposed(counts: Sequence[int], *lists: Sequence[int]) -> Exposure:
    exposure = Exposure(np.array([0, *counts]))
    exposure.add(listed(*lists))
    return exposure


def test_coverage_is_of_the_items_that_have_entered() -> None:
    exposure = exposed([1] * 10, [1, 2], [2, 3], [])
    assert exposure.told()["coverage@10"] == pytest.approx(Fraction(3, 10))
    assert exposure.told(entered=6)["coverage@10"] == pytest.approx(Fraction(1, 2))


def test_exposure_adds_up_over_blocks() -> None:
    whole = exposed([3, 2, 1, 0, 0], [1, 2], [2, 3], [5])
    parts = exposed([3, 2, 1, 0, 0], [1, 2])
    parts.add(listed([2, 3], [5]))
    assert parts.told() == whole.told()


def test_gini_is_0_for_all_alike_and_the_rest_for_one_alone() -> None:
    assert gini(np.array([4, 4, 4]), 3) == 0
    assert gini(np.array([9]), 4) == pytest.approx(Fraction(3, 4))  # 1 - 1/n
    assert isnan(gini(np.zeros(0, dtype=np.int64), 4))


def test_gini_is_the_mean_difference_of_any_two_over_twice_the_mean() -> None:
    # items shown 0, 0, 1, 3 times: |differences| of all 16 pairs sum to 2 (1+3+1+3+2) = 20
    assert gini(np.array([3, 1]), 4) == pytest.approx(Fraction(20, 16) / 2)
    told = exposed([1] * 4, [1, 2], [1], [1]).told()
    assert told["gini@10"] == pytest.approx(Fraction(5, 8))


def test_the_head_share_is_what_the_most_popular_fifth_is_shown() -> None:
    counts = [50, 40, *[1] * 8]  # ten items: the head is the first two
    told = exposed(counts, [1, 2, 3], [1, 4, 5, 6, 7]).told()
    assert told["head share@10"] == pytest.approx(Fraction(3, 8))
    assert told["head share@5"] == pytest.approx(Fraction(3, 8))


def test_of_items_that_tie_for_the_head_each_counts_by_what_fits() -> None:
    counts = [50, 7, 7, 7, *[1] * 6]  # one place of the head is left for three
    assert exposed(counts, [1, 2, 9, 10]).told()["head share@10"] == pytest.approx(
        (1 + Fraction(1, 3)) / 4
    )


def test_without_events_before_the_head_is_nobody_in_particular() -> None:
    # of five that entered one is the head, and each counts by a fifth
    exposure = exposed([0] * 10, [1, 2], [3])
    assert exposure.told(entered=5)["head share@10"] == pytest.approx(Fraction(1, 5))


def test_where_nothing_is_shown_nothing_is_covered_and_nothing_is_biased() -> None:
    told = exposed([1, 2], []).told()
    assert told["coverage@10"] == 0
    assert isnan(told["gini@10"])
    assert isnan(told["head share@10"])
