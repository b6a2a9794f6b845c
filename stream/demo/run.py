"""`weft demo`: the whole of Weft in one process, on the embedded broker and index.

A publisher plays a shop (the sample one, or files), a worker serves it, and a subscriber reads
the recommendations topic as any other client would.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Consumer, TopicPartition

from models.bundle.files import read_manifest
from models.domain import Item
from models.rerank.fusion import GATE_WEIGHT
from stream.catalogue.followers import EMBEDDED
from stream.contracts.codec import (
    PublishedList,
    decode_product,
    decode_recommendation,
    decode_shopper,
)
from stream.contracts.topics import RECOMMENDATIONS, SHOPPER_TOPICS
from stream.demo.shop import OWN, DemoShop
from stream.demo.view import DemoView, Summary
from stream.files.publish import Entry, Publisher
from stream.files.rows import now_ms
from stream.kafka.broker import EmbeddedBroker
from stream.settings import Settings, kafka_config
from stream.worker import Worker

#: The embedded broker keeps 5 MB a partition: at most so many 64 KiB strides are under way.
_STRIDES = 24
#: Of the demo's time, when the new product arrives.
_ARRIVAL_AFTER = 0.3


@dataclass(slots=True)
class _Figures:
    """What the summary needs."""

    published: int = 0
    events: int = 0
    lists: int = 0
    reranked: int = 0
    latencies: list[float] = field(default_factory=list)  # ms
    ready: float = 0.0  # seconds from the start of loading


class Demo:
    """One run. ``emit`` gets each list's bytes as on the topic (for --json), the view the rest."""

    def __init__(
        self,
        settings: Settings,
        shop: DemoShop,
        view: DemoView,
        rate: float,
        emit: Callable[[bytes], None] | None,
    ) -> None:
        self._settings = settings
        self._shop = shop
        self._view = view
        self._rate = rate
        self._emit = emit
        self._figures = _Figures()
        self._stopping = threading.Event()
        self._sent: dict[str, tuple[float, int]] = {}  # a shopper's newest event: when, its ts
        self._indexed: dict[str, float] = {}  # when the awaited product was in the index
        self._awaited = ""
        self._new: Item | None = None
        self._worker: Worker

    async def run(self, seconds: float | None, stop: asyncio.Event) -> None:
        """Runs until ``stop``, or ``seconds`` after the catalogue is in."""
        with EmbeddedBroker() as broker, tempfile.TemporaryDirectory() as folder:
            # an index of its own, whatever workers here are set to: the sample is no real shop's
            self._settings = replace(self._settings, kafka=broker.bootstrap, index="edge")
            self._worker = Worker(
                self._settings, index_folder=Path(folder) / "index", on_indexed=self._on_indexed
            )
            stopped = asyncio.create_task(stop.wait())
            stopped.add_done_callback(lambda _task: self._stopping.set())
            playing = asyncio.create_task(self._play(broker.bootstrap, seconds))
            try:
                await asyncio.wait({stopped, playing}, return_when=asyncio.FIRST_COMPLETED)
                if playing.done():
                    playing.result()
            finally:
                self._stopping.set()
                with contextlib.suppress(asyncio.CancelledError):
                    await playing
                stopped.cancel()
                await self._worker.stop()

    async def _play(self, address: str, seconds: float | None) -> None:
        worker = self._worker
        began = time.monotonic()
        await worker.start()
        await worker.ready()
        self._figures.ready = time.monotonic() - began
        await asyncio.to_thread(self._publish_catalogue)
        if self._stopping.is_set():
            return
        index = worker.parts.index
        llm = f"weight {self._weight:g}" if self._weight else "not asked"
        self._view.opening(address, index.count(), "the embedded index", self._models(), llm)
        began = time.monotonic()
        listening = asyncio.create_task(asyncio.to_thread(self._listen))
        events = asyncio.create_task(asyncio.to_thread(self._publish_events))
        arrival = asyncio.create_task(self._arrival(seconds))
        until = None if seconds is None else began + seconds
        while not self._stopping.is_set() and (until is None or time.monotonic() < until):
            worker.check()
            await asyncio.sleep(0.1)
        self._stopping.set()
        arrival.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await arrival
        await events
        await listening
        self._view.summary(self._summary(time.monotonic() - began, index.count()))
        if worker.parts.live.current.path == OWN:
            self._view.note(
                "what tuning gains: python -m stream.demo.sample DIR says how to replay it"
            )

    @property
    def _weight(self) -> float:
        return self._worker.parts.live.current.weight

    def _models(self) -> str:
        serving = self._worker.parts.live.current
        if serving.path is None:
            return f"{serving.label}, nothing trained"
        tuned = ", tuned on the sample shop's own log (synthetic)" if serving.path == OWN else ""
        return f"bundle {serving.label}{tuned}"

    def _gate_weight(self) -> float:
        path = self._worker.parts.live.current.path
        return GATE_WEIGHT if path is None else read_manifest(path).weight

    # -- the publisher -------------------------------------------------------------------

    def _publish_catalogue(self) -> None:
        self._view.note("publishing the catalogue; each title that is new here is encoded once")
        strides = itertools.count(1)

        def pace() -> None:  # before the broker drops what the catalogue's reader has not read
            if next(strides) % _STRIDES == 0:
                self._wait_until_indexed(publisher.delivered)

        publisher = Publisher(self._settings, pace=pace)
        with self._shop.catalogue() as entries:
            going_on = itertools.takewhile(lambda _entry: not self._stopping.is_set(), entries)
            self._figures.published = publisher.publish(going_on)
        self._wait_until_indexed(publisher.delivered)

    def _wait_until_indexed(self, records: int) -> None:
        feed = self._worker.feed
        while not self._stopping.is_set() and feed.tally.records < records:
            if feed.error is not None:
                return  # the main loop raises it
            time.sleep(0.02)

    def _publish_events(self) -> None:
        publisher = Publisher(self._settings)
        with self._shop.events() as entries:
            began = time.monotonic()
            for number, entry in enumerate(entries):
                wait = began + number / self._rate - time.monotonic()
                if self._stopping.wait(max(wait, 0.0)):
                    return
                self._show_event(entry)
                publisher.publish([entry])
                self._figures.events += 1

    def _show_event(self, entry: Entry) -> None:
        record = entry.record
        topic = next(t for t in SHOPPER_TOPICS if self._names_of(t) == record.topic)
        event = decode_shopper(topic, record.key, record.value, now_ms())
        items = self._worker.parts.index.get([event.item_id] if event.item_id else [])
        stored = items.get(event.item_id or "")
        if self._emit is None:
            self._view.happened(event, stored.item if stored else None)
        self._sent[event.user_id] = time.monotonic(), event.ts

    def _names_of(self, topic: str) -> str:
        return self._settings.topic_prefix + topic

    async def _arrival(self, seconds: float | None) -> None:
        """One new product, from its publishing to a search that finds it."""
        await asyncio.sleep(5.0 if seconds is None else seconds * _ARRIVAL_AFTER)
        entry = self._shop.arrival()
        if entry is None:
            return
        item = decode_product(entry.record.key, entry.record.value, now_ms())
        assert isinstance(item, Item)
        self._awaited = item.item_id
        self._view.arriving(item)
        found, place = await asyncio.to_thread(self._time_arrival, entry, item)
        self._figures.published += 1
        if found is not None:
            self._new = item
            self._view.retrievable(found, place, item.text)

    def _time_arrival(self, entry: Entry, item: Item) -> tuple[float | None, int | None]:
        """(ms from produce to the search that finds the item, its place in that search)."""
        parts = self._worker.parts
        (vector,) = parts.space.item_vectors([item])
        query = np.zeros(parts.space.dim, np.float32) if vector is None else vector
        publisher = Publisher(self._settings)
        began = time.monotonic()
        publisher.publish([entry])
        while item.item_id not in self._indexed:
            if self._stopping.wait(0.001) or time.monotonic() - began > 30:
                return None, None
        (hits,) = parts.index.search(query[np.newaxis], 10)
        elapsed = (time.monotonic() - began) * 1000
        ids = [hit.item.item_id for hit in hits]
        return elapsed, ids.index(item.item_id) + 1 if item.item_id in ids else None

    def _on_indexed(self, item_ids: Sequence[str], _seconds: float) -> None:
        if self._awaited in item_ids:
            self._indexed[self._awaited] = time.monotonic()

    # -- the subscriber ------------------------------------------------------------------

    def _listen(self) -> None:
        config = {**kafka_config(self._settings), **EMBEDDED, "group.id": "weft-demo-view"}
        consumer = Consumer(config)
        topic = self._names_of(RECOMMENDATIONS)
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
        try:
            while not self._stopping.is_set():
                message = consumer.poll(0.1)
                if message is not None and message.error() is None:
                    self._show_list(message.key(), message.value())
        finally:
            consumer.close()

    def _show_list(self, key: Any, value: Any) -> None:
        made = decode_recommendation(key, value)
        if made is None:
            return
        self._figures.lists += 1
        self._figures.reranked += made.recommendation.reranked
        ms = self._time_since_event(made)
        if self._emit is not None:
            self._emit(value)
            return
        ids = [line.item_id for line in made.recommendation.items]
        stored = self._worker.parts.index.get(ids)
        items = {item_id: held.item for item_id, held in stored.items()}
        self._view.recommended(made.user_id, made.recommendation, items, ms)
        self._show_first(made, ids)

    def _time_since_event(self, made: PublishedList) -> float | None:
        """Milliseconds, where this is the first list that knows the shopper's newest event."""
        sent = self._sent.get(made.user_id)
        if sent is None or made.as_of.ts < sent[1]:
            return None
        del self._sent[made.user_id]
        ms = (time.monotonic() - sent[0]) * 1000
        self._figures.latencies.append(ms)
        return ms

    def _show_first(self, made: PublishedList, ids: Sequence[str]) -> None:
        if self._new is not None and self._new.item_id in ids:
            self._view.first_shown(self._new, made.user_id, ids.index(self._new.item_id) + 1)
            self._new = None

    def _summary(self, seconds: float, indexed: int) -> Summary:
        figures = self._figures
        p50, p99 = np.percentile(figures.latencies, (50, 99)) if figures.latencies else (None, None)
        return Summary(
            seconds=seconds,
            published=figures.published,
            indexed=indexed,
            events=figures.events,
            lists=figures.lists,
            reranked=figures.reranked,
            rerank=self._settings.rerank,
            weight=self._weight,
            gate_weight=self._gate_weight(),
            p50_ms=None if p50 is None else float(p50),
            p99_ms=None if p99 is None else float(p99),
            ready_s=figures.ready,
            resident_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            dead_letters=self._worker.shoppers.counters.dead + self._worker.feed.tally.dead,
        )


@contextlib.contextmanager
def notes_shown(view: DemoView) -> Iterator[None]:
    """Inside, what the worker says about loading is shown as notes."""

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            view.note(record.getMessage())

    logger, notes = logging.getLogger("weft.worker"), Notes(logging.INFO)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(notes)
    try:
        yield
    finally:
        logger.removeHandler(notes)
        logger.propagate = True
