"""Where a replay's records go: the live processors, in this process.

A stage feeds them, waits, and reads the lists that come out. A whole worker behind a broker makes
the same lists: tests/integration/test_replay_kafka.py holds that, with a stage of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, Protocol

import numpy as np
import orjson

from models.domain import History, Recommendation
from models.errors import Fatal
from models.evaluation.intervals import ranks
from models.ports import Deadline
from stream.assemble import Parts
from stream.catalogue.processor import CatalogueProcessor, Product
from stream.contracts.codec import decode_shopper
from stream.contracts.topics import RECOMMENDATIONS, TopicNames
from stream.kafka.delivery import Record
from stream.replay.play.checkpoint import Store
from stream.replay.questions.answers import Shown
from stream.settings import Settings
from stream.shoppers.aggregates import Aggregates, FirstOfDay
from stream.shoppers.batch import Arrival
from stream.shoppers.processor import Recommends, ShopperProcessor
from stream.shoppers.states import States

#: A replay waits for the LLM as long as it takes: its lists are measured, not its haste.
_DEADLINE: Final = 600.0
#: Products a call of the catalogue processor.
_PRODUCTS: Final = 512


class Stage(Protocol):
    """What a replay asks of the live code."""

    async def enter(self, products: Sequence[Record], ts: int) -> None:
        """Returns when the products are retrievable; ``ts`` is now (epoch ms)."""

    async def apply(self, events: Sequence[tuple[int, Record]], ts: int) -> None:
        """Returns when each of the shoppers has a list made of all of (place, event)."""

    def overlook(self, place: int, record: Record) -> None:
        """An event of a shopper who gets no list: what is popular, and what searches led to, is
        everybody's.
        """

    def newest(self, key: bytes) -> Shown | None:
        """The newest list of a shopper's key."""

    async def stop(self) -> None:
        """Ends the parts."""


class InProcess:
    """The processors themselves, on a table of their own and a clock that the log sets.

    ``rows`` are the items' rows by id. A batch is what one call of ``apply`` brings; the models
    are asked for ``models_batch`` lists at a time.
    """

    def __init__(
        self,
        settings: Settings,
        parts: Parts,
        store: Store,
        rows: Mapping[str, int],
        models_batch: int = 256,
    ) -> None:
        settings = replace(settings, deadline=_DEADLINE, batch_wait=0.0, batch_size=100_000)
        self._names = TopicNames(settings.topic_prefix, settings.group)
        self._now = 0
        self._store = store
        self._rows = rows
        self._aggregates = Aggregates(parts.popularity, parts.memory)
        self.overlooked = FirstOfDay()  # part of a checkpoint
        self._models = _Timed(parts.live, models_batch)
        self._states = States({0: store.states})
        self._processor = ShopperProcessor(
            settings, self._states, self._models, parts.popularity, self, 1,
            clock=lambda: self._now / 1000, memory=parts.memory,
        )  # fmt: skip
        self._catalogue = CatalogueProcessor(
            parts.index, parts.space, self, self._names, now_ms=lambda: self._now
        )
        self._waiting = 0
        self._done = asyncio.Event()
        self._running = asyncio.create_task(self._processor.run())

    async def enter(self, products: Sequence[Record], ts: int) -> None:
        """See ``Stage``."""
        self._now = ts
        for start in range(0, len(products), _PRODUCTS):
            part = products[start : start + _PRODUCTS]
            batch = [Product(0, start + n, r.key, r.value) for n, r in enumerate(part)]
            await asyncio.to_thread(self._catalogue.process, batch)

    async def apply(self, events: Sequence[tuple[int, Record]], ts: int) -> None:
        """See ``Stage``. Raises what stopped the processor."""
        self._now = ts
        self._waiting = len(events)
        self._done.clear()
        for place, record in events:
            self._processor.take(
                Arrival(record.topic, 0, place, record.key, record.value, self._acked)
            )
        done = asyncio.ensure_future(self._done.wait())
        await asyncio.wait({done, self._running}, return_when=asyncio.FIRST_COMPLETED)
        if self._running.done():
            done.cancel()
            self._running.result()
            raise Fatal("the shopper processor stopped before the replay's end")

    def overlook(self, place: int, record: Record) -> None:
        """See ``Stage``. Steps are kept from a shopper's first search on: they say where it led."""
        value, key = orjson.loads(record.value or b"{}"), record.key or b""
        item_id, ts = value.get("item_id"), value["ts"]
        if self.overlooked.is_first(key.decode(), item_id, ts):
            self._aggregates.popularity.add(item_id, ts)
        if self._aggregates.memory is None or not (
            value.get("query") or self._states.holds(0, key)
        ):
            return
        event = decode_shopper(record.topic, record.key, record.value, ts)
        state = self._states.newest(0, key).copy()
        state.apply(record.topic, place, event)
        self._aggregates.remember(state, record.topic, place, event)
        self._states.put(0, key, state, state.dumps())

    def newest(self, key: bytes) -> Shown | None:
        """See ``Stage``."""
        told = self._store.lists.get(key)
        return None if told is None else Shown.from_bytes(told)

    async def stop(self) -> None:
        """See ``Stage``."""
        self._running.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await self._running
        self._processor.close()

    def _acked(self) -> None:
        self._waiting -= 1
        if self._waiting == 0:
            self._done.set()

    # -- as a stream.kafka.delivery.Delivery ---------------------------------------------------

    def deliver(self, records: Sequence[Record]) -> None:
        """Takes the lists as a subscriber would, whose newest record of a key counts."""
        for record in records:
            if record.topic != self._names.of(RECOMMENDATIONS):
                continue
            if record.value is None:
                self._store.lists.pop(record.key or b"", None)
            else:
                shown = shown_of(record.value, self._rows, self._models.ms)
                self._store.lists[record.key or b""] = shown.to_bytes()

    def close(self) -> None:
        """Nothing is open."""


class _Timed:
    """The models, a part of a batch at a time, with the clock running.

    ``ms`` is what a list of the last batch took, each with the whole of a worker's patience.
    """

    def __init__(self, models: Recommends, at_once: int) -> None:
        self._models = models
        self._at_once = at_once
        self.ms = float("nan")

    @property
    def wants_rerank(self) -> bool:
        return self._models.wants_rerank

    def recommend(self, histories: Sequence[History], _deadline: Deadline) -> list[Recommendation]:
        began = time.perf_counter()
        made: list[Recommendation] = []
        for start in range(0, len(histories), self._at_once):
            deadline = Deadline.after(_DEADLINE, time.monotonic)
            made += self._models.recommend(histories[start : start + self._at_once], deadline)
        self.ms = (time.perf_counter() - began) * 1000 / max(len(histories), 1)
        return made


def shown_of(value: bytes, rows: Mapping[str, int], ms: float = float("nan")) -> Shown:
    """A record of ``recommendations`` as an answer.

    Of retrieved lines those of one score share their mean place: their order is luck. Lines that
    fill a list up have the order that they are shown in. An item that ``rows`` lacks keeps its
    place, as row 0.
    """
    told = orjson.loads(value)
    items = told["items"]
    scores = np.array(
        [line["score"] if line["source"] == "retrieval" else -2.0 - n
         for n, line in enumerate(items)], dtype=np.float64,
    )  # fmt: skip
    listed = np.array([rows.get(line["item_id"], 0) for line in items], dtype=np.int32)
    return Shown(listed, ranks(scores, scores).astype(np.float32), told["reranked"], ms)
