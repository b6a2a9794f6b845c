from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from models.domain import Kind
from models.space.mixup import STRATEGIES, MixUpConfig
from models.space.sequence import (
    GAP_BUCKETS,
    Member,
    SequenceConfig,
    SequenceModel,
    gap_buckets,
)

CLICK, PURCHASE = Kind.CLICK.number, Kind.PURCHASE.number


def config(strategy: str = "average", **kwargs: int) -> SequenceConfig:
    return SequenceConfig(
        MixUpConfig(strategy, title_dim=4, dim=8, hidden=6), length=6, dropout=0.1, **kwargs
    )


def steps(*lengths: int, dim: int = 8) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    width = max(lengths)
    torch.manual_seed(1)
    kinds = torch.tensor([[0] * (width - n) + [CLICK] * n for n in lengths])
    inputs = normalize(torch.randn(len(lengths), width, dim), dim=-1) * (kinds > 0)[..., None]
    return inputs, kinds, kinds.clone()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_states_are_unit_vectors_of_the_items_space(strategy: str) -> None:
    model = SequenceModel(config(strategy), 3).eval()
    inputs, kinds, gaps = steps(4, 2, dim=model.config.dim)
    found = model.shopper_vectors(inputs, kinds, gaps)
    assert found.shape == (2, model.config.dim)
    assert torch.allclose(found.norm(dim=-1), torch.ones(2), atol=1e-5)


@pytest.mark.parametrize("zero_shot", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
def test_the_newest_state_alone_is_the_last_of_all(layers: int, zero_shot: bool) -> None:
    told = config(layers=layers)
    told = replace(told, mixup=replace(told.mixup, zero_shot=zero_shot))
    model = SequenceModel(told, 3).eval()
    given = steps(5, 2, dim=model.config.dim)
    alone = model.states(*given, newest=True)
    assert alone.shape == (2, 1, model.config.dim)
    assert torch.allclose(alone, model.states(*given)[:, -1:], atol=1e-6)


def test_a_state_does_not_know_what_comes_after_it() -> None:
    member = Member(config(), 3).eval()
    inputs, kinds, gaps = steps(5)
    before = member.states(inputs, kinds, gaps)
    inputs[0, 4] = -inputs[0, 4]
    after = member.states(inputs, kinds, gaps)
    assert torch.allclose(before[0, :4], after[0, :4], atol=1e-6)
    assert not torch.allclose(before[0, 4], after[0, 4], atol=1e-3)


def test_padding_changes_nothing() -> None:
    member = Member(config(), 3).eval()
    inputs, kinds, gaps = steps(5, 2)
    together = member.states(inputs, kinds, gaps)[1, -1]
    alone = member.states(inputs[1:, 3:], kinds[1:, 3:], gaps[1:, 3:])[0, -1]
    assert torch.allclose(together, alone, atol=1e-5)


def test_how_and_when_a_step_came_is_read() -> None:
    member = Member(config(), 3).eval()
    torch.nn.init.normal_(member.kinds.weight)
    torch.nn.init.normal_(member.gaps.weight)
    inputs, kinds, gaps = steps(3)
    plain = member.states(inputs, kinds, gaps)[0, -1]
    bought, later = kinds.clone(), gaps.clone()
    bought[0, 1], later[0, 1] = PURCHASE, GAP_BUCKETS - 1
    assert not torch.allclose(plain, member.states(inputs, bought, gaps)[0, -1], atol=1e-3)
    assert not torch.allclose(plain, member.states(inputs, kinds, later)[0, -1], atol=1e-3)


def test_members_are_searched_as_the_mean_of_their_cosines() -> None:
    model = SequenceModel(config(members=3), 3, torch.tensor([0, 4, 4, 4])).eval()
    rows, titles = torch.tensor([1, 2, 3]), torch.rand(3, 4)
    items = model.item_vectors(rows, titles)
    kinds = torch.full((1, 3), CLICK)
    whole = model.shopper_vectors(items[None], kinds, kinds) @ items.T
    parts = []
    for member in model.members:
        own = member.mixup(rows, titles)  # type: ignore[operator]
        parts.append(member.states(own[None], kinds, kinds)[:, -1] @ own.T)  # type: ignore[operator]
    assert torch.allclose(whole, torch.stack(parts).mean(0), atol=1e-5)


def test_gaps_are_counted_by_their_size() -> None:
    ms = np.array([0, 0, 59_000, 60_000 + 59_000 + 1, 10**9, 10**12], dtype=np.int64)
    assert gap_buckets(ms).tolist() == [1, 2, 2, 3, 9, 12]
    assert gap_buckets(np.zeros(0, dtype=np.int64)).tolist() == []
    assert max(gap_buckets(ms)) < GAP_BUCKETS


def test_a_configuration_survives_a_manifest() -> None:
    told = config("gate", members=2)
    assert SequenceConfig.from_json(told.to_json()) == told
