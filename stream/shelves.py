"""Indexes beside each other: which belongs to which bundle, which was served last, which may go.

An embedded index is a folder, a server's a collection: ``<collection>`` for the zero-shot space,
``<collection>-<id>`` for a bundle's. The one that served before is kept for going back.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from qdrant_client import QdrantClient
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ApiException

from stream.index_server import connect
from stream.settings import Settings

_log = logging.getLogger("weft.bundles")

_SERVER: Final = (ApiException, QdrantException)
_SUFFIX: Final = r"(?:-([0-9a-f]{12}))?"


def home_of(settings: Settings, index_folder: Path | None) -> Path:
    """The embedded index's folder of the zero-shot space; the others lie beside it."""
    return index_folder or settings.data_dir / "index" / settings.collection


def folder_of(settings: Settings, index_folder: Path | None, bundle: str) -> Path:
    """The folder of a bundle's embedded index; ``bundle`` "" is the zero-shot space."""
    home = home_of(settings, index_folder)
    return home.with_name(f"{home.name}-{bundle}") if bundle else home


def collection_of(settings: Settings, bundle: str) -> str:
    """The collection of a bundle on a server."""
    return f"{settings.collection}-{bundle}" if bundle else settings.collection


class Shelves:
    """The indexes of one worker, or with a server those that all workers share."""

    def __init__(self, settings: Settings, index_folder: Path | None) -> None:
        self._settings = settings
        self._home = home_of(settings, index_folder)
        self._folder = index_folder
        self._mark = self._home.with_name(f"{self._home.name}-serving.json")

    def remember(self, bundle: str, path: Path | None) -> None:
        """Notes what serves, for the next start of this worker."""
        told = json.dumps({"bundle": bundle, "path": str(path.absolute()) if path else ""})
        try:
            self._mark.parent.mkdir(parents=True, exist_ok=True)
            fresh = self._mark.with_name(f"{self._mark.name}.new")
            fresh.write_text(told, "utf-8")
            fresh.replace(self._mark)
        except OSError as error:  # the next start asks the control topic instead
            _log.warning("cannot write %s: %s", self._mark, error.strerror)

    def last(self) -> tuple[str, str] | None:
        """Id and path of the bundle that served last here, where its index is still there."""
        try:
            told = json.loads(self._mark.read_text("utf-8"))
            bundle, path = str(told["bundle"]), str(told["path"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return (bundle, path) if self._is_there(bundle) else None

    def clear_away(self, keep: Collection[str]) -> None:
        """Deletes the indexes of all bundles but ``keep``. What cannot be deleted is said."""
        try:
            for bundle in self._known() - set(keep):
                _log.info("deleting the index of %s", bundle or "the zero-shot space")
                self._drop(bundle)
        except (OSError, *_SERVER) as error:  # (a server's words may repeat what was sent)
            words = error.strerror if isinstance(error, OSError) else type(error).__name__
            _log.warning("an index that serves no more could not be deleted: %s", words)

    def _is_there(self, bundle: str) -> bool:
        if self._settings.index == "edge":
            folder = folder_of(self._settings, self._folder, bundle)
            return (folder / "manifest.json").is_file()
        try:
            with self._server() as client:
                return client.collection_exists(collection_of(self._settings, bundle))
        except _SERVER:
            return False  # opening it will say what is wrong

    def _known(self) -> set[str]:
        """The bundles that have an index."""
        if self._settings.index == "edge":
            base = self._home.name
            folders = self._home.parent.glob(f"{base}*/")
            names = [f.name for f in folders if (f / "manifest.json").is_file()]
        else:
            base = self._settings.collection
            with self._server() as client:
                names = [found.name for found in client.get_collections().collections]
        matches = (re.fullmatch(re.escape(base) + _SUFFIX, name) for name in names)
        return {match[1] or "" for match in matches if match}

    def _drop(self, bundle: str) -> None:
        if self._settings.index == "edge":
            shutil.rmtree(folder_of(self._settings, self._folder, bundle))
            return
        with self._server() as client:
            client.delete_collection(collection_of(self._settings, bundle))

    @contextmanager
    def _server(self) -> Iterator[QdrantClient]:
        s = self._settings
        client = connect(s.qdrant_url, s.qdrant_api_key, s.qdrant_timeout, s.qdrant_ca)
        try:
            yield client
        finally:
            client.close()
