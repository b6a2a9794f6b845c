"""No record waits for ever: what a held partition has and the intake did not get is gone back for.

A gap between two offsets shows when the later record arrives (``stream.shoppers.offset_check``).
After the last one nothing arrives. So the ends of the partitions are looked at by time: one that is
ahead of what was taken, look after look, while nothing of the partition is on its way, is a stall.
Its first record is read again, each time that it is found, until it comes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final, Protocol

from models.errors import RetryLater
from stream.shoppers.offset_check import GapReader, Partition

_log = logging.getLogger("weft.intake")

#: Seconds between two looks.
EVERY: Final = 1.0
#: Looks in a row at which a partition stands still before it is gone back for, each time anew.
#: Looks and not seconds: a process that was stopped has looked at nothing meanwhile.
PATIENCE: Final = 5


class Stalls:
    """Counts the looks at which a partition stood still; pure."""

    def __init__(self, patience: int = PATIENCE) -> None:
        self._patience = patience
        self._stood: dict[Partition, tuple[int, int]] = {}  # the next offset, and for how long
        self._empty: dict[Partition, tuple[int, int]] = {}  # from where, up to where

    def due(self, partition: Partition, following: int, end: int) -> bool:
        """One more look; ``following`` is the next offset to take, ``end`` the one after the last.

        Whether the partition is to be gone back for.
        """
        start, stop = self._empty.get(partition, (following, following))
        if end <= following or start <= following < end <= stop:
            self._stood.pop(partition, None)
            return False
        at, looks = self._stood.get(partition, (following, 0))
        looks = looks + 1 if at == following else 1
        self._stood[partition] = following, looks % self._patience
        return looks == self._patience

    def moving(self, partition: Partition) -> None:
        """Something of the partition is on its way, or it is not held."""
        self._stood.pop(partition, None)

    def empty(self, partition: Partition, following: int, end: int) -> None:
        """No record is between the two: transactions' markers, or what compaction took."""
        self._empty[partition] = following, end


class Reading(Protocol):
    """What is read, and how far."""

    def held(self) -> Mapping[Partition, int]:
        """The next offset of each partition that is held."""

    def on_its_way(self, partition: Partition) -> bool:
        """Whether its next record waits to be taken, or to be handed out."""

    def held_up(self) -> bool:
        """Whether reading has not gone on since the last call, as what was read waits."""

    async def go_back(self, partition: Partition, end: int) -> bool:
        """Reads its next record again; False where there is none before ``end``."""


class StallWatch:
    """Looks at the ends of what ``reading`` holds until it is cancelled."""

    def __init__(self, gaps: GapReader, reading: Reading, every: float) -> None:
        self._gaps = gaps
        self._reading = reading
        self._every = every
        self._stalls = Stalls()

    async def run(self) -> None:
        """Never returns."""
        while True:
            await asyncio.sleep(self._every)
            await self.look()

    async def look(self) -> None:
        """One look at all partitions; none while the broker is away or work holds reading up."""
        held = self._reading.held()
        if not held or self._reading.held_up():
            return
        try:
            ends = await asyncio.to_thread(self._gaps.ends, tuple(held))
        except RetryLater as error:
            _log.debug("%s", error)  # whoever needs the broker says that it is away
            return
        for partition, end in ends.items():
            following = self._reading.held().get(partition)
            if following is None or self._reading.on_its_way(partition):
                self._stalls.moving(partition)
            elif self._stalls.due(partition, following, end):
                found = await self._reading.go_back(partition, end)
                if not found:
                    self._stalls.empty(partition, following, end)
