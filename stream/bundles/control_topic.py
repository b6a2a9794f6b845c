"""The control topic: which bundle the shop wants served, and what each worker makes of it.

    key bundle          {bundle, name, path, ts}: what is desired; bundle "" is the zero-shot space
    key worker/<name>   {bundle, label, state, serving, desired, items, reason, beat, ts}: a report

Compacted, and only partition 0 is used: the embedded broker gives every topic several.

A worker that stops takes its report away; one that is killed cannot. So each repeats its report
every ``BEAT`` seconds, and one that is silent while another repeats its own ``GONE_AFTER`` times
counts as gone. No clock is compared with another's, and an outage of the broker, in which nobody is
heard, makes nobody gone.
"""

from __future__ import annotations

import hashlib
import logging
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

import orjson
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from models.errors import BrokerUnavailable, Fatal
from stream.catalogue.follower import Config
from stream.kafka.delivery import HOPELESS, Record
from stream.kafka.watermarks import bounds_of

_log = logging.getLogger("weft.bundles")

_WISH: Final = b"bundle"
_WORKER: Final = b"worker/"
_MANY: Final = 500  # records read at once
_TIMEOUT: Final = 30.0  # seconds without a record until the broker counts as gone

#: Seconds between two reports of a worker that has no news.
BEAT: Final = 15.0
#: Own beats without a report of another worker after which that one is gone: 5 minutes, so that a
#: machine that stood still for a while finds its index where it was.
GONE_AFTER: Final = 20
#: Seconds in which each worker that runs is heard, late ones and a leader's change included.
HEARD_WITHIN: Final = 2 * BEAT


class State(StrEnum):
    """How far a worker is with a bundle."""

    EMBEDDING = "embedding"
    SERVING = "serving"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Desired:
    """What the shop wants served: a bundle's id, "" for none. ``offset``: its place in the topic.

    ``path`` is where the one who asked found it; workers look among their own bundles first.
    """

    bundle: str
    name: str
    path: str
    offset: int = -1

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.name}@{self.bundle}" if self.bundle else "no bundle"


@dataclass(frozen=True, slots=True)
class Report:
    """A worker's state with a bundle: ``serving`` answers meanwhile, ``desired`` is what it heeds.

    ``items`` are in the index of ``bundle`` so far; ``reason`` says why it failed.
    """

    worker: str
    bundle: str
    label: str
    state: State
    serving: str
    desired: int
    items: int = 0
    reason: str = ""


