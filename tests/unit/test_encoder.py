"""The title encoder: exact, faithful in int8, the same alone and in a batch, measured once."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.encoder import choose as encoder
from models.encoder.batching import MAX_TOKENS, Padded, Tokens, batches, pooling
from models.encoder.choose import Measured, choose, cosines, load_encoder
from models.encoder.probe_titles import titles
from models.errors import InvalidSettings, MissingWeights
from models.ports import FloatArray, TitleEncoder
from models.weights import locate
from testbed.stand_ins import HashEncoder, ManualClock

TITLES = titles(120)


@pytest.fixture(scope="module")
def fp32(weights_dir: Path) -> TitleEncoder:
    return load_encoder("", weights_dir, 1, print, "fp32")


@pytest.fixture(scope="module")
def int8(weights_dir: Path) -> TitleEncoder:
    return load_encoder("", weights_dir, 1, print, "int8")


def by_transformers(folder: Path, texts: Sequence[str]) -> FloatArray:
    """The published recipe, a text at a time: mean of the tokens' states, length 1."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    rows = []
    with torch.inference_mode():
        for text in texts:
            inputs = tokenizer(text, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
            mean = model(**inputs).last_hidden_state[0].mean(dim=0)
            rows.append((mean / mean.norm()).numpy())
    return np.stack(rows)


def test_fp32_is_the_published_model(fp32: TitleEncoder, tmp_path: Path) -> None:
    exact = by_transformers(locate.minilm("", tmp_path, print), TITLES[:40])
    assert np.abs(fp32.encode(TITLES[:40]) - exact).max() < 1e-5


def test_int8_is_faithful_to_fp32(int8: TitleEncoder, fp32: TitleEncoder) -> None:
    low, mean = cosines(int8.encode(TITLES), fp32.encode(TITLES))
    assert mean >= 0.995
    assert low >= 0.99


@pytest.mark.parametrize("kind", ["fp32", "int8"])
def test_a_vector_does_not_depend_on_its_batch(kind: str, request: pytest.FixtureRequest) -> None:
    adapter: TitleEncoder = request.getfixturevalue(kind)
    together = adapter.encode([*TITLES, "word " * 200])
    alone = np.concatenate([adapter.encode([title]) for title in TITLES])
    assert np.abs(together[:-1] - alone).max() < 1e-6


def test_names_tell_model_number_type_and_weights(int8: TitleEncoder, fp32: TitleEncoder) -> None:
    assert int8.name == f"all-MiniLM-L6-v2-int8-{locate.MINILM.sha256[:8]}"
    assert fp32.name == f"all-MiniLM-L6-v2-fp32-{locate.MINILM.sha256[:8]}"


def test_a_long_text_is_read_to_its_64th_token(int8: TitleEncoder) -> None:
    vectors = int8.encode(["dress " * 62, "dress " * 62 + "and a hat", "dress " * 61])
    assert np.array_equal(vectors[0], vectors[1])
    assert not np.array_equal(vectors[0], vectors[2])


def test_a_restart_measures_nothing_and_imports_no_torch(weights_dir: Path) -> None:
    first = load_encoder("", weights_dir, 1, print)
    script = (
        "import sys; from pathlib import Path; from models.encoder.choose import load_encoder\n"
        "said = []\n"
        "encoder = load_encoder('', Path(sys.argv[1]), 1, said.append)\n"
        "assert said == [], said\n"
        "assert not {'torch', 'transformers', 'onnx'} & set(sys.modules)\n"
        "print(encoder.name)"
    )
    command = [sys.executable, "-c", script, str(weights_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == first.name


def test_a_damaged_measurement_is_made_again(weights_dir: Path) -> None:
    load_encoder("", weights_dir, 1, print)
    file = weights_dir / "weights" / "all-MiniLM-L6-v2-choice.json"
    for damaged in ("{", json.dumps(dict.fromkeys(json.loads(file.read_text()), 1))):
        file.write_text(damaged)
        said: list[str] = []
        load_encoder("", weights_dir, 1, said.append)
        assert said[0].startswith("measuring")
    load_encoder("", weights_dir, 1, said.append)
    assert len(said) == 2


def test_a_number_type_that_is_not_to_be_had_is_refused(weights_dir: Path) -> None:
    with pytest.raises(InvalidSettings, match="encoder_type='int4'"):
        load_encoder("", weights_dir, 1, print, "int4")


class Timed(HashEncoder):
    """Takes ``seconds`` of a manual clock a call, and turns its vectors by ``turn``."""

    def __init__(self, clock: ManualClock, seconds: float, turn: float = 0.0) -> None:
        super().__init__()
        self._clock, self._seconds, self._turn = clock, seconds, turn

    def encode(self, texts: Sequence[str]) -> FloatArray:
        self._clock.advance(self._seconds)
        rows: FloatArray = super().encode(texts) + np.float32(self._turn)
        length: FloatArray = np.linalg.norm(rows, axis=1, keepdims=True)
        return rows / length


def test_the_measurement_is_titles_by_seconds_and_cosines_to_fp32() -> None:
    clock = ManualClock()
    kinds = {"fp32": Timed(clock, 2.0), "int8": Timed(clock, 0.5, turn=0.001)}
    measured = encoder.measure(kinds, clock)
    fp32 = measured["fp32"]
    assert fp32.titles_per_second == 16.0
    assert (fp32.mean_cosine, fp32.low_cosine) == (pytest.approx(1.0), pytest.approx(1.0))
    assert measured["int8"].titles_per_second == 64.0
    assert 0.99 < measured["int8"].low_cosine <= measured["int8"].mean_cosine < 1


@pytest.mark.parametrize(
    ("int8_measured", "chosen"),
    [
        (Measured(200, 0.995, 0.99), "int8"),
        (Measured(200, 0.989, 0.99), "fp32"),  # unfaithful on average
        (Measured(200, 0.995, 0.97), "fp32"),  # unfaithful to a few
        (Measured(110, 0.995, 0.99), "fp32"),  # not worth it
    ],
)
def test_the_quickest_faithful_number_type_is_chosen(int8_measured: Measured, chosen: str) -> None:
    assert choose({"fp32": Measured(100, 1, 1), "int8": int8_measured}) == chosen


def test_bf16_is_chosen_over_an_int8_that_is_hardly_quicker() -> None:
    measured = {
        "fp32": Measured(100, 1, 1),
        "bf16": Measured(300, 0.9999, 0.9999),
        "int8": Measured(310, 0.995, 0.99),
    }
    assert choose(measured) == "bf16"


@given(st.lists(st.integers(1, MAX_TOKENS), max_size=60), st.integers(64, 300))
def test_batches_hold_each_row_once_and_no_more_than_asked(lengths: list[int], most: int) -> None:
    tokens = [np.zeros(length, dtype=np.int64) for length in lengths]
    found = list(batches(tokens, most))
    assert sorted(row for batch in found for row in batch) == list(range(len(lengths)))
    assert all(max(lengths[row] for row in batch) * len(batch) <= most for batch in found)


def test_padding_stands_at_the_right_and_is_masked() -> None:
    padded = Padded.of([np.array([5, 6, 7]), np.array([8])])
    assert padded.ids.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert padded.mask.tolist() == [[True, True, True], [True, False, False]]


def test_odd_texts_have_tokens(tmp_path: Path) -> None:
    tokens = Tokens(locate.minilm("", tmp_path, print))
    lengths = [len(ids) for ids in tokens(["", " ", "\ud800 lone", "\0", "x" * 5000, "日本 👗"])]
    assert min(lengths) >= 2
    assert max(lengths) <= MAX_TOKENS


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The encoder's folder, to be changed."""
    return Path(shutil.copytree(locate.minilm("", tmp_path, print), tmp_path / "copied"))


def pool_by(folder: Path, mode: str) -> None:
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{mode}": True}))


def test_a_model_that_pools_by_its_first_token_is_run_so(copied: Path, tmp_path: Path) -> None:
    import torch

    from models.encoder.on_torch import TorchEncoder

    pool_by(copied, "cls_token")
    exact = TorchEncoder("torch", copied, torch.float32, 1).encode(TITLES[:20])
    found = load_encoder(str(copied), tmp_path, 1, print, "fp32")
    assert found.name.startswith("copied-fp32-")
    assert np.abs(found.encode(TITLES[:20]) - exact).max() < 1e-5


def test_another_way_of_pooling_is_refused(copied: Path) -> None:
    pool_by(copied, "max_tokens")
    with pytest.raises(MissingWeights, match="max_tokens"):
        pooling(copied)


def test_a_model_that_is_no_bert_runs_on_torch(copied: Path, tmp_path: Path) -> None:
    from transformers import DistilBertConfig, DistilBertModel

    small = DistilBertConfig(dim=32, hidden_dim=64, n_layers=2, n_heads=2)
    DistilBertModel(small).save_pretrained(copied)
    found = load_encoder(str(copied), tmp_path, 1, print)
    vectors = found.encode(["a red dress", "blue jeans"])
    assert (found.dim, vectors.shape) == (32, (2, 32))
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1], abs=1e-5)
    with pytest.raises(InvalidSettings):
        load_encoder(str(copied), tmp_path, 1, print, "int8")
