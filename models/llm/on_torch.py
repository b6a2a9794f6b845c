"""The causal LLM on torch: any Hugging Face causal model, on a GPU, in bf16 where AMX is, or fp32.

Imported only where it is asked for: torch takes seconds to import and 400 MB.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, DynamicCache

from models.errors import MissingWeights, RerankerFailed
from models.llm.body import device_of, quickest
from models.llm.scorer import SOFT, Packed
from models.llm.tokens import Tokenizer
from models.ports import FloatArray

#: Rows of logits computed at once: 128 x 49,152 of fp32 are 25 MB.
_LOGIT_ROWS = 128


class TorchScorer:
    """CausalScorer on torch."""

    def __init__(
        self,
        folder: Path,
        device: str = "auto",
        threads: int = 0,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Loads a folder in Hugging Face's layout.

        ``threads``: 0 for all cores; ``dtype``: by default what the device is quickest with.
        Raises ``MissingWeights``.
        """
        self._model, kind = _load_model(folder, device, threads, dtype)
        self._device, self._dtype = self._model.device, self._model.dtype
        soft = load_file(folder / SOFT)["past"] if (folder / SOFT).is_file() else None
        #: (layers, 2, heads, s, width), None where nothing stands in front of a prompt
        self._soft = None if soft is None else soft.to(self._device, self._dtype)
        self.name = f"{folder.name.lower()}-{kind}"
        quick = self._dtype == torch.bfloat16
        self.tokens_at_once = 4096 if self._device.type != "cpu" else 1024 if quick else 384
        self.tokenize = Tokenizer(folder / "tokenizer.json")

    @torch.inference_mode()
    def log_probabilities(self, packed: Packed) -> FloatArray:
        """The log p of each target (m,)."""
        try:
            hidden = self._hidden(packed)
            targets = torch.from_numpy(packed.targets).to(self._device)
            parts = [
                self._log_p(hidden[i : i + _LOGIT_ROWS], targets[i : i + _LOGIT_ROWS])
                for i in range(0, len(targets), _LOGIT_ROWS)
            ]
            return np.asarray(torch.cat(parts).cpu().numpy(), dtype=np.float32)
        except RuntimeError as error:  # out of memory, or the device is gone
            raise RerankerFailed(f"torch could not run the LLM: {error}") from error

    def _hidden(self, packed: Packed) -> torch.Tensor:
        """Last hidden states (m, h) of the rows that predict a target."""
        visible = torch.from_numpy(packed.visible).to(self._device)
        mask = torch.zeros(visible.shape, dtype=self._dtype, device=self._device)
        mask.masked_fill_(~visible, torch.finfo(self._dtype).min)
        before = 0 if self._soft is None else self._soft.shape[3]
        mask = torch.nn.functional.pad(mask, (before, 0))  # what stands in front is seen by all
        output = self._model.model(
            input_ids=torch.from_numpy(packed.tokens)[None].to(self._device),
            position_ids=torch.from_numpy(packed.positions)[None].to(self._device) + before,
            attention_mask=mask[None, None],
            past_key_values=self._past(),
            use_cache=self._soft is not None,
        )
        states: torch.Tensor = output.last_hidden_state[0]
        return states[torch.from_numpy(packed.reads).to(self._device)]

    def _past(self) -> Any:
        """What stands in front of every prompt, anew for each forward, which appends to it."""
        if self._soft is None:
            return None
        return DynamicCache([(layer[:1], layer[1:]) for layer in self._soft])

    def _log_p(self, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = self._model.lm_head(states).float()
        chosen = logits.gather(1, targets[:, None])[:, 0]
        result: torch.Tensor = chosen - logits.logsumexp(dim=1)
        return result


def _load_model(
    folder: Path, device: str, threads: int, dtype: torch.dtype | None
) -> tuple[Any, str]:
    """The model in ``folder``, ready to run, and its number type's name: fp32 or bf16.

    ``device`` auto: a GPU where there is one; ``threads``: 0 for all cores; ``dtype`` None: what
    the device is quickest with. Raises ``MissingWeights``.
    """
    if threads:
        torch.set_num_threads(threads)  # torch has one number a process
    where = device_of(device)
    kind = dtype or quickest(where)
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=kind)
    except (OSError, ValueError) as error:
        raise MissingWeights(
            f"no causal LLM can be loaded from {folder}: {error}; "
            "`weft models fetch` prepares the default one"
        ) from error
    return model.eval().to(where), {torch.float32: "fp32", torch.bfloat16: "bf16"}[kind]
