"""TitleEncoder on ONNX Runtime: quickest on a CPU without AMX, and imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from models.encoder.batching import IntArray, Padded, Tokens, batches
from models.ports import FloatArray


class OnnxEncoder:
    """Runs a file that ``bert_onnx.write`` made. Safe to call from several threads."""

    def __init__(self, name: str, tokens: Tokens, file: Path, threads: int) -> None:
        self.name = name
        self._tokens = tokens
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads  # 0: all cores
        options.log_severity_level = 3
        # The graph is fused already; ONNX Runtime's further fusions would bring back the slow
        # SkipLayerNormalization.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        # Spinning threads would take the cores of whoever works beside.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )
        self.dim = int(self._session.get_outputs()[0].shape[1])

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Unit rows (len(texts), d); a text's row is the same whatever stands beside it."""
        tokens = self._tokens(texts)
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        for rows in batches(tokens):
            vectors[rows] = self._run([tokens[row] for row in rows])
        return vectors

    def _run(self, tokens: list[IntArray]) -> FloatArray:
        padded = Padded.of(tokens)
        row = np.zeros(padded.mask.shape, dtype=np.int64)
        row[padded.mask] = np.arange(np.count_nonzero(padded.mask))
        feed = {
            "ids": padded.ids[padded.mask],
            "position": np.nonzero(padded.mask)[1],
            "row": row,
            "place": np.flatnonzero(padded.mask),
            "mask": padded.mask.astype(np.int32),
        }
        vectors: FloatArray = self._session.run(["vector"], feed)[0]
        return vectors
