"""What every TitleEncoder promises, run on each adapter."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from models.encoder.cache import CachedEncoder
from models.encoder.choose import load_encoder
from models.encoder.probe_titles import titles
from models.ports import TitleEncoder
from models.weights import locate
from testbed.stand_ins import HashEncoder

TITLES = titles(60)
ODD = ["", " ", "\0", "\ud800", "日本のドレス 👗", "x" * 3000, "word " * 500, "DRESS", "dress"]


def torch_fp32(folder: Path) -> TitleEncoder:
    import torch

    from models.encoder.on_torch import TorchEncoder

    return TorchEncoder("torch-fp32", locate.minilm("", folder, print), torch.float32, 1)


def cached(encoder: TitleEncoder, folder: Path) -> TitleEncoder:
    return CachedEncoder(encoder, folder / f"{encoder.name}.sqlite", print)


ADAPTERS: dict[str, Callable[[Path], TitleEncoder]] = {
    "onnx fp32": lambda folder: load_encoder("", folder, 1, print, "fp32"),
    "onnx int8": lambda folder: load_encoder("", folder, 1, print, "int8"),
    "torch fp32": torch_fp32,
    "hash": lambda _folder: HashEncoder(),
    "cached onnx int8": lambda folder: cached(load_encoder("", folder, 1, print, "int8"), folder),
    "cached hash": lambda folder: cached(HashEncoder(), folder),
}


@pytest.fixture(scope="module", params=ADAPTERS)
def encoder(request: pytest.FixtureRequest, weights_dir: Path) -> TitleEncoder:
    return ADAPTERS[request.param](weights_dir)


def test_rows_are_unit_vectors_in_float32(encoder: TitleEncoder) -> None:
    vectors = encoder.encode(TITLES)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(TITLES), encoder.dim)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(len(TITLES)), abs=1e-5)


def test_no_texts_are_no_rows(encoder: TitleEncoder) -> None:
    assert encoder.encode([]).shape == (0, encoder.dim)


def test_rows_stand_in_the_order_of_the_texts(encoder: TitleEncoder) -> None:
    backwards = encoder.encode(TITLES[::-1])[::-1]
    assert np.abs(encoder.encode(TITLES) - backwards).max() < 1e-5


def test_a_text_has_the_same_vector_alone_and_in_a_batch(encoder: TitleEncoder) -> None:
    together = encoder.encode([*TITLES, *ODD])
    alone = np.concatenate([encoder.encode([text]) for text in [*TITLES, *ODD]])
    assert np.abs(together - alone).max() < 1e-5


def test_a_text_given_twice_has_one_vector(encoder: TitleEncoder) -> None:
    first, _, again = encoder.encode([TITLES[0], TITLES[1], TITLES[0]])
    assert np.abs(first - again).max() < 1e-5


def test_odd_texts_have_finite_unit_vectors(encoder: TitleEncoder) -> None:
    assert np.linalg.norm(encoder.encode(ODD), axis=1) == pytest.approx(1, abs=1e-5)


def test_shared_words_are_nearer_than_none(encoder: TitleEncoder) -> None:
    dress, alike, other = encoder.encode(
        ["red linen dress", "linen dress in red", "wireless phone charger"]
    )
    assert dress @ alike > 0.6 > dress @ other


def test_threads_get_their_own_answers(encoder: TitleEncoder) -> None:
    expected = encoder.encode(TITLES)
    parts = [slice(start, start + 10) for start in range(0, len(TITLES), 10)]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda part: encoder.encode(TITLES[part]), parts * 3))
    assert np.abs(np.concatenate(found) - np.tile(expected, (3, 1))).max() < 1e-5


def test_the_name_is_told_and_fit_for_a_folder(encoder: TitleEncoder) -> None:
    assert encoder.name
    assert "/" not in encoder.name
