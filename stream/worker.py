"""One worker: the catalogue's feed on a thread, the shoppers on Faust, the models beside both."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from pathlib import Path
from typing import Final

from models.errors import RetryLater, WeftError
from stream.assemble import Parts, assemble, load_serving
from stream.bundles.control_topic import BEAT, ControlReader, worker_name
from stream.bundles.fill import Filling
from stream.bundles.switch import UNUSABLE, Switch, first_choices
from stream.catalogue.feed import CatalogueFeed
from stream.catalogue.processor import OnIndexed
from stream.contracts.topics import TopicNames
from stream.index.collections import Shelves
from stream.index.port import IndexHome
from stream.index.registry import adapter_of
from stream.kafka.broker import Layout, ensure_topics
from stream.kafka.delivery import KafkaDelivery
from stream.serving import Serving
from stream.settings import Settings, kafka_config
from stream.shoppers.app import ShopperApp
from stream.shoppers.offset_check import KafkaGapReader
from stream.shoppers.processor import ShopperProcessor

_log = logging.getLogger("weft.worker")

#: Seconds without its partitions' states after which a worker no longer counts as alive.
_RECOVERS_WITHIN: Final = 300.0
#: Seconds in one batch after which it counts as hanging. (A try of an outage ends much sooner.)
_SERVES_WITHIN: Final = 300.0


class Worker:
    """Starts, watches and stops the parts. ``start`` raises ``WeftError`` with what is missing.

    ``index_folder`` is the embedded index's, by default in the data folder; ``on_indexed``
    hears which items became retrievable. ``beat`` is how many seconds apart it shows the others
    that it runs.
    """

    beat = BEAT

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
        self._told: str | None = None
        self._cluster = ""
        self.parts: Parts
        self.switch: Switch
        self.shoppers: ShopperProcessor
        self.app: ShopperApp
        self._delivery: KafkaDelivery
        self._loop: asyncio.AbstractEventLoop
        self._serving: asyncio.Task[None]

    @property
    def feed(self) -> CatalogueFeed:
        """What feeds the index that serves now."""
        return self.switch.filling.feed

    async def start(self) -> None:
        """Connects and loads; returns when events and products are being read."""
        self._loop = asyncio.get_running_loop()
        adapter = adapter_of(self.settings)
        try:
            layout = await asyncio.to_thread(ensure_topics, self.settings)
            names = TopicNames(self.settings.topic_prefix, self.settings.group)
            me = worker_name(self.settings.data_dir)
            control = ControlReader(kafka_config(self.settings), names.control, me)
            self._stack.callback(control.close)
            await asyncio.to_thread(control.to_the_end)
            self._cluster = layout.cluster
            home = IndexHome(self.settings, self._index_folder, layout.cluster)
            shelves = Shelves(home, adapter)
            self.parts = await asyncio.to_thread(self._assembled, control, shelves)
            self._stack.callback(self.parts.close)
            self._delivery = KafkaDelivery(kafka_config(self.settings), self.settings.partitioner)
            self._stack.callback(self._delivery.close)
            reports = KafkaDelivery(kafka_config(self.settings), self.settings.partitioner, 3000)
            self._stack.callback(reports.close)
            self.switch = Switch(
                self.settings, self.parts.live, control, shelves, reports, self, self.beat
            )
            self._stack.push_async_callback(self.switch.stop)
            await self.switch.start()
            await self._start_shoppers(self._delivery, layout)
        except BaseException:
            await self.stop()
            raise

    def load(self, bundle: Path | None) -> Serving:
        """The serving of a bundle, beside the one that is live; see ``Host``."""
        parts = self.parts
        return load_serving(
            self.settings, parts.encoder, parts.popularity, _log.info, self._index_folder, bundle,
            memory=parts.memory, cluster=self._cluster,
        )  # fmt: skip

    def fill(self, serving: Serving, *, heard: bool) -> Filling:
        """Its feed, not started yet; see ``stream.bundles.switch.Host``."""
        return Filling(
            self.settings,
            serving,
            self._delivery,
            heard=heard,
            on_indexed=self._on_indexed,
            on_error=self._feed_failed,
        )

    def _feed_failed(self, _error: BaseException) -> None:  # on the feed's thread
        self._loop.call_soon_threadsafe(self._failed.set)

    def _assembled(self, control: ControlReader, shelves: Shelves) -> Parts:
        """The parts with the first bundle that can be served; else the zero-shot space."""
        for bundle in first_choices(self.settings, control, shelves):
            try:
                return assemble(
                    self.settings, _log.info, self._index_folder, bundle, cluster=self._cluster
                )
            except UNUSABLE as error:
                if bundle is None or self.settings.bundle:
                    raise
                _log.error("%s", error)
        raise AssertionError("the zero-shot space is always among the choices")

    async def _start_shoppers(self, delivery: KafkaDelivery, layout: Layout) -> None:
        config = kafka_config(self.settings)
        self.app = ShopperApp(self.settings, layout.partitions, layout.embedded)
        self.shoppers = ShopperProcessor(
            self.settings,
            self.app.table,
            self.parts.live,
            self.parts.popularity,
            delivery,
            layout.partitions,
            memory=self.parts.memory,
        )
        self.app.attach(self.shoppers, KafkaGapReader(config), delivery)
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
            # What failed may be what serves no more, and then the check finds nothing: were it not
            # forgotten, this loop would never wait again. What fails meanwhile sets it anew.
            self._failed.clear()
            self.check()

    def check(self) -> None:
        """Raises what ended a part, if something did; else says to others that all is well."""
        if self.feed.error is not None:
            raise self.feed.error
        if self._serving.done() and not self._serving.cancelled():
            self._serving.result()
        if (reason := self.app.crashed()) is not None:
            raise reason
        self.shoppers.tell()
        now = time.monotonic()
        if self.app.ready.is_set():
            self._ready_at = now
        recovers = now - self._ready_at < _RECOVERS_WITHIN
        if recovers and self.shoppers.busy() < _SERVES_WITHIN:
            self._say_alive()

    def _say_alive(self) -> None:
        """Touches what the health check looks at; what it says is for people."""
        file = self.settings.data_dir / "alive"
        with contextlib.suppress(OSError):  # a full disk ends no worker
            file.touch()
            if self._told != self.shoppers.waits_for:
                self._told = self.shoppers.waits_for
                file.write_text(self._told)

    async def stop(self) -> None:
        """Ends all parts in order; what was not acked comes again to the next worker."""
        await self._stack.aclose()

    async def _end_serving(self) -> None:
        self._serving.cancel()
        with contextlib.suppress(asyncio.CancelledError, WeftError):
            await self._serving


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
        "ready in %.1f s: %s, %s, LLM %s",
        time.monotonic() - started,
        worker.parts.live.current.label,
        await _stock(worker),
        "asked" if worker.parts.live.wants_rerank else "not asked",
    )
    await worker.wait()


async def _stock(worker: Worker) -> str:
    """What the index holds, in words: it may be away just now, which ends no worker."""
    try:
        return f"{await asyncio.to_thread(worker.parts.index.count)} items"
    except RetryLater:
        return "the index is away"
