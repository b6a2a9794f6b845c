"""Drives a stage through a log, moment by moment: ask first, then apply.

    for each ts:  products that enter ──▶ stage
                  questions of the ts  ──▶ the newest list of each, as it was before
                  events of the ts     ──▶ stage (gathered until one of its shoppers is asked)

A list is made of what was applied strictly before the moment that asks for it: events wait at most
until a batch is full, their own shopper is asked, a product enters, or a day ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.training.data.log import TrainingLog
from stream.files.publish import Entry
from stream.kafka.delivery import Record
from stream.replay.play.in_process import Stage
from stream.replay.questions.answers import Answers
from stream.replay.questions.baskets import Baskets
from stream.replay.questions.event_store import Spool

#: Events a batch while nothing is asked: each shopper gets one list a batch.
_WARM_UP: Final = 50_000
_CHECKPOINT: Final = 30.0
_DAY_MS: Final = 86_400_000

#: (events done, of all); the place in the order up to which all is applied.
Progress = Callable[[int, int], None]
Checkpoint = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is fed and asked.

    ``products`` are sorted by time. Events are gathered to ``batch`` at most while there are
    questions. ``held_out`` (n,) are records that are asked and never applied; ``sampled`` (n,)
    are records of the shoppers who take part, None: all do. ``grouped`` has the records shopper
    by shopper, where their common time does not matter: then all is asked at the end.
    """

    spool: Spool
    log: TrainingLog
    baskets: Baskets
    products: Sequence[Entry]
    until: int
    batch: int
    held_out: NDArray[np.bool_] | None = None
    sampled: NDArray[np.bool_] | None = None
    grouped: NDArray[np.int64] | None = None


@dataclass(slots=True)
class Driver:
    """One pass over a plan, from the ``place`` of a checkpoint on (0: from the start).

    ``every``: seconds between two checkpoints.
    """

    plan: Plan
    stage: Stage
    answers: Answers
    checkpoint: Checkpoint
    progress: Progress
    place: int = 0
    every: float = _CHECKPOINT
    _entered: int = 0
    _waiting: list[tuple[int, Record]] = field(default_factory=list)
    _shoppers: set[int] = field(default_factory=set)
    _kept_at: float = field(default_factory=time.monotonic)

    async def run(self) -> None:
        """To the end. Raises what stopped the stage."""
        if self.plan.grouped is None:
            await self._by_moment()
        else:
            await self._by_shopper(self.plan.grouped)
        self._keep(now=True)

    async def _by_moment(self) -> None:
        spool, plan = self.plan.spool, self.plan
        asked = int(np.searchsorted(plan.baskets.ts, self._next_ts()))
        first = int(plan.baskets.ts[0]) if len(plan.baskets) else plan.until
        day = first // _DAY_MS - 1  # before anything is asked, batches go over days
        for ts, start, end in spool.moments(self.place):
            if ts >= plan.until:
                break
            if ts // _DAY_MS > day:  # what was popular on earlier days is in each list of a day
                day = ts // _DAY_MS
                await self._apply(ts)
            await self._enter(ts)
            asked = await self._ask(asked, ts, start, end)
            for place in range(start, end):
                self._gather(place, int(spool.order[place]))
            self.place = end
            if len(self._waiting) >= (plan.batch if ts >= first else _WARM_UP):
                await self._apply(ts)
            self.progress(end, len(spool))
        await self._apply(plan.until)

    def _next_ts(self) -> int:
        """The time of the first record that is not applied yet."""
        spool = self.plan.spool
        return int(spool.ts[spool.order[self.place]]) if self.place < len(spool) else 1 << 62

    async def _by_shopper(self, order: NDArray[np.int64]) -> None:
        """Each shopper's events together, and one list a shopper; all is asked at the end."""
        users, spool = self.plan.spool.users, self.plan.spool
        await self._enter(self.plan.until)
        for place in range(self.place, len(order)):
            number = int(order[place])
            first = place == 0 or users[order[place - 1]] != users[number]
            if first and len(self._waiting) >= self.plan.batch:
                await self._apply(self.plan.until)
            self._gather(int(place), number)
            self.place = place + 1
            self.progress(place + 1, len(order))
        await self._apply(self.plan.until)
        keys = dict(zip(users.tolist(), range(len(spool)), strict=True))  # any record of theirs
        for question, shopper in enumerate(self.plan.baskets.shoppers):
            number = keys[int(self.plan.log.users[shopper])]
            self._answer(question, spool.record(number).key or b"")

    async def _enter(self, ts: int) -> None:
        """Products whose time has come, strictly before what is asked and applied at ``ts``."""
        products, end = self.plan.products, self._entered
        while end < len(products) and products[end].ts <= ts:
            end += 1
        if end > self._entered:
            await self._apply(ts)
            some = [product.record for product in products[self._entered : end]]
            await self.stage.enter(some, ts)
            self._entered = end

    async def _ask(self, asked: int, ts: int, start: int, end: int) -> int:
        """Answers the questions of ``ts``; returns the place of the next question."""
        baskets, spool = self.plan.baskets, self.plan.spool
        stop = asked
        while stop < len(baskets) and baskets.ts[stop] == ts:
            stop += 1
        if stop == asked:
            return asked
        numbers = spool.order[start:end]
        key_of = dict(zip(spool.users[numbers].tolist(), numbers.tolist(), strict=True))
        users = [int(self.plan.log.users[s]) for s in baskets.shoppers[asked:stop]]
        if not self._shoppers.isdisjoint(users):
            await self._apply(ts)
        for question, user in enumerate(users, asked):
            self._answer(question, spool.record(key_of[user]).key or b"")
        return stop

    def _answer(self, question: int, key: bytes) -> None:
        if (shown := self.stage.newest(key)) is not None:
            self.answers.put(question, shown)

    def _gather(self, place: int, number: int) -> None:
        plan = self.plan
        if plan.held_out is not None and plan.held_out[number]:
            return
        record = plan.spool.record(number)
        if plan.sampled is not None and not plan.sampled[number]:
            self.stage.overlook(place, record)
            return
        self._waiting.append((place, record))
        self._shoppers.add(int(plan.spool.users[number]))

    async def _apply(self, ts: int) -> None:
        """Has the stage take what waits; then perhaps a checkpoint."""
        for start in range(0, len(self._waiting), _WARM_UP):
            await self.stage.apply(self._waiting[start : start + _WARM_UP], ts)
        self._waiting, self._shoppers = [], set()
        self._keep()

    def _keep(self, *, now: bool = False) -> None:
        if now or time.monotonic() - self._kept_at > self.every:
            self.answers.flush()
            self.checkpoint(self.place)
            self._kept_at = time.monotonic()
