"""The small head that turns the LLM's state at a history's end into a vector of the item space."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from models.errors import BundleInvalid
from models.ports import FloatArray

FILE: Final = "head.safetensors"
_NAMES: Final = ("norm.weight", "norm.bias", "linear.weight", "linear.bias")
_EPSILON: Final = 1e-5  # torch's LayerNorm has it
_LEAST: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Head:
    """LayerNorm, Linear, normalise: states (n, h) to unit vectors (n, d)."""

    gain: FloatArray  # (h,)
    shift: FloatArray  # (h,)
    weight: FloatArray  # (d, h)
    bias: FloatArray  # (d,)

    @property
    def width(self) -> int:
        """h, the length of a state."""
        return int(self.weight.shape[1])

    @property
    def dim(self) -> int:
        """d, the length of a vector."""
        return int(self.weight.shape[0])

    def __call__(self, states: FloatArray) -> FloatArray:
        """Unit rows (n, d)."""
        centred = states - states.mean(axis=1, keepdims=True)
        spread = np.sqrt(np.square(centred).mean(axis=1, keepdims=True) + _EPSILON)
        vectors = (centred / spread * self.gain + self.shift) @ self.weight.T + self.bias
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(norms, _LEAST), dtype=np.float32)


def load_head(folder: Path) -> Head:
    """The head of a bundle's folder ``reader``. Raises ``BundleInvalid``."""
    file = folder / FILE
    try:
        told = load_file(file)
    except (OSError, SafetensorError) as error:
        raise BundleInvalid(f"the reader's {FILE} cannot be read: {error}") from error
    if set(told) != set(_NAMES):
        raise BundleInvalid(f"the reader's {FILE} has {sorted(told)}, not {sorted(_NAMES)}")
    gain, shift, weight, bias = (np.asarray(told[name], dtype=np.float32) for name in _NAMES)
    rows, columns = weight.shape if weight.ndim == 2 else (0, 0)
    shapes = (gain.shape, shift.shape, bias.shape)
    if rows < 1 or shapes != ((columns,), (columns,), (rows,)):
        raise BundleInvalid(f"the reader's {FILE} has parts that do not fit each other")
    if not all(np.isfinite(part).all() for part in (gain, shift, weight, bias)):
        raise BundleInvalid(f"the reader's {FILE} has numbers that are none")
    return Head(gain, shift, weight, bias)
