"""Two workers on a real Kafka, each stopped in order and started anew while events come in."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from testbed.kafka import RealKafka, real_kafka, why_missing
from testbed.waiting import PATIENCE, eventually
from tests.faults.test_sigkill import SHOPPER_TOPICS, Log, check, committed_lag

pytestmark = [pytest.mark.kafka, pytest.mark.long]
_GROUP = "rolling"
_MARK = "serves"  # the file that a worker touches once it has acked an event


@pytest.fixture(scope="module")
def own_kafka() -> Iterator[RealKafka]:
    """A broker of its own: ``Log`` writes to topics without a prefix, as other tests do."""
    if missing := why_missing():
        pytest.skip(missing)
    with real_kafka() as broker:
        yield broker


class Worker:
    """A worker process; ``roll`` is what an upgrade does to it."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._command = [
            sys.executable, "-m", "tests.faults.rolling_process", bootstrap, _GROUP, str(folder)
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        (self._folder / _MARK).unlink(missing_ok=True)
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def serves(self) -> bool:
        return (self._folder / _MARK).exists()

    def stop(self) -> int | None:
        """Its exit code: 0 where it ended in order."""
        if self._process is None:
            return None
        self._process.terminate()
        try:
            return self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


@contextmanager
def producing(log: Log, rate: int) -> Iterator[None]:
    """Events at a steady rate, as long as the block lasts."""
    ending = threading.Event()

    def produce() -> None:
        while not ending.wait(0.1):
            log.produce(rate // 10)

    thread = threading.Thread(target=produce)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


def test_a_rolling_restart_of_two_workers_loses_nothing(
    own_kafka: RealKafka, tmp_path: Path
) -> None:
    changelog = f"{_GROUP}-shoppers-changelog"
    own_kafka.create_topics(*SHOPPER_TOPICS, "dead-letters")
    own_kafka.create_topics("recommendations", changelog, config={"cleanup.policy": "compact"})
    log = Log(own_kafka.bootstrap, seed=6)
    workers = [Worker(own_kafka.bootstrap, tmp_path / f"worker{n}") for n in range(2)]
    try:
        with producing(log, rate=200):
            for worker in workers:
                worker.start()
            eventually(lambda: all(w.serves() for w in workers), "two workers never served")
            for worker in workers:
                assert worker.stop() == 0
                worker.start()
                eventually(worker.serves, "a restarted worker never served")
        eventually(lambda: committed_lag(own_kafka.bootstrap, _GROUP) == 0, "not all was committed")
        assert [worker.stop() for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.stop()
    assert len(log.expected) > 1_000
    check(own_kafka.bootstrap, changelog, log.expected)