class ControlReader:
    """Follows the control topic. ``desired`` and ``reports`` are the newest. For one thread.

    ``me`` is the worker that reads: whoever is silent while its own beats come is ``gone``.
    """

    def __init__(self, config: Config, topic: str, me: str = "") -> None:
        self.desired: Desired | None = None
        self.reports: dict[str, Report] = {}
        self._me = me
        self._silent: dict[str, int] = {}  # own beats read since the worker's last report
        self._topic = topic
        outside: dict[str, Any] = {
            **config,
            "group.id": "weft-outside-any-group",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            "logger": logging.getLogger("weft.librdkafka"),
        }
        self._consumer = Consumer(outside)
        self._place = TopicPartition(topic, 0, 0)
        self._next = 0
        self._consumer.assign([self._place])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def to_the_end(self, timeout: float = _TIMEOUT) -> None:
        """Reads all that is there now. Raises ``BrokerUnavailable``, ``Fatal``."""
        try:
            _, end = bounds_of(self._consumer, self._place, timeout)
        except KafkaException as error:
            raise BrokerUnavailable(f"no broker answers about {self._topic}: {error}") from error
        until = time.monotonic() + timeout
        while self._next < end:
            if time.monotonic() > until:
                raise BrokerUnavailable(f"the end of {self._topic} did not come")
            for message in self._consumer.consume(_MANY, 0.2):  # an hour of many workers' beats
                self._take_in(message)

    def follow(self, seconds: float) -> None:
        """Takes in what comes within ``seconds``, and returns sooner after a record."""
        message = self._consumer.poll(seconds)
        if message is not None:
            self._take_in(message)

    def _take_in(self, message: Message) -> None:
        key, value, offset = message.key(), message.value(), message.offset() or 0
        if (error := message.error()) is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                self._next = max(self._next, offset)  # behind markers, too
            elif error.fatal() or error.code() in HOPELESS:
                raise Fatal(f"the control topic {self._topic} cannot be read: {error.str()}")
            return  # anything else librdkafka tries again by itself
        self._next = offset + 1
        try:
            if isinstance(key, bytes):
                self._take(key, value if isinstance(value, bytes) else None, offset)
        except (ValueError, KeyError, TypeError) as problem:
            _log.warning("%s, offset %d, is unreadable: %r", self._topic, offset, problem)

    def heard(self, seconds: float) -> dict[str, Report]:
        """The reports of workers that are heard within ``seconds``: of those that run.

        Returns sooner when each of whom something is known was heard. Raises
        ``BrokerUnavailable``, in whose outage nobody is heard, ``Fatal``.
        """
        before = dict(self.reports)
        until = time.monotonic() + seconds

        def new() -> dict[str, Report]:
            # each record makes a report of its own, also one that says what the last did
            return {w: r for w, r in self.reports.items() if r is not before.get(w)}

        while (left := until - time.monotonic()) > 0:
            if new().keys() >= self.reports.keys() - {self._me}:
                return new()
            self.follow(min(0.5, left))
        self.to_the_end()
        return new()

    def gone(self) -> list[str]:
        """The workers that were silent for so long that they cannot be running. For any thread."""
        return [worker for worker, beats in dict(self._silent).items() if beats >= GONE_AFTER]

    def running(self) -> list[Report]:
        """The reports of all others. For any thread."""
        gone = self.gone()
        return [report for worker, report in dict(self.reports).items() if worker not in gone]

    def close(self) -> None:
        """Leaves the topic."""
        self._consumer.close()

    def _take(self, key: bytes, value: bytes | None, offset: int) -> None:
        told = None if value is None else orjson.loads(value)
        if key == _WISH:
            self.desired = None
            if told is not None:
                self.desired = Desired(
                    str(told["bundle"]), str(told["name"]), str(told["path"]), offset
                )
        elif key.startswith(_WORKER):
            worker = key.removeprefix(_WORKER).decode()
            if told is None:
                self.reports.pop(worker, None)
                self._silent.pop(worker, None)
                return
            if worker == self._me and told.get("beat"):
                self._silent = {other: beats + 1 for other, beats in self._silent.items()}
            self._silent[worker] = 0
            self.reports[worker] = Report(
                worker=worker,
                bundle=str(told["bundle"]),
                label=str(told["label"]),
                state=State(told["state"]),
                serving=str(told["serving"]),
                desired=int(told["desired"]),
                items=int(told["items"]),
                reason=str(told["reason"]),
            )


def desired_record(topic: str, desired: Desired, now_ms: int) -> Record:
    """The record that asks all workers for a bundle."""
    told = {"bundle": desired.bundle, "name": desired.name, "path": desired.path, "ts": now_ms}
    return Record(topic, _WISH, orjson.dumps(told), 0)


def report_record(topic: str, report: Report, now_ms: int, *, beat: bool = False) -> Record:
    """The record in which a worker says how it stands; ``beat``: again, as time has passed."""
    told = {
        name: getattr(report, name)
        for name in ("bundle", "label", "state", "serving", "desired", "items", "reason")
    }
    key = _WORKER + report.worker.encode()
    return Record(topic, key, orjson.dumps({**told, "beat": beat, "ts": now_ms}), 0)


def farewell_record(topic: str, worker: str) -> Record:
    """The record that takes a worker's report away: it stops in order, or it is gone."""
    return Record(topic, _WORKER + worker.encode(), None, 0)


def worker_name(data_dir: Path, host: Callable[[], str] = platform.node) -> str:
    """The machine's name and a mark of the data folder, of which each worker has its own."""
    mark = hashlib.sha256(str(data_dir.absolute()).encode()).hexdigest()[:6]
    return f"{host() or 'worker'}-{mark}"
