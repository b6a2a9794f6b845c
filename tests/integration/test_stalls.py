"""No record waits for ever: what was fetched and dropped comes, also where no later one follows."""

from __future__ import annotations

import asyncio
import threading
import uuid
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka.consumer.fetcher import FetchResult
from confluent_kafka import Producer
from faust.types import TP

from stream.kafka.broker import EmbeddedBroker
from stream.settings import Settings
from stream.shoppers.app import ShopperApp
from stream.shoppers.faust_patches import PatchedConsumer, PatchedThread
from stream.shoppers.offset_check import Gap, KafkaGapReader, Partition
from stream.shoppers.state import loads
from testbed.kafka import RealKafka
from testbed.waiting import wait_for
from tests.integration.test_dead_letters import produce, running_app, until

CLICKS = TP("clicks", 0)
#: Murmur2 of this key is partition 0 of 4.
USER = b"u1"


def click(number: int) -> bytes:
    return orjson.dumps(
        {"user_id": USER.decode(), "ts": 1_700_000_000_000 + number, "item_id": f"i{number}"}
    )


def dropping(monkeypatch: pytest.MonkeyPatch, times: int) -> list[int]:
    """Lets the next ``times`` records vanish between the broker and the agent; their offsets."""
    dropped: list[int] = []
    drain = PatchedConsumer._drain

    async def drains(self: PatchedConsumer, tp: TP, message: Any, moves: int) -> None:
        if len(dropped) < times:
            dropped.append(message.offset)
        else:
            await drain(self, tp, message, moves)

    monkeypatch.setattr(PatchedConsumer, "_drain", drains)
    return dropped


def test_a_seek_is_not_undone_by_a_fetch_that_is_being_handed_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reading thread stands between taking a fetch's records and setting the position."""
    handing_out, sought = threading.Event(), threading.Event()
    update = FetchResult._update_position

    def paused(self: Any) -> None:
        if self._topic_partition == CLICKS and armed and not handing_out.is_set():
            handing_out.set()
            sought.wait(1.0)
        update(self)

    armed: list[bool] = []
    monkeypatch.setattr(FetchResult, "_update_position", paused)

    async def main(settings: Settings) -> None:
        async with running_app(settings) as (app, processor):
            await asyncio.to_thread(produce, settings, "clicks", USER, click(0), partition=0)
            await until(lambda: processor.counters.acked == 1)
            armed.append(True)
            await asyncio.to_thread(produce, settings, "clicks", USER, click(1), partition=0)
            await until(handing_out.is_set)
            await app.app.consumer.rewind(CLICKS, 0)
            sought.set()
            await until(lambda: processor.counters.acked == 3)  # 0, again 0, and 1
            assert (processor.counters.again, processor.counters.stalls) == (1, 0)

    with EmbeddedBroker() as broker:
        asyncio.run(main(Settings(kafka=broker.bootstrap, data_dir=tmp_path)))


def test_what_was_dropped_where_nothing_is_committed_is_read_again_after_a_rebalance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ShopperApp, "looks_every", 3600.0)  # the seek alone brings it

    async def main(settings: Settings) -> None:
        async with running_app(settings) as (app, processor):
            await until(lambda: CLICKS in app.held())
            dropped = dropping(monkeypatch, 1)
            await asyncio.to_thread(produce, settings, "clicks", USER, click(0), partition=0)
            await until(lambda: dropped == [0])
            await app.app.consumer.perform_seek()
            app.app.flow_control.resume()  # as Faust's recovery does next
            await until(lambda: processor.counters.acked == 1)

    with EmbeddedBroker() as broker:
        asyncio.run(main(Settings(kafka=broker.bootstrap, data_dir=tmp_path)))


def test_a_record_that_no_later_one_follows_is_gone_back_for_until_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ShopperApp, "looks_every", 0.5)
    stalls: list[int] = []

    async def main(settings: Settings) -> None:
        async with running_app(settings) as (app, processor):
            await until(lambda: CLICKS in app.held())
            dropped = dropping(monkeypatch, 2)
            await asyncio.to_thread(produce, settings, "clicks", USER, click(0), partition=0)
            await until(lambda: processor.counters.acked == 1)
            assert dropped == [0, 0]
            assert processor.counters.rewinds == 0
            stalls.append(processor.counters.stalls)

    with EmbeddedBroker() as broker:
        asyncio.run(main(Settings(kafka=broker.bootstrap, data_dir=tmp_path)))
    assert stalls[0] >= 2  # more where a loaded machine is slow to read
    assert caplog.text.count("offset 0 waits, 1 before the partition's end") == stalls[0]


