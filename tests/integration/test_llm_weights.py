"""The reranker with the real weights; they are made in the checkout's data folder if need be."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from models.domain import Item, Kind, Step
from models.llm.choose import load_scorer
from models.ports import Deadline, FloatArray, Read, Reranker, RerankRequest
from models.rerank import prompt
from models.rerank.fusion import NAT
from models.rerank.likelihood import LikelihoodReranker, load_reranker
from models.weights import locate

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("WEFT_DATA_DIR", ROOT / ".weft"))
BEACH = ("Linen midi dress, White Dress", "Tilda sandal, Beige Sandals", "Straw hat, Natural Hat")
WINTER = ("Wool coat, Black Coat", "Cable knit jumper, Cream Sweater", "Lined boots, Brown Boots")
CANDIDATES = (
    "Beach bag straw, Beige Bag",
    "Bikini top Mia, White Bikini top",
    "Parka padded, Dark Green Jacket",
    "Wool socks 3-pack, Grey Socks",
    "Knitted gloves, Black Gloves",
    "Off-shoulder dress, Yellow Dress",
    "Kids' pyjamas with cats, Light Blue Pyjamas",
    "Leather belt, Dark Brown Belt",
)


def item(title: str) -> Item:
    return Item(title, title, 0)


def reads(history: tuple[str, ...]) -> tuple[Read, ...]:
    return tuple(Read(Step(Kind.PURCHASE, 0, title), item(title)) for title in history)


def scores(
    reranker: Reranker, history: tuple[str, ...], candidates: tuple[str, ...] = CANDIDATES
) -> FloatArray:
    request = RerankRequest(reads(history), tuple(map(item, candidates)))
    [found] = reranker.score([request], Deadline(time.perf_counter, float("inf")))
    assert found is not None
    return found


@pytest.fixture(scope="module")
def reranker() -> LikelihoodReranker:
    found = load_reranker("", DATA, 0, print)
    assert isinstance(found, LikelihoodReranker)
    return found


@pytest.fixture(scope="module")
def exact() -> LikelihoodReranker:
    """In fp32 on torch, whatever this machine would choose."""
    torch = pytest.importorskip("torch")
    from models.llm.on_torch import TorchScorer

    scorer = TorchScorer(locate.smollm2("", DATA, print), device="cpu", dtype=torch.float32)
    return LikelihoodReranker(scorer, 0.0)


def test_a_history_lifts_what_goes_with_it(reranker: Reranker) -> None:
    summer, winter = scores(reranker, BEACH), scores(reranker, WINTER)
    lift = summer - winter
    assert lift[[0, 1, 5]].mean() > lift[[2, 3, 4]].mean()


def test_this_machines_number_type_keeps_the_ranking(
    reranker: Reranker, exact: LikelihoodReranker
) -> None:
    for history in (BEACH, WINTER):
        here, there = (np.argsort(np.argsort(scores(r, history))) for r in (reranker, exact))
        assert np.corrcoef(here, there)[0, 1] >= 0.9


def test_the_score_is_that_of_a_plain_forward_a_candidate(exact: LikelihoodReranker) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        locate.smollm2("", DATA, print), dtype=torch.float32
    ).eval()
    tokenize = load_scorer("", DATA, 0, print).tokenize

    def log_p(prefix: tuple[int, ...], text: tuple[int, ...]) -> float:
        with torch.inference_mode():
            rows = model(torch.tensor([[*prefix, *text]])).logits[0].log_softmax(-1)
        places = range(len(prefix) - 1, len(prefix) + len(text) - 1)
        return sum(float(rows[row, token]) for row, token in zip(places, text, strict=True))

    told = prompt.history_prefix(reads(BEACH), tokenize)
    general = prompt.general_prefix(tokenize)
    texts = [prompt.candidate(item(title), tokenize) for title in CANDIDATES]
    expected = [NAT * (log_p(told, text) - log_p(general, text)) / len(text) for text in texts]
    assert scores(exact, BEACH) == pytest.approx(expected, abs=1e-4)


def test_a_candidates_score_does_not_depend_on_the_others(
    reranker: LikelihoodReranker, exact: LikelihoodReranker
) -> None:
    # In int8 a last bit that falls otherwise beside others rounds otherwise, and thirty layers
    # carry it on: noise of the size of int8's own, without a direction. Scores' spread is .12.
    noise = 0.04 if "int8" in reranker.name else 0.01 if "bf16" in reranker.name else 1e-4
    for adapter, tolerance in ((exact, 1e-4), (reranker, noise)):
        adapter.forget()
        together = scores(adapter, BEACH)
        for position in (0, 3, 7):
            adapter.forget()
            alone = scores(adapter, BEACH, CANDIDATES[position : position + 1])
            assert alone[0] == pytest.approx(together[position], abs=tolerance)


def test_a_worker_without_amx_imports_no_torch_for_the_llm() -> None:
    load_scorer("", DATA, 0, print)  # so that the graph is there
    code = (
        "import sys, pathlib; from models.rerank.likelihood import load_reranker;"
        "from models.llm.choose import is_quick;"
        f"load_reranker('', pathlib.Path({str(DATA)!r}), 0, print);"
        "bad = {'torch', 'transformers', 'onnx'} & set(sys.modules);"
        "sys.exit(0 if is_quick() or not bad else f'imported {bad}')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
