"""What Weft changes about Faust, held without a broker."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.group_coordinator import GroupCoordinator
from faust.types import TP
from intervaltree import IntervalTree

from models.errors import BrokerUnavailable, UnreadableState
from models.recommend.popularity import Popularity
from models.recommend.recommender import Recommender
from models.space.zero_shot import ZeroShotSpace
from stream import settings as weft_settings
from stream.settings import Settings
from stream.shoppers.app import ShopperApp
from stream.shoppers.batch import Counters
from stream.shoppers.faust_patches import PatchedConsumer, patch_offset_fetch
from stream.shoppers.offset_check import Gap, Partition
from stream.shoppers.processor import ShopperProcessor
from stream.shoppers.stalls import PATIENCE, StallWatch
from testbed.stand_ins import HashEncoder, MemoryDelivery, MemoryIndex

CLICKS = TP("clicks", 0)


def test_a_state_that_cannot_be_read_ends_the_worker_with_the_reason(tmp_path: Path) -> None:
    async def main() -> BaseException | None:
        app = ShopperApp(weft_settings.load({}, data_dir=tmp_path), 4)
        app.table.restored({0: {b"ana": b"no state"}})
        processor = ShopperProcessor(
            weft_settings.load({}, data_dir=tmp_path), app.table,
            Recommender(MemoryIndex(), ZeroShotSpace(HashEncoder()), Popularity(7), None, 0, 1, 1),
            Popularity(7), MemoryDelivery(), 4,
        )  # fmt: skip
        await app._derive(processor.recovered())
        processor.close()
        return app.crashed()

    assert isinstance(asyncio.run(main()), UnreadableState)


def consumer() -> PatchedConsumer:
    """A consumer of one partition, committed up to 10, without a connection."""
    made = PatchedConsumer.__new__(PatchedConsumer)
    made.app = SimpleNamespace(topics=SimpleNamespace(acks_enabled_for=lambda _topic: True))
    made._moves, made._awaited, made._commit_every, made.rounds = 0, {}, None, 0
    made._stepped = {}
    made._gap, made._acked = defaultdict(IntervalTree), defaultdict(list)
    made._acked_index = defaultdict(set)
    made._read_offset = defaultdict(lambda: None, {CLICKS: 10})
    made._committed_offset = defaultdict(lambda: None, {CLICKS: 10})
    return made


def drained(made: PatchedConsumer, *offsets: int) -> list[int]:
    delivered: list[int] = []

    async def callback(message: SimpleNamespace) -> None:
        delivered.append(message.offset)

    async def main() -> None:
        made.callback = callback
        for offset in offsets:
            await made._drain(CLICKS, SimpleNamespace(offset=offset, topic="clicks"), made._moves)

    asyncio.run(main())
    return delivered


def test_a_jump_of_the_offsets_is_not_committed_over_before_it_is_looked_into() -> None:
    made = consumer()
    drained(made, 10, 20)
    made._acked[CLICKS] = [10, 20]
    assert made._new_offset(CLICKS) == 11


def test_a_hole_that_was_looked_into_is_committed_over() -> None:
    made = consumer()
    drained(made, 10, 20)
    made.step_over(CLICKS, 20)
    made._acked[CLICKS] = [20]
    assert made._new_offset(CLICKS) == 21


class Missing:
    """Says what lies in every gap: the record at 20 was dropped, retention took up to ``lost``."""

    def __init__(self, lost: int) -> None:
        self.lost = lost

    def look(self, partition: Partition, first: int, before: int) -> Gap:
        return Gap(20, self.lost)

    def ends(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        return dict.fromkeys(partitions, 30)


class Unfenced:
    """Owns what it is asked to."""

    def own(self, _name: str, _partitions: Collection[int]) -> None:
        pass


@pytest.mark.parametrize("later_record", [True, False])
def test_what_is_gone_before_a_record_that_is_gone_back_for_is_lost_and_committed_over(
    later_record: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = weft_settings.load({}, data_dir=tmp_path)

    async def main() -> None:
        made, app = consumer(), ShopperApp(settings, 4)
        processor = ShopperProcessor(
            settings, app.table,
            Recommender(MemoryIndex(), ZeroShotSpace(HashEncoder()), Popularity(7), None, 0, 1, 1),
            Popularity(7), MemoryDelivery(), 4,
        )  # fmt: skip
        sought: list[int] = []

        async def seek_here(_tp: TP, offset: int, _wanted: Callable[[], bool]) -> None:
            sought.append(offset)

        made._thread = SimpleNamespace(seek_here=seek_here)
        monkeypatch.setattr(made, "reading_at", lambda _tp: 30)
        app.app.consumer, app._fetched.queue = made, asyncio.Queue()
        app.attach(processor, Missing(lost=7), Unfenced())
        app.ready.set()
        app._on_seek(CLICKS, 10)
        if later_record:
            assert not await app._follows_on(CLICKS, 25)
        else:
            assert await app.go_back(CLICKS, 30)
        told = processor.counters
        assert (told.lost, told.rewinds, told.stalls) == (7, later_record, not later_record)
        assert (sought, app.held()) == ([20], {CLICKS: 20})
        made._acked[CLICKS] = [20]
        assert made._new_offset(CLICKS) == 21
        processor.close()

    asyncio.run(main())


class Gone:
    """Retention took all that was not read, 10 to 29, but of the partitions that do not answer."""

    def __init__(self, away: Collection[Partition] = ()) -> None:
        self.away = away

    def look(self, partition: Partition, first: int, before: int) -> Gap:
        if partition in self.away:
            raise BrokerUnavailable("no leader")
        return Gap(None, before - first)

    def ends(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        return dict.fromkeys(partitions, 30)


def watched(
    settings: Settings, gone: Gone, *held: TP
) -> tuple[ShopperApp, PatchedConsumer, Counters]:
    """After many looks at partitions of which 10 is next, and of which nothing comes."""
    made, app = consumer(), ShopperApp(settings, 4)
    processor = ShopperProcessor(
        settings, app.table,
        Recommender(MemoryIndex(), ZeroShotSpace(HashEncoder()), Popularity(7), None, 0, 1, 1),
        Popularity(7), MemoryDelivery(), 4,
    )  # fmt: skip

    async def main() -> None:
        app.app.consumer, app._fetched.queue = made, asyncio.Queue()
        app.attach(processor, gone, Unfenced())
        app.ready.set()
        for tp in held:
            app._on_seek(tp, 10)
        watch = StallWatch(gone, app, every=0.0)
        for _ in range(3 * PATIENCE):
            await asyncio.wait_for(watch.look(), 5.0)
        processor.close()

    asyncio.run(main())
    return app, made, processor.counters


def test_a_partition_that_does_not_answer_keeps_the_watch_from_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PatchedConsumer, "reading_at", lambda *_: 30)
    monkeypatch.setattr(PatchedConsumer, "is_buffered", lambda *_: False)
    looked: list[Partition] = []

    class Looked(Gone):
        def look(self, partition: Partition, first: int, before: int) -> Gap:
            looked.append(partition)
            return super().look(partition, first, before)

    settings = weft_settings.load({}, data_dir=tmp_path)
    watched(settings, Looked([CLICKS]), CLICKS, TP("clicks", 1))
    assert looked.count(CLICKS) == 3  # again, as soon as it is due again
    assert TP("clicks", 1) in looked


def test_what_retention_took_is_told_though_nothing_follows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(PatchedConsumer, "reading_at", lambda *_: 30)
    monkeypatch.setattr(PatchedConsumer, "is_buffered", lambda *_: False)
    app, made, told = watched(weft_settings.load({}, data_dir=tmp_path), Gone(), CLICKS)
    assert (told.lost, told.rewinds, told.stalls) == (20, 0, 0)
    assert caplog.text.count("20 events of clicks, partition 0, are lost") == 1
    assert app.held() == {CLICKS: 30}
    made._acked[CLICKS] = [30]
    assert made._new_offset(CLICKS) == 31


@pytest.mark.parametrize(
    ("others_wait", "reading_at", "fetched", "coming"),
    [  # 10 is next: what was handed out beyond it and is not here was dropped
        (True, 10, False, True),
        (True, None, False, True),
        (True, 12, True, False),
        (False, 12, False, False),
        (False, 10, True, True),
        (False, 10, False, False),  # nothing is before it: it should have come
    ],
)
def test_a_partition_whose_turn_is_still_to_come_is_not_gone_back_for(
    others_wait: bool, reading_at: int | None, fetched: bool, coming: bool, tmp_path: Path
) -> None:
    async def main() -> None:
        app = ShopperApp(weft_settings.load({}, data_dir=tmp_path), 4)
        app.app.consumer = SimpleNamespace(
            reading_at=lambda _tp: reading_at, is_buffered=lambda _tp: fetched
        )
        app.ready.set()
        app._on_seek(CLICKS, 10)
        queue: asyncio.Queue[Any] = asyncio.Queue()
        app._fetched.queue = queue
        if others_wait:
            queue.put_nowait(SimpleNamespace(message=SimpleNamespace(tp=TP("clicks", 1))))
        assert app.on_its_way(CLICKS) == coming

    asyncio.run(main())


def test_after_a_rewind_only_the_awaited_record_and_what_follows_is_delivered() -> None:
    made = consumer()
    made._awaited[CLICKS] = 11, time.monotonic() + 60
    assert drained(made, 20, 21, 11, 12) == [11, 12]


def test_a_rewind_whose_record_never_comes_stops_nothing_for_ever() -> None:
    made = consumer()
    made._awaited[CLICKS] = 11, time.monotonic() - 1
    assert drained(made, 20, 21) == [20, 21]


def test_a_record_that_comes_later_than_a_rewind_waits_for_it_is_delivered() -> None:
    made = consumer()
    made._awaited[CLICKS] = 11, time.monotonic() - 1
    assert drained(made, 20, 11, 12) == [20, 11, 12]


def test_of_a_fetch_under_way_while_reading_was_taken_elsewhere_what_follows_on_is_kept() -> None:
    """Such a fetch holds what was read before the move, or after it: that is not read again."""
    made, delivered = consumer(), []
    fetched = [(CLICKS, n) for n in (30, 10, 11, 25)]
    stopped = asyncio.Event()

    async def getmany(**_: float) -> AsyncIterator[tuple[TP, SimpleNamespace]]:
        made._moves += 1  # a rebalance, after which reading begins at 10
        for tp, offset in fetched:
            yield tp, SimpleNamespace(offset=offset, topic="clicks")
        stopped.set()

    async def callback(message: SimpleNamespace) -> None:
        delivered.append(message.offset)

    async def at_once(*_: object) -> None:
        """No wait."""

    made.callback, made.getmany, made.sleep = callback, getmany, at_once
    made._stopped, made.consumer_stopped_errors = stopped, ()
    made.assignment = lambda: {CLICKS}
    made.app.flow_control = SimpleNamespace(acquire=at_once)
    asyncio.run(made._drain_messages(SimpleNamespace(_stopped=asyncio.Event())))
    assert delivered == [10, 11]


@pytest.mark.parametrize("code", [14, 15, 16])  # loading, not there, another broker
def test_a_coordinator_that_cannot_tell_what_is_committed_is_asked_again(code: int) -> None:
    """Taken for "nothing is committed", all topics would be read from their start."""
    place = ("clicks", [(0, 5, "", 0)])
    answers = [SimpleNamespace(topics=[], error_code=code)]
    answers += [SimpleNamespace(topics=[place], error_code=0)]
    coordinator, dead = GroupCoordinator.__new__(GroupCoordinator), []

    async def known() -> None:
        """It is."""

    async def answer(_request: object) -> SimpleNamespace:
        return answers.pop(0)

    coordinator.group_id, coordinator._retry_backoff_ms = "weft", 1
    coordinator.ensure_coordinator_known, coordinator._send_req = known, answer
    coordinator.coordinator_dead = lambda: dead.append(True)
    patch_offset_fetch(coordinator)
    asked = TopicPartition("clicks", 0)
    assert asyncio.run(coordinator.fetch_committed_offsets([asked]))[asked].offset == 5
    assert bool(dead) == (code == 16)


def test_what_was_read_moves_no_offset_once_reading_was_taken_elsewhere() -> None:
    made = consumer()

    async def callback(_message: SimpleNamespace) -> None:
        made._moves += 1  # a rebalance during the delivery
        made._read_offset[CLICKS] = 10

    async def main() -> None:
        made.callback = callback
        await made._drain(CLICKS, SimpleNamespace(offset=15, topic="clicks"), made._moves)

    asyncio.run(main())
    assert made._read_offset[CLICKS] == 10
