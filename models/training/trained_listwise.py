"""A trained listwise reranker: how it is written, and its scores, by what serves it as well."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models import listwise
from models.llm import Packed
from models.llm_tokens import Tokenizer
from models.ports import FloatArray
from models.training import llm_body, peft_methods
from models.training.peft_methods import Tuning
from models.training.reader_windows import padded


@dataclass(slots=True)
class TrainedListwise:
    """The tuned body, and ``rows`` (20, h): the output layer's of the letters, the LLM's own."""

    model: Any
    rows: Tensor
    tuning: Tuning
    layers: int
    llm_folder: Path
    both_ways: bool

    def told(self) -> dict[str, Any]:
        """What a manifest says of it, beside the LLM's own sum."""
        return {
            "llm": self.llm_folder.name,
            "method": self.tuning.method,
            "rank": self.tuning.rank,
            "layers": self.layers,
            "both_ways": self.both_ways,
        }

    def save(self, folder: Path, dtype: torch.dtype | None = torch.bfloat16) -> None:
        """The adapter, as ``dtype``; there is no head, the output layer is the LLM's own."""
        peft_methods.save(self.model, self.tuning, folder, dtype)

    def logits(self, tokens: Tensor, ends: Tensor) -> Tensor:
        """Of each letter (b, 20) behind prompts (b, l) whose last tokens are at ``ends`` (b,)."""
        states = llm_body.states(self.model, tokens.to(self.rows.device))
        last = states[torch.arange(len(ends)), ends.to(states.device)]
        return last.float() @ self.rows.T


class LettersScorer:
    """The part of a CausalScorer that a listwise reranker asks for: letters behind prompts.

    A log p is among the letters, not over the whole vocabulary: within a prompt these differ by
    one number, which ``ListwiseReranker`` takes off with the mean.
    """

    tokens_at_once = 4096

    def __init__(self, trained: TrainedListwise) -> None:
        self.name = trained.llm_folder.name.lower()
        self.tokenize = Tokenizer(trained.llm_folder / "tokenizer.json")
        self._trained = trained
        letters = listwise.letters(self.tokenize)
        self._places = {token: place for place, token in enumerate(letters)}

    @torch.inference_mode()
    def log_probabilities(self, packed: Packed) -> FloatArray:
        """The log p of each target (m,) among the letters.

        Raises ``ValueError`` for targets that are no letters, or not right behind a prompt.
        """
        starts = np.flatnonzero(packed.positions == 0)
        stops = np.append(starts[1:], len(packed.tokens))
        owners = np.searchsorted(starts, packed.reads, side="right") - 1
        places = [self._places.get(token, -1) for token in packed.targets.tolist()]
        if (packed.reads != stops[owners] - 1).any() or -1 in places:
            raise ValueError("only letters right behind a prompt can be scored here")
        texts = [
            tuple(packed.tokens[start:stop].tolist())
            for start, stop in zip(starts, stops, strict=True)
        ]
        logits = self._trained.logits(padded(texts), torch.from_numpy(stops - starts - 1))
        found = logits.log_softmax(dim=1).cpu().numpy()
        return np.asarray(found[owners, places], dtype=np.float32)
