"""A public log's files in, a log and a catalogue as Weft reads them out, as streams.

Rows are written in their file's order. Memory is bounded by the rows in hand, and by what a source
keeps of each item (its module says what).
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import orjson

from models.errors import BadMessage, InvalidFile
from stream.contracts.declaration import EARLIEST
from stream.contracts.fields import Json
from stream.files.row_file import RowFile
from stream.files.rows import event_row, now_ms, product_row
from stream.importers.amazon import Amazon2014, Amazon2023
from stream.importers.hm import HM
from stream.importers.retailrocket import RetailRocket
from stream.importers.source import Files, Source
from stream.importers.taobao import Taobao
from stream.importers.writing import CATALOG, EVENTS, REPORT, Lines, fresh

SOURCES: Final[dict[str, type[Source]]] = {
    "hm": HM,
    "amazon2014": Amazon2014,
    "amazon2023": Amazon2023,
    "retailrocket": RetailRocket,
    "taobao": Taobao,
}
LICENCE: Final = (
    "The data come from the publisher at the address in home, and their licence is the "
    "publisher's: read it there before you use or pass on what is in this folder."
)
_STRIDE: Final = 4096

Step = Callable[[int, int, str], None]
"""Bytes that were read of a file, its size, and words."""


@dataclass(slots=True)
class Imported:
    """What came of an import; ``set_aside`` by file: how many rows, and the first few in words."""

    events: int = 0
    items: int = 0
    left_out: int = 0
    by_type: Counter[str] = field(default_factory=Counter)
    first_ts: int | None = None
    last_ts: int | None = None
    sorted_by_ts: bool = True
    set_aside: dict[str, tuple[int, list[str]]] = field(default_factory=dict)
    latest: int | None = None  # the ts of the row before

    def add(self, event: Json) -> None:
        """Counts one event that is written."""
        ts = event["ts"]
        self.by_type[event["type"]] += 1
        if self.first_ts is None or self.last_ts is None:
            self.first_ts = self.last_ts = ts
        self.sorted_by_ts = self.sorted_by_ts and (self.latest is None or self.latest <= ts)
        self.first_ts, self.last_ts = min(self.first_ts, ts), max(self.last_ts, ts)
        self.latest = ts


def import_log(
    name: str,
    paths: Sequence[Path],
    out: Path,
    share: float | None = None,
    watch: Callable[[str], Step] = lambda _: lambda _done, _size, _words: None,
    say: Callable[[str], None] = lambda _: None,
) -> Imported:
    """Reads the files of ``SOURCES[name]`` and puts log, catalogue and ``import.json`` at ``out``.

    ``paths``: a folder that holds them, or themselves. ``share``: of the shoppers, by a hash of
    their ids, 0 to 1; the catalogue stays whole. Raises ``InvalidFile``.
    """
    source = SOURCES[name]()
    events = found(source.events, paths)
    catalogue = found(source.catalogue, paths) if source.catalogue else []
    _all_used(paths, [*events, *catalogue])
    told = Imported()
    with fresh(out, say) as folder:
        with Lines(folder / EVENTS) as log, Lines(folder / CATALOG) as items:
            for file in events:
                _read_log(source, file, log, items, told, share, watch(file.name))
            for file in catalogue:
                _read_catalogue(source, file, items, told, watch(file.name))
            for item in source.rest():
                items.write(_product(item))
        told.events, told.items = log.count, items.count
        report = _report(name, source, told, [*events, *catalogue], share)
        (folder / REPORT).write_bytes(report)
    return told


def found(files: Files, paths: Sequence[Path]) -> list[Path]:
    """The files of one sort among ``paths`` or in them. Raises ``InvalidFile``."""
    pattern = re.compile(files.pattern)
    matching = []
    for path in paths:
        try:
            inside = sorted(path.iterdir()) if path.is_dir() else [path]
        except OSError as error:
            raise InvalidFile(f"cannot read {path}: {error.strerror}") from error
        matching += [each for each in inside if pattern.fullmatch(each.name)]
    matching = list(dict.fromkeys(matching))
    where = ", ".join(map(str, paths))
    if not matching:
        raise InvalidFile(f"there is no {files.example} in {where}, unpacked or .gz")
    if len(matching) > 1 and not files.several:
        names = ", ".join(each.name for each in matching[:5])
        raise InvalidFile(f"which one of {names}? Name the files, not their folder {where}")
    return matching


def _all_used(paths: Sequence[Path], used: list[Path]) -> None:
    for path in paths:
        if not path.is_dir() and path not in used:
            raise InvalidFile(f"{path} is none of the files that are read; give the published name")


def _read_log(
    source: Source,
    file: Path,
    log: Lines,
    items: Lines,
    told: Imported,
    share: float | None,
    step: Step,
) -> None:
    from_events = source.catalogue is None
    with RowFile(file, shape=source.events.shape) as rows:
        usable = 0
        for line, row in _watched(rows, step):
            try:
                told_of = source.event(row)
                checked = event_row(told_of, now_ms(), texts=rows.texts).fields
            except (ValueError, BadMessage) as error:
                rows.aside.add(line, str(error))
                continue
            usable += 1
            if from_events and (item := source.item(row)) is not None:
                items.write(_product(item))
            event = {"type": told_of["type"], **checked}
            if share is not None and not chosen(event["user_id"], share):
                told.left_out += 1
                continue
            told.add(event)
            log.write(event)
        _finish(rows, file, usable, told)


def _read_catalogue(source: Source, file: Path, items: Lines, told: Imported, step: Step) -> None:
    assert source.catalogue is not None
    with RowFile(file, shape=source.catalogue.shape) as rows:
        usable = 0
        for line, row in _watched(rows, step):
            try:
                item = source.item(row)
                kept = None if item is None else _product(item)
            except (ValueError, BadMessage) as error:
                rows.aside.add(line, str(error))
                continue
            usable += 1
            if kept is not None:
                items.write(kept)
        _finish(rows, file, usable, told)


def _product(item: Json) -> Json:
    """What is written of a product: it has no ts, which no source tells. Raises ``BadMessage``."""
    fields = product_row(item, now_ms(), EARLIEST).fields
    del fields["ts"]
    return fields


def _watched(rows: RowFile, step: Step) -> Iterator[tuple[int, Json]]:
    count = 0
    for count, numbered in enumerate(rows, 1):
        yield numbered
        if count % _STRIDE == 0:
            step(rows.position, rows.size, f"{count:,} rows")
    step(rows.size, rows.size, f"{count:,} rows")


def _finish(rows: RowFile, file: Path, usable: int, told: Imported) -> None:
    if rows.aside.count:
        told.set_aside[file.name] = (rows.aside.count, rows.aside.first)
    if rows.aside.count and not usable:
        raise InvalidFile(f"{file}: not one row can be used; {rows.aside.first[0]}")


def chosen(user_id: str, share: float) -> bool:
    """Whether a shopper is of a sample of ``share``; a larger share holds a smaller one's."""
    digest = hashlib.blake2b(user_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def _report(
    name: str, source: Source, told: Imported, files: list[Path], share: float | None
) -> bytes:
    """``import.json``: the same files give the same bytes."""
    report = {
        "source": name,
        "words": source.words,
        "home": source.home,
        "licence": LICENCE,
        "notes": list(source.notes),
        "files": [{"name": each.name, "bytes": each.stat().st_size} for each in files],
        "sample_users": share,
        "events": told.events,
        "events_of_shoppers_left_out": told.left_out,
        "by_type": dict(sorted(told.by_type.items())),
        "first_ts": told.first_ts,
        "last_ts": told.last_ts,
        "sorted_by_ts": told.sorted_by_ts,
        "items": told.items,
        "set_aside": {
            each: {"rows": count, "first": words} for each, (count, words) in told.set_aside.items()
        },
    }
    return orjson.dumps(report, option=orjson.OPT_INDENT_2) + b"\n"
