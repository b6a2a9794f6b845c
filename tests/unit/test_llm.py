"""The packing: what may see what, where positions restart, what is scored."""

from __future__ import annotations

import numpy as np
import pytest

from models.llm.scorer import MOST_TOKENS, Branch, log_likelihoods, pack
from tests.counting_scorer import VOCABULARY, CountingScorer


def test_a_continuation_sees_the_prefix_and_itself_only() -> None:
    packed = pack([Branch((1, 2), ((3, 4, 5), (6, 7)))])
    assert packed.tokens.tolist() == [1, 2, 3, 4, 6]  # a last token is only a target
    expected = [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]
    assert packed.visible.astype(int).tolist() == expected


def test_positions_restart_behind_the_prefix() -> None:
    packed = pack([Branch((1, 2), ((3, 4, 5), (6, 7))), Branch((8,), ((9, 9),))])
    assert packed.positions.tolist() == [0, 1, 2, 3, 2, 0, 1]


def test_each_token_of_a_continuation_is_a_target_of_the_token_before_it() -> None:
    packed = pack([Branch((1, 2), ((3, 4, 5), (6,)))])
    assert packed.reads.tolist() == [1, 2, 3, 1]
    assert packed.targets.tolist() == [3, 4, 5, 6]
    assert packed.owners.tolist() == [0, 0, 0, 1]


def test_branches_do_not_see_one_another() -> None:
    packed = pack([Branch((1,), ((2, 3),)), Branch((4,), ((5, 6),))])
    assert not packed.visible[:2, 2:].any()
    assert not packed.visible[2:, :2].any()
    assert packed.owners.tolist() == [0, 0, 1, 1]


def test_a_branch_without_anything_to_score_costs_nothing() -> None:
    empty = Branch((1, 2, 3), ((), ()))
    assert empty.cost == 0
    packed = pack([empty, Branch((4,), ((), (5,)))])
    assert packed.tokens.tolist() == [4]
    assert packed.owners.tolist() == [3]


def test_the_cost_is_the_tokens_that_run_through() -> None:
    branches = [Branch((1, 2), ((3, 4, 5), (), (6,))), Branch((7,), ((8, 9),))]
    assert len(pack(branches).tokens) == sum(branch.cost for branch in branches) == 6


def test_likelihoods_are_the_sums_over_the_tokens() -> None:
    # behind (1, 1) the model has seen 1 twice: p(1) = 3 / (2 + V), then p(2) = 1 / (3 + V)
    [found] = log_likelihoods(CountingScorer(), [Branch((1, 1), ((1, 2), (), (1,)))])
    first = np.log(3 / (2 + VOCABULARY))
    assert found == pytest.approx([first + np.log(1 / (3 + VOCABULARY)), 0, first])


def test_branches_share_forwards_as_far_as_they_fit() -> None:
    scorer = CountingScorer(tokens_at_once=10)
    branches = [Branch((1,) * n, ((2,),)) for n in (4, 6, 3, 12, 1)]
    together = log_likelihoods(scorer, branches)
    assert scorer.forwards == [10, 3, 12, 1]
    alone = [log_likelihoods(CountingScorer(), [branch])[0] for branch in branches]
    assert np.concatenate(together) == pytest.approx(np.concatenate(alone))


def test_a_branch_too_long_for_a_forward_is_run_in_parts() -> None:
    scorer = CountingScorer(tokens_at_once=10)
    long = Branch((1, 2), tuple((n, n, n) for n in range(1000)))
    [found] = log_likelihoods(scorer, [long])
    assert max(scorer.forwards) <= MOST_TOKENS
    assert len(scorer.forwards) == 4  # 255 continuations of two tokens beside the prefix fit one
    [alone] = log_likelihoods(CountingScorer(), [Branch((1, 2), ((900, 900, 900),))])
    assert found[900] == pytest.approx(alone[0])
    assert found.shape == (1000,)


def test_a_prefix_too_long_for_a_forward_still_goes() -> None:
    scorer = CountingScorer(tokens_at_once=10)
    [found] = log_likelihoods(scorer, [Branch((1,) * 2 * MOST_TOKENS, ((1, 2), (2,)))])
    assert len(scorer.forwards) == 2
    assert found.shape == (2,)


def test_no_branches_have_no_likelihoods() -> None:
    assert log_likelihoods(CountingScorer(), []) == []
