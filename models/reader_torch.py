"""The history reader's LLM on torch: any Hugging Face causal model with keys and values to keep.

Imported only where it is asked for: torch takes seconds to import and 400 MB.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModel, DynamicCache

from models.errors import RerankerFailed
from models.llm_tokens import Tokenizer
from models.llm_torch import load_model
from models.ports import FloatArray
from models.reader_states import Kept, Ran, Segment, forwards


class TorchStates:
    """StateModel on torch. For one thread at a time.

    Prompts of like lengths fill the rows of a forward; the kept keys and values are torch's, on
    the model's device.
    """

    def __init__(
        self,
        folder: Path,
        device: str = "auto",
        threads: int = 0,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Loads a folder in Hugging Face's layout, as ``load_model`` says."""
        self._body, kind = load_model(folder, device, threads, dtype, AutoModel)
        self._device, self._dtype = self._body.device, self._body.dtype
        self.name = f"{folder.name.lower()}-{kind}"
        self.width = int(self._body.config.get_text_config().hidden_size)
        self.tokens_at_once = 8192 if self._device.type != "cpu" else 1024
        self.tokenize = Tokenizer(folder / "tokenizer.json")

    def keep(self, values: FloatArray) -> Kept:
        """Keys and values (layers, 2, tokens, width) as this model has them."""
        return Kept(torch.from_numpy(values).to(self._device, self._dtype))

    @torch.inference_mode()
    def run(self, segments: Sequence[Segment]) -> list[Ran]:
        """Each segment's states and what to keep of it."""
        answers: dict[int, Ran] = {}
        for together in forwards(segments, self.tokens_at_once, padded=True):
            try:
                ran = self._forward([segments[i] for i in together])
            except RuntimeError as error:  # out of memory, or the device is gone
                raise RerankerFailed(f"torch could not run the LLM: {error}") from error
            answers.update(zip(together, ran, strict=True))
        return [answers[i] for i in range(len(segments))]

    def _forward(self, segments: Sequence[Segment]) -> list[Ran]:
        old = torch.tensor([[segment.before] for segment in segments])  # (b, 1)
        tokens = pad_sequence([torch.tensor(s.tokens) for s in segments], batch_first=True)
        before, row = int(old.max()), torch.arange(tokens.shape[1])
        column = torch.arange(before)
        visible = torch.cat(
            [
                (column < old)[:, None].expand(-1, len(row), -1),
                (row <= row[:, None]).expand(len(segments), -1, -1),
            ],
            dim=2,
        )  # (b, s, before + s)
        hidden = torch.zeros(visible.shape, dtype=self._dtype)
        hidden.masked_fill_(~visible, torch.finfo(self._dtype).min)
        cache = self._cache(segments, before)
        output = self._body(
            input_ids=tokens.to(self._device),
            position_ids=(old + row).to(self._device),
            attention_mask=hidden[:, None].to(self._device),
            past_key_values=cache,
            use_cache=True,
        )
        new = [
            torch.stack([layer.keys[:, :, before:], layer.values[:, :, before:]], dim=1)
            for layer in cache.layers
        ]  # of each layer (b, 2, heads, s, width)
        return [
            self._ran(segment, output.last_hidden_state[i], torch.stack([kv[i] for kv in new]))
            for i, segment in enumerate(segments)
        ]

    def _ran(self, segment: Segment, states: torch.Tensor, new: torch.Tensor) -> Ran:
        """Of one row of a forward: states (s, h); keys and values (layers, 2, heads, s, width)."""
        flat = new[:, :, :, : len(segment.tokens)].transpose(2, 3).flatten(3)
        old = [segment.kept.values] if segment.kept else []
        wanted = states[list(segment.wanted)].float().cpu().numpy()
        return Ran(np.asarray(wanted, dtype=np.float32), Kept(torch.cat([*old, flat], dim=2)))

    def _cache(self, segments: Sequence[Segment], before: int) -> Any:
        """Kept keys and values, each filled up to ``before`` tokens, in transformers' form."""
        if not before:
            return DynamicCache()
        some = next(segment.kept.values for segment in segments if segment.kept)
        layers, _, _, row = some.shape
        shape = (len(segments), layers, 2, before, row)
        filled = torch.zeros(shape, dtype=self._dtype, device=self._device)
        for i, segment in enumerate(segments):
            if segment.kept:
                filled[i, :, :, : segment.before] = segment.kept.values
        config = self._body.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        by_head = filled.view(*shape[:4], heads, -1).transpose(3, 4)
        return DynamicCache([(by_head[:, n, 0], by_head[:, n, 1]) for n in range(layers)])
