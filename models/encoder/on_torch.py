"""TitleEncoder on torch: for CPUs with AMX (bf16), GPUs, and models that are no BERT."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel

from models.encoder.batching import IntArray, Padded, Tokens, batches, pooling
from models.ports import FloatArray
from models.weights import cpu


def has_quick_bf16() -> bool:
    """Whether torch multiplies bf16 in this CPU's tiles (AMX); without, bf16 is the slowest."""
    return cpu.has_amx() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class TorchEncoder:
    """Any encoder that transformers loads, in float32 or bfloat16."""

    def __init__(self, name: str, folder: Path, dtype: torch.dtype, threads: int) -> None:
        self.name = name
        if threads:
            torch.set_num_threads(threads)
        self._tokens = Tokens(folder)
        self._pooling = pooling(folder)
        self._model = AutoModel.from_pretrained(folder, dtype=dtype, trust_remote_code=False).eval()
        self.dim = int(self._model.config.hidden_size)

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Unit rows (len(texts), d)."""
        tokens = self._tokens(texts)
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        for rows in batches(tokens):
            vectors[rows] = self._run([tokens[row] for row in rows])
        return vectors

    @torch.inference_mode()
    def _run(self, tokens: list[IntArray]) -> FloatArray:
        padded = Padded.of(tokens)
        mask = torch.from_numpy(padded.mask)
        ids = torch.from_numpy(padded.ids)
        hidden = self._model(input_ids=ids, attention_mask=mask.long()).last_hidden_state.float()
        summed = (hidden * mask[..., None]).sum(dim=1)  # normalising divides
        pooled = hidden[:, 0] if self._pooling == "cls" else summed
        unit: FloatArray = torch.nn.functional.normalize(pooled, dim=-1).numpy()
        return unit
