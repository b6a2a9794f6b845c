"""One worker: the catalogue's feed on a thread, the shoppers on Faust, the models beside both."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from pathlib import Path
from typing import Final

from models.errors import WeftError
from stream.app import ShopperApp
from stream.assemble import Parts, assemble
from stream.broker import Layout, ensure_topics
from stream.catalogue import CatalogueProcessor, OnIndexed
from stream.catalogue_feed import CatalogueFeed
from stream.delivery import KafkaDelivery
from stream.index_edge import EdgeIndex
from stream.intake import KafkaGapReader
from stream.products import Follower, GroupFollower, IndexFollower
from stream.settings import Settings, kafka_config
from stream.shoppers import ShopperProcessor
from stream.topics import PRODUCTS, TopicNames

_log = logging.getLogger("weft.worker")

#: Seconds without its partitions' states after which a worker no longer counts as alive.
_RECOVERS_WITHIN: Final = 300.0


class Worker:
    """Starts, watches and stops the parts. ``start`` raises ``WeftError`` with what is missing.

    ``index_folder`` is the embedded index's, by default in the data folder; ``on_indexed``
    hears which items became retrievable.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        index_folder: Path | None = None,
        on_indexed: OnIndexed | None = None,
    ) -> None:
        self.settings = settings
        self._index_folder = index_folder
        self._on_indexed = on_indexed
        self._stack = contextlib.AsyncExitStack()
        self._failed = asyncio.Event()
        self._ready_at = time.monotonic()
        self.parts: Parts
        self.feed: CatalogueFeed
        self.shoppers: ShopperProcessor
        self.app: ShopperApp
        self._serving: asyncio.Task[None]

    async def start(self) -> None:
        """Connects and loads; returns when events and products are being read."""
        try:
            layout = await asyncio.to_thread(ensure_topics, self.settings)
            self.parts = await asyncio.to_thread(
                assemble, self.settings, _log.info, self._index_folder
            )
            self._stack.callback(self.parts.close)
            config = kafka_config(self.settings)
            delivery = KafkaDelivery(config, self.settings.partitioner)
            self._stack.callback(delivery.close)
            self._start_catalogue(delivery)
            await self._start_shoppers(delivery, layout)
        except BaseException:
            await self.stop()
            raise

    def _start_catalogue(self, delivery: KafkaDelivery) -> None:
        names = TopicNames(self.settings.topic_prefix, self.settings.group)
        parts = self.parts
        processor = CatalogueProcessor(
            parts.index, parts.space, delivery, names, on_indexed=self._on_indexed
        )
        loop = asyncio.get_running_loop()

        def failed(_error: BaseException) -> None:  # on the feed's thread
            loop.call_soon_threadsafe(self._failed.set)

        self.feed = CatalogueFeed(
            processor,
            _follower(self.settings, parts, names.of(PRODUCTS)),
            on_error=failed,
        )
        self._stack.push_async_callback(asyncio.to_thread, self.feed.stop)
        self.feed.start()

    async def _start_shoppers(self, delivery: KafkaDelivery, layout: Layout) -> None:
        config = kafka_config(self.settings)
        self.app = ShopperApp(self.settings, layout.partitions, layout.embedded)
        self.shoppers = ShopperProcessor(
            self.settings,
            self.app.table,
            self.parts.recommender,
            self.parts.popularity,
            delivery,
            layout.partitions,
        )
        self.app.attach(self.shoppers, KafkaGapReader(config))
        self._stack.push_async_callback(asyncio.to_thread, self.shoppers.close)
        self._serving = asyncio.create_task(self.shoppers.run())
        self._serving.add_done_callback(lambda _task: self._failed.set())
        self._stack.push_async_callback(self._end_serving)
        self._stack.push_async_callback(self.app.stop)
        await self.app.start()

    async def ready(self) -> None:
        """Returns when the shoppers' state and the catalogue as it stood are in.

        Raises what ended the worker, where something did.
        """
        while not (self.feed.caught_up and self.app.ready.is_set()):
            self.check()
            await asyncio.sleep(0.02)

    async def wait(self) -> None:
        """Returns never: raises what ended the worker."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._failed.wait(), 0.5)
            self.check()

    def check(self) -> None:
        """Raises what ended a part, if something did; else says to others that all is well."""
        if self.feed.error is not None:
            raise self.feed.error
        if self._serving.done() and not self._serving.cancelled():
            self._serving.result()
        if (reason := self.app.crashed()) is not None:
            raise reason
        now = time.monotonic()
        if self.app.ready.is_set():
            self._ready_at = now
        if now - self._ready_at < _RECOVERS_WITHIN:
            (self.settings.data_dir / "alive").touch()  # what the health check looks at

    async def stop(self) -> None:
        """Ends all parts in order; what was not acked comes again to the next worker."""
        await self._stack.aclose()

    async def _end_serving(self) -> None:
        self._serving.cancel()
        with contextlib.suppress(asyncio.CancelledError, WeftError):
            await self._serving


def _follower(settings: Settings, parts: Parts, topic: str) -> Follower:
    """An index of one's own mirrors the whole topic; a shared one is filled by the group."""
    config = kafka_config(settings)
    if isinstance(parts.index, EdgeIndex):
        return IndexFollower(config, topic, parts.index)
    config["session.timeout.ms"] = int(settings.session_timeout * 1000)
    member = TopicNames(settings.topic_prefix, settings.group).member
    return GroupFollower(config, topic, f"{member}-{parts.index.identity}")


def run_worker(settings: Settings) -> None:
    """Runs a worker in this process until Ctrl-C or SIGTERM. Raises what ends it otherwise."""
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for chatty in ("weft.librdkafka", "httpx", "faust", "mode", "aiokafka"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    asyncio.run(_run(settings))


async def _run(settings: Settings) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    started = time.monotonic()
    worker = Worker(settings)
    stop = asyncio.create_task(stopping.wait())
    serve = asyncio.create_task(_serve(worker, started))
    try:
        await asyncio.wait({stop, serve}, return_when=asyncio.FIRST_COMPLETED)
        if serve.done():
            serve.result()
    finally:
        serve.cancel()
        with contextlib.suppress(asyncio.CancelledError, WeftError):
            await serve
        _log.info("stopping")
        await worker.stop()


async def _serve(worker: Worker, started: float) -> None:
    await worker.start()
    await worker.ready()
    _log.info(
        "ready in %.1f s: %d items, LLM %s",
        time.monotonic() - started,
        worker.parts.index.count(),
        "asked" if worker.parts.recommender.wants_rerank else "not asked",
    )
    await worker.wait()
