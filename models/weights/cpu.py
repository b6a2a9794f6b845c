"""What Linux says of this machine's CPU; nothing elsewhere."""

from __future__ import annotations

import platform
from pathlib import Path


def name() -> str:
    """The model's name, as far as the system tells it."""
    return _field("model name") or platform.processor() or platform.machine()


def has_amx() -> bool:
    """Whether it multiplies bf16 in hardware tiles: asked without an import of torch."""
    return {"amx_bf16", "amx_tile"} <= set(_field("flags").split())


def _field(name: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
