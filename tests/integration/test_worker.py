"""A whole worker beside trouble that is none of its end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models.errors import IndexFull
from stream.bundles.control_topic import ControlReader, Report, State, report_record
from stream.contracts.topics import TopicNames
from stream.kafka.delivery import KafkaDelivery
from stream.settings import kafka_config
from stream.worker import Worker, _serve
from tests.integration.test_switch import Load, Shop, WithoutShoppers, running, shop
from tests.qdrant_http import fake_qdrant

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")
CONTROL = TopicNames().control


@pytest.fixture
def made(tmp_path: Path, weights_dir: Path) -> Iterator[Shop]:
    with shop(tmp_path, weights_dir) as made:
        yield made


class Counting(WithoutShoppers):
    """Counts how often it looks whether a part has ended."""

    looks = 0

    def check(self) -> None:
        self.looks += 1
        if self.feed.error is not None:
            raise self.feed.error


def test_a_feed_that_fails_when_it_feeds_no_more_neither_ends_the_worker_nor_keeps_it_busy(
    made: Shop,
) -> None:
    async def main() -> None:
        worker = made.worker_of(Counting, "w")
        async with running(worker):
            await worker.ready()
            retired = worker.switch.filling
            assert (await made.use("first"))[0].good
            assert worker.switch.filling is not retired
            retired.heard = True  # as it is for a moment after the swap
            retired._failed(IndexFull("the disk is full"))
            worker.looks = 0
            waiting = asyncio.create_task(worker.wait())
            await asyncio.sleep(3)
            assert worker.looks < 15
            assert not waiting.done()
            worker.feed.error = IndexFull("the disk is full")  # of the one that serves
            worker.switch.filling._failed(worker.feed.error)
            with pytest.raises(IndexFull):
                await asyncio.wait_for(waiting, 60)

    asyncio.run(asyncio.wait_for(main(), 240))


class Ready(Worker):
    """When it is ready, its server is away."""

    server: Any

    async def ready(self) -> None:
        await super().ready()
        self.server.failures = [503] * 10_000


def test_a_server_that_is_away_when_the_worker_is_ready_does_not_end_it(
    made: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(server: Any) -> None:
        worker = made.worker_of(Ready, "w", index="server", qdrant_url=server.url)
        worker.server = server
        caplog.set_level(logging.INFO)
        serving = asyncio.create_task(_serve(worker, time.monotonic()))
        try:
            while not (told := [r for r in caplog.records if r.msg.startswith("ready in")]):
                assert not serving.done(), serving.exception()
                await asyncio.sleep(0.05)
            assert "the index is away" in told[0].getMessage()
            await asyncio.sleep(2)
            assert not serving.done(), serving.exception()
            server.failures = []
        finally:
            serving.cancel()
            await asyncio.wait([serving])
            await worker.stop()

    with fake_qdrant() as server:
        asyncio.run(asyncio.wait_for(main(server), 240))


class Beating(WithoutShoppers):
    """Shows ten times a second that it runs."""

    beat = 0.1


def test_a_running_worker_takes_away_what_killed_ones_left_on_the_control_topic(made: Shop) -> None:
    async def main() -> None:
        config = kafka_config(made.settings)
        worker = made.worker_of(Beating, "w")
        async with running(worker):
            delivery = KafkaDelivery(config, made.settings.partitioner)
            killed = Report("killed", "ab12", "beauty@ab12", State.EMBEDDING, "cd34", 0)
            await asyncio.to_thread(delivery.deliver, [report_record(CONTROL, killed, 1)])
            with ControlReader(config, CONTROL) as reader:
                await asyncio.to_thread(reader.to_the_end)
                assert "killed" in reader.reports
                while "killed" in reader.reports:
                    await asyncio.to_thread(reader.follow, 0.1)
                (other,) = reader.reports.values()
                assert other.state is State.SERVING
                last = other
                while reader.reports[last.worker] is last:  # it goes on showing that it runs
                    await asyncio.to_thread(reader.follow, 0.1)
            delivery.close()

    asyncio.run(asyncio.wait_for(main(), 240))


def test_two_groups_on_one_server_switch_beside_each_other(made: Shop) -> None:
    """Each has its own bundle, and neither's switch takes what the other serves."""

    async def main(server: Any) -> None:
        one, other = (
            made.worker_of(
                WithoutShoppers, group, group=group, index="server", qdrant_url=server.url
            )
            for group in ("one", "other")
        )
        async with running(one, other):
            Load(made.settings).publish_items()
            for worker in (one, other):
                await worker.ready()
            for asked in ("first", "none", "second"):
                for worker, told in ((one, asked), (other, "first")):
                    answers, heard = await made.use(told, group=worker.settings.group)
                    assert answers.good, heard
            for worker, bundle in ((one, made.second), (other, made.first)):
                assert worker.parts.live.current.bundle == bundle.id
                assert worker._asking.is_alive()  # which ends at the first search that fails

    with fake_qdrant() as server:
        asyncio.run(asyncio.wait_for(main(server), 300))
        kept = server.collections()
    assert kept >= {f"one-items-{made.second.id}", f"other-items-{made.first.id}"}
    assert f"one-items-{made.first.id}" not in kept  # its own are cleared away
