"""Folders that are made once from others: atomically, by one process at a time, and checked.

A converted model or an export is such a folder. Its manifest, written last, says what it was made
of and how long each file is; a process killed half-way leaves nothing that could be taken for it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from models.errors import MissingWeights

Say = Callable[[str], None]

MANIFEST = "weft.json"


@dataclass(frozen=True, slots=True)
class Made:
    """A folder as its manifest tells it. ``whole``: all files are there in their full length."""

    folder: Path
    of: Mapping[str, str]
    sha256: Mapping[str, str]
    whole: bool

    @property
    def bytes(self) -> int:
        """What the folder takes on disk."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    @property
    def undamaged(self) -> bool:
        """Whether every file still has its sum; reads all of them."""
        return self.whole and all(
            sha256_of(self.folder / name) == told for name, told in self.sha256.items()
        )


def once(
    folder: Path,
    of: Mapping[str, str],
    make: Callable[[Path], None],
    say: Say,
    *,
    thorough: bool = False,
) -> Path:
    """``folder``, made by ``make(empty folder)`` unless it is there, whole and made of ``of``.

    ``of`` names what decides the content: sums of the sources, the format's version. ``thorough``
    checks the files' sums, not only their lengths. Raises ``MissingWeights`` where the disk
    refuses, and what ``make`` raises.
    """
    if not _is_made(folder, of, thorough):
        with exclusive(folder, say):
            if not _is_made(folder, of, thorough):  # another process may have been quicker
                with replacing(folder) as fresh:
                    make(fresh)
                    _seal(fresh, of)
    return folder


def look(folder: Path) -> Made | None:
    """What the folder's manifest says, None without a readable one."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        files = manifest["files"].items()
        whole = all(_length(folder / name) == told["bytes"] for name, told in files)
        sums = {name: str(told["sha256"]) for name, told in files}
        return Made(folder, dict(manifest["of"]), sums, whole)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_whole(file: Path, content: str) -> None:
    """The file has all of ``content``, on the disk, or what it had. Raises ``OSError``."""
    fresh = file.with_name(f".{file.name}.new")
    with fresh.open("w", encoding="utf-8") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
    fresh.replace(file)


def sha256_of(file: Path) -> str:
    """The file's sum in hex."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextmanager
def exclusive(path: Path, say: Say) -> Iterator[None]:
    """One process at a time makes ``path``; the lock falls with the process that holds it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.parent / f".{path.name}.lock")
        try:
            lock.acquire(timeout=0.2)
        except Timeout:
            say(f"another process is preparing {path.name}; waiting for it")
            lock.acquire()
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        yield
    finally:
        lock.release()


def unwritable(path: Path, error: OSError) -> MissingWeights:
    """The error for a disk that refuses."""
    return MissingWeights(
        f"cannot write {path}: {error.strerror or error}; "
        "free some space, or let WEFT_DATA_DIR name another folder"
    )


def _is_made(folder: Path, of: Mapping[str, str], thorough: bool) -> bool:
    made = look(folder)
    if made is None or made.of != of:
        return False
    return made.undamaged if thorough else made.whole


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """An empty folder that takes the place of ``folder``, at once, if the body ends well.

    Under ``exclusive``, so what a killed process left of its own can be swept away first.
    """
    prefix = f".{folder.name}.new-"
    try:
        _sweep(folder.parent, prefix)
        fresh = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
        try:
            yield fresh
            fresh.chmod(0o755)
            if folder.exists():
                folder.rename(fresh.with_name(f"{fresh.name}-old"))
            fresh.rename(folder)
        finally:
            _sweep(folder.parent, prefix)
    except OSError as error:
        raise unwritable(folder, error) from error


def _sweep(parent: Path, prefix: str) -> None:
    for left in parent.glob(f"{prefix}*"):
        shutil.rmtree(left, ignore_errors=True)


def _seal(folder: Path, of: Mapping[str, str]) -> None:
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        path.chmod(0o644)  # a temporary file may have been made for its owner alone
        with path.open("rb") as opened:
            os.fsync(opened.fileno())  # the manifest must not outlive a power cut without them
        files[str(path.relative_to(folder))] = {
            "bytes": path.stat().st_size,
            "sha256": sha256_of(path),
        }
    manifest = json.dumps({"of": dict(of), "files": files}, indent=2)
    (folder / MANIFEST).write_text(manifest, "utf-8")


def _length(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
