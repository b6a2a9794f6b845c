"""The trained space: one vector an item, known or new, and one a shopper."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.bundle.files import open_bundle
from models.domain import History, Item, Kind, Step
from models.ports import Deadline, FloatArray
from models.recommend.popularity import Popularity
from models.recommend.recommender import Recommender
from models.space.sequence import gap_buckets
from models.space.trained import TrainedSpace
from testbed.stand_ins import HashEncoder, MemoryIndex, OverlapReranker
from tests import tiny_bundle

ENCODER = HashEncoder(24)
HOUR = 3_600_000


def item(item_id: str, title: str = "linen dress") -> Item:
    return Item(item_id, title, 0)


@pytest.fixture
def space(tmp_path: Path) -> TrainedSpace:
    tiny_bundle.write(tmp_path / "tiny", ENCODER, counts=[5, 0, 9])
    return TrainedSpace(open_bundle(tmp_path / "tiny"), ENCODER)


def one(space: TrainedSpace, asked: Item) -> FloatArray:
    (vector,) = space.item_vectors([asked])
    assert vector is not None
    return vector


def test_the_name_holds_the_encoders_and_the_bundles_id(tmp_path: Path) -> None:
    told = tiny_bundle.write(tmp_path / "tiny", ENCODER)
    space = TrainedSpace(open_bundle(tmp_path / "tiny"), ENCODER)
    assert space.name == f"hash-24/{told.id}"
    assert space.label == f"tiny@{told.id}"
    assert space.dim == 16


def test_an_items_vector_is_a_unit_mix_of_its_id_and_its_title(space: TrainedSpace) -> None:
    known, same_title = one(space, item("i1")), one(space, item("i3"))
    assert known.shape == (16,)
    assert np.linalg.norm(known) == pytest.approx(1, abs=1e-5)
    assert not np.allclose(known, same_title, atol=1e-3)
    assert not np.allclose(known, one(space, item("i1", "wool coat")), atol=1e-3)


def test_a_new_item_is_its_titles_side_at_once_and_so_is_what_is_typed(
    space: TrainedSpace,
) -> None:
    new = one(space, item("never-seen"))
    assert np.linalg.norm(new) == pytest.approx(1, abs=1e-5)
    assert new == pytest.approx(one(space, item("i2")), abs=1e-6)  # an ID without events
    assert new == pytest.approx(space.query_vectors(["linen dress"])["linen dress"], abs=1e-6)
    assert not np.allclose(new, one(space, item("i1")), atol=1e-3)


def test_a_new_items_words_count_at_once(tmp_path: Path) -> None:
    tiny_bundle.write(tmp_path / "tiny", ENCODER, words=["linen", "red"])
    space = TrainedSpace(open_bundle(tmp_path / "tiny"), ENCODER)
    tiny_bundle.write(tmp_path / "wordless", ENCODER)
    wordless = TrainedSpace(open_bundle(tmp_path / "wordless"), ENCODER)
    known, unknown = item("new", "a red hat"), item("new", "a big hat")
    assert one(space, unknown) == pytest.approx(one(wordless, unknown), abs=1e-6)
    assert not np.allclose(one(space, known), one(wordless, known), atol=1e-3)
    typed = space.query_vectors(["a red hat"])["a red hat"]
    assert one(space, known) == pytest.approx(typed, abs=1e-6)


def test_an_item_without_a_text_lives_on_its_id_alone(space: TrainedSpace) -> None:
    bare, unknown = space.item_vectors([item("i1", ""), item("i9", "")])
    assert bare is not None
    assert np.linalg.norm(bare) == pytest.approx(1, abs=1e-5)
    assert unknown is None


def test_equal_texts_are_encoded_once(space: TrainedSpace) -> None:
    before = ENCODER.encoded
    space.item_vectors([item("i1"), item("i2"), item("i3", "hat")])
    assert ENCODER.encoded - before == 2
    assert space.item_vectors([]) == []


def test_blank_queries_have_no_vector_and_known_ones_are_not_encoded_again(
    space: TrainedSpace,
) -> None:
    assert set(space.query_vectors(["  ", "", "hat"])) == {"hat"}
    before = ENCODER.encoded
    space.query_vectors(["hat"])
    assert ENCODER.encoded == before


def known_items(space: TrainedSpace) -> dict[str, FloatArray]:
    shelf = [item("i1"), item("i2", "wool coat"), item("i3", "boots")]
    vectors = space.item_vectors(shelf)
    return {i.item_id: v for i, v in zip(shelf, vectors, strict=True) if v is not None}


def test_a_shopper_is_what_the_model_says_of_the_steps(space: TrainedSpace) -> None:
    items, queries = known_items(space), space.query_vectors(["boots"])
    steps = (
        Step(Kind.CLICK, 0, item_id="i1"),
        Step(Kind.CLICK, HOUR, item_id="i3", query="boots"),  # the search, then the click
    )
    (found,) = space.shopper_vectors([History(steps)], items, queries)
    inputs = np.stack([items["i1"], queries["boots"], items["i3"]])[None]
    gaps = gap_buckets(np.array([0, HOUR, HOUR]))[None]
    wanted = space._model.shopper_vectors(
        torch.from_numpy(inputs),
        torch.tensor([[Kind.CLICK.number, Kind.SEARCH.number, Kind.CLICK.number]]),
        torch.from_numpy(gaps),
    )
    assert found == pytest.approx(wanted[0].numpy(), abs=1e-6)


def test_a_search_and_the_clicks_that_it_led_to_are_one_search(space: TrainedSpace) -> None:
    items, queries = known_items(space), space.query_vectors(["boots"])
    search = Step(Kind.SEARCH, 0, query="boots")
    clicks = [Step(Kind.CLICK, n * HOUR, item_id=f"i{n}") for n in (1, 2)]
    led = [replace(click, query="boots") for click in clicks]
    asked = [History((search, *clicks)), History((search, *led))]
    one, other = space.shopper_vectors(asked, items, queries)
    assert one == pytest.approx(other, abs=1e-6)


def test_a_shoppers_vector_does_not_depend_on_who_is_in_the_batch(space: TrainedSpace) -> None:
    items = known_items(space)
    long = History(tuple(Step(Kind.CLICK, n * HOUR, item_id=f"i{n % 3 + 1}") for n in range(30)))
    short = History((Step(Kind.PURCHASE, 0, item_id="i2"),))
    together = space.shopper_vectors([long, short, History()], items, {})
    assert together[2] is None
    for history, vector in zip((long, short), together, strict=False):
        (alone,) = space.shopper_vectors([history], items, {})
        assert vector == pytest.approx(alone, abs=1e-5)


def test_only_the_newest_steps_are_read_and_unknown_items_add_nothing(
    space: TrainedSpace,
) -> None:
    items = known_items(space)
    steps = [Step(Kind.CLICK, n * HOUR, item_id=f"i{n % 3 + 1}") for n in range(30)]
    asked = [History(tuple(steps)), History(tuple(steps[-8:]))]
    asked.append(History((*steps[:-1], Step(Kind.CLICK, 5, item_id="gone"), steps[-1])))
    first, second, third = space.shopper_vectors(asked, items, {})
    assert first == pytest.approx(second, abs=1e-6)
    assert first == pytest.approx(third, abs=1e-6)
    gone = History((Step(Kind.CLICK, 0, item_id="gone"),))
    assert space.shopper_vectors([gone], {}, {}) == [None]


@pytest.mark.parametrize("strategy", ["id", "title", "gate", "concat", "score", "residual"])
def test_every_strategy_can_be_served(tmp_path: Path, strategy: str) -> None:
    tiny_bundle.write(tmp_path / "b", ENCODER, strategy=strategy)
    space = TrainedSpace(open_bundle(tmp_path / "b"), ENCODER)
    trained, new = space.item_vectors([item("i1"), item("new")])
    assert trained is not None
    assert trained.shape == (space.dim,)
    assert (new is None) == (strategy == "id")
    assert ("hat" in space.query_vectors(["hat"])) == (strategy != "id")
    (shopper,) = space.shopper_vectors(
        [History((Step(Kind.CLICK, 0, item_id="i1"),))], {"i1": trained}, {}
    )
    assert shopper is not None
    assert np.linalg.norm(shopper) == pytest.approx(1, abs=1e-5)


def test_lists_and_their_reasons_come_from_the_trained_space(space: TrainedSpace) -> None:
    index = MemoryIndex()
    shelf = [item(f"i{n}", title) for n, title in enumerate(["hat", "linen dress", "boots"], 1)]
    index.upsert(shelf, space.item_vectors(shelf))
    recommender = Recommender(index, space, Popularity(7), OverlapReranker(), 0.4, 2, 2)
    history = History((Step(Kind.CLICK, 0, item_id="i1"), Step(Kind.SEARCH, HOUR, query="boots")))
    (made,) = recommender.recommend([history], Deadline.after(9, lambda: 0.0))
    assert made.model == f"{space.label}+overlap"
    assert {line.item_id for line in made.items} == {"i2", "i3"}
    reasons = {line.reason for line in made.items}
    assert reasons <= {"because you clicked hat", 'matches your search "boots"'}


def test_nothing_that_a_worker_imports_at_its_start_brings_torch() -> None:
    code = (
        "import sys, models.bundle.files, models.space.zero_shot, stream.worker\n"
        "assert 'torch' not in sys.modules, 'torch'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
