"""What every StateModel promises, run on each back end, beside transformers' plain forward."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models import llm_graph, reader_graph
from models.llm import Tokens
from models.ports import FloatArray
from models.reader_states import Segment, StateModel
from tests import tiny_llama

TEXT = "Bought:\nStraw hat\nLinen shirt\nSearched for:\nsun hat\nClicked:\nÉté à Zürich\n"
OTHERS = ("Bought:\nBoots\n", "L", "Searched for:\n👗 dress, white, size 38\n" * 6)


def onnx(kind: str) -> Callable[[Path], StateModel]:
    def opened(folder: Path) -> StateModel:
        from models.reader_onnx import OnnxStates

        file = folder / f"states-{kind}.onnx"
        reader_graph.write(folder, file, kind)
        return OnnxStates(f"tiny-{kind}", file, folder / "tokenizer.json", threads=1)

    return opened


def torch(kind: str) -> Callable[[Path], StateModel]:
    def opened(folder: Path) -> StateModel:
        import torch as torch_

        from models.reader_torch import TorchStates

        return TorchStates(folder, device="cpu", dtype=getattr(torch_, kind))

    return opened


#: How to open each, and the least cosine of a state to the plain one.
ADAPTERS: dict[str, tuple[Callable[[Path], StateModel], float]] = {
    "onnx-fp32": (onnx(llm_graph.FP32), 0.99999),
    "onnx-int8": (onnx(llm_graph.INT8), 0.985),
    "torch-fp32": (torch("float32"), 0.99999),
    "torch-bf16": (torch("bfloat16"), 0.998),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama.write(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module", params=list(ADAPTERS))
def adapter(request: pytest.FixtureRequest, folder: Path) -> tuple[StateModel, float]:
    opened, least = ADAPTERS[request.param]
    return opened(folder), least


@pytest.fixture
def model(adapter: tuple[StateModel, float]) -> StateModel:
    return adapter[0]


@pytest.fixture(scope="module")
def plain(folder: Path) -> Callable[[Tokens], FloatArray]:
    """All states of tokens (n, h), as transformers gives them for one prompt alone."""
    import torch
    from transformers import AutoModel

    body = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()

    def states(tokens: Tokens) -> FloatArray:
        with torch.inference_mode():
            found: FloatArray = body(torch.tensor([tokens])).last_hidden_state[0].numpy()
        return found

    return states


def cosines(found: FloatArray, exact: FloatArray) -> FloatArray:
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(exact, axis=1)
    result: FloatArray = (found * exact).sum(axis=1) / norms
    return result


def whole(tokens: Tokens) -> Segment:
    return Segment(tokens, tuple(range(len(tokens))))


def test_states_are_those_of_a_plain_forward(
    adapter: tuple[StateModel, float], plain: Callable[[Tokens], FloatArray]
) -> None:
    model, least = adapter
    tokens = model.tokenize(TEXT)
    [ran] = model.run([whole(tokens)])
    assert ran.states.dtype == np.float32
    assert ran.states.shape == (len(tokens), model.width)
    assert cosines(ran.states, plain(tokens)).min() >= least


def test_only_the_wanted_states_come_in_their_order(model: StateModel) -> None:
    tokens = model.tokenize(TEXT)
    [every] = model.run([whole(tokens)])
    [some] = model.run([Segment(tokens, (20, 3, 3))])
    assert some.states == pytest.approx(every.states[[20, 3, 3]], abs=2e-2)


@pytest.mark.parametrize("cut", [1, 9, 40, 75])
def test_behind_kept_tokens_only_the_new_ones_are_run_and_the_states_are_the_same(
    model: StateModel, cut: int
) -> None:
    tokens = model.tokenize(TEXT)
    [every] = model.run([whole(tokens)])
    [first] = model.run([Segment(tokens[:cut], ())])
    assert first.states.shape == (0, model.width)
    assert first.kept.tokens == cut
    [rest] = model.run([Segment(tokens[cut:], tuple(range(len(tokens) - cut)), first.kept)])
    assert rest.kept.tokens == len(tokens)
    assert cosines(rest.states, every.states[cut:]).min() > 0.9995


def test_what_is_kept_can_be_cut_to_an_earlier_token(model: StateModel) -> None:
    tokens, other = model.tokenize(TEXT), model.tokenize("Clicked:\nBoots\n")
    [long] = model.run([Segment(tokens, ())])
    [alone] = model.run([whole(tokens[:26] + other)])
    [behind] = model.run([Segment(other, tuple(range(len(other))), long.kept.first(26))])
    assert cosines(behind.states, alone.states[26:]).min() > 0.9995


def test_a_segment_is_not_changed_by_those_beside_it(model: StateModel) -> None:
    tokens = model.tokenize(TEXT)
    [alone] = model.run([whole(tokens)])
    [kept] = [ran.kept for ran in model.run([Segment(tokens[:30], ())])]
    beside = [whole(model.tokenize(text)) for text in OTHERS]
    behind = Segment(tokens[30:], tuple(range(len(tokens) - 30)), kept)
    answers = model.run([beside[0], whole(tokens), *beside[1:], behind])
    assert [len(ran.states) for ran in answers] == [
        len(s.wanted) for s in (beside[0], whole(tokens), *beside[1:], behind)
    ]
    assert cosines(answers[1].states, alone.states).min() > 0.9995
    assert cosines(answers[4].states, alone.states[30:]).min() > 0.9995


def test_what_is_kept_does_not_change_with_what_is_run_behind_it(model: StateModel) -> None:
    tokens = model.tokenize(TEXT)
    [first] = model.run([Segment(tokens[:30], ())])
    behind = Segment(tokens[30:], (0,), first.kept)
    [once], [again] = model.run([behind]), model.run([behind])
    assert np.array_equal(once.states, again.states)
    assert first.kept.tokens == 30


def test_what_is_kept_tells_its_size(model: StateModel) -> None:
    short, long = model.run([Segment(model.tokenize("hat\n" * n), ()) for n in (1, 3)])
    assert (short.kept.tokens, long.kept.tokens) == (4, 12)
    assert 0 < 3 * short.kept.bytes == long.kept.bytes
    assert long.kept.first(4).bytes == short.kept.bytes


def test_no_segments_have_no_answers(model: StateModel) -> None:
    assert model.run([]) == []
