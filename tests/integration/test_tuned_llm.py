"""A tuned LLM as serving loads it: merged, on this machine's back end, as it was trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.domain import Item, Kind, Step
from models.errors import BundleInvalid
from models.llm import body, peft_methods
from models.llm.choose import is_plain_llama
from models.llm.merge_adapter import merge
from models.llm.on_torch import TorchScorer
from models.llm.peft_methods import Tuning
from models.llm.scorer import SOFT, Branch, log_likelihoods
from models.llm.tokens import Tokenizer
from models.llm.tuned import LlmFacts, load_tuned
from models.ports import Deadline, FloatArray, Read, RerankRequest
from models.rerank import prompt
from models.rerank.likelihood import load_reranker
from models.training.llm.likelihood import TrainedLikelihood, title_loss
from models.weights import locate
from testbed.stand_ins import ManualClock
from tests import tiny_llama

METHODS = ("lora", "dora", "rslora", "ia3", "prompt", "prefix", "bitfit", "full")
HISTORY = tuple(
    Read(Step(Kind.PURCHASE, n, title), Item(title, title, 0))
    for n, title in enumerate(("Straw hat", "Boots", "Linen shirt, white"))
)
TITLES = ("Straw bag", "Wool socks", "Scarf")
CANDIDATES = tuple(Item(title, title, 0) for title in TITLES)

#: An adapter of a method: its folder, what a manifest says, and the log p of TITLES behind HISTORY.
Saved = Callable[[Path, str], tuple[Path, LlmFacts, FloatArray]]


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama.write(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    def tuned(llm: Path, method: str) -> tuple[Path, LlmFacts, FloatArray]:
        torch.manual_seed(1)
        tuning = Tuning(method, rank=4, virtual=5)
        base = body.body(llm, torch.device("cpu"), dtype=torch.float32)
        rows = body.output_rows(base, llm)
        model = peft_methods.apply(base, tuning)
        with torch.no_grad():
            for parameter in peft_methods.trainable(model):
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
        trained = TrainedLikelihood(model.eval(), rows, tuning)
        trained.save(tmp_path / "adapter", torch.float32)
        facts = LlmFacts(llm.name, locate.fingerprint(llm), "", method)
        return tmp_path / "adapter", facts, likelihoods(trained, Tokenizer(llm / "tokenizer.json"))

    return tuned


def likelihoods(trained: TrainedLikelihood, tokenize: Tokenizer) -> FloatArray:
    """As training reads them: a forward a title, in peft's own way."""
    found = []
    for item in CANDIDATES:
        text = prompt.taught(HISTORY, item, tokenize)
        last = len(prompt.candidate(item, tokenize))
        with torch.inference_mode():
            found.append(-float(title_loss(trained, [replace(text, titles=text.titles[-last:])])))
    return np.array(found, dtype=np.float32)


def asked(tokenize: Callable[[str], tuple[int, ...]]) -> Branch:
    titles = tuple(prompt.candidate(item, tokenize) for item in CANDIDATES)
    return Branch(prompt.history_prefix(HISTORY, tokenize), titles)


@pytest.mark.parametrize(
    ("method", "tied"), [*((method, True) for method in METHODS), ("lora", False)]
)
def test_a_merged_model_gives_the_likelihoods_that_were_trained(
    method: str, tied: bool, saved: Saved, tmp_path: Path
) -> None:
    llm = tiny_llama.write(tmp_path / "llm", tied=tied)
    adapter, _, expected = saved(llm, method)
    merge(llm, adapter, tmp_path)
    assert (tmp_path / SOFT).is_file() == (method in ("prompt", "prefix"))
    assert is_plain_llama(tmp_path) == (method not in ("prompt", "prefix", "bitfit"))
    scorer = TorchScorer(tmp_path, device="cpu", dtype=torch.float32)
    for _ in range(2):  # what stands in front is the same for each forward
        [found] = log_likelihoods(scorer, [asked(scorer.tokenize)])
        assert found == pytest.approx(expected, abs=2e-3)
    untuned = TorchScorer(llm, device="cpu", dtype=torch.float32)
    [plain] = log_likelihoods(untuned, [asked(untuned.tokenize)])
    assert np.abs(plain - expected).max() > 0.1


@pytest.mark.parametrize("method", ["lora", "prefix"])
def test_a_bundles_llm_is_merged_once_and_serves(
    method: str, llm: Path, saved: Saved, tmp_path: Path
) -> None:
    adapter, told, expected = saved(llm, method)
    words: list[str] = []
    for _ in range(2):
        scorer = load_tuned(adapter, told, str(llm), tmp_path, 1, words.append)
        [found] = log_likelihoods(scorer, [asked(scorer.tokenize)])
        assert found == pytest.approx(expected, rel=0.05)  # int8, mostly
    assert len([line for line in words if "merging" in line]) == 1
    reranker = load_reranker(str(llm), tmp_path, 1, words.append, told, adapter)
    endless = Deadline(ManualClock(), float("inf"))
    [scores] = reranker.score([RerankRequest(HISTORY, CANDIDATES)], endless)
    assert scores is not None
    assert np.isfinite(scores).all()
    assert reranker.name.endswith("/likelihood")


def test_another_llm_than_the_bundles_is_refused(llm: Path, saved: Saved, tmp_path: Path) -> None:
    adapter, told, _ = saved(llm, "lora")
    other = replace(told, sha256="0" * 64)
    with pytest.raises(BundleInvalid, match=r"tuned on .* with sha256 000000000000….*set WEFT_LLM"):
        load_tuned(adapter, other, str(llm), tmp_path, 1, print)
    with pytest.raises(BundleInvalid, match="validated with"):
        load_tuned(adapter, replace(other, method="none"), str(llm), tmp_path, 1, print)


def test_an_adapter_that_fits_nothing_is_refused(llm: Path, saved: Saved, tmp_path: Path) -> None:
    adapter, told, _ = saved(llm, "lora")
    (adapter / peft_methods.METHOD).write_text("{}", "utf-8")
    with pytest.raises(BundleInvalid, match=r"could not be merged: .*no adapter that is known"):
        load_tuned(adapter, told, str(llm), tmp_path, 1, print)
