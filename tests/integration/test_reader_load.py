"""A trained reader as serving loads it: merged, on this machine's back end, the same vectors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models import weights
from models.domain import Item, Kind, Step
from models.errors import BundleInvalid
from models.fake import ManualClock
from models.fusion import NAT
from models.listwise import letters, listwise_prompt, load_listwise
from models.llm_tokens import Tokenizer
from models.ports import Deadline, FloatArray, Read, RerankRequest
from models.reader import HistoryReader, load_reader
from models.reader_head import load_head
from models.reader_merge import SOFT, merge
from models.reader_prompt import ReaderFormat, reader_prompt
from tests import tiny_llama

Saved = Callable[..., tuple[Path, dict[str, Any], FloatArray]]
METHODS = ("lora", "dora", "rslora", "ia3", "prompt", "prefix", "bitfit", "full")
HISTORY = tuple(
    Read(Step(Kind.PURCHASE, n, title), Item(title, title, 0))
    for n, title in enumerate(("Straw hat", "Boots", "Linen shirt, white"))
)


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama.write(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def saved(llm: Path, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """A reader tuned by a method: its folder, its section of a manifest, and its own vector."""

    def tuned(method: str, layers: int = 0) -> tuple[Path, dict[str, Any], FloatArray]:
        import torch

        from models.training import llm_body, peft_methods
        from models.training.peft_methods import Tuning
        from models.training.trained_reader import TrainedReader, states_of

        torch.manual_seed(1)
        tuning = Tuning(method, rank=4, virtual=5)
        base = llm_body.body(llm, torch.device("cpu"), layers=layers, dtype=torch.float32)
        model = peft_methods.apply(base, tuning)
        with torch.no_grad():
            for parameter in peft_methods.trainable(model):
                parameter += 0.1 * torch.randn_like(parameter)
        head = llm_body.Head(64, 8)
        reader = TrainedReader(model, head, tuning, ReaderFormat(), layers, llm, 0.07)
        folder = tmp_path_factory.mktemp(method)
        reader.save(folder, torch.float32)
        text = prompt(llm)
        told = {**reader.told(), "llm_sha256": weights.fingerprint(llm)}
        return folder, told, states_of(reader, [text])[0].float().numpy()

    return tuned


def prompt(llm: Path) -> tuple[int, ...]:
    return reader_prompt(HISTORY, ReaderFormat(), Tokenizer(llm / "tokenizer.json")).tokens


def request() -> RerankRequest:
    return RerankRequest(HISTORY, ())


def endless() -> Deadline:
    return Deadline(ManualClock(), float("inf"))


@pytest.mark.parametrize("method", METHODS)
def test_a_merged_model_gives_the_vectors_that_were_trained(
    method: str,
    llm: Path,
    saved: Saved,
    tmp_path: Path,
) -> None:
    import torch
    from safetensors.numpy import load_file

    from models.reader_torch import TorchStates

    folder, told, expected = saved(method)
    merge(llm, folder, 0, tmp_path)
    model = TorchStates(tmp_path, device="cpu", dtype=torch.float32)
    front = tmp_path / SOFT
    soft = model.keep(load_file(front)["past"]) if front.is_file() else None
    assert (soft is not None) == (method in ("prompt", "prefix"))
    reader = HistoryReader(model, load_head(folder), ReaderFormat.of(told["format"]), soft=soft)
    [vector] = reader.shopper_vectors([request()], endless())
    assert vector is not None
    assert vector == pytest.approx(expected, abs=1e-4)


def test_a_bundles_reader_is_merged_once_and_serves(
    llm: Path,
    saved: Saved,
    tmp_path: Path,
) -> None:
    folder, told, expected = saved("lora", layers=1)
    words: list[str] = []
    for _ in range(2):
        reader = load_reader(folder, told, tmp_path, 1, words.append, str(llm))
        [vector] = reader.shopper_vectors([request()], endless())
        assert vector is not None
        assert float(vector @ expected) > 0.99  # int8, mostly
        assert reader.dim == 8
        assert reader.needs_vectors
    assert len([line for line in words if "merging" in line]) == 1


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_a_listwise_rerankers_adapter_is_merged_with_the_output_layer(
    tied: bool, saved: Saved, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    llm = tiny_llama.write(tmp_path / "llm", tied=tied)
    folder, told, _ = saved("lora")
    told["llm_sha256"] = weights.fingerprint(llm)  # any LLM of its shapes will do
    reranker = load_listwise(folder, told, tmp_path, 1, print, str(llm))
    candidates = tuple(Item(title, title, 0) for title in ("Straw bag", "Wool socks", "Scarf"))
    [scores] = reranker.score([RerankRequest(HISTORY, candidates)], endless())
    merge(llm, folder, 0, tmp_path / "merged", whole=True)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    tokenize = Tokenizer(llm / "tokenizer.json")
    asked = listwise_prompt(HISTORY, candidates, tokenize)
    with torch.inference_mode():
        logits = model(torch.tensor([asked])).logits[0, -1].log_softmax(-1).numpy()
    expected = logits[list(letters(tokenize)[:3])]
    assert scores == pytest.approx(NAT * (expected - expected.mean()), abs=0.03)  # int8, mostly
    assert reranker.name.endswith("/listwise")


def test_another_llm_than_the_tuned_one_is_refused(llm: Path, saved: Saved, tmp_path: Path) -> None:
    folder, told, _ = saved("lora")
    other = tiny_llama.write(tmp_path / "other", tied=False)
    with pytest.raises(BundleInvalid, match="set WEFT_LLM"):
        load_reader(folder, told, tmp_path, 1, print, str(other))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"format": {"lines": 0}}, "unknown format"),
        ({"format": 3}, "unknown format"),
        ({"layers": "many"}, "layers"),
        ({"layers": 9}, "could not be merged"),
    ],
)
def test_a_section_that_fits_nothing_is_refused(
    changed: dict[str, Any],
    words: str,
    llm: Path,
    saved: Saved,
    tmp_path: Path,
) -> None:
    folder, told, _ = saved("lora")
    with pytest.raises(BundleInvalid, match=words):
        load_reader(folder, told | changed, tmp_path, 1, print, str(llm))
