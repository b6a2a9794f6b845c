import pytest
import torch
from torch.nn.functional import normalize

from models.space.mixup import STRATEGIES, MixUp, MixUpConfig

TITLED = torch.tensor([[1.0, 2.0, 0.5, 0.0], [0.3, -1.0, 2.0, 1.0], [0.0, 0.0, 0.0, 0.0]])


def mixer(strategy: str, counts: list[float] | None = None) -> MixUp:
    torch.manual_seed(0)
    config = MixUpConfig(strategy, title_dim=4, dim=6, hidden=5)
    counts = [0, 30, 2, 7] if counts is None else counts
    mix = MixUp(config, 3, torch.tensor(counts)).eval()
    if mix.ids is not None:
        torch.nn.init.normal_(mix.ids.weight)
    return mix


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_vectors_have_length_one_or_are_nothing(strategy: str) -> None:
    made = mixer(strategy)(torch.tensor([1, 2, 3]), TITLED)
    lengths = made.norm(dim=-1)
    assert made.shape == (3, MixUpConfig(strategy, dim=6).out_dim)
    assert all(abs(length - 1) < 1e-5 or length == 0 for length in lengths.tolist())


@pytest.mark.parametrize("strategy", [s for s in STRATEGIES if s not in ("id", "concat")])
def test_an_item_without_a_trained_id_is_its_titles_side_alone(strategy: str) -> None:
    mix = mixer(strategy, [0, 0, 2, 7])
    unseen, without_row = mix(torch.tensor([1, 0]), TITLED[[0, 0]])
    title = normalize(mix.title(TITLED[:1]), dim=-1)[0]  # type: ignore[misc]
    side = torch.cat([torch.zeros(6), title]) if strategy == "score" else title
    assert torch.allclose(unseen, side, atol=1e-6)
    assert torch.allclose(without_row, side, atol=1e-6)


@pytest.mark.parametrize("strategy", [s for s in STRATEGIES if s != "id"])
def test_words_tell_titles_apart_that_the_encoder_does_not(strategy: str) -> None:
    torch.manual_seed(0)
    mix = MixUp(MixUpConfig(strategy, title_dim=4, dim=6, hidden=5, words=3), 3).eval()
    rows, titles = torch.zeros(4, dtype=torch.long), TITLED[[0, 0, 0, 0]]
    words = torch.tensor([[1, 2], [1, 3], [2, 1], [0, 0]])
    plain = mix(rows, titles)
    assert torch.equal(mix(rows, titles, words), plain)  # nothing is learnt of them yet
    torch.nn.init.normal_(mix.title.words.weight[1:])  # type: ignore[union-attr]
    mix.weigh(torch.tensor([1.0, 2.0, 3.0]))
    red_dress, red_coat, dress_red, bare = mix(rows, titles, words)
    assert not torch.allclose(red_dress, red_coat, atol=1e-3)
    assert torch.allclose(red_dress, dress_red, atol=1e-6)  # their order says nothing
    assert torch.allclose(bare, plain[0], atol=1e-6)
    assert not torch.allclose(red_dress, bare, atol=1e-3)


def test_concat_gives_an_item_without_a_trained_id_one_vector_whatever_its_row() -> None:
    mix = mixer("concat", [0, 0, 0, 7])
    first, second, none = mix(torch.tensor([1, 2, 0]), TITLED[[0, 0, 0]])
    assert torch.allclose(first, second, atol=1e-6)
    assert torch.allclose(first, none, atol=1e-6)


def test_id_only_knows_nothing_of_an_item_that_was_not_trained() -> None:
    made = mixer("id", [0, 0, 2, 7])(torch.tensor([1, 0]), TITLED[:2])
    assert not made.any()


@pytest.mark.parametrize("strategy", ["average", "count", "beta", "gate", "score"])
def test_a_trained_item_without_a_title_is_its_id_alone(strategy: str) -> None:
    mix = mixer(strategy)
    (made,) = mix(torch.tensor([3]), TITLED[2:])
    own = normalize(mix.ids.weight[3], dim=-1)  # type: ignore[union-attr]
    side = torch.cat([own, torch.zeros(6)]) if strategy == "score" else own
    assert torch.allclose(made, side, atol=1e-6)


def test_by_count_an_item_grows_from_its_title_into_its_id() -> None:
    mix = mixer("count", [0, 1, 50, 5000])
    title = normalize(mix.title(TITLED[:1]), dim=-1)[0]  # type: ignore[misc]
    cosines = mix(torch.tensor([1, 2, 3]), TITLED[[0, 0, 0]]) @ title
    ids = normalize(mix.ids.weight[1:], dim=-1) @ title  # type: ignore[union-attr]
    far = (cosines - ids) / (1 - ids)  # 1 at the title, 0 at the ID
    assert far[0] > far[1] > far[2]


def test_scores_of_both_sides_add_up() -> None:
    mix = mixer("score")
    one, two = mix(torch.tensor([1, 2]), TITLED[:2])
    e, t = one[:6] @ two[:6], one[6:] @ two[6:]
    ids = normalize(mix.ids.weight[1:3], dim=-1)  # type: ignore[union-attr]
    titles = normalize(mix.title(TITLED[:2]), dim=-1)  # type: ignore[misc]
    assert torch.isclose(e, 0.5 * (ids[0] @ ids[1]), atol=1e-6)
    assert torch.isclose(t, 0.5 * (titles[0] @ titles[1]), atol=1e-6)


def test_beta_draws_while_training_only() -> None:
    mix = mixer("beta")
    rows = torch.tensor([1, 2])
    assert torch.equal(mix(rows, TITLED[:2]), mix(rows, TITLED[:2]))
    mix.train()
    assert not torch.equal(mix(rows, TITLED[:2]), mix(rows, TITLED[:2]))


def test_a_residual_begins_as_the_title_alone() -> None:
    config = MixUpConfig("residual", title_dim=4, dim=6, hidden=5)
    mix = MixUp(config, 3, torch.tensor([0, 30, 2, 7])).eval()
    title = normalize(mix.title(TITLED[:1]), dim=-1)[0]  # type: ignore[misc]
    assert torch.allclose(mix(torch.tensor([1]), TITLED[:1])[0], title, atol=1e-6)


def test_the_titles_share_can_be_set_by_class_of_item() -> None:
    mix = mixer("average", [0, 30, 2, 7])
    mix.shares[:] = torch.tensor([1.0, 0.5, 0.0])  # seldom, some, often
    often, seldom, _ = mix(torch.tensor([1, 2, 3]), TITLED[[0, 0, 0]])
    title = normalize(mix.title(TITLED[:1]), dim=-1)[0]  # type: ignore[misc]
    own = normalize(mix.ids.weight[1], dim=-1)  # type: ignore[union-attr]
    assert torch.allclose(often, own, atol=1e-6)
    assert torch.allclose(seldom, title, atol=1e-6)


def test_an_unknown_strategy_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"'mean'.*average"):
        MixUpConfig("mean")
