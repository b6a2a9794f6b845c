"""Sends a run's records at their pace and remembers where each one landed."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

from confluent_kafka import KafkaError, Message, Producer

from bench.faults.checker import Ledger
from bench.faults.schedule import PARTITIONER, Sent
from stream.shoppers.state import Row, ShopperState


class Sender(threading.Thread):
    """A thread that ends when every record is on the broker, or at the first refusal (``error``).

    The producer waits out any outage; being idempotent it neither doubles nor reorders.
    """

    def __init__(self, bootstrap: str, records: Iterator[Sent], ledger: Ledger) -> None:
        super().__init__(name="bench-sender", daemon=True)
        self.error: BaseException | None = None
        self.sent = 0
        self.begun = 0.0  # epoch s
        self._records, self._ledger = records, ledger
        self._producer = producer(bootstrap)

    def run(self) -> None:
        """See above."""
        self.begun, begun = time.time(), time.monotonic()
        try:
            for record in self._records:
                while (ahead := begun + record.at - time.monotonic()) > 0:
                    self._producer.poll(min(ahead, 0.05))
                self._send(record)
            while left := self._producer.flush(5.0):
                print(f"{left} records are still to land", file=sys.stderr, flush=True)
        except Exception as error:
            self.error = error

    def _send(self, record: Sent) -> None:
        landed = partial(self._landed, record)
        send = partial(
            self._producer.produce, record.topic, record.value, record.key, on_delivery=landed
        )
        while True:
            try:
                send() if record.partition < 0 else send(partition=record.partition)
            except BufferError:
                self._producer.poll(0.1)
            else:
                self._producer.poll(0)
                return

    def _landed(self, record: Sent, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            raise RuntimeError(f"the bench could not send a record: {error.str()}")
        self.sent += 1
        offset, partition = message.offset() or 0, message.partition() or 0
        if record.action is not None:
            sent_at = message.timestamp()[1] / 1000
            self._ledger.landed(record.action, record.topic, offset, sent_at)
        else:
            self._ledger.bad.add((record.topic, partition, offset))


def producer(bootstrap: str) -> Producer:
    """A producer as a shop should have it."""
    return Producer(
        {
            "bootstrap.servers": bootstrap,
            "partitioner": PARTITIONER,
            "enable.idempotence": True,
            "message.timeout.ms": 900_000,
            "message.max.bytes": 2_000_000,
            "queue.buffering.max.messages": 500_000,
            "linger.ms": 5,
            "log_level": 0,
            "error_cb": _ignored,
        }
    )


def hold(bootstrap: str, changelog: str, count: int, item_of: Callable[[int], str]) -> Ledger:
    """Writes the states of ``count`` shoppers who were there before the run; each has 10 steps."""
    ledger = Ledger()
    sending = producer(bootstrap)
    for number in range(count):
        rows: list[Row] = [
            (1_600_000_000_000 + step, 0, step, "click", item_of(number + step), None)
            for step in range(10)
        ]
        key, value = f"held{number}".encode(), ShopperState(offsets={}, rows=rows).dumps()
        ledger.held[key] = value
        sending.produce(changelog, value, key)
        sending.poll(0)
    while sending.flush(5.0):
        pass
    return ledger


def _ignored(_error: KafkaError) -> None:
    """Outages are the bench's own doing."""
