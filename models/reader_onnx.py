"""The history reader's LLM on ONNX Runtime: the quickest on CPUs without AMX, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, RuntimeException

from models.errors import RerankerFailed
from models.llm_onnx import session
from models.llm_tokens import Tokenizer
from models.ports import FloatArray
from models.reader_states import Kept, Ran, Segment, forwards

#: What a column that may not be seen adds to the attention's logit.
_HIDDEN = np.float32(-1e9)


class OnnxStates:
    """StateModel over an export of models/reader_graph.py. For one thread at a time."""

    tokens_at_once = 512

    def __init__(self, name: str, model: Path, tokenizer: Path, threads: int) -> None:
        """``threads``: 0 for all cores."""
        self._session = session(model, threads)
        self.name = name
        self.tokenize = Tokenizer(tokenizer)
        states, past = self._session.get_outputs()[0], self._session.get_inputs()[2]
        self.width = int(states.shape[1])
        self._nothing = np.zeros((past.shape[0], 2, 0, past.shape[3]), dtype=np.float16)
        self._shared = self.width // int(past.shape[3])

    def keep(self, values: FloatArray) -> Kept:
        """Keys and values (layers, 2, tokens, width) as this model has them."""
        return Kept(values.astype(np.float16))

    def run(self, segments: Sequence[Segment]) -> list[Ran]:
        """Each segment's states and what to keep of it."""
        answers: dict[int, Ran] = {}
        for together in forwards(segments, self.tokens_at_once, padded=False):
            ran = self._forward([segments[i] for i in together])
            answers.update(zip(together, ran, strict=True))
        return [answers[i] for i in range(len(segments))]

    def _forward(self, segments: Sequence[Segment]) -> list[Ran]:
        inputs = self._inputs(segments)
        try:
            states, present = self._session.run(["states", "present"], inputs)
        except (Fail, RuntimeException) as error:  # out of memory, mostly
            raise RerankerFailed(f"ONNX Runtime could not run the LLM: {error}") from error
        answers = []
        row = read = 0
        for segment in segments:
            new = present[:, :, row : row + len(segment.tokens)]
            old = [segment.kept.values] if segment.kept else []
            found: FloatArray = states[read : read + len(segment.wanted)]
            answers.append(Ran(found, Kept(np.concatenate([*old, new], axis=2))))
            row += len(segment.tokens)
            read += len(segment.wanted)
        return answers

    def _inputs(self, segments: Sequence[Segment]) -> dict[str, NDArray[Any]]:
        """What models/reader_graph.py's ``write`` names."""
        new = np.array([[len(segment.tokens)] for segment in segments])  # (b, 1)
        old = np.array([[segment.before] for segment in segments])
        starts, offsets = np.cumsum(new)[:, None] - new, np.cumsum(old)[:, None] - old
        row, column = np.arange(new.max()), np.arange((new + old).max())  # (s,), (t,)
        kept = np.where(column < old, offsets + column, old.sum() + starts + column - old)
        visible = column <= (old + row)[:, :, None]  # (b, s, t)
        mask = np.where(visible, np.float32(0), _HIDDEN)[:, None]
        pasts = [segment.kept.values for segment in segments if segment.kept]
        wanted = [start + w for start, s in zip(starts[:, 0], segments, strict=True)
                  for w in s.wanted]  # fmt: skip
        return {
            "tokens": np.array([t for s in segments for t in s.tokens], dtype=np.int64),
            "positions": (old + row)[row < new],
            "past": np.concatenate([self._nothing, *pasts], axis=2),
            "queries": np.where(row < new, starts + row, 0),
            "keys": np.where(column < old + new, kept, 0),
            "mask": np.tile(mask, (1, 1, self._shared, 1)),
            "back": np.flatnonzero(row < new),
            "reads": np.array(wanted, dtype=np.int64),
        }
