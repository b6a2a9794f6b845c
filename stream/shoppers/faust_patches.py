"""Faust's Kafka consumer with its drain mended, and its recovery of tables replaced.

Faust 0.15 races the delivery of each message against the suspension of the flow and moves its
read offset on whichever came first, so around the end of a table's recovery messages vanish
between the broker and the agent. Here the read offset moves only after the delivery, and what was
fetched before reading was taken elsewhere is never delivered. ``stream.shoppers.offset_check``
watches the offsets all the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import faust
from aiokafka.errors import NoError, NotCoordinatorForGroupError, for_code
from aiokafka.protocol.commit import OffsetFetchRequest
from faust.tables import TableManager
from faust.tables.recovery import Recovery
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

#: Told where reading (re)starts: a partition's committed offset, or its start before any commit.
OnSeek = Callable[[TP, int], None]


#: Seconds that a rewind's record is waited for; retention may have taken it meanwhile.
_PATIENCE: Final = 5.0


class PatchedThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust's reading thread; the app says how long a fetch may wait, which Faust fixes.

    It reads what is committed only, which Faust does in its own transactions alone: an event that a
    shop's transaction took back never happened.

    aiokafka's consumer belongs to this thread. Faust seeks from the main one: a fetch that is
    being handed out at that moment then sets the position to its own end, and the seek is undone.
    """

    async def on_start(self) -> None:
        """Connects, and mends how committed offsets are asked for before the first is."""
        await super().on_start()
        patch_offset_fetch(self._consumer._coordinator)

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = self.app.fetch_wait_ms
        consumer._isolation_level = "read_committed"
        return consumer

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seeks each partition to its committed offset, or to its start where there is none.

        Returns these offsets. aiokafka leaves a partition without a commit where it stands: what
        was fetched and dropped of it was not read again.
        """
        sought: Mapping[TP, int] = await self.call_thread(self._seek_to_committed)
        return sought

    async def _seek_to_committed(self) -> Mapping[TP, int]:
        consumer = self._ensure_consumer()
        changelogs = self.app.tables.changelog_topics  # nobody reads them here
        sought = {
            tp: offset
            for tp, offset in (await consumer.seek_to_committed()).items()
            if tp.topic not in changelogs
        }
        if unset := [tp for tp, offset in sought.items() if not offset]:
            starts = await consumer.beginning_offsets(unset)
            for tp in starts.keys() & consumer.assignment():  # some may be gone meanwhile
                consumer.seek(tp, starts[tp])
            # what is committed stands, also where retention took what comes after it
            sought |= {tp: starts[tp] for tp in unset if sought[tp] is None}
        return sought

    async def seek_here(self, tp: TP, offset: int, wanted: Callable[[], bool]) -> None:
        """Seeks ``tp`` in this thread, if it is assigned and ``wanted`` still holds then."""
        await self.call_thread(self._seek_here, tp, offset, wanted)

    async def _seek_here(self, tp: TP, offset: int, wanted: Callable[[], bool]) -> None:
        if tp in self.assignment() and wanted():
            self.seek(tp, offset)


def patch_offset_fetch(coordinator: Any) -> None:
    """Makes aiokafka's ``GroupCoordinator`` look at an offset fetch's own error.

    aiokafka 0.14 looks at each partition's alone. A coordinator that is still loading, after a
    broker's restart, names no partition: that was taken for "nothing is committed", and all
    topics were read from their start again.
    """
    send = coordinator._send_req

    async def checked(request: Any) -> Any:
        response = await send(request)
        if isinstance(request, OffsetFetchRequest):
            error = for_code(getattr(response, "error_code", 0))
            if error is NotCoordinatorForGroupError:
                coordinator.coordinator_dead()
            if error is not NoError:
                raise error()
        return response

    coordinator._send_req = checked


class PatchedConsumer(driver.Consumer):  # type: ignore[misc]
    """Drains without dropping, and can be rewound to an offset."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._n_acked: int = 0
        self._moves = 0  # how often reading was taken elsewhere
        self._stepped: dict[TP, int] = {}  # over what, since the last commit began
        #: Rounds of reading that ended: each fetch's records are with the agent, or dropped.
        self.rounds = 0
        self._awaited: dict[TP, tuple[int, float]] = {}  # the offset, and until when

    def _new_consumer_thread(self) -> PatchedThread:
        return PatchedThread(self, loop=self.loop, beacon=self.beacon)

    async def perform_seek(self) -> None:
        """Goes back to the committed offsets, and says so to the app's ``on_seek``."""
        assignment = self.assignment()
        self._moves += 1
        # Faust resumes the flow after each seek, and drops then what was delivered meanwhile
        self.app.flow_control.suspend()
        # Faust gives up silently after this long, and the worker would take nothing from then on
        timeout = self.app.conf.broker_request_timeout / 2
        await asyncio.wait_for(super().perform_seek(), timeout)
        self._moves += 1
        for tp in assignment:
            if not self._is_changelog_tp(tp):
                self._awaited.pop(tp, None)
                self._stepped.pop(tp, None)
                if (offset := self._read_offset[tp]) is not None:  # else it was revoked meanwhile
                    self.app.on_seek(tp, offset)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """What was fetched before belongs to the assignment that ends."""
        self._moves += 1
        self._awaited.clear()
        self._stepped.clear()
        await super().on_partitions_revoked(revoked)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Says nothing: Faust takes a topic without events for a stream that hangs."""

    async def rewind(self, tp: TP, offset: int) -> None:
        """Reads on from ``offset``, which is known to hold a record.

        What an older fetch still holds of the partition is skipped until that record comes, some
        seconds at most. Coming later it is delivered all the same: by Faust's rule, to drop what
        is older than the last one delivered, it never came, and reading went back for ever.
        """
        self._awaited[tp] = offset, time.monotonic() + _PATIENCE
        self._read_offset[tp] = offset
        moves = self._moves
        await self._thread.seek_here(tp, offset, lambda: moves == self._moves)
        if moves == self._moves and tp in self._awaited:  # the seek may have taken a while
            self._awaited[tp] = offset, time.monotonic() + _PATIENCE

    def reading_at(self, tp: TP) -> int | None:
        """The next offset that the reading thread hands out; None where it has no place now."""
        subscription = self._thread._ensure_consumer()._subscription.subscription
        assignment = subscription and subscription.assignment
        state = assignment and assignment.state_value(tp)
        return state._position if state else None

    def is_buffered(self, tp: TP) -> bool:
        """Whether the reading thread has records of it that it did not hand out yet."""
        return tp in self._thread._ensure_consumer()._fetcher._records

    async def _seek(self, partition: TP, offset: int) -> None:
        """What Faust's own ``seek`` does, in the thread that may."""
        await self._thread.seek_here(partition, offset, lambda: True)

    def step_over(self, tp: TP, offset: int) -> None:
        """Nothing is to be read before ``offset``: the commit may pass what lies there.

        Faust takes every jump for such a hole, records that it dropped itself included.
        """
        self._committed_offset[tp] = max(self._committed_offset[tp] or 0, offset)
        self._stepped[tp] = offset

    async def _commit_offsets(self, offsets: Mapping[TP, int], **kwargs: Any) -> bool:
        """Keeps what was stepped over meanwhile: Faust would set it back, and commit no more."""
        self._stepped.clear()
        done: bool = await super()._commit_offsets(offsets, **kwargs)
        for tp, offset in list(self._stepped.items()):
            self.step_over(tp, offset)
        return done

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                await self.sleep(0)
                moves = self._moves
                since_yield = 0
                async for tp, message in self.getmany(timeout=1.0):
                    since_yield += 1
                    if since_yield > 100:  # heartbeats and timers need the loop too
                        await self.sleep(0)
                        since_yield = 0
                    await self.app.flow_control.acquire()
                    if moves == self._moves or self._follows_on(tp, message.offset):
                        await self._drain(tp, message, self._moves)
                self.rounds += 1
        except self.consumer_stopped_errors:
            if not self.transport.app.should_stop:
                raise

    def _follows_on(self, tp: TP, offset: int) -> bool:
        """Whether a record is the next one, of a fetch under way while reading was taken elsewhere.

        What was fetched before comes again. But the fetch may have ended after the move, and what
        it holds then is not read again: dropped, the intake would have to go back for it.
        """
        read = self._read_offset[tp]  # the next one after a seek, else the last that was delivered
        following = read is not None and read <= offset <= read + 1
        return following and tp in self.assignment()

    async def _drain(self, tp: TP, message: Any, moves: int) -> None:
        offset = message.offset
        awaited, until = self._awaited.get(tp, (offset, 0.0))
        if offset != awaited and time.monotonic() < until:
            return
        self._awaited.pop(tp, None)  # it came, or is late: then the intake looks again
        if self._commit_every is not None and self._n_acked >= self._commit_every:
            self._n_acked = 0
            await self.commit()
        await self.callback(message)
        if moves == self._moves and tp not in self._awaited:
            self._read_offset[tp] = offset


