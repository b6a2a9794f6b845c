"""The delivery promise on a real Kafka, under SIGKILL: what is counted is the state itself."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from stream.contracts.codec import decode_recommendation
from stream.shoppers.state import STEPS_KEPT, loads
from testbed.kafka import RealKafka
from testbed.waiting import PATIENCE
from tests.faults.worker_process import ITEMS

EVENTS, SHOPPERS, KILLS, WORKERS = 100_000, 3_000, 10, 2
T0 = 1_700_000_000_000
SHOPPER_TOPICS = ("clicks", "purchases", "searches", "erasures")

pytestmark = [pytest.mark.kafka, pytest.mark.long]


@dataclass
class Expected:
    """What the log says of a shopper, by the promise's own words."""

    rows: list[tuple[int, int, int]] = field(default_factory=list)
    offsets: dict[str, int] = field(default_factory=dict)


class Worker:
    """A worker process that is started again whenever it is gone."""

    def __init__(self, bootstrap: str, group: str, folder: Path) -> None:
        self._command = [
            sys.executable, "-m", "tests.faults.worker_process", bootstrap, group, str(folder)
        ]  # fmt: skip
        self.log = (folder.with_suffix(".log")).open("ab")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=self.log, stderr=self.log)

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None


@contextmanager
def running_workers(bootstrap: str, group: str, folder: Path) -> Iterator[list[Worker]]:
    with ExitStack() as stack:
        workers = [Worker(bootstrap, group, folder / f"worker{n}") for n in range(WORKERS)]
        for worker in workers:
            worker.start()
            stack.callback(worker.kill)
        yield workers


class Log:
    """Produces the shoppers' events and remembers where each one landed."""

    def __init__(self, bootstrap: str, seed: int) -> None:
        self._rng = random.Random(seed)
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
            }
        )
        self.expected: dict[bytes, Expected] = {}

    def produce(self, count: int) -> None:
        for _ in range(count):
            self._produce_one()
            self._producer.poll(0)
        assert self._producer.flush(120) == 0

    def _produce_one(self) -> None:
        rng = self._rng
        user = f"u{rng.randrange(SHOPPERS)}"
        topic = rng.choices(("clicks", "purchases", "searches"), (8, 1, 1))[0]
        ts = T0 + rng.randrange(10_000_000)
        value: dict[str, object] = {"user_id": user, "ts": ts}
        if topic == "searches":
            value["query"] = "linen dress"
        else:
            value["item_id"] = f"i{rng.randrange(ITEMS)}"
        rank = SHOPPER_TOPICS.index(topic)

        def landed(error: object, message: object) -> None:
            assert error is None, error
            offset = message.offset()  # type: ignore[attr-defined]
            expected = self.expected.setdefault(user.encode(), Expected())
            expected.rows.append((ts, rank, offset))
            expected.offsets[topic] = max(offset, expected.offsets.get(topic, -1))

        self._producer.produce(topic, orjson.dumps(value), user.encode(), on_delivery=landed)


def newest(bootstrap: str, topic: str) -> dict[bytes, bytes | None]:
    """The newest record of each key, as a subscriber holds it."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "checker",
            "enable.auto.commit": False,
            "enable.partition.eof": True,  # the last offset is a transaction's marker, no record
        }
    )
    found: dict[bytes, bytes | None] = {}
    unread = set(range(4))
    consumer.assign([TopicPartition(topic, partition, 0) for partition in unread])
    while unread:
        for message in consumer.consume(5000, 1.0):
            error = message.error()
            if error is None:
                found[message.key() or b""] = message.value()
            else:
                assert error.code() == KafkaError._PARTITION_EOF, error
                unread.discard(message.partition())
    consumer.close()
    return found


def committed_lag(bootstrap: str, group: str) -> int:
    """Records of the shopper topics whose handling is not committed yet."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
    partitions = [TopicPartition(t, p) for t in SHOPPER_TOPICS for p in range(4)]
    lag = 0
    for partition in _committed(consumer, partitions):
        _, end = consumer.get_watermark_offsets(partition, timeout=120)
        lag += end - max(partition.offset, 0)
    consumer.close()
    return lag


def _committed(consumer: Consumer, partitions: list[TopicPartition]) -> list[TopicPartition]:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:  # until the group has a coordinator
        try:
            return consumer.committed(partitions, timeout=120)
        except KafkaException:
            time.sleep(1)
    raise AssertionError("the group has no coordinator")


def check(bootstrap: str, changelog: str, expected: dict[bytes, Expected]) -> None:
    states = newest(bootstrap, changelog)
    lists = newest(bootstrap, "recommendations")
    wrong_states: list[object] = []
    stale_lists: list[bytes] = []
    for key, shopper in expected.items():
        state = loads(states.get(key))
        rows = sorted(shopper.rows)[-STEPS_KEPT:]
        kept = [row[:3] for row in state.rows]
        if kept != rows or state.offsets != shopper.offsets:
            missing = sorted(set(rows) - set(kept))
            more = sorted(set(kept) - set(rows))
            wrong_states.append((key, missing, more, state.offsets, shopper.offsets))
        made = decode_recommendation(key, lists.get(key))
        if (
            made is None
            or dict(made.as_of.offsets) != shopper.offsets
            or not made.recommendation.items
        ):
            stale_lists.append(key)
    assert (len(wrong_states), len(stale_lists)) == (0, 0), (wrong_states[:3], stale_lists[:3])


@pytest.mark.timeout(1800)
def test_every_sequence_is_exact_and_every_newest_list_fresh_after_ten_kills(
    kafka: RealKafka, tmp_path: Path
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    group = "kills"
    changelog = f"{group}-shoppers-changelog"
    kafka.create_topics(*SHOPPER_TOPICS, "dead-letters")
    kafka.create_topics("recommendations", changelog, config={"cleanup.policy": "compact"})
    log = Log(kafka.bootstrap, seed)
    share = EVENTS // (KILLS + 1)
    with running_workers(kafka.bootstrap, group, tmp_path) as workers:
        log.produce(share)
        for kill in range(KILLS):
            time.sleep(rng.uniform(2, 9))
            victim = rng.choice(workers)
            victim.kill()
            log.produce(EVENTS - share * KILLS if kill == KILLS - 1 else share)
            time.sleep(rng.uniform(0, 3))
            for worker in workers:
                if not worker.alive():
                    worker.start()
        until = time.monotonic() + 900
        while committed_lag(kafka.bootstrap, group) and time.monotonic() < until:
            for worker in workers:
                if not worker.alive():
                    worker.start()
            time.sleep(1)
        assert committed_lag(kafka.bootstrap, group) == 0
    check(kafka.bootstrap, changelog, log.expected)
