"""Indexes beside each other: which belongs to which bundle, which was served last, which may go.

The one that served before is kept for going back.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from pathlib import Path

from models.atomic_folder import write_whole
from models.errors import WeftError
from stream.index.port import IndexAdapter, IndexHome

_log = logging.getLogger("weft.bundles")


class Shelves:
    """The indexes of one worker, or where they are shared those of its group."""

    def __init__(self, home: IndexHome, adapter: IndexAdapter) -> None:
        self._home = home
        self._adapter = adapter
        place = home.path()
        self._mark = place.with_name(f"{place.name}-serving.json")

    @property
    def shared(self) -> bool:
        """Whether other workers serve from these, too."""
        return self._adapter.shared

    def remember(self, bundle: str, path: Path | None) -> None:
        """Notes what serves, for the next start of this worker."""
        told = json.dumps({"bundle": bundle, "path": str(path.absolute()) if path else ""})
        try:
            self._mark.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._mark, told)
        except OSError as error:  # the next start asks the control topic instead
            _log.warning("cannot write %s: %s", self._mark, error.strerror)

    def last(self) -> tuple[str, str] | None:
        """Id and path of the bundle that served last here, where its index is still there.

        Raises ``IndexUnavailable`` where that cannot be told now: to begin with another bundle
        instead would be to serve from an index that is empty.
        """
        try:
            told = json.loads(self._mark.read_text("utf-8"))
            bundle, path = str(told["bundle"]), str(told["path"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return (bundle, path) if bundle in self._adapter.known(self._home) else None

    def clear_away(self, keep: Collection[str]) -> None:
        """Deletes the owner's indexes of all bundles but ``keep``. What is left is said."""
        try:
            old = self._adapter.known(self._home) - set(keep)
        except WeftError as error:
            _log.warning("indexes that serve no more are left for now: %s", error)
            return
        for bundle in old:
            _log.info("deleting the index of %s", bundle or "the zero-shot space")
            try:
                self._adapter.drop(self._home, bundle)
            except WeftError as error:
                _log.warning("an index that serves no more could not be deleted: %s", error)
