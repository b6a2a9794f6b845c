"""The Faust app: which topic feeds which processor, on one screen.

    clicks ─┐
    purchases ─┼─► intake (every offset accounted for) ─► ShopperProcessor ─► recommendations
    searches ─┤        shoppers' table ◄─ changelog ◄──────────┘          └─► dead-letters
    erasures ─┘

Products do not pass through Faust: ``stream.catalogue.processor`` reads them on a thread of its
own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from typing import Any

from faust.types import TP

from models.errors import InvalidSettings, RetryLater, UnequalPartitions
from stream.contracts.codec import attempts_in
from stream.contracts.partitioner import all_in
from stream.contracts.topics import SHOPPER_TOPICS, TopicNames
from stream.kafka.changelog import Changelog, Read
from stream.kafka.delivery import Fence
from stream.settings import Settings, kafka_config
from stream.shoppers.batch import Arrival, Counters
from stream.shoppers.faust_patches import Fetched, PatchedApp, Tables
from stream.shoppers.faust_settings import faust_settings, quieten
from stream.shoppers.offset_check import Gap, GapReader, OffsetWatch, Partition, Verdict
from stream.shoppers.processor import ShopperProcessor
from stream.shoppers.stalls import EVERY, StallWatch
from stream.shoppers.states import States

_log = logging.getLogger("weft.app")


class ShopperApp:
    """Everything that is Faust about Weft."""

    #: Seconds between two looks at the partitions' ends.
    looks_every: float = EVERY

    def __init__(self, settings: Settings, partitions: int, embedded: bool = False) -> None:
        self._settings = settings
        self._names = TopicNames(settings.topic_prefix, settings.group)
        self._partitions = partitions
        self._watch = OffsetWatch()
        self._processor: ShopperProcessor | None = None
        self._gaps: GapReader | None = None
        self._fetched = Fetched()
        self._watching: asyncio.Task[None] | None = None
        self._fence: Fence | None = None
        self._changelog = Changelog(
            kafka_config(settings),
            self._names.changelog,
            None if embedded else settings.changelog_start,  # the embedded broker drops what is old
        )
        self._restoring = asyncio.Lock()
        self._deriving: asyncio.Task[None] | None = None
        self.ready = asyncio.Event()
        self._revocations = 0
        self._restored: tuple[int, int] | None = None  # what ``ready`` was set for
        self.app = PatchedApp(
            self._names.member,
            TableManager=Tables,
            **faust_settings(settings, partitions),
        )
        self.app.on_seek = self._on_seek
        if embedded:
            self.app.fetch_wait_ms = 10
        raw = {
            "key_type": bytes,
            "value_type": bytes,
            "key_serializer": "raw",
            "value_serializer": "raw",
        }
        self._source = self.app.topic(*(self._names.of(t) for t in SHOPPER_TOPICS), **raw)
        changelog = self.app.topic(
            self._names.changelog,
            compacting=True,
            internal=True,
            partitions=partitions,
            replicas=settings.replicas,
            **raw,
        )
        #: The shoppers' states, which Faust does not know: it would send a record an event.
        self.table = States()
        self.app.Table(  # stays empty; says when partitions have come
            "shoppers",
            key_type=bytes,
            value_type=bytes,
            partitions=partitions,
            changelog_topic=changelog,
            on_recover=self._on_recovered,
        )
        self.app.agent(self._source, name="shoppers")(self._intake)
        self.app.on_partitions_revoked.connect(self._on_revoked)
        self.app.on_before_configured.connect(quieten, weak=False)

    def attach(self, processor: ShopperProcessor, gaps: GapReader, fence: Fence) -> None:
        """Names who is fed, and what the processor delivers by; before ``start``."""
        self._processor, self._gaps, self._fence = processor, gaps, fence

    async def start(self) -> None:
        """Connects, recovers the table and begins to feed the processor.

        Raises ``InvalidSettings`` where nothing can be written to the data folder.
        """
        try:
            self.app.conf.tabledir.mkdir(parents=True, exist_ok=True)  # Faust's, though unused
        except OSError as error:
            raise InvalidSettings(
                f"cannot write to {self._settings.data_dir} ({error.strerror}): make room there, "
                "or set WEFT_DATA_DIR to a folder that can be written"
            ) from error
        self.app.finalize()
        await self.app.start()
        assert self._gaps is not None
        watch = StallWatch(self._gaps, self, self.looks_every)
        self._watching = asyncio.create_task(self._watch_ends(watch))

    async def stop(self) -> None:
        """Leaves the group."""
        if self._watching is not None:
            self._watching.cancel()
        await self.app.stop()
        if self._deriving is not None:
            self._deriving.cancel()

    def crashed(self) -> BaseException | None:
        """What ended the app, if something did."""
        reason: BaseException | None = self.app.crash_reason
        return reason

    # -- the flow ----------------------------------------------------------------------

    async def _intake(self, stream: Any) -> None:
        """Feeds the processor. (No generator: Faust would answer a record's reply-to header.)"""
        self._fetched.queue = stream.channel.queue
        try:
            async for event in stream.noack().events():
                self._fetched.taking = event.message.tp
                await self._take(event)
                self._fetched.taking = None
        except Exception as error:  # whatever it is, Faust would go on behind the event
            await self.app.crash(error)
            raise

    async def _take(self, event: Any) -> None:
        processor, message = self._processor, event.message
        assert processor is not None
        await processor.room()
        if await self._follows_on(message.tp, message.offset):  # nothing is awaited from here on
            processor.take(
                Arrival(
                    self._names.plain(message.topic),
                    message.partition,
                    message.offset,
                    event.key,
                    event.value,
                    event.ack,
                    attempts_in(message.headers) if message.headers else 0,
                )
            )

    async def _follows_on(self, tp: TP, offset: int) -> bool:
        """Whether to take the record at ``offset``; goes back where one before it is missing."""
        verdict = self._watch.see(tp, offset)
        if verdict is not Verdict.CHECK:
            return verdict is Verdict.TAKE
        first, starts = self._watch.held()[tp], self._watch.starts
        gap = await self._look(tp, first, offset)
        if gap is None or starts != self._watch.starts:  # partitions moved meanwhile
            return False
        if gap.record is not None:
            self._counters.rewinds += 1
            await self._read_again(tp, first, gap, "did not arrive")
            return False
        self._step_over(tp, first, offset, gap.lost)
        self._watch.accept(tp, offset)
        return True

    async def _read_again(self, tp: TP, first: int, gap: Gap, why: str) -> None:
        """Reads on from the gap's record; before it there is nothing."""
        assert gap.record is not None
        _log.warning(
            "%s, partition %d: offset %d %s; reading goes back to it",
            tp.topic,
            tp.partition,
            gap.record,
            why,
        )
        if gap.record > first:
            self._step_over(tp, first, gap.record, gap.lost)
        self._watch.rewound(tp, gap.record)
        await self.app.consumer.rewind(tp, gap.record)

    async def _look(self, tp: TP, first: int, offset: int) -> Gap | None:
        """What lies in the gap, asked for until the broker answers or the partitions move."""
        assert self._gaps is not None
        starts = self._watch.starts
        while starts == self._watch.starts:
            try:
                return await asyncio.to_thread(self._gaps.look, tuple(tp), first, offset)
            except RetryLater as error:
                _log.warning("%s; trying again", error)
                await asyncio.sleep(1.0)
        return None

    def _step_over(self, tp: TP, first: int, offset: int, lost: int) -> None:
        """Nothing is left to read before ``offset``: the commit may pass the hole as well."""
        if lost:
            self._counters.lost += lost
            _log.error(
                "%d events of %s, partition %d, are lost: retention took offsets from %d on "
                "before they were read; raise the topic's retention",
                lost,
                tp.topic,
                tp.partition,
                first,
            )
        self.app.consumer.step_over(tp, offset)

    # -- what waits, and no later record says so (``stream.shoppers.stalls.Reading``) ---

    async def _watch_ends(self, watch: StallWatch) -> None:
        try:
            await watch.run()
        except Exception as error:  # whatever it is, nobody awaits this
            await self.app.crash(error)

    def held(self) -> Mapping[Partition, int]:
        """The next offset of each partition; none while the shoppers' states are not in."""
        return self._watch.held()

    def on_its_way(self, partition: Partition) -> bool:
        """Whether its next record is before the processor, or its turn to be read is to come."""
        following = self._watch.held().get(partition, 0)
        return self._fetched.on_its_way(self.app.consumer, partition, following)

    def held_up(self) -> bool:
        """Whether the fetch before the last call is being handed on still, behind other records."""
        return self._fetched.held_up(self.app.consumer)

    async def go_back(self, partition: Partition, end: int) -> bool:
        """Reads on from its first record that did not come; False where none is before ``end``."""
        tp = TP(*partition)
        first, starts = self._watch.held()[tp], self._watch.starts
        assert self._gaps is not None
        try:
            gap = await asyncio.to_thread(self._gaps.look, tuple(tp), first, end)
        except RetryLater as error:  # not insisted on: it is due again, and others are watched
            _log.warning("%s; it is looked at again", error)
            return True
        if starts != self._watch.starts:
            return True
        if self._watch.held()[tp] != first or self.on_its_way(tp):  # it came meanwhile
            return True
        if gap.record is None:
            if gap.lost:  # told now: a later record may be long in coming
                self._step_over(tp, first, first + gap.lost, gap.lost)
                self._watch.accept(tp, first + gap.lost - 1)
            return False
        self._counters.stalls += 1
        await self._read_again(tp, first, gap, f"waits, {end - first} before the partition's end")
        return True

    @property
    def _counters(self) -> Counters:
        assert self._processor is not None
        return self._processor.counters

    # -- partitions come and go ----------------------------------------------------------

    def _on_seek(self, tp: TP, offset: int) -> None:
        if self.ready.is_set():  # no event is taken before its shopper's state is in
            self._watch.start(tp, offset)

    async def _on_revoked(self, _app: Any, _revoked: set[TP], **_: Any) -> None:
        self._revocations += 1
        self.ready.clear()
        self._watch.clear()
        if self._processor is not None:
            await self._processor.revoked(self._settings.session_timeout / 2)

    async def _on_recovered(self) -> None:
        """Reads the changelog; then Faust seeks to the committed offsets and events flow."""
        try:
            async with self._restoring:
                await self._restore()
        except Exception as error:  # whatever it is, Faust would swallow it here
            await self.app.crash(error)

    async def _restore(self) -> None:
        """Brings the states up to the changelog's end. What is long is done beside the loop."""
        held = self._revocations, self.app.consumer_generation_id
        if self.ready.is_set() and self._restored == held:
            return  # done, by a call that a rebalance overtook; what is owed is served already
        if self._deriving is not None:
            self._deriving.cancel()  # the table is the other thread's for now
        topic = self._names.changelog
        partitions = {tp.partition for tp in self.app.consumer.assignment() if tp.topic == topic}
        read = await self._read(partitions, held)
        if read is None:
            return  # the partitions changed meanwhile, and with them comes another call
        await asyncio.to_thread(self.table.restored, read.states)
        self._changelog.restored(read)
        if not self._holds(held):
            return
        assert self._processor is not None
        self._deriving = asyncio.create_task(self._derive(self._processor.recovered()))
        self._restored = held
        self.ready.set()
        _log.info("holding %d shoppers of partitions %s", len(self.table), sorted(partitions))

    async def _derive(self, derived: Coroutine[Any, Any, None]) -> None:
        try:
            await derived
        except Exception as error:  # whatever it is, nobody awaits this
            await self.app.crash(error)

    def _holds(self, held: tuple[int, int]) -> bool:
        """Whether the partitions are still those of ``held``: revocations, generation."""
        return held == (self._revocations, self.app.consumer_generation_id)

    async def _read(self, partitions: set[int], held: tuple[int, int]) -> Read | None:
        while self._holds(held):
            try:
                read = await asyncio.to_thread(self._take_over, partitions)
            except RetryLater as error:
                _log.warning("%s; trying again", error)
                await asyncio.sleep(1.0)
            else:
                return read if self._holds(held) else None
        return None

    def _take_over(self, partitions: set[int]) -> Read:
        """Fences first: nothing of a former owner comes after what is read then. Blocks."""
        assert self._fence is not None
        self._fence.own(self._names.changelog, partitions)
        read = self._changelog.read(partitions)
        for partition, states in read.states.items():
            if not all_in(partition, states, self._partitions, self._settings.partitioner):
                raise UnequalPartitions(
                    "the shoppers' states were written with another count of partitions or another "
                    "partitioner: go back to it, or start with another WEFT_GROUP"
                )
        return read
