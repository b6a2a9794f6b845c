"""Sends records and returns only when the broker has every one of them.

A worker that was stopped past its session timeout does not know that its partitions are another's.
So what is for a partition goes out in a transaction of the partition's own producer: the broker
gives each new owner a higher epoch, ends what the former one left open, and refuses all that the
former one still sends (``KafkaDelivery.own``).
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Final, Protocol

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from models.errors import BrokerUnavailable, Fatal

_log = logging.getLogger("weft.delivery")

#: librdkafka's own retries end after this long; then we are told, and decide.
_MESSAGE_TIMEOUT_MS: Final = 30_000
#: Partitions whose transactions are under way at once.
_AT_ONCE: Final = 8
#: A fenced worker hears within some heartbeats that its partitions are gone. If it does not, they
#: are its own still, and only a new start makes it their owner again.
_FENCED_FOR: Final = 60.0


#: Trying again cannot help: a person has to look.
HOPELESS: Final = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError._AUTHENTICATION,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
    }
)


@dataclass(frozen=True, slots=True)
class Record:
    """One record to produce; ``value`` None is a tombstone, ``partition`` -1 the partitioner's."""

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int = -1
    headers: Sequence[tuple[str, bytes]] = ()


class Delivery(Protocol):
    """Where records go."""

    def deliver(self, records: Sequence[Record]) -> None:
        """Blocks until every record is on the broker, in the order given for each key.

        Raises ``BrokerUnavailable``; then some of the records may have arrived, and calling
        again with all of them is right. Raises ``Fatal`` where trying again cannot help.
        """

    def close(self) -> None:
        """Releases the connection."""


class Fence(Protocol):
    """What makes a worker the only one that writes for its partitions."""

    def own(self, name: str, partitions: Collection[int]) -> None:
        """From now on writes for these ``partitions`` alone; nothing of a former owner comes after.

        ``name`` is the same for all workers that share the partitions. Blocks. Raises
        ``BrokerUnavailable``; then nothing is owned.
        """


class KafkaDelivery:
    """Delivery by an idempotent confluent-kafka producer; a ``Fence`` once ``own`` was called.

    From then on a record with a partition goes out in that partition's transaction: all of a
    call's for it or none. ``timeout_ms`` without an answer make ``BrokerUnavailable``.
    """

    def __init__(
        self,
        config: Mapping[str, str | int | float | bool],
        partitioner: str,
        timeout_ms: int = _MESSAGE_TIMEOUT_MS,
    ) -> None:
        self._timeout = 2 * timeout_ms / 1000
        self._config: dict[str, Any] = {
            **config,
            "enable.idempotence": True,
            "partitioner": partitioner,
            "linger.ms": 2,
            "message.timeout.ms": timeout_ms,
            # a dead letter is as long as its source, and a topic takes 48 KiB over librdkafka's
            "message.max.bytes": 2_000_000,
            "queue.buffering.max.messages": 200_000,
            "logger": logging.getLogger("weft.librdkafka"),
        }
        self._producer = Producer(self._config)
        self._owning = threading.Lock()
        self._owned: dict[int, _Owned] | None = None
        self._pool = ThreadPoolExecutor(_AT_ONCE, "weft-transaction")  # no thread before it is used

    def own(self, name: str, partitions: Collection[int]) -> None:
        """See ``Fence``. Every call fences anew: meanwhile a partition may have been another's."""

        def owned(partition: int) -> _Owned:
            return _Owned(self._config, f"{name}-{partition}", self._timeout)

        with self._owning:
            self._owned = {}
            tasks = [self._pool.submit(owned, partition) for partition in partitions]
            wait(tasks)  # also where one fails: what comes later would fence the next call's
            made = [task.result() for task in tasks]
            self._owned = dict(zip(partitions, made, strict=True))

    def deliver(self, records: Sequence[Record]) -> None:
        """See ``Delivery``."""
        if self._owned is None:
            self._deliver(records)
            return
        anywhere: list[Record] = []
        placed: dict[int, list[Record]] = {}
        for record in records:
            (anywhere if record.partition < 0 else placed.setdefault(record.partition, [])).append(
                record
            )
        if anywhere:
            self._deliver(anywhere)
        if placed:
            with self._owning:
                self._transact(placed)

    def _transact(self, placed: Mapping[int, list[Record]]) -> None:
        owned = self._owned or {}
        if gone := placed.keys() - owned.keys():
            raise BrokerUnavailable(f"partitions {sorted(gone)} are not this worker's")
        tasks = [self._pool.submit(owned[place].deliver, sent) for place, sent in placed.items()]
        errors = [error for task in tasks if (error := task.exception())]
        for error in sorted(errors, key=lambda error: isinstance(error, BrokerUnavailable)):
            raise error  # what cannot be tried again comes first

    def _deliver(self, records: Sequence[Record]) -> None:
        failures: list[KafkaError] = []
        try:
            _produce(self._producer, records, failures)
        except KafkaException as error:
            raise _delivery_error([error.args[0]], 0) from error
        end = time.monotonic() + self._timeout
        while self._producer.flush(1.0) and time.monotonic() < end:
            pass
        left = len(self._producer)
        if failures or left:
            raise _delivery_error(failures, left)

    def close(self) -> None:
        """Gives what is left five seconds, and says what did not leave."""
        left = self._producer.flush(5.0)
        if left:
            _log.warning("%d records were not delivered before the stop; they come again", left)
        self._pool.shutdown(wait=False)


