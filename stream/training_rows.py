"""Files of a catalogue and a log as training reads them: what the topics' contracts accept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from models.domain import Item, Kind
from models.training.log import Logged
from models.training.run import Sources
from stream.columns import Columns
from stream.contracts import EventKind, decode_product, decode_shopper
from stream.declaration import EARLIEST
from stream.files import RowFile
from stream.publish import event_entries, now_ms, product_entries
from stream.topics import TopicNames

_KINDS = {
    EventKind.CLICK: Kind.CLICK,
    EventKind.PURCHASE: Kind.PURCHASE,
    EventKind.SEARCH: Kind.SEARCH,
}


def sources(
    catalog: Path,
    events: Path,
    done: Callable[[RowFile], None],
    catalog_columns: Columns | None = None,
    event_columns: Columns | None = None,
    until: int | None = None,
) -> Sources:
    """Both files; ``done`` hears of each when it has been read, with what was set aside.

    The maps say which of their columns is which field; events at ``until`` (epoch ms) and later are
    left out. Raises ``InvalidFile``.
    """
    for file, columns in ((catalog, catalog_columns), (events, event_columns)):
        with RowFile(file, columns=columns) as rows:
            next(iter(rows), None)  # says at once what cannot be opened, and what has no column
    maps = "".join(f" {each}" for each in (catalog_columns, event_columns) if each is not None)

    def items() -> Iterator[Item]:
        with RowFile(catalog, columns=catalog_columns) as rows:
            # not the time of reading: the same files have the same fingerprint
            for entry in product_entries(rows, TopicNames(), undated=EARLIEST):
                decoded = decode_product(entry.record.key, entry.record.value, now_ms())
                if isinstance(decoded, Item):
                    yield decoded
            done(rows)

    def logged() -> Iterator[Logged]:
        with RowFile(events, columns=event_columns) as rows:
            for entry in event_entries(rows, TopicNames()):
                event = decode_shopper(
                    entry.record.topic, entry.record.key, entry.record.value, now_ms()
                )
                kind = _KINDS.get(event.kind)
                if kind is not None and (until is None or event.ts < until):
                    yield Logged(event.user_id, event.ts, kind, event.item_id, event.query)
            done(rows)

    if until is not None:
        maps += f" until {until}"
    return Sources(f"{_sum(catalog)} {_sum(events)}{maps}", items, logged)


def _sum(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
