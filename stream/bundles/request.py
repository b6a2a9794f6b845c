"""Asking all workers for a bundle, and waiting until they serve it: what `weft models use` does."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from models.bundle.files import open_bundle
from models.errors import BrokerUnavailable
from stream.bundles import library
from stream.bundles.control_topic import (
    HEARD_WITHIN,
    ControlReader,
    Desired,
    Report,
    State,
    desired_record,
)
from stream.contracts.topics import TopicNames
from stream.kafka.broker import ensure_topics
from stream.kafka.delivery import KafkaDelivery
from stream.settings import Settings, kafka_config

_TIMEOUT: Final = 5.0  # seconds for the broker's answer; then it counts as away


@dataclass(slots=True)
class Answers:
    """What the workers made of a desired state; ``silent`` ones are not heard: they do not run."""

    serving: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    overtaken: str = ""  # by another desired state, so named

    @property
    def good(self) -> bool:
        """Whether nothing is left to see to."""
        return not (self.failed or self.late or self.overtaken)


def checked(settings: Settings, asked: str) -> Desired:
    """The desired for a bundle by path, name or id, or for none; it is checked, every byte of it.

    Raises ``BundleInvalid``.
    """
    if asked == library.NONE:
        return Desired("", library.NONE, "")
    path: Path = library.locate(asked, library.folders(settings))
    bundle = open_bundle(path)
    return Desired(bundle.id, bundle.manifest.name, str(path.absolute()))


class Asking:
    """A desired on its way. ``say`` hears of each worker's news. Raises ``BrokerUnavailable``.

    A worker that is not heard for ``patience`` seconds of ``clock`` counts as not running.
    """

    def __init__(
        self,
        settings: Settings,
        say: Callable[[str], None],
        patience: float = HEARD_WITHIN,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        ensure_topics(settings)
        self._settings = settings
        self._topic = TopicNames(settings.topic_prefix, settings.group).control
        self._reader = ControlReader(kafka_config(settings), self._topic)
        self._say = say
        self._patience = patience
        self._clock = clock
        self._told: dict[str, Report] = {}
        self._heard: dict[str, tuple[Report, float]] = {}  # the last of each worker, and when
        self._desired: Desired | None = None

    def ask(self, desired: Desired) -> None:
        """Tells the workers."""
        delivery = KafkaDelivery(kafka_config(self._settings), self._settings.partitioner)
        try:
            now_ms = time.time_ns() // 1_000_000
            delivery.deliver([desired_record(self._topic, desired, now_ms)])
        finally:
            delivery.close()
        self._reader.to_the_end()
        self._desired = self._reader.desired

    def wait(self, timeout: float) -> Answers:
        """The workers' answers, as soon as each has given its last, or after ``timeout`` s."""
        until = self._clock() + timeout
        while True:
            answers = self._answers()
            if answers.silent:
                if not self._is_in_touch():
                    self._heard.clear()  # who cannot be heard is not silent
                answers = self._answers()
            left = until - self._clock()
            if answers.overtaken or not answers.late or left <= 0:
                return answers
            self._reader.follow(min(0.5, left))

    def _is_in_touch(self) -> bool:
        """Whether the broker answers; then all that is on the topic has been read."""
        try:
            self._reader.to_the_end(_TIMEOUT)
        except BrokerUnavailable:
            return False
        return True

    def close(self) -> None:
        """Releases the connection."""
        self._reader.close()

    def _answers(self) -> Answers:
        answers = Answers()
        now = self._clock()
        desired = self._desired
        assert desired is not None
        newest = self._reader.desired
        if newest is not None and newest.offset > desired.offset:
            answers.overtaken = newest.label
        for worker, report in sorted(self._reader.reports.items()):
            if self._heard.get(worker, (None, 0.0))[0] is not report:  # also one like the last
                self._heard[worker] = report, now
            if now - self._heard[worker][1] > self._patience:
                answers.silent.append(worker)
                continue
            if report.desired < desired.offset:
                answers.late.append(worker)
                continue
            if self._told.get(worker) != report:
                self._told[worker] = report
                self._say(f"{worker}: {_words(report)}")
            by_state = {State.SERVING: answers.serving, State.FAILED: answers.failed}
            by_state.get(report.state, answers.late).append(worker)
        return answers


def _words(report: Report) -> str:
    if report.state is State.FAILED:
        return f"failed, and serves what it did: {report.reason}"
    return f"{report.state} {report.label}, {report.items:,} items in its index"
