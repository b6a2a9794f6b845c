"""Libraries that only baselines need, found when they are first asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from models.errors import InvalidSettings


def library(name: str, module: str = "") -> Any:
    """``module`` of the library ``name``. Raises ``InvalidSettings`` where it is not installed."""
    try:
        return import_module(module or name)
    except ImportError as error:
        raise InvalidSettings(
            f"the library {name} is not installed: pip install 'weft[baselines]'"
        ) from error
