"""Points of a batch's delivery at which a worker SIGKILLs itself, where a file tells it to.

Lists and states of a partition are one transaction. So what lies between two deliveries of a batch
is a transaction sent and not committed, one committed and not acked, and two partitions' ones.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from stream.kafka.delivery import KafkaDelivery, Record, _Owned


class KillPoint(StrEnum):
    """Where a worker ends; the word in the file."""

    BEFORE_COMMIT = "before commit"  # a partition's records are on the broker, uncommitted
    AFTER_COMMIT = "after commit"  # all is committed, and none of its events acked
    BETWEEN = "between"  # one of the batch's partitions is committed, the others are not begun
    BETWEEN_REVERSED = "between, reversed"  # the same, the other way round


def install(file: Path) -> None:
    """Patches this process's delivery to obey ``file``: there, it holds a ``KillPoint``."""
    commit, transact = _Owned._commit, KafkaDelivery._transact

    def told() -> str:
        try:
            return file.read_text()
        except FileNotFoundError:
            return ""

    def committing(self: _Owned) -> None:
        if told() == KillPoint.BEFORE_COMMIT:
            self._producer.flush()  # on the broker, where only a transaction's end is missing
            _die()
        commit(self)

    def transacting(self: KafkaDelivery, placed: Mapping[int, list[Record]]) -> None:
        point = told()
        order: Sequence[int] = sorted(placed, reverse=point == KillPoint.BETWEEN_REVERSED)
        if point in (KillPoint.BETWEEN, KillPoint.BETWEEN_REVERSED) and len(order) > 1:
            transact(self, {order[0]: placed[order[0]]})
            _die()
        transact(self, placed)
        if point == KillPoint.AFTER_COMMIT:
            _die()

    _Owned._commit = committing  # type: ignore[method-assign]
    KafkaDelivery._transact = transacting  # type: ignore[method-assign]


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
