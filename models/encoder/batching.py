"""What every title encoder needs beside its network: what the model is, tokens, and batches."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.errors import MissingWeights

IntArray = NDArray[np.int64]

#: Number types of an encoder's weights and products.
INT8, FP32, BF16 = "int8", "fp32", "bf16"

MAX_TOKENS = 64  # titles have about ten; a longer text's end is not read
_BATCH_TOKENS = 1024  # a layer's activations then stay in the cache, and more gains nothing


class Tokens:
    """The folder's tokenizer, in Rust, without transformers."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer: Tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)

    def __call__(self, texts: Sequence[str]) -> list[IntArray]:
        """The ids of each text, at least one and at most ``MAX_TOKENS``."""
        # A lone surrogate is valid in JSON's \\u escapes and would be refused by the tokenizer.
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        return [
            np.array(encoded.ids or [0], dtype=np.int64)
            for encoded in self._tokenizer.encode_batch_fast(clean)
        ]


def batches(tokens: Sequence[IntArray], most: int = _BATCH_TOKENS) -> Iterator[list[int]]:
    """Rows of ``tokens`` in batches of alike lengths, each of at most ``most`` padded tokens."""
    batch: list[int] = []
    for row in sorted(range(len(tokens)), key=lambda row: len(tokens[row])):
        if batch and len(tokens[row]) * (len(batch) + 1) > most:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


@dataclass(frozen=True, slots=True)
class Padded:
    """A batch: ``ids`` (b, l) with zeros after each text's end, ``mask`` (b, l)."""

    ids: IntArray
    mask: NDArray[np.bool_]

    @classmethod
    def of(cls, tokens: Sequence[IntArray]) -> Padded:
        """Pads at the right."""
        lengths = np.array([len(t) for t in tokens])
        mask = np.arange(lengths.max()) < lengths[:, None]
        ids = np.zeros(mask.shape, dtype=np.int64)
        ids[mask] = np.concatenate(tokens)
        return cls(ids, mask)


def pooling(folder: Path) -> str:
    """How the model makes one vector of its tokens': ``mean`` or ``cls``.

    Sentence-transformers' folders say it; without the file it is the mean. Raises
    ``MissingWeights`` for another way.
    """
    path = folder / "1_Pooling" / "config.json"
    if not path.is_file():
        return "mean"
    modes = json.loads(path.read_text("utf-8"))
    if "pooling_mode" in modes:
        used = {str(modes["pooling_mode"])}
    else:
        used = {
            name for name, on in modes.items() if name.startswith("pooling_mode_") and on is True
        }
    if used <= {"pooling_mode_mean_tokens", "mean"}:
        return "mean"
    if used <= {"pooling_mode_cls_token", "cls"}:
        return "cls"
    raise MissingWeights(
        f"{folder} pools by {', '.join(sorted(used))}; only mean and cls are known"
    )


def is_plain_bert(folder: Path) -> bool:
    """Whether the folder's model is a BERT that ``bert_onnx`` can write."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    wanted = {"model_type": "bert", "hidden_act": "gelu"}
    positions = config.get("position_embedding_type", "absolute")
    long_enough = int(config.get("max_position_embeddings", 0)) >= MAX_TOKENS
    return wanted.items() <= config.items() and positions == "absolute" and long_enough
