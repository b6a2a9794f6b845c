"""Where a training stands, kept so that a kill costs minutes: replaced whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import torch

_FILE: Final = "checkpoint.pt"


def keep(folder: Path, state: dict[str, Any]) -> None:
    """Writes ``state`` (tensors, numbers, lists and dicts of them) in the place of the last one."""
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f".{_FILE}.new"
    with fresh.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(folder / _FILE)


def kept(folder: Path) -> dict[str, Any] | None:
    """The last state that was kept, None without one. Runs no code of the file's."""
    file = folder / _FILE
    if not file.is_file():
        return None
    state: dict[str, Any] = torch.load(file, weights_only=True)
    return state