class _Owned:
    """One partition's transactional producer; made, it has fenced all of its name before it."""

    def __init__(self, config: Mapping[str, Any], name: str, timeout: float) -> None:
        self._timeout = timeout
        self._open = False  # a transaction that a failure left
        self._committing = False
        self._fenced_at: float | None = None
        self._producer = Producer(
            {
                **config,
                "transactional.id": name,
                "transaction.timeout.ms": int(1000 * timeout),
            }
        )
        try:
            self._producer.init_transactions(timeout)
        except KafkaException as error:
            raise _not_begun(name, error.args[0]) from error

    def deliver(self, records: Sequence[Record]) -> None:
        """All of them in one transaction. Raises as ``Delivery.deliver``."""
        failures: list[KafkaError] = []
        try:
            self._settle()
            self._producer.begin_transaction()
            self._open = True
            _produce(self._producer, records, failures)
            self._commit()
        except KafkaException as error:
            raise self._failed(error.args[0], failures) from error

    def _commit(self) -> None:
        self._committing = True
        self._producer.commit_transaction(self._timeout)
        self._open = self._committing = False

    def _settle(self) -> None:
        """Ends what a failure left: its records come again, so either end is right."""
        if self._committing:
            self._commit()  # librdkafka wants the same call again
        elif self._open:
            self._producer.abort_transaction(self._timeout)
            self._open = False

    def _failed(self, error: KafkaError, failures: list[KafkaError]) -> BrokerUnavailable | Fatal:
        if error.fatal() or error.code() == KafkaError._FENCED:
            return self._fenced(error)
        told = _delivery_error([*failures, error], 0)
        if error.txn_requires_abort() or not self._committing:
            self._committing = False
            with contextlib.suppress(KafkaException):  # else the next call ends it
                self._settle()
        return told

    def _fenced(self, error: KafkaError) -> BrokerUnavailable | Fatal:
        now = time.monotonic()
        self._fenced_at = self._fenced_at or now
        if now - self._fenced_at > _FENCED_FOR:
            return Fatal(f"this worker may not write any more, start it again: {error.str()}")
        return BrokerUnavailable("another worker has taken the partition over")


def _produce(producer: Producer, records: Sequence[Record], failures: list[KafkaError]) -> None:
    """Queues the records; what cannot be delivered is added to ``failures`` while polling."""

    def delivered(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            failures.append(error)

    for record in records:
        while True:
            try:
                producer.produce(
                    record.topic,
                    record.value,
                    record.key,
                    record.partition,
                    on_delivery=delivered,
                    headers=list(record.headers) or None,
                )
            except BufferError:  # the local queue is full: wait for room
                producer.poll(0.1)
            else:
                producer.poll(0)
                break


def _not_begun(name: str, error: KafkaError) -> BrokerUnavailable | Fatal:
    words = f"cannot begin transactions as {name!r}: {error.name()}: {error.str()}"
    if error.code() in HOPELESS or error.fatal():
        return Fatal(
            f"{words}; let this client write as transactional ids that begin with its WEFT_GROUP"
        )
    return BrokerUnavailable(
        f"{words}; a cluster of fewer than three brokers needs "
        "transaction.state.log.replication.factor and transaction.state.log.min.isr of its size"
    )


def _delivery_error(failures: Sequence[KafkaError], left: int) -> BrokerUnavailable | Fatal:
    if not failures:
        return BrokerUnavailable(f"{left} records are still not on the broker")
    first = failures[0]
    words = f"{len(failures)} records were not delivered: {first.name()}: {first.str()}"
    if first.fatal() or first.code() in HOPELESS:
        return Fatal(f"{words}; check the broker's limits and this client's permissions")
    return BrokerUnavailable(words)
