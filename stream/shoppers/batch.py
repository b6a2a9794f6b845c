"""Events as they arrive, and gathered for one pass of the shopper processor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from stream.kafka.delivery import Record
from stream.shoppers.state import ShopperState

#: Bytes of dead letters in one batch: they may be as long as the broker takes.
DEAD_BYTES: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class Arrival:
    """One record as it came; ``ack`` tells the broker's client that it is dealt with."""

    topic: str  # one of SHOPPER_TOPICS, without prefix
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    ack: Callable[[], object]
    attempts: int = 0  # how often it was tried before, if replay sent it


@dataclass(slots=True)
class Counters:
    """What happened since the start."""

    events: int = 0
    acked: int = 0
    again: int = 0
    dead: int = 0
    lists: int = 0
    reranked: int = 0
    erased: int = 0
    rewinds: int = 0
    stalls: int = 0
    lost: int = 0


@dataclass(slots=True)
class Due:
    """A shopper who gets a list: where, the state behind it, and what made it due."""

    partition: int
    state: ShopperState
    trigger: str
    data: bytes = b""  # the state's record, once it is made


@dataclass(slots=True)
class Batch:
    """Events gathered for one pass; each shopper once, whatever the number of events."""

    due: dict[bytes, Due] = field(default_factory=dict)
    dead: list[Record] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    dead_bytes: int = 0
    rerank_only: bool = False

    def is_full(self, size: int) -> bool:
        """Bounded in events, and in the bytes of those that no contract bounds."""
        return len(self.arrivals) >= size or self.dead_bytes >= DEAD_BYTES

    def add_dead(self, letter: Record) -> None:
        """Gathers a dead letter."""
        self.dead.append(letter)
        self.dead_bytes += len(letter.value or b"")
