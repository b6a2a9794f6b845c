"""A small shop for the tests of replay: its log on disk, and the live processors around fakes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from models.recommend.popularity import Popularity
from models.recommend.query_memory import QueryMemory
from models.recommend.recommender import Recommender
from models.recommend.rules import Rules
from models.space.zero_shot import ZeroShotSpace
from models.training.data.log import Logged, TrainingLog
from models.training.data.write_log import prepare
from stream import settings as weft_settings
from stream.assemble import Parts
from stream.contracts.codec import decode_product, decode_shopper, encode_row
from stream.contracts.topics import PRODUCTS, TOPIC_OF_TYPE
from stream.files.publish import Entry
from stream.kafka.delivery import Record
from stream.replay.play.checkpoint import Store
from stream.replay.play.driver import Driver, Plan
from stream.replay.play.in_process import InProcess
from stream.replay.questions import protocols
from stream.replay.questions.answers import KEPT, Answers
from stream.replay.questions.event_store import Spool, spooled
from stream.replay.questions.prepare import UNDATED
from stream.replay.questions.protocols import Asked
from stream.serving import Live, Serving
from testbed.stand_ins import HashEncoder, MemoryIndex

DAY = 86_400_000
START = 1_600_000_000_000 // DAY * DAY
NOW = START + 10_000 * DAY

#: (type, user, item or what was searched for, day)
Row = tuple[str, str, str, float]


@dataclass
class ReplayShop:
    """Items are (id, title) or (id, title, day of entry)."""

    folder: Path
    items: Sequence[tuple[Any, ...]]
    rows: Sequence[Row]
    log: TrainingLog = field(init=False)
    spool: Spool = field(init=False)

    def __post_init__(self) -> None:
        entries = list(self.entries())
        self.encoder = HashEncoder()
        self.products = sorted(self._products(), key=lambda entry: entry.ts)
        self.log = prepare(
            self.folder / "log",
            (decode_product(e.record.key, e.record.value, NOW) for e in self.products),  # type: ignore[misc]
            (logged(entry) for entry in entries),
            self.encoder.encode,
        )
        self.spool = spooled(self.folder / "spool", "shop", lambda: entries, print)

    def entries(self) -> Iterable[Entry]:
        for kind, user, item, day in self.rows:
            what = "query" if kind == "search" else "item_id"
            ts = int(START + day * DAY)
            row = {"user_id": user, what: item, "ts": ts}
            topic = TOPIC_OF_TYPE[kind]
            _, key, value = encode_row(topic, row, NOW)
            yield Entry(ts, Record(topic, key, value))

    def _products(self) -> Iterable[Entry]:
        for item_id, title, *day in self.items:
            ts = START + day[0] * DAY if day else UNDATED
            row = {"item_id": item_id, "title": title, "ts": ts}
            _, key, value = encode_row(PRODUCTS, row, NOW)
            yield Entry(ts, Record(PRODUCTS, key, value))

    def play(
        self, asked: Asked, work: Path, *, batch: int = 256, list_size: int = KEPT,
        stop_at: int | None = None, bought: str = "hide", sampled: int = 0,
    ) -> Answers:  # fmt: skip
        """One pass; with ``stop_at`` it is cut off when so many checkpoints were made.

        With ``sampled`` so many of the shoppers who are asked take part, the others are overlooked.
        """
        return asyncio.run(self._play(asked, work, batch, list_size, stop_at, bought, sampled))

    async def _play(
        self, asked: Asked, work: Path, batch: int, list_size: int, stop_at: int | None,
        bought: str, sampled: int,
    ) -> Answers:  # fmt: skip
        settings = weft_settings.load({}, data_dir=work, list_size=list_size, partitions=1)
        popularity, index = Popularity(7), MemoryIndex()
        self.popularity = popularity
        self.memory = QueryMemory(self.encoder)
        recommender = Recommender(
            index, ZeroShotSpace(self.encoder), popularity, None, 0.0, list_size, list_size,
            self.memory, rules=Rules(bought=bought),
        )  # fmt: skip
        serving = Serving("", "fake", None, ZeroShotSpace(self.encoder), index, recommender, 0.0)
        parts = Parts(self.encoder, popularity, Live(serving), self.memory)  # type: ignore[arg-type]
        rows = {item_id: row for row, item_id in enumerate(self.log.item_ids, 1)}
        store = Store(work / "store.sqlite")
        if (told := store.mark("popularity")) is not None:
            popularity.restore(told.decode())
        if (told := store.mark("memory")) is not None:
            self.memory.restore(told.decode())
        made = 0

        def checkpoint(place: int) -> None:
            nonlocal made
            store.checkpoint(
                popularity=popularity.dump().encode(), memory=self.memory.dump().encode(),
                place=b"%d" % place, overlooked=stage.overlooked.dump().encode(),
            )  # fmt: skip
            made += 1
            if made == stop_at:
                raise KeyboardInterrupt

        asked = protocols.sampled(asked, self.log, sampled)
        mine = None
        if sampled:
            mine = np.isin(self.spool.users, self.log.users[asked.baskets.shoppers])
        answers = Answers(work / "answers", asked.baskets)
        stage = InProcess(settings, parts, store, rows)
        if (told := store.mark("overlooked")) is not None:
            stage.overlooked.restore(told.decode())
        plan = Plan(
            self.spool, self.log, asked.baskets, self.products, asked.until, batch,
            protocols.held_out(asked, self.log, self.spool), mine,
            protocols.grouped(asked, self.spool, mine),
        )  # fmt: skip
        place = int(store.mark("place") or b"0")
        driver = Driver(plan, stage, answers, checkpoint, lambda _done, _all: None, place)
        if stop_at is not None:
            driver.every = 0.0
        try:
            await driver.run()
        finally:
            await stage.stop()
            store.close()
        return answers

    def listed(self, answers: Answers, question: int) -> list[str]:
        """The ids of one answer."""
        ids = self.log.item_ids
        return [ids[row - 1] for row in answers.lists[question].tolist() if row]


def logged(entry: Entry) -> Logged:
    """As training reads it."""
    event = decode_shopper(entry.record.topic, entry.record.key, entry.record.value, NOW)
    assert event.kind is not None
    return Logged(event.user_id, event.ts, event.kind, event.item_id, event.query)


def titles(count: int) -> list[tuple[str, str]]:
    """Items whose titles share words in fives."""
    return [(f"i{n}", f"colour{n % 5} cut{n % 3} thing{n}") for n in range(count)]
