"""A bundle: what training leaves and serving loads, a folder of safetensors and JSON.

    manifest.json           see ``models.bundle.manifest``
    sequence.safetensors    the state of ``models.space.sequence.SequenceModel``
    items.json              item ids, in the order of the ID table's rows 1, 2, …
    items.safetensors       ``counts`` int32 (n,): each item's events while training
    words.json              the words of titles that have vectors, in the order of their numbers
    llm/                    the LLM's adapter, where it was tuned; see ``training.peft_methods``

Opening runs none of its code and believes nothing that it says: names, lengths, sums and shapes
are checked before a byte is used, and what does not fit is refused with the reason.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models import atomic_folder
from models.atomic_folder import Say
from models.bundle import manifest
from models.bundle.manifest import Described, EncoderFacts, FileFacts, Manifest
from models.errors import BundleInvalid

__all__ = ["Bundle", "Described", "EncoderFacts", "Manifest", "open_bundle", "write_bundle"]

SEQUENCE: Final = "sequence.safetensors"
ITEMS: Final = "items.json"
COUNTS: Final = "items.safetensors"
WORDS: Final = "words.json"
LLM: Final = "llm"
_NEEDED: Final = (SEQUENCE, ITEMS, COUNTS)
#: Bytes of a JSON file at most (ids of some ten million items).
_MOST_JSON: Final = 1 << 30
#: Safetensors' names of number types; another one is not loaded.
_TYPES: Final = frozenset(
    ["BOOL", "U8", "I8", "I16", "U16", "I32", "U32", "I64", "U64", "F16", "BF16", "F32", "F64"]
)
_CODE: Final = ("auto_map", "custom_pipelines")  # would have transformers import files


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose every file has been checked."""

    path: Path
    manifest: Manifest

    @property
    def id(self) -> str:
        """12 hex digits that stand for the content."""
        return self.manifest.id

    @property
    def label(self) -> str:
        """Name and id, as lists and logs say it."""
        return f"{self.manifest.name}@{self.id}"

    def item_ids(self) -> list[str]:
        """The item of each row of the ID table from 1 on."""
        return list(json.loads((self.path / ITEMS).read_bytes()))

    def words(self) -> list[str]:
        """The words of titles that have vectors of their own, from number 1 on; maybe none."""
        if WORDS not in self.manifest.files:
            return []
        return list(json.loads((self.path / WORDS).read_bytes()))

    def counts(self) -> NDArray[np.int32]:
        """Events of each item while training (n,)."""
        from safetensors.numpy import load_file

        return np.asarray(load_file(self.path / COUNTS)["counts"], dtype=np.int32)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor of the model, by name; only the header is read."""
        return {name: shape for name, (_, shape) in _tensors(self.path / SEQUENCE).items()}

    def check_encoder(self, name: str, dim: int) -> None:
        """Raises ``BundleInvalid`` unless the encoder so named is the one that it was trained with.

        Any number type will do: ``models.encoder.choose`` takes only those whose vectors agree.
        """
        here = EncoderFacts.of(name, dim)
        if not self.manifest.encoder.fits(here):
            raise invalid(
                self.path,
                f"it was trained with the title encoder {self.manifest.encoder}, and this is "
                f"{here}: set WEFT_ENCODER to that one, or train it anew with this",
            )


def write_bundle(out: Path, told: Described, fill: Callable[[Path], None], say: Say) -> Manifest:
    """Makes the folder ``out``, at once or not at all; one that is there is replaced.

    ``fill`` writes the files into the empty folder that it is given: see the top of this file and
    ``write_items``. Raises ``BundleInvalid`` for what ``open_bundle`` would refuse, and
    ``MissingWeights`` where the disk refuses.
    """
    with atomic_folder.exclusive(out, say), atomic_folder.replacing(out) as fresh:
        fill(fresh)
        sealed = seal(fresh, told)
        open_bundle(fresh)
    return sealed


def write_items(folder: Path, ids: Sequence[str], counts: NDArray[np.int32]) -> None:
    """Writes the ids (n) and their counts (n,), in the order of the rows 1, 2, …"""
    from safetensors.numpy import save_file

    (folder / ITEMS).write_text(json.dumps(list(ids), ensure_ascii=False), "utf-8")
    save_file({"counts": np.ascontiguousarray(counts, dtype=np.int32)}, folder / COUNTS)


def write_words(folder: Path, words: Sequence[str]) -> None:
    """Writes the words of titles that have vectors, if there are any, from number 1 on."""
    if words:
        (folder / WORDS).write_text(json.dumps(list(words), ensure_ascii=False), "utf-8")


def seal(folder: Path, told: Described) -> Manifest:
    """Writes the manifest of what is in ``folder``, as the last file, all of it on the disk."""
    files: dict[str, FileFacts] = {}
    for relative, path in _walk(folder):
        if relative == manifest.NAME:
            continue
        path.chmod(0o644)  # a temporary file may have been made for its owner alone
        with path.open("rb") as opened:
            os.fsync(opened.fileno())
        files[relative] = FileFacts(path.stat().st_size, atomic_folder.sha256_of(path))
    sealed = manifest.sealed(told, files)
    with (folder / manifest.NAME).open("w", encoding="utf-8") as file:
        json.dump(sealed.to_json(), file, indent=2, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())
    return sealed


def read_manifest(path: Path) -> Manifest:
    """What the bundle says of itself; its other files are not looked at.

    Raises ``BundleInvalid``.
    """
    file = path / manifest.NAME
    try:
        if file.is_symlink():
            raise BundleInvalid("its manifest is a link to somewhere else")
        if not file.is_file():
            raise BundleInvalid(f"it has no {manifest.NAME}: no bundle, or one not yet whole")
        with file.open("rb") as opened:
            return manifest.parse(opened.read(manifest.MOST_BYTES + 1))
    except BundleInvalid as error:
        raise invalid(path, str(error)) from error
    except OSError as error:
        raise invalid(path, f"it cannot be read ({error.strerror})") from error


def open_bundle(path: Path) -> Bundle:
    """The bundle in the folder ``path``, every file checked against the manifest.

    Whether it fits this machine's encoder: ``check_encoder``; its LLM: ``load_reranker``. Reads
    every byte once. Raises ``BundleInvalid``.
    """
    bundle = Bundle(path, read_manifest(path))
    try:
        _check_files(bundle)
        _check_items(bundle)
        _check_llm(bundle)
    except BundleInvalid as error:
        raise invalid(path, str(error)) from error
    except OSError as error:
        raise invalid(path, f"it cannot be read ({error.strerror})") from error
    return bundle


def invalid(path: Path, reason: str) -> BundleInvalid:
    """The error that says which bundle, why, and what serves meanwhile."""
    return BundleInvalid(f"the bundle {path} cannot be used: {reason}")


def _walk(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every file below, by its relative name; links and what is no file are refused."""
    for root, folders, files in os.walk(folder, followlinks=False):
        for name in sorted([*folders, *files]):
            path = Path(root) / name
            relative = path.relative_to(folder).as_posix()
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                raise BundleInvalid(f"{relative} is a link to somewhere else")
            if stat.S_ISDIR(mode):
                if relative != LLM:
                    raise BundleInvalid(f"it has a folder {relative!r} that is none of a bundle's")
            elif not stat.S_ISREG(mode):
                raise BundleInvalid(f"{relative} is no plain file")
            else:
                yield relative, path


