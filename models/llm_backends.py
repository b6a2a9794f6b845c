"""Which back end runs the causal LLM on this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from models import weights
from models.llm import CausalScorer


def is_quick() -> bool:
    """Whether this machine runs the LLM in bf16 at speed: a CPU with AMX, or a GPU."""
    return _has_amx() or _has_gpu()


def load_scorer(
    source: str, data_dir: Path, threads: int, say: Callable[[str], None]
) -> CausalScorer:
    """The scorer for this machine: torch where it is quick. Raises ``MissingWeights``."""
    folder = weights.smollm2(source, data_dir, say)
    from models.llm_torch import TorchScorer

    return TorchScorer(folder, threads=threads)


def _has_amx() -> bool:
    """Linux tells; elsewhere no CPU has AMX that torch could use."""
    try:
        flags = Path("/proc/cpuinfo").read_text("ascii", "replace")
    except OSError:
        return False
    return "amx_bf16" in flags and "amx_tile" in flags


def _has_gpu() -> bool:
    """Asks torch only where a driver is there at all: its import costs seconds."""
    if not Path("/dev/nvidiactl").exists():
        return False
    import torch

    return torch.cuda.is_available()
