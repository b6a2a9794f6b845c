"""What every CausalScorer promises, run on each adapter, beside transformers' plain forward."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.errors import MissingWeights
from models.llm import llama_graph
from models.llm.choose import is_plain_llama
from models.llm.scorer import Branch, CausalScorer, log_likelihoods
from models.llm.tokens import Tokenizer
from models.ports import FloatArray
from tests import tiny_llama

TITLES = ("Linen dress\n", "Wool socks 3-pack\n", "L\n", "Été à Zürich\n", "Linen dress, white\n")
HISTORY = "bought: Straw hat\nclicked: Linen shirt\nnext:"


def onnx(kind: str) -> Callable[[Path], CausalScorer]:
    def opened(folder: Path) -> CausalScorer:
        from models.llm.on_onnx import OnnxScorer

        file = folder / f"{kind}.onnx"
        llama_graph.write(folder, file, kind)
        return OnnxScorer(f"tiny-{kind}", file, folder / "tokenizer.json", threads=1)

    return opened


def torch(folder: Path) -> CausalScorer:
    from torch import float32

    from models.llm.on_torch import TorchScorer

    return TorchScorer(folder, device="cpu", dtype=float32)


#: How to open each, and how far a likelihood of about -100 may be from the plain one.
ADAPTERS: dict[str, tuple[Callable[[Path], CausalScorer], float]] = {
    "onnx-fp32": (onnx(llama_graph.FP32), 1e-3),
    "onnx-int8": (onnx(llama_graph.INT8), 2.0),
    "torch": (torch, 1e-3),
}


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama.write(tmp_path_factory.mktemp("tiny"), tied=request.param)


@pytest.fixture(scope="module", params=list(ADAPTERS))
def adapter(request: pytest.FixtureRequest, folder: Path) -> tuple[CausalScorer, float]:
    opened, tolerance = ADAPTERS[request.param]
    return opened(folder), tolerance


def branch(scorer: CausalScorer, prefix: str, *texts: str) -> Branch:
    return Branch(scorer.tokenize(prefix), tuple(scorer.tokenize(text) for text in texts))


def plain(folder: Path, asked: Branch) -> FloatArray:
    """Each continuation by a forward of its own, as transformers does it unpacked."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    sums = []
    with torch.inference_mode():
        for continuation in asked.continuations:
            tokens = torch.tensor([[*asked.prefix, *continuation]])
            log_p = model(tokens).logits[0].log_softmax(-1)
            rows = range(len(asked.prefix) - 1, tokens.shape[1] - 1)
            pairs = zip(rows, continuation, strict=True)
            sums.append(sum(log_p[row, token].item() for row, token in pairs))
    return np.array(sums, dtype=np.float32)


def test_packed_likelihoods_are_those_of_a_plain_forward_a_candidate(
    adapter: tuple[CausalScorer, float], folder: Path
) -> None:
    scorer, tolerance = adapter
    asked = branch(scorer, HISTORY, *TITLES)
    [found] = log_likelihoods(scorer, [asked])
    assert found == pytest.approx(plain(folder, asked), abs=tolerance)


def test_a_likelihood_does_not_depend_on_what_is_packed_beside_it(
    adapter: tuple[CausalScorer, float],
) -> None:
    scorer, _ = adapter
    [alone] = log_likelihoods(scorer, [branch(scorer, HISTORY, TITLES[1])])
    other = branch(scorer, "another shopper's way\n", "Boots", TITLES[1])
    [_, among] = log_likelihoods(scorer, [other, branch(scorer, HISTORY, *TITLES)])
    assert among[1] == pytest.approx(alone[0], abs=1e-3)


def test_a_marker_that_a_text_spells_out_is_text(adapter: tuple[CausalScorer, float]) -> None:
    scorer, _ = adapter
    assert len(scorer.tokenize(tiny_llama.MARKER)) == len(tiny_llama.MARKER)


def test_any_text_has_tokens(adapter: tuple[CausalScorer, float]) -> None:
    scorer, _ = adapter
    asked = branch(scorer, HISTORY, "\ud800", "👗", "\x00", "a" * 300)
    [found] = log_likelihoods(scorer, [asked])
    assert np.isfinite(found).all()
    assert (found < 0).all()


def test_a_tokenizer_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MissingWeights, match="weft models fetch"):
        Tokenizer(tmp_path / "tokenizer.json")


def test_a_folder_without_a_model_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MissingWeights, match="weft models fetch"):
        torch(tmp_path)


def test_only_a_plain_llama_is_written_as_a_graph(folder: Path, tmp_path: Path) -> None:
    assert is_plain_llama(folder)
    for change in ('"model_type": "gpt2"', '"attention_bias": true', '"hidden_act": "gelu"'):
        text = (folder / "config.json").read_text("utf-8")
        (tmp_path / "config.json").write_text(f"{text[:-1]}, {change}}}", "utf-8")
        assert not is_plain_llama(tmp_path)
