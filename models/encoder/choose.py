"""Chooses the title encoder that this CPU is quickest with, by a short measurement kept on disk."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from models import atomic_folder
from models.atomic_folder import Say
from models.encoder.batching import BF16, FP32, INT8, Tokens, is_plain_bert
from models.encoder.on_onnx import OnnxEncoder
from models.encoder.probe_titles import titles
from models.errors import InvalidSettings
from models.ports import FloatArray, TitleEncoder
from models.weights import cpu, locate

#: An int8 encoder is used only if its vectors' cosines to fp32's reach both.
LEAST_MEAN_COSINE = 0.99
LEAST_LOW_COSINE = 0.98  # of the first percentile
_WORTH = 1.2  # a coarser encoder must be that much quicker to be chosen
_FORMAT = "1"  # of the export: another number has it made anew
_SAMPLE, _ROUNDS, _ROUND_TITLES = 256, 16, 32


@dataclass(frozen=True, slots=True)
class Measured:
    """What one number type does on this CPU: titles/s in batches, and cosines to fp32."""

    titles_per_second: float
    mean_cosine: float
    low_cosine: float

    @property
    def faithful(self) -> bool:
        """Whether it may stand in for fp32."""
        return self.mean_cosine >= LEAST_MEAN_COSINE and self.low_cosine >= LEAST_LOW_COSINE


def load_encoder(
    source: str, data_dir: Path, threads: int, say: Say, number_type: str = "auto"
) -> TitleEncoder:
    """The title encoder of ``source`` ("", a folder, a hub name), ready to encode.

    ``number_type`` is int8, fp32 or bf16, or auto: what this CPU is quickest with. ``threads`` 0:
    all cores. Raises ``MissingWeights``, ``DamagedWeights``, ``InvalidSettings``.
    """
    folder = locate.minilm(source, data_dir, say)
    model = _Model(source or locate.MINILM.name, folder, data_dir, threads, say)
    kinds = model.kinds()
    if number_type == "auto":
        return model.load(model.choice(kinds))
    if number_type not in kinds:
        known = ", ".join(kinds)
        raise InvalidSettings(
            f"encoder_type={number_type!r} is not to be had here; it can be {known}"
        )
    return model.load(number_type)


class _Model:
    """One encoder's weights and the places of what is made of them."""

    def __init__(self, name: str, folder: Path, data_dir: Path, threads: int, say: Say) -> None:
        self._folder, self._threads, self._say = folder, threads, say
        self._sum = locate.fingerprint(folder)
        self._name = Path(name).name
        self._made = data_dir / "weights"

    def kinds(self) -> tuple[str, ...]:
        """The number types to choose from here, the most exact first."""
        quick_bf16 = False
        if cpu.has_amx():  # asked first, so that torch is imported only where it may be used
            from models.encoder.on_torch import has_quick_bf16

            quick_bf16 = has_quick_bf16()
        return (FP32, *([BF16] if quick_bf16 else []), *([INT8] if self._is_bert else []))

    @property
    def _is_bert(self) -> bool:
        return is_plain_bert(self._folder)

    def load(self, kind: str) -> TitleEncoder:
        """The encoder of one number type."""
        name = f"{self._name}-{kind}-{self._sum[:8]}"
        if kind != BF16 and self._is_bert:
            return OnnxEncoder(name, Tokens(self._folder), self._exported(kind), self._threads)
        import torch

        from models.encoder.on_torch import TorchEncoder

        dtype = torch.bfloat16 if kind == BF16 else torch.float32
        return TorchEncoder(name, self._folder, dtype, self._threads)

    def _exported(self, kind: str) -> Path:
        """The ONNX file, made if it is not there."""

        def export(fresh: Path) -> None:
            from models.encoder import bert_graph  # its onnx is needed this once

            self._say(f"exporting {self._name} to ONNX ({kind}), once")
            bert_graph.write(self._folder, fresh / "model.onnx", kind)

        folder = self._made / f"{self._name}-onnx-{kind}"
        made_of = {"sha256": self._sum, "format": _FORMAT}
        return atomic_folder.once(folder, made_of, export, self._say) / "model.onnx"

    def choice(self, kinds: tuple[str, ...]) -> str:
        """The number type for this CPU: as measured before, or measured now and kept."""
        if len(kinds) == 1:
            return kinds[0]
        file = self._made / f"{self._name}-choice.json"
        here = cpu.name() + (" with AMX" if cpu.has_amx() else "")  # virtual ones' names hide it
        key = f"{here}, {self._threads or os.cpu_count()} threads, {self._sum[:8]}, {_FORMAT}"
        kept = _read(file)
        if kept.get(key, {}).get("chosen") in kinds:
            return str(kept[key]["chosen"])
        self._say(f"measuring which number type {self._name} is quickest with on this CPU, once")
        measured = measure({kind: self.load(kind) for kind in kinds})
        chosen = choose(measured)
        kept[key] = {"chosen": chosen, "measured": {k: asdict(m) for k, m in measured.items()}}
        with atomic_folder.exclusive(file, self._say):
            try:
                atomic_folder.write_whole(file, json.dumps(kept, indent=2))
            except OSError as error:
                raise atomic_folder.unwritable(file, error) from error
        self._say(f"{self._name}: {chosen}, {measured[chosen].titles_per_second:.0f} titles/s")
        return chosen


def measure(
    encoders: Mapping[str, TitleEncoder], clock: Callable[[], float] = time.perf_counter
) -> dict[str, Measured]:
    """Each encoder beside the one called FP32, on sample titles.

    Rounds are short and take turns, and the best of each counts, so that a busy machine does not
    decide.
    """
    sample = titles(_SAMPLE)
    exact = encoders[FP32].encode(sample)
    similar = {kind: cosines(encoder.encode(sample), exact) for kind, encoder in encoders.items()}
    best = dict.fromkeys(encoders, float("inf"))
    for _ in range(_ROUNDS):
        for kind, encoder in encoders.items():
            start = clock()
            encoder.encode(sample[:_ROUND_TITLES])
            best[kind] = min(best[kind], max(clock() - start, 1e-9))
    return {
        kind: Measured(_ROUND_TITLES / best[kind], mean, low)
        for kind, (low, mean) in similar.items()
    }


def cosines(vectors: FloatArray, exact: FloatArray) -> tuple[float, float]:
    """First percentile and mean of the cosines of unit rows (n, d) to ``exact``'s."""
    found = np.einsum("nd,nd->n", vectors, exact)
    return float(np.percentile(found, 1)), float(found.mean())


def choose(measured: Mapping[str, Measured]) -> str:
    """The quickest faithful one; a coarser one only where it is well ahead of the more exact."""
    chosen = FP32
    for kind, figures in measured.items():
        ahead = figures.titles_per_second > _WORTH * measured[chosen].titles_per_second
        if figures.faithful and ahead:
            chosen = kind
    return chosen


def _read(file: Path) -> dict[str, dict[str, object]]:
    try:
        kept = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}  # not there, or damaged: it is measured anew
    pairs = kept.items() if isinstance(kept, dict) else ()
    return {key: value for key, value in pairs if isinstance(value, dict)}
