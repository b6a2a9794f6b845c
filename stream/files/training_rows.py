"""Files of a catalogue and a log as training reads them: what the topics' contracts accept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from models.domain import Item
from models.errors import InvalidFile
from models.training.data.log import Logged
from models.training.run import Sources
from stream.contracts.declaration import EARLIEST
from stream.contracts.topics import TOPICS
from stream.files.columns import Columns
from stream.files.row_file import RowFile
from stream.files.rows import event_rows, product_rows


def sources(
    catalog: Path,
    events: Path,
    done: Callable[[RowFile], None],
    catalog_columns: Columns | None = None,
    event_columns: Columns | None = None,
    until: int | None = None,
    held_out: Collection[str] = (),
) -> Sources:
    """Both files; ``done`` hears of each when it has been read, with what was set aside.

    The maps say which of their columns is which field. Left out are events at ``until`` (epoch ms)
    and later, and those on items of the categories ``held_out``. Raises ``InvalidFile``.
    """
    for file, columns in ((catalog, catalog_columns), (events, event_columns)):
        with RowFile(file, columns=columns) as rows:
            next(iter(rows), None)  # says at once what cannot be opened, and what has no column
    maps = "".join(f" {each}" for each in (catalog_columns, event_columns) if each is not None)

    def items() -> Iterator[Item]:
        return _items(catalog, catalog_columns, done)

    def logged() -> Iterator[Logged]:
        barred = set[str | None]()
        if held_out:
            told = _items(catalog, catalog_columns)
            barred = {item.item_id for item in told if item.category in held_out}
        with RowFile(events, columns=event_columns) as rows:
            for row in event_rows(rows):
                kind, item_id = TOPICS[row.topic].kind, row.fields.get("item_id")
                in_time = until is None or row.ts < until
                if kind is not None and in_time and item_id not in barred:
                    query = row.fields.get("query")
                    yield Logged(row.fields["user_id"], row.ts, kind, item_id, query)
            done(rows)

    if until is not None:
        maps += f" until {until}"
    if held_out:
        maps += f" without {sorted(held_out)}"
    return Sources(f"{_sum(catalog)} {_sum(events)}{maps}", items, logged)


def held_out_categories(
    catalog: Path, asked: Sequence[str], seed: int, columns: Columns | None = None
) -> tuple[str, ...]:
    """The categories to leave out of training: those named, or so many drawn by ``seed``.

    Raises ``InvalidFile`` where the catalogue lacks one, or none would be left.
    """
    there = sorted({item.category for item in _items(catalog, columns) if item.category})
    if len(asked) == 1 and asked[0].isdecimal() and asked[0] not in there:
        count = int(asked[0])
        drawn = np.random.default_rng(seed).permutation(len(there))[:count]
        asked = [there[place] for place in drawn]
        if not count < len(there):
            raise InvalidFile(f"{catalog} has {len(there)} categories: hold out fewer than that")
    if unknown := [name for name in asked if name not in there]:
        names = ", ".join(there[:20]) + (", …" if len(there) > 20 else "")
        raise InvalidFile(f"{catalog} has no category {unknown[0]!r}; it has {names or 'none'}")
    return tuple(sorted(set(asked)))


def _items(
    catalog: Path, columns: Columns | None, done: Callable[[RowFile], None] | None = None
) -> Iterator[Item]:
    with RowFile(catalog, columns=columns) as rows:
        # not the time of reading: the same files have the same fingerprint
        for row in product_rows(rows, undated=EARLIEST):
            yield Item(**row.fields)
        if done is not None:
            done(rows)


def _sum(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