class Fetched:
    """What was fetched and is not taken yet: in the agent's queue, in its hands, or before them."""

    def __init__(self) -> None:
        self.queue: Any = None  # the agent's, once it runs
        self.taking: TP | None = None  # the partition of the record in the agent's hands
        self._rounds = 0

    def idle(self) -> bool:
        """Whether nothing is with the agent."""
        return self.taking is None and self.queue is not None and self.queue.empty()

    def held_up(self, consumer: PatchedConsumer) -> bool:
        """Whether no round of reading ended since the last call, for what is with the agent."""
        before, self._rounds = self._rounds, consumer.rounds
        return before == self._rounds and not self.idle()

    def on_its_way(self, consumer: PatchedConsumer, tp: TP, following: int) -> bool:
        """Whether the record at ``following`` is with the agent, or still has to be handed out.

        Others' backlog may be read first, for minutes: gone back for, it would lose its turn.
        """
        if self.queue is None or self.taking == tp:
            return True
        if any(event.message.tp == tp for event in self.queue._queue):
            return True
        position = consumer.reading_at(tp)
        if position is not None and position > following:
            return False  # handed out, and not here
        return position is None or not self.idle() or consumer.is_buffered(tp)


class PatchedTransport(driver.Transport):  # type: ignore[misc]
    """Faust's aiokafka transport with the mended consumer."""

    Consumer = PatchedConsumer


class NoRecovery(Recovery):  # type: ignore[misc]
    """Leaves the changelog to ``stream.kafka.changelog``, which the table's callback calls."""

    def need_recovery(self) -> bool:
        """Never: goes straight to the callback, then to the committed offsets."""
        return False


class Tables(TableManager):  # type: ignore[misc]
    """Faust's tables without Faust's recovery."""

    _recovery: NoRecovery | None = None

    @property
    def recovery(self) -> NoRecovery:
        """The recovery service, made on first use."""
        if self._recovery is None:
            self._recovery = NoRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery


class PatchedApp(faust.App):  # type: ignore[misc]
    """A Faust app on the mended transport; ``on_seek`` is told where reading (re)starts."""

    on_seek: OnSeek
    #: The embedded broker answers a fetch that found nothing only when this has passed.
    fetch_wait_ms: int = 500

    def _new_transport(self) -> PatchedTransport:
        return PatchedTransport(self.conf.broker_consumer, self)
