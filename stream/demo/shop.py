"""What the demo plays, the sample shop or files, and the bundle that serves there."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from models.domain import Item
from stream.bundles.library import NONE, SHIPPED
from stream.contracts.codec import ShopperEvent, encode_event, encode_product
from stream.contracts.topics import PRODUCTS, TopicNames
from stream.demo.sample.catalogue import COLLECTION, DAY_MS, DAYS, START_MS, shop
from stream.demo.sample.log import events
from stream.files.progress import report_aside, watched
from stream.files.publish import Entry, event_entries, product_entries
from stream.files.row_file import RowFile
from stream.kafka.delivery import Record
from stream.settings import Settings

#: The bundle that `make demo-bundle` trains on the sample shop's log.
OWN = SHIPPED / "demo"
#: Few enough that shoppers come back within a minute.
SHOPPERS = 12
#: Days that are played before the log ends.
_PLAYED = 28


class DemoShop(Protocol):
    """A catalogue, a log, and one product that arrives while the shop is open."""

    def catalogue(self) -> AbstractContextManager[Iterator[Entry]]:
        """The products there are at the start."""

    def events(self) -> AbstractContextManager[Iterator[Entry]]:
        """What shoppers do, in order."""

    def arrival(self) -> Entry | None:
        """The new product; None where there is none."""


class SampleShop:
    """The sample shop in its held-out days, which no bundle was trained on.

    The collection of those days is on the shelf, but for the product that arrives.
    """

    def __init__(self, names: TopicNames, seed: int = 7) -> None:
        self._names = names
        made = shop(seed, held_out=COLLECTION + 1)
        self._arrival = made.held_out[-1]
        self._shop = replace(made, held_out=made.held_out[:-1])
        self._seed = seed

    @contextlib.contextmanager
    def catalogue(self) -> Iterator[Iterator[Entry]]:
        """See ``DemoShop``."""
        made = self._shop
        products = (*made.products, *made.arrivals, *made.held_out)
        yield (self._entry(product.item) for product in products)

    @contextlib.contextmanager
    def events(self) -> Iterator[Iterator[Entry]]:
        """See ``DemoShop``."""
        log = events(self._shop, self._seed, SHOPPERS, DAYS + _PLAYED)
        yield (self._event(event) for event in log if event.ts >= START_MS + DAYS * DAY_MS)

    def arrival(self) -> Entry:
        """One more product of the held-out collection, as if it came now."""
        return self._entry(replace(self._arrival.item, ts=time.time_ns() // 1_000_000))

    def _entry(self, item: Item) -> Entry:
        key, value = encode_product(item)
        return Entry(0, Record(self._names.of(PRODUCTS), key, value))

    def _event(self, event: ShopperEvent) -> Entry:
        topic, key, value = encode_event(event)
        return Entry(0, Record(self._names.of(topic), key, value))


class FileShop:
    """A catalogue and a log from files. The catalogue's last product is the one that arrives."""

    def __init__(self, names: TopicNames, catalogue: Path, log: Path) -> None:
        self._names = names
        self._catalogue = catalogue
        self._log = log
        self._last: Entry | None = None

    @contextlib.contextmanager
    def catalogue(self) -> Iterator[Iterator[Entry]]:
        """See ``DemoShop``."""
        with (
            RowFile(self._catalogue) as rows,
            watched(rows, self._but_last(product_entries(rows, self._names)), "products") as shown,
        ):
            yield shown
            report_aside(rows)

    @contextlib.contextmanager
    def events(self) -> Iterator[Iterator[Entry]]:
        """See ``DemoShop``."""
        with RowFile(self._log) as rows:
            yield event_entries(rows, self._names)
            report_aside(rows)

    def arrival(self) -> Entry | None:
        """See ``DemoShop``."""
        return self._last

    def _but_last(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        before: Entry | None = None
        for entry in entries:
            if before is not None:
                yield before
            before = entry
        self._last = before


def served(settings: Settings, own_files: bool) -> str:
    """The setting ``bundle`` of a demo: the sample's own, for the sample and the default models."""
    fits = not (own_files or settings.llm or settings.encoder) and OWN.is_dir()
    return settings.bundle or (str(OWN) if fits else NONE)