@pytest.mark.kafka
def test_a_transactions_marker_at_the_end_is_looked_at_once_and_not_gone_back_for(
    kafka: RealKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ShopperApp, "looks_every", 0.5)
    looked: list[tuple[Partition, int, int]] = []
    look = KafkaGapReader.look

    def counting(self: KafkaGapReader, partition: Partition, first: int, before: int) -> Gap:
        looked.append((partition, first, before))
        return look(self, partition, first, before)

    monkeypatch.setattr(KafkaGapReader, "look", counting)
    prefix = f"stalls-{uuid.uuid4().hex[:6]}-"
    settings = Settings(
        kafka=kafka.bootstrap, data_dir=tmp_path, topic_prefix=prefix, group=f"{prefix}g"
    )
    clicks = (f"{prefix}clicks", 0)

    async def main() -> None:
        async with running_app(settings) as (_app, processor):
            producer = Producer(
                {"bootstrap.servers": kafka.bootstrap, "transactional.id": f"{prefix}shop"}
            )
            await asyncio.to_thread(producer.init_transactions, 30)
            for number in range(2):  # offsets 0, 2; markers at 1, 3
                producer.begin_transaction()
                producer.produce(clicks[0], click(number), USER, 0)
                await asyncio.to_thread(producer.commit_transaction, 30)
                await until(lambda: processor.counters.acked == number + 1)  # noqa: B023
                await until(lambda: len(looked) == 1 + 2 * number)  # noqa: B023 - awaited here
            await asyncio.sleep(5.0)  # ten looks
            assert looked == [(clicks, 1, 2), (clicks, 1, 2), (clicks, 3, 4)]
            assert (processor.counters.stalls, processor.counters.rewinds) == (0, 0)

    asyncio.run(main())


@pytest.mark.kafka
def test_of_a_shops_transactions_what_is_committed_is_taken_and_nothing_else_is_waited_for(
    kafka: RealKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ShopperApp, "looks_every", 0.5)
    prefix = f"stalls-{uuid.uuid4().hex[:6]}-"
    settings = Settings(
        kafka=kafka.bootstrap, data_dir=tmp_path, topic_prefix=prefix, group=f"{prefix}g"
    )

    async def main() -> None:
        async with running_app(settings) as (app, processor):
            producer = Producer(
                {"bootstrap.servers": kafka.bootstrap, "transactional.id": f"{prefix}shop"}
            )
            await asyncio.to_thread(producer.init_transactions, 30)
            producer.begin_transaction()
            producer.produce(f"{prefix}clicks", click(0), USER, 0)
            assert await asyncio.to_thread(producer.flush, 30) == 0
            await asyncio.to_thread(producer.abort_transaction, 30)  # 0, its marker at 1
            producer.begin_transaction()
            producer.produce(f"{prefix}clicks", click(2), USER, 0)
            assert await asyncio.to_thread(producer.flush, 30) == 0
            await asyncio.sleep(5.0)  # ten looks
            assert processor.counters.events == 0
            await asyncio.to_thread(producer.commit_transaction, 30)
            await until(lambda: processor.counters.acked == 1)
            assert [row[4] for row in loads(app.table[USER]).rows] == ["i2"]
            told = processor.counters
            assert (told.stalls, told.rewinds, told.lost) == (0, 0, 0)

    asyncio.run(main())


@pytest.mark.kafka
def test_a_topic_that_is_made_again_is_read_again_within_a_minute(
    kafka: RealKafka, tmp_path: Path
) -> None:
    """Of a topic that is not there, as after a broker's restart, the group assigns nothing."""
    prefix = f"stalls-{uuid.uuid4().hex[:6]}-"
    settings = Settings(
        kafka=kafka.bootstrap, data_dir=tmp_path, topic_prefix=prefix, group=f"{prefix}g"
    )
    clicks = TP(f"{prefix}clicks", 0)

    async def main() -> None:
        async with running_app(settings) as (app, processor):
            await until(lambda: clicks in app.held())
            await asyncio.to_thread(kafka.delete_topics, clicks.topic)
            await until(lambda: bool(app.held()) and clicks not in app.held())
            await asyncio.to_thread(kafka.create_topics, clicks.topic, partitions=4)
            await asyncio.to_thread(produce, settings, "clicks", USER, click(0), partition=0)
            await wait_for(lambda: processor.counters.acked == 1, patience=60.0)

    asyncio.run(main())


def test_a_rewind_of_a_partition_that_was_taken_away_meanwhile_does_nothing(tmp_path: Path) -> None:
    async def main(settings: Settings) -> None:
        async with running_app(settings) as (app, processor):
            await app.app.consumer.rewind(TP("clicks", 99), 5)
            await asyncio.to_thread(produce, settings, "clicks", USER, click(0), partition=0)
            await until(lambda: processor.counters.acked == 1)

    with EmbeddedBroker() as broker:
        asyncio.run(main(Settings(kafka=broker.bootstrap, data_dir=tmp_path)))


def test_a_hole_that_was_stepped_over_during_a_commit_stays_stepped_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next commit waits for the offsets of the hole, and none is made any more."""
    committed: list[int] = []
    commit = PatchedThread.commit

    async def main(settings: Settings) -> None:
        async with running_app(settings) as (app, _processor):

            async def meanwhile(self: PatchedThread, offsets: dict[TP, int]) -> bool:
                app.app.consumer.step_over(CLICKS, 50)
                committed.append(offsets[CLICKS])
                return bool(await commit(self, offsets))

            monkeypatch.setattr(PatchedThread, "commit", meanwhile)
            await asyncio.to_thread(produce, settings, "clicks", USER, click(0), partition=0)
            await until(lambda: bool(committed) and app.app.consumer._commit_fut is None)
            assert committed == [1]
            assert app.app.consumer._committed_offset[CLICKS] == 50

    with EmbeddedBroker() as broker:
        asyncio.run(main(Settings(kafka=broker.bootstrap, data_dir=tmp_path)))
