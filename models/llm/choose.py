"""Which back end runs the causal LLM on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from models import atomic_folder
from models.atomic_folder import Say
from models.llm.scorer import SOFT, CausalScorer
from models.weights import cpu, locate

_KIND: Final = "int8"  # keeps the ranking at 1.7 times the speed of fp32: docs/log.md
_FORMAT: Final = "2"  # of models/llm/llama_graph.py: another number has the files written anew


def is_quick() -> bool:
    """Whether this machine runs the LLM in bf16 at speed: a CPU with AMX, or a GPU.

    A CPU with bf16 in AVX-512 alone does not count: int8 is twice as quick on it (one core of an
    EPYC 9004: 1,220 tokens/s on ONNX Runtime, 650 to 710 in bf16 and 370 in fp32 on torch).
    """
    return cpu.has_amx() or _has_gpu()


def load_scorer(source: str, data_dir: Path, threads: int, say: Say) -> CausalScorer:
    """The scorer for this machine: torch where it has bf16 at speed, else ONNX Runtime in int8.

    The first call on a machine converts and writes what is needed (a minute); later ones take a
    second or two. ``threads``: 0 for all cores. A model that is no plain Llama runs on torch
    everywhere. Raises ``MissingWeights`` or ``DamagedWeights``.
    """
    folder = locate.smollm2(source, data_dir, say)
    if is_quick() or not is_plain_llama(folder):
        from models.llm.on_torch import TorchScorer

        return TorchScorer(folder, threads=threads)
    from models.llm.on_onnx import OnnxScorer

    name = f"{folder.name.lower()}-{_KIND}"
    graph = _written(folder, data_dir, say)
    return OnnxScorer(name, graph, folder / "tokenizer.json", threads)


def is_plain_llama(folder: Path) -> bool:
    """Whether models/llm/llama_graph.py knows the folder's model: a Llama without extras."""
    if (folder / SOFT).is_file():
        return False
    config = json.loads((folder / "config.json").read_text("utf-8"))
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    return (
        config.get("model_type") == "llama"
        and config.get("hidden_act") == "silu"
        and not config.get("attention_bias")
        and not config.get("mlp_bias")
        and rope.get("rope_type", rope.get("type", "default")) == "default"
        and config.get("head_dim") in (None, config["hidden_size"] // config["num_attention_heads"])
    )


def _written(folder: Path, data_dir: Path, say: Say) -> Path:
    """The graph's file, written once for these weights."""

    def write(fresh: Path) -> None:
        from models.llm import llama_graph  # onnx takes a second to import: only where it is needed

        say(f"writing {folder.name} for ONNX Runtime ({_KIND}), once")
        llama_graph.write(folder, fresh / "model.onnx", _KIND)

    place = data_dir / "weights" / f"{folder.name}-onnx-{_KIND}"
    made_of = {"sha256": _sum(folder), "format": _FORMAT}
    return atomic_folder.once(place, made_of, write, say) / "model.onnx"


def _sum(folder: Path) -> str:
    """The weights' sum: from the manifest where there is one, since hashing takes a second."""
    made = atomic_folder.look(folder)
    if made is None:
        return locate.fingerprint(folder)
    return ",".join(v for k, v in sorted(made.sha256.items()) if k.endswith(".safetensors"))


def _has_gpu() -> bool:
    """Asks torch only where a driver is there at all: its import costs seconds."""
    if not any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/kfd")):
        return False
    import torch

    return torch.cuda.is_available()
