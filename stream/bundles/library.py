"""Where bundles lie, and which one is meant."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import models
from models.bundle import manifest
from models.bundle.files import invalid, read_manifest
from models.bundle.manifest import Manifest
from models.errors import BundleInvalid
from stream.settings import Settings

#: The word for no bundle: the zero-shot space of title vectors.
NONE: Final = "none"
#: Bundles that come with Weft.
SHIPPED: Final = Path(models.__file__).parent / "bundles"


def folders(settings: Settings) -> list[Path]:
    """The folders in which bundles are looked for, in this order."""
    named = [Path(part).expanduser() for part in settings.bundles.split(os.pathsep) if part]
    return [*(named or [settings.data_dir / "bundles"]), SHIPPED]


def found(within: Sequence[Path]) -> Iterator[tuple[Path, Manifest | BundleInvalid]]:
    """Each bundle directly inside ``within``, or why it cannot be read."""
    for folder in within:
        for path in sorted(folder.glob("*/")) if folder.is_dir() else ():
            if path.name.startswith(".") or not (path / manifest.NAME).exists():
                continue
            try:
                yield path, read_manifest(path)
            except BundleInvalid as error:
                yield path, error


def locate(asked: str, within: Sequence[Path]) -> Path:
    """The folder of the bundle of that id, that name (the newest so named) or that path.

    Raises ``BundleInvalid`` where there is none.
    """
    known = [(path, told) for path, told in found(within) if isinstance(told, Manifest)]
    matching = [(t.told.created, p) for p, t in known if asked in (t.id, t.name)]
    if matching:
        return max(matching)[1]
    path = Path(asked).expanduser()
    if (path / manifest.NAME).is_file():
        return path
    names = ", ".join(sorted({told.name for _, told in known})) or "none"
    raise BundleInvalid(
        f"{asked!r} is neither a bundle's folder nor the name or id of one in "
        f"{', '.join(map(str, within))} (there: {names}); `weft models list` shows them"
    )


def locate_id(bundle_id: str, path: str, within: Sequence[Path]) -> Path:
    """The folder of the bundle with that id: one of ``within``, else ``path``.

    Raises ``BundleInvalid`` where neither has it.
    """
    for place, told in found(within):
        if isinstance(told, Manifest) and told.id == bundle_id:
            return place
    place = Path(path)
    if not path or not (place / manifest.NAME).is_file():
        where = ", ".join(map(str, within))
        raise invalid(
            Path(path or bundle_id),
            f"this worker finds the bundle {bundle_id} neither there nor in {where}: copy its "
            "folder here, or set WEFT_BUNDLES to where it is",
        )
    if (told := read_manifest(place)).id != bundle_id:
        raise invalid(place, f"it is {told.id} now, and {bundle_id} was asked for")
    return place
