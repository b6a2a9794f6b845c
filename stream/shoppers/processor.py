"""The shopper processor: events in, sequences kept, lists out.

Knows nothing of Faust: ``stream.shoppers.app`` feeds it arrivals and tells it about partitions. The
promise (at least once in, effectively once in state and last list) rests on this order: an
event changes its shopper's state; a batch's lists and the changelog's records of the state
behind them are delivered; only then are the batch's events acked, in their order.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol

from models.domain import History, Recommendation
from models.errors import BadMessage, RetryLater
from models.ports import Deadline
from models.recommend.popularity import Popularity
from models.recommend.query_memory import QueryMemory
from stream.contracts.codec import AsOf, decode_shopper, encode_recommendation
from stream.contracts.partitioner import check_partition
from stream.contracts.topics import RECOMMENDATIONS, TOPICS, TopicNames
from stream.dead_letters.make import Refusals
from stream.kafka.delivery import Delivery, Record
from stream.settings import Settings
from stream.shoppers.aggregates import Aggregates
from stream.shoppers.batch import Arrival, Batch, Counters, Due
from stream.shoppers.rerank_queue import RerankQueue
from stream.shoppers.state import Applied, ShopperState
from stream.shoppers.states import States

_log = logging.getLogger("weft.shoppers")

_RETRY_FIRST: Final = 0.2
_RETRY_MOST: Final = 10.0
#: States checked before the loop has its turn again: some milliseconds.
_DERIVED_AT_ONCE: Final = 50


class Recommends(Protocol):
    """What the processor asks of the models (``models.recommend.recommender.Recommender``)."""

    @property
    def wants_rerank(self) -> bool:
        """Whether a list without the LLM's score is worth another one later."""

    def recommend(self, histories: Sequence[History], deadline: Deadline) -> list[Recommendation]:
        """One list a history. Blocks; raises ``RetryLater`` where the index is away."""


