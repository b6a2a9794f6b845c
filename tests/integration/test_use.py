"""`weft models use` and its workers: those that were killed keep nobody waiting."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Producer

from stream.bundles.control_topic import Desired, Report, State, report_record
from stream.bundles.request import Answers, Asking
from stream.contracts.topics import TopicNames
from stream.kafka.broker import EmbeddedBroker
from stream.kafka.delivery import Record
from stream.settings import Settings
from testbed.stand_ins import ManualClock

TOPIC = TopicNames().control
WISH = Desired("ab12", "beauty", "/nowhere")


class Talk:
    """What workers say on the control topic of an embedded broker.

    Time passes by what they say, half a second a beat, so that a slow machine changes nothing.
    """

    def __init__(self, address: str, folder: Path) -> None:
        self.clock = ManualClock()
        self.settings = Settings(kafka=address, data_dir=folder)
        self._producer = Producer({"bootstrap.servers": address, "log_level": 0})
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def say(self, *records: Record) -> None:
        for record in records:
            self._producer.produce(record.topic, record.value, record.key, record.partition)
        assert self._producer.flush(10) == 0

    def beat(self, *reports: Report) -> None:
        """Each report at each beat from now on."""

        def repeat() -> None:
            while not self._over.wait(0.1):
                self.say(*(report_record(TOPIC, report, 1, beat=True) for report in reports))
                self.clock.advance(0.5)

        self._threads.append(threading.Thread(target=repeat))
        self._threads[-1].start()

    def hush(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._over.clear()
        self._threads.clear()


@pytest.fixture
def talk(tmp_path: Path) -> Iterator[Talk]:
    with EmbeddedBroker() as broker:
        made = Talk(broker.bootstrap, tmp_path)
        yield made
        made.hush()


def report(worker: str, state: State, desired: int) -> Report:
    return Report(worker, WISH.bundle, WISH.label, state, WISH.bundle, desired)


def asked(talk: Talk, *reports: Report, killed: Report, timeout: float = 60.0) -> Answers:
    """The answers where ``killed`` speaks once more after it was asked, and ``reports`` go on."""
    asking = Asking(talk.settings, lambda _words: None, patience=2.0, clock=talk.clock)
    try:
        talk.say(report_record(TOPIC, report("from-before", State.SERVING, -1), 1))
        asking.ask(WISH)
        talk.say(report_record(TOPIC, killed, 1))
        talk.beat(*reports)
        return asking.wait(timeout)
    finally:
        asking.close()


@pytest.mark.parametrize("state", [State.EMBEDDING, State.SERVING, State.FAILED])
def test_a_worker_that_is_killed_after_the_wish_is_neither_waited_for_nor_counted(
    talk: Talk, state: State
) -> None:
    began = talk.clock()
    slow = report("slow", State.EMBEDDING, 99)
    answers = asked(talk, slow, killed=report("killed", state, 99), timeout=8.0)
    assert answers.late == ["slow"]  # it runs: waited for, to the end
    assert talk.clock() - began >= 8.0
    assert answers.silent == ["from-before", "killed"]
    assert (answers.serving, answers.failed) == ([], [])
    talk.hush()
    answers = asked(talk, replace(slow, state=State.SERVING), killed=report("killed", state, 99))
    assert "slow" in answers.serving
    assert answers.late == []


def test_a_worker_that_runs_and_is_busy_with_another_wish_is_waited_for(talk: Talk) -> None:
    busy = report("busy", State.EMBEDDING, -1)
    answers = asked(talk, busy, killed=report("killed", State.EMBEDDING, 99), timeout=6.0)
    assert answers.late == ["busy"]
    assert not answers.good


def test_where_the_broker_is_away_nobody_counts_as_silent(tmp_path: Path) -> None:
    with EmbeddedBroker() as broker:
        talk = Talk(broker.bootstrap, tmp_path)
        asking = Asking(talk.settings, lambda _words: None, patience=0.5, clock=talk.clock)
        talk.say(report_record(TOPIC, report("w", State.EMBEDDING, 99), 1))
        asking.ask(WISH)
    talk.beat()
    answers = asking.wait(3.0)
    talk.hush()
    asking.close()
    assert answers.late == ["w"]
    assert not answers.good