def _check_files(bundle: Bundle) -> None:
    told = bundle.manifest.files
    there = {relative for relative, _ in _walk(bundle.path)} - {manifest.NAME}
    if missing := sorted({*told, *_NEEDED} - there):
        raise BundleInvalid(f"{missing[0]} is missing: copy the folder again, whole")
    if extra := sorted(there - set(told)):
        raise BundleInvalid(f"it holds {extra[0]!r}, which its manifest does not name")
    for name, facts in told.items():
        file = bundle.path / name
        if (size := file.stat().st_size) != facts.bytes:
            raise BundleInvalid(
                f"{name} is damaged: {size} bytes instead of {facts.bytes}; copy it again"
            )
        if name.endswith(".json") and size > _MOST_JSON:
            raise BundleInvalid(f"{name} is longer than {_MOST_JSON >> 20} MiB")
    for name, facts in told.items():  # what is quick to see was seen first
        if atomic_folder.sha256_of(bundle.path / name) != facts.sha256:
            raise BundleInvalid(f"{name} is damaged: its sha256 is another one; copy it again")
        if name.endswith(".safetensors"):
            _tensors(bundle.path / name)
        else:
            _check_json(bundle.path / name, name)


def _tensors(file: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """(number type, shape) of each tensor of a file; no more than the header is read.

    The library refuses what is not described, not as long as its shape, or not of any tensor.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np") as opened:
            parts = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
            found = {n: (str(p.get_dtype()), tuple(p.get_shape())) for n, p in parts.items()}
    except SafetensorError as error:
        words = repr(str(error)[:100])  # it may quote the file
        raise BundleInvalid(
            f"{file.name} is no safetensors file of whole tensors: {words}"
        ) from None
    if strange := sorted({kind for kind, _ in found.values()} - _TYPES):
        raise BundleInvalid(f"{file.name} holds numbers of the type {strange[0]}")
    return found


def _check_json(file: Path, name: str) -> None:
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BundleInvalid(f"{name} is no JSON ({type(error).__name__})") from error
    if isinstance(content, dict) and (code := [key for key in _CODE if content.get(key)]):
        raise BundleInvalid(f"{name} asks for code to be run ({code[0]}); bundles hold none")


def _check_items(bundle: Bundle) -> None:
    ids = _texts(bundle.path / ITEMS, "item")
    if WORDS in bundle.manifest.files:
        _texts(bundle.path / WORDS, "word")
    if _tensors(bundle.path / COUNTS).get("counts") != ("I32", (len(ids),)):
        raise BundleInvalid(f"{COUNTS} has no counts of {len(ids)} items")


def _texts(file: Path, what: str) -> list[str]:
    """A file that lists distinct texts, none of them empty."""
    told = json.loads(file.read_bytes())
    if not isinstance(told, list) or not all(isinstance(i, str) and i for i in told):
        raise BundleInvalid(f"{file.name} is no list of {what}s")
    if len(set(told)) != len(told):
        raise BundleInvalid(f"{file.name} names the same {what} twice")
    return told


def _check_llm(bundle: Bundle) -> None:
    inside = [name for name in bundle.manifest.files if name.startswith(f"{LLM}/")]
    tuned = bundle.manifest.llm is not None and bundle.manifest.llm.tuned
    if inside and not tuned:
        raise BundleInvalid(f"it holds {inside[0]}, and its manifest tells of no tuned LLM")
    if tuned and not any(name.endswith(".safetensors") for name in inside):
        raise BundleInvalid("its LLM's adapter is missing")
