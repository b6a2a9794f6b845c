"""An LLM that reads each candidate, from a log to a list: trained, sealed, opened, and asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.bundle import open_bundle
from models.domain import History, Kind, Step
from models.errors import BundleInvalid, InvalidSettings
from models.fake import HashEncoder, ManualClock
from models.manifest import KIND_LIKELIHOOD, KIND_LISTWISE, KIND_READER, UNTUNED, sealed
from models.popularity import Popularity
from models.ports import Deadline
from models.training.presets import PRESETS
from models.training.progress import Progress, Silent
from models.training.run import Request, Sources, train
from models.vectors import CachedEncoder
from stream.assemble import load_serving
from stream.serving import Serving
from stream.settings import Settings
from tests import tiny_bundle, tiny_llama
from tests.training_log import START, events, items


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama.write(tmp_path_factory.mktemp("llm"))


@pytest.fixture(
    scope="module",
    params=[(KIND_LIKELIHOOD, UNTUNED), (KIND_LIKELIHOOD, "lora"), (KIND_LISTWISE, "lora")],
    ids=" ".join,
)
def way(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The kind of reranker, and how its LLM is tuned."""
    kind, method = request.param
    return kind, method


@pytest.fixture(scope="module")
def bundle(way: tuple[str, str], llm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with such a reranker, by the call that `weft train` makes."""
    kind, method = way
    folder = tmp_path_factory.mktemp("training")
    quick = PRESETS["quick"]
    preset = dataclasses.replace(
        quick,
        training=dataclasses.replace(quick.training, epochs=2),
        reader=dataclasses.replace(quick.reader, method=method, rank=4, max_tokens=6000),
        asked_llm=40,
    )
    request = Request(preset, "reading", split="last", llm=llm, llm_source=str(llm), reranker=kind)
    stages: list[str] = []

    def bar(stage: str) -> Progress:
        stages.append(stage)
        return Silent()

    sources = Sources("a log", items, events)
    train(request, sources, HashEncoder(), folder / "out", folder / "work", print, bar)
    tuning = [] if method == UNTUNED else [f"{kind} reranker"]
    assert stages == ["sequence model", *tuning, "gate", "sequence model, whole log", *tuning]
    return folder / "out"


@pytest.fixture
def serving(bundle: Path, llm: Path, tmp_path: Path) -> Iterator[Serving]:
    """As a worker would serve the bundle, were its reranker given a weight."""
    settings = Settings(
        data_dir=tmp_path, llm=str(llm), rerank="always", rerank_weight=1.0, threads=1
    )
    encoder = CachedEncoder(HashEncoder(), tmp_path / "vectors.sqlite", print)
    made = load_serving(settings, encoder, Popularity(7), print, tmp_path / "index", bundle)
    yield made
    made.index.close()
    encoder.close()


@pytest.mark.long
def test_its_bundle_says_what_it_is_and_what_validation_found(
    bundle: Path, way: tuple[str, str]
) -> None:
    kind, method = way
    manifest = open_bundle(bundle).manifest
    assert manifest.kind == kind
    assert manifest.candidates == 20
    assert manifest.reader is not None
    assert (manifest.reader["method"], manifest.reader["layers"]) == (method, 0)
    assert manifest.tuned == (method != UNTUNED)
    told = manifest.told.metrics[f"validation NDCG@10 gain by the {kind} reranker"]
    assert manifest.weight == 0 or told["low"] > 0
    adapter = {"adapter_config.json", "adapter_model.safetensors", "method.json"}
    assert {name for name in manifest.files if name.startswith("reader/")} == (
        {f"reader/{name}" for name in adapter} if manifest.tuned else set()
    )


@pytest.mark.long
def test_a_worker_loads_it_and_its_scores_order_the_list(
    serving: Serving, way: tuple[str, str]
) -> None:
    catalogue = items()
    serving.index.upsert(catalogue, serving.space.item_vectors(catalogue))
    clicks = tuple(Step(Kind.CLICK, START + n, f"red-{n}") for n in range(3))
    clock = ManualClock()
    endless = Deadline(clock, float("inf"))
    [made] = serving.recommender.recommend([History(clicks)], endless)
    assert made.reranked
    assert made.model.endswith(f"/{way[0]}")
    assert not {line.item_id for line in made.items} & {"red-0", "red-1", "red-2"}
    late = Deadline(clock, clock() - 1)
    [plain] = serving.recommender.recommend([History(clicks)], late)
    assert plain.owed
    assert [line.item_id for line in plain.items] != [line.item_id for line in made.items]


@pytest.mark.parametrize(
    ("kind", "method"),
    [(KIND_READER, UNTUNED), (KIND_LISTWISE, UNTUNED), (KIND_LIKELIHOOD, "prefix")],
)
def test_a_tuning_that_a_kind_cannot_have_is_refused_before_anything_is_trained(
    kind: str, method: str, llm: Path, tmp_path: Path
) -> None:
    preset = PRESETS["quick"]
    preset = dataclasses.replace(preset, reader=dataclasses.replace(preset.reader, method=method))
    request = Request(preset, "never", llm=llm, reranker=kind)
    with pytest.raises(InvalidSettings):
        train(
            request, Sources("a log", items, events), HashEncoder(), tmp_path / "out",
            tmp_path / "work", print, lambda _: Silent(),
        )  # fmt: skip
    assert not (tmp_path / "work").exists()


def test_a_kind_that_is_not_known_is_refused() -> None:
    told = tiny_bundle.described(HashEncoder(), PRESETS["quick"].sequence)
    reader = {"llm": "tiny", "method": "lora", "llm_sha256": "0" * 64}
    assert sealed(dataclasses.replace(told, reader=reader), {}).kind == "reader"
    with pytest.raises(BundleInvalid, match="of the kind 'pairwise'"):
        sealed(dataclasses.replace(told, reader={**reader, "kind": "pairwise"}), {})
    with pytest.raises(BundleInvalid, match="a listwise must be tuned"):
        sealed(
            dataclasses.replace(
                told, reader={**reader, "kind": KIND_LISTWISE, "method": UNTUNED}
            ), {},
        )  # fmt: skip
