"""The causal LLM on ONNX Runtime: the quickest on CPUs without AMX, and no torch is imported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, RuntimeException

from models.errors import RerankerFailed
from models.llm.scorer import Packed
from models.llm.tokens import Tokenizer
from models.ports import FloatArray

#: What a column that may not be seen adds to the attention's logit.
_HIDDEN = np.float32(-1e9)


class OnnxScorer:
    """CausalScorer over an export of models/llm/llama_graph.py."""

    #: Attention over all of a forward's tokens outweighs what more of them at once would gain.
    tokens_at_once = 384

    def __init__(self, name: str, model: Path, tokenizer: Path, threads: int) -> None:
        """``threads``: 0 for all cores."""
        self._session = session(model, threads)
        self.name = name
        self.tokenize = Tokenizer(tokenizer)

    def log_probabilities(self, packed: Packed) -> FloatArray:
        """The log p of each target (m,)."""
        inputs = {
            "tokens": packed.tokens,
            "positions": packed.positions,
            "mask": np.where(packed.visible, np.float32(0), _HIDDEN),
            "reads": packed.reads,
            "targets": packed.targets,
        }
        try:
            return np.asarray(self._session.run(["log_p"], inputs)[0], dtype=np.float32)
        except (Fail, RuntimeException) as error:  # out of memory, mostly
            raise RerankerFailed(f"ONNX Runtime could not run the LLM: {error}") from error


def session(model: Path, threads: int) -> Any:
    """The file ``model``, ready to run on this CPU; ``threads``: 0 for all cores."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    # The cores are shared with the encoder and the event loop: who waits must not spin.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    # Forwards differ in length, so patterns of use would never be met again; the arena stays,
    # since fresh pages for each forward's attention and logits cost half as much again.
    options.enable_mem_pattern = False
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