class ShopperProcessor:
    """Turns arrivals into states and lists. ``take`` and ``run`` belong to one event loop.

    ``table`` has the states as they were delivered last. Those of the batch that is served and of
    the one that is gathered are each a copy, made from the one before it, so that a batch that is
    dropped leaves nothing behind. Models and deliveries run on a thread each, so that heartbeats
    never wait for them.
    """

    def __init__(
        self,
        settings: Settings,
        table: States,
        recommender: Recommends,
        popularity: Popularity,
        delivery: Delivery,
        partitions: int,
        clock: Callable[[], float] = time.time,
        memory: QueryMemory | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counters = Counters()
        self._settings = settings
        self._names = TopicNames(settings.topic_prefix, settings.group)
        self._refusals = Refusals(self._names, _log)
        self._table = table
        self._recommender = recommender
        self._aggregates = Aggregates(popularity, memory)
        self._delivery = delivery
        self._partitions = partitions
        self._clock = clock
        self._monotonic = monotonic
        self._pending = Batch()  # is gathered
        self._in_hand = Batch()  # is served
        self._backlog = RerankQueue(clock=monotonic)
        self._overrun = False  # the LLM had too little time for the batch before
        self._epoch = 0
        self._began: float | None = None  # when what is being served was begun
        self.waits_for = ""  # the name of the error that is waited out
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._delivering = asyncio.Lock()
        self._models = ThreadPoolExecutor(1, thread_name_prefix="weft-models")
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="weft-delivery")

    # -- events in ---------------------------------------------------------------------

    async def room(self) -> None:
        """Waits until the batch that is being gathered can take another event."""
        while self._pending.is_full(self._settings.batch_size):
            self._room.clear()
            await self._room.wait()

    def take(self, arrival: Arrival) -> None:
        """Applies one event to its shopper's state, or makes a dead letter of it.

        Raises ``UnreadableState`` (stop) where the shopper's state cannot be read.
        """
        self.counters.events += 1
        try:
            self._apply(arrival)
        except BadMessage as error:
            self.counters.dead += 1
            place = arrival.partition, arrival.offset
            letter = self._refusals.letter(
                arrival.topic, place, arrival.key, arrival.value, error, arrival.attempts
            )
            self._pending.add_dead(letter)
        self._pending.arrivals.append(arrival)
        self._arrived.set()

    def _apply(self, arrival: Arrival) -> None:
        now_ms = int(self._clock() * 1000)
        event = decode_shopper(arrival.topic, arrival.key, arrival.value, now_ms)
        key = arrival.key or b""
        if not self._table.holds(arrival.partition, key):  # a shopper who is held was placed before
            check_partition(key, arrival.partition, self._partitions, self._settings.partitioner)
        due = self._pending.due.get(key)
        state = due.state if due else self._newest(arrival.partition, key).copy()
        applied = state.apply(arrival.topic, arrival.offset, event)
        if applied is Applied.AGAIN:
            self.counters.again += 1
        elif applied is Applied.ERASED:
            self.counters.erased += 1
        elif applied is Applied.NEW:
            self._aggregates.learn(state, arrival.topic, arrival.offset, event)
        self._pending.due[key] = Due(arrival.partition, state, TOPICS[arrival.topic].word)

    def _newest(self, partition: int, key: bytes) -> ShopperState:
        """The shopper's state behind the batches before the one that is gathered: not to change."""
        if (due := self._in_hand.due.get(key)) is not None:
            return due.state
        if (state := self._table.admit(partition, key)) is not None:
            self._admit(partition, key, state)
        return self._table.newest(partition, key)

    # -- lists out ---------------------------------------------------------------------

    async def run(self) -> None:
        """Serves batches until cancelled. An error that cannot be retried ends it."""
        while True:
            await self._insist(await self._gather())

    async def _insist(self, batch: Batch) -> None:
        """Serves the batch, again and again while the outside is away: no other is begun."""
        epoch, wait, began = self._epoch, _RETRY_FIRST, time.monotonic()
        self._in_hand = batch
        told: type[RetryLater] | None = None
        while epoch == self._epoch:
            self._began = time.monotonic()
            try:
                await self._serve(batch, epoch)
            except RetryLater as error:
                self._began = None
                if type(error) is not told:  # once an outage, not once a try
                    told = type(error)
                    self.waits_for = told.__name__
                    _log.warning("%s: %s; trying again, no new events", told.__name__, error)
                await asyncio.sleep(wait)
                wait = min(2 * wait, _RETRY_MOST)
            else:
                if told is not None:
                    _log.warning("going on after %.1f s", time.monotonic() - began)
                break
        self._began, self.waits_for = None, ""

    def tell(self) -> None:
        """Says in the log what is due: a storm of dead letters that has ended."""
        self._refusals.tell_if_due()

    def busy(self) -> float:
        """Seconds since the models and the delivery in hand were begun; 0 where none is."""
        return 0.0 if self._began is None else time.monotonic() - self._began

    async def _gather(self) -> Batch:
        """The next batch of events, or, when there are none, one shopper of the backlog."""
        while not self._pending.arrivals:
            self._arrived.clear()
            if batch := self._from_backlog():
                return batch
            rest = self._backlog.rest() if self._backlog else None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), rest)
        if len(self._pending.arrivals) < self._settings.batch_size:
            await asyncio.sleep(self._settings.batch_wait)
        batch, self._pending = self._pending, Batch()
        self._room.set()
        return batch

    def _from_backlog(self) -> Batch | None:
        if not self._backlog and self._backlog.overflowed:
            self._backlog.refill(self._table.owed if self._recommender.wants_rerank else {})
        if (first := self._backlog.next()) is None:
            return None
        key, partition = first
        state = self._newest(partition, key)
        if not state.rerank_due:
            return Batch(rerank_only=True)
        return Batch(due={key: Due(partition, state.copy(), "rerank")}, rerank_only=True)

    async def _serve(self, batch: Batch, epoch: int) -> None:
        # in the order in which they wait: nobody's many events keep the LLM from the others
        keys = self._backlog.longest_first(batch.due)
        asked = {key: batch.due[key] for key in keys if not batch.due[key].state.is_marker}
        lists: dict[bytes, Recommendation] = {}
        loop = asyncio.get_running_loop()
        if asked:
            histories = [due.state.history() for due in asked.values()]
            deadline = Deadline.after(self._seconds_for(batch), self._monotonic)
            made = await loop.run_in_executor(
                self._models, self._recommender.recommend, histories, deadline
            )
            lists = dict(zip(asked, made, strict=True))
            self._overrun = any(each.owed for each in made)
        async with self._delivering:
            if epoch != self._epoch:  # the partitions are gone: another worker does it anew
                return
            if batch.rerank_only:
                lists = self._only_reranked(batch, lists)
            if records := [*batch.dead, *self._records(batch, lists)]:
                await loop.run_in_executor(self._sender, self._delivery.deliver, records)
            self._done(batch, lists, held=epoch == self._epoch)

    def _seconds_for(self, batch: Batch) -> float:
        """The deadline; none for the LLM while more comes in than it can order.

        That is so where it had too little time for the batch before, and this one is full
        already: to go on would let every list wait for a few to be reranked. They are in the
        backlog, which is served as soon as there is nothing else to do.
        """
        full = len(batch.arrivals) >= self._settings.batch_size
        return 0.0 if full and self._overrun else self._settings.deadline

    def _only_reranked(
        self, batch: Batch, lists: dict[bytes, Recommendation]
    ) -> dict[bytes, Recommendation]:
        """A list of the backlog goes out only if it is better than the one that is out."""
        late = [key for key, made in lists.items() if made.owed]
        for key in late:
            self._backlog.add(key, batch.due.pop(key).partition)
        if late:
            self._backlog.put_off()
        return {key: made for key, made in lists.items() if not made.owed}

    def _records(self, batch: Batch, lists: dict[bytes, Recommendation]) -> list[Record]:
        """The list (or tombstone) and the changelog's record of each shopper who is due."""
        records: list[Record] = []
        now_ms = int(self._clock() * 1000)
        for key, due in batch.due.items():
            made = lists.get(key)
            due.state.rerank_due = made is not None and made.owed
            if due.state.rerank_due:
                self._backlog.add(key, due.partition)
            else:
                self._backlog.drop(key)
            due.data = due.state.dumps()
            value = None
            if made is not None:
                as_of = AsOf(due.partition, due.state.offsets, due.state.newest_ts)
                value = encode_recommendation(
                    made, user_id=key.decode(), trigger=due.trigger, as_of=as_of, ts=now_ms
                )
            records.append(Record(self._names.of(RECOMMENDATIONS), key, value, due.partition))
            records.append(Record(self._names.changelog, key, due.data, due.partition))
        return records

    def _done(self, batch: Batch, lists: dict[bytes, Recommendation], *, held: bool) -> None:
        """It is on the broker; not ``held``: the partitions went meanwhile, the table with them."""
        if held:
            for key, due in batch.due.items():
                self._table.put(due.partition, key, due.state, due.data)
            self._in_hand = Batch()
        self._refusals.delivered(batch.dead)
        for arrival in batch.arrivals:
            arrival.ack()
        self.counters.acked += len(batch.arrivals)
        self.counters.lists += len(lists)
        self.counters.reranked += sum(made.reranked for made in lists.values())

    # -- partitions come and go ----------------------------------------------------------

    async def revoked(self, patience: float) -> None:
        """Drops what is gathered (it comes again, to its new owner) and waits, at most
        ``patience`` seconds, for a delivery under way, so that none comes after the new owner's.
        """
        self._epoch += 1
        self._pending, self._in_hand = Batch(), Batch()
        self._backlog.clear()
        self._room.set()
        try:
            await asyncio.wait_for(self._delivering.acquire(), patience)
        except TimeoutError:
            _log.warning("a delivery outlasted the partitions' revocation")
        else:
            self._delivering.release()

    def recovered(self) -> Coroutine[Any, Any, None]:
        """The table is another: forgets what was derived from the one before.

        Events may be taken from now on. Await what is returned, beside them, to derive anew
        (popularity, query memory, backlog) from the states as they are now: with 100,000 shoppers
        that takes seconds in which no list has to wait.
        """
        self._aggregates.clear()
        self._backlog.clear()
        return self._derive(self._epoch)

    async def _derive(self, epoch: int) -> None:
        while epoch == self._epoch:  # else revoked meanwhile: these shoppers are another's
            for _ in range(_DERIVED_AT_ONCE):
                if (admitted := self._table.admit_any()) is None:
                    self._arrived.set()  # wakes ``run`` for the backlog
                    return
                self._admit(*admitted)
            await asyncio.sleep(0)

    def _admit(self, partition: int, key: bytes, state: ShopperState) -> None:
        """Derives from a state that was read, before an event changes it."""
        self._aggregates.learn_all(key.decode(), state)
        if state.rerank_due and self._recommender.wants_rerank:
            self._backlog.add(key, partition)

    def close(self) -> None:
        """Stops the threads; what they do is finished first."""
        self._refusals.tell()
        self._models.shutdown(cancel_futures=True)
        self._sender.shutdown(cancel_futures=True)
