"""The folder of an embedded index: who may open it, what is in it, how far it has come.

It is a cache of the products topic: it may be deleted and fills again from the topic.

    manifest.json   format, encoder, dimension: another one is refused
    position.json   how far the products topic has been followed
    points/         the engine's own files
    lock            one process at a time
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final

from models.atomic_folder import write_whole
from models.errors import IndexFull, IndexIncompatible, IndexInUse, InvalidSettings
from stream.findings import Finding, Status
from stream.index.points import Position
from stream.index.port import SUFFIX

FORMAT: Final = 1
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class IndexFolder:
    """An open, locked folder. ``reserve`` is how many bytes must stay free on its disk.

    Raises while opening: ``IndexInUse``, ``IndexFull``, ``InvalidSettings`` (not writable).
    """

    def __init__(self, path: Path, reserve: int) -> None:
        self.path = path
        self.points = path / "points"
        self._reserve = reserve
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(path)
        except OSError as error:
            raise self.unwritable(error) from error

    @property
    def closed(self) -> bool:
        """Whether the lock has been released."""
        return self._lock.closed

    def close(self) -> None:
        """Lets another process open the folder."""
        self._lock.close()

    def is_ready(self, encoder: str, dim: int) -> bool:
        """Whether there is an index; raises ``IndexIncompatible`` if it is another one."""
        kept = self._read("manifest.json")
        if kept is None:  # new, or its making was interrupted
            return False
        for name, value in _manifest(encoder, dim).items():
            if kept.get(name) != value:
                raise self.incompatible(
                    f"its {name} is {kept.get(name)!r}, this worker's is {value!r}"
                )
        return True

    def empty(self) -> None:
        """Makes an empty ``points`` folder and forgets the position."""
        self.check_room()
        try:
            shutil.rmtree(self.points, ignore_errors=True)
            self.forget_position()
            self.points.mkdir()
        except OSError as error:
            raise self.unwritable(error) from error

    def make_ready(self, encoder: str, dim: int) -> None:
        """The last step of making an index: from now on it is opened, not made."""
        self._write("manifest.json", _manifest(encoder, dim))

    def position(self) -> Position | None:
        """How far the products topic has been followed; None in a new index."""
        if (kept := self._read("position.json")) is None:
            return None
        try:
            offsets = {int(partition): int(o) for partition, o in kept["offsets"].items()}
            return Position(str(kept["source"]), offsets)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise self.incompatible(f"position.json cannot be read ({error!r})") from error

    def keep_position(self, position: Position) -> None:
        """On the disk when it returns."""
        offsets = {str(partition): offset for partition, offset in position.offsets.items()}
        self._write("position.json", {"source": position.source, "offsets": offsets})

    def forget_position(self) -> None:
        """The next reader begins at the start."""
        (self.path / "position.json").unlink(missing_ok=True)

    def check_room(self) -> None:
        """Raises ``IndexFull`` before the disk is so full that the engine cannot write safely."""
        if (free := shutil.disk_usage(self.path).free) < self._reserve:
            raise IndexFull(
                f"{free / 2**20:.0f} MB are free under {self.path} and the index needs "
                f"{self._reserve / 2**20:.0f} MB to write safely: {_ROOM}"
            )

    def incompatible(self, reason: str) -> IndexIncompatible:
        """The error that says to delete the folder."""
        return IndexIncompatible(
            f"the index under {self.path} cannot be used: {reason}. It is a cache: delete that "
            "folder, and it fills again from the products topic"
        )

    def unwritable(self, error: OSError) -> IndexFull | InvalidSettings:
        """What an operating system's error means for the shop's engineer."""
        if error.errno in _FULL:
            return IndexFull(f"the disk is full under {self.path}: {_ROOM}")
        return InvalidSettings(
            f"cannot write to {self.path} ({error.strerror}): set WEFT_DATA_DIR to a folder that "
            "can be written"
        )

    def _read(self, name: str) -> Mapping[str, Any] | None:
        try:
            kept = json.loads((self.path / name).read_text("utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise self.incompatible(f"{name} cannot be read ({error})") from error
        return kept if isinstance(kept, dict) else {}

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        """Writes the file whole or not at all."""
        try:
            write_whole(self.path / name, json.dumps(content))
        except OSError as error:
            raise self.unwritable(error) from error


def folders_of(home: Path) -> set[str]:
    """The bundles that have an index beside ``home``, which is that of the zero-shot space: ""."""
    there = [found.parent.name for found in home.parent.glob("*/manifest.json")]
    matches = (re.fullmatch(re.escape(home.name) + SUFFIX, name) for name in there)
    return {match[1] or "" for match in matches if match}


def drop_folder(path: Path) -> None:
    """Deletes an index's folder, if it is there. Raises ``IndexInUse``, ``InvalidSettings``."""
    if not path.exists():
        return
    try:
        with _locked(path):  # another worker's with this data folder is not ours to delete
            shutil.rmtree(path)
    except OSError as error:
        raise InvalidSettings(f"cannot delete {path}: {error.strerror}") from error


def examine_folder(path: Path) -> Finding:
    """What `weft doctor` says of an index's folder."""
    try:
        manifest = json.loads((path / "manifest.json").read_text("utf-8"))
    except FileNotFoundError:
        return Finding("index", Status.LATER, f"{path} is empty: it fills from the topic")
    except (OSError, ValueError) as error:
        words = f"{path} cannot be read ({error}): delete it, and it fills from the topic"
        return Finding("index", Status.MISSING, words)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        words = f"{path} is of another version: delete it, and it fills from the topic"
        return Finding("index", Status.MISSING, words)
    return Finding("index", Status.OK, f"{path}, of the encoder {manifest.get('encoder')}")


_ROOM: Final = (
    "make room, or set WEFT_DATA_DIR to a larger disk, and start again; the products topic still "
    "has everything"
)


def _manifest(encoder: str, dim: int) -> dict[str, Any]:
    return {"format": FORMAT, "encoder": encoder, "dim": dim}


def _locked(folder: Path) -> IO[str]:
    """The open lock file; the lock goes with it, also when the process is killed."""
    lock = (folder / "lock").open("a+", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        owner = lock.read(20).strip() or "unknown"
        lock.close()
        raise IndexInUse(
            f"process {owner} uses the index under {folder}: each worker needs a folder of its "
            "own, so give this one another WEFT_DATA_DIR, or stop the other"
        ) from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock
