"""A switch of bundles under load: no gap, no wrong-space search; a broken one changes nothing."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from models.bundle.manifest import Manifest
from models.domain import History, Item, Kind, Step
from models.ports import Deadline, FloatArray, Hit
from stream import settings as weft_settings
from stream.bundles.control_topic import Desired
from stream.bundles.request import Answers, Asking, checked
from stream.contracts.codec import PublishedList, decode_recommendation, encode_product
from stream.index.edge import EdgeIndex
from stream.index.server import ServerIndex
from stream.kafka.broker import EmbeddedBroker, Layout
from stream.kafka.delivery import KafkaDelivery
from stream.settings import Settings
from stream.worker import Worker
from testbed.waiting import PATIENCE, eventually, wait_for
from tests import tiny_bundle
from tests.qdrant_http import fake_qdrant

ITEMS, SHOPPERS, RATE = 120, 12, 40
WORDS = ("linen", "wool", "silk", "denim"), ("dress", "coat", "boots", "hat", "scarf")
PAIRS = list(itertools.product(*WORDS))
TITLES = [f"{' '.join(PAIRS[n % len(PAIRS)])} {n}" for n in range(ITEMS)]


AWorker = TypeVar("AWorker", bound=Worker)


class MiniLM:
    """The name and length of the encoder that the workers load; it encodes nothing here."""

    name, dim = "all-MiniLM-L6-v2-int8-53aa5117", 384

    def encode(self, texts: Any) -> FloatArray:
        raise AssertionError


@pytest.fixture(autouse=True)
def _searches_are_checked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every search must be with vectors of the index's own length."""
    wrong: list[str] = []
    for kind in (EdgeIndex, ServerIndex):
        real = kind.search

        def search(self: Any, vectors: FloatArray, limit: int, real: Any = real) -> list[list[Hit]]:
            if vectors.shape[1] != self._dim:
                wrong.append(f"{vectors.shape} in an index of {self._dim}")
            found: list[list[Hit]] = real(self, vectors, limit)
            return found

        monkeypatch.setattr(kind, "search", search)
    yield
    assert wrong == []


class Load:
    """A shop: publishes products, and then events at a steady rate; keeps every list."""

    def __init__(self, settings: Settings) -> None:
        config = {"bootstrap.servers": settings.kafka, "log_level": 0}
        partitioner = settings.partitioner
        self._producer = Producer({**config, "partitioner": partitioner, "linger.ms": 0})
        self._consumer = Consumer({**config, "group.id": "test", "fetch.wait.max.ms": 10})
        self._quiet, self._over = threading.Event(), threading.Event()
        self._threads = [
            threading.Thread(target=t, daemon=True) for t in (self._events, self._listen)
        ]
        self.sent: dict[tuple[str, str], int] = {}  # the newest offset by user and topic
        self.lists: list[PublishedList] = []

    def publish_items(self) -> None:
        for n, title in enumerate(TITLES):
            key, value = encode_product(Item(f"i{n}", title, 1_700_000_000_000 + n))
            self._producer.produce("products", value, key)
        assert self._producer.flush(120) == 0

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    async def stop(self) -> None:
        """Ends the events, and waits until each has its list."""
        self._quiet.set()
        await asyncio.to_thread(self._producer.flush, 10)
        end = time.monotonic() + PATIENCE
        while self.owed() and time.monotonic() < end:
            await asyncio.sleep(0.1)
        self._over.set()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)

    def owed(self) -> list[tuple[str, str]]:
        """User and topic of events that no list knows yet."""
        known: dict[tuple[str, str], int] = {}
        for made in self.lists:
            known |= {(made.user_id, t): offset for t, offset in made.as_of.offsets.items()}
        return [key for key, offset in self.sent.items() if known.get(key, -1) < offset]

    def models(self) -> list[str]:
        """What the lists' ``model`` said, each change once."""
        named = [made.recommendation.model for made in self.lists]
        return [name for name, _ in itertools.groupby(named)]

    def _events(self) -> None:
        for n in itertools.count():
            if self._quiet.wait(1 / RATE):
                return
            user, search = f"u{n % SHOPPERS}", n % 7 == 0
            topic = "searches" if search else "clicks"
            what = {"query": TITLES[n % ITEMS]} if search else {"item_id": f"i{n * 7 % ITEMS}"}
            value = json.dumps({"user_id": user, "ts": time.time_ns() // 1_000_000, **what})
            self._producer.produce(topic, value, user, on_delivery=self._delivered(user, topic))
            self._producer.poll(0)

    def _delivered(self, user: str, topic: str) -> Callable[[Any, Any], None]:
        def delivered(error: Any, message: Any) -> None:
            assert error is None
            self.sent[user, topic] = message.offset()

        return delivered

    def _listen(self) -> None:
        self._consumer.assign([TopicPartition("recommendations", p, 0) for p in range(4)])
        while not self._over.is_set():
            message = self._consumer.poll(0.1)
            if message is not None and message.error() is None:
                made = decode_recommendation(message.key(), message.value())
                assert made is not None
                self.lists.append(made)
        self._consumer.close()


def holds_preparing(load: Load, patch: pytest.MonkeyPatch) -> set[int]:
    """From now on the first write to an index of another length waits until 20 more lists are out:
    they never come where serving waits for what is prepared. Returns the lengths that were met.
    """
    held = {MiniLM.dim}
    real = EdgeIndex.upsert

    def upsert(self: EdgeIndex, *told: Any) -> None:
        if self._dim not in held:
            held.add(self._dim)
            before = len(load.lists)
            eventually(
                lambda: len(load.lists) >= before + 20, "no lists while a bundle is prepared"
            )
        real(self, *told)

    patch.setattr(EdgeIndex, "upsert", upsert)
    return held


class Shop:
    """A broker, settings, two bundles, and workers on them."""

    def __init__(self, bootstrap: str, folder: Path, weights: Path) -> None:
        self.folder = folder
        self.weights = weights
        self.settings = weft_settings.load(
            {},
            kafka=bootstrap,
            bundles=str(folder / "bundles"),
            encoder_type="int8",
            threads=1,
            rerank="never",
            list_size=5,
            session_timeout=20.0,  # a busy machine must not part the workers
        )
        ids = [f"i{n}" for n in range(0, ITEMS, 2)]  # the others have no trained ID
        self.first, self.second = (
            tiny_bundle.write(folder / "bundles" / name, MiniLM(), ids, seed=seed, name=name, dim=d)
            for seed, (name, d) in enumerate({"first": 16, "second": 24}.items())
        )

    def worker(self, name: str = "w", **changed: Any) -> Worker:
        return self.worker_of(Worker, name, **changed)

    def worker_of(self, kind: type[AWorker], name: str, **changed: Any) -> AWorker:
        data_dir = self.folder / name
        if not data_dir.exists():
            data_dir.mkdir()
            (data_dir / "weights").symlink_to(self.weights / "weights")
        return kind(replace(self.settings, data_dir=data_dir, **changed))

    async def use(
        self, asked: str, timeout: float = PATIENCE, **changed: Any
    ) -> tuple[Answers, list[str]]:
        """As the command does."""
        return await self.ask(checked(self.settings, asked), timeout, **changed)

    async def ask(
        self, desired: Desired, timeout: float = PATIENCE, **changed: Any
    ) -> tuple[Answers, list[str]]:
        heard: list[str] = []

        def ask() -> Answers:
            asking = Asking(replace(self.settings, **changed), heard.append)
            try:
                asking.ask(desired)
                return asking.wait(timeout)
            finally:
                asking.close()

        return await asyncio.to_thread(ask), heard


@contextmanager
def shop(folder: Path, weights: Path) -> Iterator[Shop]:
    (weights / "weights").mkdir(exist_ok=True)
    with EmbeddedBroker() as broker:
        yield Shop(broker.bootstrap, folder, weights)


class WithoutShoppers(Worker):
    """All of a worker but Faust: the embedded broker's groups do not bear two of those."""

    async def _start_shoppers(self, delivery: KafkaDelivery, layout: Layout) -> None:
        self.asked = 0
        self.named: list[str] = []
        self._over = threading.Event()
        self._asking = threading.Thread(target=self._ask, daemon=True)
        self._asking.start()

    async def ready(self) -> None:
        while not self.feed.caught_up:
            assert self.feed.error is None
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        self._over.set()
        await asyncio.to_thread(self._asking.join)
        await super().stop()

    def _ask(self) -> None:
        """Lists, one after the other, as the shoppers' thread asks for them."""
        for n in itertools.count():
            if self._over.wait(0.1):
                return
            clicked = Step(Kind.CLICK, 0, item_id=f"i{n % ITEMS}")
            deadline = Deadline.after(60, time.monotonic)
            (made,) = self.parts.live.recommend([History((clicked,))], deadline)
            assert len(made.items) in (0, 5)
            self.asked += 1
            self.named = [*self.named, made.model][-1000:]


@asynccontextmanager
async def running(*workers: Worker) -> AsyncIterator[None]:
    """Started one after the other; stopped whatever happens, or the event loop would not end."""
    try:
        for worker in workers:
            await worker.start()
        yield
    finally:
        for worker in workers:
            await worker.stop()


async def check_vectors(worker: Worker, over: asyncio.Event) -> int:
    """At every moment the vectors of the serving index are those of the serving space."""
    looked = 0
    rng = np.random.default_rng(0)
    while not over.is_set():
        serving = worker.parts.live.current
        ids = [f"i{n}" for n in rng.integers(0, ITEMS, 5)]
        held = await asyncio.to_thread(serving.index.get, ids)
        if serving is worker.parts.live.current:  # else its index may be closed by now
            wanted = await asyncio.to_thread(
                serving.space.item_vectors, [stored.item for stored in held.values()]
            )
            for stored, vector in zip(held.values(), wanted, strict=True):
                assert stored.vector is not None
                assert vector is not None
                assert stored.vector == pytest.approx(vector, abs=1e-4)
                looked += 1
        await asyncio.sleep(0.05)
    return looked


def label(told: Manifest) -> str:
    return f"{told.name}@{told.id}"


def test_a_switch_under_load_leaves_no_gap_and_mixes_no_spaces(
    tmp_path: Path, weights_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main(shop: Shop) -> None:
        worker, load = shop.worker(), Load(shop.settings)
        async with running(worker):
            load.publish_items()
            await worker.ready()
            load.start()
            over = asyncio.Event()
            checking = asyncio.create_task(check_vectors(worker, over))
            await wait_for(lambda: len(load.lists) >= 20)
            held = holds_preparing(load, monkeypatch)
            for asked, told in (("first", shop.first), (shop.second.id, shop.second)):
                answers, heard = await shop.use(asked)
                assert answers.good, heard
                assert len(answers.serving) == 1
                assert any("embedding" in line for line in heard), heard
                assert f"serving {label(told)}" in heard[-1]
                known = len(load.lists)
                await wait_for(lambda: len(load.lists) >= known + 20)  # noqa: B023 - awaited here
                assert worker.feed.caught_up
                worker.check()
            await load.stop()
            over.set()
            assert await checking > 50
            assert held == {MiniLM.dim, 16, 24}
        assert load.owed() == []
        zero_shot = f"{MiniLM.name}/recency-mean"
        assert load.models() == [zero_shot, label(shop.first), label(shop.second)]
        assert all(len(made.recommendation.items) == 5 for made in load.lists[-50:])
        kept = {p.name for p in (tmp_path / "w" / "index").glob("*/")}
        assert kept == {f"weft-items-{told.id}" for told in (shop.first, shop.second)}

    with shop(tmp_path, weights_dir) as made:
        asyncio.run(asyncio.wait_for(main(made), 240))


def test_a_restart_keeps_the_bundle_and_none_leads_back(tmp_path: Path, weights_dir: Path) -> None:
    async def main(shop: Shop) -> None:
        worker = shop.worker()
        async with running(worker):
            Load(shop.settings).publish_items()
            await worker.ready()
            answers, heard = await shop.use("first")
            assert answers.good, heard

        again = shop.worker()
        async with running(again):
            assert again.parts.live.current.label == label(shop.first)
            await again.ready()
            assert again.parts.index.count() == ITEMS
            answers, heard = await shop.use("none")
            assert answers.good, heard
            assert again.parts.live.current.bundle == ""
            assert again.parts.index.count() == ITEMS

        forced = shop.worker(bundle="second")
        async with running(forced):
            assert forced.parts.live.current.label == label(shop.second)
            answers, heard = await shop.use("first")
            assert "WEFT_BUNDLE" in heard[-1]

        new = shop.worker("new")  # an empty data folder: the topic says what to serve
        async with running(new):
            assert new.parts.live.current.label == label(shop.first)

    with shop(tmp_path, weights_dir) as made:
        asyncio.run(asyncio.wait_for(main(made), 240))


def test_a_bundle_that_cannot_be_loaded_changes_nothing(tmp_path: Path, weights_dir: Path) -> None:
    async def main(shop: Shop) -> None:
        worker, load = shop.worker(), Load(shop.settings)
        async with running(worker):
            load.publish_items()
            await worker.ready()
            load.start()
            assert (await shop.use("first"))[0].good
            desired = checked(shop.settings, "second")
            file = tmp_path / "bundles" / "second" / "sequence.safetensors"
            content = bytearray(file.read_bytes())
            content[-1] ^= 1
            file.write_bytes(content)  # damaged after it was checked
            answers, heard = await shop.ask(desired)
            assert len(answers.failed) == 1
            assert "sequence.safetensors is damaged" in heard[-1]
            await asyncio.sleep(1)
            worker.check()
            assert worker.parts.live.current.label == label(shop.first)
            await load.stop()
        assert load.owed() == []
        assert load.models()[-1] == label(shop.first)

        again = shop.worker()  # what served last still does
        async with running(again):
            assert again.parts.live.current.label == label(shop.first)

    with shop(tmp_path, weights_dir) as made:
        asyncio.run(asyncio.wait_for(main(made), 240))


@pytest.mark.long
def test_two_workers_on_one_server_share_the_work_and_switch(
    tmp_path: Path, weights_dir: Path
) -> None:
    async def main(shop: Shop) -> None:
        workers = [shop.worker_of(WithoutShoppers, name) for name in ("a", "b")]
        async with running(*workers):
            Load(shop.settings).publish_items()
            for worker in workers:
                await worker.ready()
            for asked, told in (("first", shop.first), ("second", shop.second)):
                answers, heard = await shop.use(asked)
                assert answers.good, heard
                assert len(answers.serving) == 2
                for worker in workers:
                    assert worker.parts.live.current.label == label(told)
                    assert worker.parts.index.count() == ITEMS  # whoever filled it
            await asyncio.sleep(1)
            for worker in workers:
                names = [name for name, _ in itertools.groupby(worker.named)]
                assert names[-2:] == [label(shop.first), label(shop.second)]
                assert worker._asking.is_alive()

    with fake_qdrant() as server, shop(tmp_path, weights_dir) as made:
        made.settings = replace(made.settings, index="server", qdrant_url=server.url)
        asyncio.run(asyncio.wait_for(main(made), 240))
        assert server.collections() >= {
            f"weft-items-{told.id}" for told in (made.first, made.second)
        }
