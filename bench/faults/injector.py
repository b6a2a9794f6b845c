"""Carries out a schedule: sends, breaks, mends, supervises, and waits until all is dealt with."""

from __future__ import annotations

import heapq
import itertools
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from bench.faults.checker import TOPICS
from bench.faults.schedule import KILL_POINTS, KILLS, PARTITIONS, Fault, FaultKind
from bench.faults.sender import Sender
from bench.faults.worker import BUNDLES
from bench.faults.workers import Setup, Worker
from testbed.kafka import RealKafka

_DRAIN: Final = 300.0  # seconds for what is left after the last record


@dataclass(slots=True)
class Done:
    """A fault as it was carried out, epoch s; ``ended`` 0 while it lasts."""

    kind: FaultKind
    begun: float
    ended: float = 0.0


class Injector:
    """One run. ``run`` is for the main thread: a broker dies with the thread that started it."""

    def __init__(self, kafka: RealKafka, setup: Setup, workers: int, drain: float = _DRAIN) -> None:
        self.done: list[Done] = []
        self.drained = False
        self.drain_s = 0.0
        self._patience = drain
        self._kafka, self._setup = kafka, setup
        self.workers = [Worker(setup, f"worker{n}") for n in range(workers)]
        self.joiner = Worker(setup, "joiner")
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._switch = setup.folder / "index"

    def run(self, sender: Sender, faults: list[Fault]) -> None:
        """Starts the workers, then lets the records and the faults go; mends all in the end."""
        try:
            for worker in self.workers:
                worker.wanted = True
                worker.start()
            self._until(self._all_told_started, 60.0)
            begun = time.monotonic()
            sender.start()
            for fault in faults:
                self._at(begun + fault.at, self._begin, fault)
            while sender.is_alive() or self._due:
                self._step()
            _say(f"{sender.sent} records sent after {time.monotonic() - begun:.1f} s")
            if sender.error is not None:
                raise sender.error
            self._drain()
        finally:
            for worker in (*self.workers, self.joiner):
                worker.wanted = False
                worker.kill()

    def _all_told_started(self) -> bool:
        return all(any(t["what"] == "ready" for t in worker.told()) for worker in self.workers)

    def _at(self, when: float, what: Callable[[Fault], None], fault: Fault) -> None:
        heapq.heappush(self._due, (when, next(self._order), lambda: what(fault)))

    def _step(self) -> None:
        while self._due and self._due[0][0] <= time.monotonic():
            heapq.heappop(self._due)[2]()
        for worker in self.workers:
            worker.supervise()
        time.sleep(0.02)

    def _until(self, reached: Callable[[], bool], patience: float) -> bool:
        until = time.monotonic() + patience
        while not (there := reached()) and time.monotonic() < until:
            self._step()
            time.sleep(1.0)
        return there

    # -- faults ------------------------------------------------------------------------

    def _begin(self, fault: Fault) -> None:
        victim = self.workers[fault.victim]
        done = Done(fault.kind, time.time())
        end: Callable[[], None] | None = None
        match fault.kind:
            case kind if kind in KILLS:
                if not self._kill(victim, done, fault.lasts):  # it just ended by itself
                    self._at(time.monotonic() + 1.0, self._begin, fault)
                    return
            case FaultKind.ZOMBIE:
                self._give_a_batch()
                victim.signal(signal.SIGSTOP)
                self._index_is_well()
                end = lambda: _resume(victim)  # noqa: E731
            case FaultKind.REBALANCE:
                self.joiner.start()
                end = self.joiner.leave
            case FaultKind.BROKER_GONE:
                self._kafka.kill()
                end = self._kafka.start
            case FaultKind.BROKER_RESTART:
                self._kafka.stop()
                end = self._kafka.start
            case FaultKind.INDEX_FAILS | FaultKind.INDEX_SLOW:
                fails = fault.kind is FaultKind.INDEX_FAILS
                self._switch.write_text("fail" if fails else "slow")
                end = self._index_is_well
            case FaultKind.BUNDLE:
                switched = sum(each.kind is FaultKind.BUNDLE for each in self.done) + 1
                (self._setup.folder / "bundle").write_text(BUNDLES[switched % len(BUNDLES)])
        self.done.append(done)
        _say(f"{fault.at:6.1f} s: {done.kind}, {fault.lasts:.1f} s")
        self._end_later(done, fault.lasts, end)

    def _kill(self, victim: Worker, done: Done, lasts: float) -> bool:
        """Kills the way that ``done`` says and notes the moment; False: there was nobody."""
        if not victim.alive():
            return False
        if done.kind is FaultKind.KILL_IN_BATCH:
            self._give_a_batch()
        elif point := KILL_POINTS.get(done.kind):
            victim.aim(point)
            if not victim.hit():  # it delivers nothing: it is being given its partitions
                done.kind = FaultKind.KILL
        done.begun = time.time()
        victim.not_before = done.begun + lasts
        killed = victim.kill() or done.kind in KILL_POINTS
        self._index_is_well()
        return killed

    def _give_a_batch(self) -> None:
        """Slows the index down, so that workers have a batch in hand: to lose, or to go on with."""
        self._switch.write_text("slow")
        time.sleep(1.5)

    def _index_is_well(self) -> None:
        self._switch.unlink(missing_ok=True)

    def _end_later(self, done: Done, lasts: float, end: Callable[[], None] | None) -> None:
        def ended() -> None:
            if end is not None:
                end()
            done.ended = time.time()

        heapq.heappush(self._due, (time.monotonic() + lasts, next(self._order), ended))

    # -- the end -----------------------------------------------------------------------

    def _drain(self) -> None:
        """Waits until the group has committed every record."""
        begun = time.monotonic()
        asked = Consumer(
            {"bootstrap.servers": self._kafka.bootstrap, "group.id": self._setup.group}
        )

        def nothing_left() -> bool:
            lag = _lag(asked)
            _say(f"{lag} records are not committed yet")
            return lag == 0

        self.drained = self._until(nothing_left, self._patience)
        asked.close()
        self.drain_s = time.monotonic() - begun


def _say(words: str) -> None:
    """Progress, beside the result."""
    print(words, file=sys.stderr, flush=True)


def _resume(victim: Worker) -> None:
    victim.signal(signal.SIGCONT)


def _lag(consumer: Consumer) -> int | None:
    """Records whose handling is not committed; None while the broker does not say."""
    places = [TopicPartition(topic, p) for topic in TOPICS for p in range(PARTITIONS)]
    try:
        lag = 0
        for place in consumer.committed(places, timeout=5.0):
            _, end = consumer.get_watermark_offsets(place, timeout=5.0)
            lag += end - max(place.offset, 0)
        return lag
    except KafkaException:
        return None
