"""An LLM that reads each candidate, from a log to a list: trained, sealed, opened, and asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from models.bundle.files import open_bundle
from models.domain import History, Kind, Step
from models.encoder.cache import CachedEncoder
from models.errors import InvalidSettings
from models.llm.tuned import UNTUNED
from models.ports import Deadline
from models.recommend.popularity import Popularity
from models.training.data.progress import Progress, Silent
from models.training.presets import PRESETS
from models.training.run import Request, Sources, train
from stream.assemble import load_serving
from stream.serving import Serving
from stream.settings import Settings
from testbed.stand_ins import HashEncoder, ManualClock
from tests import tiny_llama
from tests.training_log import START, events, items


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama.write(tmp_path_factory.mktemp("llm"))


@pytest.fixture(scope="module", params=[UNTUNED, "lora", "prefix"])
def method(request: pytest.FixtureRequest) -> str:
    """How the LLM is tuned."""
    return str(request.param)


@pytest.fixture(scope="module")
def bundle(method: str, llm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with such an LLM, by the call that `weft train` makes."""
    folder = tmp_path_factory.mktemp("training")
    quick = PRESETS["quick"]
    preset = dataclasses.replace(
        quick,
        training=dataclasses.replace(quick.training, epochs=2),
        llm=dataclasses.replace(quick.llm, method=method, rank=4, max_tokens=6000),
        asked_llm=40,
    )
    request = Request(preset, "reading", split="last", llm=llm, llm_source=str(llm))
    stages: list[str] = []

    def bar(stage: str) -> Progress:
        stages.append(stage)
        return Silent()

    sources = Sources("a log", items, events)
    train(request, sources, HashEncoder(), folder / "out", folder / "work", print, bar)
    tuning = [] if method == UNTUNED else ["LLM"]
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
    bundle: Path, method: str, llm: Path
) -> None:
    manifest = open_bundle(bundle).manifest
    assert manifest.candidates == 20
    assert manifest.llm is not None
    assert (manifest.llm.name, manifest.llm.source, manifest.llm.method) == (
        llm.name, str(llm), method,
    )  # fmt: skip
    told = manifest.told.metrics["validation NDCG@10 gain by the likelihood reranker"]
    assert manifest.weight == 0 or told["low"] > 0
    adapter = {"adapter_config.json", "adapter_model.safetensors", "method.json"}
    assert {name for name in manifest.files if name.startswith("llm/")} == (
        {f"llm/{name}" for name in adapter} if manifest.llm.tuned else set()
    )


@pytest.mark.long
def test_a_worker_loads_it_and_its_scores_order_the_list(serving: Serving) -> None:
    catalogue = items()
    serving.index.upsert(catalogue, serving.space.item_vectors(catalogue))
    clicks = tuple(Step(Kind.CLICK, START + n, f"red-{n}") for n in range(3))
    clock = ManualClock()
    endless = Deadline(clock, float("inf"))
    [made] = serving.recommender.recommend([History(clicks)], endless)
    assert made.reranked
    assert made.model.endswith("/likelihood")
    assert not {line.item_id for line in made.items} & {"red-0", "red-1", "red-2"}
    late = Deadline(clock, clock() - 1)
    [plain] = serving.recommender.recommend([History(clicks)], late)
    assert plain.owed
    assert [line.item_id for line in plain.items] != [line.item_id for line in made.items]


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what is missing without CUDA")
def test_a_tuning_that_this_machine_cannot_do_is_refused_before_anything_is_trained(
    llm: Path, tmp_path: Path
) -> None:
    preset = PRESETS["quick"]
    preset = dataclasses.replace(preset, llm=dataclasses.replace(preset.llm, method="qlora"))
    with pytest.raises(InvalidSettings, match="qlora needs CUDA"):
        train(
            Request(preset, "never", llm=llm), Sources("a log", items, events), HashEncoder(),
            tmp_path / "out", tmp_path / "work", print, lambda _: Silent(),
        )  # fmt: skip
    assert not (tmp_path / "work").exists()
