"""SIGKILL between two deliveries of a batch, on a real Kafka: what is seen, and comes of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition

from bench.faults import topics
from bench.faults.actions import invented
from bench.faults.checker import Kept, Ledger, check
from bench.faults.kill_points import KillPoint
from bench.faults.schedule import PARTITIONER, PARTITIONS
from bench.faults.sender import producer
from bench.faults.workers import Setup, Worker
from models.domain import Kind
from stream.contracts.codec import ShopperEvent
from stream.contracts.partitioner import partition_of
from stream.contracts.topics import TopicNames
from stream.kafka.broker import ensure_topics
from stream.settings import load
from stream.shoppers.state import ShopperState, loads
from testbed.kafka import RealKafka, real_kafka, why_missing
from testbed.waiting import PATIENCE, eventually

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.long,
    pytest.mark.skipif(bool(why_missing()), reason=why_missing() or ""),
]

GROUP, TS = "points", 1_700_000_000_000
SHOPPERS = {
    partition: next(
        f"u{n}" for n in range(99) if partition_of(b"u%d" % n, PARTITIONS, PARTITIONER) == partition
    )
    for partition in range(PARTITIONS)
}


class Bench:
    """One worker on a broker of its own, and what its topics hold."""

    def __init__(self, kafka: RealKafka, folder: Path, bug: str = "none") -> None:
        self.kafka, self.index = kafka, folder / "index"
        (folder / "items.json").write_text(orjson.dumps(invented().items).decode())
        ensure_topics(load({}, kafka=kafka.bootstrap, group=GROUP))
        self.worker = Worker(Setup(kafka.bootstrap, GROUP, folder, 1.5, bug), "worker")
        self.sender = producer(kafka.bootstrap)
        self.sent = dict.fromkeys(SHOPPERS, 0)

    def click(self, *partitions: int) -> None:
        """One click of the shopper of each partition, all within one batch's wait."""
        for partition in partitions:
            user = SHOPPERS[partition]
            row = {"user_id": user, "ts": TS, "item_id": "i1"}
            self.sender.produce("clicks", orjson.dumps(row), user)
            self.sent[partition] += 1
        self.sender.flush(120)

    def states(self) -> dict[int, ShopperState]:
        """What a reader of committed records reads of each partition's shopper."""
        kept = topics.states(self.kafka.bootstrap, TopicNames(group=GROUP).changelog)
        return {p: loads(kept.newest.get(user.encode())) for p, user in SHOPPERS.items()}

    def seen(self) -> dict[int, int]:
        """The clicks in each partition's state."""
        return {partition: len(state.rows) for partition, state in self.states().items()}

    def listed(self) -> dict[int, int]:
        """The clicks of which each partition's last list is."""
        reach = topics.lists(self.kafka.bootstrap).kept.farthest
        return {p: sum(reach.get(user.encode(), ())) for p, user in SHOPPERS.items()}

    def committed(self) -> int:
        """The clicks that the group will not read again; 0 while it has no coordinator yet."""
        places = [TopicPartition("clicks", partition) for partition in SHOPPERS]
        with (
            contextlib.suppress(KafkaException),
            contextlib.closing(
                Consumer({"bootstrap.servers": self.kafka.bootstrap, "group.id": GROUP})
            ) as consumer,
        ):
            return sum(max(0, place.offset) for place in consumer.committed(places, timeout=120))
        return 0

    def again(self) -> int:
        """Records that came to the process that lives now and changed nothing."""
        counters = self._counters_since(self.worker.starts[-1])
        return int(counters["again"]) if counters else 0

    def taken(self) -> int:
        """Records that came to the process that lives now, up to this moment."""
        now = time.time()
        eventually(lambda: self._counters_since(now))
        return int(self._counters_since(now)["events"])

    def _counters_since(self, at: float) -> dict[str, Any]:
        """The newest that the worker told, empty if none since then."""
        lines = [line for line in self.worker.told() if line["at"] > at]
        return next((line for line in lines[::-1] if line["what"] == "counters"), {})

    def killed(self, point: KillPoint, *partitions: int, busy: int | None = None) -> None:
        """Clicks, and waits until the worker has ended at ``point`` of their delivery.

        While it is busy with a click of partition ``busy``, the others gather to one batch.
        """
        self.worker.aim(point)
        if busy is None:
            self.click(*partitions)
        else:
            before = self.taken()
            self.index.write_text("hold")
            self.click(busy)
            eventually(lambda: self.taken() == before + 1)
            self.click(*partitions)
            eventually(lambda: self.taken() == before + 1 + len(partitions))
            self.index.unlink()
        assert self.worker.hit(PATIENCE)

    def restarted(self) -> None:
        """Starts the worker, and waits until every click is in a state, in a list and committed."""
        self.worker.start()
        total = sum(self.sent.values())
        eventually(lambda: self.committed() == total)
        assert self.seen() == self.listed() == self.sent


@pytest.fixture
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Its parameter is a deliberate bug's name."""
    with real_kafka() as kafka:
        bench = Bench(kafka, tmp_path, getattr(request, "param", "none"))
        try:
            yield bench
        finally:
            bench.worker.kill()


def test_a_worker_killed_between_two_deliveries_leaves_all_or_nothing_of_a_partition(
    bench: Bench,
) -> None:
    bench.click(*SHOPPERS)
    bench.restarted()

    # sent and not committed: to a reader nothing has happened
    bench.killed(KillPoint.BEFORE_COMMIT, 0)
    assert bench.seen() == bench.listed() == bench.sent | {0: 1}
    bench.restarted()
    assert bench.again() == 0

    # committed and not acked: it comes again, and is known
    bench.killed(KillPoint.AFTER_COMMIT, 0)
    assert bench.seen() == bench.listed() == bench.sent
    assert bench.committed() == 5
    bench.restarted()
    eventually(lambda: bench.again() == 1)

    # one partition's is out, the other's is not: the one is known, the other taken
    bench.killed(KillPoint.BETWEEN, 1, 2, busy=3)
    for seen in (bench.seen(), bench.listed()):
        assert (seen[1], seen[2]) == (2, 1)
    bench.restarted()
    eventually(lambda: bench.again() >= 1)

    bench.killed(KillPoint.BETWEEN_REVERSED, 1, 2, busy=0)
    for seen in (bench.seen(), bench.listed()):
        assert (seen[1], seen[2]) == (2, 3)
    bench.restarted()
    eventually(lambda: bench.again() >= 1)


@pytest.mark.parametrize("bench", ["offset-not-stored"], indirect=True)
def test_the_checker_finds_that_a_state_without_its_offset_takes_a_record_twice(
    bench: Bench,
) -> None:
    ledger = Ledger()
    ledger.landed(ShopperEvent(Kind.CLICK, SHOPPERS[0], TS, "i1"), "clicks", 0)

    def duplicated() -> int:
        states = topics.states(bench.kafka.bootstrap, TopicNames(group=GROUP).changelog)
        return check(ledger, states, Kept(), ()).duplicated

    bench.worker.start()
    bench.killed(KillPoint.AFTER_COMMIT, 0)
    assert duplicated() == 0
    bench.worker.start()
    eventually(lambda: duplicated() == 1)
