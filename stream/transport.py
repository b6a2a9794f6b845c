"""Faust's Kafka consumer with its drain mended, so that no message is dropped around recovery.

Faust 0.15 races the delivery of each message against the suspension of the flow and moves its
read offset on whichever came first, so around the end of a table's recovery messages vanish
between the broker and the agent. Here the read offset moves only after the delivery, and only
if nobody sought meanwhile. ``stream.intake`` watches the offsets all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import faust
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

#: Told where reading (re)starts: a partition's committed offset, or None before any commit.
OnSeek = Callable[[TP, int | None], None]


class MendedConsumer(driver.Consumer):  # type: ignore[misc]
    """Drains without dropping, and can be rewound to an offset."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._seeks: dict[TP, int] = {}
        self._awaited: dict[TP, int] = {}

    async def perform_seek(self) -> None:
        """Goes back to the committed offsets, and says so to the app's ``on_seek``."""
        assignment = self.assignment()
        await super().perform_seek()
        for tp in assignment:
            if not self._is_changelog_tp(tp):
                self._sought(tp)
                self._awaited.pop(tp, None)
                self.app.on_seek(tp, self._read_offset[tp])

    async def rewind(self, tp: TP, offset: int) -> None:
        """Reads on from ``offset``, which is known to hold a record.

        What an older fetch still holds of the partition is skipped until that record comes.
        """
        self._awaited[tp] = offset
        self._sought(tp)
        await self.seek(tp, offset)
        self._read_offset[tp] = None  # Faust refuses offset 0 as a read offset

    def _sought(self, tp: TP) -> None:
        self._seeks[tp] = self._seeks.get(tp, 0) + 1

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                await self.sleep(0)
                since_yield = 0
                async for tp, message in self.getmany(timeout=1.0):
                    since_yield += 1
                    if since_yield > 100:  # heartbeats and timers need the loop too
                        await self.sleep(0)
                        since_yield = 0
                    await self._drain(tp, message)
        except self.consumer_stopped_errors:
            if not self.transport.app.should_stop:
                raise

    async def _drain(self, tp: TP, message: Any) -> None:
        offset = message.offset
        awaited = self._awaited.get(tp)
        if awaited is not None:
            if offset != awaited:
                return
            del self._awaited[tp]
        read = self._read_offset[tp]
        if read is not None and offset < read:
            return
        if read and offset - read > 1 and self.app.topics.acks_enabled_for(message.topic):
            await self._add_gap(tp, read + 1, offset)
        if self._commit_every is not None and self._n_acked >= self._commit_every:
            self._n_acked = 0
            await self.commit()
        seeks = self._seeks.get(tp, 0)
        await self.callback(message)
        if self._seeks.get(tp, 0) == seeks:
            self._read_offset[tp] = offset


class MendedTransport(driver.Transport):  # type: ignore[misc]
    """Faust's aiokafka transport with the mended consumer."""

    Consumer = MendedConsumer


class MendedApp(faust.App):  # type: ignore[misc]
    """A Faust app on the mended transport; ``on_seek`` is told where reading (re)starts."""

    on_seek: OnSeek

    def _new_transport(self) -> MendedTransport:
        return MendedTransport(self.conf.broker_consumer, self)
