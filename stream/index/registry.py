"""The adapters of the item index, by what ``WEFT_INDEX`` calls them.

To add one: a file with an ``IndexAdapter``, a function and a line here. Each is imported when it
is asked for: a worker with an embedded index needs no client of a server.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from models.errors import InvalidSettings
from stream.settings import Settings

if TYPE_CHECKING:
    from stream.index.port import IndexAdapter


def _edge() -> IndexAdapter:
    from stream.index.edge import EDGE

    return EDGE


def _server() -> IndexAdapter:
    from stream.index.server import SERVER

    return SERVER


ADAPTERS: Final[Mapping[str, Callable[[], IndexAdapter]]] = {
    "edge": _edge,
    "server": _server,
}


def adapter_of(settings: Settings) -> IndexAdapter:
    """The adapter that the settings name. Raises ``InvalidSettings``."""
    if settings.index not in ADAPTERS:
        raise InvalidSettings(f"index={settings.index!r} must be one of {', '.join(ADAPTERS)}")
    return ADAPTERS[settings.index]()
